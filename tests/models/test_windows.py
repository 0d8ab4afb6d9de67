"""Detectors on windows: past clouds inform, only current points make a frame's score."""

import dataclasses

import pytest
import torch

from pipeline.config.model import ModelConfig
from pipeline.data.batch import Batch
from pipeline.models.detector import build_detector
from pipeline.models.free_space import free_space
from pipeline.models.pillars import group, make_grid
from tests.helpers.streets import only_frame, street_batch, with_values

SMALL = ModelConfig(
    image_channels=16, point_channels=16, image_stages=2, pillar_size_m=1.0, frame_top_k=3
)
NUM_CURRENT = 300


def windowed(batch: Batch) -> Batch:
    """All points of a frame after the first 300 become those of a cloud 0.1 s ago."""
    place = torch.cat([torch.arange(int(count)) for count in batch.counts()])
    is_past = place >= NUM_CURRENT
    time = torch.where(is_past, -0.1, 0.0)
    label = torch.where(is_past, torch.tensor(255, dtype=torch.uint8), batch.point_label)
    return with_values(
        batch, points=torch.cat([batch.points, time[:, None]], dim=1), point_label=label
    )


def detector(fusion: str):
    torch.manual_seed(0)
    config = dataclasses.replace(SMALL, fusion=fusion)
    return build_detector(config, prior=1e-2, num_sweeps=2).eval()


@pytest.mark.parametrize("fusion", ["concat", "lidar_only"])
def test_a_frames_score_is_the_mean_of_its_highest_current_points(fusion: str):
    batch = windowed(street_batch())
    scores = detector(fusion)(batch)
    assert scores.point_score.shape == (2 * NUM_CURRENT,)
    for frame, start in enumerate((0, NUM_CURRENT)):
        current = scores.point_score[start : start + NUM_CURRENT]
        torch.testing.assert_close(scores.frame_score[frame], current.topk(3).values.mean())


def test_past_points_and_their_time_change_what_is_seen_now():
    batch = windowed(street_batch())
    model = detector("lidar_only")
    whole, stripped = model(batch), batch.without_past()
    alone = torch.cat([stripped.points, torch.zeros(len(stripped.points), 1)], dim=1)
    without = model(with_values(stripped, points=alone))
    now = whole.point_score
    assert (now - without.point_score).abs().max() > 1e-4
    later = batch.points.clone()
    later[:, 4] *= 3
    again = model(with_values(batch, points=later)).point_score
    assert (now - again).abs().max() > 1e-5


def test_a_windows_score_does_not_depend_on_the_other_frames_of_the_batch():
    batch = windowed(street_batch())
    model = detector("concat")
    together, alone = model(batch), model(only_frame(batch, 1))
    torch.testing.assert_close(
        together.point_score[NUM_CURRENT:], alone.point_score, rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(together.frame_score[1:], alone.frame_score, rtol=1e-5, atol=1e-5)


def test_a_frame_with_past_points_only_scores_as_an_empty_one():
    batch = windowed(street_batch(num_points=(400,)))
    past = batch.points[NUM_CURRENT:]
    only_past = with_values(
        batch,
        points=past,
        point_offset=torch.tensor([len(past)]),
        point_class=batch.point_class[NUM_CURRENT:],
        point_label=batch.point_label[NUM_CURRENT:],
    )
    model = detector("lidar_only")
    assert float(model(only_past).frame_score) == pytest.approx(model.empty_frame_logit)


def test_rays_of_past_clouds_prove_no_free_space():
    """They began where the LiDAR was then, not at the origin."""
    points = torch.tensor([[20.0, 0.0, 0.0, 1.0, 0.0], [22.0, 0.0, 0.0, 1.0, 0.0]])
    grid, height = make_grid(SMALL), torch.tensor([0.1, 0.1])
    pillars = group(points, torch.zeros(2, dtype=torch.int64), grid=grid)
    crossed = {}
    for time in (0.0, -0.1):
        points[1, 4] = time
        crossed[time] = free_space(points, height, pillars, grid=grid, num_frames=1).sum()
    assert crossed[0.0] > 0
    assert crossed[-0.1] == 0

"""The pixel head: where its cells lie, what it reads, and what it adds to a frame's logit."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.config.model import LossConfig, ModelConfig
from pipeline.data.batch import Batch
from pipeline.losses.anomaly import loss_terms
from pipeline.models.detector import build_detector
from pipeline.models.image import FeatureMap
from pipeline.models.pixels import PixelHead, map_size, upsampled
from pipeline.models.scores import Scores
from tests.helpers.streets import only_frame, street_batch, with_values

SMALL = ModelConfig(
    image_channels=16, point_channels=16, image_stages=2, pillar_size_m=1.0, pixel_head=True
)


def detector(**settings):
    torch.manual_seed(0)
    return build_detector(dataclasses.replace(SMALL, **settings), prior=1e-2).eval()


def pixels_of(scores: Scores) -> Tensor:
    assert scores.pixel_score is not None
    return scores.pixel_score


def labelled(batch: Batch) -> Batch:
    label = torch.zeros(batch.num_frames, *batch.image.shape[2:], dtype=torch.uint8)
    label[:, :9, :9] = 1
    return dataclasses.replace(batch, pixel_label=label)


@pytest.mark.parametrize("fusion", ["concat", "camera_only"])
def test_every_cell_of_the_image_gets_a_finite_logit(fusion):
    scores = detector(fusion=fusion)(street_batch(height=36, width=90))
    assert pixels_of(scores).shape == (2, *map_size(36, 90)) == (2, 5, 12)
    assert pixels_of(scores).isfinite().all()


def test_without_the_head_there_are_no_pixels_and_the_points_are_the_same():
    with_head, without = detector(), detector(pixel_head=False)
    batch = street_batch()
    assert without(batch).pixel_score is None
    assert torch.equal(with_head(batch).point_score, without(batch).point_score)
    assert torch.equal(with_head(batch).frame_score, without(batch).frame_score)


def test_pixels_are_read_off_the_image_alone():
    model, batch = detector(), street_batch()
    moved = with_values(batch, points=batch.points + 1)
    assert torch.equal(pixels_of(model(batch)), pixels_of(model(moved)))
    dark = with_values(batch, image=batch.image // 2)
    assert not torch.equal(pixels_of(model(batch)), pixels_of(model(dark)))


def test_a_frames_pixels_do_not_depend_on_its_companion():
    model, batch = detector(), street_batch()
    image = torch.stack([batch.image[0], 255 - batch.image[1]])
    ours, theirs = pixels_of(model(batch)), pixels_of(model(with_values(batch, image=image)))
    assert torch.equal(ours[0], theirs[0])
    assert not torch.equal(ours[1], theirs[1])
    alone = pixels_of(model(only_frame(batch, 1)))
    torch.testing.assert_close(alone[0], ours[1], rtol=0, atol=1e-5)


def test_the_first_logits_lie_around_that_of_the_prior_of_cells():
    torch.manual_seed(0)
    model = build_detector(SMALL, prior=0.3, pixel_prior=1e-3).eval()
    mean = pixels_of(model(street_batch())).mean().item()
    assert mean == pytest.approx(math.log(1e-3 / 0.999), abs=1.0)


def test_a_frames_logit_gains_what_its_highest_pixels_tell_beyond_their_prior():
    head = PixelHead(8, dropout=0.0, prior=0.5)
    score = torch.tensor([[[1.0, 5.0], [3.0, -2.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert head.frame_evidence(score, top_k=2).tolist() == [0, 0]
    torch.nn.init.constant_(head.frame_weight, 0.5)
    assert head.frame_evidence(score, top_k=2).tolist() == [2, 0]
    assert head.frame_evidence(score, top_k=9)[0].item() == pytest.approx(0.5 * 7 / 4)
    rare = PixelHead(8, dropout=0.0, prior=0.1)
    torch.nn.init.constant_(rare.frame_weight, 1.0)
    found = rare.frame_evidence(torch.full((1, 2, 2), math.log(1 / 9)), top_k=3)
    torch.testing.assert_close(found, torch.zeros(1))


def test_a_frame_without_points_is_judged_by_its_pixels():
    model, batch = detector(), street_batch(num_points=(0, 0))
    scores = model(batch)
    crowded = dataclasses.replace(street_batch(), image=batch.image)
    assert torch.equal(pixels_of(scores), pixels_of(model(crowded)))
    head = model.get_submodule("pixel_head")
    assert isinstance(head, PixelHead)
    torch.nn.init.constant_(head.frame_weight, 1.0)
    evidence = head.frame_evidence(pixels_of(scores), top_k=10)
    expected = math.log(1e-2 / 0.99) + evidence
    torch.testing.assert_close(model(batch).frame_score, expected)


@pytest.mark.parametrize("num_points", [(), (0, 0), (300, 0)])
@pytest.mark.parametrize("frame_weight", [0.0, 0.1])
def test_every_parameter_gets_a_gradient_whatever_a_rank_is_given(num_points, frame_weight):
    model, batch = detector().train(), labelled(street_batch(num_points=num_points))
    terms = loss_terms(
        model(batch),
        batch,
        config=LossConfig(frame_weight=frame_weight),
        pos_weight=99.0,
        pixel_pos_weight=9.0,
    )
    torch.stack([term.weight * term.total for term in terms.values()]).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_logits_stay_fp32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        assert pixels_of(detector()(street_batch())).dtype == torch.float32


def test_dropout_is_off_in_evaluation():
    model, batch = detector(dropout=0.5), street_batch()
    assert torch.equal(pixels_of(model(batch)), pixels_of(model(batch)))
    model.train()
    assert not torch.equal(pixels_of(model(batch)), pixels_of(model(batch)))


def test_the_head_scores_the_map_at_stride_8_only():
    head = PixelHead(8, dropout=0.0, prior=0.5)
    with pytest.raises(AssertionError):
        head(FeatureMap(values=torch.zeros(1, 8, 2, 2), stride=4))


def test_cell_k_goes_to_pixel_8k_and_between_cells_values_are_linear():
    score = torch.tensor([[[0.0, 8.0, 24.0], [16.0, 24.0, 40.0]]])
    image = upsampled(score, size=(12, 24))
    assert image.shape == (1, 12, 24)
    assert image[0, 0, :17].tolist() == [*range(9), *range(10, 25, 2)]
    assert image[0, 0, 17:].tolist() == [24.0] * 7
    assert image[0, 8:, 0].tolist() == [16.0] * 4
    assert image[0, 4, 4].item() == 12.0


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40))
def test_upsampling_gives_any_image_its_size(height, width):
    score = torch.randn(1, *map_size(height, width))
    image = upsampled(score, size=(height, width))
    torch.testing.assert_close(image[:, ::8, ::8], score)
    assert image.shape == (1, height, width)

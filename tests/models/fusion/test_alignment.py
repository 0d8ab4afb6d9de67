"""Which pixel a point looks at: the true one, none, or the control's wrong one."""

import torch

from pipeline.data.batch import Batch
from pipeline.models.fusion.alignment import Alignment, view_of
from pipeline.models.fusion.projection import project_points
from tests.helpers.streets import only_frame, street_batch, with_values


def pixels_of(batch: Batch, alignment: Alignment) -> torch.Tensor:
    uv = view_of(batch, alignment).uv
    assert uv is not None
    return uv


def test_by_projection_the_points_in_view_look_at_their_own_pixels():
    batch = street_batch()
    uv, seen = project_points(batch, batch.point_frame())
    view = view_of(batch, "projection")
    assert torch.equal(view.rows, seen.nonzero().squeeze(1))
    assert torch.equal(pixels_of(batch, "projection"), uv[seen])
    assert torch.equal(view.place, batch.points[seen, :3])


def test_without_alignment_every_point_is_there_and_no_calibration_is_read():
    batch = street_batch()
    view = view_of(with_values(batch, intrinsics=batch.intrinsics * torch.nan), "none")
    assert view.uv is None
    assert torch.equal(view.rows, torch.arange(len(batch.points)))


def test_a_scrambled_calibration_is_far_off_inside_the_image_and_leaves_who_is_seen_alone():
    batch = street_batch()
    rows = [view_of(batch, name).rows for name in ("projection", "scrambled")]
    assert torch.equal(*rows)
    true, wrong = pixels_of(batch, "projection"), pixels_of(batch, "scrambled")
    size = view_of(batch, "scrambled").image_size
    assert ((wrong >= 0) & (wrong < size)).all()
    apart = ((wrong - true) / size).norm(dim=1)
    assert apart.median() > 0.25
    assert (apart < 0.05).float().mean() < 0.05


def test_a_scrambled_calibration_is_the_same_in_every_epoch_and_another_for_each_frame():
    batch = street_batch(num_points=(400, 400))
    assert torch.equal(pixels_of(batch, "scrambled"), pixels_of(batch, "scrambled"))
    second = only_frame(batch, 1)
    moved = pixels_of(with_values(second, row=second.row + 5), "scrambled")
    assert not torch.allclose(moved, pixels_of(second, "scrambled"))
    of_second = view_of(batch, "scrambled").frame == 1
    own = pixels_of(batch, "scrambled")[of_second]
    assert torch.equal(own, pixels_of(second, "scrambled"))


def test_neighbouring_frames_have_calibrations_of_their_own():
    batch = with_values(street_batch(num_points=(1,) * 50), row=torch.arange(50))
    points = torch.tensor([[10.0, 0.0, 0.0, 0.0]]).expand(50, 4)
    uv = pixels_of(with_values(batch, points=points), "scrambled")
    apart = torch.cdist(uv, uv) + torch.eye(50) * 1e9
    assert (apart.min(dim=1).values > 0.1).all()

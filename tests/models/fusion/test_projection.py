import numpy as np
import pytest
import torch

from pipeline.datasets.protocol.geometry import in_view, project
from pipeline.models.fusion.projection import project_points, sample
from pipeline.models.image import FeatureMap
from tests.helpers.streets import street_batch, with_values


def ramp(height, width, stride):
    """A map whose two channels are the pixel coordinates of its cells."""
    v, u = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return FeatureMap(values=torch.stack([u, v])[None].float() * stride, stride=stride)


def at(*pixels):
    return torch.tensor(pixels, dtype=torch.float32), torch.zeros(len(pixels), dtype=torch.int64)


@pytest.mark.parametrize("stride", [1, 4, 8])
def test_a_ramp_of_coordinates_gives_back_the_pixel(stride):
    pixels = ((0.0, 0.0), (8.0, 16.0), (9.0, 17.5), (23.25, 3.0))
    uv, frame = at(*pixels)
    torch.testing.assert_close(sample(ramp(40, 50, stride), uv, frame), uv)


def test_beyond_the_last_cell_its_value_is_kept():
    """An image 32 wide has cells at 0, 8, 16, 24; pixel 31 lies beyond the last."""
    uv, frame = at((31.0, 0.0), (24.0, 0.0), (27.0, 15.9))
    found = sample(ramp(2, 4, 8), uv, frame)
    assert found.tolist() == [[24, 0], [24, 0], [24, 8]]


def test_sampling_equals_torchs_grid_sample():
    values = torch.randn(2, 5, 6, 9, generator=torch.Generator().manual_seed(0))
    uv = torch.rand(40, 2) * torch.tensor([64.0, 40.0])
    frame = torch.arange(40) % 2
    found = sample(FeatureMap(values=values, stride=8), uv, frame)
    place = uv / 8 / torch.tensor([8.0, 5.0]) * 2 - 1
    for k in range(40):
        expected = torch.nn.functional.grid_sample(
            values[frame[k]][None], place[k].view(1, 1, 1, 2), align_corners=True
        )
        torch.testing.assert_close(found[k], expected.flatten())


def test_a_hand_computed_point_lands_on_its_pixel():
    """Camera at the LiDAR, 96 x 32, f 48: (12, 3, -1) is 12 m ahead, 3 m left, 1 m below."""
    batch = street_batch(num_points=(1,))
    point = torch.tensor([[12.0, 3.0, -1.0, 0.0]])
    uv, seen = project_points(with_values(batch, points=point), torch.zeros(1, dtype=torch.int64))
    assert uv.tolist() == [[48 - 48 * 3 / 12, 16 + 48 * 1 / 12]]
    assert seen.tolist() == [True]


def test_projection_equals_the_reference_in_numpy():
    batch = street_batch(num_points=(400, 300))
    batch = with_values(batch, intrinsics=batch.intrinsics * torch.tensor([[1.0], [1.1]]))
    uv, seen = project_points(batch, batch.point_frame())
    for frame, part in enumerate((slice(0, 400), slice(400, 700))):
        pixel, depth = project(
            batch.points[part].numpy(),
            batch.intrinsics[frame].double().numpy(),
            batch.camera_from_lidar[frame].double().numpy(),
        )
        inside = in_view(pixel, depth, 96, 32)
        assert np.array_equal(seen[part].numpy(), inside)
        np.testing.assert_allclose(uv[part].numpy()[inside], pixel[inside], atol=1e-3)
        assert 10 < inside.sum() < 300


def test_halving_image_and_intrinsics_halves_the_pixel():
    batch = street_batch(height=32, width=96)
    half = with_values(batch, image=batch.image[:, :, ::2, ::2], intrinsics=batch.intrinsics / 2)
    uv, seen = project_points(batch, batch.point_frame())
    uv_half, seen_half = project_points(half, half.point_frame())
    assert torch.equal(seen, seen_half)
    torch.testing.assert_close(uv_half[seen], uv[seen] / 2)

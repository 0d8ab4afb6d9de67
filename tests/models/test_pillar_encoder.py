import torch

from pipeline.config.model import ModelConfig
from pipeline.models.pillar_encoder import BirdsEye, PointEncoder, to_bev_grid
from pipeline.models.pillars import PillarGrid, Pillars
from pipeline.models.pooling import group_max
from tests.helpers.streets import only_frame, street_batch, with_values

CONFIG = ModelConfig(point_channels=16, pillar_size_m=1.0)


def point_encoder():
    torch.manual_seed(0)
    return PointEncoder(CONFIG, has_time=False).eval()


def test_the_maximum_of_a_group_equals_a_loop():
    values = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    of_row = torch.arange(50) % 7
    expected = torch.stack([values[of_row == k].amax(0) for k in range(7)])
    assert torch.equal(group_max(values, of_row, 7), expected)


def test_the_gradient_of_the_maximum_is_torchs_own():
    values = torch.randn(40, 2, dtype=torch.float64, requires_grad=True)
    of_row = torch.arange(40) % 5
    assert torch.autograd.gradcheck(lambda v: group_max(v, of_row, 5), (values,))


def test_pillars_land_in_their_cells():
    grid = PillarGrid(x_min_m=0.0, y_min_m=0.0, size_m=1.0, num_x=3, num_y=2)
    columns = torch.tensor([[1.0, 10.0], [2.0, 20.0]])
    pillars = Pillars(
        of_point=torch.tensor([0, 1]),
        count=torch.tensor([1, 1]),
        frame=torch.tensor([0, 1]),
        i=torch.tensor([2, 0]),
        j=torch.tensor([1, 1]),
        inside=torch.tensor([True, True]),
    )
    dense = to_bev_grid(columns, pillars, grid, 2)
    assert dense.shape == (2, 2, 3, 2)
    assert dense[0, :, 2, 1].tolist() == [1, 10]
    assert dense[1, :, 0, 1].tolist() == [2, 20]
    assert dense.sum() == 33
    assert dense.is_contiguous(memory_format=torch.channels_last)


def test_the_birds_eye_map_has_half_the_resolution_for_odd_sizes_too():
    assert BirdsEye(4, 16)(torch.zeros(2, 4, 51, 26)).shape == (2, 16, 26, 13)
    assert BirdsEye(4, 16)(torch.zeros(1, 4, 7, 9)).shape == (1, 16, 4, 5)


def test_points_outside_the_grid_get_the_learned_vector():
    """Two far points with the same neighbourhood differ from each other only by their place."""
    model, batch = point_encoder(), street_batch(num_points=(300,))
    far = batch.points.clone()
    far[:, 0] += 500
    before = model(with_values(batch, points=far))
    with torch.no_grad():
        model.outside.add_(1)
    after = model(with_values(batch, points=far))
    torch.testing.assert_close(after, before + 1)


def test_the_birds_eye_network_reaches_points_inside_the_grid():
    model, batch = point_encoder(), street_batch(num_points=(300,))
    inside = batch.points.clone()
    inside[:, 0].clamp_(-10, 35)
    inside[:, 1].clamp_(-10, 10)
    batch = with_values(batch, points=inside)
    before = model(batch)
    with torch.no_grad():
        model.outside.add_(1)
    assert torch.equal(model(batch), before)


def test_permuting_a_frames_points_permutes_its_features():
    model, batch = point_encoder(), street_batch()
    order = torch.cat([torch.randperm(600), 600 + torch.randperm(500)])
    shuffled = model(with_values(batch, points=batch.points[order]))
    torch.testing.assert_close(shuffled, model(batch)[order], rtol=1e-4, atol=1e-5)


def test_a_frames_features_do_not_depend_on_its_companion():
    model, batch = point_encoder(), street_batch()
    moved = batch.points.clone()
    moved[600:, :3] = moved[600:, [1, 0, 2]]
    ours, theirs = model(batch), model(with_values(batch, points=moved))
    assert torch.equal(ours[:600], theirs[:600])
    alone = model(only_frame(batch, 1))
    torch.testing.assert_close(alone, ours[600:], rtol=1e-4, atol=1e-5)


def test_point_features_stay_fp32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        features = point_encoder()(street_batch())
    assert features.dtype == torch.float32

import torch

from pipeline.models.feature_mixing import MIXED_PER_FRAME, mixed_features
from tests.helpers.streets import street_batch, with_values


def two_class_batch():
    batch = street_batch(num_points=(300, 200))
    return with_values(batch, point_class=(torch.arange(500) % 2).to(torch.uint8))


def features_that_tell_their_point(num_points=500, width=8):
    return torch.arange(num_points, dtype=torch.float32)[:, None].expand(-1, width).contiguous()


def test_off_makes_nothing_and_draws_nothing():
    state = torch.get_rng_state()
    assert mixed_features(features_that_tell_their_point(), two_class_batch(), share=0.0) is None
    assert torch.equal(state, torch.get_rng_state())


def test_channels_come_from_two_normal_points_of_one_frame_and_of_different_class():
    torch.manual_seed(0)
    batch = two_class_batch()
    mixed = mixed_features(features_that_tell_their_point(width=64), batch, share=1.0)
    assert mixed is not None
    assert 100 < len(mixed) < 2 * MIXED_PER_FRAME
    frame = batch.point_frame()
    for row in mixed.long():
        own, other = row.unique().tolist()
        assert frame[own] == frame[other]
        assert batch.point_class[own] != batch.point_class[other]
        assert batch.point_label[own] == batch.point_label[other] == 0


def test_about_half_of_the_channels_are_exchanged():
    torch.manual_seed(0)
    mixed = mixed_features(features_that_tell_their_point(width=64), two_class_batch(), share=1.0)
    assert mixed is not None
    share = (mixed == mixed[:, :1]).float().mean()
    assert 0.45 < share < 0.56


def test_a_batch_of_one_class_has_nothing_to_mix():
    mixed = mixed_features(torch.randn(1100, 4), street_batch(), share=1.0)
    assert mixed is not None
    assert mixed.shape == (0, 4)


def test_gradients_reach_the_features():
    torch.manual_seed(0)
    features = torch.randn(500, 4, requires_grad=True)
    mixed = mixed_features(features, two_class_batch(), share=1.0)
    assert mixed is not None
    mixed.sum().backward()
    assert features.grad is not None
    assert features.grad.sum().item() == mixed.numel()


def test_half_of_the_frames_are_drawn_at_one_half():
    torch.manual_seed(0)
    batch = two_class_batch()
    drawn = [
        len(found) > 0
        for _ in range(200)
        if (found := mixed_features(torch.randn(500, 2), batch, share=0.5)) is not None
    ]
    assert 130 < sum(drawn) < 170  # neither frame is drawn in a quarter of the cases

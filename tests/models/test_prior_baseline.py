import pytest
import torch

from pipeline.models.prior_baseline import MAX_POINTS, SimpleAnomalyDetector
from tests.helpers.streets import only_frame, street_batch, with_values


def num_parameters(module):
    return sum(p.numel() for p in module.parameters())


def simple(**settings):
    torch.manual_seed(0)
    return SimpleAnomalyDetector(**settings).eval()


def test_it_has_the_prior_systems_parameters_layer_by_layer():
    model = SimpleAnomalyDetector()
    assert num_parameters(model) == 1_146_497
    layers = [*model.image, *model.points, *model.head]
    counts = [num_parameters(layer) for layer in layers if num_parameters(layer)]
    assert counts == [4_736, 18_496, 320, 8_320, 1_081_600, 32_896, 129]


def test_images_of_512_by_768_become_eight_by_eight_cells():
    model = SimpleAnomalyDetector()
    image = torch.zeros(1, 3, 512, 768)
    assert model.image[:3](image).shape == (1, 32, 128, 192)
    assert model.image(image).shape == (1, 4096)


def test_it_scores_frames_and_no_points():
    scores = simple()(street_batch())
    assert scores.point_score is None
    assert scores.frame_score.shape == (2,)


def test_raw_pixels_reach_the_network_as_they_are():
    image = street_batch().image
    assert torch.equal(simple()._pixels(image), image.float())
    normalised = simple(raw_pixels=False)._pixels(image)
    assert -2.2 < normalised.min() < normalised.max() < 2.7


def test_a_frames_score_does_not_depend_on_its_companion():
    model, batch = simple(), street_batch()
    other = with_values(batch, image=torch.stack([batch.image[0], 255 - batch.image[1]]))
    moved = other.points.clone()
    moved[600:] *= 1.5
    other = with_values(other, points=moved)
    assert torch.equal(model(batch).frame_score[0], model(other).frame_score[0])
    alone = model(only_frame(batch, 0)).frame_score
    assert alone.item() == pytest.approx(model(batch).frame_score[0].item(), rel=1e-5)


def test_at_most_ten_thousand_points_are_looked_at_anew_in_training_alike_in_evaluation():
    model = simple()
    assert len(model._draw(MAX_POINTS + 5)) == MAX_POINTS
    assert torch.equal(model._draw(20_000), model._draw(20_000))
    model.train()
    assert not torch.equal(model._draw(20_000), model._draw(20_000))


def test_an_empty_cloud_still_gives_a_score():
    scores = simple()(street_batch(num_points=(0, 300)))
    assert scores.frame_score.isfinite().all()


def test_no_frames_give_no_scores_but_a_gradient_of_zero_for_every_parameter():
    model = simple()
    scores = model(street_batch(num_points=()))
    assert scores.frame_score.shape == (0,)
    scores.frame_score.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())

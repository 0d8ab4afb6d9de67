import math

import pytest
import torch

from pipeline.models.heads import PointHead, frame_scores, prior_logit


def head(*, dropout: float = 0.0, prior: float = 1e-3, num_classes: int = 0) -> PointHead:
    torch.manual_seed(0)
    return PointHead(16, dropout=dropout, prior=prior, num_classes=num_classes)


def test_the_first_logits_lie_around_that_of_the_prior():
    scores = head()(torch.randn(500, 16))
    assert scores.shape == (500, 1)
    assert scores.mean().item() == pytest.approx(math.log(1e-3 / 0.999), abs=0.5)


@pytest.mark.parametrize("prior", [0.0, 1.0])
def test_a_train_split_of_one_class_is_refused(prior):
    with pytest.raises(ValueError, match=r"share of anomalous points .* is [01].0; .*both kinds"):
        prior_logit(prior)


def test_dropout_is_off_in_evaluation_and_drops_channels_for_all_points_alike_in_training():
    features = torch.randn(1, 16).expand(50, -1).contiguous()
    model = head(dropout=0.5)
    trained = torch.stack([model(features.clone())[:, 0] for _ in range(20)])
    assert torch.equal(trained, trained[:, :1].expand(-1, 50))
    assert len(trained[:, 0].unique()) > 5
    model.eval()
    assert torch.equal(model(features.clone()), model(features.clone()))


def test_logits_stay_fp32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        assert head()(torch.randn(5, 16)).dtype == torch.float32


def test_a_frames_logit_is_the_mean_of_its_highest_points():
    scores = torch.tensor([3.0, 1.0, 2.0, -1.0, 7.0, 5.0])
    offset = torch.tensor([4, 4, 6])
    found = frame_scores(scores, offset, sizes=[4, 0, 2], top_k=2, of_empty_frame=-9.0)
    assert found.tolist() == [2.5, -9.0, 6.0]


def test_a_frame_with_fewer_points_takes_the_mean_of_all():
    found = frame_scores(
        torch.tensor([3.0, 1.0]), torch.tensor([2]), sizes=[2], top_k=10, of_empty_frame=0.0
    )
    assert found.tolist() == [2.0]


def test_only_the_highest_points_get_the_frames_gradient():
    scores = torch.tensor([3.0, 1.0, 2.0, 7.0], requires_grad=True)
    frame_scores(
        scores, torch.tensor([3, 4]), sizes=[3, 1], top_k=2, of_empty_frame=0.0
    ).sum().backward()
    assert scores.grad is not None
    assert scores.grad.tolist() == [0.5, 0, 0.5, 1]

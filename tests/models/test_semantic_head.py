"""The detector with a semantic head: its logits, its scores, and what reads what."""

import dataclasses

import pytest
import torch

from pipeline.config.model import FUSIONS, LossConfig, ModelConfig
from pipeline.data.transforms.outliers import OUTLIER_LABEL
from pipeline.datasets.anovox.class_table import ANOVOX_CLASSES
from pipeline.losses.anomaly import loss_terms
from pipeline.models.detector import build_detector
from pipeline.models.heads import NOTHING_SEEN
from pipeline.models.scores import anomaly_score
from pipeline.training.health_checks import score_moments
from tests.helpers.streets import only_frame, street_batch, with_values

NUM_CLASSES = len(ANOVOX_CLASSES.semantic_names)
SMALL = ModelConfig(
    image_channels=16,
    point_channels=16,
    image_stages=2,
    pillar_size_m=1.0,
    semantic_head=True,
    score="energy",
)
DERIVED = ("max_logit", "energy", "entropy")


def detector(*, mixing=0.0, **settings):
    torch.manual_seed(0)
    config = dataclasses.replace(SMALL, **settings)
    return build_detector(config, prior=1e-2, num_classes=NUM_CLASSES, mixing=mixing).eval()


def classed_batch():
    batch = street_batch()
    classes = torch.randint(1, 11, (1100,), generator=torch.Generator().manual_seed(0))
    return with_values(batch, point_class=classes.to(torch.uint8))


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("score", ["supervised", *DERIVED])
def test_every_point_gets_logits_of_all_classes_and_a_score(fusion, score):
    scores = detector(fusion=fusion, score=score)(street_batch())
    assert scores.semantic is not None
    assert scores.semantic.shape == (1100, NUM_CLASSES)
    assert scores.point_score is not None
    assert scores.point_score.isfinite().all()
    if score != "supervised":
        logits = torch.cat([torch.zeros(1100, 1), scores.semantic], dim=1)
        assert torch.equal(scores.point_score, anomaly_score(logits, score))
    assert scores.mixed_score is None


def test_a_model_without_the_head_gives_no_semantics_and_owns_no_weights_for_them():
    plain, semantic = detector(semantic_head=False, score="supervised"), detector()
    assert plain(street_batch()).semantic is None
    sizes = [sum(p.numel() for p in model.parameters()) for model in (plain, semantic)]
    assert sizes[1] - sizes[0] == NUM_CLASSES * (8 + 1)


def test_the_supervised_score_does_not_change_with_the_head_there():
    """Its bias is the prior's, and the other columns do not enter it."""
    model = detector(score="supervised")
    before = model(street_batch()).point_score
    with torch.no_grad():
        model.get_parameter("head.last.weight")[1:] += 5.0
    assert torch.equal(model(street_batch()).point_score, before)


def test_a_frames_semantics_do_not_depend_on_its_companion():
    model, batch = detector(), street_batch()
    alone = model(only_frame(batch, 1)).semantic
    torch.testing.assert_close(model(batch).semantic[600:], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("score", DERIVED)
def test_a_frame_without_points_scores_below_all_others(score):
    batch = street_batch(num_points=(300, 0))
    scores = detector(score=score)(batch)
    assert scores.frame_score[1] == NOTHING_SEEN < scores.frame_score[0]


@pytest.mark.parametrize("num_points", [(), (0, 0)])
def test_batches_of_nothing_give_connected_scores(num_points):
    model = detector(mixing=1.0).train()
    batch = street_batch(num_points=num_points)
    scores = model(batch)
    assert scores.semantic is not None
    assert scores.semantic.shape == (0, NUM_CLASSES)
    terms = loss_terms(
        scores,
        batch,
        config=LossConfig(name="cross_entropy"),
        pos_weight=9.0,
        score="energy",
        with_outliers=True,
    )
    assert set(terms) == {"semantic", "lovasz", "outlier", "known"}
    torch.stack([term.total for term in terms.values()]).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("score", DERIVED)
def test_cross_entropy_reaches_every_parameter(score):
    """So that DDP waits for none; the anomaly's column is a row of the last layer's weight."""
    model, batch = detector(score=score).train(), classed_batch()
    terms = loss_terms(
        model(batch), batch, config=LossConfig(name="cross_entropy"), pos_weight=9.0, score=score
    )
    torch.stack([t.total / t.count for t in terms.values()]).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    gradient = model.get_parameter("head.last.weight").grad
    assert gradient is not None
    assert (gradient[0] == 0).all()


def test_features_are_mixed_in_training_only():
    model, batch = detector(mixing=1.0), classed_batch()
    assert model(batch).mixed_score is None
    torch.manual_seed(1)
    mixed = model.train()(batch).mixed_score
    assert mixed is not None
    assert len(mixed) > 100


def test_mixing_does_not_change_the_scores_of_real_points():
    batch = classed_batch()
    plain, mixing = (detector(mixing=share, dropout=0.0).train()(batch) for share in (0.0, 1.0))
    assert torch.equal(plain.point_score, mixing.point_score)
    assert torch.equal(plain.semantic, mixing.semantic)


def test_collapse_is_watched_on_the_score_that_the_model_gives():
    scores = detector(score="max_logit")(street_batch())
    moments = score_moments(scores)
    assert scores.semantic is not None
    total = -scores.semantic.amax(1).double().sum().item()
    assert moments[:2].tolist() == pytest.approx([1100, total])


@pytest.mark.parametrize("score", DERIVED)
def test_outlier_exposure_teaches_scores_to_tell_outliers_from_the_road(score):
    """The box of the street has no class and is an outlier; a few steps must set it apart."""
    model, batch = detector(score=score, dropout=0.0).train(), classed_batch()
    label = torch.where(batch.point_label == 1, OUTLIER_LABEL, batch.point_label)
    batch = with_values(
        batch,
        point_label=label.to(torch.uint8),
        point_class=torch.where(batch.points[:, 2] < -1.7, 1, 3).to(torch.uint8),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    config = LossConfig(name="cross_entropy")
    for _ in range(25):
        terms = loss_terms(
            model(batch), batch, config=config, pos_weight=9.0, score=score, with_outliers=True
        )
        loss = torch.stack([t.weight * t.total / t.count for t in terms.values()]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = model.eval()(batch).point_score
    assert (
        found[batch.point_label == OUTLIER_LABEL].mean() > found[batch.point_label == 0].mean() + 1
    )

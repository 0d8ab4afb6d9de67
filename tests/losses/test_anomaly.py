import math

import numpy as np
import pytest
import torch

from pipeline.config.model import LossConfig
from pipeline.data.transforms.outliers import OUTLIER_LABEL
from pipeline.datasets.anovox.class_table import ANOVOX_CLASSES
from pipeline.losses.anomaly import (
    bce,
    constant_predictor_loss,
    dice,
    entropy_of,
    focal,
    item_term,
    loss_terms,
    main_term,
    prior_self_supervised,
)
from pipeline.models.scores import Scores
from tests.helpers.streets import street_batch, with_values

SCORE = torch.tensor([-2.0, 0.5, 3.0, 40.0, -40.0, 1.0])
LABEL = torch.tensor([0, 1, 1, 0, 1, 255], dtype=torch.uint8)


def numpy_bce(score, label, pos_weight):
    s, y = score[label != 255], label[label != 255]
    p = 1 / (1 + np.exp(-s))
    return np.where(y == 1, -pos_weight * np.log(p), -np.log(1 - p)).sum()


def numpy_focal(score, label, alpha, gamma):
    s, y = score[label != 255], label[label != 255]
    p = 1 / (1 + np.exp(-s))
    truth, weight = np.where(y == 1, p, 1 - p), np.where(y == 1, alpha, 1 - alpha)
    return (-weight * (1 - truth) ** gamma * np.log(truth)).sum()


def drawn(num=400, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 3, num), rng.choice([0, 1, 255], num, p=[0.8, 0.1, 0.1]).astype(np.uint8)


def tensors(score, label):
    return torch.from_numpy(score).float(), torch.from_numpy(label)


def test_bce_equals_five_lines_of_numpy():
    score, label = drawn()
    term = bce(*tensors(score, label), pos_weight=7.0)
    assert term.total.item() == pytest.approx(numpy_bce(score, label, 7.0), rel=1e-5)
    assert term.count.item() == (label != 255).sum()


@pytest.mark.parametrize(("alpha", "gamma"), [(0.75, 2.0), (0.25, 2.0), (0.5, 0.0), (0.9, 3.0)])
def test_focal_equals_five_lines_of_numpy(alpha, gamma):
    score, label = drawn()
    term = focal(*tensors(score, label), alpha=alpha, gamma=gamma, prior=0.5)
    assert term.total.item() == pytest.approx(numpy_focal(score, label, alpha, gamma), rel=1e-5)
    assert term.count.item() == pytest.approx(0.5 * (label != 255).sum())


def test_focal_without_gamma_is_half_of_bce_at_alpha_one_half():
    score, label = tensors(*drawn())
    whole = bce(score, label, pos_weight=1.0).total
    torch.testing.assert_close(
        2 * focal(score, label, alpha=0.5, gamma=0.0, prior=0.5).total, whole
    )


@pytest.mark.parametrize("gamma", [0.0, 0.2, 0.5, 1.0, 2.0])
def test_focal_has_a_gradient_wherever_a_score_may_lie(gamma):
    """As 1 - p_t to the power of gamma it was NaN for right scores above 104 and gamma below 1."""
    score = torch.tensor([-1e4, -110.0, -80.0, -20.0, 0.0, 20.0, 80.0, 110.0, 1e4])
    score.requires_grad_()
    for truth in (0, 1):
        label = torch.full(score.shape, truth, dtype=torch.uint8)
        loss = focal(score, label, alpha=0.75, gamma=gamma, prior=0.5).total
        (gradient,) = torch.autograd.grad(loss, score)
        sign = 1 if truth else -1
        right, wrong = gradient[sign * score > 50], gradient[sign * score < -50]
        torch.testing.assert_close(right, torch.zeros(3), atol=1e-5, rtol=0)
        torch.testing.assert_close(wrong, torch.full((3,), -sign * (0.75 if truth else 0.25)))


def test_alpha_above_one_half_weighs_positives_more_than_negatives():
    """The prior system had it inverted. A positive and a negative that are equally wrong."""
    wrong = torch.tensor([1.0])
    positive = focal(
        -wrong, torch.tensor([1], dtype=torch.uint8), alpha=0.75, gamma=2.0, prior=0.5
    ).total
    negative = focal(
        wrong, torch.tensor([0], dtype=torch.uint8), alpha=0.75, gamma=2.0, prior=0.5
    ).total
    torch.testing.assert_close(positive, 3 * negative)


def test_pos_weight_weighs_positives_and_only_them():
    def gradient(label, pos_weight):
        score = torch.zeros(1, requires_grad=True)
        target = torch.tensor([label], dtype=torch.uint8)
        bce(score, target, pos_weight=pos_weight).total.backward()
        assert score.grad is not None
        return score.grad.item()

    assert gradient(1, 9.0) == pytest.approx(-4.5)
    assert gradient(0, 9.0) == pytest.approx(0.5)


def test_ignored_labels_change_neither_loss_nor_gradient():
    for loss in (
        lambda *x: bce(*x, pos_weight=3.0),
        lambda *x: focal(*x, alpha=0.75, gamma=2.0, prior=0.5),
    ):
        score = SCORE.clone().requires_grad_()
        whole = loss(score, LABEL)
        whole.total.backward()
        known = loss(SCORE[:5], LABEL[:5])
        assert whole.total.item() == known.total.item()
        assert whole.count.item() == known.count.item()
        assert score.grad is not None
        assert score.grad[5] == 0


def test_saturated_logits_keep_a_finite_loss_and_gradient():
    score = torch.tensor([-500.0, 500.0, 500.0], requires_grad=True)
    label = torch.tensor([1, 0, 1], dtype=torch.uint8)
    total = (
        bce(score, label, pos_weight=2.0).total
        + focal(score, label, alpha=0.75, gamma=2.0, prior=0.5).total
    )
    total.backward()
    assert total.isfinite()
    assert score.grad is not None
    assert score.grad.isfinite().all()


def test_a_batch_without_positives_is_legal():
    label = torch.zeros(6, dtype=torch.uint8)
    term = focal(SCORE, label, alpha=0.75, gamma=2.0, prior=0.5)
    assert term.total > 0
    assert term.count == 3


def test_the_count_of_focal_does_not_depend_on_how_many_positives_a_batch_holds():
    some = torch.tensor([1, 0, 1, 0, 0, 255], dtype=torch.uint8)
    assert focal(SCORE, some, alpha=0.75, gamma=2.0, prior=0.2).count == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["focal", "bce", "dice", "prior_self_supervised"])
def test_nothing_gives_a_connected_zero(name):
    score = torch.zeros(3, requires_grad=True)
    nothing = Scores(point_score=score[:0], frame_score=score[:0])
    batch = street_batch(num_points=())
    for term in loss_terms(nothing, batch, config=LossConfig(name=name), pos_weight=2.0).values():
        assert term.total.item() == 0
        assert term.count.item() == 0
        score.grad = None
        term.total.backward(retain_graph=True)
        assert score.grad is not None
        assert score.grad.tolist() == [0, 0, 0]


def test_two_halves_add_up_to_the_whole():
    score, label = tensors(*drawn())
    for loss in (
        lambda *x: bce(*x, pos_weight=3.0),
        lambda *x: focal(*x, alpha=0.75, gamma=2.0, prior=0.5),
    ):
        whole, first, rest = (
            loss(score[s], label[s]) for s in (slice(None), slice(170), slice(170, None))
        )
        torch.testing.assert_close(first.total + rest.total, whole.total)
        assert first.count + rest.count == whole.count


def test_terms_of_points_and_frames_carry_their_weights():
    batch = street_batch()
    scores = Scores(point_score=torch.zeros(1100), frame_score=torch.zeros(2))
    terms = loss_terms(scores, batch, config=LossConfig(frame_weight=0.3), pos_weight=9.0)
    assert {name: term.weight for name, term in terms.items()} == {"point": 1.0, "frame": 0.3}
    assert (terms["frame"].total / terms["frame"].count).item() == pytest.approx(math.log(2))
    terms = loss_terms(scores, batch, config=LossConfig(frame_weight=0.0), pos_weight=9.0)
    assert list(terms) == ["point"]


@pytest.mark.parametrize("name", ["focal", "bce"])
def test_the_pixel_term_is_that_of_points_over_the_cells_of_the_image(name):
    label = torch.zeros(2, 32, 96, dtype=torch.uint8)
    label[0, :3, :20] = 1  # cells 0, 1 and 2 of the first row
    label[1, 10, 50] = 255  # one cell of the second frame
    batch = with_values(street_batch(), pixel_label=label)
    pixel_score = torch.randn(2, 4, 12, generator=torch.Generator().manual_seed(0))
    scores = Scores(
        point_score=torch.zeros(1100), frame_score=torch.zeros(2), pixel_score=pixel_score
    )
    config = LossConfig(name=name, pixel_weight=0.7)
    term = loss_terms(scores, batch, config=config, pos_weight=9.0, pixel_pos_weight=4.0)["pixel"]
    cells = torch.zeros(2, 4, 12, dtype=torch.uint8)
    cells[0, 0, :3], cells[1, 1, 6] = 1, 255
    expected = item_term(pixel_score.flatten(), cells.flatten(), config=config, pos_weight=4.0)
    assert term.total.item() == pytest.approx(expected.total.item())
    assert term.count.item() == pytest.approx(95.0 if name == "bce" else 95 / 5)
    assert term.weight == 0.7


def test_bce_as_the_point_loss_takes_the_train_splits_weight():
    batch = street_batch()
    scores = Scores(point_score=torch.zeros(1100), frame_score=torch.zeros(2))
    config = LossConfig(name="bce")
    light, heavy = (
        loss_terms(scores, batch, config=config, pos_weight=w)["point"].total for w in (1.0, 11.0)
    )
    positives = int((batch.point_label == 1).sum())
    assert (heavy - light).item() == pytest.approx(10 * positives * math.log(2), rel=1e-5)


def test_a_point_loss_refuses_a_model_that_scores_frames_only():
    scores = Scores(point_score=None, frame_score=torch.zeros(2))
    with pytest.raises(ValueError, match=r"loss.name=focal needs point scores"):
        loss_terms(scores, street_batch(), config=LossConfig(), pos_weight=1.0)


def test_the_seeds_loss_is_mean_plus_a_tenth_of_the_unbiased_deviation():
    score = torch.tensor([0.3, -1.2])
    s = 1 / (1 + np.exp(-score.numpy()))
    term = prior_self_supervised(score)
    expected = s.mean() + 0.1 * s.std(ddof=1)
    assert (term.total / term.count).item() == pytest.approx(expected, rel=1e-6)


def test_the_seeds_loss_of_one_frame_is_its_score_with_a_finite_gradient():
    score = torch.tensor([0.3], requires_grad=True)
    total = prior_self_supervised(score).total
    assert total.item() == pytest.approx(1 / (1 + math.exp(-0.3)))
    total.backward()
    assert score.grad is not None
    assert score.grad.isfinite().all()


@pytest.mark.parametrize("prevalence", [0.4, 0.05, 0.003])
@pytest.mark.parametrize(
    "config",
    [
        LossConfig(name="bce"),
        LossConfig(),
        LossConfig(focal_alpha=0.25, focal_gamma=5.0),
        LossConfig(focal_gamma=0.0),
        LossConfig(name="dice"),
    ],
)
def test_the_best_constant_is_that_of_a_search_over_constants(prevalence, config):
    num = 4000
    label = torch.zeros(num, dtype=torch.uint8)
    label[: round(num * prevalence)] = 1
    pos_weight = 1 / prevalence - 1

    def value(constant):
        score = torch.full((num,), constant)
        if config.name == "bce":
            term = bce(score, label, pos_weight=pos_weight)
        elif config.name == "dice":
            term = dice(score, label)
        else:
            term = focal(
                score,
                label,
                alpha=config.focal_alpha,
                gamma=config.focal_gamma,
                prior=prevalence,
            )
        return (term.total / term.count).item()

    found = constant_predictor_loss(prevalence, config=config, pos_weight=pos_weight)
    searched = min(value(float(c)) for c in np.arange(-9, 9, 0.02))
    assert found == pytest.approx(searched, rel=1e-3)


def test_balanced_weights_make_the_best_constant_of_bce_a_coin_toss():
    config = LossConfig(name="bce")
    found = constant_predictor_loss(0.01, config=config, pos_weight=99.0)
    assert found == pytest.approx(0.01 * 99 * math.log(2) * 2)


def test_the_seeds_loss_is_beaten_by_nobody_because_a_constant_reaches_zero():
    config = LossConfig(name="prior_self_supervised")
    assert constant_predictor_loss(0.3, config=config, pos_weight=1.0) == 0


# ---- dice, semantics, outliers


def test_dice_equals_its_formula_in_numpy():
    score, label = drawn()
    p, y = 1 / (1 + np.exp(-score[label != 255])), label[label != 255]
    term = dice(*tensors(score, label))
    expected = 1 - 2 * (p * y).sum() / (p.sum() + y.sum())
    assert (term.total / term.count).item() == pytest.approx(expected, rel=1e-5)


def test_dice_is_zero_for_the_truth_and_one_for_its_opposite():
    label = torch.tensor([0, 1, 1, 0], dtype=torch.uint8)
    right = torch.tensor([-50.0, 50, 50, -50])
    for score, expected in ((right, 0.0), (-right, 1.0)):
        term = dice(score, label)
        assert (term.total / term.count).item() == pytest.approx(expected)


def point_scores(batch, **more):
    num = len(batch.points)
    score = torch.linspace(-3, 2, num)
    semantic = torch.zeros(num, len(ANOVOX_CLASSES.semantic_names))
    settings = {"point_score": score, "frame_score": torch.zeros(2), "semantic": semantic}
    return Scores(**settings | more)


def loss_of(config, *, scores=None, batch=None, pos_weight=9.0, **more):
    """The whole loss of one rank, and its terms."""
    batch = street_batch() if batch is None else batch
    scores = point_scores(batch) if scores is None else scores
    terms = loss_terms(scores, batch, config=config, pos_weight=pos_weight, **more)
    values = [t.weight * t.total / t.count.clamp(min=1) for t in terms.values()]
    return float(torch.stack(values).sum()), terms


@pytest.mark.parametrize(
    ("base", "key", "values"),
    [
        ({"name": "focal"}, "frame_weight", (0.0, 0.1, 0.5)),
        ({"name": "focal"}, "dice_weight", (0.0, 0.5, 2.0)),
        ({"name": "bce"}, "dice_weight", (0.0, 0.5, 2.0)),
        ({"name": "focal"}, "semantic_weight", (0.0, 0.5, 1.0)),
        ({"name": "cross_entropy"}, "lovasz_weight", (0.0, 0.5, 1.0)),
    ],
)
def test_a_larger_weight_makes_the_loss_larger_and_zero_takes_the_term_out(base, key, values):
    losses = [loss_of(LossConfig(**base | {key: value})) for value in values]
    assert losses[0][0] < losses[1][0] < losses[2][0]
    num_off = 1 if values[0] == 0 else 0
    assert len(losses[0][1]) == len(losses[1][1]) - num_off


def test_gamma_turns_points_down_that_are_right_more_than_points_that_are_wrong():
    label = torch.tensor([1], dtype=torch.uint8)
    right, wrong = torch.tensor([3.0]), torch.tensor([-3.0])
    kept = [
        [
            float(focal(score, label, alpha=0.75, gamma=gamma, prior=0.5).total)
            for score in (right, wrong)
        ]
        for gamma in (0.0, 1.0, 2.0, 4.0)
    ]
    share_right, share_wrong = ([row[i] / kept[0][i] for row in kept] for i in (0, 1))
    assert share_right == sorted(share_right, reverse=True)
    assert all(r < 0.1 * w for r, w in zip(share_right[1:], share_wrong[1:], strict=True))


def test_a_larger_pos_weight_makes_bce_larger_and_leaves_focal_its_shape():
    light, heavy = (loss_of(LossConfig(name="bce"), pos_weight=w)[0] for w in (1.0, 20.0))
    assert light < heavy


def test_cross_entropy_reads_no_anomalys_label_but_to_leave_its_points_out():
    """Real anomalies relabelled as ignored change nothing."""
    batch = street_batch()
    hidden = torch.where(batch.point_label == 1, 255, batch.point_label).to(torch.uint8)
    config = LossConfig(name="cross_entropy")
    whole, terms = loss_of(config, batch=batch)
    assert set(terms) == {"semantic", "lovasz"}
    other = with_values(batch, point_label=hidden, frame_label=1 - batch.frame_label)
    assert loss_of(config, batch=other)[0] == whole


def test_synthetic_outliers_are_no_real_anomalies_to_the_point_loss():
    """They are left out of it, as they are in a term of their own."""
    batch = street_batch()
    as_outliers = torch.where(batch.point_label == 1, OUTLIER_LABEL, batch.point_label)
    ignored = torch.where(batch.point_label == 1, 255, batch.point_label)
    for name in ("focal", "bce", "dice"):
        config = LossConfig(name=name)
        a, b = (
            loss_of(config, batch=with_values(batch, point_label=label.to(torch.uint8)))[1]["point"]
            for label in (as_outliers, ignored)
        )
        assert (a.total.item(), a.count.item()) == (b.total.item(), b.count.item())


@pytest.mark.parametrize(
    ("score", "names"),
    [
        ("supervised", {"outlier"}),
        ("max_logit", {"outlier", "known"}),
        ("energy", {"outlier", "known"}),
        ("entropy", {"outlier"}),
    ],
)
def test_outlier_terms_are_there_whether_or_not_a_batch_holds_any(score, names):
    """Ranks add up the same terms at every step."""
    config = LossConfig(name="cross_entropy")
    _, without = loss_of(config, score=score)
    _, terms = loss_of(config, score=score, with_outliers=True)
    assert set(terms) - set(without) == names
    assert terms["outlier"].count == 0
    off = LossConfig(name="cross_entropy", outlier_weight=0.0)
    assert set(loss_of(off, score=score, with_outliers=True)[1]) == set(without)


def test_mixed_features_are_outliers_as_points_are():
    batch = street_batch()
    label = batch.point_label.clone()
    label[:7] = OUTLIER_LABEL
    mixed = torch.tensor([0.5, -0.5, 1.0])
    _, terms = loss_of(
        LossConfig(name="cross_entropy"),
        scores=point_scores(batch, mixed_score=mixed),
        batch=with_values(batch, point_label=label),
        score="energy",
        with_outliers=True,
    )
    assert terms["outlier"].count == 10


def test_the_best_constant_of_cross_entropy_answers_the_frequencies():
    counts = [50, 0, 30, 20]
    config = LossConfig(name="cross_entropy")
    share = np.array([0.5, 0.3, 0.2])
    found = constant_predictor_loss(0.1, config=config, pos_weight=1.0, class_counts=counts)
    assert found == pytest.approx(-(share * np.log(share)).sum())
    for other in np.random.default_rng(0).dirichlet([1, 1, 1], 50):
        assert -(share * np.log(other)).sum() >= found
    assert entropy_of([0, 9]) == 0


def test_the_main_term_is_the_one_that_every_loss_has():
    for name in ("focal", "bce", "dice", "cross_entropy"):
        config = LossConfig(name=name)
        assert main_term(config) in loss_of(config)[1]

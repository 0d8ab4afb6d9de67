import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.datasets.anovox.class_table import ANOVOX_CLASSES
from pipeline.datasets.protocol.classes import NO_CLASS
from pipeline.losses.semantic import (
    cross_entropy,
    jaccard_steps,
    known,
    lovasz,
    outlier,
    targets,
)
from tests.helpers.streets import street_batch, with_values

CLASS_OF_ID = ANOVOX_CLASSES.semantic_of_id
NUM_CLASSES = len(ANOVOX_CLASSES.semantic_names)


def jaccard_loss(wrong, own):
    """1 - IoU of a class when the points `wrong` are answered wrongly (Berman et al., eq. 1)."""
    intersection = (own & ~wrong).sum()
    union = (own | wrong).sum()
    return 1 - intersection / union


def brute_force_lovasz(errors, own):
    """The Lovasz extension as an integral: the mean over t in [0, 1] of the loss of {errors > t}.

    Exact, because between two neighbouring errors the set does not change.
    """
    levels = np.unique([0.0, 1.0, *errors])
    return sum(
        (high - low) * jaccard_loss(errors > low, own)
        for low, high in itertools.pairwise(levels.tolist())
    )


def drawn(num, num_classes, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num, NUM_CLASSES, generator=generator) * 3
    target = torch.randint(num_classes, (num,), generator=generator)
    return logits, target


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 4), st.integers(0, 999))
def test_lovasz_equals_the_extension_by_brute_force(num, num_classes, seed):
    logits, target = drawn(num, num_classes, seed)
    probability = logits.softmax(1).double().numpy()
    expected = []
    for k in np.unique(target):
        own = target.numpy() == k
        errors = np.where(own, 1 - probability[:, k], probability[:, k])
        expected.append(brute_force_lovasz(errors, own))
    term = lovasz(logits, target, [num], weight=1.0)
    assert term.total.item() == pytest.approx(np.mean(expected), abs=1e-5)
    assert term.count == 1


def test_the_steps_of_the_jaccard_loss_add_up_to_one():
    own = torch.tensor([[1, 0], [0, 0], [1, 1], [0, 0]], dtype=torch.bool)
    steps = jaccard_steps(own)
    torch.testing.assert_close(steps.sum(0), torch.ones(2))
    assert (steps >= 0).all()


def test_a_perfect_prediction_costs_nothing_and_a_wholly_wrong_one_costs_one():
    _, target = drawn(50, 5, 0)
    right = 1e4 * torch.nn.functional.one_hot(target, NUM_CLASSES).float()
    wrong = right.roll(1, dims=1)
    assert lovasz(right, target, [50], weight=1.0).total.item() == 0
    assert lovasz(wrong, target, [50], weight=1.0).total.item() == pytest.approx(1)
    assert cross_entropy(right, target, weight=1.0).total.item() == 0


def test_the_order_of_a_frames_points_does_not_matter():
    logits, target = drawn(200, 6, 1)
    order = torch.randperm(200)
    for loss in (
        lambda x, y: lovasz(x, y, [200], weight=1.0),
        lambda x, y: cross_entropy(x, y, weight=1.0),
    ):
        torch.testing.assert_close(
            loss(logits, target).total, loss(logits[order], target[order]).total
        )


def test_frames_add_up_whichever_rank_holds_them():
    logits, target = drawn(90, 4, 2)
    counts = [30, 0, 25, 35]
    whole = lovasz(logits, target, counts, weight=1.0)
    first = lovasz(logits[:30], target[:30], [30, 0], weight=1.0)
    rest = lovasz(logits[30:], target[30:], [25, 35], weight=1.0)
    torch.testing.assert_close(first.total + rest.total, whole.total)
    assert (first.count + rest.count, whole.count) == (3, 3)


def test_points_without_a_class_change_neither_loss_nor_gradient():
    logits, target = drawn(40, 4, 3)
    target[30:] = NO_CLASS
    for loss in (
        lambda x, y: lovasz(x, y, [len(x)], weight=1.0),
        lambda x, y: cross_entropy(x, y, weight=1.0),
    ):
        all_logits = logits.clone().requires_grad_()
        whole, part = loss(all_logits, target), loss(logits[:30], target[:30])
        assert whole.total.item() == pytest.approx(part.total.item(), rel=1e-6)
        assert whole.count.item() == part.count.item()
        whole.total.backward()
        assert all_logits.grad is not None
        assert (all_logits.grad[30:] == 0).all()


@pytest.mark.parametrize("counts", [[], [0, 0], [3]])
def test_frames_without_a_class_give_a_connected_zero(counts):
    logits = torch.zeros(sum(counts), NUM_CLASSES, requires_grad=True)
    target = torch.full((sum(counts),), NO_CLASS)
    for term in (
        lovasz(logits, target, counts, weight=1.0),
        cross_entropy(logits, target, weight=1),
    ):
        assert (term.total.item(), term.count.item()) == (0, 0)
        assert term.total.requires_grad


def test_cross_entropy_of_uniform_logits_is_the_logarithm_of_the_classes():
    _, target = drawn(20, 5, 4)
    term = cross_entropy(torch.zeros(20, NUM_CLASSES), target, weight=1.0)
    assert (term.total / term.count).item() == pytest.approx(math.log(NUM_CLASSES))


def test_targets_are_the_classes_of_points_labelled_normal():
    batch = street_batch(num_points=(4,))
    batch = with_values(
        batch,
        point_class=torch.tensor([1, 30, 14, 1], dtype=torch.uint8),
        point_label=torch.tensor([0, 1, 0, 2], dtype=torch.uint8),
    )
    assert targets(batch).tolist() == [CLASS_OF_ID[1], NO_CLASS, CLASS_OF_ID[14], NO_CLASS]


def test_energy_of_outliers_and_known_points_is_one_more_class_with_logit_zero():
    """softplus of -logsumexp(z) is the cross-entropy of a softmax over (0, z)."""
    logits, _ = drawn(30, 4, 5)
    energy = -logits.logsumexp(1)
    wider = torch.cat([torch.zeros(30, 1), logits], dim=1).log_softmax(1)
    up = outlier(
        energy, torch.ones(30, dtype=torch.bool), how="energy", num_classes=NUM_CLASSES, weight=1.0
    )
    torch.testing.assert_close(up.total, -wider[:, 0].sum())
    down = known(energy, torch.zeros(30, dtype=torch.uint8), weight=1.0)
    torch.testing.assert_close(down.total, -wider[:, 1:].logsumexp(1).sum())


@pytest.mark.parametrize("how", ["supervised", "max_logit", "energy", "entropy"])
def test_every_score_of_an_outlier_is_pushed_up(how):
    score = torch.tensor([0.3, 2.0, -1.0], requires_grad=True)
    outlier(
        score,
        torch.ones_like(score, dtype=torch.bool),
        how=how,
        num_classes=NUM_CLASSES,
        weight=1.0,
    ).total.backward()
    assert score.grad is not None
    assert (score.grad < 0).all()


def test_known_points_are_pushed_down_and_only_those_labelled_normal():
    score = torch.tensor([0.3, 2.0, -1.0, 1.0], requires_grad=True)
    label = torch.tensor([0, 1, 2, 255], dtype=torch.uint8)
    term = known(score, label, weight=1.0)
    term.total.backward()
    assert term.count == 1
    assert score.grad is not None
    assert score.grad[0] > 0
    assert score.grad[1:].tolist() == [0, 0, 0]


def test_the_entropy_of_uniform_logits_leaves_nothing_to_push():
    highest = torch.tensor([math.log(NUM_CLASSES)])
    assert outlier(
        highest,
        torch.ones_like(highest, dtype=torch.bool),
        how="entropy",
        num_classes=NUM_CLASSES,
        weight=1.0,
    ).total.item() == pytest.approx(0, abs=1e-6)

import itertools

import pytest
import torch

from pipeline.losses.anomaly import bce, dice
from pipeline.losses.reduction import Term, local_share, stacked

LABEL = torch.tensor([0, 1, 1, 0, 0, 1, 0, 255, 0, 1], dtype=torch.uint8)


def gradients(losses, num_ranks):
    """Gradient of one rank with everything, and the sum over ranks with a part each."""
    scores = torch.linspace(-2, 3, 10).requires_grad_()
    term = losses(scores, LABEL)
    whole = term.total / term.count
    (expected,) = torch.autograd.grad(whole, scores)
    bounds = torch.linspace(0, 10, num_ranks + 1).long().tolist()
    parts = [slice(a, b) for a, b in itertools.pairwise(bounds)]
    terms = [losses(scores[part], LABEL[part]) for part in parts]
    total = torch.stack([term.total.detach() for term in terms]).sum()
    count = torch.stack([term.count.detach() for term in terms]).sum().clamp(min=1)
    shares = torch.stack([local_share(t, total=total, count=count) for t in terms])
    (found,) = torch.autograd.grad(shares.sum(), scores)
    return expected, found, whole, total / count


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 10])
@pytest.mark.parametrize("loss", [lambda *x: bce(*x, pos_weight=3.0), dice], ids=["bce", "dice"])
def test_ranks_together_have_the_value_and_the_gradient_of_one(loss, num_ranks):
    expected, found, whole, told = gradients(loss, num_ranks)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(told, whole.detach())


def test_a_rank_without_items_adds_nothing_to_a_quotient():
    scores = torch.zeros(3, requires_grad=True)
    nothing = dice(scores[:0], torch.zeros(0, dtype=torch.uint8))
    share = local_share(nothing, total=torch.tensor(3.0), count=torch.tensor(9.0))
    share.backward()
    assert share.item() == 0
    assert scores.grad is not None
    assert scores.grad.tolist() == [0, 0, 0]


def test_a_count_below_one_divides_as_one():
    tiny = torch.tensor(0.2, requires_grad=True)
    term = Term(total=tiny, count=tiny / 10, weight=2.0)
    share = local_share(term, total=tiny.detach(), count=torch.tensor(0.02))
    share.backward()
    assert share.item() == pytest.approx(0.4)
    assert tiny.grad == 2.0


def test_terms_are_stacked_in_the_order_of_their_names_whatever_the_order_they_came_in():
    one, two = (
        Term(total=torch.tensor(v), count=torch.tensor(v + 1), weight=1.0) for v in (5.0, 7.0)
    )
    names, sums = stacked({"point": one, "frame": two})
    assert names == ["frame", "point"]
    assert sums.tolist() == [[7, 5], [8, 6]]
    assert sums.dtype == torch.float64

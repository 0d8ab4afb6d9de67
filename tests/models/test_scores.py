import math

import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import entropy

from pipeline.metrics.counts import NUM_BINS, bins_of
from pipeline.models.scores import anomaly_score

LOGITS = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)) * 4


def test_scores_equal_their_definitions():
    classes = LOGITS[:, 1:].numpy()
    shares = LOGITS[:, 1:].double().softmax(1).numpy()
    expected = {
        "supervised": LOGITS[:, 0].numpy(),
        "max_logit": -classes.max(1),
        "energy": -logsumexp(classes, axis=1),
        "entropy": entropy(shares, axis=1),
    }
    for how, values in expected.items():
        assert anomaly_score(LOGITS, how).numpy() == pytest.approx(values, abs=1e-5), how


@pytest.mark.parametrize("how", ["max_logit", "energy", "entropy"])
def test_a_sure_point_scores_below_an_unsure_one(how):
    sure = torch.tensor([[0.0, 9.0, 0.0, 0.0]])
    unsure = torch.tensor([[0.0, 0.1, 0.0, 0.1]])
    assert anomaly_score(sure, how) < anomaly_score(unsure, how)


@pytest.mark.parametrize("how", ["max_logit", "energy", "entropy"])
def test_scores_of_the_semantic_head_do_not_read_the_anomaly_logit(how):
    other = LOGITS.clone()
    other[:, 0] = 99.0
    assert torch.equal(anomaly_score(other, how), anomaly_score(LOGITS, how))


def test_entropy_ends_at_zero_and_at_the_logarithm_of_the_classes_without_nan():
    sure, uniform = torch.tensor([[0.0, 1e4, -1e4, 0.0]]), torch.zeros(1, 29)
    assert anomaly_score(sure, "entropy").item() == 0
    assert anomaly_score(uniform, "entropy").item() == pytest.approx(math.log(28))


def test_entropies_spread_over_thousands_of_the_histograms_bins():
    ends = bins_of(torch.tensor([0.0, math.log(28)]).numpy())
    assert ends[1] - ends[0] > 3000
    assert ends[1] < NUM_BINS

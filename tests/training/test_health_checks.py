import math

import pytest
import torch

from pipeline.config.schema import HealthCheckConfig, LossConfig, ModelConfig
from pipeline.losses.anomaly import loss_terms
from pipeline.models.detector import build_detector
from pipeline.models.prior_baseline import SimpleAnomalyDetector
from pipeline.models.scores import Scores
from pipeline.runtime.errors import RunFailed
from pipeline.training.health_checks import (
    CollapseGuard,
    CollapseSigns,
    check_finite,
    check_signal,
    check_two_classes,
    score_moments,
)
from tests.helpers.streets import street_batch

SEEDS = range(20)
SEED_LOSS = LossConfig(name="prior_self_supervised")


def signs(*, scores=(0.0, 1.0), loss=1.0, grad_norm=1.0):
    frame = Scores(point_score=None, frame_score=torch.tensor(scores))
    return signs_of(frame, loss=loss, grad_norm=grad_norm)


def signs_of(scores, *, loss, grad_norm):
    return CollapseSigns(
        moments=tuple(score_moments(scores).tolist()), loss=loss, grad_norm=grad_norm
    )


def watch(model, optimizer, batches, *, loss, prior=1e-3):
    """Train on `batches` under a guard; returns the step at which it raised, or None."""
    guard = CollapseGuard(HealthCheckConfig())
    for step, batch in enumerate(batches):
        scores = model(batch)
        terms = loss_terms(scores, batch, config=loss, pos_weight=1 / prior - 1).values()
        total = torch.stack([t.weight * t.total / t.count.clamp(min=1) for t in terms]).sum()
        optimizer.zero_grad()
        total.backward()
        grad_norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), math.inf))
        optimizer.step()
        signs = signs_of(scores, loss=total.item(), grad_norm=grad_norm)
        if collapsed(guard, step, signs):
            return step
    return None


def collapsed(guard, step, signs):
    try:
        guard.update(step, signs)
    except RunFailed as failure:
        return failure.reason == "collapsed"
    return False


def seed_recipe(seed, *, height=128, width=192, num_points=2_000, num_steps=6, logit=None):
    """The prior system's recipe: batch 2, Adam, lr 1e-3, raw pixels, no labels."""
    torch.manual_seed(seed)
    model = SimpleAnomalyDetector()
    if logit is not None:
        dict(model.named_parameters())["head.5.bias"].data.fill_(logit)
    batches = (
        street_batch(
            num_points=(num_points, num_points), height=height, width=width, seed=100 * seed + k
        )
        for k in range(num_steps)
    )
    return watch(model, torch.optim.Adam(model.parameters(), lr=1e-3), batches, loss=SEED_LOSS)


@pytest.mark.slow
def test_the_prior_systems_recipe_is_stopped_within_five_steps_for_twenty_seeds():
    stopped = [seed_recipe(seed) for seed in SEEDS]
    assert all(step is not None and step < 5 for step in stopped), stopped


@pytest.mark.parametrize(
    "num_seeds", [pytest.param(4, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.long)]
)
def test_it_is_stopped_at_the_prior_systems_image_size_and_cloud_as_well(num_seeds):
    size = {"height": 512, "width": 768, "num_points": 10_000}
    stopped = [seed_recipe(seed, **size) for seed in range(num_seeds)]
    assert all(step is not None and step < 5 for step in stopped), stopped


@pytest.mark.parametrize("logit", [-300.0, 300.0])
def test_a_run_that_starts_saturated_is_stopped_although_its_gradient_never_was(logit):
    assert seed_recipe(0, logit=logit) == 1


@pytest.mark.parametrize("num_seeds", [5, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["focal", "bce"])
@pytest.mark.parametrize("fusion", ["concat", "camera_only", "lidar_only"])
def test_a_real_loss_is_never_stopped(name, fusion, num_seeds):
    config = ModelConfig(
        fusion=fusion, image_channels=8, point_channels=16, image_stages=2, pillar_size_m=2.0
    )
    num_steps = 10 if fusion == "lidar_only" else 4
    for seed in range(num_seeds):
        torch.manual_seed(seed)
        model = build_detector(config, prior=1e-3)
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
        batches = (
            street_batch(num_points=(150, 150), height=16, width=48, seed=100 * seed + k)
            for k in range(num_steps)
        )
        assert watch(model, optimizer, batches, loss=LossConfig(name=name)) is None, seed


def test_the_guard_never_sees_the_name_of_a_loss():
    """The same numbers, whatever made them, give the same verdict."""
    guard = CollapseGuard(HealthCheckConfig())
    guard.update(0, signs(scores=(-90.0, -70.0), loss=0.0, grad_norm=0.0))
    with pytest.raises(RunFailed, match=r"collapsed at step 1: for 2 steps every score is -12 "):
        guard.update(1, signs(scores=(-50.0, -20.0), loss=0.0, grad_norm=0.0))


@pytest.mark.parametrize(
    "alive",
    [
        {"scores": (-3.0, -3.1)},
        {"grad_norm": 0.01},
        {"loss": 0.01},
    ],
    ids=["scores differ", "gradient", "loss moves"],
)
def test_one_living_sign_is_enough_to_go_on(alive):
    guard = CollapseGuard(HealthCheckConfig())
    dead = {"scores": (-30.0, -30.0), "loss": 0.0, "grad_norm": 0.0}
    guard.update(0, signs(grad_norm=5.0))
    for step in range(1, 9):
        guard.update(step, signs(**dead | (alive if step % 2 else {})))


def test_the_number_of_steps_is_configurable():
    guard = CollapseGuard(HealthCheckConfig(collapse_steps=4))
    dead = signs(scores=(-30.0, -30.0), loss=0.0, grad_norm=0.0)
    for step in range(3):
        guard.update(step, dead)
    with pytest.raises(RunFailed, match="for 4 steps"):
        guard.update(3, dead)


def test_batches_of_one_frame_are_compared_across_steps():
    guard = CollapseGuard(HealthCheckConfig())
    guard.update(0, signs(scores=(-2.0,), loss=0.0, grad_norm=0.0))
    guard.update(1, signs(scores=(-3.0,), loss=0.0, grad_norm=0.0))
    with pytest.raises(RunFailed, match="collapsed at step 2"):
        guard.update(2, signs(scores=(-3.0,), loss=0.0, grad_norm=0.0))


def test_point_scores_are_watched_where_there_are_any():
    scores = Scores(point_score=torch.tensor([1.0, 3.0]), frame_score=torch.tensor([9.0]))
    assert score_moments(scores).tolist() == [2, 4, 10]


def test_moments_of_ranks_add_up_and_a_rank_may_have_no_scores():
    whole, part, nothing = (
        score_moments(Scores(point_score=None, frame_score=torch.tensor(scores)))
        for scores in ([1.0, 2.0, -3.0], [1.0, 2.0], [])
    )
    rest = score_moments(Scores(point_score=None, frame_score=torch.tensor([-3.0])))
    assert (part + rest + nothing).tolist() == whole.tolist() == [3, 0, 14]


def test_steps_without_any_score_prove_nothing():
    guard = CollapseGuard(HealthCheckConfig())
    nothing = CollapseSigns(moments=(0.0, 0.0, 0.0), loss=0.0, grad_norm=0.0)
    for step in range(4):
        guard.update(step, nothing)


@pytest.mark.parametrize(
    ("loss", "grad_norm", "what"),
    [(math.nan, 1.0, "loss is nan"), (1.0, math.inf, "gradient norm is inf")],
)
def test_numbers_that_are_not_finite_end_the_run(loss, grad_norm, what):
    check_finite(3, loss=1.0, grad_norm=0.0)
    with pytest.raises(RunFailed, match=f"the {what} at step 7") as failure:
        check_finite(7, loss=loss, grad_norm=grad_norm)
    assert failure.value.reason == "non_finite"


def test_a_loss_must_beat_the_best_constant_by_the_margin():
    check_signal(0.97, constant=1.0, margin=0.02)
    check_signal(0.999, constant=1.0, margin=0.0)
    for loss, margin in ((0.99, 0.02), (1.0, 0.0), (math.nan, 0.0)):
        with pytest.raises(RunFailed, match="no signal") as failure:
            check_signal(loss, constant=1.0, margin=margin)
        assert failure.value.reason == "no_signal"


def test_a_split_needs_both_classes():
    check_two_classes("val", num_positive=1, num_negative=1)
    with pytest.raises(RunFailed, match="split val has no anomalous item among 5") as failure:
        check_two_classes("val", num_positive=0, num_negative=5)
    assert failure.value.reason == "one_class"
    with pytest.raises(RunFailed, match="no normal item"):
        check_two_classes("val", num_positive=5, num_negative=0)


def test_a_gradient_that_overflowed_under_a_loss_scale_is_no_failure_but_a_loss_is():
    check_finite(7, loss=1.0, grad_norm=math.inf, loss_scale=2.0)
    with pytest.raises(RunFailed, match="the gradient norm is inf at step 7"):
        check_finite(7, loss=1.0, grad_norm=math.inf, loss_scale=1.0)
    with pytest.raises(RunFailed, match="the loss is nan at step 7"):
        check_finite(7, loss=math.nan, grad_norm=1.0, loss_scale=2.0)

"""A step's gradient: the same in parts as at once, in few operations, without waiting."""

import pytest
import torch
from torch import Tensor, nn

from benchmarks.operations import CopyCounter, OperationCounter
from pipeline.config.load import load, merge
from pipeline.config.schema import Config
from pipeline.data.batch import Batch
from pipeline.datasets.anovox.class_table import ANOVOX_CLASSES
from pipeline.models.detector import build_detector
from pipeline.runtime.errors import RunFailed
from pipeline.training.gradient import Gradient, StepSums
from pipeline.training.optimizer import make_optimizer, update
from pipeline.training.step_results import HostCopy, StepFigures, StepResults
from pipeline.training.timing import StepClock
from pipeline.training.worker import single_worker
from tests.helpers.repository import REPOSITORY
from tests.helpers.streets import street_batch, with_values

CONFIGS = REPOSITORY / "configs"
SMALL = {
    "model": {"image_channels": 16, "point_channels": 16, "image_stages": 2, "dropout": 0.0},
    "scaling": {"num_workers": 0, "use_gpu": False},
}
SEMANTIC = {"model": {"semantic_head": True, "score": "energy"}}
OUTLIERS = {"outliers": {"raised_road": 0.5}, "loss": {"outlier_weight": 0.5}}


class Step:
    """What a training does in one step, without shards and MLflow."""

    def __init__(self, config: Config) -> None:
        torch.manual_seed(0)
        worker = single_worker(lambda line: None, use_gpu=False)
        self.config = config
        model = build_detector(
            config.model,
            prior=1e-2,
            num_classes=len(ANOVOX_CLASSES.semantic_names),
            fetch_weights=False,
        )
        self.model = worker.wrap(model)
        self.optimizer = make_optimizer(self.model, config)
        self.scaler = torch.amp.GradScaler("cpu", enabled=False)
        self.gradient = Gradient(
            self.model,
            worker,
            config,
            clock=StepClock(torch.device("cpu")),
            precision="fp32",
            scaler=self.scaler,
            pos_weight=99.0,
            pixel_pos_weight=99.0,
        )
        self.results = StepResults(config)

    def __call__(self, batch: Batch) -> StepSums:
        self.optimizer.zero_grad(set_to_none=True)
        found = self.gradient(batch)
        grad_norm, scale = update(
            self.model, self.optimizer, self.scaler, grad_clip=self.config.train.grad_clip
        )
        copy = HostCopy(torch.cat([found.sums, torch.stack([grad_norm, scale]).double()]))
        self.results.put(
            StepFigures(
                step=0, epoch=0, lr=0.1, names=found.names, weights=found.weights, copy=copy
            )
        )
        return found


def labelled(*num_points: int) -> Batch:
    """Frames with labels of every kind, also for pixels."""
    batch = street_batch(num_points=num_points, height=32, width=48)
    torch.manual_seed(3)
    kinds = torch.tensor([0, 0, 0, 1, 2, 255], dtype=torch.uint8)
    num, height, width = batch.num_frames, batch.image.shape[2], batch.image.shape[3]
    return with_values(
        batch,
        point_label=kinds[torch.randint(6, (batch.points.shape[0],))],
        pixel_label=kinds[torch.randint(4, (num, height, width))],
    )


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss": {"name": "bce", "frame_weight": 0.5}},
        {"model": {"pixel_head": True}},
        {**SEMANTIC, "loss": {"name": "cross_entropy", "lovasz_weight": 1.0}},
        {**SEMANTIC, **OUTLIERS},
    ],
    ids=["focal", "bce and frames", "pixels", "semantic", "outliers"],
)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_step_in_parts_has_the_gradient_and_the_sums_of_the_whole(size: int, changes: dict):
    batch = labelled(200, 0, 90, 150)
    config = merge(Config(), SMALL, changes)
    whole, parts = Step(config), Step(merge(config, {"train": {"frames_per_gpu": size}}))
    found, added = whole.gradient(batch), parts.gradient(batch)
    assert found.names == added.names
    torch.testing.assert_close(found.sums, added.sums, rtol=1e-6, atol=1e-6)
    for name, expected in gradients(whole.model).items():
        torch.testing.assert_close(
            gradients(parts.model)[name],
            expected,
            rtol=1e-4,
            atol=3e-5 * expected.abs().max().item(),
            msg=name,
        )


def test_a_part_without_frames_joins_in():
    config = merge(Config(), SMALL, {"train": {"frames_per_gpu": 2}})
    found = Step(config).gradient(labelled())
    assert found.sums.tolist() == [0.0] * len(found.sums)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"loss": {"name": "dice"}}, r"loss\.name=dice"),
        ({"loss": {"dice_weight": 1.0}}, r"loss\.dice_weight=1\.0"),
        ({"outliers": {"feature_mixing": 0.5}}, r"outliers\.feature_mixing"),
    ],
)
def test_a_loss_that_is_no_sum_over_parts_is_refused(changes: dict, what: str):
    with pytest.raises(ValueError, match=f"frames_per_gpu=2 divides a step, .* of {what} is not"):
        merge(Config(), {"train": {"frames_per_gpu": 2}}, changes)


def test_compiling_is_refused_without_a_gpu():
    with pytest.raises(ValueError, match=r"train\.compile=true is for CUDA"):
        merge(Config(), {"train": {"compile": True}})


def counted(config: Config) -> OperationCounter:
    """The third step's operations; two frames, as a worker of both configs has."""
    step, counter = Step(config), OperationCounter()
    batches = [labelled(900, 700) for _ in range(3)]
    for batch in batches[:2]:
        step(batch)
    with counter, CopyCounter(counter.waits):
        step(batches[2])
    return counter


def test_a_step_of_the_demo_stays_within_its_budget_of_operations_and_waits():
    """At 9596e02 it took 1919 operations and waited 126 times.

    What waits is the number of pillars, of points in view and of rays: sizes that follow from the
    points. Losses, gradient norm, optimizer and guards are not waited for.
    """
    counter = counted(load(CONFIGS / "demo.yaml", ["scaling.num_workers=0"]))
    assert sum(counter.operations.values()) <= 1919 // 2
    assert dict(counter.waits) == {"aten.nonzero": 2, "aten._unique2": 1}


def test_a_step_of_the_full_detector_stays_within_its_budget_of_operations_and_waits():
    """At 9596e02 it took 9710 operations and waited 478 times.

    What waits is the number of cells and of neighbours at each of five levels, and of points in
    view.
    """
    changes = ["model.image_weights=none", "scaling.num_workers=0", "scaling.use_gpu=false"]
    counter = counted(load(CONFIGS / "full.yaml", changes))
    assert sum(counter.operations.values()) <= 9710 // 2
    assert sum(counter.waits.values()) <= 30
    assert set(counter.waits) == {"aten.nonzero", "aten._unique2", "torch.tolist"}


def test_counting_sees_what_waits():
    counter = OperationCounter()
    values = torch.arange(4.0)
    with counter, CopyCounter(counter.waits):
        values[values > 1].sum().item()
        torch.tensor([1.0])
        values.tolist()
        values.view(2, 2)
        values.add(1)
    assert set(counter.waits) == {
        "aten.index",
        "aten._local_scalar_dense",
        "torch.tensor",
        "torch.tolist",
    }
    names = {name for _, name in counter.operations}
    assert "aten.view" not in names
    assert "aten.add" in names


def figures(step: int, *, total: float, grad_norm: float = 1.0) -> StepFigures:
    numbers = [total, 2.0, 4.0, 1.0, 8.0, grad_norm, 1.0]
    return StepFigures(
        step=step,
        epoch=0,
        lr=0.1,
        names=["point"],
        weights=[1.0],
        copy=HostCopy(torch.tensor(numbers, dtype=torch.float64)),
    )


def test_a_step_is_judged_when_the_next_one_is_under_way_or_before_anything_is_saved():
    results = StepResults(Config())
    results.put(figures(0, total=3.0))
    assert results.epoch_loss[:2] == [0.0, 0.0]
    results.put(figures(1, total=float("nan")))
    assert results.epoch_loss[:2] == [3.0, 2.0]
    with pytest.raises(RunFailed, match="the loss is nan at step 1"):
        results.settle()


def test_a_gradient_that_is_not_finite_ends_the_run_one_step_later():
    results = StepResults(Config())
    results.put(figures(4, total=1.0, grad_norm=float("inf")))
    with pytest.raises(RunFailed, match="the gradient norm is inf at step 4"):
        results.put(figures(5, total=1.0))

"""What a study of many trainings is: the config sections of the jobs that run or time them.

`schema` holds the whole.
"""

from dataclasses import dataclass, field
from typing import Literal

from pipeline.config.validators import (
    at_least,
    not_empty,
    one_of,
    positive,
    registered,
)
from pipeline.metrics.metric import definition_of, names_of

SCHEDULER_NAMES = ["none", "asha"]
"""How a search stops trials early; `experiments/search/ray_tune.py` makes each."""


@dataclass(frozen=True, kw_only=True)
class AblateConfig:
    """What `jobs.ablate` runs: variants x seeds, each a change of this config."""

    name: str = "ablation"
    """Name of the study: the parent run in MLflow and the folder under `storage_path`."""
    variants: list[str] = field(default_factory=lambda: ["full"])
    """`NAME key=value key=value ...` each; the first row is what the others are compared with."""
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    """`train.seed` of each row's trainings."""
    metrics: list[str] = field(
        default_factory=lambda: ["point_ap", "small_object_ap", "frame_static_auroc"]
    )
    """Metrics of the printed table (`SLICE_METRIC`); the CSV holds all."""
    num_parallel: int = 0
    """Trainings side by side; 0 = as many as the cluster's CPUs and GPUs allow."""
    worlds: list[int] = field(default_factory=list)
    """Seeds of synthetic worlds, each written, prepared and ablated below `data.root` and
    `data.blocks`, with the means over worlds in the end; [] = the data that are prepared."""

    def __post_init__(self) -> None:
        for key in ("variants", "seeds", "metrics"):
            not_empty(f"ablate.{key}", getattr(self, key))
        for name in self.metrics:
            definition_of(f"ablate.metrics={name}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(
                f"ablate.seeds is {self.seeds}; one training counted twice would look like two: "
                "name each seed once"
            )
        at_least("ablate", self, "num_parallel", 0)
        if not self.name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(
                f"ablate.name is {self.name!r}; it names a folder: letters, digits, - and _"
            )


@dataclass(frozen=True, kw_only=True)
class ProfileConfig:
    """How `jobs.profile` times the networks of `ablate.variants`."""

    num_frames: int = 16
    """Frames of the val split, evenly spread, that every row is timed on in every round."""
    batch_size: int = 4
    """Frames per batch behind frames/s; divides num_frames. Latency is that of single frames."""
    num_rounds: int = 5
    """Rounds over all rows; a row's figures are medians over them."""
    num_warmup: int = 1
    """Batches before the clock starts, in every turn of a row; 0 = none."""
    backward: bool = True
    """Whether to time training (forward, loss, backward) beside the forward pass alone."""

    def __post_init__(self) -> None:
        for key in ("num_frames", "batch_size", "num_rounds"):
            at_least("profile", self, key, 1)
        at_least("profile", self, "num_warmup", 0)
        if self.num_frames % self.batch_size:
            raise ValueError(
                f"profile.num_frames={self.num_frames} is no multiple of profile.batch_size="
                f"{self.batch_size}; whole batches are timed: change one of them"
            )


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """What `jobs.tune` searches, and how."""

    name: str = "tune"
    """Name of the study: parent run and registered model in MLflow, folder under `storage_path`."""
    space: list[str] = field(default_factory=lambda: ["train.lr loguniform 3e-4 1e-2"])
    """One dimension each: `KEY uniform LOW HIGH`, `KEY loguniform LOW HIGH` (whole numbers for keys
    that hold them), `KEY choice VALUE VALUE ...` or `KEY grid VALUE VALUE ...` (every value for
    each sample). `if OTHER_KEY=VALUE,VALUE` at its end leaves the key alone unless an earlier
    dimension has one of these values."""
    num_samples: int = 10
    """Settings drawn from the space, each combined with all values of the grid dimensions."""
    searcher: Literal["random", "optuna"] = "random"
    """How settings are drawn: independently, or by Optuna's TPE from the results so far."""
    scheduler: str = one_of("asha", lambda: SCHEDULER_NAMES)
    """`asha` prunes trials whose validation is not among the best at the same epoch."""
    grace_period: int = 1
    """Validations that every trial gets before `asha` may prune it. With `train.lr_restart_epochs`
    at that epoch each is judged with its learning rate come down, as a whole training of that
    length."""
    reduction_factor: int = 3
    """One in this many goes on from each rung of `asha`; rungs are this factor apart in epochs."""
    metric: str = one_of("point_ap", lambda: names_of("ranks_search"))
    """Validation metric that trials are pruned and ranked by, the better first."""
    seed: int = 0
    """Seed of the drawing; `train.seed` is that of the trainings."""
    num_parallel: int = 0
    """Trials side by side; 0 = as many as the cluster's CPUs and GPUs allow."""
    stall_timeout_s: float = 14400.0
    """The study fails when no trial starts, reports or ends for so long; above the time from one
    validation to the next."""

    def __post_init__(self) -> None:
        registered("tune", self)
        not_empty("tune.space", self.space)
        for key in ("num_samples", "grace_period"):
            at_least("tune", self, key, 1)
        at_least("tune", self, "reduction_factor", 2)
        for key in ("seed", "num_parallel"):
            at_least("tune", self, key, 0)
        positive("tune", self, "stall_timeout_s")
        if not self.name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(
                f"tune.name is {self.name!r}; it names a folder: letters, digits, - and _"
            )

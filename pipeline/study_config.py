"""What a search over many trainings is: the config section of `jobs.tune`.

`pipeline.config` holds the whole.
"""

from dataclasses import dataclass, field
from typing import Literal

from pipeline.limits import at_least, not_empty, positive


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
    scheduler: Literal["none", "asha"] = "asha"
    """`asha` prunes trials whose validation is not among the best at the same epoch."""
    grace_validations: int = 1
    """Validations that every trial gets before `asha` may prune it."""
    reduction_factor: int = 3
    """One in this many goes on from each rung of `asha`; rungs are this factor apart in epochs."""
    metric: Literal["point_ap", "frame_ap", "pixel_ap", "semantic_miou"] = "point_ap"
    """Validation metric that trials are pruned and ranked by, higher = better."""
    seed: int = 0
    """Seed of the drawing; `train.seed` is that of the trainings."""
    num_parallel: int = 0
    """Trials side by side; 0 = as many as the cluster's CPUs and GPUs allow."""
    stall_timeout_s: float = 14400.0
    """The study fails when no trial starts, reports or ends for so long; above the time from one
    validation to the next."""

    def __post_init__(self) -> None:
        not_empty("tune.space", self.space)
        for key in ("num_samples", "grace_validations"):
            at_least("tune", self, key, 1)
        at_least("tune", self, "reduction_factor", 2)
        for key in ("seed", "num_parallel"):
            at_least("tune", self, key, 0)
        positive("tune", self, "stall_timeout_s")
        if not self.name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(
                f"tune.name is {self.name!r}; it names a folder: letters, digits, - and _"
            )

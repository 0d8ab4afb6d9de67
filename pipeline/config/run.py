"""Sections on how a run is carried out: guards, workers, tracking store."""

from dataclasses import dataclass

from pipeline.config.validators import at_least

_STORE_SCHEMES = ("sqlite:///", "http://", "https://", "postgresql", "mysql")


@dataclass(frozen=True, kw_only=True)
class HealthCheckConfig:
    """When a run is declared worthless."""

    enabled: bool = True
    """Off lets a collapsed run go on; its result is then worth nothing."""
    collapse_steps: int = 2
    """Consecutive steps with all signs of collapse before the run is stopped, at least 2."""
    no_signal_margin: float = 0.02
    """The last epoch's loss must be this share below the best constant predictor's."""

    def __post_init__(self) -> None:
        at_least("health_checks", self, "collapse_steps", 2)
        at_least("health_checks", self, "no_signal_margin", 0)


@dataclass(frozen=True, kw_only=True)
class ScalingConfig:
    """Workers; mirrors Ray Train's ScalingConfig."""

    num_workers: int = 1
    """DDP workers; 0 trains in the job's own process (no DDP, quick to start)."""
    use_gpu: bool = False
    """One GPU per worker; a missing one is an error, never silent CPU."""
    cpus_per_worker: float = 1.0
    """CPUs that Ray reserves per worker."""
    start_timeout_s: float = 120.0
    """How long to wait for the resources before the run fails; later in the run, for those of lost
    nodes, as long in all."""
    max_failures: int = 1
    """Worker restarts from the last checkpoint before the run fails."""

    def __post_init__(self) -> None:
        for key in ("num_workers", "max_failures"):
            at_least("scaling", self, key, 0)
        if not (self.cpus_per_worker > 0 and self.start_timeout_s > 0):
            raise ValueError("scaling.cpus_per_worker and scaling.start_timeout_s must be > 0")


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """MLflow."""

    uri: str = "sqlite:///mlflow.db"
    """Tracking store; sqlite for one host, an http(s) server for several."""
    experiment: str = "anovox"
    """Experiment name."""
    run_name: str = ""
    """Run name; empty = made from model and fusion."""
    system_metrics: bool = True
    """CPU, memory, disk and network use of the job's host, every 10 s."""

    def __post_init__(self) -> None:
        if not self.uri.startswith(_STORE_SCHEMES):
            raise ValueError(
                f"tracking.uri is {self.uri!r}; it takes a database or a server, "
                "e.g. sqlite:///mlflow.db or http://HOST:5000"
            )

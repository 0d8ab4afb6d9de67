"""One Ray per process: the running cluster where there is one, else a local one with safe settings.

Ray's servers listen on all interfaces, so token authentication is on, as `ray job submit` needs it
too. CPUs are logical: with fewer than four, training workers and data tasks starve each other and
wait for ever.
"""

import logging
import os
import sys

logger = logging.getLogger(__name__)
MIN_CPUS = 4


def ensure_ray(num_cpus: int | None = None, *, dashboard: bool = False) -> None:
    """Connect to Ray unless this process already is.

    Joins the cluster that RAY_ADDRESS names (set inside submitted jobs); otherwise starts a local
    one with `num_cpus` logical CPUs (default: this machine's, at least four). Tune needs the
    dashboard; it is bound to this machine.
    """
    _require_token()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's own default (15) lets any other process on the machine starve a training.
    os.environ.setdefault("RAY_worker_niceness", "0")
    import ray

    if ray.is_initialized():
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False, logging_level=logging.WARNING)
        return
    ray.init(
        # Not whatever cluster happens to run on this host: RAY_ADDRESS is how to ask for one.
        address="local",
        num_cpus=num_cpus or max(MIN_CPUS, os.cpu_count() or 1),
        include_dashboard=dashboard,
        dashboard_host="127.0.0.1",
        log_to_driver=False,
        logging_level=logging.WARNING,
    )


def _require_token() -> None:
    """Ray reads RAY_AUTH_MODE when it is imported; set later, its own processes disagree."""
    if "ray" not in sys.modules:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    elif "RAY_AUTH_MODE" not in os.environ:
        logger.warning(
            "ray was imported before RAY_AUTH_MODE was set, so its servers ask for no token; "
            "set RAY_AUTH_MODE=token in the environment"
        )

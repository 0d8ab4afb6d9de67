"""One Ray per process: the running cluster where there is one, else a local one with safe settings.

Ray's servers listen on all interfaces: a local Ray is therefore put on the loopback address, and
token authentication is on everywhere, as `ray job submit` needs it too. CPUs are logical: with
fewer than four, training workers and data tasks starve each other and wait for ever.
"""

import logging
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence

from pipeline.config.run import ScalingConfig
from pipeline.runtime.errors import RunFailed
from pipeline.runtime.signals import arm_again

logger = logging.getLogger(__name__)
MIN_CPUS = 4
LOOPBACK_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's switch for "this machine may be part of a cluster". Where it is off (Ray's default outside
of Linux) every server of a node binds to 127.0.0.1; giving 127.0.0.1 as the node's address alone
has no effect, Ray replaces it by an outside one."""


def ensure_ray(num_cpus: int | None = None, *, dashboard: bool = False) -> None:
    """Connect to Ray unless this process already is.

    Joins the cluster that RAY_ADDRESS names (set inside submitted jobs); otherwise starts a local
    one with `num_cpus` logical CPUs (default: this machine's, at least four). Tune needs the
    dashboard; it is bound to this machine.
    """
    _set_before_import("RAY_AUTH_MODE", "token", without="its servers ask for no token")
    if not os.environ.get("RAY_ADDRESS"):
        _set_before_import(LOOPBACK_SWITCH, "0", without="its servers listen on all interfaces")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's own default (15) lets any other process on the machine starve a training.
    os.environ.setdefault("RAY_worker_niceness", "0")
    import ray

    if ray.is_initialized():
        return
    _init(num_cpus, dashboard=dashboard)
    # Ray has put its own handler of SIGTERM before ours.
    arm_again()


def _init(num_cpus: int | None, *, dashboard: bool) -> None:
    import ray

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
        runtime_env=_interpreter(),
    )


def _interpreter() -> dict[str, str]:
    """The interpreter of workers with variables of their own, where a shell must not split its
    path: Ray starts them by a line of shell and leaves quoting to us."""
    quoted = shlex.quote(sys.executable)
    return {} if quoted == sys.executable else {"py_executable": quoted}


def worker_bundle(scaling: ScalingConfig) -> dict[str, float]:
    """What one worker takes of a node."""
    return {"CPU": scaling.cpus_per_worker} | ({"GPU": 1.0} if scaling.use_gpu else {})


def demand_room(scaling: ScalingConfig, *, beside: Sequence[Mapping[str, float]] = ()) -> None:
    """RunFailed unless all workers find room, with the bundles `beside` them.

    A cluster that grows gets `scaling.start_timeout_s` to do so: a request that waits for ever
    helps nobody.
    """
    worker = worker_bundle(scaling)
    bundles = [worker] * scaling.num_workers + [dict(bundle) for bundle in beside]
    have = gather_resources(bundles, timeout_s=scaling.start_timeout_s)
    for name in worker:
        amount = _sum(bundles)[name]
        if have.get(name, 0.0) < amount:
            raise RunFailed(
                f"scaling asks for {amount:g} {name} but the cluster has {have.get(name, 0.0):g}; "
                "lower scaling.num_workers or scaling.cpus_per_worker, or add nodes",
                reason="no_resources",
            )


def gather_resources(
    bundles: Sequence[Mapping[str, float]], *, timeout_s: float, poll_s: float = 1.0
) -> dict[str, float]:
    """What Ray has in all, at the latest after `timeout_s`, at once when it covers `bundles`.

    A cluster may grow, even from no GPU at all, so its autoscaler is asked for the bundles (what
    one worker needs, each); a local Ray is what it is.
    """
    import ray
    from ray.autoscaler.sdk import request_resources

    need = _sum(bundles)
    have: dict[str, float] = dict(ray.cluster_resources())
    if _covers(have, need) or not os.environ.get("RAY_ADDRESS"):
        return have
    logger.info("asking the cluster for %s, for at most %.0f s", need, timeout_s)
    request_resources(bundles=[dict(bundle) for bundle in bundles])
    try:
        end = time.monotonic() + timeout_s
        while not _covers(have, need) and time.monotonic() < end:
            time.sleep(poll_s)
            have = dict(ray.cluster_resources())
    finally:
        # Or the nodes would stay for ever.
        request_resources(bundles=[])
    return have


def _sum(bundles: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = {name for bundle in bundles for name in bundle}
    return {name: sum(bundle.get(name, 0.0) for bundle in bundles) for name in sorted(names)}


def _covers(have: Mapping[str, float], need: Mapping[str, float]) -> bool:
    return all(have.get(name, 0.0) >= amount for name, amount in need.items())


def _set_before_import(name: str, value: str, *, without: str) -> None:
    """Ray reads some variables when it is imported; set later, its own processes disagree."""
    if "ray" not in sys.modules:
        os.environ.setdefault(name, value)
    elif name not in os.environ:
        logger.warning(
            "ray was imported before %s was set, so %s; set %s=%s in the environment",
            name,
            without,
            name,
            value,
        )

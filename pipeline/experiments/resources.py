"""How many trainings fit beside each other, so that none waits for what another holds."""

import math
import os

from pipeline.config.schema import Config
from pipeline.runtime.errors import RunFailed
from pipeline.runtime.ray_cluster import gather_resources


def needs(config: Config) -> dict[str, float]:
    """What one training takes of the cluster: its workers, and a CPU for the tasks that read."""
    scaling, num = config.scaling, max(1, config.scaling.num_workers)
    reading = 1.0 if config.data.reader == "stream" else 0.0
    return {
        "CPU": scaling.cpus_per_worker * num + reading,
        "GPU": float(num * scaling.use_gpu),
    }


def num_fitting(config: Config, *, asked: int) -> int:
    """Trainings side by side: `asked`, or for 0 as many as fit.

    Physical CPUs of a local machine count for how many, logical ones for whether one fits at all.
    An autoscaling cluster gets `scaling.start_timeout_s` to grow. RunFailed when not even one, or
    not as many as were asked for, would ever start.
    """
    import ray

    need = {name: amount for name, amount in needs(config).items() if amount}
    have = gather_resources([need] * max(1, asked), timeout_s=config.scaling.start_timeout_s)
    fitting = {name: math.floor(have.get(name, 0.0) / amount) for name, amount in need.items()}
    name = min(fitting, key=lambda key: fitting[key])
    if fitting[name] < max(1, asked):
        many = f"{asked} trainings side by side need" if asked > 1 else "one training needs"
        fewer = "ask for fewer side by side, " if asked > 1 else ""
        raise RunFailed(
            f"{many} {need[name] * max(1, asked):g} {name} but the cluster has "
            f"{have.get(name, 0.0):g}; {fewer}lower scaling.num_workers or "
            "scaling.cpus_per_worker, or add nodes",
            reason="no_resources",
        )
    if asked:
        return asked
    if len(ray.nodes()) == 1:
        fitting["CPU"] = min(fitting["CPU"], int((os.cpu_count() or 1) / need["CPU"]))
    return max(1, min(fitting.values()))

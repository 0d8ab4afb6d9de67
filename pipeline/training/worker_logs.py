"""Forwards worker log lines to the driver."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.runtime.progress import Say
from pipeline.training.worker import Validated


@contextmanager
def printing(say: Say, validated: Validated = lambda history: None) -> Iterator[Any]:
    """A Ray queue whose lines go to `say`, and histories to `validated`, until the block ends.

    A training must not end because its progress lines cannot be told: the queue is kept on this
    node, and when its process dies it is started again, at most some lines poorer.
    """
    import ray
    from ray.util.queue import Queue
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    queue = Queue(
        actor_options={
            "num_cpus": 0,
            "max_restarts": -1,
            "max_task_retries": -1,
            "scheduling_strategy": here,
        }
    )
    done = threading.Event()
    thread = threading.Thread(target=_pump, args=(queue, say, validated, done), daemon=True)
    thread.start()
    try:
        yield queue
    finally:
        done.set()
        thread.join(timeout=5)
        # Asked to end by itself, an actor that Ray may restart makes it print a warning.
        queue.shutdown(force=True)


def _pump(queue: Any, say: Say, validated: Validated, done: threading.Event) -> None:
    from ray.util.queue import Empty

    while True:
        try:
            item = queue.get(timeout=0.5)
        except Empty:
            if done.is_set():
                return
            continue
        if isinstance(item, str):
            say(item)
        else:
            validated(item)

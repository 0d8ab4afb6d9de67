"""Progress lines of workers reach the driver, and never decide over a training."""

import os
import signal
import time
from typing import cast

from pipeline.training.worker_logs import printing


def wait_for(said: list[str], line: str) -> None:
    end = time.monotonic() + 60
    while line not in said:
        assert time.monotonic() < end, said
        time.sleep(0.05)


def test_lines_are_told_even_after_the_queue_s_process_has_died(ray_session: None):
    import ray

    said: list[str] = []
    with printing(said.append) as queue:
        queue.put("before", block=False)
        wait_for(said, "before")
        asked = queue.actor.__ray_call__.remote(lambda actor: os.getpid())
        os.kill(cast(int, ray.get(asked)), signal.SIGKILL)
        queue.put("after", block=False)
        wait_for(said, "after")

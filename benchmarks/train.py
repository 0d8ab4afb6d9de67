"""Whether training waits for its batches: `jobs.train`'s loop with the real reader and a mock one.

    python -m benchmarks.train --blocks PREPARED_FOLDER [--steps 60] [--rounds 5]
    python -m benchmarks.train --toy

The model sleeps in its forward pass, as a GPU would keep the host waiting, and scores with a single
parameter; loss, guards, optimizer and tracking are the loop's own. The mock reader hands out
batches that were assembled beforehand. Both sides alternate. First the step sleeps max(2 ms, twice
the CPU time of a batch), then ever shorter steps show down to which one the real reader keeps 0.97
of the mock's rate.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn

from benchmarks import figures
from benchmarks.toy import toy_config
from pipeline.config.load import flatten, merge
from pipeline.config.schema import Config
from pipeline.data.batch import Batch
from pipeline.data.prepare.prepare import find_blocks
from pipeline.models.scores import Scores
from pipeline.tracking import runs
from pipeline.training import loop
from pipeline.training.data_loop import BlockSteps
from pipeline.training.train_job import TrainJob
from pipeline.training.worker import single_worker

KEPT_BATCHES = 16
MIN_SLEEP_S = 0.002
GOOD = 0.97


class SleepingModel(nn.Module):
    """Takes a given time and no CPU: one parameter scores points and frames alike."""

    def __init__(self, sleep_s: float) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))
        self.sleep_s = sleep_s

    def forward(self, batch: Batch) -> Scores:
        time.sleep(self.sleep_s)
        return Scores(
            point_score=self.bias.expand(len(batch.points)),
            frame_score=self.bias.expand(batch.num_frames),
        )


class MockSteps(BlockSteps):
    """The same steps, with a few batches assembled once and handed out in turn."""

    def epoch(self, epoch: int, *, first_step: int) -> Iterator[Batch]:
        if not hasattr(self, "kept"):
            made = super().epoch(0, first_step=0)
            self.kept = list(itertools.islice(made, KEPT_BATCHES))
        steps = range(first_step, self.in_epoch(epoch))
        return (self.kept[step % len(self.kept)] for step in steps)


def rate(config: Config, blocks: Path, sleep_s: float, steps: type[BlockSteps]) -> float:
    """Steps per second of a training, its phases from data to tracking."""
    run_id = runs.start_run(config.tracking, name="benchmark", params=flatten(config), tags={})
    folder = Path(config.storage_path) / run_id
    folder.mkdir(parents=True)
    job = TrainJob(config=config, run_id=run_id, folder=folder, blocks=blocks, revision="benchmark")
    worker = single_worker(lambda line: None, use_gpu=False)
    with (
        mock.patch.object(loop, "build_detector", return_value=SleepingModel(sleep_s)),
        mock.patch.object(loop, "open_steps", steps),
        mock.patch.object(loop, "validate", return_value=({}, {})),
    ):
        training = loop.Training(worker, job)
        training.clock.skip()
        training.run()
        training.close()
    clock = training.clock
    return clock.num_steps / sum(clock.seconds.values())


def ratio(config: Config, blocks: Path, sleep_s: float, *, rounds: int) -> list[float]:
    """Rate with the real reader over that with the mock one, sides in turn, one warm-up."""
    rate(config, blocks, sleep_s, BlockSteps)
    found = []
    for number in range(rounds):
        sides = [BlockSteps, MockSteps][:: -1 if number % 2 else 1]
        rates = {side: rate(config, blocks, sleep_s, side) for side in sides}
        found.append(rates[BlockSteps] / rates[MockSteps])
    return found


def cpu_per_batch_s(config: Config, blocks: Path) -> float:
    """CPU seconds that the reader takes for a batch, without a thread beside it."""
    alone = merge(config, {"data": {"prefetch_batches": 0}})
    steps = BlockSteps(alone, blocks, single_worker(lambda line: None, use_gpu=False))
    for _ in steps.epoch(0, first_step=0):
        pass
    started_s, num = time.process_time(), 0
    for epoch in (1, 2, 3):
        num += sum(1 for _ in steps.epoch(epoch, first_step=0))
    steps.close()
    return (time.process_time() - started_s) / num


def measure(config: Config, blocks: Path, *, rounds: int) -> str:
    """The ratio at the step that issue and README name, and the shortest good step."""
    batch_s = cpu_per_batch_s(config, blocks)
    sleep_s = max(MIN_SLEEP_S, 2 * batch_s)
    found = ratio(config, blocks, sleep_s, rounds=rounds)
    lines = [
        f"train: {1000 * batch_s:.2f} ms CPU per batch; steps of {1000 * sleep_s:.2f} ms: real / "
        f"mock {statistics.median(found):.3f} ({min(found):.3f} to {max(found):.3f})"
    ]
    for factor in (4.0, 3.0, 2.0, 1.5, 1.0, 0.5):
        found = ratio(config, blocks, factor * batch_s, rounds=rounds)
        middle = statistics.median(found)
        lines.append(f"steps of {1000 * factor * batch_s:.2f} ms: {middle:.3f}")
        if middle < GOOD:
            break
    return "\n".join(lines)


def changes(place: Path, *, num_steps: int) -> dict[str, Any]:
    """Training's defaults, with as many steps and nothing kept of them."""
    return {
        "train": {"max_steps": num_steps, "num_epochs": num_steps, "precision": "fp32"},
        "health_checks": {"enabled": False},
        "scaling": {"num_workers": 0},
        "storage_path": str(place / "runs"),
        "tracking": {"uri": f"sqlite:///{place}/mlflow.db", "system_metrics": False},
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--blocks", type=Path, help="prepared folder")
    data.add_argument("--toy", action="store_true", help="a small world")
    parser.add_argument("--steps", type=int, default=60, help="steps of each training")
    parser.add_argument("--rounds", type=int, default=5, help="alternations of each comparison")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="train-benchmark-") as place:
        blocks = arguments.blocks or find_blocks(toy_config(Path(place)))
        config = merge(Config(), changes(Path(place), num_steps=arguments.steps))
        print(f"train: {figures.cpu()}, {figures.load()}", flush=True)
        print(measure(config, blocks, rounds=arguments.rounds))


if __name__ == "__main__":
    main()

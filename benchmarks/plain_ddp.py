"""The training of a config as a researcher would write it for torchrun: model, DDP, optimizer.

    torchrun --standalone --nproc-per-node 2 -m benchmarks.plain_ddp --config configs/demo.yaml \
        --steps 60 --every 20 [key=value ...]

No Ray, guards, MLflow, validation or checkpoints. Losses are means over a rank's own frames. All
batches are in memory before the first step, those that `jobs.train` has in the same steps: no
reader is quicker. Rank 0 prints the frames/s of each window of steps as JSON.
"""

import argparse
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.config.load import load
from pipeline.config.schema import Config
from pipeline.data.batch import Batch
from pipeline.data.prepare.prepare import find_blocks
from pipeline.losses.anomaly import loss_terms
from pipeline.losses.reduction import MIN_COUNT, Term
from pipeline.models.detector import build_detector
from pipeline.models.precision import autocast, choose_precision
from pipeline.training.data_loop import BlockSteps
from pipeline.training.optimizer import make_optimizer
from pipeline.training.schedule import learning_rate
from pipeline.training.worker import Worker, set_threads

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Ready:
    """What the steps are made of."""

    batches: list[Batch]
    """This rank's part of each step."""
    num_frames: list[int]
    """Of each step, over all ranks."""
    per_epoch: int
    prior: float
    pos_weight: float


def ready(config: Config, *, rank: int, world_size: int, num_steps: int) -> Ready:
    """Assemble this rank's part of the first steps."""
    worker = Worker(
        rank=rank,
        num_workers=world_size,
        device=CPU,
        barrier=lambda metrics: None,
        progress=lambda line: None,
    )
    steps = BlockSteps(config, find_blocks(config), worker)
    every = itertools.count()
    batches = itertools.chain.from_iterable(steps.epoch(e, first_step=0) for e in every)
    balance = steps.manifest.train_balance(needs_anomalies=True)
    found = Ready(
        batches=list(itertools.islice(batches, num_steps)),
        num_frames=list(itertools.islice(_sizes(steps), num_steps)),
        per_epoch=steps.in_epoch(0),
        prior=balance.prior,
        pos_weight=balance.pos_weight,
    )
    steps.close()
    return found


def _sizes(steps: BlockSteps) -> Iterator[int]:
    """Frames of every step, epoch after epoch."""
    for epoch in itertools.count():
        yield from (steps.num_frames(epoch, step) for step in range(steps.in_epoch(epoch)))


def train(
    config: Config, data: Ready, *, world_size: int, every: int, say: Callable[[float], None]
) -> nn.Module:
    """Take the steps; `say` is told the frames/s of each window of `every` steps."""
    torch.manual_seed(config.train.seed)
    model = build_detector(config.model, prior=data.prior)
    wrapped: nn.Module = DistributedDataParallel(model) if world_size > 1 else model
    wrapped.train()
    optimizer = make_optimizer(model, config)
    precision = choose_precision(config.train.precision, key="train.precision", device=CPU).name
    started_s, frames = time.perf_counter(), 0
    for step, (batch, size) in enumerate(zip(data.batches, data.num_frames, strict=True)):
        lr = learning_rate(
            config.train, step=step, num_steps=len(data.batches), per_epoch=data.per_epoch
        )
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad(set_to_none=True)
        with autocast(precision, CPU):
            scores = wrapped(batch)
        terms = loss_terms(scores, batch, config=config.loss, pos_weight=data.pos_weight)
        own_mean(terms).backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.train.grad_clip, foreach=True)
        optimizer.step()
        frames += size
        if (step + 1) % every == 0:
            say(frames / (time.perf_counter() - started_s))
            started_s, frames = time.perf_counter(), 0
    return model


def own_mean(terms: dict[str, Term]) -> Tensor:
    """The loss over this rank's own points and frames."""
    parts = [term.weight * term.total / term.count.clamp(min=MIN_COUNT) for term in terms.values()]
    return torch.stack(parts).sum()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--every", type=int, required=True)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_args()
    config = load(arguments.config, arguments.overrides)
    set_threads(config.train.num_threads)
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    distributed.init_process_group("gloo")
    data = ready(config, rank=rank, world_size=world_size, num_steps=arguments.steps)
    distributed.barrier()
    rates: list[float] = []
    train(config, data, world_size=world_size, every=arguments.every, say=rates.append)
    if rank == 0:
        print(json.dumps(rates), flush=True)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()

"""What a network costs on given frames: parameters, frames/s, latency, memory.

Frames are read and moved before the clock starts: this is the network and its loss alone, without
reading, optimizer and validation.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from pipeline.config.schema import Config, ProfileConfig
from pipeline.data.batch import Batch
from pipeline.data.block_reader import BlockReader
from pipeline.data.prepare.prepare import find_blocks
from pipeline.data.readers import open_reader, training_extras
from pipeline.losses.anomaly import loss_terms
from pipeline.losses.reduction import MIN_COUNT
from pipeline.models.detector import build_detector
from pipeline.models.precision import Choice, autocast, choose_precision
from pipeline.training.worker import Worker, set_threads

SPLIT = "val"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The network of one row, on the CPU between its turns, and what it is timed on."""

    name: str
    config: Config
    model: nn.Module
    reader: BlockReader
    rows: list[int]
    """Rows of the split, evenly spread."""
    pos_weight: float
    precision: Choice
    """What `train.precision` means on the device that times it."""

    @property
    def num_parameters(self) -> int:
        """All of them."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def num_trained(self) -> int:
        """Those that training changes."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What one turn of a row took; nan for what was not measured."""

    forward_s: float
    """All batches, without gradients."""
    training_s: float
    """All batches: forward, loss and backward."""
    latency_s: list[float]
    """Every frame by itself, without gradients."""
    peak_memory_gb: float
    """Highest `torch.cuda.max_memory_allocated`, weights and gradients included, in 2^30 bytes. nan
    on a CPU, where memory that other rows have freed stays with the process."""


def make_subject(
    name: str, config: Config, profile: ProfileConfig, *, device: torch.device
) -> Subject:
    """The row's network as its training would begin, without pretrained weights: they cost nothing.

    Raises ValueError when the split holds fewer frames than are to be timed.
    """
    reader = open_reader(
        config,
        find_blocks(config),
        SPLIT,
        num_sweeps=config.data.num_sweeps,
        say=lambda _: None,
        extras=training_extras(config),
    )
    if reader.num_rows < profile.num_frames:
        raise ValueError(
            f"profile.num_frames is {profile.num_frames} but split {SPLIT} holds "
            f"{reader.num_rows} frames; lower it, or prepare more scenes"
        )
    needs_anomalies = config.loss.name != "cross_entropy"
    balance = reader.manifest.train_balance(needs_anomalies=needs_anomalies)
    torch.manual_seed(config.train.seed)
    model = build_detector(
        config.model,
        prior=balance.prior,
        num_classes=len(reader.manifest.dataset.classes.semantic_names),
        num_sweeps=config.data.num_sweeps,
        fetch_weights=False,
        mixing=config.outliers.feature_mixing,
        sparse_backend=config.train.sparse_backend,
    )
    return Subject(
        name=name,
        config=config,
        model=model,
        reader=reader,
        rows=np.linspace(0, reader.num_rows - 1, profile.num_frames).round().astype(int).tolist(),
        pos_weight=balance.pos_weight,
        precision=choose_precision(config.train.precision, key="train.precision", device=device),
    )


def take_turn(subject: Subject, worker: Worker, profile: ProfileConfig) -> Turn:
    """Time the row once on all its frames, on the worker's device, alone there."""
    set_threads(subject.config.train.num_threads)
    subject.model.to(worker.device)
    batches = _batches(subject, profile.batch_size)
    singles = _batches(subject, 1)
    is_cuda = worker.device.type == "cuda"
    if is_cuda:
        torch.cuda.reset_peak_memory_stats(worker.device)
    try:
        forward = _timed(subject, worker, batches, score, num_warmup=profile.num_warmup)
        latency = _timed(subject, worker, singles, score, num_warmup=profile.num_warmup)
        training = [math.nan]
        if profile.backward:
            training = _timed(subject, worker, batches, learn, num_warmup=profile.num_warmup)
        peak = torch.cuda.max_memory_allocated(worker.device) / 2**30 if is_cuda else math.nan
    finally:
        subject.model.zero_grad(set_to_none=True)
        subject.model.to("cpu")
    return Turn(
        forward_s=sum(forward), training_s=sum(training), latency_s=latency, peak_memory_gb=peak
    )


def _batches(subject: Subject, size: int) -> list[Batch]:
    rows = subject.rows
    parts = [rows[first : first + size] for first in range(0, len(rows), size)]
    return [subject.reader.batch(part, augment_seed=None) for part in parts]


def _timed(
    subject: Subject,
    worker: Worker,
    batches: Sequence[Batch],
    work: Callable[[Subject, Worker, Batch], None],
    *,
    num_warmup: int,
) -> list[float]:
    """Seconds of `work` on each batch."""
    for number in range(num_warmup):
        work(subject, worker, batches[number % len(batches)].to(worker.device))
    seconds = []
    for batch in batches:
        batch = batch.to(worker.device)
        _settle(worker)
        started = time.perf_counter()
        work(subject, worker, batch)
        _settle(worker)
        seconds.append(time.perf_counter() - started)
    return seconds


def _settle(worker: Worker) -> None:
    """A GPU is asked to work and the call returns at once; wait for it."""
    if worker.device.type == "cuda":
        torch.cuda.synchronize(worker.device)


@torch.no_grad()
def score(subject: Subject, worker: Worker, batch: Batch) -> None:
    """The forward pass as in evaluation."""
    subject.model.eval()
    with autocast(subject.precision.name, worker.device):
        subject.model(batch)


def learn(subject: Subject, worker: Worker, batch: Batch) -> None:
    """Forward, loss and backward as in training; gradients are left in the model."""
    config = subject.config
    subject.model.train()
    subject.model.zero_grad(set_to_none=True)
    with autocast(subject.precision.name, worker.device):
        scores = subject.model(batch)
    terms = loss_terms(
        scores,
        batch.without_past(),
        config=config.loss,
        pos_weight=subject.pos_weight,
        # That of cells would weigh them otherwise, in the same time.
        pixel_pos_weight=subject.pos_weight,
        score=config.model.score,
        with_outliers=config.outliers.any,
    )
    shares = [t.weight * t.total / t.count.clamp(min=MIN_COUNT) for t in terms.values()]
    torch.stack(shares).sum().backward()

"""One process of a training: its rank, its device, and sums over all ranks.

The loop sees only this record, so it runs the same inside Ray Train and in the caller's process.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.models.precision import Ranks
from pipeline.runtime.progress import Say

Validated = Callable[[list[dict[str, float]]], None]


@dataclass(frozen=True, kw_only=True)
class Worker:
    """Rank, world size and device of this process."""

    rank: int
    num_workers: int
    device: torch.device
    barrier: Callable[[dict[str, float]], None]
    """Called by every rank at the end of each epoch, with that epoch's metrics."""
    progress: Say
    """Takes rank 0's progress lines."""
    validated: Validated = lambda history: None
    """Called on rank 0 after each validation but the last, when its checkpoint is written, with the
    history so far; a SystemExit that it raises ends the training."""

    def sum(self, values: Tensor) -> Tensor:
        """Elementwise sum over all ranks; every rank must call it."""
        if self.num_workers > 1:
            distributed.all_reduce(values)
        return values

    @property
    def ranks(self) -> Ranks:
        """What all ranks agree through."""
        return Ranks(rank=self.rank, number=self.num_workers, add=self.sum)

    def wrap(self, model: nn.Module) -> nn.Module:
        """DDP when there are several ranks: gradients are averaged over them."""
        model = model.to(self.device)
        if self.num_workers == 1:
            return model
        ids = [self.device.index] if self.device.type == "cuda" else None
        # The models have no buffers that change (GroupNorm, frozen BatchNorm): nothing to sync.
        return DistributedDataParallel(
            model, device_ids=ids, broadcast_buffers=False, gradient_as_bucket_view=True
        )


def single_worker(
    progress: Say, *, use_gpu: bool, validated: Validated = lambda history: None
) -> Worker:
    """The only worker, in the caller's process (`scaling.num_workers=0`)."""
    if use_gpu and not torch.cuda.is_available():
        raise ValueError(
            "scaling.use_gpu=true but torch sees no CUDA device; install a driver or set "
            "scaling.use_gpu=false"
        )
    device = torch.device("cuda" if use_gpu else "cpu")
    return Worker(
        rank=0,
        num_workers=1,
        device=device,
        barrier=lambda metrics: None,
        progress=progress,
        validated=validated,
    )


def set_threads(num_threads: int) -> None:
    """Threads of torch and of the libraries under it, for this process."""
    os.environ["OMP_NUM_THREADS"] = str(num_threads)
    torch.set_num_threads(num_threads)

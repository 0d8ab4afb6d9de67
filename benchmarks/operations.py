"""How many operations a training step asks of its device, and how often it waits for it.

    python -m benchmarks.operations [--config configs/demo.yaml configs/full.yaml]
        [--code CHECKOUT] [--blocks PREPARED] [KEY=VALUE ...]

The first steps of a real training in this process, on the CPU. One step is counted as the program
dispatches it: every ATen operation that is no view costs a kernel on a GPU, and everything that
needs a value of the device on the host makes the host wait there, though not here. The steps after
it are timed. `--code` counts another state of the program, so that two states are counted by one
script; `--blocks` trains on a prepared folder instead of on a few synthetic scenes. Prints one JSON
line per config.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.helpers.repository import REPOSITORY

CONFIGS = (REPOSITORY / "configs/demo.yaml", REPOSITORY / "configs/full.yaml")
COUNTED = 2
"""The third step: the first ones make the optimizer's state and warm up."""
WAITS = {
    "aten._local_scalar_dense",
    "aten.nonzero",
    "aten.unique_dim",
    "aten._unique2",
    "aten.unique_consecutive",
    "aten.masked_select",
    "aten.bincount",
    "aten.is_nonzero",
    "aten.equal",
}
"""Whose result, or its size, the host must know."""
MASKED = {"aten.index", "aten.index_put", "aten.index_put_", "aten._index_put_impl_"}
"""Wait where an index is a mask."""
COPIES = {"tolist", "cpu", "tensor", "as_tensor", "new_tensor"}
"""Calls of torch that copy from or to the host; `numpy` reads what lies there and is none."""
PHASES = ("forward", "backward", "optimizer", "rest")
SMALL = [
    "synthetic.num_scenes=16",
    "synthetic.num_frames=2",
    "synthetic.image_width=384",
    "synthetic.image_height=256",
    "synthetic.num_channels=32",
    "synthetic.points_per_second=250000",
    "prepare.image_width=384",
    "prepare.val_fraction=0.25",
    "prepare.test_fraction=0.25",
    "prepare.split_seed=11",
    "prepare.min_anomaly_pixels=1",
    "model.image_weights=none",
    "train.num_threads=1",
    "scaling.num_workers=0",
    "scaling.use_gpu=false",
    "health_checks.no_signal_margin=0",
    "tracking.system_metrics=false",
]


class OperationCounter(TorchDispatchMode):
    """Counts operations that are no views, and those that wait, by phase of the step."""

    def __init__(self) -> None:
        super().__init__()
        self.phase = "forward"
        self.operations: Counter[tuple[str, str]] = Counter()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        name = str(func.overloadpacket)
        if not func.is_view:
            self.operations[self.phase, name] += 1
        if name in WAITS or (name in MASKED and any(map(is_mask, args[1]))):
            self.waits[name] += 1
        return func(*args, **(kwargs or {}))

    def during(self, phase: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, its operations counted as those of `phase` and what follows as the rest's."""

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.phase = phase
            try:
                return call(*args, **kwargs)
            finally:
                self.phase = "rest"

        return counted


class CopyCounter(TorchFunctionMode):
    """Counts calls that copy from or to the host, which do nothing special on a CPU."""

    def __init__(self, waits: Counter[str]) -> None:
        super().__init__()
        self.waits = waits

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in COPIES:
            self.waits[f"torch.{name}"] += 1
        return func(*args, **(kwargs or {}))


def is_mask(index: Any) -> bool:
    """Whether an index picks rows by true and false."""
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)


class EnoughError(Exception):
    """Ends a training whose steps are counted and timed."""


class Watched:
    """`Training._step` of the program that is imported: one step counted, the later ones timed."""

    def __init__(self, step: Callable[..., None], *, num_steps: int) -> None:
        self.step, self.num_steps, self.counter = step, num_steps, OperationCounter()
        self.seconds: list[float] = []

    def __call__(self, training: Any, batch: Any) -> None:
        """Do what the step does."""
        if training.position.step >= self.num_steps:
            raise EnoughError
        if training.position.step == COUNTED:
            self._count(training, batch)
            return
        started = time.process_time()
        self.step(training, batch)
        if training.position.step > COUNTED:
            self.seconds.append(time.process_time() - started)

    def _count(self, training: Any, batch: Any) -> None:
        counter, backward, update = self.counter, Tensor.backward, training.optimizer.step
        Tensor.backward = counter.during("backward", backward)
        training.optimizer.step = counter.during("optimizer", update)
        try:
            with counter, CopyCounter(counter.waits):
                self.step(training, batch)
        finally:
            Tensor.backward, training.optimizer.step = backward, update


def count(
    path: Path, folder: Path, blocks: Path | None, *, overrides: list[str], num_steps: int
) -> dict[str, Any]:
    """Operations, waits and CPU time of a step of this config's training, in `folder`."""
    from pipeline.config.load import load, override
    from pipeline.training import loop
    from pipeline.training.trainer import fit

    places = [
        f"data.root={folder}/anovox",
        f"data.blocks={blocks or folder / 'blocks'}",
        f"storage_path={folder}/runs",
        f"tracking.uri=sqlite:///{folder}/mlflow.db",
        f"train.num_epochs={num_steps + 1}",
        f"train.validate_every_n_epochs={num_steps + 1}",
    ]
    config = override(load(path), [*SMALL, *places, *overrides])
    if blocks is None:
        make_shards(config, folder)
    step = loop.Training._step
    watched = Watched(step, num_steps=num_steps)
    loop.Training._step = lambda self, batch: watched(self, batch)
    try:
        fit(config, say=lambda line: None)
    except EnoughError:
        pass
    finally:
        loop.Training._step = step
    return figures(path, watched)


def make_shards(config: Any, folder: Path) -> None:
    """Scenes and their shards, where another config has not made them already."""
    if (folder / "blocks").exists():
        return
    from pipeline.data.prepare.prepare import prepare
    from pipeline.synthetic.writer import write_archives

    write_archives(config.synthetic, folder / "anovox", None)
    prepare(config, lambda done, total: None)


def figures(path: Path, watched: Watched) -> dict[str, Any]:
    """What was counted, as one JSON object."""
    operations = watched.counter.operations
    by_name = Counter[str]()
    for (_, name), number in operations.items():
        by_name[name] += number
    per_phase = {
        phase: sum(n for (p, _), n in operations.items() if p == phase) for phase in PHASES
    }
    return {
        "config": path.stem,
        "operations": sum(operations.values()),
        "per_phase": per_phase,
        "waits": sum(watched.counter.waits.values()),
        "waits_by_name": dict(watched.counter.waits.most_common()),
        "cpu_ms_per_step": round(1000 * statistics.median(watched.seconds), 1),
        "cpu_ms_least": round(1000 * min(watched.seconds), 1),
        "most_frequent": dict(by_name.most_common(16)),
    }


def main() -> None:
    """Print one JSON line per config."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, nargs="+", default=CONFIGS)
    parser.add_argument("--code", type=Path, default=REPOSITORY)
    parser.add_argument("--blocks", type=Path)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE of every config")
    arguments = parser.parse_args()
    code = str(arguments.code.resolve())
    # For Ray's workers too, which prepare the scenes.
    sys.path.insert(0, code)
    os.environ["PYTHONPATH"] = code
    with tempfile.TemporaryDirectory() as folder:
        for path in arguments.config:
            found = count(
                path,
                Path(folder),
                arguments.blocks,
                overrides=arguments.overrides,
                num_steps=arguments.steps,
            )
            print(json.dumps({"code": code} | found), flush=True)


if __name__ == "__main__":
    main()

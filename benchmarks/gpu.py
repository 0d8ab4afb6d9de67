"""Every figure of a GPU that this project wants, in one table.

    python -m benchmarks.gpu [--out gpu-benchmark] [--steps 40] [--cpu]

Under 8 minutes on one GPU (an estimate: none has run it yet). Trains each config of `CONFIGS` for
a few steps as `jobs.train` does it, on synthetic scenes of its own sensors, and the full detector
once more for each setting of `VARIANTS`. Figures are of the second half of the steps:

frames/s, step ms  of optimizer steps, data included
data wait          share of that time in which a step waits for its batch
GPU idle           share of the profiled steps in which no kernel runs
memory GB          highest torch.cuda.max_memory_allocated, in 2^30 bytes
top kernels        the three that take most of the GPU's time, with their shares

`table.md`, `table.csv` and a torch profiler trace per row lie in the folder that --out names. On a
CPU (--cpu) rows that need CUDA are left out and what only a GPU has stays empty.
"""

import argparse
import gc
import json
import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from pipeline.config.load import load, merge, override
from pipeline.config.schema import Config
from pipeline.data.prepare.prepare import prepare
from pipeline.synthetic.writer import write_archives
from pipeline.tracking import runs
from pipeline.training.timing import TRACE
from pipeline.training.trainer import Trained, fit
from pipeline.visualization.tables import aligned

CONFIGS = ("demo", "full_tiny", "normality", "dynamic", "full")
VARIANTS = {
    "fp32": ["train.precision=fp32"],
    "bf16": ["train.precision=bf16"],
    "compiled": ["train.compile=true"],
    "spconv": ["train.sparse_backend=spconv"],
}
NEEDS_CUDA = ("compiled", "spconv")
PROFILED_STEPS = 6
NUM_SCENES = 64
"""Enough that every split holds both classes, and quick to write."""
SHORT = {
    "train": {"num_epochs": 10_000, "validate_every_n_epochs": 10_000},
    "health_checks": {"enabled": False},
    "model": {"image_weights": "none"},
}
"""Image weights are random here: they change no cost."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One training; nan and empty texts for what was not measured."""

    name: str
    precision: str
    frames_per_s: float
    step_ms: float
    data_wait: float
    gpu_idle: float
    memory_gb: float
    top_kernels: str


HEADER = tuple(field.name for field in fields(Row))


@dataclass(frozen=True, kw_only=True)
class Kernels:
    """What a profiler's trace says of the GPU."""

    idle: float
    """Share of the span from the first kernel to the end of the last; nan without kernels."""
    top: list[tuple[str, float]]
    """Names and shares of the kernels' time, longest first."""


def kernels_of(trace: Path, *, num_top: int = 3) -> Kernels:
    """Kernels of a chrome trace; those that run beside each other count once for `idle`."""
    events = json.loads(trace.read_text())["traceEvents"]
    kernels = [event for event in events if event.get("cat") == "kernel"]
    if not kernels:
        return Kernels(idle=math.nan, top=[])
    spans = sorted((event["ts"], event["ts"] + event["dur"]) for event in kernels)
    busy, end = 0.0, spans[0][0]
    for start, stop in spans:
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    times: Counter[str] = Counter()
    for event in kernels:
        times[event["name"]] += event["dur"]
    total = times.total()
    top = [(name, spent / total) for name, spent in times.most_common(num_top)]
    return Kernels(idle=1 - busy / (end - spans[0][0]), top=top)


def rows_of(names: Sequence[str], *, on_gpu: bool) -> dict[str, tuple[str, list[str]]]:
    """By row name: config and overrides. The variants are of the last config."""
    rows = {name: (name, []) for name in names}
    for variant, changes in VARIANTS.items():
        if variant in NEEDS_CUDA and not on_gpu:
            continue
        if variant == "spconv" and find_spec("spconv") is None:
            continue
        rows[f"{names[-1]} {variant}"] = (names[-1], changes)
    return rows


def config_of(
    name: str, changes: Sequence[str], place: Path, *, num_steps: int, smaller: Mapping[str, Any]
) -> Config:
    """The config, short, in the job's process, with world and runs under `place`."""
    world = place / "worlds" / name
    own: dict[str, Any] = {
        "data": {"root": str(world / "anovox"), "blocks": str(world / "blocks")},
        "synthetic": {"num_scenes": NUM_SCENES, "num_processes": os.cpu_count() or 1},
        "storage_path": str(place / "runs"),
        "tracking": {"uri": f"sqlite:///{place}/mlflow.db", "system_metrics": False},
        "train": {
            "max_steps": num_steps,
            "log_every_n_steps": num_steps // 2,
            "profile_steps": PROFILED_STEPS,
        },
        "scaling": {"num_workers": 0, "use_gpu": torch.cuda.is_available()},
    }
    known = load(Path(__file__).parent.parent / f"configs/{name}.yaml")
    if "dynamic" not in known.synthetic.kinds:
        own["synthetic"]["num_frames"] = 2
    return override(merge(known, SHORT, own, smaller), changes)


def measure(name: str, config: Config, out: Path) -> Row:
    """Train the row; its world is made where it is not there yet."""
    write_archives(config.synthetic, Path(config.data.root), None)
    prepare(config, lambda done, total: None)
    on_gpu = config.scaling.use_gpu
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    trained = fit(config, say=lambda line: None)
    memory_gb = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else math.nan
    trace = (trained.folder / TRACE).rename(out / f"{name.replace(' ', '-')}.json")
    kernels = kernels_of(trace)
    _forget()
    return Row(
        name=name,
        precision=runs.read_param(config.tracking, trained.run_id, "precision"),
        frames_per_s=_last(config, trained, "perf/frames_per_s"),
        step_ms=_last(config, trained, "perf/step_ms"),
        data_wait=_last(config, trained, "perf/data_wait_share"),
        gpu_idle=kernels.idle,
        memory_gb=memory_gb,
        top_kernels="; ".join(f"{kernel[:60]} {share:.0%}" for kernel, share in kernels.top),
    )


def _forget() -> None:
    """A training's memory must not count for the next one."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _last(config: Config, trained: Trained, key: str) -> float:
    return runs.read_history(config.tracking, trained.run_id, key)[-1][1]


def markdown(rows: Iterable[Row]) -> str:
    """The table; what was not measured stays empty."""
    return aligned(HEADER, [[_shown(getattr(row, name)) for name in HEADER] for row in rows])


def _shown(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return "" if math.isnan(value) else f"{value:.3g}"


def device_line() -> str:
    """What the figures are of."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return f"{device}, torch {torch.__version__}; synthetic data"


def run(
    names: Sequence[str], out: Path, *, num_steps: int, smaller: Mapping[str, Any] | None = None
) -> list[Row]:
    """Measure every row, print it as it comes, and write the table after each."""
    out.mkdir(parents=True, exist_ok=True)
    found: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="gpu-benchmark-") as place:
        for row, (name, changes) in rows_of(names, on_gpu=torch.cuda.is_available()).items():
            config = config_of(
                name, changes, Path(place), num_steps=num_steps, smaller=smaller or {}
            )
            found.append(measure(row, config, out))
            print(found[-1], flush=True)
            (out / "table.md").write_text(f"{device_line()}\n\n{markdown(found)}\n")
            pd.DataFrame(found).to_csv(out / "table.csv", index=False)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("gpu-benchmark"))
    parser.add_argument("--steps", type=int, default=40, help="optimizer steps of each training")
    parser.add_argument("--cpu", action="store_true", help="run although there is no GPU")
    arguments = parser.parse_args()
    if not (torch.cuda.is_available() or arguments.cpu):
        parser.error("torch sees no CUDA device; install a driver, or set --cpu to run it anyway")
    rows = run(CONFIGS, arguments.out, num_steps=arguments.steps)
    print(f"\n{device_line()}\n\n{markdown(rows)}")


if __name__ == "__main__":
    main()

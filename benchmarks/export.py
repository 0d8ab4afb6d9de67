"""What torch.export costs and gives on one full-size synthetic frame.

    python -m benchmarks.export [--rounds 5]

The default detector and the full one of configs/full.yaml (random weights in place of ImageNet's):
CPU seconds of one thread to export, to write and to load, size of the file, and the time of a frame
in the model and in the loaded program, measured in turns. CPU time, because it is the same on a
machine that has other work.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from benchmarks.full import CONFIG
from benchmarks.full_frame import full_frame
from pipeline.config.load import load
from pipeline.config.schema import Config
from pipeline.data.batch import Batch
from pipeline.export.program import (
    export_detector,
    inputs_of,
    largest_differences,
    outputs_of,
    save_program,
)
from pipeline.models.detector import build_detector

Found = TypeVar("Found")


def main() -> None:
    """Print one JSON line per detector."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    frame = full_frame()
    configs = {"default": Config(), "full": load(CONFIG, ["model.image_weights=none"])}
    for name, config in configs.items():
        print(json.dumps({"detector": name} | measure(config, frame, rounds=rounds)), flush=True)


def measure(config: Config, frame: Batch, *, rounds: int) -> dict[str, Any]:
    """Cost of one export, and median milliseconds of a frame after one that is not counted."""
    torch.manual_seed(0)
    model = build_detector(config.model, prior=1e-3).eval()
    height, width = frame.image.shape[2:]
    program, export_s = timed(
        lambda: export_detector(model, image_size=(height, width), num_columns=4)
    )
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "detector.pt2"
        _, save_s = timed(lambda: save_program(program, file))
        size = file.stat().st_size
        loaded, load_s = timed(lambda: torch.export.load(file).module())
    times: dict[str, list[float]] = {"model_ms": [], "program_ms": []}
    differences: dict[str, float] = {}
    with torch.no_grad():
        for _ in range(1 + rounds):
            ours, model_s = timed(lambda: outputs_of(model(frame)))
            theirs, program_s = timed(lambda: loaded(**inputs_of(frame)))
            times["model_ms"].append(1000 * model_s)
            times["program_ms"].append(1000 * program_s)
            differences = largest_differences(ours, theirs)
    return {
        "points": len(frame.points),
        "export_s": round(export_s, 1),
        "save_s": round(save_s, 1),
        "load_s": round(load_s, 1),
        "size_mb": round(size / 1e6, 1),
        **{name: round(statistics.median(values[1:]), 1) for name, values in times.items()},
        "differences": differences,
    }


def timed(call: Callable[[], Found]) -> tuple[Found, float]:
    """What the call gives, and its CPU seconds."""
    started = time.process_time()
    found = call()
    return found, time.process_time() - started


if __name__ == "__main__":
    main()

"""What the full detector of configs/full.yaml costs on one full-size synthetic frame.

    python -m benchmarks.full [--steps 3] [--gpu]

Forward and backward of one frame: seconds per step and peak memory, in fp32 and in bf16; on a GPU
`max_memory_allocated` and the share of time of camera, LiDAR and the rest too. Image weights are
random here: they change no cost.
"""

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.full_frame import full_frame
from pipeline.config.load import load
from pipeline.data.batch import Batch
from pipeline.losses.anomaly import loss_terms
from pipeline.models.detector import build_detector

CONFIG = Path(__file__).parent.parent / "configs/full.yaml"
PARTS = ("camera", "lidar", "fusion", "head")


def main() -> None:
    """Print one JSON line per precision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--gpu", action="store_true")
    arguments = parser.parse_args()
    batch = full_frame().to("cuda" if arguments.gpu else "cpu")
    for precision in ("fp32", "bf16"):
        print(json.dumps(measure(batch, precision, steps=arguments.steps)), flush=True)


def measure(batch: Batch, precision: str, *, steps: int) -> dict[str, Any]:
    """Cost of `steps` steps after one that is not counted."""
    device = batch.points.device
    config = load(CONFIG, ["model.image_weights=none"])
    torch.manual_seed(0)
    model = build_detector(config.model, prior=1e-3).to(device)
    spent: dict[str, float] = dict.fromkeys(PARTS, 0.0)
    for part in PARTS:
        watch(getattr(model, part), part, spent, device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            scores = model(batch)
        terms = loss_terms(scores, batch, config=config.loss, pos_weight=999.0)
        torch.stack([term.total for term in terms.values()]).sum().backward()
        settle(device)

    step()
    spent.update(dict.fromkeys(PARTS, 0.0))
    started = time.perf_counter()
    for _ in range(steps):
        step()
    seconds = (time.perf_counter() - started) / steps
    found = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "precision": precision,
        "points": len(batch.points),
        "parameters": sum(p.numel() for p in model.parameters()),
        "s_per_step": round(seconds, 3),
        "forward_s": {part: round(total / steps, 3) for part, total in spent.items()},
        # Linux counts the peak resident set in kilobytes.
        "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }
    if device.type == "cuda":
        found["max_memory_allocated_gb"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return found


def watch(
    module: torch.nn.Module, part: str, spent: dict[str, float], device: torch.device
) -> None:
    """Add the module's forward seconds to `spent[part]`."""
    starts: list[float] = []

    def before(*_: Any) -> None:
        settle(device)
        starts.append(time.perf_counter())

    def after(*_: Any) -> None:
        settle(device)
        spent[part] += time.perf_counter() - starts.pop()

    module.register_forward_pre_hook(before)
    module.register_forward_hook(after)


def settle(device: torch.device) -> None:
    """Wait for the GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()

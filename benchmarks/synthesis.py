"""How fast the synthetic writer is, PNG and NPY files and the start of its processes included.

    python -m benchmarks.synthesis [key=value ...]

Keys are the config's `synthetic.*` keys without that prefix, e.g. image_width=384. Every kind and
every sensor set is timed, or only what is asked for if `kinds` or `sensor_set` is among the keys.
The archives go to a temporary folder below the working folder. CPU time is printed beside frames/s
because it does not suffer from other work on the machine.
"""

import json
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pipeline.config.load import load
from pipeline.synthetic.sensors import SENSOR_SETS
from pipeline.synthetic.writer import write_archives

DEFAULTS = ("num_scenes=8", "num_frames=30", "num_processes=2")
CASES = (
    *(("kinds=[normality]",), ("kinds=[static]",), ("kinds=[normality,dynamic]",)),
    *((f"sensor_set={name}", "num_scenes=2") for name in SENSOR_SETS if name != "Mono"),
)
"""Normality beside dynamic scenes also has its gentle half."""


def main(overrides: list[str]) -> None:
    """Write scenes of every kind and with every sensor set; print one JSON line for each."""
    chosen = any(text.startswith(("kinds=", "sensor_set=")) for text in overrides)
    for case in [()] if chosen else CASES:
        print(json.dumps(measure([*DEFAULTS, *case, *overrides])), flush=True)


def measure(overrides: list[str]) -> dict[str, Any]:
    """Write one world and time it; a view is one pose of one frame."""
    config = load(None, [f"synthetic.{text}" for text in overrides]).synthetic
    cpu_before_s = _cpu_s()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as root:
        start = time.perf_counter()
        counts = write_archives(config, Path(root))
        elapsed_s = time.perf_counter() - start
        num_bytes = sum(p.stat().st_size for p in Path(root).rglob("*") if p.is_file())
    num_frames, num_poses = counts["num_frames"], len(SENSOR_SETS[config.sensor_set])
    cpu_s = _cpu_s() - cpu_before_s
    return {
        "kinds": config.kinds,
        "sensor_set": config.sensor_set,
        "settings": overrides,
        "num_frames": num_frames,
        "frames_per_s": round(num_frames / elapsed_s, 2),
        "views_per_s": round(num_frames * num_poses / elapsed_s, 2),
        "cpu_s_per_frame": round(cpu_s / num_frames, 4),
        "cpu_s_per_view": round(cpu_s / num_frames / num_poses, 4),
        "bytes_per_frame": num_bytes // num_frames,
    }


def _cpu_s() -> float:
    """Of this process and of the writers, once these have ended."""
    for writer in multiprocessing.active_children():
        writer.join()
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    main(sys.argv[1:])

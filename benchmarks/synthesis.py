"""How fast the synthetic writer is, PNG and NPY files and the start of its processes included.

    python -m benchmarks.synthesis [key=value ...]

Keys are the config's `synthetic.*` keys without that prefix, e.g. image_width=384. The archives go
to a temporary folder below the working folder. CPU time per frame is printed beside frames/s
because it does not suffer from other work on the machine.
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from pipeline.anovox.synthetic.writer import write_archives
from pipeline.merging import load


def main(overrides: list[str]) -> None:
    """Write scenes once and print one JSON line."""
    defaults = ["num_scenes=8", "num_frames=30", "num_processes=2"]
    settings = [f"synthetic.{text}" for text in (*defaults, *overrides)]
    config = load(None, settings).synthetic
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as root:
        start = time.perf_counter()
        counts = write_archives(config, Path(root))
        elapsed_s = time.perf_counter() - start
        num_bytes = sum(p.stat().st_size for p in Path(root).rglob("*") if p.is_file())
    num_frames = counts["num_frames"]
    result = {
        "settings": settings,
        "num_frames": num_frames,
        "frames_per_s": round(num_frames / elapsed_s, 2),
        "cpu_s_per_frame": round(_cpu_s() / num_frames, 4),
        "bytes_per_frame": num_bytes // num_frames,
    }
    print(json.dumps(result))


def _cpu_s() -> float:
    """Of this process and the writers, which have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    main(sys.argv[1:])

"""Frames per second of the synthetic writer, PNG and NPY files included.

python benchmarks/synthesis.py [key=value ...]    synthetic.* keys without their prefix, e.g.
python benchmarks/synthesis.py num_frames=40 image_width=384 image_height=256
The folder is temporary, below the working folder; what is timed includes process starts.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from pipeline.anovox.synthetic.writer import write_archives
from pipeline.config_loading import load


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
        "bytes_per_frame": num_bytes // num_frames,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])

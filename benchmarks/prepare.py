"""How fast jobs.prepare is against mere decoding of the files that it decodes, and its memory.

    python -m benchmarks.prepare [--scenes 12] [--frames 16] [--rounds 3]

Synthetic scenes of AnoVox's full size; both sides use the same number of processes, start before
the clock and read from a warm page cache. Rounds alternate the two sides.

decode   frames/s of Pillow and np.load over RGB-CAM, DEPTH_CAM, SEMANTIC-CAM, LIDAR,
         SEMANTIC-LIDAR and VOXEL_GRID: no check, no label, nothing written
prepare  frames/s of the whole of `prepare`: scan, rules, checks, labels, shards, hashes, manifest

Memory is the proportional set size of the job and its Ray workers, summed, at its highest; Ray's
own servers are left out, because they do not depend on the archive.
"""

import argparse
import json
import logging
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from pipeline.config.data import SyntheticConfig
from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.data.prepare.index import scan
from pipeline.data.prepare.prepare import prepare
from pipeline.runtime.ray_cluster import ensure_ray
from pipeline.synthetic.writer import write_archives

NUM_PROCESSES = 2
CHUNK = 8
FIELDS = ("image", "depth", "semantic", "lidar", "semantic_lidar", "voxels")


def main() -> None:
    """Print one JSON line."""
    options = parse()
    logging.basicConfig(level=logging.WARNING)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        root, blocks = Path(folder) / "anovox", Path(folder) / "blocks"
        world = SyntheticConfig(num_scenes=options.scenes, num_frames=options.frames)
        write_archives(world, root)
        config = merge(Config(), {"data": {"root": str(root), "blocks": str(blocks)}})
        files = all_files(root)
        ensure_ray(NUM_PROCESSES)
        rates: dict[str, list[float]] = {"decode": [], "prepare": []}
        peaks: list[float] = []
        with ProcessPoolExecutor(NUM_PROCESSES, mp_context=get_context("spawn")) as pool:
            decode_all(pool, files)  # imports, page cache
            run_prepare(config)
            for _ in range(options.rounds):
                rates["decode"].append(timed(lambda: decode_all(pool, files), len(files)))
                with peak_memory() as peak:
                    rates["prepare"].append(timed(lambda: run_prepare(config), len(files)))
                peaks.append(max(peak))
    print(json.dumps(report(rates, peaks, num_frames=len(files))))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=12)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def all_files(root: Path) -> list[list[Path]]:
    """The decoded files of every frame."""
    return [
        [scene.file(field, frame_id) for field in FIELDS]
        for scene in scan(root).scenes.values()
        for frame_id in scene.frame_ids
    ]


def decode_all(pool: ProcessPoolExecutor, files: Sequence[Sequence[Path]]) -> None:
    """Decode every file once, frames dealt to the processes in chunks."""
    for _ in pool.map(decode, files, chunksize=CHUNK):
        pass


def decode(files: Sequence[Path]) -> int:
    """Bytes of one frame's arrays."""
    arrays = [np.load(f) if f.suffix == ".npy" else np.asarray(Image.open(f)) for f in files]
    return sum(array.nbytes for array in arrays)


def run_prepare(config: Config) -> None:
    """Prepare everything anew."""
    shutil.rmtree(config.data.blocks, ignore_errors=True)
    prepare(config, lambda done, total: None)


def timed(work, num_frames: int) -> float:
    """Frames per second of one run."""
    start = time.perf_counter()
    work()
    return num_frames / (time.perf_counter() - start)


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Samples in GB of this process and its Ray workers, every 0.2 s while the block runs."""
    samples, stop = [0.0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.2):
            samples.append(memory_gb())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()


def memory_gb() -> float:
    """Proportional set size of this process and of the Ray workers below it."""
    me = psutil.Process()
    total = 0
    for process in [me, *me.children(recursive=True)]:
        try:
            if process == me or process.name().startswith("ray::"):
                total += process.memory_full_info().pss
        except psutil.Error:
            continue  # it ended meanwhile
    return total / 1e9


def report(rates: dict[str, list[float]], peaks: list[float], *, num_frames: int) -> dict:
    """Medians, and the ratio round by round."""
    ratios = [p / d for p, d in zip(rates["prepare"], rates["decode"], strict=True)]
    return {
        "num_frames": num_frames,
        "decode_frames_per_s": round(statistics.median(rates["decode"]), 1),
        "prepare_frames_per_s": round(statistics.median(rates["prepare"]), 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_min_max": [round(min(ratios), 3), round(max(ratios), 3)],
        "peak_memory_gb": round(max(peaks), 2),
    }


if __name__ == "__main__":
    main()

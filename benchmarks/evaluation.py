"""What scoring a split costs beside the forward passes, and where jobs.evaluate spends its time.

    python -m benchmarks.evaluation [--config configs/demo.yaml] [--frames 48] [--rounds 3] [--job]
        [--toy]

Needs the prepared shards of the config (make demo). The detector is as it was drawn, which costs
the same as a trained one. Rounds alternate the two sides, on the same batches and threads:

forward   reading and the detector's forward passes alone
scoring   what jobs.evaluate does with each batch: detector, boosted tree, both counted

Seconds are wall time, CPU seconds are those of the process. With `--job` the whole of jobs.evaluate
on the run that was trained last follows, by its parts; the baseline is fitted and counted anew.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks import figures
from benchmarks.toy import toy_config
from pipeline.config.load import load, merge
from pipeline.config.schema import Config
from pipeline.data.batch import Batch
from pipeline.data.prepare.prepare import find_blocks
from pipeline.evaluation import evaluate, split_scores
from pipeline.evaluation.audit import fit_plain, sample_split
from pipeline.evaluation.inference import DetectorForward, make_scores
from pipeline.evaluation.parallel_inference import OpenSplit
from pipeline.evaluation.threads import Counts, add_spans, one_core_each, spans_of
from pipeline.models.detector import build_detector
from pipeline.training.trainer import fit

PARTS = {
    split_scores: ("sample_split", "fit_plain", "count_split"),
    evaluate: (
        "open_run",
        "open_splits",
        "score_splits",
        "result_rows",
        "_draw",
        "_log",
        "_log_model",
    ),
}
"""Functions whose time is told, by the module that calls them."""


class Forward:
    """Counts nothing: the detector alone."""

    def __init__(self, detector: DetectorForward) -> None:
        self._detector = detector

    def add(self, batch: Batch) -> None:
        """One forward pass."""
        self._detector(batch)

    def __add__(self, other: "Forward") -> "Forward":
        return self


def main(argv: Sequence[str] | None = None) -> None:
    """Print one JSON line."""
    options, overrides = parse(argv)
    with tempfile.TemporaryDirectory(prefix="evaluation-benchmark-") as place:
        is_toy = options.toy
        config = toy_config(Path(place)) if is_toy else load(options.config, overrides)
        facts = {"cpu": figures.cpu(), "num_threads": torch.get_num_threads()}
        facts |= compare(config, num_frames=options.frames, rounds=options.rounds)
        if options.job:
            if options.toy:
                fit(merge(config, {"train": {"num_epochs": 1}}), say=lambda line: None)
            facts["job_s"] = job_parts(config)
    print(json.dumps(facts))


def parse(argv: Sequence[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """The command line, and what is left of it: overrides of the config."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="configs/demo.yaml")
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--job", action="store_true")
    parser.add_argument("--toy", action="store_true", help="a small world and a small detector")
    return parser.parse_known_args(argv)


def compare(config: Config, *, num_frames: int, rounds: int) -> dict[str, Any]:
    """Milliseconds per frame of both sides, and their ratio round by round."""
    blocks = find_blocks(config)
    train = OpenSplit.open(config, blocks, "train")
    test = OpenSplit.open(config, blocks, "test", extras=("voxels",))
    plain = fit_plain(sample_split(train, progress=lambda done, total: None), seed=0)
    model = build_detector(config.model, prior=0.01, fetch_weights=False)
    detector = DetectorForward(model, torch.device("cpu"), "fp32")
    num = min(num_frames, test.reader.num_rows)

    def forward(threads: int) -> Sequence[Counts]:
        return [Forward(detector) for _ in range(threads)]

    def scoring(threads: int) -> Sequence[Counts]:
        return make_scores(test.reader, threads, config=config.evaluation, model=model, plain=plain)

    sides = {"forward": forward, "scoring": scoring}
    timed(forward, test, num)  # warm: page cache, oneDNN's kernels
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            found[name].append(timed(side, test, num))
    return report(found, num)


def timed(
    side: Callable[[int], Sequence[Counts]], split: OpenSplit, num_frames: int
) -> tuple[float, float]:
    """Wall and CPU seconds of the first frames of a split."""
    spans = spans_of(num_frames, batch_size=split.config.evaluation.batch_size)
    with one_core_each() as num_threads:
        counts = side(num_threads)
        wall, used = time.perf_counter(), time.process_time()
        add_spans(counts, split.reader, spans, lambda frames: None)
        return time.perf_counter() - wall, time.process_time() - used


def report(found: dict[str, list[tuple[float, float]]], num_frames: int) -> dict[str, Any]:
    """Medians over the rounds."""
    facts: dict[str, Any] = {"num_frames": num_frames}
    for place, what in enumerate(("wall", "cpu")):
        for name, rounds in found.items():
            per_frame = [1000 * one[place] / num_frames for one in rounds]
            facts[f"{name}_{what}_ms"] = round(statistics.median(per_frame), 1)
        pairs = zip(found["scoring"], found["forward"], strict=True)
        ratios = [scoring[place] / forward[place] for scoring, forward in pairs]
        facts[f"ratio_{what}"] = round(statistics.median(ratios), 3)
        facts[f"ratio_{what}_min_max"] = [round(min(ratios), 3), round(max(ratios), 3)]
    return facts


def job_parts(config: Config) -> dict[str, float]:
    """Seconds of jobs.evaluate by part, imports among them, and in all."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import jobs.evaluate"], check=True)
    seconds = {"imports": time.perf_counter() - start}
    split_scores.baseline_path(config, find_blocks(config)).unlink(missing_ok=True)
    with ExitStack() as patches:
        for module, names in PARTS.items():
            for name in names:
                timing = _timing(getattr(module, name), name, seconds)
                patches.enter_context(mock.patch.object(module, name, timing))
        start = time.perf_counter()
        evaluate.evaluate(config, watch=lambda phase: lambda done, total: None)
        seconds["all"] = seconds["imports"] + time.perf_counter() - start
    return {name: round(value, 2) for name, value in seconds.items()}


def _timing(function: Callable[..., Any], name: str, seconds: dict[str, float]) -> Callable:
    def call(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start

    return call


if __name__ == "__main__":
    main()

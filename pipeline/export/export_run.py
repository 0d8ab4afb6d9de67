"""A run's detector as a file that any process with torch loads: `detector.pt2`, `detector.json`.

What is checked is the file: it is written, loaded again and compared with the model on frames of
validation and test before it gets its name.
"""

import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np
import torch

from pipeline.config.schema import Config
from pipeline.data.batch import Batch
from pipeline.data.block_reader import BlockReader
from pipeline.data.manifest import file_hash
from pipeline.data.prepare.prepare import find_blocks
from pipeline.data.readers import open_reader
from pipeline.evaluation.evaluate import Loaded, chosen_run, open_run
from pipeline.evaluation.split_scores import demand_split
from pipeline.export.model_card import card_of
from pipeline.export.program import (
    export_detector,
    inputs_of,
    largest_differences,
    outputs_of,
    save_program,
)
from pipeline.runtime.errors import RunFailed
from pipeline.runtime.progress import Say
from pipeline.tracking import runs

FOLDER, PROGRAM, CARD = "export", "detector.pt2", "detector.json"
"""Of a run folder, and of the run's artifacts."""
_SPLITS = ("val", "test")
FRAMES_PER_SPLIT = 8
TOLERANCE = 1e-4
"""Of every score, absolute."""
Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class Checked:
    """How a loaded program compares with the model it was made from."""

    num_frames: int
    """The one without points included."""
    differences: dict[str, float]
    """Largest of each output, absolute."""
    model_ms: float
    program_ms: float
    """Median time of a frame on this CPU."""


def export_run(config: Config, *, say: Say) -> dict[str, Any]:
    """Export `evaluation.checkpoint`, or the run that finished last; return the job's facts.

    Raises ValueError when there is no checkpoint, the shards hold another split than it was
    trained on, or the model is a control; RunFailed (`export_differs`) when the program gives other
    scores than the model.
    """
    loaded, readers = _opened(config, say=say)
    manifest = readers[0].manifest
    started = time.perf_counter()
    program = export_detector(
        loaded.model,
        image_size=(manifest.image_height, manifest.image_width),
        num_columns=4 if loaded.num_sweeps == 1 else 5,
    )
    export_s = time.perf_counter() - started
    say(f"exported in {export_s:.1f} s; writing, loading and checking it")
    folder = loaded.folder / FOLDER
    with _named_at_the_end(folder / PROGRAM) as temporary:
        save_program(program, temporary)
        checked = _check(loaded, temporary, _frames(readers))
        digest = file_hash(temporary)
        size = temporary.stat().st_size
    say(_message(checked))
    card = card_of(loaded.meta, manifest)
    card |= {"program_sha256": digest, "checked": dataclasses.asdict(checked)}
    with _named_at_the_end(folder / CARD) as temporary:
        temporary.write_text(json.dumps(card, indent=1) + "\n")
    runs.log_artifacts(config.tracking, loaded.meta.run_id, folder, subfolder=FOLDER)
    return {
        "run_id": loaded.meta.run_id,
        "program": str(folder / PROGRAM),
        "card": str(folder / CARD),
        "size_mb": round(size / 1e6, 2),
        "export_s": round(export_s, 1),
        **dataclasses.asdict(checked),
    }


def _opened(config: Config, *, say: Say) -> tuple[Loaded, list[BlockReader]]:
    """The run's model and readers of the frames to check it on."""
    loaded = open_run(config, chosen_run(config))
    blocks = find_blocks(config)
    readers = [
        open_reader(config, blocks, split, num_sweeps=loaded.num_sweeps, say=say)
        for split in _SPLITS
    ]
    demand_split(readers[0], blocks, split_hash=loaded.meta.split_hash)
    return loaded, readers


def _frames(readers: list[BlockReader]) -> Iterator[Batch]:
    """Frames from all over each split, then one without its points."""
    frame = None
    for reader in readers:
        for row in np.linspace(0, reader.num_rows - 1, FRAMES_PER_SPLIT).round():
            frame = reader.batch([int(row)], augment_seed=None)
            yield frame
    assert frame is not None
    yield dataclasses.replace(
        frame,
        points=frame.points[:0],
        point_offset=torch.zeros_like(frame.point_offset),
        point_class=frame.point_class[:0],
        point_label=frame.point_label[:0],
    )


def _check(loaded: Loaded, file: Path, frames: Iterator[Batch]) -> Checked:
    program = torch.export.load(file).module()
    differences: dict[str, float] = {}
    model_s, program_s = [], []
    for frame in frames:
        ours = outputs_of(_timed(partial(loaded.model, frame), model_s))
        theirs = _timed(partial(program, **inputs_of(frame)), program_s)
        for name, value in largest_differences(ours, theirs).items():
            differences[name] = max(value, differences.get(name, 0.0))
    checked = Checked(
        num_frames=len(model_s),
        differences=differences,
        model_ms=1000 * median(model_s),
        program_ms=1000 * median(program_s),
    )
    if max(differences.values()) > TOLERANCE:
        raise RunFailed(
            f"the exported program's scores differ from the model's by more than {TOLERANCE:g} "
            f"({_message(checked)}), so it was not kept; please report this with the run's config",
            reason="export_differs",
            facts={"run_id": loaded.meta.run_id},
        )
    return checked


def _timed(call: Callable[[], Found], seconds: list[float]) -> Found:
    started = time.perf_counter()
    with torch.no_grad():
        found = call()
    seconds.append(time.perf_counter() - started)
    return found


def _message(checked: Checked) -> str:
    apart = ", ".join(f"{name} {value:.1e}" for name, value in checked.differences.items())
    return (
        f"largest difference to the model on {checked.num_frames} frames: {apart}; per frame "
        f"{checked.model_ms:.1f} ms in the model, {checked.program_ms:.1f} ms exported"
    )


@contextmanager
def _named_at_the_end(final: Path) -> Iterator[Path]:
    """A path to write to, which gets its name when the block is done and is deleted if it fails."""
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{os.getpid()}.{final.name}")
    try:
        yield temporary
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)

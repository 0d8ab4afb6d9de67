"""A data set to Arrow shards with Ray Data: planned first, written in parallel, sealed last.

Which frames go to which shard is decided before anything is read, from the names on disk and the
config alone. A shard is a Ray Data task that ends in a rename and a note of its hash, so a killed
job goes on where it stopped; `manifest.json` comes last and makes the folder whole.
"""

import dataclasses
import functools
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.config.schema import Config
from pipeline.data.cache import fetch_tables, is_remote
from pipeline.data.folders import choose_folder, earlier_folder, local_folders, note_source
from pipeline.data.manifest import (
    INDEX,
    MANIFEST,
    QUARANTINE,
    SPLIT_FILE,
    Manifest,
    Shard,
    count_labels,
    read_manifest,
    record_scenes,
    replace_durably,
    write_manifest,
    write_text,
)
from pipeline.data.prepare.index import Index, quarantined_frame, scan
from pipeline.data.prepare.plan import (
    ShardPlan,
    blocks_hash,
    plan_shards,
    prepare_facts,
    stored_size,
)
from pipeline.data.prepare.quarantine import Quarantined
from pipeline.data.prepare.rows import make_row
from pipeline.data.prepare.scene_rules import find_rules
from pipeline.data.schema import row_schema
from pipeline.data.shards import flush, is_whole, read_metadata, remove_leftovers, write_shard
from pipeline.data.splits import (
    check_both_classes,
    check_scenes,
    make_splits,
    scene_key,
    split_hash,
)
from pipeline.datasets.protocol.dataset import Dataset, LabelRule, SceneView
from pipeline.datasets.protocol.frames import FrameError
from pipeline.datasets.protocol.registry import open_dataset
from pipeline.runtime.file_lock import file_lock
from pipeline.runtime.progress import Progress
from pipeline.runtime.ray_cluster import ensure_ray
from pipeline.synthetic.writer import is_synthetic

logger = logging.getLogger(__name__)
_LOCK = ".lock"


@dataclass(frozen=True, kw_only=True)
class Written:
    """A shard on disk and the frames that did not make it into it."""

    shard: Shard
    quarantined: tuple[Quarantined, ...]


@dataclass(frozen=True, kw_only=True)
class PrepareWork:
    """What every task needs, shipped to the workers once."""

    folder: Path
    plans: tuple[ShardPlan, ...]
    source: Dataset
    scenes: Mapping[str, SceneView]
    rules: Mapping[str, LabelRule]
    """By `splits.scene_key`."""
    config: Config


def prepare(config: Config, progress: Progress) -> Manifest:
    """Write `data.root` as shards into `data.blocks/<hash>`, or find that it is done already.

    The hash is one of the prepare section and of the input, so a changed config or a changed input
    gives another folder. Raises ValueError for unreadable input, for damaged frames under
    `data.on_bad_frame=fail`, and when a split lacks a class of frames.
    """
    if is_remote(config.data.blocks):
        raise ValueError(
            f"data.blocks={config.data.blocks} is remote storage, and shards are written to a "
            "local folder; give one and copy what comes out"
        )
    if (Path(config.data.blocks) / MANIFEST).is_file():
        raise ValueError(
            f"data.blocks={config.data.blocks} is a prepared folder itself; to prepare give the "
            "folder above it"
        )
    index = scan(Path(config.data.root), config.data.poses, dataset=config.data.dataset)
    for sentence in index.sentences:
        logger.info("%s", sentence)
    folder = Path(config.data.blocks) / blocks_hash(config.prepare, index)
    if _is_prepared(folder):
        _refuse_bad(config, read_quarantine(folder))
        logger.info("already prepared: %s", folder)
        note_source(config, folder)
        return read_manifest(folder)
    _tell_of_change(config, index)
    _refuse_bad(config, index.quarantined)
    check_scenes(index.facts, make_splits(index.facts, config.prepare), config.prepare)
    image_size = stored_size(index.scenes.values(), config.prepare)
    folder.mkdir(parents=True, exist_ok=True)
    busy = ValueError(f"another jobs.prepare is writing {folder}; wait for it, or stop it first")
    with file_lock(folder / _LOCK, refusal=busy):
        work, index, splits = _plan(config, index, folder)
        written = _write_all(work, progress)
        manifest = _seal(work, index, splits, written, image_size=image_size)
        note_source(config, folder)
        return manifest


def _tell_of_change(config: Config, index: Index) -> None:
    """Other jobs do not look at `data.root`, so this is where a change of it is said."""
    earlier = earlier_folder(config)
    if earlier is None or earlier.facts["inputs_hash"] == index.inputs_hash:
        return
    logger.info(
        "data.root %s has changed since %s was prepared (%d frames then, %d now); preparing it "
        "again, other jobs use the new shards from then on",
        config.data.root,
        earlier.place,
        earlier.facts["num_found"],
        index.num_found,
    )


def _plan(config: Config, index: Index, folder: Path) -> tuple[PrepareWork, Index, dict[str, str]]:
    """What to write, once the scenes that no rule can label are out, and the deal of the rest."""
    source = open_dataset(index.dataset)
    rules, refused = find_rules(index.scenes.values(), config.prepare, source)
    index = index.without(refused)
    _refuse_bad(config, index.quarantined)
    splits = make_splits(index.facts, config.prepare)
    check_scenes(index.facts, splits, config.prepare)
    remove_leftovers(folder)
    work = PrepareWork(
        folder=folder,
        plans=plan_shards(index, splits, config.prepare),
        source=source,
        scenes=index.scenes,
        rules=rules,
        config=config,
    )
    return work, index, splits


def find_blocks(config: Config) -> Path:
    """The prepared folder that `data.blocks` means (`choose_folder`), without a look at the input.

    Of remote storage it is this node's copy, whose shards `open_reader` fetches. Raises ValueError
    when there is none.
    """
    if is_remote(config.data.blocks):
        return fetch_tables(config)
    place = Path(config.data.blocks)
    return Path(choose_folder(config, local_folders(place), place=str(place)).place)


def _write_all(work: PrepareWork, progress: Progress) -> list[Written]:
    """Every planned shard; those that an earlier job finished are kept."""
    done = {number: _finished(work.folder, plan) for number, plan in enumerate(work.plans)}
    total = sum(len(plan.frames) for plan in work.plans)
    missing = [number for number, written in done.items() if written is None]
    ready = total - sum(len(work.plans[number].frames) for number in missing)
    if missing and ready:
        logger.info("%d of %d shards are done already", len(done) - len(missing), len(done))
    progress(ready, total)
    # The disk takes a shard while the next ones are made; `_seal` waits for what is left then.
    with ThreadPoolExecutor(1) as flushing:
        for number in _write_with_ray(work, missing):
            written = done[number] = _read_note(work.folder, work.plans[number])
            flushing.submit(flush, work.folder, [written.shard])
            ready += len(work.plans[number].frames)
            progress(ready, total)
    whole = [written for written in done.values() if written is not None]
    assert len(whole) == len(work.plans), (len(whole), len(work.plans))
    return whole


def _write_with_ray(work: PrepareWork, numbers: Sequence[int]) -> Iterator[int]:
    """Numbers of plans, as their shards get done."""
    if not numbers:
        return
    ensure_ray()
    import ray
    import ray.data

    # The job prints its own progress; a failed task raises here whatever Ray logs.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    task = functools.partial(_write_planned, work=ray.put(work))
    items = ray.data.from_items(
        [{"number": number} for number in numbers], override_num_blocks=len(numbers)
    )
    # Not more at a time than there are cores: each holds the rows of a shard in memory.
    for row in items.map(task, concurrency=_num_tasks(len(numbers))).iter_rows():
        if row["error"]:
            raise ValueError(_ended_by(row["error"]))
        yield row["number"]


def _num_tasks(num_shards: int) -> int | None:
    """None leaves it to the cluster's CPUs; a local Ray counts more of them than there are."""
    if os.environ.get("RAY_ADDRESS"):
        return None
    return min(num_shards, os.cpu_count() or 1)


def _write_planned(row: dict[str, Any], *, work: Any) -> dict[str, Any]:
    """Ray Data task: write one shard; the reason of a frame that ends the job comes back."""
    import ray

    loaded: PrepareWork = ray.get(work)
    try:
        write_planned(loaded, loaded.plans[row["number"]])
    except FrameError as error:
        return row | {"error": str(error)}
    return row | {"error": ""}


def write_planned(work: PrepareWork, plan: ShardPlan) -> Written:
    """Read a shard's frames and write it, then the note that says it is whole.

    Raises FrameError for a damaged frame unless `data.on_bad_frame=quarantine`.
    """
    rows, quarantined = [], []
    for key, frame_id in plan.frames:
        scene = work.scenes[key]
        try:
            rows.append(_read_row(scene, frame_id, work))
        except FrameError as error:
            if work.config.data.on_bad_frame == "fail":
                raise
            quarantined.append(quarantined_frame(scene, frame_id, str(error)))
    schema = row_schema(work.config.prepare)
    shard = write_shard(work.folder, plan.split, plan.name, rows, schema)
    written = Written(shard=shard, quarantined=tuple(quarantined))
    write_text(_note_path(work.folder, plan), json.dumps(dataclasses.asdict(written)))
    return written


def _read_row(scene: SceneView, frame_id: int, work: PrepareWork) -> dict[str, Any]:
    config = work.config.prepare
    frame = work.source.read(
        scene,
        frame_id,
        work.rules[scene_key(scene.archive, scene.scene_id)],
        min_points=config.min_anomaly_points,
        min_pixels=config.min_anomaly_pixels,
    )
    return make_row(frame, scene, config)


def _note_path(folder: Path, plan: ShardPlan) -> Path:
    return folder / plan.split / f"{plan.name}.json"


def _finished(folder: Path, plan: ShardPlan) -> Written | None:
    """The shard as an earlier job left it; None unless its file has the noted hash."""
    if not _note_path(folder, plan).is_file():
        return None
    written = _read_note(folder, plan)
    return written if is_whole(folder, written.shard) else None


def _read_note(folder: Path, plan: ShardPlan) -> Written:
    note = json.loads(_note_path(folder, plan).read_text())
    bad = tuple(Quarantined(**facts) for facts in note["quarantined"])
    return Written(shard=Shard(**note["shard"]), quarantined=bad)


def _seal(
    work: PrepareWork,
    index: Index,
    splits: Mapping[str, str],
    written: Sequence[Written],
    *,
    image_size: tuple[int, int],
) -> Manifest:
    """Check the whole, then write index, splits, quarantine and, last, the manifest."""
    shards = [one.shard for one in written]
    quarantined = [*index.quarantined, *(bad for one in written for bad in one.quarantined)]
    _refuse_bad(work.config, quarantined)
    frames = read_metadata(work.folder, shards)
    num_bad = sum(bad.frame_id is not None for bad in quarantined)
    assert index.num_found == len(frames) + num_bad, (index.num_found, len(frames), num_bad)
    _assert_dealt(frames, splits)
    check_both_classes(frames, work.config.prepare)
    manifest = Manifest(
        blocks_hash=work.folder.name,
        split_hash=split_hash(splits),
        inputs_hash=index.inputs_hash,
        root=work.config.data.root,
        prepare=prepare_facts(work.config.prepare),
        num_found=index.num_found,
        num_accepted=len(frames),
        num_quarantined=num_bad,
        num_refused_scenes=sum(bool(bad.scene_id) and bad.frame_id is None for bad in quarantined),
        num_refused_archives=sum(not bad.scene_id for bad in quarantined),
        dataset=work.source.facts,
        is_synthetic=is_synthetic(
            {Path(work.config.data.root), *(scene.path.parent for scene in index.scenes.values())}
        ),
        image_height=image_size[0],
        image_width=image_size[1],
        shards=shards,
        labels=count_labels(frames),
        scenes=record_scenes(work.scenes.values(), work.rules, splits, frames),
    )
    remove_leftovers(work.folder)
    flush(work.folder, shards)
    _write_tables(work.folder, frames, splits, quarantined)
    write_manifest(work.folder, manifest)
    return manifest


def _assert_dealt(frames: pd.DataFrame, splits: Mapping[str, str]) -> None:
    """Every row lies in its scene's split: notes of an earlier deal must not mix in."""
    scenes = frames[["archive", "scene_id", "split"]].drop_duplicates()
    for archive, scene_id, split in scenes.itertuples(index=False):
        assert splits[scene_key(archive, scene_id)] == split, (archive, scene_id, split)


def _write_tables(
    folder: Path,
    frames: pd.DataFrame,
    splits: Mapping[str, str],
    quarantined: Sequence[Quarantined],
) -> None:
    temporary = folder / f".{INDEX}.tmp"
    frames.to_parquet(temporary, index=False)
    replace_durably(temporary, folder / INDEX)
    split_facts = {"split_hash": split_hash(splits), "scenes": dict(splits)}
    write_text(folder / SPLIT_FILE, json.dumps(split_facts, indent=1))
    reasons = [dataclasses.asdict(bad) for bad in quarantined]
    write_text(folder / QUARANTINE, json.dumps(reasons, indent=1))


def _is_prepared(folder: Path) -> bool:
    if not (folder / MANIFEST).is_file():
        return False
    shards = read_manifest(folder).shards
    paths = [folder / shard.split / shard.name for shard in shards]
    sizes = [path.stat().st_size if path.is_file() else 0 for path in paths]
    return sizes == [shard.num_bytes for shard in shards]


def read_quarantine(folder: Path) -> list[Quarantined]:
    """What was left out of a prepared folder, and why."""
    return [Quarantined(**facts) for facts in json.loads((folder / QUARANTINE).read_text())]


def _refuse_bad(config: Config, quarantined: Sequence[Quarantined]) -> None:
    if quarantined and config.data.on_bad_frame == "fail":
        raise ValueError(_ended_by(quarantined[0].reason))


def _ended_by(reason: str) -> str:
    return (
        f"{reason}; data.on_bad_frame=fail ends the job here, data.on_bad_frame=quarantine would "
        "leave it out"
    )

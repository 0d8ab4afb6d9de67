"""Writes archives of synthetic scenes in the AnoVox release layout.

A scene is written under a temporary name and renamed when whole, so a killed job leaves no half
scene, and one that exists is not written again. The root keeps the config that its archives came
from and refuses another, because scenes of two worlds must not mix.
"""

import json
import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.anovox import names
from pipeline.anovox.frame import encode_depth
from pipeline.anovox.records import format_key_value
from pipeline.anovox.synthetic import records
from pipeline.anovox.synthetic.observation import Observation, Observer
from pipeline.anovox.synthetic.plan import ScenePlan, plan_scenes
from pipeline.anovox.synthetic.png import write_png
from pipeline.anovox.synthetic.sensors import build_sensors
from pipeline.anovox.synthetic.world import SceneWorld, build_scene
from pipeline.config import SyntheticConfig

STAMP_FILE = ".synthetic.json"
GENERATOR_VERSION = 1
"""To be raised by every change after which the same config writes other arrays."""
_PARTIAL_PREFIX = ".partial_"
_ARCHIVE_GLOB = "AnoVox_*"
_FIRST_FRAME_IDS = (300, 9900)
_ROLLOVER = 1000

Progress = Callable[[int, int], None]


def write_archives(
    config: SyntheticConfig, root: Path, progress: Progress | None = None
) -> dict[str, int]:
    """Write all scenes of the config under `root`; `progress` gets (frames done, frames in all).

    Returns counts. Raises ValueError if `root` holds archives of another config.
    """
    plans = plan_scenes(config)
    _claim_root(config, root)
    missing = [plan for plan in plans if not _scene_path(root, plan).exists()]
    done = len(plans) - len(missing)
    report = progress or (lambda done, total: None)
    report(done * config.num_frames, len(plans) * config.num_frames)
    for written, _ in enumerate(_written(config, root, missing), start=done + 1):
        report(written * config.num_frames, len(plans) * config.num_frames)
    _write_scenario_lists(config, root, plans)
    return {
        "num_archives": len({_archive_path(root, plan) for plan in plans}),
        "num_scenes": len(plans),
        "num_scenes_written": len(missing),
        "num_frames": len(plans) * config.num_frames,
    }


def _claim_root(config: SyntheticConfig, root: Path) -> None:
    """Refuse a root with archives of another config; otherwise leave this config's stamp there."""
    stamp: dict[str, object] = {"generator": GENERATOR_VERSION}
    stamp |= {key: value for key, value in asdict(config).items() if key != "num_processes"}
    path = root / STAMP_FILE
    found = json.loads(path.read_text()) if path.exists() else None
    if found == stamp:
        return
    if any(root.glob(_ARCHIVE_GLOB)):
        what = "archives without a stamp of this writer"
        if isinstance(found, dict):
            keys = (key for key in stamp | found if stamp.get(key) != found.get(key))
            what = "archives written with other " + ", ".join(f"synthetic.{key}" for key in keys)
        raise ValueError(
            f"data.root {root} holds {what}; scenes of two worlds must not mix: "
            "remove the folder or set data.root to another"
        )
    root.mkdir(parents=True, exist_ok=True)
    _replace_text(path, json.dumps(stamp, indent=1))


def _written(config: SyntheticConfig, root: Path, plans: Sequence[ScenePlan]) -> Iterator[None]:
    """Write the scenes, here or in processes; yields after each."""
    num_processes = min(config.num_processes, len(plans))
    if num_processes <= 1:
        for plan in plans:
            write_scene(config, root, plan)
            yield
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        num_processes, mp_context=context, initializer=_end_with_parent
    ) as pool:
        futures = [pool.submit(write_scene, config, root, plan) for plan in plans]
        try:
            for future in as_completed(futures):
                future.result()
                yield
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _end_with_parent() -> None:
    """A worker whose job was killed must not go on waiting for scenes."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def write_scene(config: SyntheticConfig, root: Path, plan: ScenePlan) -> None:
    """Write one scene whole, or nothing."""
    world = build_scene(config, plan)
    path = _scene_path(root, plan)
    partial = path.with_name(_PARTIAL_PREFIX + path.name)
    shutil.rmtree(partial, ignore_errors=True)
    folders = _make_folders(config, partial, has_anomaly=plan.anomaly is not None)
    (partial / names.SETUP_FILE).write_text(records.sensor_setup_text(config))
    observer = Observer(world, build_sensors(config))
    route = records.waypoints(world)
    first_id = first_frame_id(config, plan)
    for frame in range(config.num_frames):
        _write_arrays(folders, first_id + frame, observer.observe(frame))
        _write_records(folders, first_id + frame, world, frame, route)
    partial.replace(path)


def first_frame_id(config: SyntheticConfig, plan: ScenePlan) -> int:
    """Frame id of a scene's first frame; every third scene passes from 999 to 1000."""
    rng = np.random.default_rng([config.seed, 6, plan.number])
    if plan.number % 3 == 0 and config.num_frames > 1:
        return _ROLLOVER - int(rng.integers(1, min(config.num_frames, _ROLLOVER)))
    return int(rng.integers(*_FIRST_FRAME_IDS))


def _make_folders(config: SyntheticConfig, scene: Path, *, has_anomaly: bool) -> dict[str, Path]:
    """The scene's folders by sensor type or folder name."""
    others = [names.VOXEL_FOLDER, names.ACTION_FOLDER, names.ROUTE_FOLDER]
    others += [names.ANOMALY_FOLDER] if has_anomaly else []
    folders = {kind: scene / name for kind, name in records.sensor_folders(config.seed).items()}
    folders |= {name: scene / name for name in others}
    for folder in folders.values():
        folder.mkdir(parents=True)
    return folders


def _write_arrays(folders: dict[str, Path], frame_id: int, seen: Observation) -> None:
    """Four images, two clouds, the voxel grid."""
    write_png(_file(folders, "RGB-CAM", frame_id, ".png"), seen.image, is_noisy=True)
    write_png(_file(folders, "DEPTH_CAM", frame_id, ".png"), encode_depth(seen.depth_m))
    write_png(_file(folders, "SEMANTIC-CAM", frame_id, ".png"), seen.semantic)
    write_png(_file(folders, "INSTANCE-CAM", frame_id, ".png"), seen.instance)
    np.save(_file(folders, "LIDAR", frame_id, ".npy"), seen.points)
    np.save(_file(folders, "SEMANTIC-LIDAR", frame_id, ".npy"), _semantic_cloud(seen))
    np.save(_file(folders, names.VOXEL_FOLDER, frame_id, ".npy"), seen.voxels)


def _semantic_cloud(seen: Observation) -> NDArray[np.float64]:
    """(P, 4) float64 in Fortran order: exact x, y, z and the class id."""
    cloud = np.empty((4, len(seen.exact_xyz)), np.float64)
    cloud[:3], cloud[3] = seen.exact_xyz.T, seen.point_class
    return cloud.T


def _write_records(
    folders: dict[str, Path],
    frame_id: int,
    world: SceneWorld,
    frame: int,
    route: NDArray[np.float64],
) -> None:
    """ACTION, ROUTE_MAP and, in a static scene, ANOMALY."""
    action = format_key_value(records.action_record(world, frame, frame_id))
    _file(folders, names.ACTION_FOLDER, frame_id, ".csv").write_text(action)
    image = records.route_map(route, world.poses[frame])
    write_png(_file(folders, names.ROUTE_FOLDER, frame_id, ".png"), image)
    if world.anomaly is not None:
        anomaly = format_key_value(records.anomaly_record(world, frame_id))
        _file(folders, names.ANOMALY_FOLDER, frame_id, ".csv").write_text(anomaly)


def _file(folders: dict[str, Path], key: str, frame_id: int, ending: str) -> Path:
    folder = folders[key]
    return folder / names.sensor_file_name(folder.name, frame_id, ending)


def _write_scenario_lists(config: SyntheticConfig, root: Path, plans: Sequence[ScenePlan]) -> None:
    """Scenario lists in every second archive, as AnoVox has them in some and not in others."""
    for plan in plans:
        folder = _archive_path(root, plan) / names.CONFIG_FOLDER
        path = folder / names.scenario_config_name(plan.town)
        place = config.kinds.index(plan.kind) + config.towns.index(plan.town)
        if place % 2 == 0 and not path.exists():
            mates = [p for p in plans if (p.kind, p.town) == (plan.kind, plan.town)]
            worlds = [build_scene(config, mate) for mate in mates]
            folder.mkdir(exist_ok=True)
            _replace_text(path, records.scenario_text(plan.town, worlds))


def _replace_text(path: Path, text: str) -> None:
    partial = path.with_name(_PARTIAL_PREFIX + path.name)
    partial.write_text(text)
    partial.replace(path)


def _archive_path(root: Path, plan: ScenePlan) -> Path:
    return root / names.archive_name(plan.kind, plan.town)


def _scene_path(root: Path, plan: ScenePlan) -> Path:
    return _archive_path(root, plan) / names.scene_folder_name(plan.scene_id)

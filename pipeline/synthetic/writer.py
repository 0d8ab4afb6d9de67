"""Writes archives of synthetic scenes in the AnoVox release layout.

A scene is written under a temporary name and renamed when whole, so a killed job leaves no half
scene, and one that exists is not written again. The root keeps the config that its archives came
from and refuses another, because scenes of two worlds must not mix.
"""

import json
import logging
import multiprocessing
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.config.data import SyntheticConfig
from pipeline.datasets.anovox import paths
from pipeline.datasets.anovox.annotations import format_key_value
from pipeline.datasets.anovox.frame import encode_depth
from pipeline.runtime.progress import Progress
from pipeline.synthetic import annotations
from pipeline.synthetic.corruptions import (
    IRREGULAR_FILE,
    Irregular,
    archive_of,
    draw_irregular,
)
from pipeline.synthetic.plan import ScenePlan, plan_scenes
from pipeline.synthetic.png import write_png
from pipeline.synthetic.sensor_setup import Sensor, recorded_folders, sensor_setup_text
from pipeline.synthetic.sensor_sim import Cloud, Observation, Observer
from pipeline.synthetic.sensors import SensorMount, build_sensors
from pipeline.synthetic.world import SceneWorld, build_scene

logger = logging.getLogger(__name__)

SYNTHETIC_STAMP = ".synthetic.json"
GENERATOR_VERSION = 1
"""To be raised by every change after which the same config writes other arrays."""
_PARTIAL_PREFIX = ".partial_"
_ARCHIVE_GLOB = "AnoVox_*"
_FIRST_FRAME_IDS = (300, 9900)
_ROLLOVER = 1000

Folders = dict[Sensor | str, Path]
"""A scene's folders by pose and sensor type, or by name."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where which world is written."""

    config: SyntheticConfig
    root: Path
    irregular: Irregular | None

    def archive(self, plan: ScenePlan) -> Path:
        """Folder of a scene's archive."""
        name = archive_of(self.config, plan)
        is_nested = self.irregular is not None and name == self.irregular.nested
        return self.root / f"{name}_1" / name if is_nested else self.root / name

    def scene(self, plan: ScenePlan) -> Path:
        """Folder of a scene."""
        return self.archive(plan) / paths.scene_folder_name(plan.scene_id)

    def num_frames(self, plan: ScenePlan) -> int:
        """Whole frames of a scene."""
        number = self.config.num_frames
        return self.irregular.num_frames(plan, number) if self.irregular else number


def write_archives(
    config: SyntheticConfig, root: Path, progress: Progress | None = None
) -> dict[str, int]:
    """Write all scenes of the config under `root`; `progress` gets (frames done, frames in all).

    Returns counts. Raises ValueError if `root` holds archives of another config.
    """
    _warn_of_idle_settings(config)
    plans = plan_scenes(config)
    target = Target(config=config, root=root, irregular=draw_irregular(config, plans))
    _claim_root(config, root)
    missing = [plan for plan in plans if not target.scene(plan).exists()]
    total = sum(map(target.num_frames, plans))
    done = total - sum(map(target.num_frames, missing))
    report = progress or (lambda done, total: None)
    report(done, total)
    for plan in _written(target, missing):
        done += target.num_frames(plan)
        report(done, total)
    _write_scenario_lists(target, plans)
    for archive in {target.archive(plan) for plan in plans}:
        # So that an archive that is packed or moved away still says what it is.
        shutil.copyfile(root / SYNTHETIC_STAMP, archive / SYNTHETIC_STAMP)
    return {
        "num_archives": len({target.archive(plan) for plan in plans}),
        "num_scenes": len(plans),
        "num_scenes_written": len(missing),
        "num_frames": total,
        **_write_irregular(target, plans),
    }


def is_synthetic(folders: Iterable[Path]) -> bool:
    """Whether any of these roots or archives has this writer's stamp."""
    return any((folder / SYNTHETIC_STAMP).is_file() for folder in folders)


def _warn_of_idle_settings(config: SyntheticConfig) -> None:
    for key in ("dynamic_labels", "anomaly_variant"):
        value = getattr(config, key)
        if "dynamic" not in config.kinds and value != getattr(SyntheticConfig(), key):
            logger.warning(
                "synthetic.%s=%s has no effect: synthetic.kinds holds no dynamic", key, value
            )


def _write_irregular(target: Target, plans: Sequence[ScenePlan]) -> dict[str, int]:
    """The empty scene folder and the list of irregularities; returns their counts."""
    irregular = target.irregular
    if irregular is None:
        return {}
    archive = target.archive(irregular.truncated)
    (archive / paths.scene_folder_name(irregular.empty_scene)).mkdir(exist_ok=True)
    text = json.dumps(irregular.description(), indent=1)
    _replace_text(target.root / IRREGULAR_FILE, text)
    return irregular.counts()


def _claim_root(config: SyntheticConfig, root: Path) -> None:
    """Refuse a root with archives of another config; otherwise leave this config's stamp there."""
    stamp: dict[str, object] = {"generator": GENERATOR_VERSION}
    stamp |= {key: value for key, value in asdict(config).items() if key != "num_processes"}
    path = root / SYNTHETIC_STAMP
    found = json.loads(path.read_text()) if path.exists() else None
    if isinstance(found, dict):  # of before a field existed: the default leaves arrays as they were
        found = asdict(SyntheticConfig()) | found
        del found["num_processes"]
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


def _written(target: Target, plans: Sequence[ScenePlan]) -> Iterator[ScenePlan]:
    """Write the scenes, here or in processes; yields each when it is there."""
    num_processes = min(target.config.num_processes, len(plans))
    if num_processes <= 1:
        for plan in plans:
            write_scene(target, plan)
            yield plan
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        num_processes, mp_context=context, initializer=_end_with_parent
    ) as pool:
        futures = {pool.submit(write_scene, target, plan): plan for plan in plans}
        try:
            for future in as_completed(futures):
                future.result()
                yield futures[future]
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


def write_scene(target: Target, plan: ScenePlan) -> None:
    """Write one scene whole, or nothing."""
    config, irregular = target.config, target.irregular
    world = build_scene(config, plan)
    path = target.scene(plan)
    partial = path.with_name(_PARTIAL_PREFIX + path.name)
    shutil.rmtree(partial, ignore_errors=True)
    folders = _make_folders(config, partial, has_anomaly=plan.kind != "normality")
    (partial / paths.SETUP_FILE).write_text(sensor_setup_text(config))
    sensors = build_sensors(config)
    observer = Observer(world, sensors)
    route = annotations.waypoints(world)
    first_id = first_frame_id(config, plan)
    if irregular and plan == irregular.repeats:
        first_id = first_frame_id(config, irregular.repeated)
    for frame in range(target.num_frames(plan)):
        _write_action(folders, first_id + frame, world, frame, config, sensors.mounts)
        _write_arrays(folders, first_id + frame, observer.observe(frame))
        image = annotations.route_map(route, world.poses[frame])
        write_png(_file(folders, paths.ROUTE_FOLDER, first_id + frame, ".png"), image)
    if irregular:
        frame = target.num_frames(plan)
        if plan == irregular.truncated:
            _write_action(folders, first_id + frame, world, frame, config, sensors.mounts)
        _leave_out(irregular, plan, partial)
    partial.replace(path)


def _leave_out(irregular: Irregular, plan: ScenePlan, scene: Path) -> None:
    """Remove what an irregular scene lacks."""
    if plan == irregular.no_setup:
        (scene / paths.SETUP_FILE).unlink()
    if plan == irregular.no_voxels:
        shutil.rmtree(scene / paths.VOXEL_FOLDER)


def first_frame_id(config: SyntheticConfig, plan: ScenePlan) -> int:
    """Frame id of a scene's first frame; every third scene passes from 999 to 1000."""
    rng = np.random.default_rng([config.seed, 6, plan.number])
    if plan.number % 3 == 0 and config.num_frames > 1:
        return _ROLLOVER - int(rng.integers(1, min(config.num_frames, _ROLLOVER)))
    return int(rng.integers(*_FIRST_FRAME_IDS))


def _make_folders(config: SyntheticConfig, scene: Path, *, has_anomaly: bool) -> Folders:
    """The scene's folders."""
    others = [paths.VOXEL_FOLDER, paths.ACTION_FOLDER, paths.ROUTE_FOLDER]
    others += [paths.ANOMALY_FOLDER] if has_anomaly else []
    folders: Folders = {key: scene / name for key, name in recorded_folders(config).items()}
    folders |= {name: scene / name for name in others}
    for folder in folders.values():
        folder.mkdir(parents=True)
    return folders


def _write_arrays(folders: Folders, frame_id: int, seen: Observation) -> None:
    """Four images or two clouds or both of each pose, the voxel grid."""
    for pose, picture in seen.pictures.items():
        images = (
            ("RGB-CAM", picture.image),
            ("DEPTH_CAM", encode_depth(picture.depth_m)),
            ("SEMANTIC-CAM", picture.semantic),
            ("INSTANCE-CAM", picture.instance),
        )
        for kind, image in images:
            path = _file(folders, (pose, kind), frame_id, ".png")
            write_png(path, image, is_noisy=kind == "RGB-CAM")
    for pose, cloud in seen.clouds.items():
        np.save(_file(folders, (pose, "LIDAR"), frame_id, ".npy"), cloud.points)
        path = _file(folders, (pose, "SEMANTIC-LIDAR"), frame_id, ".npy")
        np.save(path, _semantic_cloud(cloud))
    np.save(_file(folders, paths.VOXEL_FOLDER, frame_id, ".npy"), seen.voxels)


def _semantic_cloud(seen: Cloud) -> NDArray[np.float64]:
    """(P, 4) float64 in Fortran order: exact x, y, z and the class id."""
    cloud = np.empty((4, len(seen.exact_xyz)), np.float64)
    cloud[:3], cloud[3] = seen.exact_xyz.T, seen.point_class
    return cloud.T


def _write_action(
    folders: Folders,
    frame_id: int,
    world: SceneWorld,
    frame: int,
    config: SyntheticConfig,
    mounts: Sequence[SensorMount],
) -> None:
    """ACTION and, unless the scene is a normal one, ANOMALY: AnoVox writes them before the rest."""
    action = format_key_value(annotations.action_record(world, frame, frame_id, mounts))
    _file(folders, paths.ACTION_FOLDER, frame_id, ".csv").write_text(action)
    if world.plan.kind == "normality":
        return
    if world.plan.kind == "static":
        record = annotations.anomaly_record(world, frame_id)
    elif config.anomaly_variant == "A":
        record = annotations.lead_record(world, frame, frame_id)
    else:
        record = annotations.lead_action_record(world, frame, frame_id, mounts)
    path = _file(folders, paths.ANOMALY_FOLDER, frame_id, ".csv")
    path.write_text(format_key_value(record))


def _file(folders: Folders, key: Sensor | str, frame_id: int, ending: str) -> Path:
    folder = folders[key]
    return folder / paths.sensor_file_name(folder.name, frame_id, ending)


def _write_scenario_lists(target: Target, plans: Sequence[ScenePlan]) -> None:
    """Scenario lists in every second archive, as AnoVox has them in some and not in others."""
    config = target.config
    for plan in plans:
        folder = target.archive(plan) / paths.CONFIG_FOLDER
        path = folder / paths.scenario_config_name(plan.town)
        place = config.kinds.index(plan.kind) + config.towns.index(plan.town)
        if place % 2 == 0 and not path.exists():
            mates = [p for p in plans if (p.kind, p.town) == (plan.kind, plan.town)]
            worlds = [build_scene(config, mate) for mate in mates]
            folder.mkdir(exist_ok=True)
            _replace_text(path, annotations.scenario_text(plan.town, worlds))


def _replace_text(path: Path, text: str) -> None:
    partial = path.with_name(_PARTIAL_PREFIX + path.name)
    partial.write_text(text)
    partial.replace(path)

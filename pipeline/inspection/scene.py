"""All checks of one scene: every file by name, size and header, a sample of frames by content."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.datasets.anovox.class_ids import ANOMALY
from pipeline.datasets.anovox.io import load_table
from pipeline.datasets.anovox.scene import Scene
from pipeline.datasets.protocol.frames import FrameError
from pipeline.inspection import anomalies, clouds, files, images, voxels
from pipeline.inspection.check import Check
from pipeline.inspection.sample import Sample, class_ids, read_sample
from pipeline.inspection.setup import read_lidar_args


@dataclass(frozen=True, kw_only=True)
class SceneReport:
    """The checks of one scene."""

    scene_id: str
    pose: str
    num_frames: int
    sampled: tuple[int, ...]
    """Frame ids whose arrays were read."""
    figure_frame: int
    """The sampled frame that shows most: the one with most anomalous cells, else the middle."""
    checks: tuple[Check, ...]


def inspect_scene(scene: Scene, *, num_frames: int) -> SceneReport:
    """Every check; arrays of `num_frames` frames spread over the scene, and of the frame with most
    anomalous cells. Reads only; a damaged file becomes a FAIL, never an exception.
    """
    in_voxels = _voxel_ids(scene)
    chosen, most = evenly_spread(scene.frame_ids, num_frames), _most_anomalous(in_voxels)
    sampled = tuple(sorted({*chosen, *most}))
    samples = [read_sample(scene, frame_id) for frame_id in sampled]
    every_id = sorted({i for ids in in_voxels.values() for i in ids})
    checks = [
        *_file_checks(scene, samples),
        clouds.check_class_ids(samples, scene, every_id),
        *_content_checks(scene, samples),
    ]
    if scene.kind != "normality":
        checks.append(anomalies.check_anomaly(samples, scene))
    if scene.kind == "dynamic":
        labelled = [frame_id for frame_id, ids in in_voxels.items() if anomalies.BRAKED in ids]
        checks.append(anomalies.check_kinematics(scene, labelled))
    return SceneReport(
        scene_id=scene.scene_id,
        pose=scene.pose,
        num_frames=len(scene.frame_ids),
        sampled=sampled,
        figure_frame=most[0] if most else chosen[len(chosen) // 2],
        checks=tuple(checks),
    )


def _file_checks(scene: Scene, samples: Sequence[Sample]) -> list[Check]:
    headers = files.read_headers(scene)
    return [
        files.check_folders(scene),
        files.check_frames(scene),
        files.check_readable(headers, samples),
        files.check_image_form(headers, scene),
        files.check_cloud_form(headers, scene, read_lidar_args(scene)),
    ]


def _content_checks(scene: Scene, samples: Sequence[Sample]) -> list[Check]:
    args = read_lidar_args(scene)
    own = samples if scene.has_own_voxels else [sample.with_own_voxels() for sample in samples]
    return [
        clouds.check_range(samples, scene, args),
        clouds.check_rows(samples, args),
        clouds.check_ground(samples),
        images.check_sky(samples),
        images.check_projection(samples),
        images.check_depth(samples),
        images.check_pixel_classes(samples),
        voxels.check_voxel_content(samples, num_lidars=scene.num_lidars),
        voxels.check_voxel_height(own),
        voxels.check_point_voxels(own),
        voxels.check_pixel_voxels(own),
    ]


def evenly_spread(ids: Sequence[int], number: int) -> tuple[int, ...]:
    """That many of the ids, evenly from the first to the last; all if there are fewer."""
    places = np.linspace(0, len(ids) - 1, min(number, len(ids))).round().astype(int)
    return tuple(ids[place] for place in places.tolist())


def _voxel_ids(scene: Scene) -> dict[int, Counter[int]]:
    """Cells per class id in each frame's grid; the smallest label file, so all can be read.

    A damaged grid is left out here, because the checks of files report it.
    """
    found: dict[int, Counter[int]] = {}
    for frame_id in scene.frame_ids if "voxels" in scene.folders else ():
        try:
            table = load_table(scene.file("voxels", frame_id), ("<u2",))
        except FrameError:
            continue
        counts = np.bincount(class_ids(table[:, 3]))
        found[frame_id] = Counter({int(i): int(counts[i]) for i in np.flatnonzero(counts)})
    return found


def _most_anomalous(in_voxels: dict[int, Counter[int]]) -> tuple[int, ...]:
    """The frame with most anomalous cells, or none."""
    counts = {f: sum(ids[i] for i in ANOMALY if i in ids) for f, ids in in_voxels.items()}
    best = max(counts, key=counts.__getitem__, default=None)
    return (best,) if best is not None and counts[best] > 0 else ()

"""AnoVox as `jobs.prepare` reads it."""

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.datasets.anovox.annotations import read_anomaly
from pipeline.datasets.anovox.class_table import ANOVOX_FACTS
from pipeline.datasets.anovox.frame import Frame, read_frame
from pipeline.datasets.anovox.geometry import point_voxel
from pipeline.datasets.anovox.label_rules import BY_IDS, SceneRule, find_rule
from pipeline.datasets.anovox.labels import BRAKING_CATEGORY, Truth, truth
from pipeline.datasets.anovox.layout import find_archives
from pipeline.datasets.anovox.paths import FILE_SOURCES, SETUP_FILE
from pipeline.datasets.anovox.scan import Inventory, take_inventory
from pipeline.datasets.anovox.scene import Scene
from pipeline.datasets.protocol.dataset import FrameVoxels, LabelledFrame, LeftOut, ScannedArchive
from pipeline.datasets.protocol.frames import FrameError


class AnoVox:
    """Archives of FZI's AnoVox in the layout of its Zenodo release (docs/anovox-format.md)."""

    facts = ANOVOX_FACTS
    file_sources: Sequence[str] = (*(name for name, _ in FILE_SOURCES.values()), SETUP_FILE)

    def scan(self, root: Path, poses: Collection[str]) -> Iterator[ScannedArchive]:
        """Every archive, a refused one without scenes."""
        for archive in find_archives(root):
            yield _scanned(take_inventory(archive, poses))

    def input_facts(self, scene: Scene) -> Sequence[Sequence[Any]]:
        """Weather and calibration, then names and sizes of the files of each folder."""
        facts: list[list[Any]] = [[scene.weather, repr(scene.setup)]]
        for name, folder in sorted(scene.folders.items()):
            with os.scandir(folder) as entries:
                facts.append(
                    [name, sorted((entry.name, entry.stat().st_size) for entry in entries)]
                )
        return facts

    def category(self, scene: Scene) -> str:
        """Of the scene's one anomaly, from the first frame whose ANOMALY text is readable."""
        if scene.kind == "normality":
            return ""
        if scene.kind == "dynamic":
            return BRAKING_CATEGORY
        for frame_id in scene.frame_ids:
            path = scene.file("anomaly", frame_id)
            try:
                anomaly = read_anomaly(
                    path, scene_id=scene.scene_id, frame_id=frame_id, kind=scene.kind
                )
                return anomaly.category
            except FrameError:
                continue
        return ""

    def known_rule(self, scene: Scene) -> SceneRule | None:
        """Class ids, but in dynamic scenes."""
        return None if scene.kind == "dynamic" else BY_IDS

    def find_rule(self, scene: Scene, *, allow_guess: bool) -> SceneRule:
        """`label_rules.find_rule`."""
        return find_rule(scene, allow_guess=allow_guess)

    def read(
        self, scene: Scene, frame_id: int, rule: SceneRule, *, min_points: int, min_pixels: int
    ) -> LabelledFrame:
        """The frame of all modalities with its labels."""
        frame = read_frame(scene, frame_id)
        labels = truth(frame, rule, min_points=min_points, min_pixels=min_pixels)
        return labelled_frame(frame, labels, scene)


def labelled_frame(frame: Frame, labels: Truth, scene: Scene) -> LabelledFrame:
    """A frame of all modalities and its labels as one record."""
    frame_id = frame.key.frame_id
    return LabelledFrame(
        key=frame.key,
        frame_index=frame.frame_index,
        time_s=frame.time_s,
        image=frame.image,
        intrinsics=frame.intrinsics,
        camera_from_lidar=frame.camera_from_lidar,
        world_from_lidar=frame.world_from_lidar,
        points=frame.points,
        point_class=frame.point_class,
        point_label=labels.point_label,
        frame_label=labels.frame_label,
        label_rule=labels.label_rule,
        pixel_label=labels.pixel_label,
        voxels=FrameVoxels(
            cells=frame.voxels,
            of_point=point_voxel(
                frame.exact_xyz, frame.voxels, voxel_from_lidar=frame.voxel_from_lidar
            ),
            voxel_from_lidar=frame.voxel_from_lidar,
            num_anomalous=labels.num_anomaly_voxels,
        ),
        semantic=scene.file("semantic", frame_id).read_bytes(),
        depth=scene.file("depth", frame_id).read_bytes(),
        anomaly_type=labels.anomaly_type,
        anomaly_category=labels.anomaly_category,
        anomaly_phase=labels.anomaly_phase,
        anomaly_size=labels.anomaly_size,
        anomaly_distance_m=labels.anomaly_distance_m,
    )


def _scanned(inventory: Inventory) -> ScannedArchive:
    archive = inventory.archive
    whole = [LeftOut(scene="", reason=archive.refusal)] if archive.refusal else []
    refused = [LeftOut(scene=bad.folder, reason=bad.reason) for bad in inventory.refused]
    return ScannedArchive(
        name=archive.name,
        scenes=tuple(scene for poses in inventory.scenes for scene in poses),
        left_out=(*whole, *refused),
        sentence=inventory.sentence(),
    )

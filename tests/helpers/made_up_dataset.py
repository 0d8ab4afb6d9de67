"""A data set that resembles AnoVox in nothing: other classes, files, image size and mounts.

Frames are .npz files; there are no voxels, no depth, no semantics and no labels of pixels.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.datasets.protocol.classes import (
    ANOMALOUS_LABEL,
    IGNORE_LABEL,
    NORMAL_LABEL,
    ClassInfo,
    ClassTable,
)
from pipeline.datasets.protocol.dataset import LabelledFrame, LeftOut, ScannedArchive
from pipeline.datasets.protocol.facts import DatasetFacts
from pipeline.datasets.protocol.frames import FrameError, FrameKey

HEIGHT, WIDTH = 40, 72
VOID, STREET, HEDGE, CRATE, FRIDGE, SOFA = 0, 5, 6, 7, 200, 201
NUM_FRAMES, NUM_POINTS = 5, 300
INTRINSICS = (60.0, 55.0, 30.0, 22.0)


def _class(class_id: int, name: str, label: int = NORMAL_LABEL, **more: Any) -> ClassInfo:
    return ClassInfo(class_id=class_id, name=name, colour=(class_id, 9, 9), label=label, **more)


CLASSES = ClassTable(
    classes=(
        _class(VOID, "void", IGNORE_LABEL),
        _class(STREET, "street", semantic="street", is_road=True),
        _class(HEDGE, "hedge", semantic="hedge"),
        _class(CRATE, "crate", semantic="crate", is_lookalike=True),
        _class(FRIDGE, "fridge", ANOMALOUS_LABEL, category="furniture"),
        _class(SOFA, "sofa", ANOMALOUS_LABEL, category="furniture"),
    )
)


@dataclass(frozen=True, kw_only=True)
class MadeUpScene:
    """A folder of numbered .npz files."""

    path: Path
    frame_ids: tuple[int, ...]
    kind: str = "static"
    town: str = ""
    weather: str = "unknown"
    pose: str = "roof"
    image_size: tuple[int, int] = (HEIGHT, WIDTH)
    notes: tuple[str, ...] = ()

    @property
    def archive(self) -> str:
        return self.path.parent.name

    @property
    def scene_id(self) -> str:
        return self.path.name

    @property
    def partial_frames(self) -> Mapping[int, tuple[str, ...]]:
        return {}


@dataclass(frozen=True, kw_only=True)
class ByIds:
    """Class ids say it all."""

    label_rule: str = "ids"

    @property
    def window_ids(self) -> list[int | None]:
        return []


class MadeUp:
    """The data set, as `data.dataset=tests.helpers.made_up_dataset:MadeUp` names it."""

    facts = DatasetFacts(name="made up", classes=CLASSES, voxel_grid=None, has_pixel_labels=False)
    file_sources: Sequence[str] = ("frame",)

    def scan(self, root: Path, poses: Collection[str]) -> Iterator[ScannedArchive]:
        scenes, left_out = [], []
        for path in sorted(root.glob("*/")):
            ids = sorted(int(file.stem.removeprefix("frame-")) for file in path.glob("*.npz"))
            if ids:
                scenes.append(MadeUpScene(path=path, frame_ids=tuple(ids)))
            else:
                left_out.append(LeftOut(scene=path.name, reason=f"{path}: it holds no frame"))
        yield ScannedArchive(
            name=root.name,
            scenes=tuple(scenes),
            left_out=tuple(left_out),
            sentence=f"{root.name}: {len(scenes)} scenes",
        )

    def input_facts(self, scene: MadeUpScene) -> Sequence[Sequence[Any]]:
        return [[list(scene.frame_ids)]]

    def category(self, scene: MadeUpScene) -> str:
        return "furniture"

    def known_rule(self, scene: MadeUpScene) -> ByIds:
        return ByIds()

    def find_rule(self, scene: MadeUpScene, *, allow_guess: bool) -> ByIds:
        raise AssertionError("every rule is known")

    def read(
        self, scene: MadeUpScene, frame_id: int, rule: ByIds, *, min_points: int, min_pixels: int
    ) -> LabelledFrame:
        file = scene.path / f"frame-{frame_id}.npz"
        try:
            with np.load(file) as arrays:
                image, points, ids = (arrays[name] for name in ("image", "points", "ids"))
        except (OSError, ValueError, EOFError) as error:
            raise FrameError(f"{file}: it cannot be read ({error}); write it again") from None
        label = CLASSES.label_of(ids)
        pose = np.eye(4)
        pose[0, 3] = 1.5 * frame_id
        return LabelledFrame(
            key=FrameKey(scene.archive, scene.scene_id, frame_id, scene.pose),
            frame_index=frame_id,
            time_s=frame_id / 4,
            image=image,
            intrinsics=np.array(INTRINSICS),
            camera_from_lidar=rolled_camera(),
            world_from_lidar=pose,
            points=points,
            point_class=ids,
            point_label=label,
            frame_label=int(np.count_nonzero(label == ANOMALOUS_LABEL) >= min_points),
            label_rule=rule.label_rule,
            anomaly_category="furniture",
        )


def rolled_camera() -> np.ndarray:
    """A camera beside the LiDAR that looks ahead, rolled by five degrees."""
    ahead = np.array([[0.0, -1, 0, 0.3], [0, 0, -1, -0.2], [1, 0, 0, 0.1], [0, 0, 0, 1]])
    cos, sin = np.cos(np.radians(5)), np.sin(np.radians(5))
    roll = np.eye(4)
    roll[:2, :2] = [[cos, -sin], [sin, cos]]
    return roll @ ahead


def write_made_up(root: Path, *, num_scenes: int) -> None:
    """Scenes on a street between hedges, with a piece of furniture on it from frame 2 on."""
    for scene in range(num_scenes):
        folder = root / f"drive-{scene}"
        folder.mkdir(parents=True)
        for frame in range(NUM_FRAMES):
            rng = np.random.default_rng([scene, frame])
            points, ids = _cloud(rng, FRIDGE + scene % 2 if frame >= 2 else None)
            image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            np.savez(folder / f"frame-{frame}.npz", image=image, points=points, ids=ids)


def _cloud(rng: np.random.Generator, furniture: int | None) -> tuple[np.ndarray, np.ndarray]:
    low, high = (3, -6, -1.7, 0), (40, 6, -1.6, 1)
    points = rng.uniform(low, high, (NUM_POINTS, 4)).astype(np.float32)
    ids = rng.choice(np.array([VOID, STREET, HEDGE], np.uint8), NUM_POINTS, p=[0.1, 0.6, 0.3])
    points[ids == HEDGE, 2] += 1.5
    ids[:20] = CRATE
    if furniture is not None:
        ids[20:50] = furniture
        points[20:50, :3] = rng.uniform((9, -1, -1.6), (10, 1, 0.4), (30, 3))
    return points, ids

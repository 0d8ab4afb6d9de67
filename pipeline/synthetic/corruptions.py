"""What real archives have wrong with them, made on request so that readers meet it.

One of each: a scene without sensor_setup.json, a truncated one, one without VOXEL_GRID, two scenes
with the same frame ids, an archive nested in one more folder, an empty scene folder.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.config.data import SyntheticConfig
from pipeline.datasets.anovox import paths
from pipeline.synthetic.plan import ScenePlan

IRREGULAR_FILE = "irregular.json"


@dataclass(frozen=True, kw_only=True)
class Irregular:
    """Which scenes and which archive are irregular in which way."""

    no_setup: ScenePlan
    truncated: ScenePlan
    num_whole_frames: int
    """Of the truncated scene; one more has ACTION and ANOMALY but nothing else."""
    no_voxels: ScenePlan
    repeated: ScenePlan
    """Its frame ids begin where those of `repeats` do."""
    repeats: ScenePlan
    nested: str
    """Name of the archive that lies one folder deeper."""
    empty_archive: str
    empty_scene: str
    """Id of a scene whose folder is empty, and the archive that it lies in."""

    def num_frames(self, plan: ScenePlan, num_frames: int) -> int:
        """Whole frames of a scene that would have `num_frames`."""
        return self.num_whole_frames if plan == self.truncated else num_frames

    def counts(self) -> dict[str, int]:
        """How many of each, for the job's result."""
        return {
            "num_scenes_without_setup": 1,
            "num_truncated_scenes": 1,
            "num_scenes_without_voxels": 1,
            "num_scenes_with_repeated_frame_ids": 2,
            "num_nested_archives": 1,
            "num_empty_scenes": 1,
        }

    def description(self) -> dict[str, Any]:
        """Content of `irregular.json`: names of archives and ids of scenes."""
        return {
            "scene_without_setup": self.no_setup.scene_id,
            "truncated_scene": self.truncated.scene_id,
            "whole_frames_of_truncated_scene": self.num_whole_frames,
            "scene_without_voxels": self.no_voxels.scene_id,
            "scenes_with_repeated_frame_ids": [self.repeated.scene_id, self.repeats.scene_id],
            "nested_archive": self.nested,
            "empty_scene": self.empty_scene,
            "archive_of_empty_scene": self.empty_archive,
        }


def draw_irregular(config: SyntheticConfig, plans: Sequence[ScenePlan]) -> Irregular | None:
    """The irregularities of a world, or None if it is to be regular."""
    if not config.irregular:
        return None
    rng = np.random.default_rng([config.seed, 9])
    no_setup, truncated, no_voxels, repeats, *_ = (plans[i] for i in rng.permutation(len(plans)))
    return Irregular(
        no_setup=no_setup,
        truncated=truncated,
        num_whole_frames=max(2, round(0.6 * config.num_frames)),
        no_voxels=no_voxels,
        repeated=no_setup,
        repeats=repeats,
        nested=archive_of(config, no_voxels),
        empty_archive=archive_of(config, truncated),
        empty_scene=str(uuid.UUID(bytes=rng.bytes(16), version=4)),
    )


def archive_of(config: SyntheticConfig, plan: ScenePlan) -> str:
    """Name of a scene's archive; AnoVox calls both stereo sets Stereo and Town10HD Town10."""
    sensor_set = config.sensor_set.removesuffix("OneLidar")
    return paths.archive_name(plan.kind, plan.town.removesuffix("HD"), sensor_set)

"""What the rest of the program must know of a data set, as the manifest carries it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.datasets.protocol.classes import ClassTable, class_table


@dataclass(frozen=True, kw_only=True)
class VoxelGrid:
    """Cubes in the axes to which a frame's `voxel_from_lidar` takes its points."""

    size_m: float
    offset_m: tuple[float, float, float]
    """Cell (0, 0, 0) begins at minus this."""


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """A data set as models, losses, metrics and figures see it."""

    name: str
    """As tables and figures print it."""
    classes: ClassTable
    voxel_grid: VoxelGrid | None
    """None where frames bring no voxels."""
    has_pixel_labels: bool


def dataset_facts(facts: Mapping[str, Any]) -> DatasetFacts:
    """The facts that `dataclasses.asdict` and JSON made these of."""
    grid = facts["voxel_grid"]
    return DatasetFacts(
        name=facts["name"],
        classes=class_table(facts["classes"]["classes"]),
        voxel_grid=grid and VoxelGrid(**grid | {"offset_m": tuple(grid["offset_m"])}),
        has_pixel_labels=facts["has_pixel_labels"],
    )

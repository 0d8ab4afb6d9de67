"""AnoVox's class table: what its ids mean to the rest of the program.

Classes of the semantic head are the normal ids that a LiDAR can hit: sky returns no ray. Anomalies
are no class at all: what a detector trained on normal scenes alone must not know cannot have an
output of its own. An actor steered by an agent has the class of its kind, which counts where the
lead car of a dynamic scene is normal; under the id of the generic anomaly it has none.
"""

from pipeline.datasets.anovox.class_ids import (
    AGENT_OFFSET,
    ANOMALY,
    CATEGORY,
    CLASS_NAMES,
    COLOURS,
    EGO,
    IGNORE,
    ROAD,
    ROAD_LINE,
)
from pipeline.datasets.anovox.geometry import GRID_OFFSET_M, VOXEL_SIZE_M
from pipeline.datasets.protocol.classes import (
    ANOMALOUS_LABEL,
    IGNORE_LABEL,
    NORMAL_LABEL,
    ClassInfo,
    ClassTable,
)
from pipeline.datasets.protocol.facts import DatasetFacts, VoxelGrid

_SKY = 11
_STATIC, _DYNAMIC = 20, 21


def _class_info(class_id: int) -> ClassInfo:
    label = ANOMALOUS_LABEL if class_id in ANOMALY else NORMAL_LABEL
    return ClassInfo(
        class_id=class_id,
        name=CLASS_NAMES[class_id],
        colour=COLOURS[class_id],
        label=IGNORE_LABEL if class_id in IGNORE else label,
        category=CATEGORY.get(class_id, ""),
        semantic=_semantic(class_id),
        is_lookalike=class_id in (_STATIC, _DYNAMIC),
        is_road=class_id in (ROAD, ROAD_LINE),
    )


def _semantic(class_id: int) -> str:
    own = class_id - AGENT_OFFSET if class_id in IGNORE - {EGO} else class_id
    if own in ANOMALY | IGNORE | {_SKY}:
        return ""
    return CLASS_NAMES[own].replace(" ", "_")


ANOVOX_CLASSES = ClassTable(classes=tuple(_class_info(class_id) for class_id in CLASS_NAMES))
ANOVOX_FACTS = DatasetFacts(
    name="AnoVox",
    classes=ANOVOX_CLASSES,
    voxel_grid=VoxelGrid(size_m=VOXEL_SIZE_M, offset_m=GRID_OFFSET_M),
    has_pixel_labels=True,
)

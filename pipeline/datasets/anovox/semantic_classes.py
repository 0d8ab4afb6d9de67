"""Classes of the semantic head: the normal AnoVox ids that a LiDAR can hit.

Sky returns no ray. Anomalies and ignored actors are no class at all: what a detector trained on
normal scenes alone must not know cannot have an output of its own.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.anovox.class_ids import (
    AGENT_OFFSET,
    ANOMALY,
    CLASS_NAMES,
    IGNORE,
    NORMAL_LABEL,
)

_SKY = 11
SEMANTIC_IDS: tuple[int, ...] = tuple(i for i in CLASS_NAMES if i not in ANOMALY | IGNORE | {_SKY})
"""Id of each class, ascending: column k of the semantic logits is id `SEMANTIC_IDS[k]`."""
NUM_CLASSES = len(SEMANTIC_IDS)
NO_CLASS = -1
"""Of a point that no class describes: anomalous, ignored, or normal under an anomaly's id."""


def class_name(number: int) -> str:
    """Name of a class as metrics spell it, `road_line` for instance."""
    return CLASS_NAMES[SEMANTIC_IDS[number]].replace(" ", "_")


def _table() -> NDArray[np.int64]:
    """Class per id; an actor steered by an agent has the class of its kind."""
    table = np.full(256, NO_CLASS, np.int64)
    for number, class_id in enumerate(SEMANTIC_IDS):
        table[class_id] = number
        if class_id + AGENT_OFFSET in IGNORE:
            table[class_id + AGENT_OFFSET] = number
    return table


CLASS_OF_ID = _table()


def semantic_class(
    point_class: NDArray[np.uint8], point_label: NDArray[np.uint8]
) -> NDArray[np.int64]:
    """Class (0 to NUM_CLASSES - 1) of points (P,) labelled normal, `NO_CLASS` of all others.

    The lead car of a dynamic scene is normal outside its window and then counts as a car under the
    id of an agent's car, but not under that of the generic anomaly.
    """
    return np.where(point_label == NORMAL_LABEL, CLASS_OF_ID.take(point_class), NO_CLASS)

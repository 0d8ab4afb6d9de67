"""AnoVox class ids: names, colours, and which ids mean anomalous, ignored or normal.

Ids 0-28 are the tags of CARLA 0.9.14; AnoVox adds 29-34 and 100 for anomalies, 112-119 for actors
steered by an agent and 214 for the ego vehicle. Lookups go through 256-entry tables, and an id
outside the table is an error: a label is never guessed.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.protocol.classes import ANOMALOUS_LABEL, IGNORE_LABEL, NORMAL_LABEL

UNLABELED = 0  # counts as normal: thin geometry without a tag, never an AnoVox object
ROAD = 1
ROAD_LINE = 24
EGO = 214
GENERIC_ANOMALY = 100
"""The braking vehicle of a dynamic scene has it inside its window, where ids were set."""
AGENT_OFFSET = 100
"""Added to a native class when an agent steers the actor."""

CLASS_NAMES: dict[int, str] = {
    0: "unlabeled",
    1: "road",
    2: "sidewalk",
    3: "building",
    4: "wall",
    5: "fence",
    6: "pole",
    7: "traffic light",
    8: "traffic sign",
    9: "vegetation",
    10: "terrain",
    11: "sky",
    12: "pedestrian",
    13: "rider",
    14: "car",
    15: "truck",
    16: "bus",
    17: "train",
    18: "motorcycle",
    19: "bicycle",
    20: "static",
    21: "dynamic",
    22: "other",
    23: "water",
    24: "road line",
    25: "ground",
    26: "bridge",
    27: "rail track",
    28: "guard rail",
    29: "home",
    30: "animal",
    31: "nature",
    32: "special",
    33: "airplane",
    34: "falling",
    100: "anomaly",
    112: "agent_pedestrian",
    113: "agent_rider",
    114: "agent_car",
    115: "agent_truck",
    116: "agent_bus",
    117: "agent_train",
    118: "agent_motorcycle",
    119: "agent_bicycle",
    214: "ego_vehicle",
}
"""Every id that may occur; 117 is never spawned but belongs to the range of agents."""

COLOURS: dict[int, tuple[int, int, int]] = {
    0: (0, 0, 0),
    1: (128, 64, 128),
    2: (244, 35, 232),
    3: (70, 70, 70),
    4: (102, 102, 156),
    5: (190, 153, 153),
    6: (153, 153, 153),
    7: (250, 170, 30),
    8: (220, 220, 0),
    9: (107, 142, 35),
    10: (152, 251, 152),
    11: (70, 130, 180),
    12: (220, 20, 60),
    13: (255, 0, 0),
    14: (0, 0, 142),
    15: (0, 0, 70),
    16: (0, 60, 100),
    17: (0, 80, 100),
    18: (0, 0, 230),
    19: (119, 11, 32),
    20: (110, 190, 160),
    21: (170, 120, 50),
    22: (55, 90, 80),
    23: (45, 60, 150),
    24: (157, 234, 50),
    25: (81, 0, 81),
    26: (150, 100, 100),
    27: (230, 150, 140),
    28: (180, 165, 180),
    29: (245, 29, 0),
    30: (245, 30, 0),
    31: (245, 31, 0),
    32: (245, 32, 0),
    33: (245, 33, 0),
    34: (245, 34, 0),
    100: (245, 0, 0),
    112: (220, 20, 61),
    113: (255, 0, 1),
    114: (3, 0, 143),
    115: (0, 0, 71),
    116: (0, 60, 101),
    117: (0, 80, 101),
    118: (0, 0, 231),
    119: (119, 11, 33),
    214: (0, 0, 1),
}
"""Display colours (red, green, blue) of AnoVox; no two ids share one."""

CATEGORY: dict[int, str] = {
    29: "home",
    30: "animal",
    31: "nature",
    32: "special",
    33: "airplane",
    34: "falling",
    100: "anomaly",
}
"""Anomalous ids and the category each stands for."""

ANOMALY: frozenset[int] = frozenset(CATEGORY)
IGNORE: frozenset[int] = frozenset({*range(112, 120), EGO})


def _table() -> NDArray[np.int16]:
    """Label per id, -1 where the id is not AnoVox's."""
    table = np.full(256, -1, np.int16)
    table[list(CLASS_NAMES)] = NORMAL_LABEL
    table[list(ANOMALY)] = ANOMALOUS_LABEL
    table[list(IGNORE)] = IGNORE_LABEL
    return table


_LABEL = _table()
_KNOWN_BYTES = bytes(np.flatnonzero(_LABEL >= 0).tolist())
_OTHER_BYTES = bytes(np.flatnonzero(_LABEL != ANOMALOUS_LABEL).tolist())
_ANOMALY_BYTES = (_LABEL == ANOMALOUS_LABEL).astype(np.uint8).tobytes()
_LABEL_BYTES = _LABEL.astype(np.uint8).tobytes()
# Bytes are looked up by `translate`, which takes a fifth of the time of NumPy's own indexing.


def _looked_up(class_id: NDArray[np.uint8], table: bytes) -> NDArray[np.uint8]:
    """The table's byte for every id, same shape; writable."""
    assert class_id.dtype == np.uint8, class_id.dtype
    found = bytearray(class_id.tobytes()).translate(table)
    return np.frombuffer(found, np.uint8).reshape(class_id.shape)


def unknown_ids(class_id: NDArray[np.uint8]) -> list[int]:
    """Ids in the array that AnoVox's table lacks, ascending; empty when all is well."""
    assert class_id.dtype == np.uint8, class_id.dtype
    return sorted(set(class_id.tobytes().translate(None, _KNOWN_BYTES)))


def anomalous_ids(class_id: NDArray[np.uint8]) -> list[int]:
    """Ids of `ANOMALY` in the array, ascending."""
    assert class_id.dtype == np.uint8, class_id.dtype
    return sorted(set(class_id.tobytes().translate(None, _OTHER_BYTES)))


def is_anomaly(class_id: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """True where the id is one of `ANOMALY`; same shape."""
    return _looked_up(class_id, _ANOMALY_BYTES).view(np.bool_)


def label_of_class(class_id: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Label per class id, same shape: 0 normal (`UNLABELED` included), 1 anomalous, 255 ignored.

    Raises ValueError for an id outside AnoVox's table.
    """
    unknown = unknown_ids(class_id)
    if unknown:
        raise ValueError(
            f"class ids {unknown} are not in AnoVox's table (0-34, 100, 112-119, 214); read id "
            "images and clouds of the release layout, not colours or tags of an older CARLA"
        )
    return _looked_up(class_id, _LABEL_BYTES)

"""Labels and the class table: what each class id of a data set means to models and metrics.

The table travels in the manifest of prepared shards, so that whatever is trained or counted on them
needs to know no data set.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

NORMAL_LABEL = 0
ANOMALOUS_LABEL = 1
IGNORE_LABEL = 255

NUM_IDS = 256
"""Class ids are bytes."""
NO_CLASS = -1
"""Of a point that no semantic class describes: anomalous, ignored, or normal under an anomaly's
id."""


@dataclass(frozen=True, kw_only=True)
class ClassInfo:
    """One class id of a data set."""

    class_id: int
    name: str
    colour: tuple[int, int, int]
    """Red, green, blue for figures."""
    label: int
    """Of points of this class, unless the data set knows better: 0 normal, 1 anomalous, 255
    ignored."""
    category: str = ""
    """Of anomalous classes: kind of foreign object, for slices; several ids may share one."""
    semantic: str = ""
    """Class of the semantic head of points labelled normal, as metrics spell it; several ids may
    share one. Empty for none."""
    is_lookalike: bool = False
    """An ordinary small object, which an anomaly has to be told from."""
    is_road: bool = False
    """Ground on which synthetic outliers stand."""


@dataclass(frozen=True, kw_only=True)
class ClassTable:
    """Every class id that may occur in a data set, ascending."""

    classes: tuple[ClassInfo, ...]

    def __post_init__(self) -> None:
        ids = [one.class_id for one in self.classes]
        if ids != sorted(set(ids)) or any(not 0 <= one < NUM_IDS for one in ids):
            raise ValueError(
                f"a class table has the ids {ids}; list each id from 0 to {NUM_IDS - 1} once, "
                "in ascending order"
            )
        for one in self.classes:
            is_anomalous = one.label == ANOMALOUS_LABEL
            if is_anomalous != bool(one.category) or (is_anomalous and one.semantic):
                raise ValueError(
                    f"class {one.class_id} ({one.name}) has label {one.label}, category "
                    f"{one.category!r} and semantic class {one.semantic!r}; anomalous classes, "
                    "and they alone, have a category, and they have no semantic class"
                )

    @cached_property
    def semantic_names(self) -> tuple[str, ...]:
        """Classes of the semantic head, in the order of its columns."""
        return tuple(dict.fromkeys(one.semantic for one in self.classes if one.semantic))

    @cached_property
    def semantic_ids(self) -> tuple[int, ...]:
        """The first id of each class of the semantic head."""
        firsts = {one.semantic: one.class_id for one in reversed(self.classes)}
        return tuple(firsts[name] for name in self.semantic_names)

    @cached_property
    def semantic_of_id(self) -> NDArray[np.int64]:
        """Column of the semantic head per id (256,), `NO_CLASS` where there is none."""
        table = np.full(NUM_IDS, NO_CLASS, np.int64)
        for one in self.classes:
            if one.semantic:
                table[one.class_id] = self.semantic_names.index(one.semantic)
        return table

    @cached_property
    def categories(self) -> dict[str, tuple[int, ...]]:
        """Ids of the anomalous classes by category, in the order of ids."""
        found: dict[str, tuple[int, ...]] = {}
        for one in self.classes:
            if one.category:
                found[one.category] = (*found.get(one.category, ()), one.class_id)
        return found

    @cached_property
    def lookalike_ids(self) -> list[int]:
        """Ids of ordinary small objects."""
        return [one.class_id for one in self.classes if one.is_lookalike]

    @cached_property
    def road_ids(self) -> list[int]:
        """Ids on which synthetic outliers stand."""
        return [one.class_id for one in self.classes if one.is_road]

    @cached_property
    def _labels(self) -> NDArray[np.int16]:
        table = np.full(NUM_IDS, -1, np.int16)
        for one in self.classes:
            table[one.class_id] = one.label
        return table

    def label_of(self, class_id: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Label per class id, same shape; ValueError for ids that the table lacks."""
        label = self._labels.take(class_id)
        if (label < 0).any():
            unknown = np.unique(class_id[label < 0]).tolist()
            raise ValueError(f"class ids {unknown} are not in the data set's class table")
        return label.astype(np.uint8)

    def semantic_class(
        self, point_class: NDArray[np.uint8], point_label: NDArray[np.uint8]
    ) -> NDArray[np.int64]:
        """Column of the semantic head of points (P,) labelled normal, `NO_CLASS` of all others.

        A class that is ignored may be normal for a while (a vehicle ahead that drives on); then its
        semantic class counts.
        """
        known = self.semantic_of_id.take(point_class)
        return np.where(point_label == NORMAL_LABEL, known, NO_CLASS)


def class_table(facts: Iterable[Mapping[str, Any]]) -> ClassTable:
    """The table that `dataclasses.asdict` and JSON made these facts of."""
    return ClassTable(
        classes=tuple(ClassInfo(**{**one, "colour": _rgb(one["colour"])}) for one in facts)
    )


def is_one_of(class_ids: Sequence[int]) -> NDArray[np.bool_]:
    """By class id (256,), whether it is one of these."""
    return np.isin(np.arange(NUM_IDS), class_ids)


def _rgb(colour: Sequence[int]) -> tuple[int, int, int]:
    red, green, blue = colour
    return red, green, blue

"""Frames written into the memory of a batch, each array once.

What augmentation always does (mirror, grey levels) and the ego box happen on the way there: at the
size of the demo a pass of its own over a frame's arrays costs as much as copying them.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Shaped

from pipeline.data.encoding import UNITS_PER_STEP
from pipeline.data.frames import (
    KINDS,
    NO_VOXEL,
    OF_POINTS,
    Extra,
    StoredFrame,
    cloud_of,
    columns_of,
    in_metres,
    outside_box,
)
from pipeline.data.memory import Memory
from pipeline.data.point_rows import copy_outside
from pipeline.data.transforms.augment import Augmentation, write_image

ALIGNMENT = 64
"""Bytes; each tensor of a batch starts at a cache line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One frame of a batch and what is still to be done to it as it is written there."""

    frame: StoredFrame
    ego_box_m: Sequence[float] | None = None
    """Half length and half width of the box whose points the batch leaves out; None = none."""
    change: Augmentation | None = None
    """Grey levels and mirror; None = neither. What else it says has been done already."""

    @property
    def num_voxels(self) -> int:
        """Cells of the frame's grid, 0 where they are not asked for."""
        return 0 if self.frame.voxels is None else len(self.frame.voxels)

    @property
    def mirrored(self) -> bool:
        """Whether left and right are exchanged."""
        return self.change is not None and self.change.flip

    def cloud(self) -> StoredFrame:
        """The frame with its points in metres and no others than the batch holds."""
        return cloud_of(self.frame, self.ego_box_m)


def joined(
    parts: Sequence[Part],
    memory: Memory,
    *,
    image_shape: tuple[int, int, int],
    num_columns: int,
    extras: Iterable[Extra] = (),
) -> tuple[dict[str, np.ndarray], list[int]]:
    """The parts' arrays by name, each joined along its first axis, in one buffer; points of each.

    `point_voxel` then counts through the voxels of all frames.
    """
    # Room for the ego returns as well: how many there are shows when the points are copied.
    room = sum(len(part.frame.points) for part in parts)
    voxel_ends = [0, *itertools.accumulate(part.num_voxels for part in parts)]
    shapes = dict.fromkeys(KINDS, (room,)) | {
        "image": (len(parts), *image_shape),
        "points": (room, num_columns),
        "pixel_label": (len(parts), *image_shape[:2]),
        "voxels": (voxel_ends[-1], 4),
    }
    arrays = _placed(columns_of(extras), shapes, memory)
    of_points = [name for name in OF_POINTS if name in arrays]
    counts, end = [], 0
    for i, part in enumerate(parts):
        places = {name: arrays[name][end:] for name in of_points}
        counts.append(_write_points(part, places))
        _write_image(part, arrays["image"][i])
        if "pixel_label" in arrays:
            _write_label(part, arrays["pixel_label"][i])
        if "voxels" in arrays:
            arrays["voxels"][voxel_ends[i] : voxel_ends[i + 1]] = part.frame.voxels
            own = places["point_voxel"][: counts[-1]]
            own[own != NO_VOXEL] += voxel_ends[i]
        end += counts[-1]
    return arrays | {name: arrays[name][:end] for name in of_points}, counts


def _placed(
    names: Sequence[str], shapes: dict[str, tuple[int, ...]], memory: Memory
) -> dict[str, np.ndarray]:
    """Arrays of these shapes one after the other in one buffer."""
    sizes = [math.prod(shapes[name]) * KINDS[name].itemsize for name in names]
    ends = list(itertools.accumulate(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes))
    place = memory.take(ends[-1])
    return {
        name: place[start : start + size].view(KINDS[name]).reshape(shapes[name])
        for name, start, size in zip(names, [0, *ends], sizes, strict=False)
    }


def _write_points(part: Part, places: dict[str, np.ndarray]) -> int:
    """Write the part's points and what belongs to them at the head of `places`; say how many."""
    frame = part.frame
    if part.ego_box_m is None or len(frame.points) == 0:
        return _write_all_points(part, places)
    count = copy_outside(
        frame.points,
        (frame.point_class, frame.point_label),
        units=_units(frame.points, mirrored=part.mirrored),
        half_size_m=part.ego_box_m,
        out=places["points"],
        out_of_points=(places["point_class"], places["point_label"]),
    )
    if frame.point_voxel is not None:
        kept = frame.point_voxel[outside_box(in_metres(frame).points, part.ego_box_m)]
        places["point_voxel"][:count] = kept
    return count


def _write_all_points(part: Part, places: dict[str, np.ndarray]) -> int:
    frame = in_metres(part.frame)
    count = len(frame.points)
    for name, place in places.items():
        place[:count] = getattr(frame, name)
    if part.mirrored:
        y = places["points"][:count, 1]
        np.multiply(y, np.float32(-1), out=y)
    return count


def _units(points: Shaped[np.ndarray, "P 4"], *, mirrored: bool) -> Float32[np.ndarray, "4"]:
    """Factors from stored points to metres of the batch; y changes its sign where mirrored."""
    return _UNITS[points.dtype == np.int16, mirrored]


_MIRROR = np.array([1, -1, 1, 1], np.float32)
_UNITS = {
    (False, False): np.ones(4, np.float32),
    (False, True): _MIRROR,
    (True, False): UNITS_PER_STEP,
    (True, True): UNITS_PER_STEP * _MIRROR,
}


def _write_image(part: Part, place: np.ndarray) -> None:
    image = part.frame.image[0]
    if part.change is None:
        place[...] = image
    else:
        write_image(image, part.change, place)


def _write_label(part: Part, place: np.ndarray) -> None:
    assert part.frame.pixel_label is not None
    label = part.frame.pixel_label[0]
    place[...] = label[:, ::-1] if part.mirrored else label

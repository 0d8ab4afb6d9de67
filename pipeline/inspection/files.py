"""Checks on every file of a scene without decoding any: names, counts, sizes, headers, ends.

A few hundred bytes of each file are read, so that all 200 frames of a scene cost less than a
second; decoding is left to the sampled frames.
"""

import os
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

from numpy.lib import format as npy

from pipeline.datasets.anovox.paths import FILE_SOURCES, SETUP_FILE, sensor_file_name
from pipeline.datasets.anovox.scene import Scene
from pipeline.inspection.check import Check, CheckStatus, not_measured
from pipeline.inspection.sample import Sample
from pipeline.inspection.setup import LidarArgs

FRAMES_OF_ANOVOX = 200
_PNG_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_PNG_MODES = {(8, 0): "L", (8, 2): "RGB", (8, 3): "P", (8, 4): "LA", (8, 6): "RGBA"}
_CAMERA_MODES = {"image": "RGB", "depth": "RGB", "semantic": "L", "instance": "RGB"}
_NPY_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_HEADER_ERRORS = (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, TokenError)
"""All that a damaged header makes its parser raise."""
_CLOUD_DTYPES = {"lidar": "float32", "semantic_lidar": "float64"}


@dataclass(frozen=True, kw_only=True)
class Headers:
    """What the first and last bytes of a scene's files say, and what was wrong with them."""

    images: Mapping[str, Counter[tuple[str, int, int]]]
    """Per camera field: how many files have this (mode, width, height)."""
    clouds: Mapping[str, Mapping[int, tuple[str, int]]]
    """Per LiDAR field and frame id: (dtype, number of points)."""
    errors: tuple[str, ...]
    num_files: int


def read_headers(scene: Scene) -> Headers:
    """First and last bytes of every file of every whole frame."""
    images: dict[str, Counter[tuple[str, int, int]]] = {}
    clouds: dict[str, dict[int, tuple[str, int]]] = {}
    errors: list[str] = []
    num_files = 0
    for field, frame_id, path in _paths(scene):
        num_files += 1
        try:
            if field in _CAMERA_MODES:
                images.setdefault(field, Counter())[_png_form(path)] += 1
            elif field in _CLOUD_DTYPES:
                clouds.setdefault(field, {})[frame_id] = _npy_form(path)
            elif field == "voxels":
                _check_grid_form(path)
            elif path.stat().st_size == 0:
                raise ValueError("it is empty")
        except (OSError, ValueError) as error:
            errors.append(f"{path}: {error}")
    return Headers(images=images, clouds=clouds, errors=tuple(errors), num_files=num_files)


def check_folders(scene: Scene) -> Check:
    """Folders and setup that a whole scene has; the reader does without some of them."""
    needed = [f for f in FILE_SOURCES if f != "anomaly" or scene.kind != "normality"]
    missing = [FILE_SOURCES[field][0] for field in needed if field not in scene.folders]
    missing += [] if (scene.path / SETUP_FILE).is_file() else [SETUP_FILE]
    return Check(
        name="folders",
        status="warn" if missing else "pass",
        found=f"no {', '.join(missing)}" if missing else "all there",
        expected=f"{len(needed)} folders and {SETUP_FILE}",
        num_frames=len(scene.frame_ids),
        num_items=len(scene.folders),
        unit="folders",
        meaning="The reader does without: voxels are computed from SEMANTIC-LIDAR, poses read from "
        "folder names; extract the archive again if the download has them."
        if missing
        else "The scene has every folder of AnoVox.",
    )


def check_frames(scene: Scene) -> Check:
    """Ids consecutive and the same in all folders; only the last frame may be partial."""
    ids = sorted({*scene.frame_ids, *scene.partial_frames})
    num_gaps = ids[-1] - ids[0] + 1 - len(ids)
    inner = [frame_id for frame_id in scene.partial_frames if frame_id < scene.frame_ids[-1]]
    status: CheckStatus = (
        "FAIL" if num_gaps or inner else "warn" if scene.partial_frames else "pass"
    )
    found = f"{len(scene.frame_ids)} whole frames, {scene.frame_ids[0]} to {scene.frame_ids[-1]}"
    meaning = "Every folder has every frame."
    if num_gaps:
        found += f", {num_gaps} ids missing between"
        meaning = "Frames are lost in the middle of the scene: extract the archive again."
    elif scene.partial_frames:
        some = min(inner or scene.partial_frames)
        lacking = ", ".join(scene.partial_frames[some])
        found += f", {len(scene.partial_frames)} partial (frame {some} lacks {lacking})"
        meaning = "The recording broke off at its last frame; the partial frame is quarantined."
        if inner:
            meaning = "Files are lost in the middle of the scene: extract the archive again."
    return Check(
        name="frames per folder",
        status=status,
        found=found,
        expected=f"consecutive ids, the same in all folders (AnoVox records {FRAMES_OF_ANOVOX})",
        num_frames=len(ids),
        num_items=len(scene.folders),
        unit="folders",
        meaning=meaning,
    )


def check_readable(headers: Headers, samples: Sequence[Sample]) -> Check:
    """Every file whole by its ends; every file of the sampled frames decoded."""
    decoded = [error for sample in samples for error in sample.errors]
    errors = _by_file([*headers.errors, *decoded])
    return Check(
        name="files readable",
        status="FAIL" if errors else "pass",
        found=f"{len(errors)} damaged: {errors[0]}" if errors else "all whole",
        expected="every file whole, those of the sampled frames decoded",
        num_frames=len(samples),
        num_items=headers.num_files,
        unit="files",
        meaning="Extract the archive again, or let jobs.prepare leave these frames out."
        if errors
        else "No file is empty, cut off or of another format.",
    )


def check_image_form(headers: Headers, scene: Scene) -> Check:
    """PNG modes and sizes of all frames against AnoVox and the setup."""
    size = (scene.setup.image_width, scene.setup.image_height)
    wrong = [
        f"{FILE_SOURCES[field][0]} has {count} of {mode} {width} x {height}"
        for field, forms in headers.images.items()
        for (mode, width, height), count in forms.items()
        if (mode, width, height) != (_CAMERA_MODES[field], *size)
    ]
    return Check(
        name="image form",
        status="FAIL" if wrong else "pass",
        found="; ".join(wrong) if wrong else "as expected",
        expected=f"SEMANTIC-CAM L, other cameras RGB, all {size[0]} x {size[1]} (sensor setup)",
        num_frames=len(scene.frame_ids),
        num_items=sum(forms.total() for forms in headers.images.values()),
        unit="files",
        meaning="Images of another size or mode do not go with the calibration: use the release "
        "layout's files (ids, not colours) and the scene's own sensor_setup.json."
        if wrong
        else "Ids are stored as ids, and pixels fit the calibration.",
    )


def check_cloud_form(headers: Headers, scene: Scene, args: LidarArgs) -> Check:
    """Number type and number of points of all frames, against the rays that the setup fires."""
    counts = [num for forms in headers.clouds.values() for _, num in forms.values()]
    most, least = args.num_rays, args.num_ground_rays(scene.setup)
    expected = f"float32 and float64 (N, 4), equal N, {_bounds(least, most)}"
    if not counts:
        return not_measured("cloud form", expected, "No cloud could be opened: see files readable.")
    fails = [*_wrong_pairs(headers), *([f"N up to {max(counts)}"] if max(counts) > most else [])]
    warns = _wrong_dtypes(headers)
    if min(counts) < least:
        warns.append(f"N down to {min(counts)}")
    return Check(
        name="cloud form",
        status="FAIL" if fails else "warn" if warns else "pass",
        found=f"N {min(counts)} to {max(counts)}" + "".join(f"; {f}" for f in [*fails, *warns]),
        expected=expected,
        num_frames=len(scene.frame_ids),
        num_items=len(counts),
        unit="files",
        meaning="The clouds are not those of this setup's LiDAR, or one of the pair is another "
        "frame's: extract the archive again and compare sensor_setup.json."
        if fails or warns
        else "The clouds have the size and type of this LiDAR.",
    )


def _by_file(errors: Sequence[str]) -> list[str]:
    """The first finding of each file, told without its folder (the name says sensor and frame)."""
    findings: dict[str, str] = {}
    for error in errors:
        path, _, finding = error.partition(": ")
        findings.setdefault(Path(path).name, finding)
    return [f"{name}: {finding}" for name, finding in findings.items()]


def _bounds(least: int, most: float) -> str:
    return f"at least {least}" if most == float("inf") else f"{least} to {most:.0f}"


def _wrong_pairs(headers: Headers) -> list[str]:
    exact, noisy = (headers.clouds.get(field, {}) for field in ("semantic_lidar", "lidar"))
    unequal = [i for i in exact if i in noisy and exact[i][1] != noisy[i][1]]
    if not unequal:
        return []
    first = unequal[0]
    return [
        f"N differs in {len(unequal)} frames (frame {first}: LIDAR {noisy[first][1]}, "
        f"SEMANTIC-LIDAR {exact[first][1]})"
    ]


def _wrong_dtypes(headers: Headers) -> list[str]:
    return [
        f"{FILE_SOURCES[field][0]} is {dtype}"
        for field, forms in headers.clouds.items()
        for dtype in sorted({dtype for dtype, _ in forms.values()})
        if dtype != _CLOUD_DTYPES[field]
    ]


def _paths(scene: Scene) -> Iterator[tuple[str, int, Path]]:
    for field, folder in scene.folders.items():
        for frame_id in scene.frame_ids:
            name = sensor_file_name(folder.name, frame_id, FILE_SOURCES[field][1])
            yield field, frame_id, folder / name


def _png_form(path: Path) -> tuple[str, int, int]:
    """(mode, width, height); ValueError unless it starts and ends as a PNG does."""
    with path.open("rb") as file:
        start = file.read(33)
        if not start.startswith(_PNG_START) or len(start) < 33:
            raise ValueError(f"it is not a PNG ({path.stat().st_size} bytes)")
        file.seek(-len(_PNG_END), os.SEEK_END)
        if file.read() != _PNG_END:
            raise ValueError("the PNG is truncated")
    width, height, depth, colour = struct.unpack_from(">IIBB", start, 16)
    mode = _PNG_MODES.get((depth, colour), f"colour type {colour} with {depth} bits")
    return mode, width, height


def _check_grid_form(path: Path) -> None:
    dtype, _ = _npy_form(path)
    if dtype != "uint16":
        raise ValueError(f"its values are {dtype} instead of uint16")


def _npy_form(path: Path) -> tuple[str, int]:
    """(dtype, number of rows); ValueError unless header and size agree on a table (N, 4)."""
    with path.open("rb") as file:
        shape, _, dtype = _npy_header(file)
        start, size = file.tell(), file.seek(0, os.SEEK_END)
    if len(shape) != 2 or shape[1] != 4 or dtype.hasobject:
        raise ValueError(f"it holds {dtype} {shape} instead of numbers (N, 4)")
    expected = start + shape[0] * 4 * dtype.itemsize
    if size != expected:
        raise ValueError(f"it has {size} bytes, but its header promises {expected}")
    return dtype.name, shape[0]


def _npy_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, Any]:
    try:
        return _NPY_READERS[npy.read_magic(file)](file)
    except (KeyError, *_HEADER_ERRORS) as error:
        raise ValueError(f"its .npy header cannot be read ({error})") from None

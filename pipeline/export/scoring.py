"""A trained detector on frames that come as arrays: for Python, and for the logged MLflow model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from pipeline.data.batch import Batch
from pipeline.models.scores import Scores
from pipeline.training import checkpoints

_INPUTS = {
    "image": ((None, None, 3), np.uint8),
    "points": ((None, None), np.float32),
    "intrinsics": ((4,), np.float32),
    "camera_from_lidar": ((4, 4), np.float32),
}
"""Arrays of a frame: RGB image (H, W, 3), points (P, 4) in the LiDAR frame (x forward, y left, z
up, metres, intensity; a fifth column, relative time in s, for models of a window), fx, fy, cx, cy
in pixels of that image, and the camera's pose. All frames of a call have images of one size."""
_OF_POINTS = ("point_score", "semantic")
"""Scores that are split over the frames by their points."""


@dataclass(frozen=True, kw_only=True)
class TrainedDetector:
    """A trained model with what its caller must know."""

    model: nn.Module
    device: torch.device
    num_columns: int
    """Of points: 4, or 5 for a model of a window (`data.num_sweeps`)."""
    thresholds: Mapping[str, float]
    """Scores (logits) that were picked on validation, by level (`point`, `frame`, `pixel`)."""


@dataclass(frozen=True, kw_only=True)
class FrameScores:
    """Raw scores (logits) of one frame, higher = more anomalous; None what the model lacks."""

    frame_score: float
    point_score: Float32[np.ndarray, "P"] | None = None
    """Of the points in their order; of a window the current ones."""
    semantic: Float32[np.ndarray, "P classes"] | None = None
    """Logits of the normal classes (`model.semantic_head`)."""
    pixel_score: Float32[np.ndarray, "h w"] | None = None
    """At the stride of the head, 8 (`model.pixel_head`)."""


def load_detector(place: str | Path, *, device: str = "cpu") -> TrainedDetector:
    """The best model of a run folder, or the one of a checkpoint folder, for `score_frame`.

    Nothing is unpickled, and neither MLflow nor the shards are asked. Raises ValueError when there
    is no whole checkpoint, or its tensors do not have the hash that was recorded.
    """
    model, meta, config = checkpoints.rebuild(checkpoints.find(Path(place)))
    return TrainedDetector(
        model=model.to(device),
        device=torch.device(device),
        num_columns=4 if config.data.num_sweeps == 1 else 5,
        thresholds=meta.thresholds,
    )


def score_frame(
    detector: TrainedDetector,
    image: UInt8[np.ndarray, "H W 3"],
    points: Float[np.ndarray, "P columns"],
    intrinsics: Float[np.ndarray, "4"],
    camera_from_lidar: Float[np.ndarray, "4 4"],
) -> FrameScores:
    """What the detector says of one frame.

    `image` is RGB, of the size and crop that the detector was trained on (`prepare.image_width`,
    `prepare.image_crop`). `points` are x forward, y left, z up in metres in the LiDAR frame and
    intensity; a model of a window has relative time in s as a fifth column, 0 for the current
    cloud, which comes first, and negative for past ones, moved into the current LiDAR frame.
    `intrinsics` are fx, fy, cx, cy in pixels of that image, `camera_from_lidar` takes points to the
    camera (X right, Y down, Z forward). Raises ValueError for an array of another shape.
    """
    frame = {
        "image": image,
        "points": points,
        "intrinsics": intrinsics,
        "camera_from_lidar": camera_from_lidar,
    }
    return score_frames(detector, [frame])[0]


def score_frames(
    detector: TrainedDetector, frames: Sequence[Mapping[str, Any]]
) -> list[FrameScores]:
    """`score_frame` for several frames at once, each a mapping with its arrays by name.

    Their images must have one size.
    """
    if not frames:
        return []
    batch = to_batch(frames, num_columns=detector.num_columns).to(detector.device)
    with torch.inference_mode():
        scores = detector.model(batch)
    return _by_frame(scores, batch.without_past().counts().tolist())


def to_batch(frames: Sequence[Mapping[str, Any]], *, num_columns: int) -> Batch:
    """Frames as the model's batch, without labels."""
    arrays = [_checked(frame, at, num_columns=num_columns) for at, frame in enumerate(frames)]
    sizes = {one["image"].shape for one in arrays}
    if len(sizes) > 1:
        raise ValueError(
            f"the frames' images have sizes {sorted(size[:2] for size in sizes)}; give frames of "
            "one size per call"
        )
    lengths = torch.tensor([len(one["points"]) for one in arrays])
    joined = {name: _stacked(arrays, name) for name in _INPUTS if name != "points"}
    unlabelled = torch.full((int(lengths.sum()),), 255, dtype=torch.uint8)
    return Batch(
        image=joined["image"].permute(0, 3, 1, 2),
        points=torch.cat([torch.from_numpy(one["points"]) for one in arrays]),
        point_offset=lengths.cumsum(0),
        point_class=torch.zeros_like(unlabelled),
        point_label=unlabelled,
        frame_label=torch.full((len(arrays),), 255, dtype=torch.uint8),
        intrinsics=joined["intrinsics"],
        camera_from_lidar=joined["camera_from_lidar"],
        row=torch.arange(len(arrays)),
    )


def _checked(frame: Mapping[str, Any], at: int, *, num_columns: int) -> dict[str, np.ndarray]:
    found = {}
    for name, (shape, kind) in _INPUTS.items():
        if name not in frame:
            raise ValueError(f"frame {at} has no {name}; a frame has {', '.join(_INPUTS)}")
        array = np.ascontiguousarray(frame[name], dtype=kind)
        wanted = (None, num_columns) if name == "points" else shape
        fits = array.ndim == len(wanted) and all(
            side in (None, own) for side, own in zip(wanted, array.shape, strict=False)
        )
        if not fits:
            expected = ", ".join("any" if side is None else str(side) for side in wanted)
            raise ValueError(f"{name} of frame {at} has shape {array.shape}; it takes ({expected})")
        if name == "image" and not np.array_equal(array, frame[name]):
            raise ValueError(
                f"image of frame {at} holds values that no uint8 has; give RGB from 0 to 255"
            )
        found[name] = array
    return found


def _stacked(arrays: Sequence[Mapping[str, np.ndarray]], name: str) -> Tensor:
    return torch.from_numpy(np.stack([one[name] for one in arrays]))


def _by_frame(scores: Scores, counts: list[int]) -> list[FrameScores]:
    """The scores of each frame that the model gives."""
    found: list[dict[str, Any]] = [{"frame_score": float(score)} for score in scores.frame_score]
    for name in _OF_POINTS:
        values = getattr(scores, name)
        for one, part in zip(found, [] if values is None else values.split(counts), strict=False):
            one[name] = part.cpu().numpy()
    if scores.pixel_score is not None:
        for one, pixels in zip(found, scores.pixel_score, strict=True):
            one["pixel_score"] = pixels.cpu().numpy()
    return [FrameScores(**one) for one in found]

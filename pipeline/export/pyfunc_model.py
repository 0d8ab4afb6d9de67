"""The logged MLflow model: frames in, scores out; MLflow runs this file when it loads the model.

Weights come from the run's checkpoint (safetensors, never unpickled) and this package is logged
beside them, so that a machine with the pinned requirements needs nothing else.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel
from torch import Tensor, nn

from pipeline.config.load import recorded
from pipeline.data.batch import Batch
from pipeline.models.detector import build_detector
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


class ServedDetector(PythonModel):
    """A detector behind MLflow's `predict`."""

    def load_context(self, context: Any) -> None:
        """Read the checkpoint that was logged as artifact `checkpoint`."""
        self.model, self.num_columns = load_scorer(Path(context.artifacts["checkpoint"]))

    def predict(self, context: Any, model_input: Any, params: Any = None) -> list[dict[str, Any]]:
        """`frame_score` and, where the model gives them, `point_score` (P,), `semantic` (P,
        classes) and `pixel_score` (h, w) of each frame.

        `model_input` is a frame or a list of frames, each a mapping with the arrays of `_INPUTS`.
        Scores are raw, higher = more anomalous, and of the current points of a window. Raises
        ValueError for a wrong array.
        """
        frames = [model_input] if isinstance(model_input, Mapping) else list(model_input)
        if not frames:
            return []
        batch = to_batch(frames, num_columns=self.num_columns)
        with torch.inference_mode():
            scores = self.model(batch)
        return _by_frame(scores, batch.without_past().counts().tolist())


def load_scorer(checkpoint: Path) -> tuple[nn.Module, int]:
    """The model of a checkpoint folder, for evaluation, and the columns its points have."""
    meta = checkpoints.read_meta(checkpoint)
    config = recorded(meta.config)
    num_sweeps = config.data.num_sweeps
    model = build_detector(
        config.model,
        prior=meta.prior,
        num_classes=len(meta.semantic_classes),
        num_sweeps=num_sweeps,
        fetch_weights=False,
    )
    checkpoints.load_model(checkpoint, model)
    return model.eval(), 4 if num_sweeps == 1 else 5


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
            told = ", ".join("any" if side is None else str(side) for side in wanted)
            raise ValueError(f"{name} of frame {at} has shape {array.shape}; it takes ({told})")
        found[name] = array
    return found


def _stacked(arrays: Sequence[Mapping[str, np.ndarray]], name: str) -> Tensor:
    return torch.from_numpy(np.stack([one[name] for one in arrays]))


def _by_frame(scores: Scores, counts: list[int]) -> list[dict[str, Any]]:
    """The scores of each frame that the model gives."""
    found: list[dict[str, Any]] = [{"frame_score": float(score)} for score in scores.frame_score]
    for name in _OF_POINTS:
        values = getattr(scores, name)
        for one, part in zip(found, [] if values is None else values.split(counts), strict=False):
            one[name] = part.numpy()
    if scores.pixel_score is not None:
        for one, pixels in zip(found, scores.pixel_score, strict=True):
            one["pixel_score"] = pixels.numpy()
    return found


set_model(ServedDetector())

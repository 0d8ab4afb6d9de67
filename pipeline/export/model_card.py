"""What somebody who has only the exported file must know to feed it and to read its scores."""

from typing import Any

import torch

from pipeline.config.load import recorded
from pipeline.config.schema import Config
from pipeline.data.manifest import Manifest
from pipeline.models.pixels import PIXEL_STRIDE, map_size
from pipeline.models.scores import ScoreName
from pipeline.training.checkpoints import CheckpointMeta

LIDAR_AXES = "LiDAR: x forward, y left, z up"
SCORE_MEANING: dict[ScoreName, str] = {
    "supervised": "logit of being anomalous",
    "max_logit": "minus the largest logit of the normal classes",
    "energy": "minus the logsumexp of the normal classes' logits",
    "entropy": "entropy of the normal classes' softmax, in nats",
}
HOW_TO = (
    "program = torch.export.load('detector.pt2').module(); "
    "scores = program(image=image, points=points, intrinsics=intrinsics, "
    "camera_from_lidar=camera_from_lidar)"
)


def card_of(meta: CheckpointMeta, manifest: Manifest) -> dict[str, Any]:
    """Inputs and outputs with shapes, units and frames of reference; thresholds; provenance."""
    trained = recorded(meta.config)
    return {
        "use": HOW_TO,
        "inputs": [_image(manifest), _points(trained), *_camera()],
        "outputs": _outputs(trained, manifest),
        "higher_means": "more anomalous",
        "thresholds": meta.thresholds,
        "thresholds_from": "validation",
        "run_id": meta.run_id,
        "step": meta.position.step,
        "split_hash": meta.split_hash,
        "revision": meta.revision,
        "is_synthetic": manifest.is_synthetic,
        "model": meta.config["model"],
        "torch": torch.__version__,
    }


def _image(manifest: Manifest) -> dict[str, Any]:
    prepared = manifest.prepare
    top, bottom = prepared["image_crop"]
    return {
        "name": "image",
        "dtype": "uint8",
        "shape": [1, 3, manifest.image_height, manifest.image_width],
        "meaning": f"RGB, 0 to 255, resized to {prepared['image_width']} px width, of which the "
        f"rows from {top:g} to {bottom:g} of the height are kept",
    }


def _points(trained: Config) -> dict[str, Any]:
    length, width = trained.data.ego_box_m
    columns = ["x", "y", "z", "intensity"]
    meaning = "any number P of points, 0 included; intensity is not read"
    if min(length, width) > 0:
        meaning += (
            f"; without those of the car itself, |x| <= {length:g} and |y| <= {width:g} together"
        )
    if trained.data.num_sweeps > 1:
        columns.append("time")
        meaning += (
            "; time in s is 0 for the current cloud and negative for those of the "
            f"{trained.data.num_sweeps - 1} frames before, moved into the current LiDAR frame"
        )
    return {
        "name": "points",
        "dtype": "float32",
        "shape": ["P", len(columns)],
        "columns": columns,
        "unit": "m",
        "frame": LIDAR_AXES,
        "meaning": meaning,
    }


def _camera() -> list[dict[str, Any]]:
    return [
        {
            "name": "intrinsics",
            "dtype": "float32",
            "shape": [1, 4],
            "unit": "px",
            "meaning": "fx, fy, cx, cy for the image as given; column j covers j <= u < j + 1",
        },
        {
            "name": "camera_from_lidar",
            "dtype": "float32",
            "shape": [1, 4, 4],
            "unit": "m",
            "frame": "from LiDAR to camera: X right, Y down, Z forward",
            "meaning": "homogeneous matrix, applied to column vectors",
        },
    ]


def _outputs(trained: Config, manifest: Manifest) -> list[dict[str, Any]]:
    score = SCORE_MEANING[trained.model.score]
    scored = "P" if trained.data.num_sweeps == 1 else "points of the current cloud, in their order"
    found = [
        _output("point_score", [scored], score),
        _output(
            "frame_score",
            [1],
            f"mean of the {trained.model.frame_top_k} highest point scores"
            + (", plus what the pixel scores add" if trained.model.pixel_head else ""),
        ),
    ]
    if trained.model.semantic_head:
        classes = manifest.dataset.classes
        names, ids = list(classes.semantic_names), list(classes.semantic_ids)
        found.append(_output("semantic", [scored, len(names)], "logits of the normal classes"))
        found[-1] |= {"classes": names, "class_ids": ids}
    if trained.model.pixel_head:
        size = map_size(manifest.image_height, manifest.image_width)
        meaning = f"logit of being anomalous; cell (i, j) sits at pixel row {PIXEL_STRIDE} i, "
        found.append(_output("pixel_score", [1, *size], meaning + f"column {PIXEL_STRIDE} j"))
    return found


def _output(name: str, shape: list[Any], meaning: str) -> dict[str, Any]:
    return {"name": name, "dtype": "float32", "shape": shape, "meaning": meaning}

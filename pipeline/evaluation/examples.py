"""A found and a missed anomaly as pictures: numbers alone do not show what a detector looks at."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from pipeline.data.block_reader import BlockReader
from pipeline.datasets.protocol.frames import FrameKey
from pipeline.datasets.protocol.geometry import project
from pipeline.models.pixels import upsampled
from pipeline.visualization.birdseye import birdseye
from pipeline.visualization.overlays import camera_overlay, pixel_overlay
from pipeline.visualization.style import frame_title, save_figure

_MIN_POINTS_IN_VIEW = 10
"""Anomalous points in view that an example must have: fewer cannot be seen in a picture."""


@dataclass(frozen=True, kw_only=True)
class ScoredExample:
    """A frame worth a picture."""

    name: str
    """`detected` or `missed`; `hardest` when nothing was missed."""
    row: int


def choose_examples(frames: pd.DataFrame, *, threshold: float) -> list[ScoredExample]:
    """The frame whose anomaly stands out most, and one whose anomaly stays below the threshold.

    `frames` is `SplitCounts.frames()`; `threshold` is a point logit. Missed means that no
    anomalous point reaches the threshold; of several, the one with the most anomalous points in
    view is shown.
    """
    shown = (frames["num_anomaly_points_in_view"] >= _MIN_POINTS_IN_VIEW) & (
        frames["frame_label"] == 1
    )
    seen = frames.loc[shown].sort_values(by="point_ap")
    if seen.empty:
        return []
    examples = [ScoredExample(name="detected", row=int(seen["row"].iloc[-1]))]
    missed = seen.loc[seen["max_anomaly_score"] < threshold]
    if not missed.empty:
        worst = missed.sort_values(by="num_anomaly_points_in_view")["row"].iloc[-1]
        examples.append(ScoredExample(name="missed", row=int(worst)))
    elif len(seen) > 1:
        examples.append(ScoredExample(name="hardest", row=int(seen["row"].iloc[0])))
    return examples


@torch.inference_mode()
def draw_example(
    example: ScoredExample,
    model: nn.Module,
    reader: BlockReader,
    folder: Path,
    *,
    thresholds: Mapping[str, float],
    device: torch.device,
    note: str,
) -> list[Path]:
    """Views of one frame from above (`<name>_birdseye.png`) and by camera (`<name>_camera.png`).

    Where the model scores pixels and `reader` gives their labels, `<name>_pixels.png` too.
    `thresholds` are logits by level.
    """
    batch = reader.batch([example.row], augment_seed=None)
    scores, batch = model(batch.to(device)), batch.without_past()
    if scores.point_score is None:
        return []
    score = scores.point_score.float().cpu().numpy()
    points, label = batch.points.numpy(), batch.point_label.numpy()
    meta = reader.index.iloc[example.row]
    key = FrameKey(meta["archive"], meta["scene_id"], int(meta["frame_id"]), meta["pose"])
    title = f"{example.name.capitalize()}: " + frame_title(
        key, frame_label=int(meta["frame_label"]), frame_score=float(scores.frame_score[0])
    )
    threshold = thresholds["point"]
    above = birdseye(points, score, label, threshold=threshold, title=title, note=note)
    uv, depth = project(
        points, batch.intrinsics[0].double().numpy(), batch.camera_from_lidar[0].double().numpy()
    )
    image = np.ascontiguousarray(batch.image[0].permute(1, 2, 0).numpy())
    camera = camera_overlay(
        image,
        uv,
        depth,
        score,
        label,
        pixel_label=None,
        threshold=threshold,
        title=title,
        note=note,
    )
    paths = [
        save_figure(above, folder / f"{example.name}_birdseye.png"),
        save_figure(camera, folder / f"{example.name}_camera.png"),
    ]
    if scores.pixel_score is None or batch.pixel_label is None or "pixel" not in thresholds:
        return paths
    spread = upsampled(scores.pixel_score.float(), size=image.shape[:2])
    pixels = pixel_overlay(
        image,
        spread[0].cpu().numpy(),
        batch.pixel_label[0].numpy(),
        threshold=thresholds["pixel"],
        title=title,
        note=note,
    )
    return [*paths, save_figure(pixels, folder / f"{example.name}_pixels.png")]

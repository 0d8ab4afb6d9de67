from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from pipeline.datasets.anovox.geometry import CAMERA_FROM_LIDAR_SAME_POSE
from pipeline.datasets.protocol.geometry import intrinsics, project
from pipeline.visualization import overlays
from pipeline.visualization.overlays import camera_overlay, pixel_overlay

Check = Callable[[Figure], np.ndarray]
THRESHOLD = -1.0


def frame(width: int, height: int, *, size_m: float = 1.0) -> dict[str, np.ndarray]:
    """Arguments of `camera_overlay` for an object 15 m ahead and 3 m to the left."""
    random = np.random.default_rng(0)
    ground = random.uniform((3, -15, -1.8), (50, 15, -1.7), (3000, 3))
    thing = (15, 3, -1.5) + random.uniform(-0.5, 0.5, (40, 3)) * size_m
    behind = np.array([[-10.0, 0.0, 0.0]])
    k = intrinsics(width, width * 2 // 3, 90) - [0, 0, 0, (width * 2 // 3 - height) / 2]
    uv, depth = project(np.concatenate([ground, thing, behind]), k, CAMERA_FROM_LIDAR_SAME_POSE)
    image = random.integers(60, 180, (height, width, 3), dtype=np.uint8)
    u, v = np.round(uv[3000:3040].mean(axis=0)).astype(int)
    pixel_label = np.zeros((height, width), np.uint8)
    pixel_label[v - 3 : v + 4, u - 3 : u + 4] = 1
    score = random.normal(-6, 1, 3041).astype(np.float32)
    label = np.zeros(3041, np.uint8)
    score[3000:], label[3000:] = 2.0, 1
    names = ("image", "uv", "depth", "score", "label", "pixel_label")
    arrays = (image, uv, depth, score, label, pixel_label)
    return dict(zip(names, arrays, strict=True))


def draw(arrays: dict[str, np.ndarray], *, note: str = "") -> Figure:
    return camera_overlay(
        arrays["image"],
        arrays["uv"],
        arrays["depth"],
        arrays["score"],
        arrays["label"],
        pixel_label=arrays.get("pixel_label"),
        threshold=THRESHOLD,
        title="AnoVox_Static_Mono_Town03, scene 739b5ee1, frame 204\ntruth: anomalous",
        note=note,
    )


def captions(figure: Figure) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes[:3]]


@pytest.mark.parametrize(("width", "height"), [(384, 128), (768, 512)])
def test_the_three_panels_are_legible_at_every_image_shape(
    check: Check, width: int, height: int
) -> None:
    figure = draw(frame(width, height), note="synthetic data")
    check(figure)
    # The last of the 41 points with a high score is behind the camera.
    assert captions(figure)[:2] == [
        "camera image",
        "truth: 40 points (dark blue), 49 pixels (light blue)",
    ]
    assert captions(figure)[2].startswith("score: 40 of ")


def test_wide_images_are_stacked_and_others_lie_side_by_side() -> None:
    for width, height, is_stacked in ((384, 128, True), (384, 256, False)):
        figure = draw(frame(width, height))
        figure.draw_without_rendering()
        first, second = (axes.get_position() for axes in figure.axes[:2])
        assert (first.y0 > second.y1) == is_stacked
        assert (first.x1 < second.x0) != is_stacked


def test_a_small_anomaly_is_zoomed_and_the_zoom_holds_all_of_it() -> None:
    arrays = frame(384, 128)
    figure = draw(arrays)
    own = arrays["uv"][3000:3040]
    for axes in figure.axes[:3]:
        (inset,) = axes.child_axes
        (left, right), (bottom, top) = inset.get_xlim(), inset.get_ylim()
        assert ((own[:, 0] > left) & (own[:, 0] < right)).all()
        assert ((own[:, 1] > top) & (own[:, 1] < bottom)).all()


def test_the_zoom_never_covers_what_it_enlarges() -> None:
    for u, v in ((2, 2), (380, 2), (192, 125)):
        arrays = frame(384, 128)
        arrays["uv"][3000:3040] = (u, v)
        arrays["pixel_label"][:] = 0
        figure = draw(arrays)
        figure.draw_without_rendering()
        axes = figure.axes[1]
        (inset,) = axes.child_axes
        place = axes.transData.transform((u, v))
        assert not inset.get_window_extent().contains(*place)
        low, high = inset.get_xlim()
        assert low <= u <= high


def test_a_large_anomaly_and_a_normal_frame_have_no_zoom(check: Check) -> None:
    large = frame(384, 256, size_m=8.0)
    normal = frame(384, 256)
    normal["label"][:] = 0
    normal["pixel_label"][:] = 0
    for arrays in (large, normal):
        figure = draw(arrays)
        check(figure)
        assert not any(axes.child_axes for axes in figure.axes)


def test_a_frame_without_pixel_labels_shows_points_only(check: Check) -> None:
    arrays = frame(384, 128)
    del arrays["pixel_label"]
    figure = draw(arrays)
    check(figure)
    assert captions(figure)[1] == "truth: 40 points (dark blue)"


def test_points_land_on_the_pixels_they_project_to(check: Check) -> None:
    figure = draw(frame(384, 128))
    check(figure)
    arrays = frame(384, 128)
    truth = figure.axes[1].collections[0].get_offsets()
    np.testing.assert_allclose(np.asarray(truth), arrays["uv"][3000:3040])


def test_only_anomalous_pixels_are_tinted() -> None:
    label = np.array([[0, 1], [255, 0]], np.uint8)
    alpha = overlays._tint(label)[..., 3]
    np.testing.assert_array_equal(alpha > 0, [[False, True], [False, False]])


@pytest.mark.parametrize(("width", "height"), [(384, 128), (768, 512)])
def test_scores_of_pixels_are_drawn_over_the_image_with_their_truth(
    check: Check, width: int, height: int
) -> None:
    arrays = frame(width, height)
    label = arrays["pixel_label"]
    score = np.where(label == 1, 2.0, -9.0).astype(np.float32)
    title = "AnoVox_Static_Mono_Town03, scene 739b5ee1, frame 204\ntruth: anomalous"
    figure = pixel_overlay(
        arrays["image"], score, label, threshold=THRESHOLD, title=title, note="synthetic data"
    )
    check(figure)
    assert captions(figure) == [
        "camera image",
        "truth: 49 pixels (light blue)",
        f"score: 49 of {width * height:,} pixels at or above the threshold",
    ]
    coloured = figure.axes[2].images[1].get_array()
    assert isinstance(coloured, np.ma.MaskedArray)
    np.testing.assert_array_equal(~np.ma.getmaskarray(coloured), label == 1)

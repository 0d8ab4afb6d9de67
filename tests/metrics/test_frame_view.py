"""Where a point lies in the stored image, by hand."""

import numpy as np
import torch

from pipeline.data.batch import Batch
from pipeline.metrics.frame_view import frame_views


def test_a_point_ahead_and_to_the_left_lands_left_of_the_middle(make_split):
    batch = make_split(num_scenes=1, frames_per_scene=1, num_points=3, seed=0).batch([0])
    points = torch.tensor([[10.0, 5, 0, 1], [10, -11, 0, 1], [-10, 0, 0, 1]])
    (view,) = frame_views(Batch(**{**vars(batch), "points": points}))
    # 64 x 32 pixels, focal length 32: u = 32 - 32 y / x, v = 16 - 32 z / x.
    np.testing.assert_allclose(view.pixel[0], [16, 16])
    assert view.in_view.tolist() == [True, False, False]


def test_views_split_a_batch_back_into_its_frames(make_split):
    split = make_split(num_scenes=2, frames_per_scene=2, num_points=50, seed=0)
    views = list(frame_views(split.batch([3, 0])))
    assert [view.row for view in views] == [3, 0]
    for view in views:
        np.testing.assert_array_equal(view.points, split.frames[view.row][0])
        np.testing.assert_array_equal(view.point_class, split.frames[view.row][1])
    assert list(frame_views(split.batch([]))) == []

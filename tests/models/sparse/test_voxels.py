import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.models.sparse.voxels import coarsen, key_step, keys_of, sparse_voxels
from tests.helpers.occupied import random_voxels

SHAPES = st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 7))


@settings(max_examples=40, deadline=None)
@given(shape=SHAPES, num_frames=st.integers(0, 3), seed=st.integers(0, 99))
def test_keys_lead_back_to_the_cells_in_order(shape, num_frames, seed):
    voxels = random_voxels(shape, num_frames, 0.4, seed)
    cells = voxels.cells()
    assert torch.equal(keys_of(cells[:, 0], cells[:, 1:], shape=shape), voxels.keys)
    assert cells.tolist() == sorted(cells.tolist())
    assert voxels.frame_sizes() == [int((cells[:, 0] == f).sum()) for f in range(num_frames)]


def test_points_of_a_cell_share_a_voxel_and_frames_do_not():
    frame = torch.tensor([0, 0, 1, 1])
    cells = torch.tensor([[1, 2, 0], [1, 2, 0], [1, 2, 0], [0, 2, 0]])
    voxels, of_point = sparse_voxels(frame, cells, shape=(2, 3, 1), num_frames=3)
    assert of_point.tolist() == [0, 0, 2, 1]
    assert voxels.cells().tolist() == [[0, 1, 2, 0], [1, 0, 2, 0], [1, 1, 2, 0]]
    assert voxels.frame_sizes() == [1, 2, 0]


def test_a_step_of_the_key_is_a_step_of_the_cell():
    shape, frame = (3, 4, 5), torch.tensor([1])
    at, moved = (keys_of(frame, torch.tensor([c]), shape=shape) for c in ([2, 1, 4], [1, 2, 4]))
    assert int(moved - at) == key_step((-1, 1, 0), shape=shape)


def test_one_past_a_border_is_never_a_cell_of_another_row():
    """The cell after the last of a row and the cell before the first of the next differ."""
    frame = torch.tensor([0, 0, 0])
    cells = torch.tensor([[0, 0, 2], [0, 1, -1], [0, 1, 0]])
    assert len(set(keys_of(frame, cells, shape=(1, 2, 2)).tolist())) == 3


def test_a_coarse_cell_is_there_if_it_holds_a_voxel():
    frame = torch.zeros(3, dtype=torch.int64)
    cells = torch.tensor([[0, 0, 0], [1, 1, 0], [4, 0, 2]])
    voxels, _ = sparse_voxels(frame, cells, shape=(5, 2, 3), num_frames=1)
    coarse = coarsen(voxels, (2, 2, 1))
    assert coarse.shape == (3, 1, 3)
    assert coarse.cells().tolist() == [[0, 0, 0, 0], [0, 2, 0, 2]]


@settings(max_examples=30, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 99))
def test_there_are_never_more_coarse_cells_than_fine_ones(shape, seed):
    voxels = random_voxels(shape, 2, 0.3, seed)
    coarse = coarsen(voxels, (2, 2, 2))
    expected = voxels.cells() // torch.tensor([1, 2, 2, 2])
    assert coarse.cells().tolist() == torch.unique(expected, dim=0).tolist()
    assert len(coarse.keys) <= len(voxels.keys)

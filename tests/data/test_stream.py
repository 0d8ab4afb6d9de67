"""Either reader brings every frame once per epoch, the same bytes, to any number of ranks."""

import hashlib
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.data.batch import Batch
from pipeline.data.block_reader import BlockReader
from pipeline.data.stream import shares, stream_dataset
from pipeline.training.data_loop import BlockSteps, StreamSteps
from pipeline.training.worker import Worker


class Ranks:
    """Threads that stand for ranks: their sums wait for one another as a collective does."""

    def __init__(self, num_workers: int) -> None:
        self._barrier = threading.Barrier(num_workers, timeout=60)
        self._lock = threading.Lock()
        self._total: torch.Tensor | None = None

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        with self._lock:
            self._total = values.clone() if self._total is None else self._total + values
        self._barrier.wait()
        total = self._total
        assert total is not None
        if self._barrier.wait() == 0:
            self._total = None
        self._barrier.wait()
        return total


class ThreadWorker(Worker):
    """A rank that is a thread."""

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        return RANKS[self.num_workers].sum(values)


RANKS: dict[int, Ranks] = {}


def digest(batch: Batch, frame: int) -> str:
    """Hash of all that a frame brings."""
    own = batch.point_frame() == frame
    arrays = [batch.image[frame], batch.points[own], batch.point_class[own]]
    arrays += [batch.point_label[own], batch.intrinsics[frame], batch.camera_from_lidar[frame]]
    arrays += [batch.frame_label[frame]]
    content = b"".join(np.ascontiguousarray(array.numpy()).tobytes() for array in arrays)
    return hashlib.sha256(content).hexdigest()


def take_epochs(steps: BlockSteps | StreamSteps, num_epochs: int, found: list) -> None:
    """(row, hash) of every frame, per step and epoch."""
    for epoch in range(num_epochs):
        found.append(
            [
                [(int(row), digest(batch, i)) for i, row in enumerate(batch.row)]
                for batch in steps.epoch(epoch, first_step=0)
            ]
        )


def run_ranks(config: Config, folder: Path, kind: str, num_workers: int) -> list:
    """What each rank found in two epochs."""
    RANKS[num_workers] = Ranks(num_workers)
    workers = [
        ThreadWorker(
            rank=rank,
            num_workers=num_workers,
            device=torch.device("cpu"),
            barrier=lambda metrics: None,
            progress=lambda line: None,
        )
        for rank in range(num_workers)
    ]
    if kind == "stream":
        from pipeline.training.ray_data_config import NoDropDataConfig

        parts = NoDropDataConfig().configure(
            {"train": stream_dataset(config, folder)}, num_workers, None, None
        )
        steps: list = [
            StreamSteps(config, folder, worker, part["train"])
            for worker, part in zip(workers, parts, strict=True)
        ]
    else:
        steps = [BlockSteps(config, folder, worker) for worker in workers]
    found: list = [[] for _ in workers]
    threads = [
        threading.Thread(target=take_epochs, args=(one, 2, place), daemon=True)
        for one, place in zip(steps, found, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
        assert not thread.is_alive()
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory, random_row, write_prepared, ray_session) -> Path:
    """Five shards of unequal size, empty and long clouds."""
    counts = [[7, 0, 12, 30], [5], [9, 9, 40], [1, 2, 3, 4, 5, 6], [20, 300]]
    numbers = iter(range(99))
    parts = [[random_row(next(numbers), count) for count in shard] for shard in counts]
    return write_prepared(tmp_path_factory.mktemp("stream"), {"train": parts, "val": [parts[0]]})


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[int, str]:
    reader = BlockReader(folder, "train", ego_box_m=Config().data.ego_box_m)
    batch = reader.batch(range(reader.num_rows), augment_seed=None)
    return {row: digest(batch, row) for row in range(reader.num_rows)}


@pytest.fixture(scope="module")
def found_by_one(folder: Path) -> list:
    """What one rank finds in the stream; it takes Ray seconds to begin one."""
    return run_ranks(config_of(1, 5), folder, "stream", 1)


def config_of(num_workers: int, batch_size: int) -> Config:
    return merge(
        Config(),
        {
            "train": {"batch_size": batch_size, "augment": False},
            "scaling": {"num_workers": num_workers},
        },
    )


def ranks_and_steps() -> list[Any]:
    """The stream at (1, 5) and (3, 7) in the fast tier: steps that end even and uneven."""
    sizes = [(1, 5), (2, 4), (3, 7), (4, 4)]
    slow = [("stream", *size) for size in ((2, 4), (4, 4))]
    cases = [(kind, *size) for kind in ("blocks", "stream") for size in sizes]
    return [pytest.param(*case, marks=[pytest.mark.slow] if case in slow else []) for case in cases]


@pytest.mark.parametrize(("kind", "num_workers", "batch_size"), ranks_and_steps())
def test_every_frame_comes_once_per_epoch_with_the_same_bytes(
    folder: Path,
    expected: dict[int, str],
    request: pytest.FixtureRequest,
    kind: str,
    num_workers: int,
    batch_size: int,
):
    if (kind, num_workers, batch_size) == ("stream", 1, 5):
        found = request.getfixturevalue("found_by_one")
    else:
        found = run_ranks(config_of(num_workers, batch_size), folder, kind, num_workers)
    for epoch in range(2):
        steps = list(zip(*(rank[epoch] for rank in found), strict=True))
        sizes = [sum(len(part) for part in step) for step in steps]
        assert all(size == batch_size for size in sizes[:-1])
        assert sum(sizes) == len(expected)
        frames = [frame for step in steps for part in step for frame in part]
        assert Counter(row for row, _ in frames) == Counter(expected.keys())
        assert dict(frames) == expected


def test_epochs_of_the_stream_differ_in_order(found_by_one: list):
    (found,) = found_by_one
    first, second = ([row for step in epoch for row, _ in step] for epoch in found)
    assert sorted(first) == sorted(second)
    assert first != second


def test_a_torn_shard_ends_the_stream_with_its_name(
    tmp_path: Path, random_row, write_prepared, ray_session: None
):
    place = write_prepared(tmp_path / "torn", {"train": [[random_row(0, 9)]]})
    shard = place / "train" / "shard-00000.arrow"
    shard.write_bytes(shard.read_bytes()[:-64])
    with pytest.raises(Exception, match=r"shard .*shard-00000\.arrow is no Arrow file"):
        stream_dataset(Config(), place).take_all()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.integers(1, 9))
def test_shares_fill_the_step_and_nobody_takes_what_it_has_not(waiting, batch_size):
    found = shares(np.array(waiting), batch_size=batch_size)
    assert sum(found) == min(batch_size, sum(waiting))
    assert all(0 <= share <= have for share, have in zip(found, waiting, strict=True))
    able = [s for s, have in zip(found, waiting, strict=True) if s < have]
    assert all(max(found) - share <= 1 for share in able)

"""One split counted by one thread, by several, and by Ray workers: the same arrays."""

import functools
import os
import signal
import threading

import numpy as np
import pytest
import torch

from pipeline.config.load import merge
from pipeline.config.schema import Config, EvaluationConfig
from pipeline.data.block_reader import BlockReader
from pipeline.evaluation import parallel_inference
from pipeline.evaluation.audit import fit_plain, sample_split
from pipeline.evaluation.inference import SplitScores, make_scores
from pipeline.evaluation.parallel_inference import OpenSplit, count_split, starts_workers
from pipeline.evaluation.threads import add_spans, spans_of
from pipeline.metrics.tally import SplitCounts
from pipeline.models.detector import build_detector
from pipeline.runtime.errors import RunFailed

SMALL = {"model": {"image_channels": 8, "point_channels": 8, "image_stages": 2}}
ON_WORKERS = {"scaling": {"num_workers": 2}, "evaluation": {"ray_from_frames": 0}}


def silent(done: int, total: int) -> None:
    pass


@pytest.fixture(scope="module")
def config(tiny_config: Config) -> Config:
    return merge(tiny_config, SMALL, {"evaluation": {"batch_size": 2}})


@pytest.fixture(scope="module")
def test_split(config: Config, tiny_blocks) -> OpenSplit:
    return OpenSplit.open(config, tiny_blocks, "test", extras=("voxels",))


@pytest.fixture(scope="module")
def make(config: Config, tiny_blocks):
    """A detector as it was drawn, and a boosted tree, on the same batches."""
    torch.manual_seed(0)
    model = build_detector(config.model, prior=0.01, fetch_weights=False)
    sample = sample_split(OpenSplit.open(config, tiny_blocks, "train"), progress=silent)
    plain = fit_plain(sample, seed=0)
    return functools.partial(make_scores, config=config.evaluation, model=model, plain=plain)


@pytest.fixture(scope="module")
def alone(make, test_split: OpenSplit) -> SplitScores:
    """Counted by one thread, batch after batch."""
    return count_split(make, test_split, progress=silent)


def with_config(split: OpenSplit, *changes: dict) -> OpenSplit:
    config = merge(split.config, *changes)
    return OpenSplit.open(config, split.blocks, split.reader.split, extras=split.extras)


def assert_same(found: SplitScores, expected: SplitScores) -> None:
    for name in ("detector", "baseline"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert isinstance(ours, SplitCounts)
        assert ours.slices == theirs.slices
        assert {"point", "voxel", "frame"} <= set(ours.slices)
        for one in ours.slices:
            np.testing.assert_array_equal(
                ours.counts(one).to_array(), theirs.counts(one).to_array()
            )
            np.testing.assert_array_equal(ours.scene_counts(one), theirs.scene_counts(one))
        assert ours.frames().equals(theirs.frames())


def test_one_pass_counts_every_frame_for_the_detector_and_for_the_tree(alone, test_split):
    for tally in (alone.detector, alone.baseline):
        assert tally.frames()["row"].tolist() == list(range(test_split.reader.num_rows))
    assert not alone.detector.frames().equals(alone.baseline.frames())


def test_three_threads_count_what_one_counts(make, alone, test_split):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    told: list[tuple[int, int]] = []
    try:
        found = count_split(
            make, test_split, progress=lambda done, total: told.append((done, total))
        )
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert_same(found, alone)
    num_rows = test_split.reader.num_rows
    assert told == [(min(2 * i, num_rows), num_rows) for i in range(1, len(told) + 1)]
    assert told[-1] == (num_rows, num_rows)


@pytest.mark.slow
def test_two_ray_workers_count_what_one_process_counts(make, alone, test_split):
    told: list[tuple[int, int]] = []
    found = count_split(
        make,
        with_config(test_split, ON_WORKERS),
        progress=lambda done, total: told.append((done, total)),
    )
    assert_same(found, alone)
    assert told[-1] == (test_split.reader.num_rows,) * 2


class Faulty:
    """Counts that end badly at the second batch."""

    def __init__(self, end) -> None:
        self._end, self._num = end, 0

    def add(self, batch) -> None:
        self._num += 1
        if self._num > 1:
            self._end()

    def __add__(self, other: "Faulty") -> "Faulty":
        return self


def _refuse() -> None:
    raise ValueError("3 of 7 scores are NaN")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def make_faulty(reader: BlockReader, num: int, *, end) -> list[Faulty]:
    return [Faulty(end) for _ in range(num)]


@pytest.mark.slow
def test_what_a_batch_refuses_reaches_the_job_from_threads_and_from_workers(test_split):
    make = functools.partial(make_faulty, end=_refuse)
    for split in (test_split, with_config(test_split, ON_WORKERS)):
        with pytest.raises(ValueError, match=r"^3 of 7 scores are NaN$"):
            count_split(make, split, progress=silent)


@pytest.mark.slow
def test_a_worker_that_dies_fails_the_whole_count_in_one_sentence(test_split):
    make = functools.partial(make_faulty, end=_die)
    with pytest.raises(RunFailed, match=r"died .* nothing was counted") as failure:
        count_split(make, with_config(test_split, ON_WORKERS), progress=silent)
    assert failure.value.reason == "worker_error"
    assert "\n" not in str(failure.value)


def test_workers_that_no_cluster_has_room_for_are_refused(test_split):
    many = with_config(
        test_split, ON_WORKERS, {"scaling": {"cpus_per_worker": 500.0, "start_timeout_s": 1.0}}
    )
    with pytest.raises(RunFailed, match="asks for 1000 CPU") as failure:
        count_split(functools.partial(make_faulty, end=_refuse), many, progress=silent)
    assert failure.value.reason == "no_resources"


def test_no_thread_is_left_after_a_failure(test_split):
    reader = test_split.reader
    counts = make_faulty(reader, 3, end=_refuse)
    with pytest.raises(ValueError, match="NaN"):
        add_spans(counts, reader, spans_of(reader.num_rows, batch_size=1), lambda num: None)
    assert not [t for t in threading.enumerate() if t.name.startswith("counting")]


def test_spans_are_every_row_once_in_batches():
    spans = spans_of(7, batch_size=3)
    assert spans == [range(0, 3), range(3, 6), range(6, 7)]
    assert spans_of(0, batch_size=3) == []


@pytest.mark.parametrize(("num_spans", "num_workers"), [(1, 4), (45, 2), (1000, 3)])
def test_tasks_hold_every_batch_once_and_leave_no_worker_without(num_spans, num_workers):
    spans = spans_of(num_spans, batch_size=1)
    tasks = parallel_inference._tasks(spans, num_workers=num_workers, num_threads=1)
    assert [span for task in tasks for span in task] == spans
    assert len(tasks) >= min(num_spans, num_workers)


@pytest.mark.parametrize(
    ("num_workers", "num_frames", "expected"),
    [(0, 10**6, False), (1, 10**6, False), (2, 1999, False), (2, 2000, True)],
)
def test_workers_are_started_where_there_are_frames_for_them(num_workers, num_frames, expected):
    config = merge(Config(), {"scaling": {"num_workers": num_workers}})
    assert starts_workers(config, num_frames) is expected


@pytest.mark.parametrize(
    ("num_workers", "has_cuda", "expected"),
    [(0, False, False), (1, True, False), (1, False, True), (2, True, True)],
)
def test_workers_are_started_for_gpus_that_this_process_does_not_see(
    monkeypatch, num_workers, has_cuda, expected
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    config = merge(Config(), {"scaling": {"num_workers": num_workers, "use_gpu": True}})
    assert starts_workers(config, 1) is expected


def test_counts_travel_without_the_model(alone, test_split):
    import pickle

    sent = pickle.loads(pickle.dumps(alone))
    assert_same(sent, alone)
    assert not hasattr(sent, "_detector")
    assert isinstance(EvaluationConfig().ray_from_frames, int)

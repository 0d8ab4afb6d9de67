"""The order of trials, what is said of the others, and the command line of the best one."""

import csv
from pathlib import Path

import pytest

from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.experiments.search.leaderboard import board, counts, ranked, write_leaderboard_csv
from pipeline.experiments.search.trial_store import (
    ERROR,
    FINISHED,
    PRUNED,
    SKIPPED,
    Record,
    Validation,
)
from pipeline.experiments.search.tune import space_hash, train_command


def record(number: int, status: str, *values: float, message: str = "") -> Record:
    return Record(
        number=number,
        name=f"t{number}",
        drawn={},
        settings={"train.lr": f"0.{number}", "model.fusion": "late"},
        status=status,
        message=message,
        run_id=f"{number}" * 12,
        history=[Validation(epoch=n, step=n, value=v) for n, v in enumerate(values, start=1)],
    )


RECORDS = [
    record(0, FINISHED, 0.1, 0.4),
    record(1, PRUNED, 0.9),
    record(2, FINISHED, 0.6, 0.5),
    record(3, SKIPPED, message="has no effect"),
    record(4, ERROR, 0.2, message="out of memory"),
    record(5, "collapsed", message="all scores are alike"),
]


def test_finished_trials_come_before_pruned_ones_and_the_best_validation_counts():
    assert [one.name for one in ranked(RECORDS)] == ["t2", "t0", "t1"]


def test_every_proposal_is_counted_once_and_every_epoch_that_was_trained():
    assert counts(RECORDS) == {
        "num_finished": 2,
        "num_pruned": 1,
        "num_skipped": 1,
        "num_failed": 2,
        "num_epochs_trained": 6,
    }


def test_the_board_ranks_and_gives_the_reason_of_those_without_a_rank():
    text = board(RECORDS, metric="point_ap")
    lines = text.splitlines()
    assert "val point_ap" in lines[0]
    assert "0.600" in lines[2]
    assert "train.lr=0.2 model.fusion=late" in lines[2]
    assert any(line.startswith("t3 skipped: ") and "has no effect" in line for line in lines)
    assert any(line.startswith("t4 failed: ") and "out of memory" in line for line in lines)
    assert any(line.startswith("t5 collapsed: ") for line in lines)


def test_the_csv_holds_every_record_with_its_settings(tmp_path: Path):
    path = write_leaderboard_csv(RECORDS, tmp_path / "b.csv", metric="point_ap", split_hash="abc")
    with path.open() as file:
        lines = list(csv.DictReader(file))
    assert [line["trial"] for line in lines] == [one.name for one in RECORDS]
    assert (lines[2]["val/point_ap"], lines[2]["train.lr"]) == ("0.6", "0.2")
    assert (lines[3]["val/point_ap"], lines[3]["reason"]) == ("", "has no effect")


def test_the_command_of_a_trial_keeps_the_users_words_but_those_of_the_search():
    words = ["--config", "my configs/a.yaml", "train.num_epochs=3", "tune.num_samples=2"]
    assert train_command(words, RECORDS[0]) == (
        "python -m jobs.train --config 'my configs/a.yaml' train.num_epochs=3 train.lr=0.0 "
        "model.fusion=late"
    )


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"num_samples": 99}, True),
        ({"num_parallel": 1, "stall_timeout_s": 5}, True),
        ({"space": ["train.lr uniform 1 2"]}, False),
        ({"seed": 1}, False),
        ({"scheduler": "none"}, False),
        ({"metric": "frame_ap"}, False),
    ],
)
def test_another_space_is_another_study_and_more_samples_are_not(change: dict, same: bool):
    changed = merge(Config(), {"tune": change})
    assert (space_hash(changed) == space_hash(Config())) is same

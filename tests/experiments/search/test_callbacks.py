"""What a search tells of itself while it runs."""

import time
from pathlib import Path

import pytest
from ray.tune.experiment import Trial

from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.experiments.search.callbacks import StudyWatch
from pipeline.experiments.search.trial_store import FINISHED, OPEN, Ledger, Record, Validation


def record(name: str, status: str, num_epochs: int) -> Record:
    history = [Validation(epoch=n, step=n, value=0.1) for n in range(1, num_epochs + 1)]
    return Record(number=0, name=name, drawn={}, settings={}, status=status, history=history)


def test_the_eta_counts_what_running_trials_have_behind_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    clock_s, lines = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: clock_s[0])
    config, ledger = merge(Config(), {"train": {"num_epochs": 4}}), Ledger(Config(), tmp_path)
    watch = StudyWatch(config, ledger, num_waiting=6, say=lines.append)
    ledger.write(record("ended", FINISHED, 4))
    ledger.write(record("running", OPEN, 2))
    clock_s[0] = 30.0
    watch.on_trial_complete(0, [], Trial("any", config={"name": "ended"}, stub=True))
    # One and a half of six trials took 30 s, so the rest takes 90 s.
    assert lines == ["ended finished after 4 epochs, point_ap 0.100; 1 of 6, ETA 90 s"]

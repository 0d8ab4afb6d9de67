"""A search from its config to its best model: trials, leaderboard, one look at the test split.

The study is a run of its own in MLflow with the trials under it. Killed at any moment and started
again with the same command it goes on where it was.
"""

import hashlib
import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline import tracking
from pipeline.config import Config
from pipeline.data.blocks import find_blocks
from pipeline.data.manifest import Manifest, read_manifest
from pipeline.failures import RunFailed
from pipeline.ray_session import ensure_ray
from pipeline.report.evaluation_report import evaluate_run
from pipeline.report.training_report import data_note
from pipeline.training.trainer import git_revision
from pipeline.tuning.leaderboard import board, counts, ranked, write_csv
from pipeline.tuning.ledger import FINISHED, Ledger, Record
from pipeline.tuning.proposals import Proposals
from pipeline.tuning.space import Dimension, parse_space, words
from pipeline.tuning.space_check import check_space, check_study
from pipeline.tuning.study import Study, open_study
from pipeline.tuning.trial import make_trial

Say = Callable[[str], None]
ALIAS = "best"
BEST = "best.json"
"""Of a study's folder: the trial that was evaluated on test, and with which result."""


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """The leaderboard as text, and the facts for the job's JSON."""

    text: str
    facts: dict[str, Any]


def tune(config: Config, *, command: Sequence[str], say: Say) -> Tuned:
    """Run the trials that are not done yet, then rank them and evaluate the best on test.

    `command` holds the words after `jobs.tune` (config file, overrides), of which the best trial's
    command line is made. Raises ValueError before anything starts for a space that makes no sense,
    RunFailed when no trial finished.
    """
    check_study(config)
    dimensions = parse_space(config, config.tune.space)
    check_space(config, dimensions)
    manifest = read_manifest(find_blocks(config))
    marks = {"space_hash": space_hash(config)}
    study = open_study(config, name=config.tune.name, split_hash=manifest.split_hash, marks=marks)
    with tracking.failing(config.tracking, study.run_id):
        ledger = Ledger(study.folder)
        _search(config, study, dimensions, ledger, say)
        tuned = _told(config, study, manifest, ledger, command=command, say=say)
    tracking.finish(config.tracking, study.run_id)
    return tuned


def space_hash(config: Config) -> str:
    """Hash of what decides which trials a study has; more samples are the same study, longer."""
    tune = config.tune
    facts = [tune.space, tune.searcher, tune.scheduler, tune.grace_validations]
    facts += [tune.reduction_factor, tune.metric, tune.seed]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]


def train_command(command: Sequence[str], record: Record) -> str:
    """The command line that trains what this trial did."""
    kept = [word for word in command if not word.startswith("tune.")]
    return shlex.join(["python", "-m", "jobs.train", *kept, *words(record.settings)])


def _search(
    config: Config, study: Study, dimensions: Sequence[Dimension], ledger: Ledger, say: Say
) -> None:
    known = ledger.records()
    proposals = Proposals(config, dimensions, ledger)
    say(f"{proposals.total} proposals, {len(known)} of them found in {study.folder}")
    # Workers of a pruned trial are given back by a helper of Ray Train that asks the dashboard.
    ensure_ray(dashboard=config.scaling.num_workers > 0)
    # Ray must not be imported before it is set up.
    from pipeline.tuning.search import search

    search(config, study, ledger, proposals, say=say)


def _told(
    config: Config,
    study: Study,
    manifest: Manifest,
    ledger: Ledger,
    *,
    command: Sequence[str],
    say: Say,
) -> Tuned:
    records = ledger.records()
    best = _best(records)
    tested = _tested_once(config, study, best, say)
    metric, note = config.tune.metric, data_note(manifest)
    line = train_command(command, best)
    text = (
        f"{config.tune.name}: {note}; val split {manifest.split_hash}, study run "
        f"{study.run_id[:8]}, revision {git_revision()[:12]}\n\n"
        f"{board(records, metric=metric)}\n\nbest trial: {line}"
    )
    (study.folder / "leaderboard.md").write_text(text + "\n")
    write_csv(
        records,
        study.folder / "leaderboard.csv",
        metric=metric,
        split_hash=manifest.split_hash,
    )
    for suffix in ("md", "csv"):
        file = study.folder / f"leaderboard.{suffix}"
        tracking.log_artifact(config.tracking, study.run_id, file)
    numbers = counts(records)
    results = {f"best/val_{metric}": best.value or 0.0} | _numbers(tested) | numbers
    tracking.log_metrics(config.tracking, study.run_id, results)
    tracking.set_tags(config.tracking, study.run_id, {"best_run": best.run_id, "command": line})
    facts = {
        "run_id": study.run_id,
        "split_hash": manifest.split_hash,
        "best_run_id": best.run_id,
        "best_trial": best.name,
        f"best_val_{metric}": best.value,
        "command": line,
        "leaderboard": str(study.folder / "leaderboard.md"),
        **tested,
        **numbers,
    }
    return Tuned(text=text, facts=facts)


def _best(records: Sequence[Record]) -> Record:
    """The best trial that was trained to the end."""
    ranking = [one for one in ranked(records) if one.status == FINISHED]
    if not ranking:
        failed = [one for one in records if one.message]
        reason = f"; the first one: {failed[0].message}" if failed else ""
        raise RunFailed(
            f"none of {len(records)} trials finished{reason}",
            reason="no_trial",
            facts=counts(records),
        )
    return ranking[0]


def _tested_once(config: Config, study: Study, best: Record, say: Say) -> dict[str, Any]:
    """Test metrics of the best trial and its registered model; kept, so test is seen once."""
    note = study.folder / BEST
    if note.is_file():
        known = json.loads(note.read_text())
        if known["trial"] == best.name:
            return known["facts"]
    say(f"best is {best.name}: evaluating it on the test split")
    trial = make_trial(config, study, best.name, best.settings)
    evaluated = evaluate_run(trial.config, trial.child.folder, watch=lambda _: lambda *_: None)
    model = evaluated.facts["logged_model"]
    version = tracking.register(
        config.tracking, best.run_id, model=model, name=config.tune.name, alias=ALIAS
    )
    facts = {
        "registered_model": f"models:/{config.tune.name}@{ALIAS}",
        "model_version": version,
        "test_table": evaluated.facts["table"],
        **_numbers(evaluated.facts),
    }
    temporary = note.with_suffix(".tmp")
    temporary.write_text(json.dumps({"trial": best.name, "facts": facts}))
    temporary.replace(note)
    return facts


def _numbers(facts: dict[str, Any]) -> dict[str, float]:
    return {key: value for key, value in facts.items() if key.startswith("test/")}

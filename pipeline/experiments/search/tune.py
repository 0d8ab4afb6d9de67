"""A search from its config to its best model: trials, leaderboard, one look at the test split.

The study is a run of its own in MLflow with the trials under it. Killed at any moment and started
again with the same command it goes on where it was.
"""

import hashlib
import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config.schema import Config
from pipeline.data.manifest import Manifest, read_manifest
from pipeline.data.prepare.prepare import find_blocks
from pipeline.evaluation.evaluate import evaluate_run
from pipeline.experiments.search.leaderboard import board, counts, ranked, write_leaderboard_csv
from pipeline.experiments.search.report import FIGURES, draw_study
from pipeline.experiments.search.sampler import Proposals
from pipeline.experiments.search.space import parse_space, words
from pipeline.experiments.search.space_check import check_space, check_study
from pipeline.experiments.search.trial import make_trial
from pipeline.experiments.search.trial_store import FINISHED, Ledger, Record
from pipeline.experiments.study import Study, open_study
from pipeline.experiments.variant_runs import LOCK, write_note
from pipeline.metrics.metric import definition_of, level_of
from pipeline.runtime import remote_storage
from pipeline.runtime.errors import RunFailed
from pipeline.runtime.file_lock import file_lock
from pipeline.runtime.progress import Say
from pipeline.runtime.ray_cluster import ensure_ray
from pipeline.runtime.revision import short_revision
from pipeline.tracking import model_registry, runs
from pipeline.training.report import data_note
from pipeline.training.trainer import log_dataset

ALIAS = "best"
BOARD = "leaderboard"
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
    constant = _constant(config, manifest)
    study = open_search(config, manifest)
    # Two drivers would write one ledger.
    busy = RunFailed(
        f"another process is searching in {study.folder}; wait for its end or stop it, then start "
        "the same command again",
        reason="already_running",
    )
    with (
        file_lock(study.folder / LOCK, refusal=busy),
        runs.failing(config.tracking, study.run_id),
    ):
        ledger = Ledger(config, study.folder)
        run_search(config, study, ledger, say)
        records = ledger.records()
        best = _best(records)
        tested = _tested_once(config, study, best, say)
        figures = draw_study(
            config,
            dimensions,
            records,
            study.folder / FIGURES,
            constant=constant,
            note=data_note(manifest),
        )
        line = train_command(command, best)
        text = _board(config, study, manifest, records, line)
        facts = _facts(config, best, tested, records) | {"command": line}
        _log(config, study, text, facts)
        runs.finish(config.tracking, study.run_id)
    places = {
        "run_id": study.run_id,
        "split_hash": manifest.split_hash,
        "leaderboard": str(study.folder / f"{BOARD}.md"),
        "figures": [str(path) for path in figures],
    }
    return Tuned(text=text, facts=places | facts)


def open_search(config: Config, manifest: Manifest) -> Study:
    """The study of this search on these blocks: made, or found again with what it has done."""
    study = open_study(
        config,
        name=config.tune.name,
        split_hash=manifest.split_hash,
        marks={"space_hash": space_hash(config)},
        varied={one.key for one in parse_space(config, config.tune.space)},
    )
    log_dataset(config, study.run_id, manifest)
    return study


def run_search(config: Config, study: Study, ledger: Ledger, say: Say) -> None:
    """Run every trial that the ledger does not know yet; test is not looked at."""
    known = ledger.records()
    proposals = Proposals(config, parse_space(config, config.tune.space), ledger)
    say(f"{proposals.total} proposals, {len(known)} of them found in {study.folder}")
    # Workers of a pruned trial are given back by a helper of Ray Train that asks the dashboard.
    ensure_ray(dashboard=config.scaling.num_workers > 0)
    # Ray must not be imported before it is set up.
    from pipeline.experiments.search.ray_tune import search

    search(config, study, ledger, proposals, say=say)


def space_hash(config: Config) -> str:
    """Hash of what decides which trials a study has; more samples are the same study, longer."""
    tune = config.tune
    facts = [tune.space, tune.searcher, tune.scheduler, tune.grace_period]
    facts += [tune.reduction_factor, tune.metric, tune.seed]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]


def train_command(command: Sequence[str], record: Record) -> str:
    """The command line that trains what this trial did."""
    kept = [word for word in command if not word.startswith("tune.")]
    return shlex.join(["python", "-m", "jobs.train", *kept, *words(record.settings)])


def _board(
    config: Config, study: Study, manifest: Manifest, records: Sequence[Record], line: str
) -> str:
    """The leaderboard as text, also written into the study's folder."""
    metric = config.tune.metric
    text = (
        f"{config.tune.name}: {data_note(manifest)}; val split {manifest.split_hash}, study run "
        f"{study.run_id[:8]}; table by revision {short_revision()}\n\n"
        f"{board(records, metric=metric)}\n\nbest trial: {line}"
    )
    (study.folder / f"{BOARD}.md").write_text(text + "\n")
    path = study.folder / f"{BOARD}.csv"
    write_leaderboard_csv(records, path, metric=metric, split_hash=manifest.split_hash)
    return text


def _facts(
    config: Config, best: Record, tested: dict[str, Any], records: Sequence[Record]
) -> dict[str, Any]:
    return {
        "best_run_id": best.run_id,
        "best_trial": best.name,
        f"best_val_{config.tune.metric}": best.value,
        **tested,
        **counts(records),
    }


def _log(config: Config, study: Study, text: str, facts: dict[str, Any]) -> None:
    """Leaderboard, figures and results to the study's run."""
    store, run_id = config.tracking, study.run_id
    runs.set_description(store, run_id, text)
    for suffix in ("md", "csv"):
        runs.log_artifact(store, run_id, study.folder / f"{BOARD}.{suffix}")
    runs.log_artifacts(store, run_id, study.folder / FIGURES, subfolder=FIGURES)
    numbers = {key: value for key, value in facts.items() if isinstance(value, int | float)}
    runs.log_metrics(store, run_id, numbers)
    tags = {key: facts[key] for key in ("best_run_id", "best_trial", "command")}
    runs.set_tags(store, run_id, tags)


def _constant(config: Config, manifest: Manifest) -> float:
    """What a constant predictor reaches in val, from the share of anomalous points or frames.

    ValueError where val holds none, as nothing could be ranked then; nan for other levels.
    """
    level, metric = level_of(config.tune.metric), definition_of(config.tune.metric)
    if level == "point":
        return metric.constant(manifest.point_balance("val").prior)
    labels = manifest.labels["val"]
    if level != "frame":
        return math.nan
    if not labels.frames_pos:
        raise ValueError(
            "split val holds no anomalous frame to rank trials by; add scenes or change "
            "prepare.split_seed"
        )
    return metric.constant(labels.frames_pos / (labels.frames_pos + labels.frames_neg))


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
    remote_storage.fetch_file(config, note)
    if note.is_file():
        known = json.loads(note.read_text())
        if known["trial"] == best.name:
            return known["facts"]
    say(f"best is {best.name}: evaluating it on the test split")
    trial = make_trial(config, study, best.name, best.settings)
    evaluated = evaluate_run(trial.config, trial.child.folder, watch=lambda _: lambda *_: None)
    model = evaluated.facts["logged_model"]
    version = model_registry.register(
        config.tracking, best.run_id, model=model, name=config.tune.name, alias=ALIAS
    )
    facts = {
        "registered_model": f"models:/{config.tune.name}@{ALIAS}",
        "model_version": version,
        "test_table": evaluated.facts["table"],
        **_numbers(evaluated.facts),
    }
    remote_storage.push_results(config, trial.child.folder)
    write_note(config, note, {"trial": best.name, "facts": facts})
    return facts


def _numbers(facts: dict[str, Any]) -> dict[str, float]:
    return {key: value for key, value in facts.items() if key.startswith("test/")}

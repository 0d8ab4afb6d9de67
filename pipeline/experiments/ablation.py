"""Rows x seeds over one split: what each part of the detector is worth, in one table.

Every row is a change of the same config, every training sees the same scenes, and differences to
the first row are paired by scene. The study is a run of its own in MLflow with the trainings under
it.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.data.manifest import Manifest, read_manifest
from pipeline.data.prepare.prepare import find_blocks
from pipeline.evaluation.baselines import CONSTANT
from pipeline.evaluation.boosted_tree import baseline_name
from pipeline.evaluation.split_scores import baseline_of, open_splits, probe_tallies_of
from pipeline.experiments.study import Study, open_study
from pipeline.experiments.variant_runs import Outcome, VariantRun, run_variants
from pipeline.experiments.variants import parse_row, row_configs
from pipeline.experiments.variants_table import Line, latex, variants_markdown, write_variants_csv
from pipeline.metrics.bootstrap import Interval, mean_intervals
from pipeline.metrics.tally import SplitCounts
from pipeline.runtime.progress import Say
from pipeline.runtime.revision import short_revision
from pipeline.tracking import runs
from pipeline.training.report import data_note
from pipeline.training.trainer import config_hash, log_dataset


@dataclass(frozen=True, kw_only=True)
class Ablated:
    """The tables as text, and the facts for the job's JSON."""

    text: str
    facts: dict[str, Any]
    lines: list[Line]


def ablate(config: Config, *, say: Say) -> Ablated:
    """Train and evaluate every row x seed that is not done yet; then the table.

    Raises ValueError before anything starts when a row is wrong or is of another split.
    """
    rows = row_configs(config, config.ablate.variants)
    manifest = one_split(rows)
    study = open_study(config, name=config.ablate.name, split_hash=manifest.split_hash)
    with runs.failing(config.tracking, study.run_id):
        log_dataset(config, study.run_id, manifest)
        controls = _controls(config, manifest, say)
        variant_runs = {
            name: _runs_of(name, row, config.ablate.seeds) for name, row in rows.items()
        }
        every = [run for row in variant_runs.values() for run in row]
        outcomes = run_variants(every, study, num_parallel=config.ablate.num_parallel, say=say)
        by_name = {outcome.name: outcome for outcome in outcomes}
        done = {name: [by_name[run.name] for run in row] for name, row in variant_runs.items()}
        ablated = _report(config, manifest, study, done, controls)
        runs.finish(config.tracking, study.run_id)
    return ablated


def one_split(rows: Mapping[str, Config]) -> Manifest:
    """The manifest that all rows share; ValueError when a row's shards hold another split."""
    manifests = {name: read_manifest(find_blocks(row)) for name, row in rows.items()}
    first, manifest = next(iter(manifests.items()))
    for name, other in manifests.items():
        if other.split_hash != manifest.split_hash:
            raise ValueError(
                f"row {name} is of split {other.split_hash} and row {first} of split "
                f"{manifest.split_hash}, whose numbers cannot be compared; take its prepare "
                "settings out of ablate.variants"
            )
    return manifest


def _controls(config: Config, manifest: Manifest, say: Say) -> dict[str, SplitCounts]:
    """What no row may be worse than, by name.

    Made before the trainings: side by side they would all fit the same tree.
    """
    name = baseline_name(manifest)
    say(f"controls: {name} on plain features, probes of archive and frame number")
    splits = open_splits(config, split_hash=manifest.split_hash)
    plain = baseline_of(config, splits, find_blocks(config), watch=lambda _: lambda *_: None)
    probes = probe_tallies_of(splits, plain)
    named = {f"{fact.replace(' + ', ' and ')} probe": tally for fact, tally in probes.items()}
    return {name: plain, CONSTANT: plain.constant(), **named}


def _runs_of(row: str, config: Config, seeds: Sequence[int]) -> list[VariantRun]:
    variant_runs = []
    for seed in seeds:
        seeded = merge(config, {"train": {"seed": seed}})
        name = f"{row}-seed{seed}-{config_hash(seeded)[:6]}"
        variant_runs.append(VariantRun(name=name, config=seeded))
    return variant_runs


def _report(
    config: Config,
    manifest: Manifest,
    study: Study,
    done: Mapping[str, list[Outcome]],
    controls: Mapping[str, SplitCounts],
) -> Ablated:
    lines = _lines(config, done, controls)
    metrics, note = config.ablate.metrics, data_note(manifest)
    text = (
        f"{config.ablate.name}: {note}; test split {manifest.split_hash}, seeds "
        f"{config.ablate.seeds}, study run {study.run_id[:8]}; table by revision "
        f"{short_revision()}\n\n"
        f"{variants_markdown(lines, metrics, reference=lines[0].name)}"
    )
    (study.folder / "table.md").write_text(text + "\n")
    (study.folder / "table.tex").write_text(latex(lines, metrics))
    write_variants_csv(lines, study.folder / "table.csv", split_hash=manifest.split_hash)
    for suffix in ("md", "tex", "csv"):
        runs.log_artifact(config.tracking, study.run_id, study.folder / f"table.{suffix}")
    runs.set_description(config.tracking, study.run_id, text)
    runs.log_metrics(config.tracking, study.run_id, _study_metrics(lines, metrics))
    facts = {
        "run_id": study.run_id,
        "split_hash": manifest.split_hash,
        "table": str(study.folder / "table.md"),
        "failed_rows": [line.name for line in lines if not line.values],
    }
    return Ablated(text=text, facts=facts, lines=lines)


def _study_metrics(lines: Sequence[Line], metrics: Sequence[str]) -> dict[str, float]:
    """`ROW/METRIC` for the parent run."""
    return {
        f"{line.name}/{metric}": line.values[metric].value
        for line in lines
        for metric in metrics
        if metric in line.values
    }


def _lines(
    config: Config, done: Mapping[str, list[Outcome]], controls: Mapping[str, SplitCounts]
) -> list[Line]:
    tallies = {
        name: [one.read_tally() for one in outcomes]
        for name, outcomes in done.items()
        if all(one.status == "finished" for one in outcomes)
    }
    reference = tallies.get(next(iter(done)), [])
    rows = [
        _line(config, text, done=done, tallies=tallies, reference=reference)
        for text in config.ablate.variants
    ]
    return rows + [
        _control_line(config, name, tally, reference=reference) for name, tally in controls.items()
    ]


def _control_line(
    config: Config, name: str, tally: SplitCounts, *, reference: list[SplitCounts]
) -> Line:
    return Line(
        name=name,
        changes="control",
        status="finished",
        values=_intervals(config, [tally]),
        by_seed={},
        differences=_intervals(config, [tally], minus=reference) if reference else {},
        num_parameters=0,
        frames_per_s=math.nan,
        run_ids=[],
    )


def _intervals(
    config: Config, own: Sequence[SplitCounts], *, minus: Sequence[SplitCounts] = ()
) -> dict[str, Interval]:
    num, seed = config.evaluation.num_bootstraps, config.evaluation.bootstrap_seed
    return mean_intervals(own, minus=minus, num_resamples=num, seed=seed)


def _line(
    config: Config,
    text: str,
    *,
    done: Mapping[str, list[Outcome]],
    tallies: Mapping[str, list[SplitCounts]],
    reference: list[SplitCounts],
) -> Line:
    name, overrides = parse_row(text)
    outcomes, own = done[name], tallies.get(name, [])
    differences = {}
    if own and reference and own is not reference:
        differences = _intervals(config, own, minus=reference)
    return Line(
        name=name,
        changes=" ".join(overrides),
        status=_status(outcomes),
        values=_intervals(config, own) if own else {},
        by_seed=_by_seed(own),
        differences=differences,
        num_parameters=outcomes[0].num_parameters,
        frames_per_s=sum(one.frames_per_s for one in outcomes) / len(outcomes),
        run_ids=[one.run_id for one in outcomes],
    )


def _by_seed(tallies: Sequence[SplitCounts]) -> dict[str, list[float]]:
    readings = [tally.readings() for tally in tallies]
    names = readings[0] if readings else {}
    return {name: [each[name].value for each in readings if name in each] for name in names}


def _status(outcomes: Sequence[Outcome]) -> str:
    """`finished`, or e.g. `collapsed (2 of 3)`."""
    ended = Counter(one.status for one in outcomes if one.status != "finished")
    if not ended:
        return "finished"
    return ", ".join(f"{reason} ({count} of {len(outcomes)})" for reason, count in ended.items())

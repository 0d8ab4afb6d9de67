"""What a study tries, in order; the same after a restart, nothing twice, nothing senseless."""

import dataclasses
from pathlib import Path

from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.experiments.search.sampler import OptunaProposer, Proposals, RandomProposer
from pipeline.experiments.search.space import parse_space
from pipeline.experiments.search.trial_store import (
    FINISHED,
    OPEN,
    SKIPPED,
    Ledger,
    Record,
    Validation,
)

LR = "train.lr loguniform 1e-4 1e-2"
FUSION = "model.fusion choice concat cross_attention"
HEADS = "model.attention_heads grid 1 8"


def make(folder: Path, *texts: str, **tune: object) -> tuple[Proposals, Ledger]:
    config = merge(Config(), {"tune": {"space": list(texts), **tune}})
    ledger = Ledger(Config(), folder)
    return Proposals(config, parse_space(config, texts), ledger), ledger


def drain(proposals: Proposals) -> list[Record]:
    found = []
    while record := proposals.next():
        found.append(record)
    return found


def test_random_proposals_go_on_after_a_restart_as_if_there_had_been_none(tmp_path: Path):
    whole = drain(make(tmp_path / "whole", LR, num_samples=4)[0])
    half, _ = make(tmp_path / "half", LR, num_samples=4)
    first = [half.next(), half.next()]
    again, _ = make(tmp_path / "half", LR, num_samples=4)
    assert again.num_left == 2
    assert [*first, *drain(again)] == whole
    assert len({one.name for one in whole}) == 4


def test_more_samples_begin_with_those_there_were(tmp_path: Path):
    few = drain(make(tmp_path / "few", LR, num_samples=2)[0])
    assert drain(make(tmp_path / "many", LR, num_samples=3)[0])[:2] == few


def test_a_grid_is_tried_whole_for_every_sample():
    texts = [LR, HEADS, "loss.name grid focal bce dice"]
    proposer = RandomProposer(parse_space(Config(), texts), seed=0)
    drawn = [proposer.ask(number) for number in range(2 * proposer.num_combinations)]
    assert proposer.num_combinations == 6
    for sample in (drawn[:6], drawn[6:]):
        assert len({one["train.lr"] for one in sample}) == 1
        assert len({(one["model.attention_heads"], one["loss.name"]) for one in sample}) == 6
    assert drawn[0]["train.lr"] != drawn[6]["train.lr"]


def test_settings_that_make_no_sense_are_skipped_with_their_reason(tmp_path: Path):
    proposals, ledger = make(tmp_path, FUSION, HEADS, num_samples=3, seed=1)
    tried = drain(proposals)
    skipped = ledger.records(SKIPPED)
    assert tried
    assert len(tried) + len(skipped) == 6
    refused = [one for one in skipped if one.settings["model.fusion"] == "concat"]
    assert refused
    assert all("has no effect without attention" in one.message for one in refused)


def test_settings_that_train_the_same_are_tried_once(tmp_path: Path):
    conditional = f"{HEADS} if model.fusion=cross_attention"
    proposals, ledger = make(tmp_path, FUSION, conditional, num_samples=5)
    tried = drain(proposals)
    assert sorted(str(one.settings) for one in tried) == sorted(
        [
            "{'model.fusion': 'concat'}",
            "{'model.fusion': 'cross_attention', 'model.attention_heads': '1'}",
            "{'model.fusion': 'cross_attention', 'model.attention_heads': '8'}",
        ]
    )
    names = {one.name for one in tried}
    for one in ledger.records(SKIPPED):
        assert one.message.removeprefix("trains what ").removesuffix(" does") in names


def test_optuna_learns_where_the_good_settings_are(tmp_path: Path):
    dimensions = parse_space(Config(), ["model.dropout uniform 0 0.9"])
    proposer = OptunaProposer(dimensions, seed=0, known=[])
    drawn = []
    for number in range(40):
        settings = proposer.ask(number)
        drawn.append(float(settings["model.dropout"]))
        proposer.tell(ended(number, settings, value=-((drawn[-1] - 0.7) ** 2)))
    late = drawn[20:]
    assert sum(abs(x - 0.7) < 0.1 for x in late) > 10


def test_optuna_knows_after_a_restart_what_it_was_told_before():
    texts = ["model.dropout uniform 0 0.9", "train.batch_size uniform 2 8", FUSION]
    dimensions = parse_space(Config(), texts)
    draws = RandomProposer(dimensions, seed=1)
    known = [
        ended(number, drawn, value=-((float(drawn["model.dropout"]) - 0.7) ** 2))
        for number, drawn in enumerate(draws.ask(number) for number in range(40))
    ]
    proposer = OptunaProposer(dimensions, seed=0, known=known)
    drawn = [proposer.ask(number) for number in range(40, 60)]
    assert sum(abs(float(one["model.dropout"]) - 0.7) < 0.15 for one in drawn) > 10
    assert {one["train.batch_size"] for one in drawn} <= {str(n) for n in range(2, 9)}


def test_optuna_goes_on_after_proposals_that_led_nowhere(tmp_path: Path):
    proposals, ledger = make(
        tmp_path, FUSION, "train.augment choice true false", searcher="optuna", num_samples=12
    )
    tried = drain(proposals)
    assert len(tried) == 4
    assert len(ledger.records()) == 12
    for record in tried:
        proposals.proposer.tell(record)


def ended(number: int, drawn: dict[str, str], *, value: float) -> Record:
    return Record(
        number=number,
        name=f"{number:03d}-x",
        drawn=drawn,
        settings=drawn,
        status=FINISHED,
        history=[Validation(epoch=1, step=1, value=value)],
    )


def test_a_record_is_read_as_it_was_written(tmp_path: Path):
    record = dataclasses.replace(
        ended(3, {"train.lr": "0.1"}, value=0.5), message="m", run_id="r", best_step=1
    )
    Ledger(Config(), tmp_path).write(record)
    again = Ledger(Config(), tmp_path)
    assert again.records() == [record] == again.records(FINISHED)
    assert again.records(OPEN) == []
    assert again["003-x"] == record


def test_the_value_of_a_trial_is_that_of_the_checkpoint_it_chose():
    history = [Validation(epoch=n, step=10 * n, value=v) for n, v in ((1, 0.2), (2, 0.5), (3, 0.4))]
    record = dataclasses.replace(ended(0, {}, value=0.0), history=history)
    assert record.value == 0.5
    assert dataclasses.replace(record, best_step=30).value == 0.4
    assert dataclasses.replace(record, history=[]).value is None
    assert record.num_epochs == 3


def test_a_setting_without_the_metric_is_skipped_before_it_is_trained(tmp_path: Path):
    space = ["model.pixel_head grid true false"]
    proposals, ledger = make(tmp_path, *space, num_samples=1, metric="pixel_ap")
    assert [one.settings for one in drain(proposals)] == [{"model.pixel_head": "true"}]
    (skipped,) = ledger.records(SKIPPED)
    assert "tune.metric=pixel_ap is no metric of this model" in skipped.message

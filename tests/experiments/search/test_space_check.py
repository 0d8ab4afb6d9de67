"""A space that could waste a night is refused before anything is trained."""

import pytest

from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.experiments.search.space import parse_space
from pipeline.experiments.search.space_check import check_space, check_study

FUSION = "model.fusion choice concat cross_attention"
HEADS = "model.attention_heads choice 1 8"


def check(*texts: str, **tune: object) -> None:
    config = merge(Config(), {"tune": {"space": list(texts), **tune}})
    check_space(config, parse_space(config, texts))


@pytest.mark.parametrize(
    "texts",
    [
        ("train.lr loguniform 1e-4 1e-2",),
        (FUSION, f"{HEADS} if model.fusion=cross_attention"),
        # Unconditional: half of the combinations will be skipped, but each value has one.
        (FUSION, HEADS),
        ("model.point_channels choice 32 64", "train.augment choice true false"),
    ],
)
def test_a_space_whose_values_are_all_taken_somewhere_is_fine(texts: tuple[str, ...]):
    check(*texts)


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (("train.lrr uniform 0 1",), "unknown key 'train.lrr'; did you mean 'train.lr'"),
        (("model.fusion choice concat sum",), "model.fusion"),
        (("train.lr choice 1e-3 fast",), "train.lr"),
        (("model.dropout uniform 0 1.5",), r"model\.dropout is 1\.5; it takes 0 <= dropout < 1"),
        (("train.lr uniform 0 1",), r"train\.lr is 0\.0"),
        ((HEADS,), "has no effect without attention"),
        (("scaling.num_workers choice 1 2",), "changes nothing in a training"),
        (("prepare.split_seed choice 1 2",), "other data, length or rules; set prepare.split_seed"),
        (("train.num_epochs choice 5 10",), "other data, length or rules"),
        (("train.patience choice 0 1",), "other data, length or rules"),
        (("train.num_threads choice 1 2",), "changes nothing in a training"),
        (("health_checks.enabled choice true false",), "other data, length or rules"),
    ],
)
def test_a_space_with_a_wrong_value_is_refused_in_one_sentence(
    texts: tuple[str, ...], sentence: str
):
    with pytest.raises(ValueError, match=sentence) as refused:
        check(*texts)
    assert "\n" not in str(refused.value)
    assert texts[0] in str(refused.value)


def test_a_space_in_which_every_draw_is_refused_says_so():
    # With seed 1 the one sample is lidar_only, which has no pixels; a value alone is fine.
    texts = ("model.fusion choice lidar_only concat", "model.pixel_head choice true")
    with pytest.raises(ValueError, match=r"all 1 settings drawn .* refused, the first because"):
        check(*texts, num_samples=1, seed=1)
    check(*texts, num_samples=8, seed=1)


def test_optuna_takes_no_grid():
    with pytest.raises(ValueError, match=r"takes no grid as in 'train\.lr grid 1 2'"):
        check("train.lr grid 1 2", searcher="optuna")


def test_grids_alone_are_sampled_once():
    check("train.lr grid 1e-3 2e-3", num_samples=1)
    with pytest.raises(ValueError, match=r"tune\.num_samples=2 would train the same"):
        check("train.lr grid 1e-3 2e-3", num_samples=2)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"train": {"resume": "runs/x"}}, r"train\.resume=runs/x would start every trial"),
        ({"tune": {"metric": "pixel_ap"}}, "tune.metric=pixel_ap is no metric of this model"),
        ({"tune": {"metric": "semantic_miou"}}, "set it to one of point_ap, frame_ap"),
        ({"tune": {"grace_period": 10}}, "is 10 epochs, so none of train.num_epochs=10"),
    ],
)
def test_a_study_that_could_not_rank_or_prune_is_refused(changes: dict, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        check_study(merge(Config(), changes))
    check_study(Config())

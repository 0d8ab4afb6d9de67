import pytest

from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.experiments.variants import parse_row, row_configs


def test_a_row_is_a_name_and_its_overrides():
    text = "  half   model.point_channels=32 model.image_channels=32 "
    name, overrides = parse_row(text)
    assert name == "half"
    assert overrides == ["model.point_channels=32", "model.image_channels=32"]
    assert parse_row("full") == ("full", [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "row '' has no name"),
        ("model.dropout=0", "row 'model.dropout=0' has no name"),
        ("near model.pillar_range_m=[0, 8]", r"holds '8\]', which has no '='"),
    ],
)
def test_a_row_that_cannot_be_read_is_refused_with_the_way_out(text, said):
    with pytest.raises(ValueError, match=f"{said}.*NAME key=value"):
        parse_row(text)


@pytest.mark.parametrize("name", ["wide+deep", "a/b", "it's", "-x", "größe"])
def test_a_name_that_could_be_no_folder_or_metric_is_refused(name: str):
    with pytest.raises(ValueError, match="also names a folder and metrics in MLflow; use letters"):
        parse_row(f"{name} model.dropout=0.1")


def test_rows_change_the_config_they_are_given_each_on_its_own():
    base = merge(Config(), {"model": {"dropout": 0.3}})
    found = row_configs(base, ["full", "flat model.pillar_range_m=[0,8,-4,4] train.lr=0.1"])
    assert list(found) == ["full", "flat"]
    assert found["full"].model == base.model
    assert found["flat"].model.pillar_range_m == [0, 8, -4, 4]
    assert found["flat"].model.dropout == 0.3
    assert found["flat"].train.lr == 0.1


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["a", "b model.dropuot=0"], "row b: unknown key 'model.dropuot'; did you mean 'model.dro"),
        (["a", "b model.dropout=2"], "row b: model.dropout is 2"),
        (["a", "a model.dropout=0"], "two rows are named a"),
    ],
)
def test_a_wrong_row_is_refused_by_name(rows, said):
    with pytest.raises(ValueError, match=said):
        row_configs(Config(), rows)

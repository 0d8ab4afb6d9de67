"""README.zh.md tells users of the prior system what stands for their commands."""

import pytest

from pipeline.config.load import load
from pipeline.models.detector import build_detector
from tests.helpers.repository import REPOSITORY

TEXT = (REPOSITORY / "README.zh.md").read_text(encoding="utf-8")
ABLATION = load(REPOSITORY / "configs" / "ablation.yaml").ablate


@pytest.mark.parametrize(
    "command", ["train_anovox.py", "evaluate.py", "visualize_training.py --monitor"]
)
def test_a_command_has_its_row(command: str) -> None:
    assert f"| `{command}" in TEXT


@pytest.mark.parametrize("name", ["no_pe", "no_attention", "image_only"])
def test_an_ablation_is_a_variant_of_the_same_name(name: str) -> None:
    assert f"`{name}`" in TEXT
    assert name in [text.split()[0] for text in ABLATION.variants]


def test_variants_and_seeds_are_as_many_as_it_says() -> None:
    told = f"{len(ABLATION.variants)} 个变体 x {len(ABLATION.seeds)} 个种子"
    assert told in TEXT


def test_the_prior_network_has_as_many_parameters_as_it_says() -> None:
    config = load(REPOSITORY / "configs" / "prior_control.yaml")
    model = build_detector(config.model, prior=0.01)
    assert f"{sum(p.numel() for p in model.parameters()):,} 个参数" in TEXT

"""Losses, gradient norms and validations of three short trainings, kept: no silent change of maths.

After a change that is meant to move them: `python -m pytest PATH --write-golden`, and a line in
docs/log.md that says why they moved.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from pipeline.config.load import merge
from pipeline.config.schema import Config
from pipeline.training.trainer import Trained, fit

GOLDEN = Path(__file__).with_name("golden_losses.json")
# The largest difference of kernels for AVX-512 with AMX, AVX2 and no vectors at all was 8e-6.
TOLERANCE = 1e-4
SHORT = {
    "model": {"dropout": 0.1},
    "train": {"num_epochs": 1, "batch_size": 4},
}
CASES: dict[str, dict[str, Any]] = {
    "cross attention on pillars": {"loss": {"name": "focal"}},
    "gated fusion of cylinders, and pixels": {
        "model": {
            "fusion": "gated",
            "lidar_backbone": "cylinder3d",
            "cylinder_grid": [24, 32, 8],
            "cylinder_channels": 4,
            "pixel_head": True,
        },
        "loss": {"name": "dice"},
    },
    "energy of a semantic head, and outliers": {
        "model": {"semantic_head": True, "score": "energy"},
        "loss": {"name": "cross_entropy"},
        "outliers": {"raised_road": 0.5, "perlin": 0.5, "feature_mixing": 0.5},
    },
}
MEASURED = ("train/", "val/")


def curves(config: Config, trained: Trained) -> dict[str, list[float]]:
    """What depends on the maths of each step and of the validation."""
    client = MlflowClient(config.tracking.uri)
    found = {}
    for name in sorted(client.get_run(trained.run_id).data.metrics):
        if name.startswith(MEASURED):
            points = client.get_metric_history(trained.run_id, name)
            found[name] = [p.value for p in sorted(points, key=lambda p: p.step)]
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_short_training_has_the_losses_it_always_had(
    small_training: Config, case: str, request: pytest.FixtureRequest
) -> None:
    config = merge(small_training, SHORT, CASES[case])
    found = curves(config, fit(config, say=lambda line: None))
    golden = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {}
    if request.config.getoption("write_golden"):
        GOLDEN.write_text(json.dumps(golden | {case: found}, indent=1) + "\n", encoding="utf-8")
        return
    assert found.keys() == golden[case].keys()
    for name, values in golden[case].items():
        assert found[name] == pytest.approx(values, rel=TOLERANCE, abs=1e-6), name

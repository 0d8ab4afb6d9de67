"""The data sets that `data.dataset` can name: one line each. No data set is imported before use."""

import importlib
from collections.abc import Mapping
from typing import Any

from pipeline.datasets.protocol.dataset import Dataset
from pipeline.datasets.protocol.facts import DatasetFacts, dataset_facts

DATASETS = {
    "anovox": "pipeline.datasets.anovox.dataset:AnoVox",
}
FIRST_DATASET = "anovox"
"""The only one there was when manifests did not say which."""


def open_dataset(name: str) -> Dataset:
    """The data set called `name`, or the class `package.module:Class` that is one."""
    module, _, attribute = DATASETS.get(name, name).partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"data.dataset={name} cannot be opened ({error}); it takes one of "
            f"{', '.join(DATASETS)}, or package.module:Class of a data set of your own"
        ) from None


def recorded_facts(facts: Mapping[str, Any] | None) -> DatasetFacts:
    """Facts as JSON records them; those of the first data set where an older version left none."""
    return open_dataset(FIRST_DATASET).facts if facts is None else dataset_facts(facts)

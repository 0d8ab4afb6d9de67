"""The checks that the tests put on the program's functions refuse what they should."""

import numpy as np
import pytest
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float

from pipeline.config.schema import TrackingConfig
from pipeline.metrics.counts import ScoreCounts, bins_of
from pipeline.tracking.store import client_of
from tests.helpers.typechecking import jaxtyped


def test_axes_of_arguments_must_agree():
    scores = np.zeros(3, dtype=np.float32)
    ScoreCounts().add(scores, np.zeros(3, dtype=np.uint8))
    with pytest.raises(BeartypeCallHintViolation):
        ScoreCounts().add(scores, np.zeros(4, dtype=np.uint8))


def test_an_array_of_another_kind_is_refused():
    with pytest.raises(BeartypeCallHintViolation):
        bins_of(np.zeros(3, dtype=np.int64))


def test_each_call_has_axes_of_its_own():
    assert len(bins_of(np.zeros(3, dtype=np.float32))) == 3
    assert len(bins_of(np.zeros(4, dtype=np.float32))) == 4


def test_what_is_no_array_is_checked_too():
    with pytest.raises(BeartypeCallHintViolation):
        client_of(7)  # pyright: ignore[reportArgumentType]
    with pytest.raises(BeartypeCallHintViolation):
        TrackingConfig(uri=7)  # pyright: ignore[reportArgumentType]


def test_a_result_has_the_axes_of_the_arguments():
    @jaxtyped
    def shortened(values: Float[np.ndarray, "N"], by: int) -> Float[np.ndarray, "N"]:
        return values[by:]

    assert len(shortened(np.zeros(3, dtype=np.float32), 0)) == 3
    with pytest.raises(BeartypeCallHintViolation):
        shortened(np.zeros(3, dtype=np.float32), 1)

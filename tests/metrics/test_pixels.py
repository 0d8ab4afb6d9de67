"""Pixels of the stored image counted against scores that lie at stride 8."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import average_precision_score

from pipeline.data.batch import Batch
from pipeline.datasets.anovox.class_table import ANOVOX_CLASSES
from pipeline.metrics.tally import SplitCounts
from pipeline.models.pixels import upsampled
from pipeline.models.scores import Scores
from tests.helpers.streets import street_batch

INDEX = pd.DataFrame(
    {
        "archive": "A",
        "scene_id": ["0", "1"],
        "frame_id": [5, 6],
        "kind": ["static", "normality"],
        "anomaly_category": ["animal", ""],
        "anomaly_distance_m": 1.0,
    }
)


def labelled_batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    label = (torch.rand(2, 36, 90, generator=generator) < 0.1).to(torch.uint8)
    label[1] = 0
    label[:, :5] = 255
    return dataclasses.replace(street_batch(height=36, width=90), pixel_label=label)


def scores_of(batch: Batch) -> Scores:
    generator = torch.Generator().manual_seed(1)
    return Scores(
        point_score=torch.zeros(len(batch.points)),
        frame_score=torch.zeros(2),
        pixel_score=3 * torch.randn(2, 5, 12, generator=generator),
    )


def tally_of(scores: Scores, batch: Batch) -> SplitCounts:
    tally = SplitCounts(
        split="test", split_hash="abc", classes=ANOVOX_CLASSES, lookalike_classes=[20]
    )
    tally.update(scores, batch, INDEX)
    return tally


def test_every_labelled_pixel_is_counted_with_the_score_that_lies_over_it():
    batch = labelled_batch()
    scores = scores_of(batch)
    tally = tally_of(scores, batch)
    assert scores.pixel_score is not None
    assert batch.pixel_label is not None
    score, label = upsampled(scores.pixel_score, size=(36, 90)).numpy(), batch.pixel_label.numpy()
    for name, frames in (("pixel", slice(None)), ("pixel_static", slice(1))):
        known = label[frames] != 255
        expected = average_precision_score(label[frames][known], score[frames][known])
        assert tally.metrics("test")[f"test/{name}_ap"] == pytest.approx(expected, abs=2e-3)
        counts = tally.counts(name)
        assert (counts.num_pos, counts.num_neg) == (
            (label[frames] == 1).sum(),
            (label[frames] == 0).sum(),
        )


def test_a_batch_without_labels_or_a_model_without_scores_counts_no_pixel():
    batch = labelled_batch()
    scores = scores_of(batch)
    blind = dataclasses.replace(scores, pixel_score=None)
    for tally in (
        tally_of(blind, batch),
        tally_of(scores, dataclasses.replace(batch, pixel_label=None)),
    ):
        assert not any(name.startswith("pixel") for name in tally.slices)


def test_a_tally_with_pixels_survives_its_file(tmp_path):
    batch = labelled_batch()
    tally = tally_of(scores_of(batch), batch)
    tally.to_file(tmp_path / "tally.npz")
    read = SplitCounts.from_file(tmp_path / "tally.npz")
    np.testing.assert_array_equal(read.counts("pixel").to_array(), tally.counts("pixel").to_array())
    assert read.metrics("test") == tally.metrics("test")

"""The test split scored by a detector and by the baseline that stands beside its numbers."""

import functools
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from pipeline.config.schema import Config
from pipeline.data.block_reader import BlockReader
from pipeline.data.frames import Extra
from pipeline.data.manifest import Manifest
from pipeline.data.prepare.prepare import find_blocks
from pipeline.evaluation.audit import fit_plain, sample_split, tally_baseline
from pipeline.evaluation.baselines import probe_tallies
from pipeline.evaluation.boosted_tree import Baseline
from pipeline.evaluation.inference import lookalikes, make_scores
from pipeline.evaluation.parallel_inference import OpenSplit, count_split
from pipeline.metrics.tally import SplitCounts
from pipeline.runtime.progress import Watch

SAMPLING = "by-row"
"""How the baseline's sample is drawn: counts of another way are not taken for these."""


def open_splits(
    config: Config,
    *,
    split_hash: str,
    num_sweeps: int = 1,
    extras: Sequence[Extra] = ("voxels",),
) -> dict[str, OpenSplit]:
    """The splits train (for the baseline) and test; ValueError when they are of another split.

    `num_sweeps` and `extras` are what the model's batches of test hold; the baseline looks at the
    current clouds of the same batches.
    """
    blocks = find_blocks(config)
    test = OpenSplit.open(config, blocks, "test", num_sweeps=num_sweeps, extras=extras)
    demand_split(test.reader, blocks, split_hash=split_hash)
    return {"train": OpenSplit.open(config, blocks, "train"), "test": test}


def demand_split(reader: BlockReader, blocks: Path, *, split_hash: str) -> None:
    """ValueError unless `blocks`, which the reader has opened, hold the split of the training."""
    found = reader.manifest.split_hash
    if found != split_hash:
        raise ValueError(
            f"{blocks} holds split {found} but the model was trained on split {split_hash}, so its "
            "test scenes may be among those it was trained on; point data.blocks at the shards of "
            "the training"
        )


def score_splits(
    config: Config, model: nn.Module, splits: dict[str, OpenSplit], blocks: Path, *, watch: Watch
) -> tuple[SplitCounts, SplitCounts, str]:
    """Counts of the model and of the baseline on test, in one pass over its frames.

    Third comes the precision that the model was computed in.
    """
    kept = baseline_path(config, blocks, splits["test"].reader.manifest)
    plain = None if kept.is_file() else _fitted(config, splits["train"], watch=watch)
    make = functools.partial(
        make_scores,
        config=config.evaluation,
        model=model,
        device=str(scoring_device(config)),
        plain=plain,
    )
    scores = count_split(make, splits["test"], progress=watch("test"))
    if scores.baseline is not None:
        _keep(scores.baseline, kept)
    assert scores.detector is not None
    return scores.detector, SplitCounts.from_file(kept), scores.precision


def baseline_of(
    config: Config, splits: dict[str, OpenSplit], blocks: Path, *, watch: Watch
) -> SplitCounts:
    """The boosted tree's counts on test; kept beside the shards, under what it depends on."""
    kept = baseline_path(config, blocks, splits["test"].reader.manifest)
    if not kept.is_file():
        plain = _fitted(config, splits["train"], watch=watch)
        _keep(tally_baseline(plain, splits["test"], progress=watch("boosted tree")), kept)
    return SplitCounts.from_file(kept)


def baseline_path(config: Config, blocks: Path, manifest: Manifest) -> Path:
    """Where the baseline's counts lie."""
    near = "-".join(map(str, lookalikes(config.evaluation, manifest)))
    ego = "x".join(map(str, config.data.ego_box_m))
    voxel, seed = config.evaluation.voxel_score, config.evaluation.bootstrap_seed
    return blocks / f"baseline-{SAMPLING}-near-{near}-ego-{ego}-voxel-{voxel}-seed-{seed}.npz"


def _fitted(config: Config, train: OpenSplit, *, watch: Watch) -> Baseline:
    sample = sample_split(train, progress=watch("features of train"))
    return fit_plain(sample, seed=config.evaluation.bootstrap_seed)


def _keep(tally: SplitCounts, path: Path) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    tally.to_file(temporary)
    temporary.replace(path)


def probe_tallies_of(splits: dict[str, OpenSplit], tally: SplitCounts) -> dict[str, SplitCounts]:
    """Counts of what archive and frame number alone tell of the frames of `tally`."""
    train, test = (splits[name].reader.index for name in ("train", "test"))
    return probe_tallies(tally, train=train, test=test)


def scoring_device(config: Config) -> torch.device:
    """`device_of`, or CUDA where Ray workers on other nodes have the GPUs."""
    on_nodes = config.scaling.use_gpu and config.scaling.num_workers and "RAY_ADDRESS" in os.environ
    return torch.device("cuda") if on_nodes else device_of(config)


def device_of(config: Config) -> torch.device:
    """Where this process evaluates: CUDA when `scaling.use_gpu`, which must then be there."""
    if config.scaling.use_gpu and not torch.cuda.is_available():
        raise ValueError(
            "scaling.use_gpu=true but torch sees no CUDA device; set "
            "scaling.use_gpu=false to evaluate on the CPU"
        )
    return torch.device("cuda" if config.scaling.use_gpu else "cpu")


def drawing_device(config: Config) -> torch.device:
    """Of the model when it scores a few frames for pictures: this process' GPU if it has one."""
    return torch.device("cuda" if config.scaling.use_gpu and torch.cuda.is_available() else "cpu")

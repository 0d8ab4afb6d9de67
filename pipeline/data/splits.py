"""Scenes are dealt to train, val and test; frames of one scene never part.

Frames of a scene are near-duplicates, so a split by frame would test what was trained on. The deal
is a pure function of the scenes and the config, is stored with a hash, and a split that lacks a
class of frames is refused: its metrics would say nothing.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.config.data import PrepareConfig
from pipeline.data.schema import SPLITS


@dataclass(frozen=True, kw_only=True)
class SceneFacts:
    """What the deal needs to know of a scene."""

    archive: str
    scene_id: str
    kind: str
    town: str
    category: str
    """Category of the scene's anomaly; empty if there is none."""

    @property
    def key(self) -> str:
        """Names the scene in splits and plans."""
        return scene_key(self.archive, self.scene_id)


def scene_key(archive: str, scene_id: str) -> str:
    """`archive/scene_id`."""
    return f"{archive}/{scene_id}"


def make_splits(scenes: Sequence[SceneFacts], config: PrepareConfig) -> dict[str, str]:
    """Split of every scene, by `SceneFacts.key`, in sorted order.

    Scenes with a held-out category go to test, and those of kinds that are not to be trained on
    (`prepare.train_kinds`) to val and test, in the shares these have of each other. The others are
    dealt kind by kind in the shares of the config (largest remainder; from three scenes on, every
    split gets one), and each split's scenes are spread over the towns. The order in which scenes
    come does not matter.
    """
    held_out = set(config.hold_out_categories)
    splits = {scene.key: "test" for scene in scenes if scene.category in held_out}
    rest = [scene for scene in scenes if scene.key not in splits]
    for kind in sorted({scene.kind for scene in rest}):
        same_kind = [scene for scene in rest if scene.kind == kind]
        is_trained = not config.train_kinds or kind in config.train_kinds
        sizes = (split_sizes if is_trained else unseen_sizes)(len(same_kind), config)
        names = [split for split in ("test", "val", "train") for _ in range(sizes[split])]
        # Towns alternate in this order, so a run of neighbours holds every town in its share.
        ordered = _alternate_towns(same_kind, seed=config.split_seed)
        splits |= {scene.key: name for scene, name in zip(ordered, names, strict=True)}
    return dict(sorted(splits.items()))


def split_sizes(num_scenes: int, config: PrepareConfig) -> dict[str, int]:
    """Scenes per split by largest remainder; one each when there are three or more.

    Of two scenes one is for train and one for test; a single scene is for train.
    """
    shares = {"val": config.val_fraction, "test": config.test_fraction}
    shares["train"] = 1 - sum(shares.values())
    quotas = {split: share * num_scenes for split, share in shares.items()}
    sizes = {split: int(quota) for split, quota in quotas.items()}
    by_remainder = sorted(quotas, key=lambda split: (sizes[split] - quotas[split], split))
    for split in by_remainder[: num_scenes - sum(sizes.values())]:
        sizes[split] += 1
    for split in ("train", "test", "val")[:num_scenes]:
        if sizes[split] == 0:
            sizes[max(sizes, key=lambda other: sizes[other])] -= 1
            sizes[split] = 1
    return sizes


def unseen_sizes(num_scenes: int, config: PrepareConfig) -> dict[str, int]:
    """Scenes per split of a kind that is not trained on: none for train, one each from two on."""
    share = config.val_fraction / (config.val_fraction + config.test_fraction)
    num_val = min(max(round(share * num_scenes), 1), num_scenes - 1) if num_scenes > 1 else 0
    return {"train": 0, "val": num_val, "test": num_scenes - num_val}


def _alternate_towns(scenes: Sequence[SceneFacts], *, seed: int) -> list[SceneFacts]:
    """Each town's scenes in a seeded random order, merged so that towns alternate by share."""
    placed: list[tuple[float, float, SceneFacts]] = []
    for town in sorted({scene.town for scene in scenes}):
        group = sorted((s for s in scenes if s.town == town), key=lambda scene: scene.key)
        rng = _stable_rng(seed, group[0].kind, town)
        tie_break = float(rng.random())
        placed += [
            ((place + 0.5) / len(group), tie_break, group[index])
            for place, index in enumerate(rng.permutation(len(group)))
        ]
    return [scene for _, _, scene in sorted(placed, key=lambda entry: entry[:2])]


def _stable_rng(seed: int, *names: str) -> np.random.Generator:
    digest = hashlib.sha256("\n".join(names).encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "little")])


def split_hash(splits: Mapping[str, str]) -> str:
    """Hash of the sorted scene -> split mapping; equal hashes mean comparable results."""
    text = json.dumps(sorted(splits.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_scenes(
    scenes: Sequence[SceneFacts], splits: Mapping[str, str], config: PrepareConfig
) -> None:
    """Refuse before any array is read when a split gets no scene with an anomaly.

    With `prepare.train_kinds` train may go without: `jobs.train` then takes only a loss that uses
    none, and it is enough that train gets any scene.
    """
    given = {splits[scene.key] for scene in scenes if scene.kind != "normality"}
    lacking = [split for split in SPLITS if split not in given]
    if config.train_kinds:
        lacking = [split for split in lacking if split != "train"]
        if "train" not in splits.values():
            raise ValueError(
                f"prepare.train_kinds={config.train_kinds} leaves no scene to train on: the kinds "
                f"there are {sorted({scene.kind for scene in scenes})}"
            )
    if lacking:
        raise ValueError(
            f"split {' and '.join(lacking)} gets no scene with an anomaly, so it cannot hold both "
            "classes of frames: add static scenes (at least three), or change "
            "prepare.val_fraction, prepare.test_fraction or prepare.hold_out_categories"
        )


def check_both_classes(frames: pd.DataFrame, config: PrepareConfig) -> None:
    """Refuse when a split lacks normal or anomalous frames.

    `frames` has columns `split` and `frame_label`, one row per frame. With `prepare.train_kinds`
    train needs normal frames only. Raises ValueError.
    """
    counts = {split: _class_counts(frames.query("split == @split")) for split in SPLITS}
    needed = {
        split: pair[:1] if config.train_kinds and split == "train" else pair
        for split, pair in counts.items()
    }
    if all(min(pair) > 0 for pair in needed.values()):
        return
    shown = ", ".join(
        f"{split} {neg} normal + {pos} anomalous" for split, (neg, pos) in counts.items()
    )
    raise ValueError(
        f"splits have {shown} frames; each needs both classes: add scenes, or change "
        "prepare.split_seed, prepare.val_fraction or prepare.test_fraction"
    )


def _class_counts(frames: pd.DataFrame) -> tuple[int, int]:
    labels = frames["frame_label"].to_numpy()
    return int((labels == 0).sum()), int((labels == 1).sum())

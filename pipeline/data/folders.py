"""Which prepared folder a config means: one rule for a local disk and for object storage.

Reads manifests only. That `data.root` still holds what was prepared is checked by `jobs.prepare`
alone: looking at every file of a real data set takes minutes, and every job would pay for it.
"""

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.schema import Config
from pipeline.data.manifest import MANIFEST, write_text
from pipeline.data.prepare.plan import prepare_facts

logger = logging.getLogger(__name__)
SOURCES = "sources.json"
"""Of a prepared folder: which `data.root` and `data.poses` it was found to be made of, and when."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A prepared folder, as far as it must be known to choose it."""

    place: str
    """Its path, on the disk or in the store."""
    facts: Mapping[str, Any]
    """Content of its `manifest.json`."""
    sources: Sequence[Mapping[str, Any]]
    """Content of its `sources.json`; empty where a version without that file prepared it."""

    def made_by(self, config: Config) -> bool:
        """Whether the prepare section is the same; an empty `train_kinds` may be left out."""
        wanted, recorded = prepare_facts(config.prepare), dict(self.facts["prepare"])
        if not recorded.get("train_kinds"):
            recorded.pop("train_kinds", None)
        return recorded == wanted

    def made_from_s(self, config: Config) -> float:
        """When `jobs.prepare` last found it made from this root and these poses; -inf = never."""
        if not self.sources:
            return 0.0 if self.facts["root"] == config.data.root else -math.inf
        wanted = _source(config)
        times = [
            one["time_s"] for one in self.sources if {key: one[key] for key in wanted} == wanted
        ]
        return max(times, default=-math.inf)

    @property
    def roots(self) -> list[str]:
        """Every `data.root` that it is known to be made from."""
        return sorted({self.facts["root"], *(one["root"] for one in self.sources)})


def choose_folder(config: Config, found: Sequence[Prepared], *, place: str) -> Prepared:
    """The folder of `found` that `data.blocks` means: `place` itself, or one of those in it.

    Of those in it, the one made by this prepare section from this `data.root` and `data.poses`; of
    several (the root has changed meanwhile) the one that `jobs.prepare` wrote or found last. Where
    there is no such root on this host at all (the shards alone were copied to it) the prepare
    section decides, with a warning. Raises ValueError where none or several fit.
    """
    if len(found) == 1 and found[0].place == place:
        _warn_of_others(config, found[0])
        return found[0]
    fitting = [one for one in found if one.made_by(config)]
    own = [one for one in fitting if one.made_from_s(config) > -math.inf]
    if own:
        return _newest(config, own)
    if not fitting or Path(config.data.root).is_dir():
        raise ValueError(_none(config, found, fitting))
    if len(fitting) > 1:
        raise ValueError(_several(config, fitting))
    logger.warning("data.root %s is not there; using %s", config.data.root, fitting[0].place)
    return fitting[0]


def local_folders(place: Path) -> list[Prepared]:
    """The prepared folder `place`, or those in it."""
    folders = [place] if (place / MANIFEST).is_file() else sorted(place.glob("*/"))
    return [_read(folder) for folder in folders if (folder / MANIFEST).is_file()]


def note_source(config: Config, folder: Path) -> None:
    """Say in `folder`, just prepared or found unchanged, that it is what this config means."""
    found = local_folders(folder.parent)
    fitting = [one for one in found if one.made_by(config)]
    ours = next(one for one in fitting if one.place == str(folder))
    last = max(one.made_from_s(config) for one in fitting)
    # Nothing to say is nothing to write: a finished folder may lie on a read-only disk.
    if ours.sources and ours.made_from_s(config) == last > -math.inf:
        return
    wanted = _source(config)
    others = [one for one in ours.sources if {key: one[key] for key in wanted} != wanted]
    write_text(folder / SOURCES, json.dumps([*others, {**wanted, "time_s": time.time()}], indent=1))


def earlier_folder(config: Config) -> Prepared | None:
    """What was prepared last from this root by this section; None if nothing was."""
    found = [one for one in local_folders(Path(config.data.blocks)) if one.made_by(config)]
    own = [one for one in found if one.made_from_s(config) > -math.inf]
    return max(own, key=lambda one: one.made_from_s(config), default=None)


def _read(folder: Path) -> Prepared:
    sources = folder / SOURCES
    return Prepared(
        place=str(folder),
        facts=json.loads((folder / MANIFEST).read_text()),
        sources=json.loads(sources.read_text()) if sources.is_file() else [],
    )


def _source(config: Config) -> dict[str, Any]:
    return {"root": config.data.root, "poses": sorted(config.data.poses)}


def _warn_of_others(config: Config, named: Prepared) -> None:
    if not named.made_by(config):
        logger.warning("%s was made otherwise; this prepare section has no effect", named.place)
    if Path(config.data.root).is_dir() and named.made_from_s(config) == -math.inf:
        logger.warning(
            "%s was made from %s, not from data.root=%s, which has no effect",
            named.place,
            " and ".join(named.roots),
            config.data.root,
        )


def _newest(config: Config, own: Sequence[Prepared]) -> Prepared:
    ranked = sorted(own, key=lambda one: one.made_from_s(config), reverse=True)
    if len(ranked) == 1:
        return ranked[0]
    if ranked[0].made_from_s(config) == ranked[1].made_from_s(config):
        raise ValueError(_several(config, ranked))
    logger.info(
        "%d folders in %s were prepared by this section from %s; using the last one, %s",
        len(ranked),
        config.data.blocks,
        config.data.root,
        ranked[0].place,
    )
    return ranked[0]


def _none(config: Config, found: Sequence[Prepared], fitting: Sequence[Prepared]) -> str:
    if fitting:
        roots = " and ".join(sorted({root for one in fitting for root in one.roots}))
        return (
            f"data.blocks={config.data.blocks} holds shards made by this prepare section, but from "
            f"{roots}, not from data.root={config.data.root}; {_prepare_again(config)}, set "
            "data.root to that folder, or give the address of a prepared folder itself"
        )
    return (
        f"data.blocks={config.data.blocks} holds no shards made by this prepare section from "
        f"{config.data.root} ({len(found)} made otherwise); {_prepare_again(config)}, or give the "
        "address of a prepared folder itself"
    )


def _several(config: Config, fitting: Sequence[Prepared]) -> str:
    names = ", ".join(sorted(Path(one.place).name for one in fitting))
    return (
        f"data.blocks={config.data.blocks} holds {len(fitting)} folders made by this prepare "
        f"section ({names}), and nothing says which of them is meant; {_prepare_again(config)}, or "
        "give the address of one of them"
    )


def _prepare_again(config: Config) -> str:
    if "://" in config.data.blocks:
        return "copy a prepared folder there with its manifest.json"
    return "run jobs.prepare with the same config"

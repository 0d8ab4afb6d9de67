"""One door for every change of a config: YAML file, command line, search trial.

A typo, a wrong type or an illegal choice is refused the same way everywhere. Local paths become
absolute here, because workers, trials and submitted jobs run in other folders.
"""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline.config.keys import demand_known, with_names_of_now
from pipeline.config.schema import Config

_STORE_SCHEMES = ("s3://", "gs://", "file://")
"""Where prepared shards and run folders may lie, through pyarrow.fs."""
REMOTE_SCHEMES = ("s3://", "gs://", "http://", "https://")


def load(path: str | Path | None, overrides: Sequence[str] = ()) -> Config:
    """Defaults, then the YAML file, then `key.path=value` overrides; all checked.

    Raises ValueError with one sentence: unknown key (with the nearest valid one), wrong type,
    illegal choice, broken rule, a missing file, or a relative path inside a submitted Ray job.
    """
    changes: list[Any] = []
    if path is not None:
        changes.append(_read_yaml(Path(path)))
    changes += _overrides(overrides)
    return absolute_paths(merge(Config(), *changes))


def override(config: Config, overrides: Sequence[str]) -> Config:
    """`config` with `key.path=value` overrides, checked as those of `load` are."""
    return absolute_paths(merge(config, *_overrides(overrides)))


def _overrides(texts: Sequence[str]) -> list[Any]:
    trees = []
    for text in texts:
        if "=" not in text:
            raise ValueError(f"override {text!r} has no '='; write it as key.path=value")
        _known_key(text.split("=", 1)[0])
        _no_interpolation(text, text)
        trees.append(_in_sentence(text, lambda text=text: _override(text)))
    return trees


def _override(text: str) -> Any:
    """One override as a tree; a single value for a key that takes a list is a list of one."""
    key = text.split("=", 1)[0]
    tree = OmegaConf.from_dotlist([text])
    value = OmegaConf.select(tree, key)
    if isinstance(flatten(Config()).get(key), list) and not OmegaConf.is_config(value):
        OmegaConf.update(tree, key, [value])
    return tree


def merge(base: Config, *changes: Any) -> Config:
    """`base` with nested mappings merged into it, in order; the one door for every change."""

    def build() -> Config:
        names = tuple(dict.fromkeys(name for change in changes for name in change))
        if not _SECTIONS.keys() >= set(names):
            names = tuple(_SECTIONS)  # OmegaConf looks among them for what was meant
        part = _part(names)(**{name: getattr(base, name) for name in names})
        merged = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(part), *changes))
        return dataclasses.replace(base, **vars(merged))

    return _in_sentence("config", build)


_SECTIONS = {field.name: field.type for field in dataclasses.fields(Config)}


@functools.cache
def _part(names: tuple[str, ...]) -> Any:
    """A config of these sections only: OmegaConf takes 2 ms for each, whether it changes or not."""
    return dataclasses.make_dataclass(
        Config.__name__, [(name, _SECTIONS[name]) for name in names], frozen=True, kw_only=True
    )


def recorded(tree: Mapping[str, Any]) -> Config:
    """The config that a run has recorded, also one of before a key got another name."""
    return merge(Config(), with_names_of_now(tree))


def to_dict(config: Config) -> dict[str, Any]:
    """Plain nested dict; `merge(Config(), to_dict(c)) == c`."""
    return dataclasses.asdict(config)


def as_written(config: Config) -> dict[str, Any]:
    """Nested dict as a user writes it: `load` makes the same config of it."""
    tree = to_dict(config)
    mirrored = tree.pop("storage_mirror")
    return tree | ({"storage_path": mirrored} if mirrored else {})


def flatten(config: Config) -> dict[str, Any]:
    """`{"train.lr": 0.002, ...}`: the names of overrides and MLflow params."""
    return dict(_walk(to_dict(config), prefix=""))


def _walk(tree: Mapping[str, Any], *, prefix: str):
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _walk(value, prefix=f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def absolute_paths(config: Config) -> Config:
    """Every local path made absolute against the working folder; `~` is expanded."""
    local, mirror = _storage(config)
    weights = config.model.image_weights
    if weights not in ("none", "imagenet"):
        weights = _absolute("model.image_weights", weights)
    changes = {
        "storage_path": local,
        "storage_cache": _absolute_if("storage_cache", config.storage_cache),
        "storage_mirror": mirror,
        "data": {
            "root": _absolute("data.root", config.data.root),
            "blocks": _place("data.blocks", config.data.blocks),
            "cache": _absolute_if("data.cache", config.data.cache),
            "archives": [_absolute("data.archives", path) for path in config.data.archives],
        },
        "model": {"image_weights": weights},
        "train": {"resume": _run("train.resume", config.train.resume, local=local, mirror=mirror)},
        "evaluation": {
            "checkpoint": _run(
                "evaluation.checkpoint", config.evaluation.checkpoint, local=local, mirror=mirror
            )
        },
        "tracking": {"uri": _absolute_uri(config.tracking.uri)},
    }
    return merge(config, changes)


def _storage(config: Config) -> tuple[str, str]:
    """Local folder of the runs, and the address it mirrors or an empty text."""
    given = config.storage_path
    if not given.startswith(_STORE_SCHEMES):
        return _absolute("storage_path", given), config.storage_mirror
    if not config.storage_cache:
        raise ValueError(
            f"storage_path={given} is remote storage, and runs are written to a local disk before "
            "they are uploaded; set storage_cache to a folder on every node"
        )
    # The query holds the way there (an endpoint, a region), not the place.
    address = given.partition("?")[0].rstrip("/")
    digest = hashlib.sha256(address.encode()).hexdigest()[:12]
    return f"{_absolute('storage_cache', config.storage_cache)}/runs-{digest}", given


def _run(key: str, value: str, *, local: str, mirror: str) -> str:
    """A run or checkpoint folder; one under a remote storage_path is meant by its local copy."""
    if not value.startswith(_STORE_SCHEMES):
        return _absolute_if(key, value)
    address = mirror.partition("?")[0].rstrip("/")
    inside = value.partition("?")[0].removeprefix(f"{address}/")
    if not address or inside == value.partition("?")[0]:
        raise ValueError(
            f"{key}={value} is not under storage_path={address or local}; set storage_path to the "
            "address that holds it"
        )
    return f"{local}/{inside}"


def _absolute_if(key: str, value: str) -> str:
    return _absolute(key, value) if value else ""


def _absolute(key: str, value: str) -> str:
    if value.startswith(REMOTE_SCHEMES):
        raise ValueError(
            f"{key}={value} is remote storage, which is not read or written yet; give a local path "
            "or one on a shared file system"
        )
    path = Path(value).expanduser()
    if not path.is_absolute() and "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        raise ValueError(
            f"{key}={value} is relative, but a submitted Ray job runs in a temporary copy of the "
            "working folder; give an absolute path"
        )
    return str(path.resolve())


def _place(key: str, value: str) -> str:
    """A URI as it is, a local path made absolute."""
    if value.startswith(_STORE_SCHEMES):
        return value
    if "://" in value:
        raise ValueError(
            f"{key}={value} has a scheme that is not read; it takes a local path or one of "
            f"{', '.join(_STORE_SCHEMES)}"
        )
    return _absolute(key, value)


def _absolute_uri(uri: str) -> str:
    scheme = "sqlite:///"
    if not uri.startswith(scheme):
        return uri
    return scheme + _absolute("tracking.uri", uri.removeprefix(scheme))


def _read_yaml(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(f"config file {path} does not exist; give --config an existing YAML file")
    _no_interpolation(str(path), path.read_text(encoding="utf-8"))
    tree = _in_sentence(str(path), lambda: OmegaConf.load(path))
    plain = OmegaConf.to_container(tree)
    if not isinstance(plain, dict):
        raise ValueError(f"config file {path} is not a mapping of sections; see configs/demo.yaml")
    for key, _ in _walk(cast(dict[str, Any], plain), prefix=""):
        _known_key(key)
    return tree


def _known_key(key: str) -> None:
    demand_known(key, list(flatten(Config())))


def _no_interpolation(place: str, text: str) -> None:
    """A run must not depend on anything outside its YAML and its command line."""
    if "${" in text:
        raise ValueError(f"{place} holds '${{': no interpolation here, write the value itself")


def _in_sentence(place: str, build: Any) -> Any:
    """OmegaConf's and YAML's many-line errors as one sentence."""
    try:
        return build()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ValueError(f"{place} is not YAML: {error.problem} in line {line}") from None
    except OmegaConfBaseException as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        key = getattr(error, "full_key", None) or place
        raise ValueError(f"{key}: {lines[0]}") from None

"""docs/config.md is what the dataclasses say."""

import dataclasses

from pipeline.config.load import flatten
from pipeline.config.reference import JOBS, NOT_SET_BY_HAND, sections, settings, settings_page
from pipeline.config.schema import Config
from tests.helpers.repository import REPOSITORY


def test_the_page_is_current() -> None:
    """Else: `python -m pipeline.config.reference > docs/config.md`."""
    assert (REPOSITORY / "docs" / "config.md").read_text(encoding="utf-8") == settings_page()


def test_every_key_is_there_once_with_a_sentence() -> None:
    found = [one for name in sections() for one in settings(name)]
    keys = [one.key for one in found]
    assert sorted([*keys, NOT_SET_BY_HAND]) == sorted(flatten(Config()))
    assert all(one.sentence.endswith((".", ")")) for one in found)


def test_a_default_is_written_as_on_a_command_line() -> None:
    written = {one.key: (one.default, one.kind) for one in settings("train")}
    assert written["train.augment"] == ("true", "true|false")
    assert written["train.lr_restart_epochs"] == ("[]", "list of integer")
    assert written["train.monitor"] == ("point_ap", "point_ap|frame_ap|semantic_miou")


def test_every_job_has_its_sections() -> None:
    jobs = {p.stem for p in (REPOSITORY / "jobs").glob("*.py")} - {
        "__init__",
        "__main__",
        "command",
        "progress",
    }
    assert jobs == JOBS.keys()
    names = {field.name for field in dataclasses.fields(Config)}
    assert all(set(listed) <= names for listed in JOBS.values())

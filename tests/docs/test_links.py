"""Links of the pages lead somewhere, and their command lines are ones that the jobs take."""

import functools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.config.load import load
from tests.helpers.repository import REPOSITORY

PAGES = [
    *sorted(REPOSITORY.glob("*.md")),
    *sorted((REPOSITORY / "docs").glob("*.md")),
    REPOSITORY / "deploy" / "README.md",
]
HISTORY = {"docs/log.md"}
"""Pages whose command lines are those of their day."""
LINK = re.compile(r"\]\(([^()\s]+)\)")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`|^(?: {4}|\t)(.+)$", re.MULTILINE)
COMMAND = re.compile(r"(?:\bjobs\.|(?<![\w/.])anovox )(\w+)((?: +[^\s#|]+)*)")
CITED = re.compile(r"\bdocs/([\w.-]+\.md)\b(?:[,\s(]+\"([^\"]+)\")?")
"""A page in a docstring, and after it the heading that is meant, in quotation marks."""
PLACEHOLDERS = ("key.path=value", "key=value", "...", "SECTION")
RECORD = "10888190"
"""A number in the place of the word RECORD."""
SWITCHES = ("--help", "--print-config")


def _name(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def _anchors(page: Path) -> set[str]:
    """Addresses of a page's headings, as GitHub makes them."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ +(.+?)\s*$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_link_to_a_file_or_heading_has_its_target(page: Path) -> None:
    for link in LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), f"{_name(page)} links {link}"
        if anchor:
            assert anchor in _anchors(target), f"{_name(page)} links {link}"


def _commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Job and words of every command line in code."""
    text = page.read_text(encoding="utf-8")
    code = [quoted or indented for quoted, indented in CODE.findall(text)]
    for job, words in COMMAND.findall("\n".join([*code, *FENCED.findall(text)])):
        if job != "NAME":
            found = shlex.split(words.replace("RECORD", RECORD))
            yield job, [word for word in found if word not in PLACEHOLDERS]


@functools.cache
def _load(config: Path | None, settings: tuple[str, ...]) -> None:
    """Each once: the same line stands in several places."""
    load(config, settings)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_command_line_names_a_job_its_config_and_settings_that_there_are(page: Path) -> None:
    for job, words in _commands(page):
        assert (REPOSITORY / "jobs" / f"{job}.py").is_file(), f"{_name(page)} names jobs.{job}"
        config = None
        if words[:1] == ["--config"]:
            config, words = REPOSITORY / words[1], words[2:]
        settings = [word for word in words if "=" in word]
        others = [word for word in words if "=" not in word and word not in SWITCHES]
        if _name(page) not in HISTORY:
            assert not others or "--help" in words, f"{_name(page)}: jobs.{job} {' '.join(words)}"
            _load(config, tuple(settings))


def test_the_readmes_have_command_lines_with_settings() -> None:
    for name in ("README.md", "README.zh.md"):
        lines = [words for _, words in _commands(REPOSITORY / name) if words]
        assert len(lines) >= 6, name


@pytest.mark.parametrize("room", ["pipeline", "jobs", "benchmarks"])
def test_pages_and_headings_that_the_code_cites_are_there(room: str) -> None:
    for path in (REPOSITORY / room).rglob("*.py"):
        for name, heading in CITED.findall(path.read_text(encoding="utf-8")):
            page = REPOSITORY / "docs" / name
            assert page.is_file(), f"{path} cites {name}"
            lines = page.read_text(encoding="utf-8").splitlines()
            assert not heading or f"## {heading}" in lines, f"{path} cites {name}, {heading}"

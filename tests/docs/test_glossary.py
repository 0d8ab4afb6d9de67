"""docs/glossary.md explains each word once and names the file that defines it."""

import re

from tests.helpers.repository import REPOSITORY

ROW = re.compile(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
ROWS = [
    tuple(cell.strip() for cell in row)
    for row in ROW.findall((REPOSITORY / "docs" / "glossary.md").read_text(encoding="utf-8"))
    if row[0] != "word"
]


def test_every_word_has_whole_sentences_and_a_file() -> None:
    for word, meaning, files in ROWS:
        assert meaning.endswith((".", ").")), word
        assert re.search(r"\]\(\.\./(pipeline|jobs|tests)/", files), word


def test_a_word_is_explained_once() -> None:
    words = [part for word, _, _ in ROWS for part in word.split(", ")]
    assert len(words) == len(set(words)) > 80

"""docs/architecture.md and its picture show the program as it is."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from docs.architecture import BEGIN, END, PAGE, PICTURE, WAYS, Room, arrow_id, rooms, table
from tests.helpers.repository import REPOSITORY

AGAIN = "run python docs/architecture.py"
NUMBER = re.compile(r"\| ([\d,]+) \|")
LINES_MAY_DIFFER_BY = 0.2


@pytest.fixture(scope="module")
def found() -> list[Room]:
    return rooms()


def _table_of_page() -> str:
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].strip()


def test_the_table_has_the_rooms_sentences_and_imports_of_the_code(found: list[Room]) -> None:
    shown, made = (NUMBER.sub("| N |", text) for text in (_table_of_page(), table(found)))
    assert shown == made, AGAIN


def test_the_tables_lines_of_code_are_about_those_of_the_code(found: list[Room]) -> None:
    shown = [int(number.replace(",", "")) for number in NUMBER.findall(_table_of_page())]
    made = [room.num_lines for room in found]
    assert shown == pytest.approx(made, rel=LINES_MAY_DIFFER_BY), AGAIN


def test_the_picture_has_a_dot_for_every_import_and_no_other(found: list[Room]) -> None:
    drawn = {str(part.get("id")) for part in ElementTree.parse(PICTURE).iter()}
    dots = {one for one in drawn if "-imports-" in one}
    assert dots == {arrow_id(room.name, name) for room in found for name in room.imports}, AGAIN


def test_every_room_has_a_sentence_and_imports_only_earlier_ones(found: list[Room]) -> None:
    names = [room.name for room in found]
    for number, room in enumerate(found):
        assert room.sentence.endswith("."), room
        assert set(room.imports) <= set(names[:number]), room


def test_the_ways_lead_through_files_that_the_page_names_too() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for title, stages in WAYS.items():
        section = page.partition(f"## {title}\n")[2].partition("\n## ")[0]
        for _, file in stages:
            assert (REPOSITORY / "pipeline" / file).is_file(), file
            assert f"../pipeline/{file}" in section, (title, file)

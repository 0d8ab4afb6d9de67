"""The table on stdout and the figure: aligned, complete, legible, also when things are broken."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from pipeline.config.data import SyntheticConfig
from pipeline.datasets.anovox.layout import find_archives
from pipeline.datasets.anovox.scan import take_inventory
from pipeline.datasets.anovox.scene import read_scenes
from pipeline.inspection.archive import ArchiveReport, inspect_archive
from pipeline.inspection.check import Check
from pipeline.inspection.figure import SIGNS, draw_inspection
from pipeline.inspection.report import table
from pipeline.synthetic.writer import write_archives
from tests.helpers import wrong_archives as wrong

CheckFigure = Callable[[Figure], np.ndarray]
WORLD = SyntheticConfig(
    num_scenes=1,
    num_frames=2,
    kinds=["normality"],
    towns=["Town03"],
    image_width=96,
    image_height=64,
    num_channels=16,
    points_per_second=40_000,
    num_processes=1,
)


def inspected(root: Path) -> ArchiveReport:
    [archive] = find_archives(root)
    return inspect_archive(
        take_inventory(archive), num_scenes=0, num_frames=2, progress=lambda *_: None
    )


@pytest.fixture
def report(tmp_path: Path) -> ArchiveReport:
    write_archives(WORLD, tmp_path)
    return inspected(tmp_path)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]


def test_the_figure_is_legible_and_shows_every_check(
    report: ArchiveReport, check: CheckFigure
) -> None:
    figure = draw_inspection(report, note="synthetic data")
    check(figure)
    shown = texts(figure)
    assert "synthetic data" in shown
    assert {c.name for c in report.checks} <= set(shown)
    assert report.example is not None
    assert any(text.endswith(f", frame {report.example.frame_id}") for text in shown)


def test_a_figure_of_a_broken_archive_says_what_could_not_be_read(
    tmp_path: Path, check: CheckFigure
) -> None:
    write_archives(WORLD, tmp_path)
    [archive] = find_archives(tmp_path)
    scene = read_scenes(archive.scenes[0], archive)[0]
    for path in wrong.paths(scene, "voxels"):
        path.write_bytes(b"")
    report = inspected(tmp_path)
    figure = draw_inspection(report, note="")
    check(figure)
    assert "its files could not be read" in texts(figure)
    assert "FAIL" in texts(figure)


def test_a_refused_archive_still_has_a_figure(report: ArchiveReport, check: CheckFigure) -> None:
    check(draw_inspection(replace(report, example=None, checks=report.checks[:1]), note=""))


def test_statuses_differ_in_shape_and_in_brightness() -> None:
    assert len({marker for marker, _ in SIGNS.values()}) == 3
    red, green, blue = (
        np.array([int(to_hex(colour)[i : i + 2], 16) for _, colour in SIGNS.values()])
        for i in (1, 3, 5)
    )
    brightness = np.sort(0.299 * red + 0.587 * green + 0.114 * blue)
    assert np.diff(brightness).min() > 20


def test_long_cells_go_on_in_the_next_line_and_columns_stay_aligned() -> None:
    long = Check(
        name="voxel content",
        status="FAIL",
        found="many words " * 10,
        expected="short",
        num_frames=3,
        num_items=12345,
        unit="cells",
        meaning="Recompute the voxels.",
    )
    lines = table([long]).splitlines()
    at = lines[0].index("expected")
    assert lines[2].startswith("FAIL    voxel content      many words")
    assert lines[2][at:].startswith("short")
    assert "3 frames, 12,345 cells" in lines[2]
    assert lines[3].strip().startswith("many words")
    assert lines[-1].strip() == "-> Recompute the voxels."
    assert max(map(len, lines)) < 160


def test_a_passed_line_has_no_meaning_below_it(report: ArchiveReport) -> None:
    assert "->" not in table(report.checks)

"""Draws docs/images/architecture.svg and fills the table of rooms in docs/architecture.md.

Run as `python docs/architecture.py`. Rooms and their order come from tests/test_import_order.py,
what they import and how long they are from their files (ast); nothing of the program is imported.
"""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "architecture.md"
PICTURE = REPOSITORY / "docs" / "images" / "architecture.svg"
ORDER = REPOSITORY / "tests" / "test_import_order.py"
BEGIN, END = "<!-- rooms: begin -->", "<!-- rooms: end -->"

WAYS = {
    "The way of a frame": (
        ("archive", "datasets/anovox/scene.py"),
        ("frame", "datasets/anovox/frame.py"),
        ("labels", "datasets/anovox/labels.py"),
        ("row", "data/prepare/rows.py"),
        ("shard", "data/shards.py"),
        ("batch", "data/collate.py"),
        ("scores", "models/detector.py"),
        ("metrics", "metrics/tally.py"),
    ),
    "The way of a setting": (
        ("dataclass", "config/schema.py"),
        ("YAML, override", "config/load.py"),
        ("section", "training/loop.py"),
        ("MLflow params", "tracking/runs.py"),
        ("checkpoint", "training/checkpoints.py"),
        ("read again", "evaluation/evaluate.py"),
    ),
    "The way of a metric": (
        ("definition", "metrics/metric.py"),
        ("scores, labels", "metrics/frame_truth.py"),
        ("counts", "metrics/counts.py"),
        ("tally", "metrics/tally.py"),
        ("interval", "metrics/bootstrap.py"),
        ("table", "evaluation/results_table.py"),
        ("MLflow metrics", "tracking/runs.py"),
    ),
}
"""What passes through which file of pipeline/, in order; docs/architecture.md tells the same."""

# Okabe and Ito, "Color Universal Design" (2008), without its yellow, too pale for lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#666666")
STEP_X, STEP_Y, BOX_X, BOX_Y = 0.47, 0.42, 1.55, 0.29
LINE_X = 0.17
"""From a box's left edge to the line that leaves it downwards; inches, as all of these."""
MARGIN = 0.15
WAY_X, WAY_WIDTH, WAY_STEP = (6.05, 8.25, 10.45), 2.05, 0.47

Places = dict[str, tuple[float, float]]
"""Left upper corners of boxes, by room."""


@dataclass(frozen=True, kw_only=True)
class Room:
    """A folder of the program."""

    name: str
    """Dotted: `pipeline.data`."""
    sentence: str
    """First paragraph of its docstring."""
    num_lines: int
    imports: tuple[str, ...]
    """Names of other rooms that it imports, in the order of rooms."""

    @property
    def label(self) -> str:
        """Its name as folders have it, below pipeline/."""
        return self.name.removeprefix("pipeline.").replace(".", "/")

    @property
    def path(self) -> str:
        """Of its folder, or of its file where it is one module."""
        folder = self.name.replace(".", "/")
        return f"{folder}.py" if (REPOSITORY / f"{folder}.py").is_file() else folder


def rooms() -> list[Room]:
    """All rooms in their order."""
    names = _order()
    return [_room(name, names) for name in names]


def _order() -> tuple[str, ...]:
    for node in ast.parse(ORDER.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ROOMS":
            return ast.literal_eval(node.value)
    raise ValueError(f"{ORDER} assigns no ROOMS")


def _room(name: str, names: Sequence[str]) -> Room:
    folder = REPOSITORY / name.replace(".", "/")
    file = folder.with_suffix(".py")
    paths = [file] if file.is_file() else sorted(folder.rglob("*.py"))
    texts = [path.read_text(encoding="utf-8") for path in paths]
    used = {_owner(one, names) for text in texts for one in _imports(text)} - {name, ""}
    opening = file if file.is_file() else folder / "__init__.py"
    head = ast.get_docstring(ast.parse(opening.read_text(encoding="utf-8")))
    return Room(
        name=name,
        sentence=" ".join((head or "").partition("\n\n")[0].split()),
        num_lines=sum(len(text.splitlines()) for text in texts),
        imports=tuple(one for one in names if one in used),
    )


def _imports(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _owner(module: str, names: Sequence[str]) -> str:
    return next((name for name in names if f"{module}.".startswith(f"{name}.")), "")


def table(found: Sequence[Room]) -> str:
    """The rooms as a Markdown table."""
    lines = ["| room | what it is | lines | imports |", "|---|---|---:|---|"]
    label = {room.name: room.label for room in found}
    for room in found:
        link = f"[{room.label}](../{room.path})"
        imports = ", ".join(label[name] for name in room.imports) or "nothing"
        lines.append(f"| {link} | {room.sentence} | {room.num_lines:,} | {imports} |")
    return "\n".join(lines)


def with_table(page: str, text: str) -> str:
    """The page with `text` between its markers."""
    head, _, rest = page.partition(BEGIN)
    return f"{head}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}"


def arrow_id(importer: str, imported: str) -> str:
    """Id in the SVG of the place where two rooms meet."""
    return f"{importer}-imports-{imported}"


def draw(found: Sequence[Room]) -> Figure:
    """Rooms down a diagonal; a line falls from each, and a dot on it is an import."""
    width = WAY_X[-1] + WAY_WIDTH + 2 * MARGIN
    height = len(found) * STEP_Y + 0.45 + 2 * MARGIN
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasSVG(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-MARGIN, width - MARGIN), ylim=(height - MARGIN, -MARGIN))
    axes.set_axis_off()
    place = {room.name: (i * STEP_X, i * STEP_Y) for i, room in enumerate(found)}
    for number, room in enumerate(found):
        x, y = place[room.name]
        _draw_imports(axes, room, place)
        _draw_importers(axes, room, found, place, COLOURS[number % len(COLOURS)])
        _box(axes, x, y, BOX_X, BOX_Y, COLOURS[number % len(COLOURS)])
        axes.text(x + BOX_X / 2, y + BOX_Y / 2, room.label, ha="center", va="center", fontsize=9.5)
    for x, (title, stages) in zip(WAY_X, WAYS.items(), strict=True):
        _draw_way(axes, x, title, stages)
    axes.text(
        0,
        len(found) * STEP_Y + 0.2,
        "A dot: the room to the right of it imports the room above it. "
        "Arrows lead to what is imported; every room imports only from rooms before it.",
        fontsize=9,
        va="center",
        color="#444444",
    )
    return figure


def _draw_imports(axes: Axes, room: Room, place: Places) -> None:
    """The level line from a room to what it imports."""
    if room.imports:
        x, y = place[room.name]
        first = min(place[name][0] for name in room.imports) + LINE_X
        level = y + BOX_Y / 2
        axes.plot([first, x], [level, level], color="#BBBBBB", lw=0.9, zorder=0)


def _draw_importers(
    axes: Axes, room: Room, found: Sequence[Room], place: Places, colour: str
) -> None:
    """The line below a room, with its arrow head and a dot per importer."""
    importers = [other.name for other in found if room.name in other.imports]
    x, y = place[room.name][0] + LINE_X, place[room.name][1] + BOX_Y
    levels = [place[name][1] + BOX_Y / 2 for name in importers]
    if importers:
        _arrow(axes, (x, max(levels)), (x, y), colour)
    for name, level in zip(importers, levels, strict=True):
        axes.plot(x, level, "o", ms=5, color=colour, zorder=5, gid=arrow_id(name, room.name))


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    style = {"arrowstyle": "-|>", "color": colour, "lw": 1.4, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=style)


def _draw_way(axes: Axes, x: float, title: str, stages: Sequence[tuple[str, str]]) -> None:
    axes.text(x, 0.08, title, fontsize=10.5, weight="bold", va="center")
    for number, (stage, file) in enumerate(stages):
        y = 0.28 + number * WAY_STEP
        if number:
            _arrow(axes, (x + 0.2, y - WAY_STEP + 0.36), (x + 0.2, y), "#444444")
        _box(axes, x, y, WAY_WIDTH, 0.36, "#999999")
        axes.text(x + 0.07, y + 0.11, stage, fontsize=9, va="center", weight="bold")
        axes.text(x + 0.07, y + 0.26, file, fontsize=7.5, va="center", color="#444444")


def _box(axes: Axes, x: float, y: float, width: float, height: float, colour: str) -> None:
    style = "round,pad=0,rounding_size=0.05"
    axes.add_patch(
        FancyBboxPatch(
            (x, y), width, height, boxstyle=style, ec=colour, fc="white", lw=1.3, zorder=3
        )
    )


def main() -> None:
    """Write the picture and the table."""
    found = rooms()
    with matplotlib.rc_context({"svg.hashsalt": "architecture"}):
        draw(found).savefig(PICTURE, format="svg", metadata={"Date": None})
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_table(page, table(found)), encoding="utf-8")


if __name__ == "__main__":
    main()

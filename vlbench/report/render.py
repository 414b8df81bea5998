"""Tables for the terminal, and as Markdown that pastes into a paper or an issue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from vlbench.report.columns import (
    MARK,
    Column,
    Sources,
    elsewhere,
    filled,
    own_columns,
    published_columns,
    title,
)
from vlbench.report.tables import Table

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table as Grid

ELASTIC = ("variant", "splits", "about", "expect", "source", "datasets", "tasks", "to get it", "licence", "name")
"""Columns of long words, which are cut short before any other gives way."""
WRAPPING = ("basis", "meaning")
"""Columns whose words go on in a second line, before the elastic are cut."""
_COLOURS = {"within CI": "green", "above": "green", "below": "yellow"}


def grid(columns: Sequence[Column], cells: Iterable[Sequence[str]]) -> Grid:
    """Lay cells out for a terminal: aligned, without frames, one line a row."""
    from rich import box
    from rich.table import Table as Grid
    from rich.text import Text

    found = Grid(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False, header_style="dim")
    lines = list(cells)
    for place, column in enumerate(columns):
        # Rich takes width from columns that may wrap first: "published weights" does, the elastic are cut.
        gives_way = column.title in (*WRAPPING, *ELASTIC)
        # A name or a number that is cut is another one: where all do not fit, the rest gives way.
        whole = column.right or column is columns[0]
        least = max(map(len, [column.title, *(line[place] for line in lines)])) if whole else None
        side: Literal["left", "right"] = "right" if column.right else "left"
        found.add_column(column.title, justify=side, no_wrap=not gives_way, min_width=least)
    for line in lines:
        found.add_row(
            *(
                Text(cell, _COLOURS.get(cell, ""), no_wrap=column.title not in WRAPPING, overflow="ellipsis")
                for column, cell in zip(columns, line, strict=True)
            )
        )
    return found


def remarks(lines: Iterable[str]) -> Grid:
    """Lay notes out for a terminal; long ones go on below their own first word."""
    from rich.table import Table as Grid
    from rich.text import Text

    found = Grid.grid(padding=(0, 1, 0, 0))
    for line in lines:
        head, _, text = line.partition(" ") if line[0] in f"[{MARK}" else ("·", "", line)
        found.add_row(Text(head, style="dim"), Text(text, style="dim", overflow="fold"))
    return found


def terminal(table: Table) -> RenderableType:
    """Lay one table out for a terminal: own runs, what is published on the same split, sources."""
    from rich.console import Group
    from rich.text import Text

    sources = Sources()
    parts: list[RenderableType] = [Text(title(table), style="bold")]
    if table.rows:
        parts += [grid(*filled(own_columns(table.metric, sources, wide=False), table.rows))]
    if notes := elsewhere(table, sources):
        parts += [remarks(notes)]
    if table.published:
        parts += [Text(), grid(*filled(published_columns(table.metric, sources), table.published))]
    return Group(*parts, remarks(sources.lines), Text())


def markdown_grid(columns: Sequence[Column], cells: Iterable[Sequence[str]]) -> str:
    """Lay cells out as a Markdown table."""
    lines = [
        [column.title for column in columns],
        ["---:" if column.right else "---" for column in columns],
        *cells,
    ]
    return "\n".join("| " + " | ".join(escape(cell) for cell in line) + " |" for line in lines)


def escape(text: str) -> str:
    """Make a text safe inside a cell or a line of Markdown."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def markdown_parts(table: Table) -> dict[str, Any]:
    """Return a table's pieces in Markdown, as the template puts them together."""
    sources = Sources()
    own = filled(own_columns(table.metric, sources, wide=True), table.rows)
    notes = elsewhere(table, sources)
    others = filled(published_columns(table.metric, sources), table.published)
    return {
        "title": escape(title(table)),
        "own": markdown_grid(*own) if table.rows else "",
        "published": markdown_grid(*others) if table.published else "",
        "notes": [escape(note) for note in (*notes, *sources.lines)],
    }


def from_template(name: str, values: Mapping[str, object]) -> str:
    """Fill a template of ``reports/templates``; an unknown name in it is an error, not a blank."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # slow to import; only files need it

    from vlbench.paths import card_folder

    templates = Environment(
        loader=FileSystemLoader(card_folder("reports/templates")),
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    return templates.get_template(name).render(values)


def markdown(tables: Sequence[Table], heading: str = "", departures: Sequence[tuple[str, str, str]] = ()) -> str:
    """Write tables as Markdown; with a heading, as a generated file. Departures: method, what, why."""
    return from_template(
        "leaderboard.md.j2",
        {
            "heading": escape(heading),
            "tables": [markdown_parts(table) for table in tables],
            "departures": [tuple(escape(part) for part in departure) for departure in departures],
        },
    )

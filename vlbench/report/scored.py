"""What ``vlbench score`` prints: every number of an answer file, main one first, and the version of the scorer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

_ABOUT = ("count", "scorer", "notes")
_GRIDS = {"confusion": "right label"}
"""What the rows of a table of counts are; its columns are what was answered."""


def show_scored(found: Mapping[str, Any], console: Console) -> None:
    """Print scores of an answer file; counts and the scorer's version stand beside them.

    Labels come from files and notes quote commands: as ``Text`` they are printed as they are, square brackets and all.
    """
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("%", justify="right")
    for number, (name, value) in enumerate(_lines(found)):
        table.add_row(Text(name), value, style="bold" if number == 0 else "")
    console.print(table)
    for name, value in found.items():
        if _is_grid(value):
            console.print(Text(f"{name}: how often each label was answered"))
            console.print(_grid(name, value))
    for note in found.get("notes", ()):
        console.print(Text(note), style="yellow")
    counts = [f"{found['count']:,} scored"]
    counts += [f"{value:,} {name.replace('_', ' ')}" for name, value in found.items() if _is_count(name, value)]
    console.print(Text(f"{', '.join(counts)}, scorer {found['scorer']}"), style="dim")


def _is_grid(value: object) -> bool:
    """Say whether it is a table of counts, by the right label and by the answered one."""
    return isinstance(value, Mapping) and any(isinstance(row, Mapping) for row in value.values())


def _is_count(name: str, value: object) -> bool:
    """Say whether it is a number of things and no share, which is printed in percent."""
    return type(value) is int and name not in _ABOUT


def _grid(name: str, rows: Mapping[str, Mapping[str, int]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(_GRIDS.get(name, ""))
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    for column in columns:
        table.add_column(Text(column), justify="right")
    for label, row in rows.items():
        table.add_row(Text(label), *(f"{row[column]:,}" if column in row else "-" for column in columns))
    return table


def _lines(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in found.items():
        if name in _ABOUT or _is_grid(value) or _is_count(name, value):
            continue
        if isinstance(value, Mapping):
            yield name, ""
            yield from ((f"  {inner}", _number(part)) for inner, part in sorted(value.items()))
        else:
            yield name, _number(value)


def _number(value: object) -> str:
    return "-" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)

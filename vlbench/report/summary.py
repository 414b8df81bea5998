"""The overview of all methods on all tasks, as a page: one line a task, one column a method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from vlbench.report.columns import Column, number
from vlbench.report.render import escape, from_template, markdown_grid
from vlbench.report.tables import Row, Table

NAME = "README.md"
"""Of the page, so that whoever opens the folder of leaderboards sees it."""
_DOUBT = "?"
_DOUBT_NOTE = f"{_DOUBT} not clearly ahead of its best control: the intervals overlap"
Line = tuple[Table, Mapping[str, Row]]
"""A table, and the latest row of each method in it."""


def overview_page(tables: Iterable[Table]) -> str:
    """Write the page from leaderboards: sizes apart, since nobody should compare one with another."""
    parts: dict[str, list[Line]] = {}
    for table in _main(tables):
        whole = [row for row in table.rows if row.basis != "smoke"]
        for size in sorted({row.size for row in whole}):
            rows = sorted((row for row in whole if row.size == size), key=lambda row: row.runs)
            parts.setdefault(size, []).append((table, {row.method: row for row in rows}))
    return from_template("overview.md.j2", {"parts": [_part(size, lines) for size, lines in parts.items()]})


def _main(tables: Iterable[Table]) -> list[Table]:
    """Choose the main split of every task and data set that has own runs: tables come main metric first.

    A smaller pool that only some methods search (retrieval by fusing all pairs) is a line of its own.
    """
    splits: dict[tuple[str, str], tuple[str, str]] = {}
    found = []
    for table in tables:
        if not any(row.control and row.basis != "smoke" for row in table.rows):
            continue
        if splits.setdefault((table.task, table.dataset), (table.split, table.metric)) == (table.split, table.metric):
            found.append(table)
    return found


def _part(size: str, lines: Sequence[Line]) -> dict[str, object]:
    methods = sorted({method for _, rows in lines for method in rows})
    doubt = any(not row.clear for _, rows in lines for row in rows.values())
    return {
        "title": f"Size {escape(size)}",
        "scores": _grid(lines, methods, _score, [Column("best control", _control)]),
        "minutes": _grid(lines, methods, lambda row: number(row.train_minutes, 1), []),
        "notes": [_DOUBT_NOTE] if doubt else [],
    }


def _grid(lines: Sequence[Line], methods: Sequence[str], cell: Callable[[Row], str], more: list[Column]) -> str:
    def of(method: str) -> Column:
        return Column(method, lambda line: cell(line[1][method]) if method in line[1] else "-")

    columns = [
        Column("task", lambda line: _link(line[0]), False),
        Column("data", lambda line: line[0].dataset, False),
        Column("metric", lambda line: line[0].metric, False),
        *more,
        *(of(method) for method in methods),
    ]
    return markdown_grid(columns, [[column.cell(line) for column in columns] for line in lines])


def _link(table: Table) -> str:
    part = f", {table.part:,} texts" if table.part else ""
    return f"[{table.task}{part}]({table.task}-{table.dataset}.md)"


def _score(row: Row) -> str:
    return number(row.value, 1) + ("" if row.clear else f" {_DOUBT}")


def _control(line: Line) -> str:
    """Write the best control that any method of a line has."""
    known = [row.control for row in line[1].values() if row.control]
    best = max(known, key=lambda one: one.value, default=None)
    return "-" if best is None else f"{number(best.value, 1)} ({best.name})"

"""What stands in the columns of a leaderboard, and how its numbers, sources and caveats are written.

A mark (†) stands at every number nobody has seen in a source. [1] and so on are the sources below a table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from vlbench.report.published import Published
from vlbench.report.tables import Row, Table

MARK = "†"
MARK_NOTE = f"{MARK} from memory, not seen in a source; no difference is taken from it"


def number(value: float | None, digits: int = 2) -> str:
    """Write a number with fixed digits; ``-`` where there is none."""
    return "-" if value is None else f"{value:,.{digits}f}"


def signed(value: float | None) -> str:
    """Write a difference with its sign."""
    return "-" if value is None else f"{value:+.2f}"


def interval(low: float | None, high: float | None) -> str:
    """Write an interval by its ends."""
    return "-" if low is None or high is None else f"{low:.2f} to {high:.2f}"


def short_interval(low: float | None, high: float | None) -> str:
    """Write an interval by its ends where there is little room."""
    return "-" if low is None or high is None else f"{low:.1f}-{high:.1f}"


def millions(parameters: int) -> str:
    """Write a count of parameters in millions."""
    return f"{parameters / 1e6:.1f}M" if parameters < 100e6 else f"{parameters / 1e6:,.0f}M"


def gibibytes(size: int | None) -> str:
    """Write a size of memory in GiB."""
    return "-" if size is None else f"{size / 2**30:.1f}" if size > 2**30 else f"{size / 2**30:.2f}"


def rate(value: float | None) -> str:
    """Write samples a second; digits only where they matter."""
    return "-" if value is None else number(value, 1 if value < 100 else 0)


def seeds(row: Row) -> str:
    """Write the seeds of a row: which, or how many where they are many."""
    return ",".join(map(str, row.seeds)) if len(row.seeds) < 4 else f"{len(row.seeds)} seeds"


def control(row: Row) -> str:
    """Write the best control of a row."""
    return "-" if row.control is None else f"{number(row.control.value)} ({row.control.name})"


def ahead(row: Row) -> str:
    """Write how far a row is ahead of its best control, and whether that is beyond doubt."""
    if row.control is None:
        return "-"
    return signed(row.value - row.control.value) + ("" if row.clear else ", not clearly")


class Sources:
    """Numbers the sources of a document in the order in which they are named."""

    def __init__(self) -> None:
        self.texts: dict[str, int] = {}
        self.from_memory = False
        self.remarks: list[str] = []

    def mark(self, row: Published) -> str:
        """Return a row's number, ``[1]``."""
        self.from_memory |= row.from_memory
        text = f"{row.source} ({row.note})" if row.note else row.source
        return f"[{self.texts.setdefault(text, len(self.texts) + 1)}]"

    def value(self, row: Published | None) -> str:
        """Write a published value with the mark of memory and the number of its source."""
        if row is None:
            return "-"
        mark = self.mark(row)
        return f"{number(row.value)}{MARK if row.from_memory else ''} {mark}"

    @property
    def lines(self) -> list[str]:
        """The list of sources, ``[1] title, table, address (note)``."""
        notes = [f"[{number}] {text}" for text, number in self.texts.items()]
        return notes + [MARK_NOTE] * self.from_memory + self.remarks


class Column(NamedTuple):
    """A column of a table: its title, and what stands in it."""

    title: str
    cell: Callable[[Any], str]
    right: bool = True


def own_columns(metric: str, sources: Sources, *, wide: bool) -> list[Column]:
    """Return the columns of own runs; narrow ones fit 100 characters.

    Those give the interval to one digit and leave out the memory.
    """
    ends = interval if wide else short_interval
    return [
        Column("method", lambda r: r.method, False),
        Column("size", lambda r: r.size, False),
        Column("basis", lambda r: r.basis, False),
        Column("seeds" if wide else "seed", seeds, False),
        Column(metric, lambda r: number(r.value)),
        Column("95 %", lambda r: ends(r.low, r.high)),
        *([Column("best control", control), Column("ahead of it", ahead, False)] if wide else []),
        Column("published", lambda r: sources.value(r.published)),
        *([Column("setting", lambda r: r.published.setting if r.published else "-", False)] if wide else []),
        Column("Δ", lambda r: signed(r.difference)),
        Column("verdict", lambda r: r.verdict, False),
        Column("parameters" if wide else "param", lambda r: millions(r.parameters)),
        Column("train samples/s" if wide else "ex/s", lambda r: rate(r.train_per_second)),
        *([Column("peak GiB", lambda r: gibibytes(r.peak_memory_bytes))] if wide else []),
        Column("train minutes" if wide else "min", lambda r: number(r.train_minutes, 1)),
    ]


def published_columns(metric: str, sources: Sources) -> list[Column]:
    """Return the columns of published numbers."""
    return [
        Column("method", lambda p: p.method, False),
        Column("variant", lambda p: p.variant or "-", False),
        Column("setting", lambda p: p.setting, False),
        Column(f"published {metric}", sources.value),
    ]


def filled(columns: Sequence[Column], rows: Sequence[object]) -> tuple[list[Column], list[list[str]]]:
    """Fill a table's cells, and drop the columns that say nothing in any row."""
    cells = [[column.cell(row) for column in columns] for row in rows]
    kept = [i for i in range(len(columns)) if any(line[i] not in ("-", "") for line in cells)]
    return [columns[i] for i in kept], [[line[i] for i in kept] for line in cells]


def title(table: Table) -> str:
    """Name a table by all that its numbers have in common."""
    split = table.split
    if table.published_split and table.published_split != table.split:
        split += f" (published as {table.published_split})"
    if table.part:
        split += f", {table.part:,} examples of it"
    # a published number's scorer is seldom stated, so the version is claimed for own runs only
    return " · ".join((table.name, split, table.metric, *([f"scorer {table.scorer}"] if table.rows else [])))


def elsewhere(table: Table, sources: Sources) -> list[str]:
    """Say where a method's published numbers are that may not stand beside its own run."""
    here = table.split + (f", {table.part:,} examples" if table.part else f", scorer {table.scorer}")
    notes: dict[str, None] = {}
    for row in table.rows:
        if row.elsewhere and row.published is None:
            there = ", ".join(f"{p.split} {sources.value(p)}" for p in row.elsewhere)
            notes[f"{row.verdict}: {row.method} is published on {there}; not comparable with {here}"] = None
    return list(notes)

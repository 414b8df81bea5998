"""The records of a file, each with the bytes it begins and ends at, and how they enter an index or are refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

from vlbench.corpora.index import Index, place_of
from vlbench.corpora.index_writer import IndexWriter
from vlbench.corpora.sources import Source
from vlbench.tasks.reading import describe
from vlbench.types import BadData, Progress

BLOCK = 1 << 20
"""Bytes read at a time."""
LONGEST = 1 << 24
"""Bytes a record may have."""
CUT = "if it was downloaded, it may be cut short: get it again"


class Record(NamedTuple):
    """One record of a file."""

    begin: int
    end: int
    value: Any
    """What JSON says, with texts in Latin-1; of a plain line, its bytes."""


class Faults:
    """The faulty records of a file: the first is described, ten are named, all are counted."""

    def __init__(self, todo: str) -> None:
        self.todo = todo
        self._first: BadData | None = None
        self._named: list[str] = []
        self._count = 0

    def add(self, name: object, fault: BadData) -> None:
        """Take a fault of a record."""
        self._first = self._first or fault
        self._count += 1
        if len(self._named) < 10:
            self._named.append(describe(name).strip("'\""))

    def refuse(self) -> None:
        """Raise BadData where there was a fault."""
        if self._first:
            names = ", ".join(self._named) + (", ..." if self._count > 10 else "")
            wrong = f"{self._first.wrong}; faulty records: {names} ({self._count:,} in all)"
            raise BadData(wrong, self._first.todo or self.todo)


def scan_records(
    records: Iterator[Record], source: Source, measure: Callable[[Any, str], int | None], writer: IndexWriter, todo: str
) -> None:
    """Write a row for each record: where it is and, if ``measure`` counts them, the examples up to it.

    ``measure`` is given the record and its place, and raises BadData where it is not as it should be.
    """
    faults, last = Faults(todo), 0
    for row, (begin, end, value) in enumerate(records):
        try:
            counted = measure(value, place_of(source, row, begin))
        except BadData as fault:
            faults.add(row, fault)
            continue
        if counted is None:
            writer.add(begin, end)
        else:
            last += counted
            writer.add(begin, end, last)
    faults.refuse()


def parsed(index: Index, number: int) -> Any:
    """Read one record again, as JSON; BadData where it is no longer what was indexed."""
    try:
        return json.loads(index.read(number))
    except RecursionError:
        raise BadData(f"{index.place(number)}: not readable JSON: nested too deeply") from None
    except ValueError:  # it was JSON when the index was made
        raise index.source(number).changed() from None


def line_records(source: Source, progress: Progress) -> Iterator[Record]:
    """Yield the lines of a text file, without blanks around them; a line of blanks is none."""
    with open_source(source) as file:
        yield from bare_lines(raw_lines(file, source, progress))


def bare_lines(lines: Iterator[tuple[int, bytes]]) -> Iterator[Record]:
    """Yield lines without the blanks around them, where there is more."""
    for begin, line in lines:
        if bare := line.strip(b" \t\r\n"):
            first = begin + line.index(bare[:1])
            yield Record(first, first + len(bare), bare)


def raw_lines(file: BinaryIO, source: Source, progress: Progress) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a text file with the byte each begins at; BadData where it is not UTF-8."""
    begin, told = 0, 0
    while line := file.readline(LONGEST + 1):
        if len(line) > LONGEST:
            raise BadData(f"{source.path}: byte {begin}: a line of more than {LONGEST:,} bytes", "is it a text file?")
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise not_text(source, begin + error.start, line[error.start]) from None
        yield begin, line
        begin += len(line)
        if begin - told >= BLOCK:
            told = begin
            progress(begin, source.size, f"index of {source.path.name}")


def open_source(source: Source) -> BinaryIO:
    """Open a file to be gone through."""
    try:
        return source.path.open("rb", buffering=1 << 18)
    except OSError as error:
        raise BadData(f"{source.path}: cannot be read: {error.strerror or error}") from None


def not_text(source: Source, byte: int, wrong: int) -> BadData:
    """Say that a byte of a file is none of UTF-8 text."""
    return BadData(f"{source.path}: not UTF-8 text: byte {byte} is 0x{wrong:02x}", CUT)

"""Go through the records of a file once, each with the bytes it begins and ends at: JSON lists, JSON lines, plain lines.

A block is in memory at a time. Bytes are taken for characters of Latin-1, one each, so that a place in the text is one
in the file: only whoever counts and checks reads texts so, and whether they are UTF-8 is seen to beside it.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple, NoReturn

from vlbench.corpora.index import place_of
from vlbench.corpora.index_writer import IndexWriter
from vlbench.corpora.sources import Source
from vlbench.tasks.reading import describe
from vlbench.types import BadData, Progress

BLOCK = 1 << 22
"""Bytes read at a time."""
LONGEST = 1 << 24
"""Bytes a record may have."""
CUT = "if it was downloaded, it may be cut short: get it again"
_BLANKS = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


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


def json_records(source: Source, progress: Progress) -> Iterator[Record]:
    """Yield the objects of a JSON list, or of lines that hold one each: the first character tells."""
    with _open(source) as file:
        window = _Window(file, source, progress)
        if window.opening() == "{":
            file.seek(0)
            yield from _json_lines(file, source, progress)
        else:
            yield from window.records()


def _json_lines(file: BinaryIO, source: Source, progress: Progress) -> Iterator[Record]:
    for row, (begin, end, line) in enumerate(_lines(file, source, progress)):
        text = line.decode("latin-1")
        try:
            value, over = _DECODER.raw_decode(text, _after_blanks(text, 0))
            if _after_blanks(text, over) < len(text):
                raise json.JSONDecodeError("extra data", text, over)
        except (ValueError, RecursionError) as error:
            wrong = _not_json(source, row, error, begin, begin)
            raise BadData(f"{wrong}; expected an object a line", CUT) from None
        yield Record(begin, end, value)


def line_records(source: Source, progress: Progress) -> Iterator[Record]:
    """Yield the lines of a text file, without blanks around them; a line of blanks is none."""
    with _open(source) as file:
        yield from map(Record._make, _lines(file, source, progress))


def _lines(file: BinaryIO, source: Source, progress: Progress) -> Iterator[tuple[int, int, bytes]]:
    """Yield where each line begins and ends, and what it holds."""
    begin, told = 0, 0
    while line := file.readline(LONGEST + 1):
        if len(line) > LONGEST:
            raise BadData(f"{source.path}: byte {begin}: a line of more than {LONGEST:,} bytes", "is it a text file?")
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise _not_text(source, begin + error.start, line[error.start]) from None
        if bare := line.strip(b" \t\r\n"):
            first = begin + line.index(bare[:1])
            yield first, first + len(bare), bare
        begin += len(line)
        if begin - told >= BLOCK:
            told = begin
            progress(begin, source.size, f"index of {source.path.name}")


def _open(source: Source) -> BinaryIO:
    try:
        return source.path.open("rb", buffering=1 << 18)
    except OSError as error:
        raise BadData(f"{source.path}: cannot be read: {error.strerror or error}") from None


def _not_text(source: Source, byte: int, wrong: int) -> BadData:
    return BadData(f"{source.path}: not UTF-8 text: byte {byte} is 0x{wrong:02x}", CUT)


def _not_json(source: Source, row: int, error: Exception, begin: int, before: int) -> str:
    """Say what is wrong with a record that begins at a byte, in a text that begins at another."""
    where = f"{source.path}: not JSON: [{row}], byte"
    if isinstance(error, json.JSONDecodeError):
        return f"{where} {before + error.pos}: {error.msg}"
    return f"{where} {begin}: {'nested too deeply' if isinstance(error, RecursionError) else error}"


def _after_blanks(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return found.end() if found else at


class _Window:
    """The part of a JSON list that is in memory, and where reading has come to in it."""

    def __init__(self, file: BinaryIO, source: Source, progress: Progress) -> None:
        self.file, self.source, self.progress = file, source, progress
        self.text, self.at, self.before = "", 0, 0  # before: bytes of the file that came before the text
        self.row, self.over = 0, False
        self.decoder = codecs.getincrementaldecoder("utf-8")()

    def more(self) -> bool:
        """Put the next block behind what is left; False where the file is over."""
        if self.over:
            return False
        read = self.before + len(self.text)
        block = self.file.read(BLOCK)
        held = self.decoder.getstate()[0]
        try:
            self.decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            raise _not_text(self.source, read - len(held) + error.start, error.object[error.start]) from None
        self.over = not block
        self.before += self.at
        self.text, self.at = self.text[self.at :] + block.decode("latin-1"), 0
        self.progress(read + len(block), self.source.size, f"index of {self.source.path.name}")
        return True

    def opening(self) -> str:
        """Return the first character that is no blank, and stay before it."""
        character = self.next()
        if not character:
            self.fail("the file is empty")
        return character

    def next(self) -> str:
        """Go to the next character that is no blank, and return it; "" at the end of the file."""
        while (at := _after_blanks(self.text, self.at)) == len(self.text):
            self.at = at
            if not self.more():
                return ""
        self.at = at
        return self.text[at]

    def records(self) -> Iterator[Record]:
        """Yield the objects of the list."""
        if self.next() != "[":
            self.fail("expected a list of objects, or an object a line")
        self.at += 1
        closing = self.next() == "]"
        while not closing:
            yield self._record()
            mark = self.next()
            if mark not in (",", "]") or not mark:
                self.fail("expected , or ]" if mark else "the list does not end")
            closing = mark == "]"
            self.at += 0 if closing else 1
        self.at += 1
        if self.next():
            self.fail("extra data after the list")

    def _record(self) -> Record:
        if self.next() != "{":
            self.fail(f"expected an object, found {describe(self.text[self.at : self.at + 10])}")
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
            except (ValueError, RecursionError) as error:
                # Cut off by the end of the text, or truly wrong: only what follows can tell.
                if len(self.text) - self.at > LONGEST or isinstance(error, RecursionError) or not self.more():
                    wrong = _not_json(self.source, self.row, error, self.before + self.at, self.before)
                    raise BadData(wrong, CUT) from None
                continue
            found = Record(self.before + self.at, self.before + end, value)
            self.at, self.row = end, self.row + 1
            return found

    def fail(self, wrong: str) -> NoReturn:
        """Raise BadData that says where."""
        raise BadData(f"{self.source.path}: not JSON: [{self.row}], byte {self.before + self.at}: {wrong}", CUT)

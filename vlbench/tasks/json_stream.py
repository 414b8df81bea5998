"""Read a large JSON file block by block: an object ``{"name": record, ...}`` or a list ``[record, ...]``.

The list may be that of a member of an object. Only a block is in memory at a time, however large the file is. The
records of a file are alike, so whoever reads may turn the keys of one into a regular expression, its shape. Records
that it fits in every character come as columns of its named groups, two to three times as fast as JSON and without
what nobody asked for; all others are read as JSON.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, NoReturn, TypeAlias

import numpy as np

from vlbench.tasks.reading import describe
from vlbench.types import BadData

BLOCK = 1 << 22
"""Bytes read at a time."""
LONGEST = 1 << 24
"""Characters a record may have; what cannot be read within so many is no JSON."""
_NEARLY = 1 << 16
"""With fewer characters left, more is read before a record is thought to be of another shape."""
_MOST = 1 << 12
"""Records read as JSON at a time."""
_BLANKS = re.compile(r"[ \t\n\r]*")
_MARKS = {mark: re.compile(rf"[ \t\n\r]*{mark}[ \t\n\r]*") for mark in ",:"} | {'"': re.compile(r'[ \t\n\r]*"')}
_OPENING = {"{": ("an object", "}"), "[": ("a list", "]")}
_DECODER = json.JSONDecoder()
_ADVICE = "if it was downloaded, it may be cut short: get it again"
Holds = Literal["an object", "a list", "either"]


Columns: TypeAlias = Mapping[str, tuple[str, ...]]
"""Of records that have a shape and stand one after the other: the texts of each group, as they stand in the file."""
Shape: TypeAlias = Callable[[tuple[str, ...]], re.Pattern[str] | None]
"""Keys of a record -> what fits others like it, and the ", " before it; its groups have names. None if nothing can."""
LETTERS = r'[^"\\\x00-\x1f]*+'
TEXT = f'"{LETTERS}"'
"""What shapes are made of: a text without escapes."""
TEXTS = rf"\[(?:{TEXT}(?:, {TEXT})*+)?+\]"


_PLAIN_LETTERS = '[^"]*+'
"""The same where there is neither an escape nor a control character; found faster."""
_NOT_PLAIN = re.compile(r"[\\\x00-\x1f]")


def members(values: Mapping[str, str], keys: Iterable[str]) -> str:
    """Return what fits an object of these keys in this order."""
    return r"\{" + ", ".join(f'"{key}": {values[key]}' for key in keys) + r"\}"


def texts(raw: str) -> tuple[str, ...]:
    """Cut a list that ``TEXTS`` fits."""
    return tuple(raw[2:-2].split('", "')) if len(raw) > 2 else ()


class Block(NamedTuple):
    """Records that stand one after the other in a file, read as JSON."""

    where: str
    """The file."""
    row: int
    """How many records came before."""
    names: list[str]
    """Their keys in the object; empty where they are of a list."""
    values: list[Any]

    def place(self, at: int) -> str:
        """Name one of them in a message."""
        return f"{self.where}: {describe(self.names[at]) if self.names else f'[{self.row + at}]'}"


def stream(
    source: Path | bytes, holds: Holds, shape: Shape = lambda _: None, *, where: str = "", todo: str = ""
) -> Iterator[Block | Columns]:
    """Yield the records of a file, or of what it holds (``where`` names that); ``todo``: where to get a missing file.

    BadData with line and column where it is no JSON, or not what it should hold.
    """
    with _opened(source, where or str(source), todo) as window:
        window.open(holds)
        yield from _parts(window, shape)


@contextmanager
def _opened(source: Path | bytes, where: str, todo: str) -> Iterator[_Window]:
    try:
        with BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
            yield _Window(file, where)
    except FileNotFoundError:
        raise BadData(f"there is no file {where}", todo) from None
    except OSError as error:
        raise BadData(f"{where}: cannot be read: {error.strerror or error}") from None


def stream_list(
    path: Path, name: str, others: dict[str, Any], shape: Shape = lambda _: None, *, todo: str = ""
) -> Iterator[Block | Columns]:
    """Yield the records of a list that stands in an object under a name, and put all else that it holds into others.

    There the name stands for an empty list, or for what it has instead of one.
    """
    with _opened(path, str(path), todo) as window:
        window.open("an object")
        while window.enter(name, others):
            yield from _parts(window, shape)


def _parts(window: _Window, shape: Shape) -> Iterator[Block | Columns]:
    row, most = 0, 1
    while (block := window.block(row, most)).values:
        yield block
        row, most = row + len(block.values), min(2 * most, _MOST)
        last = block.values[-1]
        pattern = shape(tuple(last)) if isinstance(last, dict) else None
        while pattern and (rows := window.run(pattern)):
            yield dict(zip(pattern.groupindex, zip(*rows, strict=True), strict=True))
            row, most = row + len(rows), 1


def _is_plain(block: bytes) -> bool:
    return b"\\" not in block and bool(np.frombuffer(block, np.uint8).min(initial=ord(" ")) >= ord(" "))


@lru_cache
def _for_plain(pattern: re.Pattern[str]) -> re.Pattern[str]:
    return re.compile(pattern.pattern.replace(LETTERS, _PLAIN_LETTERS))


class _Window:
    """The part of a file that is in memory, and where reading has come to in it."""

    def __init__(self, file: BinaryIO, where: str) -> None:
        self.file, self.where = file, where
        self.text, self.at = "", 0
        self.over, self.ended = False, False  # all is read; all is read and taken
        self.plain = False  # the text has neither escapes nor control characters
        self.bytes, self.lines, self.column = 0, 1, 1  # read so far; line and column at which the text begins
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.closing = ""
        self.inside, self.members = False, 0  # within a list of the object; members of the object so far

    def more(self) -> bool:
        """Put the next block behind what is left; False where the file is over."""
        if self.over:
            return False
        block = self.file.read(BLOCK)
        held = self.decoder.getstate()[0]
        try:
            fresh = self.decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            place, wrong = self.bytes - len(held) + error.start, error.object[error.start]
            raise BadData(f"{self.where}: not UTF-8 text: byte {place} is 0x{wrong:02x}", _ADVICE) from None
        self.over, self.bytes = not block, self.bytes + len(block)
        self.lines, self.column = self.place(self.at)
        left = self.text[self.at :]
        self.plain = _is_plain(block) and not _NOT_PLAIN.search(left)
        self.text, self.at = left + fresh, 0
        return True

    def place(self, at: int) -> tuple[int, int]:
        """Return the line and column of a character of the text."""
        breaks = self.text.count("\n", 0, at)
        last = self.text.rfind("\n", 0, at)
        return self.lines + breaks, at - last if breaks else self.column + at

    def open(self, holds: Holds) -> None:
        """Go into the object or list that the file should be."""
        while (at := self._skip(self.at)) == len(self.text):
            if not self.more():
                self.fail("the file is empty", at)
        found, self.closing = _OPENING.get(self.text[at], ("", ""))
        if not found:
            self.fail("expected an object or a list", at)
        if holds not in ("either", found):
            raise BadData(f"{self.where}: expected {holds}, found {found}")
        self.at = at + 1

    def enter(self, name: str, others: dict[str, Any]) -> bool:
        """Read members of the object up to a list of this name, and go into that; False where there is none."""
        if self.inside:  # that list is over
            self.inside, self.ended, self.closing, self.members = False, False, "}", self.members + 1
        blanks = _BLANKS.pattern
        opening = re.compile(rf'{blanks}(,?){blanks}"{re.escape(name)}"{blanks}:{blanks}\[')
        while not (self.inside or self.ended):
            while len(self.text) - self.at < _NEARLY and self.more():
                pass
            found = opening.match(self.text, self.at)
            if found and bool(found[1]) == bool(self.members):
                fresh: dict[str, Any] = {name: []}
                self.at, self.inside, self.closing = found.end(), True, "]"
            else:
                read = self.block(self.members, 1)
                fresh = dict(zip(read.names, read.values, strict=True))
                self.members += len(fresh)
            if name in fresh and name in others:
                self.fail(f"the key '{name}' came before", self.at)
            others |= fresh
        return self.inside

    def run(self, pattern: re.Pattern[str]) -> list[tuple[str, ...]]:
        """Read the records of a shape that follow; none where the next one has another."""
        rows: list[tuple[str, ...]] = []
        while not rows:
            text, at, fitting = self.text, self.at, _for_plain(pattern) if self.plain else pattern
            while match := fitting.match(text, at):
                rows.append(match.groups())
                at = match.end()
            self.at = at
            if len(text) - at > _NEARLY or not self.more():
                break
        return rows

    def block(self, row: int, most: int) -> Block:
        """Read at most so many of the records that follow, ``row`` having come before; none at the end of the file."""
        found = Block(self.where, row, [], [])
        while not self.ended:
            try:
                while len(found.values) < most and self._take(found):
                    pass
                break
            except RecursionError:
                self.fail("nested too deeply", self.at)
            except ValueError as error:
                # Cut off by the end of the text, or truly wrong: only what follows can tell.
                if len(self.text) - self.at > LONGEST or not self.more():
                    wrong, at = str(error), self.at
                    if isinstance(error, json.JSONDecodeError):
                        wrong, at = error.msg, error.pos
                    self.fail(wrong, at)
                if found.values:
                    break
        return found

    def _take(self, found: Block) -> bool:
        """Read one record; False at the end of the file."""
        text, at = self.text, self._skip(self.at)
        if text[at : at + 1] == self.closing:
            self._end(at + 1)
            return False
        if found.row or found.values:
            at = self._expect(",", at)
        name = ""
        if self.closing == "}":
            name, at = _DECODER.raw_decode(text, self._expect('"', at) - 1)
            at = self._expect(":", at)
        value, at = _DECODER.raw_decode(text, at)
        if text[at : at + 1] not in (",", self.closing):  # blanks; or the text ends within a number
            at = self._skip(at)
            if text[at : at + 1] != self.closing:
                self._expect(",", at)
        found.values.append(value)
        if self.closing == "}":
            found.names.append(name)
        self.at = at
        return True

    def _end(self, at: int) -> None:
        """See that nothing follows, but for a list within the object."""
        self.at, self.ended = self._skip(at), True
        if self.inside:
            return
        while self.at == len(self.text) and self.more():
            self.at = self._skip(self.at)
        if self.at < len(self.text):
            self.fail("extra data", self.at)

    def _skip(self, at: int) -> int:
        found = _BLANKS.match(self.text, at)
        return found.end() if found else at

    def _expect(self, mark: str, at: int) -> int:
        if found := _MARKS[mark].match(self.text, at):
            return found.end()
        raise json.JSONDecodeError(f"expecting {mark}", self.text, self._skip(at))

    def fail(self, wrong: str, at: int) -> NoReturn:
        """Raise BadData that says where."""
        line, column = self.place(at)
        raise BadData(f"{self.where}: not JSON: line {line}, column {column}: {wrong}", _ADVICE)

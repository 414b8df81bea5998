"""Go through a JSON list, or lines that hold an object each, with the bytes each object begins and ends at.

A block is in memory at a time. Bytes are taken for characters of Latin-1, one each, so that a place in the text is one
in the file: only whoever counts and checks reads texts so, and whether they are UTF-8 is seen to beside it.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import BinaryIO, NoReturn

from vlbench.corpora.records import BLOCK, CUT, LONGEST, Record, bare_lines, not_text, open_source, raw_lines
from vlbench.corpora.sources import Source
from vlbench.tasks.reading import describe
from vlbench.types import BadData, Progress

_BLANKS = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


def json_records(source: Source, progress: Progress) -> Iterator[Record]:
    """Yield the objects of a JSON list, or of lines that hold one each: the first character tells."""
    with open_source(source) as file:
        window = _Window(file, source, progress)
        if window.opening() == "{":
            file.seek(0)
            yield from _json_lines(file, source, progress)
        else:
            yield from window.records()


def _json_lines(file: BinaryIO, source: Source, progress: Progress) -> Iterator[Record]:
    for row, (begin, end, line) in enumerate(bare_lines(raw_lines(file, source, progress))):
        text = line.decode("latin-1")
        try:
            value, over = _DECODER.raw_decode(text)
            if over < len(text):
                raise json.JSONDecodeError("extra data", text, _after_blanks(text, over))
        except (ValueError, RecursionError) as error:
            wrong = _not_json(source, row, error, begin, begin)
            raise BadData(f"{wrong}; expected an object a line", CUT) from None
        yield Record(begin, end, value)


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
            raise not_text(self.source, read - len(held) + error.start, error.object[error.start]) from None
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

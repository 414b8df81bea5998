"""The layout ``table``: a caption and an image a row, as in Conceptual Captions' TSV, or in CSV with quotes.

The image is named by a column, or by the row's number as programs that fetch images by a list of addresses name them.
What else a row holds is left alone. Lines without any character are no rows.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from functools import partial
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from vlbench.cards import Table
from vlbench.corpora.corpus import SUFFIXES, Corpus, find_picture, named_files
from vlbench.corpora.index import open_index, place_of
from vlbench.corpora.index_writer import IndexWriter
from vlbench.corpora.records import LONGEST, Record, open_source, raw_lines, scan_records
from vlbench.corpora.sources import Readable, Source
from vlbench.tasks.reading import describe
from vlbench.types import BadData, Example, Progress, quiet

_ADVICE = "the card's [table] says how it is laid out: columns, delimiter, quotes"


class _Columns(NamedTuple):
    """Where a file has what."""

    width: int
    caption: int
    image: int
    """-1 where images are called by the row's number."""


def _rows(table: Table, source: Source, progress: Progress) -> Iterator[Record]:
    """Yield the rows, that of the columns' names too; with quotes, a row may have several lines."""
    begin, size, inside = 0, 0, False
    parts: list[bytes] = []
    with open_source(source) as file:
        for at, line in raw_lines(file, source, progress):
            begin = begin if parts else at
            parts.append(line)
            size += len(line)
            inside ^= table.quotes and line.count(b'"') % 2 == 1
            if not inside:
                if bare := b"".join(parts).rstrip(b"\r\n"):
                    yield Record(begin, begin + len(bare), bare)
                parts, size = [], 0
            elif size > LONGEST:
                break
    if inside:
        raise BadData(f"{source.path}: byte {begin}: a quote opens in this row and does not close", _ADVICE)


def _values(table: Table, content: bytes, place: str) -> list[str]:
    """Cut a row into its values."""
    text = content.decode()
    if not table.quotes:
        return text.split(table.delimiter)
    try:
        rows = list(csv.reader(StringIO(text, newline=""), delimiter=table.delimiter, strict=True))
    except csv.Error as error:
        raise BadData(f"{place}: {error}", _ADVICE) from None
    if len(rows) != 1:
        raise BadData(f"{place}: a quote stands within a value that does not begin with one", _ADVICE)
    return rows[0]


def _columns(table: Table, source: Source) -> _Columns:
    """Say where a file has what: by the card, or by its first row."""
    names: Sequence[str] = table.columns
    for begin, _, content in () if names else _rows(table, source, quiet):
        names = _values(table, content, place_of(source, 0, begin))
        break
    wanted = [table.caption] if table.image_name else [table.caption, table.image]
    for name in wanted:
        if name not in names:
            found = ", ".join(describe(each) for each in names[:10]) or "nothing"
            raise BadData(f"{source.path}: no column is called '{name}'; its first line names {found}", _ADVICE)
    return _Columns(len(names), names.index(table.caption), -1 if table.image_name else names.index(table.image))


def _read(table: Table, columns: _Columns, content: bytes, place: str) -> tuple[str, str]:
    """Return the caption of a row and its image, "" where that is called by its number."""
    values = _values(table, content, place)
    if len(values) != columns.width:
        raise BadData(f"{place}: {len(values)} values in {columns.width} columns", _ADVICE)
    if columns.image < 0:
        return values[columns.caption], ""
    image = values[columns.image]
    if not image or "\0" in image:
        raise BadData(f"{place}: '{table.image}' is no path: {describe(image)}", _ADVICE)
    return values[columns.caption], image


def _scan(table: Table, source: Source, writer: IndexWriter, progress: Progress) -> None:
    columns = _columns(table, source)

    def measure(content: bytes, place: str) -> None:
        _read(table, columns, content, place)

    rows = _rows(table, source, progress)
    if not table.columns:
        next(rows, None)
    scan_records(rows, source, measure, writer, _ADVICE)


class Rows(Corpus):
    """A corpus of images and captions in tables, one example a row."""

    def __init__(
        self,
        name: str,
        files: Sequence[Path],
        images: Sequence[Path],
        table: Table,
        *,
        todo: str = "",
        progress: Progress = quiet,
    ) -> None:
        super().__init__(name)
        self._files, self._images, self._table = tuple(files), tuple(images), table
        if table.image_name and len(files) > 1:
            wrong = f"{name}: rows of {len(files)} files have the same numbers, so their images the same names"
            raise BadData(wrong, "have a card for each file, or a column that names the images")
        kind = f"table {table.model_dump_json()}"
        scan = partial(_scan, table)
        self._index = open_index(files, kind, ("begin", "end"), scan, progress=progress, todo=todo)
        self._columns = [_columns(table, source) for source in self._index.sources]

    def __len__(self) -> int:
        return len(self._index)

    def example(self, number: int, draw: int = 0) -> Example:
        """Return a row; nothing is drawn."""
        self.check_number(number)
        file, row = self._index.file(number)
        caption, image = _read(self._table, self._columns[file], self._index.read(number), self._index.place(number))
        return Example(f"{self.name}:{number}", (f"{self.name}:{image or self._table.image_of(row)}",), (caption,))

    def told(self, number: int) -> Sequence[str]:
        """Return the one caption of a row."""
        return self.example(number).texts

    def picture(self, key: str) -> Readable | None:
        """Return the file of an image; None where no folder has it."""
        return find_picture(self._images, self.inside(key), SUFFIXES if self._table.image_name else ("",))

    def files(self) -> dict[str, Path]:
        """Return the tables."""
        return named_files(self._files)

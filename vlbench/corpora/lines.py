"""The layout ``lines``: plain text, an example a line, as texts without images are learned from.

Lines of blanks, which part documents, are no examples. Only a line feed ends a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vlbench.corpora.corpus import Corpus, named_files
from vlbench.corpora.index import open_index
from vlbench.corpora.index_writer import IndexWriter
from vlbench.corpora.records import line_records
from vlbench.corpora.sources import Readable, Source
from vlbench.types import Example, Progress, quiet


def _scan(source: Source, writer: IndexWriter, progress: Progress) -> None:
    for begin, end, _ in line_records(source, progress):
        writer.add(begin, end)


class Lines(Corpus):
    """A corpus of texts."""

    def __init__(self, name: str, files: Sequence[Path], *, todo: str = "", progress: Progress = quiet) -> None:
        super().__init__(name)
        self._files = tuple(files)
        self._index = open_index(files, "lines", ("begin", "end"), _scan, progress=progress, todo=todo)

    def __len__(self) -> int:
        return len(self._index)

    def example(self, number: int, draw: int = 0) -> Example:
        """Return a line; nothing is drawn."""
        self.check_number(number)
        return Example(f"{self.name}:{number}", (), (self._index.read(number).decode(),))

    def told(self, number: int) -> Sequence[str]:
        """Return the line."""
        return self.example(number).texts

    def picture(self, key: str) -> Readable | None:
        """Return None: there are no images."""
        return None

    def files(self) -> dict[str, Path]:
        """Return the texts."""
        return named_files(self._files)

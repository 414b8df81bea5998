"""The layout ``pairs``: JSON lists of ``{"image": path, "caption": text or [texts]}``, as ALBEF's and BLIP's are.

One example a record; of several captions one is drawn each time. Lines of such objects are read too. Paths lead below
the card's folders of images; whatever else a record holds is left alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vlbench.corpora.corpus import Corpus, check_text, drawn, find_picture, named_files
from vlbench.corpora.index import open_index
from vlbench.corpora.index_writer import IndexWriter
from vlbench.corpora.records import json_records, scan_records
from vlbench.corpora.sources import Readable, Source
from vlbench.tasks.reading import describe, member
from vlbench.types import BadData, Example, Progress, quiet

_FORM = 'a record is {"image": path, "caption": text or list of texts}'


class Pair(NamedTuple):
    """One record: an image and what is told of it."""

    image: str
    captions: tuple[str, ...]


def read_pair(record: Any, place: str) -> Pair:
    """Check a record; BadData that names its place where it is not as it should be."""
    image = member(record, "image", str, place)
    if not image or "\0" in image:
        raise BadData(f"{place}: 'image' is no path")
    told = record.get("caption")
    captions = (told,) if isinstance(told, str) else tuple(told) if isinstance(told, list) else ()
    if not captions or not all(isinstance(caption, str) for caption in captions):
        if "caption" not in record:
            raise BadData(f"{place}: the key 'caption' is missing")
        found = (
            "an empty list" if told == [] else "a list of other things" if isinstance(told, list) else describe(told)
        )
        raise BadData(f"{place}: 'caption' should be a text or a list of texts, found {found}")
    if not isinstance(record.get("image_id", ""), str | int):
        raise BadData(f"{place}: 'image_id' should be a text or a number, found {describe(record['image_id'])}")
    return Pair(check_text(image, place), tuple(check_text(caption, place) for caption in captions))


def _measure(record: Any, place: str) -> None:
    read_pair(record, place)


def _scan(source: Source, writer: IndexWriter, progress: Progress) -> None:
    scan_records(json_records(source, progress), source, _measure, writer, _FORM)


class Pairs(Corpus):
    """A corpus of images and captions, one example a record."""

    def __init__(
        self, name: str, files: Sequence[Path], images: Sequence[Path], *, todo: str = "", progress: Progress = quiet
    ) -> None:
        super().__init__(name)
        self._files, self._images = tuple(files), tuple(images)
        self._index = open_index(files, "pairs", ("begin", "end"), _scan, progress=progress, todo=todo)

    def __len__(self) -> int:
        return len(self._index)

    def _read(self, number: int) -> Pair:
        self.check_number(number)
        try:
            record = json.loads(self._index.read(number))
        except ValueError:  # it was JSON when the index was made
            raise self._index.source(number)[0].changed() from None
        return read_pair(record, self._index.place(number))

    def example(self, number: int, draw: int = 0) -> Example:
        """Return a record, with one of its captions."""
        image, captions = self._read(number)
        identity = f"{self.name}:{number}"
        return Example(identity, (f"{self.name}:{image}",), (captions[drawn(identity, draw, len(captions))],))

    def told(self, number: int) -> Sequence[str]:
        """Return all captions of a record."""
        return self._read(number).captions

    def picture(self, key: str) -> Readable | None:
        """Return the file of an image; None where no folder has it."""
        return find_picture(self._images, self.inside(key))

    def files(self) -> dict[str, Path]:
        """Return the lists."""
        return named_files(self._files)

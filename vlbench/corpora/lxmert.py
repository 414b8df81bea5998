"""The layout ``lxmert``: the authors' mixture of captions and questions, a record an image.

``{"img_id": ..., "sentf": {source: [text, ...]}, "labelf": {source: [{answer: score}, ...]}}``: what a source says of
the image, and of sources that ask, the scores of answers to each question. Every caption and every question is an
example of its own, as in the authors' code; a caption has no answer, a question may have none that is in their list.
Images are known by ``img_id``, under which their region features are stored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vlbench.corpora.corpus import SUFFIXES, Corpus, check_text, find_picture, named_files
from vlbench.corpora.index import open_index
from vlbench.corpora.index_writer import IndexWriter
from vlbench.corpora.records import json_records, scan_records
from vlbench.corpora.sources import Readable, Source
from vlbench.tasks.reading import describe, member
from vlbench.types import BadData, Example, Progress, quiet

_FORM = 'a record is {"img_id": text, "sentf": {source: [text]}, "labelf": {source: [{answer: score}]}}'


class Said(NamedTuple):
    """One sentence on an image."""

    text: str
    answers: dict[str, float] | None
    """Answer -> score; None where it is no question."""


class Told(NamedTuple):
    """One record: an image and what all sources say of it."""

    image: str
    said: tuple[Said, ...]


def read_told(record: Any, place: str) -> Told:
    """Check a record; BadData that names its place where it is not as it should be."""
    image = member(record, "img_id", str, place)
    if not image or "\0" in image:
        raise BadData(f"{place}: 'img_id' is no name")
    sentences, labels = member(record, "sentf", dict, place), member(record, "labelf", dict, place)
    for source in labels:
        if source not in sentences:
            raise BadData(f"{place}: 'labelf' has answers of {describe(source)}, of which 'sentf' has no questions")
    said = (_said(source, texts, labels, place) for source, texts in sentences.items())
    return Told(check_text(image, place), tuple(chain.from_iterable(said)))


def _said(source: str, texts: Any, labels: dict[str, Any], place: str) -> list[Said]:
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise BadData(f"{place}: 'sentf' of {describe(source)} should be a list of texts")
    if source not in labels:
        return [Said(check_text(text, place), None) for text in texts]
    answers = labels[source]
    if not isinstance(answers, list) or len(answers) != len(texts):
        found = f"{len(answers)}" if isinstance(answers, list) else describe(answers)
        raise BadData(
            f"{place}: 'labelf' of {describe(source)} should have answers to {len(texts)} questions, not {found}"
        )
    asked = zip(texts, answers, strict=True)
    return [Said(check_text(text, place), _scores(source, given, place)) for text, given in asked]


def _scores(source: str, given: Any, place: str) -> dict[str, float]:
    """Check the scores of answers to a question."""
    if not isinstance(given, dict):
        raise BadData(f"{place}: 'labelf' of {describe(source)}: expected {{answer: score}}, found {describe(given)}")
    for answer, score in given.items():
        check_text(answer, place)
        if type(score) not in (int, float) or not (0 <= score < math.inf):
            raise BadData(
                f"{place}: the score of {describe(answer)} should be a number from 0, found {describe(score)}"
            )
    return {answer: float(score) for answer, score in given.items()}


def _measure(record: Any, place: str) -> int:
    return len(read_told(record, place).said)


def _scan(source: Source, writer: IndexWriter, progress: Progress) -> None:
    scan_records(json_records(source, progress), source, _measure, writer, _FORM)


class Sentences(Corpus):
    """LXMERT's mixture: an example a sentence."""

    def __init__(
        self,
        name: str,
        files: Sequence[Path],
        images: Sequence[Path],
        *,
        beside: Sequence[Path] = (),
        todo: str = "",
        progress: Progress = quiet,
    ) -> None:
        super().__init__(name)
        self._files, self._images = (*files, *beside), tuple(images)
        columns = ("begin", "end", "last")
        self._index = open_index(files, "lxmert", columns, _scan, progress=progress, todo=todo)
        ends = self._index.column("last")
        self._count = int(ends[-1]) if len(ends) else 0

    def __len__(self) -> int:
        return self._count

    def _place(self, number: int) -> tuple[int, int]:
        """Return the record of an example, and which sentence of it that is."""
        self.check_number(number)
        ends = self._index.column("last")
        record = int(np.searchsorted(ends, number, side="right"))
        return record, number - (int(ends[record - 1]) if record else 0)

    def _read(self, record: int) -> Told:
        try:
            found = json.loads(self._index.read(record))
        except ValueError:  # it was JSON when the index was made
            raise self._index.source(record)[0].changed() from None
        return read_told(found, self._index.place(record))

    def example(self, number: int, draw: int = 0) -> Example:
        """Return a caption, or a question with the scores of its answers; nothing is drawn."""
        record, at = self._place(number)
        image, said = self._read(record)
        text, answers = said[at]
        return Example(f"{self.name}:{record}#{at}", (f"{self.name}:{image}",), (text,), answers)

    def told(self, number: int) -> Sequence[str]:
        """Return the one sentence of an example."""
        return self.example(number).texts

    def picture(self, key: str) -> Readable | None:
        """Return the file of an image; None where no folder has it."""
        return find_picture(self._images, self.inside(key), SUFFIXES)

    def files(self) -> dict[str, Path]:
        """Return the mixture's files, and the list of answers where the card names one."""
        return named_files(self._files)

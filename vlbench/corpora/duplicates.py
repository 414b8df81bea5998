"""Find pictures of a corpus that are also pictures of an evaluation set: what was seen there cannot be tested on.

Of each picture of the evaluation set about 90 bytes are held in memory (its fingerprint, and its place in twelve
tables by a part of that each); thumbnails and keys lie in a file. The corpus is gone through once, a picture at a time.
"""

from __future__ import annotations

import tempfile
import warnings
from array import array
from collections.abc import Iterable, Iterator, Sized
from typing import BinaryIO, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pictures

from vlbench.corpora.corpus import Corpus
from vlbench.corpora.fingerprints import (
    BANDS,
    MOST_BITS,
    NEAR,
    SIDE,
    WORDS,
    alike,
    differing_bits,
    distance,
    fingerprint,
    thumbnail,
)
from vlbench.corpora.sources import Readable
from vlbench.paths import cache_root, make_folder
from vlbench.types import Progress, quiet

Keyed: TypeAlias = Iterable[tuple[str, Readable | None]]
"""Keys of pictures, and what opens them; None where that is not here."""
_BYTES = SIDE * SIDE * 3
_DRAFT = (4 * SIDE, 4 * SIDE)
"""A JPEG is decoded at this size if it is larger, several times as fast."""


class Duplicate(NamedTuple):
    """A picture of the corpus that is nearly one of the evaluation set."""

    ours: str
    theirs: str
    distance: float
    """0 to ``fingerprints.NEAR``."""


class Unreadable(NamedTuple):
    """Pictures that could not be looked at."""

    total: int
    first: tuple[str, ...]
    """The keys of ten of them."""


class Compared(NamedTuple):
    """What was found."""

    duplicates: list[Duplicate]
    unreadable: Unreadable


def near_duplicates(ours: Keyed, theirs: Keyed, progress: Progress = quiet) -> Compared:
    """Compare the pictures of a corpus with those of an evaluation set; a picture that cannot be read is named."""
    unreadable = _Unreadable()
    duplicates: list[Duplicate] = []
    folder = make_folder(cache_root())  # temporary folders are often in memory
    with warnings.catch_warnings(), tempfile.TemporaryFile(dir=folder) as file:
        warnings.simplefilter("ignore")  # of unusual but readable files
        shelf = _Shelf(file)
        for key, small in _thumbnails(theirs, unreadable, progress, "evaluation images"):
            shelf.add(key, small)
        shelf.close()
        for key, small in _thumbnails(ours, unreadable, progress, "images compared"):
            duplicates += [Duplicate(key, their, far) for their, far in shelf.near(small)]
    return Compared(duplicates, Unreadable(unreadable.total, tuple(unreadable.first)))


def pictures_of(corpus: Corpus) -> Iterator[tuple[str, Readable | None]]:
    """Yield the pictures of a corpus by key; one that several examples in a row show comes once."""
    last: tuple[str, ...] = ()
    for number in range(len(corpus)):
        images = corpus.example(number).images
        if images != last:
            yield from ((key, corpus.picture(key)) for key in images)
        last = images


class _Unreadable:
    """Counts what could not be read, and names ten."""

    def __init__(self) -> None:
        self.total = 0
        self.first: list[str] = []

    def add(self, key: str) -> None:
        self.total += 1
        if len(self.first) < 10:
            self.first.append(key)


def _thumbnails(
    keyed: Keyed, unreadable: _Unreadable, progress: Progress, what: str
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    total = len(keyed) if isinstance(keyed, Sized) else 0
    for done, (key, readable) in enumerate(keyed, 1):
        small = _small(readable) if readable is not None else None
        if small is None:
            unreadable.add(key)
        else:
            yield key, small
        progress(done, max(done, total), what)


def _small(readable: Readable) -> NDArray[np.uint8] | None:
    """Decode a picture as a thumbnail; None where that cannot be done."""
    try:
        with readable.open("rb") as file, Pictures.open(file) as picture:
            picture.draft("RGB", _DRAFT)
            return thumbnail(picture)
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, Pictures.DecompressionBombError):
        return None


class _Shelf:
    """The pictures of the evaluation set, found by their fingerprints."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._gathered = bytearray()
        self._places = array("q")
        self._end = 0

    def add(self, key: str, small: NDArray[np.uint8]) -> None:
        """Take a picture: its fingerprint into memory, its thumbnail and key into the file."""
        self._gathered += fingerprint(small).tobytes()
        name = key.encode("utf-8", "surrogateescape")
        self._file.write(small.tobytes() + len(name).to_bytes(4, "little") + name)
        self._places.append(self._end)
        self._end += _BYTES + 4 + len(name)

    def close(self) -> None:
        """Order all pictures by each of the first words of their fingerprints."""
        self._prints = np.frombuffer(self._gathered, dtype=np.uint16).reshape(-1, WORDS)
        words = np.arange((1 << 16) + 1)
        self._rows, self._starts = [], []
        for band in range(BANDS):
            order = np.argsort(self._prints[:, band], kind="stable").astype(np.int32)
            self._rows.append(order)
            self._starts.append(np.searchsorted(self._prints[order, band], words).astype(np.int32))

    def near(self, small: NDArray[np.uint8]) -> list[tuple[str, float]]:
        """Return the keys of pictures that this is nearly a copy of, the nearest first."""
        own = fingerprint(small)
        found = [
            rows[starts[word] : starts[word + 1]]
            for rows, starts, word in zip(self._rows, self._starts, own[:BANDS].astype(int), strict=True)
        ]
        rows = np.unique(np.concatenate(found))
        rows = rows[differing_bits(own, self._prints[rows]) <= MOST_BITS]
        if not len(rows):
            return []
        stored = [self._stored(int(row)) for row in rows]
        close = np.flatnonzero(alike(small, np.stack([thumb for _, thumb in stored])))
        measured = [(stored[at][0], distance(small, stored[at][1])) for at in close]
        return sorted((one for one in measured if one[1] <= NEAR), key=lambda one: one[1])

    def _stored(self, row: int) -> tuple[str, NDArray[np.uint8]]:
        """Read a picture's key and thumbnail back."""
        self._file.seek(self._places[row])
        content = self._file.read(_BYTES + 4)
        name = self._file.read(int.from_bytes(content[_BYTES:], "little"))
        small = np.frombuffer(content, dtype=np.uint8, count=_BYTES).reshape(SIDE, SIDE, 3)
        return name.decode("utf-8", "surrogateescape"), small

"""The contract of a corpus: examples by number, each with texts, images, or both."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from vlbench.corpora.order import Permutation
from vlbench.corpora.sources import Readable, known_sha256
from vlbench.types import BadData, Example

_AT_ONCE = 1024
SUFFIXES = ("", ".jpg", ".jpeg", ".png")
"""What the name of an image may lack."""


class Corpus(ABC):
    """Random access to the examples of a corpus; may be sent to worker processes, which open its files again."""

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def __len__(self) -> int:
        """How many examples there are."""

    @abstractmethod
    def example(self, number: int, draw: int = 0) -> Example:
        """Return an example; where it is told in several ways, ``draw`` (the epoch, say) chooses one.

        Its id is CORPUS:RECORD, or CORPUS:RECORD#n where a record holds several; its images are keys of ``picture``.
        """

    @abstractmethod
    def picture(self, key: str) -> Readable | None:
        """Return what can be opened as an image; None where its file is not here."""

    @abstractmethod
    def files(self) -> dict[str, Path]:
        """Return the files the examples are read from, images left out, by names to be hashed under."""

    def hashes(self) -> dict[str, str]:
        """Hash what the examples are read from, images left out, by the names of ``files``."""
        return {name: known_sha256(path) for name, path in self.files().items()}

    @abstractmethod
    def told(self, number: int) -> Sequence[str]:
        """Return all that is told of an example: what ``example`` draws from."""

    def texts(self, most: int, seed: int) -> Iterator[str]:
        """Yield at most so many texts of examples in a seeded order, for a vocabulary to be learned from."""
        order, left = Permutation(len(self), seed), most
        for start in range(0, len(self), _AT_ONCE):
            for number in order[np.arange(start, min(start + _AT_ONCE, len(self)))].tolist():
                if left <= 0:
                    return
                told = self.told(number)[:left]
                left -= len(told)
                yield from told

    def check_number(self, number: int) -> None:
        """Refuse a number beyond the examples; negative ones too, as no order gives any."""
        if not 0 <= number < len(self):
            raise IndexError(f"{self.name} has {len(self)} examples, none of number {number}")

    def inside(self, key: str) -> str:
        """Return what stands behind CORPUS: in the key of an image."""
        name, _, inside = key.partition(":")
        if name != self.name:
            raise KeyError(f"{key} is no image of {self.name}")
        return inside


def drawn(identity: str, draw: int, count: int) -> int:
    """Choose one of ``count`` ways to tell an example, by its id and the draw only."""
    if count == 1:
        return 0
    return int.from_bytes(hashlib.sha256(f"{identity} {draw}".encode()).digest()[:8], "big") % count


def find_picture(folders: Sequence[Path], name: str, suffixes: Sequence[str] = ("",)) -> Path | None:
    """Return an image file from the first folder that has it; None where none does."""
    for folder in folders:
        for suffix in suffixes:
            path = os.path.join(folder, name + suffix)  # not of pathlib, which is slow where it is asked so often
            if os.path.isfile(path):
                return Path(path)
    return None


def check_text(text: str, place: str) -> str:
    """Return a text that can be written; BadData for half a surrogate pair, which an escape of JSON may hold."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            half = ord(text[error.start])
            raise BadData(f"{place}: a text holds half a character: \\u{half:04x}") from None
    return text


def named_files(paths: Sequence[Path]) -> dict[str, Path]:
    """Return files by their names, with as much of their folders as tells them apart."""
    found: dict[str, Path] = {}
    for path in paths:
        depth = 1
        while (name := "/".join(path.parts[-depth:])) in found and depth < len(path.parts):
            depth += 1
        found[name] = path
    return found

"""The keys of a region-feature file's images, and which row has which: 20 bytes an image beside its key, not 120.

A corpus may have millions of images, and every worker process looks them up. Kept are the bytes of all keys, one after
the other, and their hashes in order; a key is found by its hash and compared with what is kept.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray


class ImageKeys(Sequence[str]):
    """Keys in the order of their rows. Hashes are those of this process, so it is built anew in each, never sent."""

    def __init__(self, blocks: Iterable[Sequence[str]]) -> None:
        """``blocks``: all keys in order, some at a time, as no more of them than a block need be in memory."""
        content, ends, hashes = bytearray(), array("q", [0]), array("q")
        for block in blocks:
            for key in block:
                content += key.encode()
                ends.append(len(content))
                hashes.append(hash(key))
        self._content, self._ends = bytes(content), np.frombuffer(ends, np.int64)
        found = np.frombuffer(hashes, np.int64) if len(hashes) else np.zeros(0, np.int64)
        narrow = np.uint32 if len(found) < 1 << 32 else np.int64
        self._order = np.argsort(found, kind="stable").astype(narrow)
        self._hashes = found[self._order]

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> tuple[str, ...]: ...
    def __getitem__(self, row: int | slice) -> str | tuple[str, ...]:
        if isinstance(row, slice):
            return tuple(self[at] for at in range(*row.indices(len(self))))
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        row %= len(self)
        return self._content[int(self._ends[row]) : int(self._ends[row + 1])].decode()

    def __iter__(self) -> Iterator[str]:
        return (self[row] for row in range(len(self)))

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.rows([key])[0] >= 0

    def rows(self, keys: Sequence[str]) -> NDArray[np.int64]:
        """Return the row of each key, [n]; -1 where there is none."""
        hashes = np.fromiter(map(hash, keys), np.int64, len(keys))
        starts = np.searchsorted(self._hashes, hashes).tolist()
        return np.fromiter(map(self._row, keys, hashes.tolist(), starts), np.int64, len(keys))

    def _row(self, key: str, hashed: int, at: int) -> int:
        """Return the row of a key, whose hash and where in the order that begins are given; -1 where there is none."""
        while at < len(self) and self._hashes[at] == hashed:
            if self[row := int(self._order[at])] == key:
                return row
            at += 1
        return -1

    def repeated(self) -> str | None:
        """Return a key that two rows have; None where there is none."""
        for at in np.flatnonzero(self._hashes[1:] == self._hashes[:-1]).tolist():
            later = int(self._order[at + 1])
            if self.rows([self[later]])[0] != later:
                return self[later]
        return None

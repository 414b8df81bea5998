"""The words of many texts as numbers, so that captions are compared and counted as arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Keys = NDArray[np.uint64]

END = 0
"""The number of a line end."""
_FIRST, _MORE = 7, 3
"""Bytes of a word that are read at once: the first ones, and further ones, which share a key with a number."""
_FURTHER = np.uint64(1 << 7)
"""Marks keys of further ones."""
_SPREAD = 0x9E3779B97F4A7C15
"""An odd number without a pattern: the highest bits of its product with a key are spread over a table."""
_SLOTS = 16
"""A table has 2 ** 16 slots."""


class Pieces(NamedTuple):
    """What stands between the blanks of some texts, in its order."""

    numbers: Integers
    """[W]: equal pieces have equal numbers."""
    text: bytes
    starts: Integers
    ends: Integers
    """[W]: where in the text each piece begins, and the blank behind it."""
    tight: bool
    """Whether no text has two blanks in a row, or one at an end, or nothing at all."""

    def spelled(self, least: int) -> dict[int, str]:
        """Write out the pieces of numbers that are not less."""
        rows = np.flatnonzero(self.numbers >= least)
        example = dict(zip(self.numbers[rows].tolist(), rows.tolist(), strict=True))
        places = {number: slice(self.starts[row], self.ends[row]) for number, row in example.items()}
        return {number: self.text[place].decode("utf-8", "surrogatepass") for number, place in places.items()}


class Numbering:
    """Numbers pieces in the order in which they come, or nearly so."""

    def __init__(self) -> None:
        self.tables: list[tuple[Keys, Integers]] = []
        self.count = 0
        self.cut("")

    def cut(self, *texts: str) -> Pieces:
        """Cut texts at their blanks " " and at nothing else; an ``END`` stands behind each."""
        text = " \n ".join([*texts, ""]).encode("utf-8", "surrogatepass")
        ends = np.flatnonzero(np.frombuffer(text, np.uint8) == ord(" "))
        starts = np.zeros_like(ends)
        starts[1:] = ends[:-1] + 1
        some = starts < ends
        if not (tight := bool(some.all())):
            starts, ends = starts[some], ends[some]
        return Pieces(self._of_pieces(text, starts, ends), text, starts, ends, tight)

    def _of_pieces(self, text: bytes, starts: Integers, ends: Integers) -> Integers:
        """Return the numbers of pieces of a text by their bytes."""
        windows = np.ndarray(len(text), np.dtype("V8"), text + bytes(8), strides=(1,))
        numbers = self._of_keys(_read(windows, starts, ends, _FIRST))
        at, rows = _FIRST, np.flatnonzero(ends - starts > _FIRST)
        while len(rows):
            # Long ones that begin alike have one number so far, which no shorter one has.
            keys = _read(windows, starts[rows] + at, ends[rows], _MORE)
            keys |= numbers[rows].view(np.uint64) << np.uint64(8) | _FURTHER
            numbers[rows] = self._of_keys(keys)
            at += _MORE
            rows = rows[ends[rows] - starts[rows] > at]
        return numbers

    def _of_keys(self, keys: Keys, turn: int = 0) -> Integers:
        """Return the numbers of keys, of which none is 0.

        Most come often, so that looking them up in a table is far faster than sorting. Of those that want one slot
        one has it; the others go on to the table of the next ``turn``, which spreads them otherwise.
        """
        if turn == len(self.tables):
            self.tables.append((np.zeros(1 << _SLOTS, np.uint64), np.zeros(1 << _SLOTS, np.int64)))
        held, given = self.tables[turn]
        slots = keys * np.uint64(_SPREAD * (2 * turn + 1) % (1 << 64))
        slots >>= np.uint64(64 - _SLOTS)
        places = slots.view(np.int64)
        fresh = np.flatnonzero(held[places] == 0)
        if len(fresh):
            wanted, rows = places[fresh], np.arange(len(fresh))
            given[wanted] = rows
            has = given[wanted] == rows
            wanted = wanted[has]
            held[wanted] = keys[fresh[has]]
            given[wanted] = np.arange(self.count, self.count + len(wanted))
            self.count += len(wanted)
        numbers = given[places]
        late = np.flatnonzero(held[places] != keys)
        if len(late):
            numbers[late] = self._of_keys(keys[late], turn + 1)
        return numbers


def _read(windows: NDArray[np.void], starts: Integers, ends: Integers, most: int) -> Keys:
    """Return the first bytes of each piece as the highest of a number, whose lowest says how many there are."""
    sizes = np.minimum(ends - starts, most + 1)
    keys = windows[starts].view("<u8")
    keys <<= (64 - 8 * np.minimum(np.arange(most + 2), most)).astype(np.uint64)[sizes]
    keys |= sizes.view(np.uint64)
    return keys

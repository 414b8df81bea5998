"""Where references say what their image's caption says: words in one order, and up to four words in a row.

A caption is short, so that its words are the bits of a number, the first one the lowest. For each word of a reference
such a number, a mark, tells where the caption has an n-gram like the one that ends there; marks are found for all
references at once, word by word.

N captions, C references in all, P of those at hand, and n-grams of four lengths.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]
Words = NDArray[np.integer[Any]]
Marks = NDArray[np.unsignedinteger[Any]]
Word = TypeVar("Word", bound=Hashable)
Width: TypeAlias = type[np.uint16] | type[np.uint64]

LONGEST = 4
"""N-grams have one word to so many."""
WIDTHS: tuple[Width, ...] = (np.uint16, np.uint64)
"""Kinds of marks: most captions fit into the narrow ones, and nearly all into the wide ones."""
_PAIRS = np.arange(1 << 16, dtype=np.uint16)[:, None].view(np.uint8)
_SET = np.unpackbits(_PAIRS, axis=1).sum(axis=1, dtype=np.uint8)
"""How many bits of a number are set."""


class Spans(NamedTuple):
    """Where captions begin in a row of words, and how many words they have."""

    first: Integers
    lengths: Integers

    def of(self, rows: Integers | Flags | slice) -> Spans:
        """Return some of them."""
        return Spans(self.first[rows], self.lengths[rows])


class Matches(NamedTuple):
    """What captions and their references have in common."""

    common: Integers
    """[C]: words of the longest common subsequence."""
    matched: Integers
    """[4, N]: n-grams of the caption that are in a reference, at most as often as in the one that has most of them."""
    marks: list[tuple[Integers, Marks]]
    """Places of words of references, and [4, places] the marks of the n-grams that end there."""
    counts: list[tuple[Integers, Integers]]
    """The same of captions that no mark is wide enough for: how often they have the n-gram."""

    def put(self, rows: Integers, captions: Integers, part: Matches) -> None:
        """Take what was found for some references and captions."""
        self.common[rows], self.matched[:, captions] = part.common, part.matched
        self.marks.extend(part.marks)
        self.counts.extend(part.counts)

    def times(self, words: int) -> Words:
        """Return how often the caption has the n-gram that begins at each of so many words, [4, words]."""
        ends: list[tuple[Integers, Words]] = [(places, _count(marks)) for places, marks in self.marks]
        ends += self.counts
        found = np.zeros((LONGEST, words), np.result_type(np.uint8, *(times for _, times in ends)))
        for places, times in ends:
            for more, row in enumerate(times):
                # Where none ends that begins in the reference, 0 is put before it, where none begins.
                found[more, places - more] = row
        return found


def matches(words: Words, said: Spans, wanted: Spans, owner: Integers) -> Matches:
    """Compare captions with references; all are spans of ``words``, and ``owner`` [C] is each reference's caption.

    Behind each span stands what is a word of none. The references of a caption stand side by side, and each caption
    has at least one.
    """
    found = Matches(np.zeros(len(owner), np.int64), np.zeros((LONGEST, len(said.first)), np.int64), [], [])
    # The fewer bytes a word has, the more are compared at a time.
    words = words.astype(np.min_scalar_type(int(words.max())))
    kinds = np.searchsorted([np.iinfo(width).bits for width in WIDTHS], said.lengths)
    for kind, width in enumerate(WIDTHS):
        rows, captions = np.flatnonzero(kinds[owner] == kind), np.flatnonzero(kinds == kind)
        if len(captions):
            asked = np.searchsorted(captions, owner[rows])
            found.put(rows, captions, _compare(words, said.of(captions), wanted.of(rows), asked, width))
    for caption in np.flatnonzero(kinds == len(WIDTHS)).tolist():
        rows = np.flatnonzero(owner == caption)
        mine = words[said.first[caption] :][: said.lengths[caption]].tolist()
        found.put(rows, np.array([caption]), _compare_long(mine, words, wanted.of(rows)))
    return found


def common_length(said: Sequence[Word], wanted: Sequence[Word]) -> int:
    """Return the length of the longest common subsequence of two lists of words.

    A row of the usual table is kept as the bits of one number, 0 where the row grows by one (Hyyrö 2004).
    """
    places: dict[Word, int] = {}
    for at, word in enumerate(said):
        places[word] = places.get(word, 0) | 1 << at
    row = whole = (1 << len(said)) - 1
    for place in filter(None, map(places.get, wanted)):
        here = row & place
        row = (row + here) | (row - here)
    return len(said) - (row & whole).bit_count()


def _compare(words: Words, said: Spans, wanted: Spans, owner: Integers, width: Width) -> Matches:
    """Compare captions that marks are wide enough for."""
    turns = _turns(words, said, width)
    met = [np.zeros((len(turn), len(owner)), width) for turn in turns]
    same_order = np.full(len(owner), ~width(0))
    walk, marks = _Walk(words, said, wanted, owner, width), []
    for places, here in walk:
        end = len(places)
        marks.append((places, here))
        # As in common_length.
        row = same_order[:end]
        common = row & here[0]
        row[:] = (row + common) | (row - common)
        # An n-gram that comes for the nth time in the reference meets the one that does in the caption.
        for before, after in reversed(list(pairwise(met))):
            after[:, :end] |= before[: len(after), :end] & here[: len(after)]
        met[0][:, :end] |= here
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    matched = np.zeros((LONGEST, len(starts)), np.int64)
    for turn, each in zip(turns, met, strict=True):
        matched[: len(turn)] += _count(np.bitwise_or.reduceat(each[:, walk.back], starts, axis=1) & turn)
    whole = np.left_shift(width(1), said.lengths[owner].astype(width)) - width(1)
    return Matches(_count(~same_order[walk.back] & whole).astype(np.int64), matched, marks, [])


def _compare_long(mine: Sequence[int], words: Words, wanted: Spans) -> Matches:
    """Compare one caption of any length."""
    places = [np.arange(first, first + length) for first, length in zip(*wanted, strict=True)]
    others = [words[each].tolist() for each in places]
    matched, times = [], []
    for length in range(1, LONGEST + 1):
        own, most = Counter(_grams(mine, length)), Counter[tuple[int, ...]]()
        for other in others:
            most |= Counter(_grams(other, length))
        matched.append((own & most).total())
        times.append([own[gram] for other in others for gram in _grams([None] * (length - 1) + other, length)])
    common = [common_length(mine, other) for other in others]
    return Matches(np.array(common), np.array(matched)[:, None], [], [(np.concatenate(places), np.array(times))])


def _grams(words: Sequence[Word], length: int) -> list[tuple[Word, ...]]:
    return list(zip(*(words[at:] for at in range(length)), strict=False))


class _Walk:
    """Goes through references word by word, the longest first, so that those with an nth word are the first so many."""

    def __init__(self, words: Words, said: Spans, wanted: Spans, owner: Integers, width: Width) -> None:
        most = wanted.lengths.max(initial=0)
        # Small numbers are sorted the fastest.
        order = np.argsort((most - wanted.lengths).astype(np.min_scalar_type(most)), kind="stable")
        self.back = np.empty_like(order)
        """The place in the walk of each reference."""
        self.back[order] = np.arange(len(order))
        self.words, self.width = words, width
        self.first, lengths = wanted.of(order)
        self.ends = len(order) - np.searchsorted(lengths[::-1], np.arange(most), side="right")
        nth = np.arange(int(said.lengths.max(initial=0)))[:, None]
        table = words[np.minimum(said.first + nth, said.first + said.lengths)]
        self.table = table[:, owner[order]]
        """[most words, P]: the nth word of the caption of each reference, or no word where it has fewer."""

    def __iter__(self) -> Iterator[tuple[Integers, Marks]]:
        """Yield the places of the nth words, and [4, places] the marks of the n-grams that end there."""
        before = np.zeros((LONGEST, len(self.first)), self.width)
        for nth, end in enumerate(self.ends.tolist()):
            places, marks = self.first[:end] + nth, np.empty((LONGEST, end), self.width)
            marks[0] = self._marks(self.words[places])
            np.bitwise_and(before[:-1, :end] << self.width(1), marks[0], out=marks[1:])
            yield places, marks
            before = marks

    def _marks(self, words: Words) -> Marks:
        """Mark the words of captions that are the one of their reference."""
        found = np.zeros(len(words), self.width)
        for said in self.table[::-1, : len(words)]:
            found += found
            found |= said == words
        return found


def _turns(words: Words, said: Spans, width: Width) -> list[Marks]:
    """Mark the words of captions that end an n-gram for the first time, for the second, and so on.

    [lengths, N] each, for as many lengths of n-grams as any comes so often.
    """
    walk = _Walk(words, said, said, np.arange(len(said.first)), width)
    found = np.zeros((max(1, len(walk.ends)), LONGEST, len(said.first)), width)
    for nth, (_, marks) in enumerate(walk):
        bit = width(1 << nth)
        before = marks & (bit - width(1))
        found[0, :, : before.shape[1]] |= np.where(before, 0, marks & bit)
        length, row = np.nonzero(before != 0)
        found[_count(before[length, row]), length, row] |= bit
    highest = (found.any(axis=2) * np.arange(1, LONGEST + 1)).max(axis=1)
    highest[0] = LONGEST
    return [turn[:most, walk.back] for turn, most in zip(found, highest.tolist(), strict=True) if most]


def _count(marks: Marks) -> NDArray[np.uint8]:
    parts = np.ascontiguousarray(marks).view(np.uint16)
    found: NDArray[np.uint8] = _SET[parts].reshape(*marks.shape, marks.itemsize // parts.itemsize)
    return found[..., 0] if marks.dtype == np.uint16 else found.sum(axis=-1, dtype=np.uint8)

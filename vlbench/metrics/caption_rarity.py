"""How often n-grams come in a caption, and in the references of how few images: what CIDEr-D weighs them by.

N-grams are numbered and counted by sorting them, those of all captions that begin with one of a few words at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlbench.metrics.caption_matches import LONGEST, Words
from vlbench.metrics.caption_pieces import END

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]
_AT_ONCE = 1 << 15
"""About so many n-grams are sorted at once; more would not stay near the processor."""
_BITS = 63
"""Of a number that is not negative."""


class Grams(NamedTuple):
    """Some n-grams of one length, like ones side by side; no others of that length are like one of them."""

    length: int
    first: Integers
    """The place of the word that each begins with."""
    caption: Words
    """The caption that it is in."""
    times: Integers
    """How often it is in that caption."""
    rarity: Floats
    """The logarithm of all images to those that have it in a reference, which are taken for one at least."""


def grams(words: Words, lengths: Integers, image: Integers) -> Iterator[Grams]:
    """Yield all n-grams of captions, of one word to four.

    ``words``: those of all captions, ``END`` behind each. ``lengths``: how many each has. ``image``: of which image it
    is a reference, -1 where it is none; the references of an image stand side by side, behind all that are none.
    """
    images = int(image.max()) + 1
    rarity = np.log(images) - np.log(np.maximum(1, np.arange(images + 1)))
    vocabulary = int(words.max()) + 1
    # The less they take, the more of what is looked up at random stays near the processor.
    row, whose = words.astype(np.min_scalar_type(vocabulary)), image.astype(np.int32)
    captions = np.repeat(np.arange(len(image), dtype=np.int32), lengths + 1)
    for first, fresh in _by_words(words):
        caption, kind = captions[first], _counted(fresh)
        for length in range(1, LONGEST + 1):
            if length > 1:
                # An n-gram is the shorter one that it begins with, and one more word.
                word = row[first + length - 1]
                whole = np.flatnonzero(word != END)
                order, fresh = _sorted((kind * vocabulary + word)[whole])
                order = whole[order]
                first, caption, kind = first[order], caption[order], _counted(fresh)
            found = rarity[_documents(whose[caption], fresh)]
            yield Grams(length, first, caption, _times(fresh | _changes(caption)), found[kind - 1])


def _by_words(words: Words) -> Iterator[tuple[Integers, Flags]]:
    """Yield the places of some words at a time, those of a word side by side, and where those of another begin."""
    order, fresh = _sorted(words.astype(np.int64))
    begins = np.flatnonzero(fresh)
    limits = np.maximum(begins[_changes(begins // _AT_ONCE)], np.count_nonzero(words == END))
    for begin, end in pairwise([*limits.tolist(), len(order)]):
        if begin < end:
            yield order[begin:end], fresh[begin:end]


def _sorted(numbers: Integers) -> tuple[Integers, Flags]:
    """Return the order of numbers, equal ones as they stand, and where in it another number begins."""
    bits = len(numbers).bit_length()
    if int(numbers.max(initial=0)).bit_length() + bits > _BITS:
        order = np.argsort(numbers, kind="stable")
        return order, _changes(numbers[order])
    # Numbers with their place sort far faster than places by numbers do.
    both = numbers << bits
    both |= np.arange(len(numbers))
    both.sort()
    order = both & ((1 << bits) - 1)
    both >>= bits
    return order, _changes(both)


def _times(fresh: Flags) -> Integers:
    """Return how long each run is, all along it; nearly all have one place."""
    times = np.ones(len(fresh), np.int64)
    many = ~fresh
    many[:-1] |= many[1:]
    places = np.flatnonzero(many)
    runs = np.diff(np.flatnonzero(fresh[places]), append=len(places))
    times[places] = np.repeat(runs, runs)
    return times


def _documents(image: Words, fresh: Flags) -> Integers:
    """Count the images in each run."""
    new = _changes(image)
    new |= fresh
    new &= image >= 0
    runs = np.flatnonzero(fresh)
    before = (_counted(new) - new)[runs]
    return np.diff(before, append=np.count_nonzero(new))


def _counted(flags: Flags) -> Integers:
    """Return how many there are up to each; numpy is slower at adding flags than at adding numbers."""
    return np.cumsum(flags.astype(np.int64))


def _changes(values: Words) -> Flags:
    """Say of each value whether it is another than the one before it."""
    found = np.ones(len(values), np.bool_)
    found[1:] = values[1:] != values[:-1]
    return found

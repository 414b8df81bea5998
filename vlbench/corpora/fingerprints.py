"""What two copies of a picture have in common, however they were resized, compressed, brightened or trimmed.

A *fingerprint* says of neighbouring cells which is brighter, bluer and redder, on three scales (a "difference hash"):
268 bits, of which copies share most. It finds candidates; two pictures of one red thing on grey ground share as many.
The *distance* of two thumbnails is what remains of their difference when the best small shift, stretch and change of
brightness between them is taken out, as a share of the contrast. What the limits part was measured on photographs and
on pictures of the made-up world, where a share of the pictures differ by little (tests/corpora/test_duplicates.py).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pictures
from PIL.Image import Image as Picture

SIDE = 32
"""Of a thumbnail."""
WORDS, BANDS = 17, 12
"""Of 16 bits each in a fingerprint, and how many of them candidates are found by: one that is the same is enough."""
MOST_BITS = 32
"""That differ between copies; strong compression, or a trim by two in a hundred, change up to 29."""
NEAR = 0.13
"""The largest distance of copies."""
_ALIKE = 0.75
"""The same without shifts: what is farther apart need not be looked at closely."""
_SCALES = ((8, 1), (5, 3), (3, 3))
"""Cells a side, and how many of brightness, blueness and redness are compared on them."""
_STEP = 3
"""Levels of 255 by which a cell must surpass its neighbour, so that noise on plain ground sets no bit."""
_SHIFT = 0.025
"""How far parts of a copy may have moved, as a share of the side."""
_GAIN, _OFFSET = 1.25, 30.0
"""How much contrast and brightness of copies may differ."""
_LEAST_CONTRAST = 4.0
_STRIDE = 97  # so that each word has bits from everywhere in the picture


def thumbnail(picture: Picture) -> NDArray[np.uint8]:
    """Return a picture as [SIDE, SIDE, 3] bytes: each the mean of a part of it."""
    return np.asarray(picture.convert("RGB").resize((SIDE, SIDE), Pictures.Resampling.BOX))


def fingerprint(small: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Return the [WORDS] of a thumbnail."""
    picture = Pictures.fromarray(small)
    bits: list[NDArray[np.bool_]] = []
    for cells, channels in _SCALES:
        red, green, blue = np.moveaxis(
            np.asarray(picture.resize((cells, cells), Pictures.Resampling.BOX), dtype=np.float32), 2, 0
        )
        for values in ((red + green + blue) / 3, blue - (red + green) / 2, red - green)[:channels]:
            bits += [(np.diff(values, axis=axis) > _STEP).ravel() for axis in (0, 1)]
    whole = np.concatenate(bits)
    spread = whole[np.arange(len(whole)) * _STRIDE % len(whole)]
    packed = np.packbits(np.pad(spread, (0, 16 * WORDS - len(spread))))
    return packed.view(">u2").astype(np.uint16)


_SET = np.array([bin(word).count("1") for word in range(1 << 16)], dtype=np.uint8)


def differing_bits(one: NDArray[np.uint16], others: NDArray[np.uint16]) -> NDArray[np.int64]:
    """Count the bits in which one fingerprint differs from each of others [n, WORDS]."""
    return np.asarray(_SET[others ^ one].sum(axis=1, dtype=np.int64))


def alike(one: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Say which of some thumbnails [n, SIDE, SIDE, 3] are worth a close look."""

    def standard(values: NDArray[np.uint8]) -> NDArray[np.float32]:
        flat = values.reshape(len(values), -1).astype(np.float32)
        centred = flat - flat.mean(axis=1, keepdims=True)
        return np.asarray(centred / np.maximum(centred.std(axis=1, keepdims=True), _LEAST_CONTRAST), dtype=np.float32)

    return np.asarray(((standard(others) - standard(one[None])) ** 2).mean(axis=1) <= _ALIKE**2)


def distance(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return how far two thumbnails are from being copies, 0 to about 1.4; infinite where brightness alone says no.

    To first order a small shift or stretch adds to a picture its slopes, times how far each part moves; so the best
    one, and the best change of contrast and brightness, are those of a least-squares fit with six unknowns.
    """
    seen, copy = _smooth(one.astype(np.float64)), _smooth(other.astype(np.float64))
    down, along = (slope * SIDE for slope in np.gradient(copy, axis=(0, 1)))
    wanted, parts = _inside(seen), (copy, np.ones_like(copy), along, along * _ALONG, down, down * _DOWN)
    terms = np.stack([_inside(np.asarray(part)) for part in parts], axis=1)
    found = _fit(terms, wanted - terms[:, 0])  # what it takes besides the copy itself
    moves = np.abs(found[2:]) / max(abs(1 + found[0]), 0.1)
    farthest = max(moves[0] + moves[1] / 2, moves[2] + moves[3] / 2)
    if farthest > _SHIFT:  # go as far as is allowed, and fit the brightness again
        found[2:] *= _SHIFT / farthest
        found[:2] = _fit(terms[:, :2], wanted - terms[:, 0] - terms[:, 2:] @ found[2:])
    brighter = found[1] + found[0] * terms[:, 0].mean()
    if not 1 / _GAIN <= 1 + found[0] <= _GAIN or abs(brighter) > _OFFSET:
        return float("inf")
    left = wanted - terms[:, 0] - terms @ found
    return float(np.sqrt((left**2).mean()) / max(wanted.std(), _LEAST_CONTRAST))


_ALONG = ((np.arange(SIDE) + 0.5) / SIDE - 0.5)[None, :, None]
_DOWN = ((np.arange(SIDE) + 0.5) / SIDE - 0.5)[:, None, None]


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Blur a thumbnail a little, so that its slopes say what a shift does."""
    for axis in (0, 1, 0, 1):
        padded = np.pad(values, [(1, 1) if each == axis else (0, 0) for each in range(3)], mode="edge")
        before, middle, after = (np.take(padded, range(start, start + SIDE), axis=axis) for start in range(3))
        values = (before + 2 * middle + after) / 4
    return values


def _inside(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return all values but those at the edge, whose slopes are not known."""
    return values[1:-1, 1:-1].ravel()


def _fit(terms: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights of terms [n, k] whose sum is nearest to what is wanted [n]; 0 of what makes no difference."""
    square = terms.T @ terms
    square[np.diag_indices_from(square)] += 1e-6 * (1 + np.trace(square) / len(square))  # of a plain picture, too
    return np.asarray(np.linalg.solve(square, terms.T @ wanted), dtype=np.float64)

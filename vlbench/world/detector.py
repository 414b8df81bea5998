"""A noisy detector: boxes, classes, attributes and features of what a picture shows, and of some that it does not.

A feature is made of what real ones carry: scores of classes and attributes, wrong now and then, and the pixels in the
box; a fixed random projection mixes all of it, and what is negative becomes 0. The arithmetic is of whole numbers (in
float64, where sums of them are exact), so that every machine writes the same values.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlbench.data.features import Labels, Regions
from vlbench.world.scenes import COLOURS, SHAPES, SIZES, TEXTURES, Scene, Span, Thing

CLASSES = (*SHAPES, "cover")
ATTRIBUTES = (*COLOURS, "gray")
DIM = 96
"""Values of a feature."""
EXTRACTOR = "made-up detector"
_GRID = 4  # pixels looked at across a box
_MISSED, _MISTAKEN, _LOOSE = 0.02, 0.05, 0.15
_ROWS = (len(CLASSES), len(ATTRIBUTES), len(SIZES), len(TEXTURES))
_STARTS = (0, *np.cumsum(_ROWS).tolist())
_SCORES, _NOTHING = _STARTS[-1], -1
_STRONG, _WEAK = 170, 80
_WIDTH = _SCORES + 3 * _GRID * _GRID


class Sighting(NamedTuple):
    """A box, what is in it (class, attribute, size, texture; -1 = nothing) and how strongly it says so."""

    box: tuple[int, int, int, int]
    what: tuple[int, int, int, int]
    strength: int


class Detector:
    """Sees the regions of pictures; ``seed`` decides its errors, the projection is the same in every world."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        frozen = np.random.RandomState(19981225)
        self._mixing = (2 * frozen.randint(0, 2, (_WIDTH, DIM)) - 1).astype(np.float64)

    def regions(self, scene: Scene, pixels: NDArray[np.uint8], key: str) -> Regions:
        """Return the regions of a picture, the surest first; the whole picture is one of them."""
        chance = np.random.RandomState(zlib.crc32(f"{self.seed} {key}".encode()))
        side = len(pixels)
        sightings = [*self._seen(scene, side, chance), *_imagined(scene, side, chance)]
        sightings.append(Sighting((0, 0, side, side), (_NOTHING,) * 4, 0))
        boxes = np.array([sighting.box for sighting in sightings], np.int64)
        scores = _scores(sightings, chance)
        values = np.concatenate([scores - 40, (_looked(pixels, boxes) - 110) // 2], axis=1).astype(np.float64)
        features = np.maximum(values @ self._mixing, 0) / 256
        classes, attributes = (scores[:, _STARTS[part] : _STARTS[part + 1]] for part in (0, 1))
        nothing = np.array([sighting.what[0] == _NOTHING and sighting.strength == 0 for sighting in sightings])
        sure, marked = classes.max(1), attributes.max(1)
        labels = Labels(
            np.where(nothing, -1, classes.argmax(1)),
            np.where(nothing, 0, sure / 256).astype(np.float32),
            np.where(nothing, -1, attributes.argmax(1)),
            np.where(nothing, 0, marked / 256).astype(np.float32),
        )
        order = np.argsort(-np.where(nothing, 0, sure), kind="stable")
        labels = labels.map(lambda column: column[order])
        return Regions(features[order].astype(np.float16), (boxes[order] / side).astype(np.float32), labels)

    def _seen(self, scene: Scene, side: int, chance: np.random.RandomState) -> list[Sighting]:
        found = []
        for thing in scene.things:
            if chance.rand() >= _MISSED:
                found.append(Sighting(_jittered(thing.span, side, chance), _what(thing), _STRONG))
        if scene.cover:
            what = (len(CLASSES) - 1, len(ATTRIBUTES) - 1, _NOTHING, _NOTHING)
            found.append(Sighting(_jittered(scene.cover, side, chance), what, _STRONG))
        return found


def _what(thing: Thing) -> tuple[int, int, int, int]:
    return (
        SHAPES.index(thing.shape),
        COLOURS.index(thing.colour),
        SIZES.index(thing.size),
        TEXTURES.index(thing.texture),
    )


def _jittered(span: Span, side: int, chance: np.random.RandomState) -> tuple[int, int, int, int]:
    """Return a box as the detector draws it: a pixel off here and there, now and then two."""
    reach = 2 if chance.rand() < _LOOSE else 1
    x1, y1, x2, y2 = (np.array(span) + chance.randint(-reach, reach + 1, 4)).tolist()
    return max(0, x1), max(0, y1), min(side, x2), min(side, y2)


def _imagined(scene: Scene, side: int, chance: np.random.RandomState) -> list[Sighting]:
    """Return boxes that are of no thing: parts of some, some together, and bare ground."""
    found = []
    for _ in range(chance.randint(2, 4)):
        kind = chance.randint(3)
        thing = scene.things[chance.randint(len(scene.things))]
        if kind == 0:
            x1, y1, x2, y2 = thing.span
            wide = (x2 - x1) * 2 // 5
            found.append(Sighting((x1, y1, x1 + wide, y2), _what(thing), _WEAK))
        elif kind == 1 and len(scene.things) > 1:
            spans = np.array([thing.span, scene.things[chance.randint(len(scene.things))].span])
            corners = (*spans[:, :2].min(0).tolist(), *spans[:, 2:].max(0).tolist())
            found += [Sighting(corners, _what(thing), _WEAK)] if corners != tuple(thing.span) else []
        else:
            wide, high, x, y = chance.randint(8, 20, 4).tolist()
            x, y = (x * 97 + wide * 31) % (side - wide), (y * 89 + high * 37) % (side - high)
            found.append(Sighting((x, y, x + wide, y + high), (_NOTHING,) * 4, _WEAK))
    return found


def _scores(sightings: Sequence[Sighting], chance: np.random.RandomState) -> NDArray[np.int64]:
    """Score every class, attribute, size and texture of every box, from 0 to 255."""
    count = len(sightings)
    scores = chance.randint(0, 41, (count, _SCORES))
    strong = chance.randint(-55, 56, (count, 4))
    mistaken = chance.rand(count, 4) < _MISTAKEN
    others = chance.randint(0, 1 << 16, (count, 4))
    for row, sighting in enumerate(sightings):
        for part, value in enumerate(sighting.what):
            if value == _NOTHING:
                continue
            seen = others[row, part] % _ROWS[part] if mistaken[row, part] else value
            scores[row, _STARTS[part] + seen] += sighting.strength + strong[row, part] - 20
            if mistaken[row, part]:
                scores[row, _STARTS[part] + value] += sighting.strength // 2
    found: NDArray[np.int64] = np.clip(scores, 0, 255).astype(np.int64)
    return found


def _looked(pixels: NDArray[np.uint8], boxes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the colours of a grid of pixels in each box, [boxes, 3 grid grid]."""
    odd = 2 * np.arange(_GRID) + 1
    across = boxes[:, :1] + odd * (boxes[:, 2:3] - boxes[:, :1]) // (2 * _GRID)
    down = boxes[:, 1:2] + odd * (boxes[:, 3:] - boxes[:, 1:2]) // (2 * _GRID)
    looked: NDArray[np.int64] = pixels[down[:, :, None], across[:, None, :]].reshape(len(boxes), -1).astype(np.int64)
    return looked

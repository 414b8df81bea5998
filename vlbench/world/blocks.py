"""Blocks of pictures: a split is made, and its questions are balanced, some thousand pictures at a time.

So memory does not grow with the world, and the first block of a split is the same in a world of any size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from vlbench.world.dice import Dice
from vlbench.world.layout import COCO_IMAGES, SPLITS, SUBSETS, Split
from vlbench.world.scenes import SEEN_PAIRS, UNSEEN_PAIRS, Novelty, Scene, draw_scene

WORLD_VERSION = 5
"""Raised with every change that changes a byte of a world."""
DRAW = 1
"""What all chance depends on beside the seed: raised only where every picture is to be another."""
LARGEST = 2000
"""Most pictures of a block."""
_FIRST = {split: place * 1_000_000 + 1 for place, split in enumerate(SPLITS)}


class Picture(NamedTuple):
    """A picture of the pool that all tasks but NLVR2 ask of."""

    number: int
    """COCO's image id; no two splits share one."""
    key: str
    scene: Scene

    @property
    def file(self) -> str:
        """Its file below the folder of the world."""
        return f"{COCO_IMAGES}/{self.key}.png"


class Block(NamedTuple):
    """Some pictures of one split."""

    split: Split
    pictures: tuple[Picture, ...]
    seed: str
    """What chance in this block depends on."""

    def dice(self, *purpose: object) -> Dice:
        """Return chance that is this block's own for a purpose."""
        return Dice(self.seed, *purpose)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The pairs of colour and shape that the split asks of."""
        return UNSEEN_PAIRS if self.split == "unseen" else SEEN_PAIRS


def parts(total: int, largest: int = LARGEST) -> Iterator[tuple[int, int]]:
    """Cut a number into blocks: the start and the length of each."""
    for start in range(0, total, largest):
        yield start, min(largest, total - start)


def draw_blocks(split: Split, total: int, seed: int) -> Iterator[Block]:
    """Draw the scenes of a split, block by block."""
    for start, length in parts(total):
        name = f"{DRAW} {seed} {split} {start}"
        dice = Dice(name, "scenes")
        pictures = []
        for place in range(start, start + length):
            number = _FIRST[split] + place
            key = f"COCO_{SUBSETS[split]}_{number:012d}"
            pictures.append(Picture(number, key, draw_scene(dice, _novelty(split, place))))
        yield Block(split, tuple(pictures), name)


def _novelty(split: Split, place: int) -> Novelty:
    """In an unseen split, half of the scenes are of nothing but unseen pairs; elsewhere there is none."""
    if split != "unseen":
        return "none"
    return "some" if place % 2 else "all"

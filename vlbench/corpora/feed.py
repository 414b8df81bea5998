"""The batches of pre-training by step: any can be the next, and nothing grows with the corpora or with the steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np

from vlbench.corpora.images import BrokenImages
from vlbench.corpora.order import Permutation
from vlbench.data.batches import Collator, Share, ahead
from vlbench.recipe import Recipe
from vlbench.types import BadData, Batch, Example

_PART = 2**31
"""The draw that a part of the corpora is of; no epoch has this number."""


class Numbered(Protocol):
    """Examples by number, of which none need be in memory."""

    def __len__(self) -> int: ...

    def example(self, number: int, draw: int = 0) -> Example:
        """Return one; ``draw`` numbers what is drawn at random, such as one of an image's captions."""


class Lost(NamedTuple):
    """Examples of a batch that were left out, for their images cannot be read."""

    ids: tuple[str, ...]
    why: str
    """What is wrong with the first."""


class CorpusFeed:
    """Batches from corpora; their order is a function of seed and epoch alone.

    An example whose image is broken is left out of its batch, which is smaller then; ``tell`` hears of each.
    """

    def __init__(
        self,
        examples: Numbered,
        collate: Collator,
        recipe: Recipe,
        *,
        share: Share | None = None,
        texts_alone: bool = False,
        tell: Callable[[Lost], None] = lambda lost: None,
    ) -> None:
        self.examples, self.collate, self.recipe = examples, collate, recipe
        self.share, self.texts_alone, self.tell = share or Share(), texts_alone, tell
        self.count = min(math.ceil(len(examples) * recipe.corpus_share), recipe.limit or len(examples))
        # a part of the corpora is drawn once, for all epochs, and with the seed of the order
        part = recipe.corpus_share < 1
        self.drawn = Permutation(len(examples), recipe.seed, _PART) if part and len(examples) else None
        if not self.count:
            raise BadData("the corpora hold no example", "see what is here: vlbench data list")
        self.per_epoch = -(-self.count // recipe.batch)

    def steps(self, first: int, last: int) -> Iterator[Sequence[Batch]]:
        """Yield the parts of each step's batch, from step ``first`` to before ``last``."""
        for parts, lost in ahead(self.parts, first, last, self.recipe.workers):
            for one in lost:
                self.tell(one)
            yield parts

    def examples_until(self, step: int) -> int:
        """Count the examples that were due before a step; those that could not be read among them."""
        epochs, rest = divmod(step, self.per_epoch)
        return epochs * self.count + min(rest * self.recipe.batch, self.count)

    def parts(self, step: int) -> tuple[list[Batch], list[Lost]]:
        """Build the batches of one step: this process's share, cut in as many parts as are accumulated."""
        epoch, place = divmod(step, self.per_epoch)
        first = place * self.recipe.batch
        places = np.arange(first, min(first + self.recipe.batch, self.count))
        numbers = Permutation(self.count, self.recipe.seed, epoch)[places][self.share.process :: self.share.processes]
        numbers = numbers if self.drawn is None else self.drawn[numbers]
        cut = [part for part in np.array_split(numbers, self.recipe.accumulate) if len(part)]
        made = [self._batch([self._example(int(number), epoch) for number in part], epoch) for part in cut]
        batches = [batch for batch, _ in made if batch is not None]
        if not batches:
            raise BadData(f"no image of step {step + 1} can be read: {made[0][1][0].why if made else 'it is empty'}")
        return batches, [lost for _, some in made for lost in some]

    def _example(self, number: int, epoch: int) -> Example:
        found = self.examples.example(number, epoch)
        return replace(found, images=()) if self.texts_alone else found

    def _batch(self, examples: list[Example], epoch: int) -> tuple[Batch | None, list[Lost]]:
        try:
            return self.collate(examples, epoch), []
        except BrokenImages as broken:
            gone = tuple(one.id for one in examples if not broken.keys.isdisjoint(one.images))
            whole = [one for one in examples if broken.keys.isdisjoint(one.images)]
            return (self.collate(whole, epoch) if whole else None), [Lost(gone, broken.wrong)]

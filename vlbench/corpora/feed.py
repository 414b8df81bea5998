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
from vlbench.types import KINDS, BadData, Batch, Example, Kind, kind_of

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


def _kind(example: Example) -> Kind:
    return kind_of(len(example.images), len(example.texts))


class CorpusFeed:
    """Batches from corpora; their order is a function of seed and epoch alone.

    A batch is of one kind of examples, ``kinds`` being those that are learned from: a step on pairs, images and texts
    has a batch of each. Where pairs are none of them, their images or texts are learned from alone. An example whose
    image is broken is left out of its batch, which is smaller then; ``tell`` hears of each once.
    """

    def __init__(
        self,
        examples: Numbered,
        collate: Collator,
        recipe: Recipe,
        *,
        share: Share | None = None,
        kinds: Sequence[Kind] = ("pairs",),
        tell: Callable[[Lost], None] = lambda lost: None,
    ) -> None:
        self.examples, self.collate, self.recipe = examples, collate, recipe
        self.share, self.kinds, self.tell = share or Share(), tuple(kinds), tell
        self._told: set[str] = set()
        self.count = min(math.ceil(len(examples) * recipe.corpus_share), recipe.limit or len(examples))
        # a part of the corpora is drawn once, for all epochs, and with the seed of the order
        part = recipe.corpus_share < 1
        self.drawn = Permutation(len(examples), recipe.seed, _PART) if part and len(examples) else None
        if not self.count:
            raise BadData("the corpora hold no example", "see what is here: vlbench data list")
        self.per_epoch = -(-self.count // recipe.batch)

    def steps(self, first: int, last: int) -> Iterator[Sequence[Batch]]:
        """Yield the parts of each step's batch, from step ``first`` to before ``last``."""
        empty = 0
        for parts, lost in ahead(self.parts, first, last, self.recipe.workers):
            for one in lost:
                self._tell(one)
            empty = 0 if parts else empty + 1
            if empty == self.per_epoch:
                why = lost[0].why if lost else "they are empty"
                raise BadData(f"no image of the corpora can be read: {why}", "vlbench data check CORPUS names them")
            yield parts

    def _tell(self, one: Lost) -> None:
        """Pass on what is lost, each example once: it comes again every epoch."""
        new = tuple(name for name in one.ids if name not in self._told)
        self._told.update(new)
        if new:
            self.tell(Lost(new, one.why))

    def examples_until(self, step: int) -> int:
        """Count the examples that were due before a step; those that could not be read among them."""
        epochs, rest = divmod(step, self.per_epoch)
        return epochs * self.count + min(rest * self.recipe.batch, self.count)

    def parts(self, step: int) -> tuple[list[Batch], list[Lost]]:
        """Build the batches of one step: this process's share, cut in as many parts as are accumulated.

        All processes have as many examples: where they do not come out even, some are shown twice. No batch is left
        where no image of the step can be read.
        """
        epoch, place = divmod(step, self.per_epoch)
        first = place * self.recipe.batch
        places = np.arange(first, min(first + self.recipe.batch, self.count))
        numbers = Permutation(self.count, self.recipe.seed, epoch)[places]
        each = -(-len(numbers) // self.share.processes)
        numbers = np.resize(numbers, each * self.share.processes)[self.share.process :: self.share.processes]
        numbers = numbers if self.drawn is None else self.drawn[numbers]
        cut = [part for part in np.array_split(numbers, self.recipe.accumulate) if len(part)]
        alike = [some for part in cut for some in self._by_kind([self._example(int(n), epoch) for n in part])]
        made = [self._batch(some, epoch) for some in alike]
        return [batch for batch, _ in made if batch is not None], [lost for _, some in made for lost in some]

    def _example(self, number: int, epoch: int) -> Example:
        found = self.examples.example(number, epoch)
        if "pairs" in self.kinds or _kind(found) != "pairs":
            return found
        return replace(found, images=()) if "texts" in self.kinds else replace(found, texts=())

    def _by_kind(self, examples: list[Example]) -> list[list[Example]]:
        """Part examples by kind; BadData for one of a kind that nothing is learned from."""
        parted = {kind: [one for one in examples if _kind(one) == kind] for kind in KINDS}
        for kind, some in parted.items():
            if some and kind not in self.kinds:
                raise BadData(f"'{some[0].id}' is of {kind} alone, and {' and '.join(self.kinds)} are learned from")
        return [some for some in parted.values() if some]

    def _batch(self, examples: list[Example], epoch: int) -> tuple[Batch | None, list[Lost]]:
        try:
            return self.collate(examples, epoch), []
        except BrokenImages as broken:
            gone = tuple(one.id for one in examples if not broken.keys.isdisjoint(one.images))
            whole = [one for one in examples if broken.keys.isdisjoint(one.images)]
            return (self.collate(whole, epoch) if whole else None), [Lost(gone, broken.wrong)]

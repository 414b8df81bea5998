"""The batches of pre-training by step: any can be the next, and nothing grows with the corpora or with the steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vlbench.corpora.images import BrokenImages
from vlbench.corpora.order import Permutation
from vlbench.data.batches import Collator, Share, ahead
from vlbench.recipe import Recipe
from vlbench.types import KINDS, BadData, Batch, Example, Kind, Misuse, kind_of

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


class _Order(NamedTuple):
    """The order of examples that are drawn from together, as many a step."""

    numbers: range
    """Of the examples among all."""
    epoch: int
    """Examples of an epoch; less than there are where a part of the corpora is wanted."""
    batch: int
    drawn: Permutation | None
    """Which part that is; None where it is their beginning or the whole."""

    def at(self, places: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
        """Return the numbers of the examples that stand at some places of an epoch."""
        found = Permutation(self.epoch, seed, epoch)[places]
        return self.numbers.start + (found if self.drawn is None else self.drawn[found])


def _kind(example: Example) -> Kind:
    return kind_of(len(example.images), len(example.texts))


def learned_as(kind: Kind, kinds: Sequence[Kind]) -> Kind:
    """Say as what examples of a kind are learned from: of pairs the texts or the images, where pairs are not."""
    if kind != "pairs" or "pairs" in kinds:
        return kind
    return "texts" if "texts" in kinds else "images"


class CorpusFeed:
    """Batches from corpora; their order is a function of seed and epoch alone.

    A batch is of one kind of examples, ``kinds`` being those that are learned from: a step on pairs, images and texts
    has a batch of each. Where pairs are none of them, their images or texts are learned from alone. An example whose
    image is broken is left out of its batch, which is smaller then; ``tell`` hears of each once.

    ``groups``: numbers of the examples of each kind, where there are several. A step then has as many of each, as
    BEiT-3's (Wang et al. 2022, section 2.3), and each goes through its own examples at its own pace, again and again;
    an epoch is over when the slowest has shown all of its own. Of one kind alone its last step is smaller.
    """

    def __init__(
        self,
        examples: Numbered,
        collate: Collator,
        recipe: Recipe,
        *,
        share: Share | None = None,
        kinds: Sequence[Kind] = ("pairs",),
        groups: Sequence[range] = (),
        tell: Callable[[Lost], None] = lambda lost: None,
    ) -> None:
        self.examples, self.collate, self.recipe = examples, collate, recipe
        self.share, self.kinds, self.tell = share or Share(), tuple(kinds), tell
        self._told: set[str] = set()
        groups = groups or [range(len(examples))]
        if not all(groups):
            raise BadData("the corpora hold no example", "see what is here: vlbench data list")
        if len(groups) > recipe.batch:
            raise Misuse(
                f"a batch of {recipe.batch} has no room for {len(groups)} kinds of examples", "--set batch=..."
            )
        self._orders = [self._order(numbers, place, len(groups)) for place, numbers in enumerate(groups)]
        self.per_epoch = max(-(-order.epoch // order.batch) for order in self._orders)
        alone = len(self._orders) == 1
        self.count = self._orders[0].epoch if alone else self.per_epoch * recipe.batch
        """Examples that an epoch shows; of several kinds some are shown more than once."""

    def _order(self, numbers: range, place: int, groups: int) -> _Order:
        """Say in what order one of the groups is gone through, and how many of it a step has."""
        recipe = self.recipe

        def fair(whole: int) -> int:
            return (place + 1) * whole // groups - place * whole // groups

        most = max(1, fair(recipe.limit)) if recipe.limit else len(numbers)
        count = min(math.ceil(len(numbers) * recipe.corpus_share), most)
        # a part of the corpora is drawn once, for all epochs, and with the seed of the order
        part = recipe.corpus_share < 1
        return _Order(
            numbers, count, fair(recipe.batch), Permutation(len(numbers), recipe.seed, _PART) if part else None
        )

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
        made: list[tuple[Batch | None, list[Lost]]] = []
        shares = [self._shared(self._drawn(order, step)) for order in self._orders]
        # what is drawn for pictures: groups come to their ends at different steps, even within one
        draw = step // self.per_epoch if len(self._orders) == 1 else step
        for part in range(self.recipe.accumulate):
            for drawn in shares:
                cut = np.array_split(drawn, self.recipe.accumulate)[part]
                examples = [self._example(number, epoch) for number, epoch in cut.tolist()]
                made += [self._batch(some, draw) for some in self._by_kind(examples)]
        return [batch for batch, _ in made if batch is not None], [lost for _, some in made for lost in some]

    def _drawn(self, order: _Order, step: int) -> NDArray[np.int64]:
        """Return the examples of a group that a step has, as number and epoch, [n, 2]."""
        if len(self._orders) == 1:
            epoch, place = divmod(step, self.per_epoch)
            first = epoch * order.epoch + place * order.batch
            places = np.arange(first, min(first + order.batch, (epoch + 1) * order.epoch))
        else:
            places = np.arange(step * order.batch, (step + 1) * order.batch)
        epochs, inside = np.divmod(places, order.epoch)
        found = [order.at(inside[epochs == epoch], self.recipe.seed, epoch) for epoch in np.unique(epochs).tolist()]
        return np.stack([np.concatenate(found), epochs], axis=1)

    def _shared(self, drawn: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return this process's share of what was drawn."""
        each = -(-len(drawn) // self.share.processes)
        return drawn[np.arange(self.share.process, each * self.share.processes, self.share.processes) % len(drawn)]

    def _example(self, number: int, epoch: int) -> Example:
        found = self.examples.example(number, epoch)
        kind = _kind(found)
        if (wanted := learned_as(kind, self.kinds)) == kind:
            return found
        return replace(found, images=()) if wanted == "texts" else replace(found, texts=())

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

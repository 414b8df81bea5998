"""From examples to batches: laid out as pairs, ordered by seed, any step reachable at once.

An example is laid out as images x texts pairs (VQA 1 x 1, NLVR2 2 x 1, VCR 1 x 4). Images and texts that several
pairs share are held, and encoded, once.
"""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vlbench.recipe import Recipe
from vlbench.types import Batch, Example, Fault, Image, Text

Order = NDArray[np.int64]
Built = TypeVar("Built")
"""What is built for a step."""


class LoadsImages(Protocol):
    """Where images come from (images.py)."""

    def load(self, keys: Sequence[str], draw: int = 0) -> Image:
        """Return the images of the keys, in order; ``draw`` numbers what is drawn at random."""


class Encodes(Protocol):
    """What turns texts into word pieces (words.py)."""

    padding: int

    def encode(self, texts: Sequence[str], length: int) -> list[list[int]]:
        """Return the ids of each text."""


class Share(NamedTuple):
    """Which of several processes this is."""

    process: int = 0
    processes: int = 1


class Collator:
    """Lays examples out as a batch."""

    def __init__(
        self,
        images: LoadsImages,
        words: Encodes,
        *,
        length: int,
        answers: int = 0,
        target: Callable[[Example], Mapping[int, float] | int | None] | None = None,
        points: bool = False,
        clean: Callable[[str], str] | None = None,
        keeps: bool = True,
    ) -> None:
        """``keeps``: texts stay in memory as word pieces once they are cut; not where there are millions of them."""
        self.images, self.words, self.length = images, words, length
        self.answers, self.target, self.points, self.clean = answers, target, points, clean
        self.keeps = keeps
        self.pieces: dict[str, list[int]] = {}

    def learn(self, texts: Sequence[str]) -> None:
        """Cut texts into word pieces once, before any batch is made."""
        fresh = list(dict.fromkeys(text for text in texts if text not in self.pieces))
        read = [self.clean(text) for text in fresh] if self.clean else fresh
        self.pieces.update(zip(fresh, self.words.encode(read, self.length), strict=True))

    def __call__(self, examples: Sequence[Example], draw: int = 0) -> Batch:
        """Lay out examples that all have as many images and as many texts; ``draw``: as for the images."""
        if not examples[0].images:
            return self._texts_alone(examples)
        if not examples[0].texts:
            return self._images_alone(examples, draw)
        fold = (len(examples[0].images), len(examples[0].texts))
        shown = [key for example in examples for key in example.images for _ in example.texts]
        said = [text for example in examples for _ in example.images for text in example.texts]
        keys, image_rows = _distinct(shown)
        texts, text_rows = _distinct(said)
        image = self._load(keys, image_rows, draw)
        ids = tuple(example.id for example in examples)
        target = self._places(examples, image) if self.points else self._target(examples)
        return Batch(ids, image, self.lay_out(texts, text_rows), target, fold)

    def _texts_alone(self, examples: Sequence[Example]) -> Batch:
        texts, rows = _distinct([text for example in examples for text in example.texts])
        ids = tuple(example.id for example in examples)
        return Batch(ids, Image(torch.zeros(0)), self.lay_out(texts, rows), None, (0, len(examples[0].texts)))

    def _images_alone(self, examples: Sequence[Example], draw: int) -> Batch:
        keys, rows = _distinct([key for example in examples for key in example.images])
        ids = tuple(example.id for example in examples)
        nothing = Text(torch.zeros(0, 0, dtype=torch.long), torch.zeros(0, 0, dtype=torch.bool))
        return Batch(ids, self._load(keys, rows, draw), nothing, None, (len(examples[0].images), 0))

    def _load(self, keys: Sequence[str], rows: Tensor | None, draw: int) -> Image:
        return self.images.load(keys, draw)._replace(rows=rows, ids=torch.tensor(list(map(identity, keys))))

    def lay_out(self, texts: Sequence[str], rows: Tensor | None = None) -> Text:
        """Lay texts out as word pieces, padded to the longest."""
        if not self.keeps:
            self.pieces.clear()
        self.learn(texts)
        pieces = [self.pieces[text] for text in texts]
        longest = max(len(piece) for piece in pieces)
        tokens = torch.full((len(pieces), longest), self.words.padding)
        for row, piece in enumerate(pieces):
            tokens[row, : len(piece)] = torch.tensor(piece)
        lengths = torch.tensor([len(piece) for piece in pieces])
        return Text(tokens, torch.arange(longest) < lengths[:, None], rows)

    def _target(self, examples: Sequence[Example]) -> Tensor | None:
        if self.target is None:
            return None
        wanted = [self.target(example) for example in examples]
        if isinstance(wanted[0], int):
            return torch.tensor(wanted)
        scores = torch.zeros(len(examples), self.answers)
        for row, soft in enumerate(wanted):
            for answer, score in soft.items() if isinstance(soft, Mapping) else ():
                scores[row, answer] = score
        return scores

    def _places(self, examples: Sequence[Example], image: Image) -> Tensor | None:
        """Score each region [B, R] by how far it overlaps the box that is meant, 0 below a half (ViLBERT's loader)."""
        if any(not isinstance(example.answer, tuple) for example in examples):
            return None  # the answers of this split are not public
        if image.boxes is None:
            raise Fault("pointing needs images with regions", "choose a method, or a size of it, that sees regions")
        boxes = image.boxes if image.rows is None else image.boxes[image.rows]
        wanted = torch.tensor([example.answer for example in examples], dtype=boxes.dtype)
        overlaps = overlap(boxes, wanted[:, None])
        if image.mask is not None:
            overlaps = overlaps * (image.mask if image.rows is None else image.mask[image.rows])
        return torch.where(overlaps >= 0.5, overlaps, 0.0)


def overlap(boxes: Tensor, others: Tensor) -> Tensor:
    """Return intersection over union of boxes [..., 4] (x1, y1, x2, y2), 0 where both are empty."""
    left = torch.maximum(boxes[..., :2], others[..., :2])
    right = torch.minimum(boxes[..., 2:], others[..., 2:])
    inside = (right - left).clamp(min=0).prod(-1)
    areas = [(each[..., 2:] - each[..., :2]).clamp(min=0).prod(-1) for each in (boxes, others)]
    return inside / (areas[0] + areas[1] - inside).clamp(min=1e-12)


def identity(key: str) -> int:
    """Number an image by its key, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=7).digest())


def _distinct(keys: Sequence[str]) -> tuple[list[str], Tensor | None]:
    """Return the distinct keys and which of them each place has; None where all differ."""
    place = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    if len(place) == len(keys):
        return list(place), None
    return list(place), torch.tensor([place[key] for key in keys])


class Feed:
    """The batches of a training run by step; the order is a function of the seed alone."""

    def __init__(
        self, examples: Sequence[Example], collate: Collator, recipe: Recipe, *, share: Share | None = None
    ) -> None:
        self.examples, self.collate, self.recipe = examples, collate, recipe
        self.share = share or Share()
        collate.learn([text for example in examples for text in example.texts])
        self.lengths = np.array([max(len(collate.pieces[t]) for t in e.texts) for e in examples])
        shown = list(dict.fromkeys(example.images for example in examples))
        place = {images: number for number, images in enumerate(shown)}
        self.image_of = np.array([place[example.images] for example in examples])
        self.per_epoch = -(-len(examples) // recipe.batch)
        self._epoch: tuple[int, list[Order]] = (-1, [])

    def steps(self, first: int, last: int) -> Iterator[Sequence[Batch]]:
        """Yield the parts of each step's batch, from step ``first`` to before ``last``."""
        yield from ahead(self.parts, first, last, self.recipe.workers)

    def examples_until(self, step: int) -> int:
        """Count the examples seen before a step."""
        epochs, rest = divmod(step, self.per_epoch)
        return epochs * len(self.examples) + sum(len(order) for order in self.order(epochs)[:rest])

    def order(self, epoch: int) -> list[Order]:
        """Return the batches of an epoch as example numbers."""
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._shuffle(np.random.default_rng([self.recipe.seed, epoch])))
        return self._epoch[1]

    def _shuffle(self, generator: np.random.Generator) -> list[Order]:
        order = generator.permutation(len(self.examples))
        if self.recipe.by_image:  # shuffle the images; the questions of one stand together
            rank = generator.permutation(int(self.image_of.max()) + 1)
            order = order[np.argsort(rank[self.image_of[order]], kind="stable")]
        elif self.recipe.by_length:  # texts of like length within a window of batches
            window = 64 * self.recipe.batch
            parts = [order[start : start + window] for start in range(0, len(order), window)]
            order = np.concatenate([part[np.argsort(self.lengths[part], kind="stable")] for part in parts])
        batches = [order[start : start + self.recipe.batch] for start in range(0, len(order), self.recipe.batch)]
        return [batches[number] for number in generator.permutation(len(batches))]

    def parts(self, step: int) -> list[Batch]:
        """Build the batches of one step: this process's share, cut in as many parts as are accumulated."""
        epoch, place = divmod(step, self.per_epoch)
        numbers = self.order(epoch)[place][self.share.process :: self.share.processes]
        cut = [part for part in np.array_split(numbers, self.recipe.accumulate) if len(part)]
        return [self.collate([self.examples[number] for number in part], epoch) for part in cut]


def ahead(build: Callable[[int], Built], first: int, last: int, workers: int) -> Iterator[Built]:
    """Yield what is built for each step, in order; ``workers`` processes build ahead of the one that trains."""
    yield from DataLoader(
        _Steps(build),
        batch_size=None,
        sampler=range(first, last),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_left_to_the_parent,
        generator=torch.Generator(),  # else it draws from the one of dropout, once more whenever a run goes on
    )


def _left_to_the_parent(worker: int) -> None:
    """Let a signal to all processes of a command be the parent's to act on: it may want its batches to the step's end.

    Workers end when it lets go of them, or is gone.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


class _Steps(Dataset[Built]):
    """Steps as a map-style data set, so that worker processes can build them."""

    def __init__(self, build: Callable[[int], Built]) -> None:
        self.build = build

    def __getitem__(self, step: int) -> Built:
        return self.build(step)


def in_order(
    examples: Sequence[Example], collate: Collator, size: int, *, share: Share | None = None
) -> Iterator[Batch]:
    """Yield batches for evaluation: texts of like length together, each example once."""
    process, processes = share or Share()
    collate.learn([text for example in examples for text in example.texts])
    longest = [max(len(collate.pieces[text]) for text in example.texts) for example in examples]
    numbers = sorted(range(len(examples)), key=longest.__getitem__)[process::processes]
    for start in range(0, len(numbers), size):
        yield collate([examples[number] for number in numbers[start : start + size]])

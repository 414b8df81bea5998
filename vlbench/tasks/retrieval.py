"""Retrieval: which text belongs to an image, and which image to a text, among all of a split.

First every image is asked with each of its own texts: that gives all embeddings. A method that also fuses is then
asked the best candidates of each image and text (all pairs, where it has no embeddings): ``follow_up``. Zero-shot
retrieval is the same task, evaluated without training.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vlbench.cards import DatasetCard
from vlbench.metrics.intervals import Estimate, mean_interval
from vlbench.metrics.retrieval import KS, SCORER, hits, mean_of_means, rank, recalls
from vlbench.record import Score
from vlbench.tasks.base import OfficialFiles, Task, needed
from vlbench.tasks.caption_sources import CaptionFiles
from vlbench.tasks.karpathy_files import Pictured, read_pictured
from vlbench.tasks.records import read_bytes
from vlbench.tasks.retrieval_answers import check_pool
from vlbench.tasks.retrieval_scores import (
    Both,
    Matrix,
    Pairs,
    Pool,
    image_of,
    pair_id,
    read_scores,
    text_of,
    write_scores,
)
from vlbench.types import Answer, BadData, Example, Form, Misuse, Vectors, nearest

_WIDTH = 64
"""Of the embeddings that the random order is made of."""


class Retrieval(Task):
    """Retrieval between images and texts."""

    form: ClassVar[Form] = "match"
    answers_suffix: ClassVar[str] = "npz"
    score_options: ClassVar[tuple[str, ...]] = ("annotations", "pool")

    def __init__(self, card: DatasetCard, folder: Path) -> None:
        super().__init__(card, folder)
        self.sources = CaptionFiles(card, self.folder)
        self._examples: dict[str, list[Example]] = {}

    def examples(self, split: str) -> Sequence[Example]:
        """List every image with each of its own texts, image by image."""
        self.split(split)
        if split not in self._examples:
            self._examples[split] = [pair for one in self.sources.read(split).values() for pair in _own_pairs(one)]
        return self._examples[split]

    def follow_up(self, given: Mapping[str, Answer]) -> Sequence[Example]:
        """Ask the pairs that are to be fused and have not been: none, where the method cannot fuse."""
        asked = self._answered_pairs(given)
        if not asked:
            return ()
        matrix = self._matrix(given, asked)
        wanted = np.divmod(matrix.wanted(self.card.candidates), len(matrix.pool.texts))
        if not len(wanted[0]):
            return ()
        first = np.unique(matrix.pool.owner, return_index=True)[1]
        return Pairs([asked[at] for at in first.tolist()], asked, wanted)

    def counted(self, given: Mapping[str, Answer], split: str) -> Set[str]:
        """Name the own pairs of the pool that is searched: a smaller one where all pairs had to be fused."""
        pool = self._matrix(given, self._answered_pairs(given)).pool
        return {pair_id(pool.images[at], text) for at, text in zip(pool.owner.tolist(), pool.texts, strict=True)}

    def score(self, given: Mapping[str, Answer], split: str, scorer: str = "") -> dict[str, Score]:
        """Score answers to the pairs of both rounds: recalls, and their mean, with intervals over images.

        They all count the texts of the pool, of which each has its image.
        """
        version = self.version(scorer)
        both = self._both(given, split)
        owner = both.pool.owner
        ranks = rank(both.to_text, owner, both.to_image)
        texts, images = (np.stack([hits(one, k) for k in KS], axis=1) for one in ranks)
        found = {"r_mean": mean_of_means(texts.mean(axis=1), images.mean(axis=1), owner)}
        found |= {f"tr_r{k}": mean_interval(texts[:, column]) for column, k in enumerate(KS)}
        found |= {f"ir_r{k}": mean_interval(images[:, column], owner) for column, k in enumerate(KS)}
        return {name: _score(one, len(owner), version) for name, one in found.items()}

    def version(self, scorer: str) -> str:
        """Return the scorer to use; Misuse where there is no such scorer."""
        if scorer not in ("", SCORER):
            raise Misuse(f"{self.card.name} has no scorer '{scorer}'; {nearest(scorer, [SCORER])}")
        return SCORER

    def answers_content(self, given: Mapping[str, Answer], split: str) -> bytes:
        """Return the scores of all images with all texts, as numpy's .npz."""
        return write_scores(self._both(given, split))

    def files(self, split: str) -> dict[str, Path]:
        """Return the files that a split is read from."""
        self.split(split)
        return self.sources.files(split)

    def image_files(self, split: str) -> dict[str, Path]:
        """Return the image files of a split that are here, by image key."""
        self.split(split)
        return self.sources.images(split)

    def controls(self, split: str, train_splits: Iterable[str]) -> dict[str, Mapping[str, Answer]]:
        """Answer a split without looking: ``prior`` puts images and texts in a random order, always the same."""
        draw = np.random.default_rng(0)
        vectors: dict[str, NDArray[np.float64]] = {}
        found: dict[str, Answer] = {}
        for example in self.examples(split):
            image = vectors.setdefault(image_of(example.id), draw.standard_normal(_WIDTH))
            found[example.id] = Vectors(image, draw.standard_normal(_WIDTH))
        return {"prior": found}

    @classmethod
    def score_files(cls, files: OfficialFiles) -> dict[str, object]:
        """Score an answer file against the captions of a split, which its ids name; or of some images of it."""
        path = needed(files, "annotations", "retrieval")
        if files.scorer not in ("", SCORER):
            raise Misuse(f"no scorer is called '{files.scorer}'; {nearest(files.scorer, [SCORER])}")
        said = read_scores(read_bytes(files.answers), str(files.answers))
        images, owner, whole = check_pool(said, read_pictured(path), files.answers, path, pool=files.pool)
        to_image = None if said.to_image is None else said.to_image[images]
        found = recalls(said.to_text[images], owner, to_image)
        note = f"searched among {len(images):,} of the {whole:,} images of the split: not comparable with all of them"
        names = [f"{way}_r{k}" for way in ("tr", "ir") for k in KS]
        return {
            "r_mean": found.mean,
            **dict(zip(names, (*found.texts, *found.images), strict=True)),
            "rsum": found.total,
            "count": len(owner),
            "images": len(images),
            "images_of_the_split": whole,
            "scorer": SCORER,
            **({"notes": [note]} if len(images) < whole else {}),
        }

    def _answered_pairs(self, given: Mapping[str, Answer]) -> list[Example]:
        """Return the own pairs that were answered, of the split that they are of."""
        for split in self._examples or self.splits:
            found = [example for example in self.examples(split) if example.id in given]
            if found:
                return found
        return []

    def _both(self, given: Mapping[str, Answer], split: str) -> Both:
        asked = [example for example in self.examples(split) if example.id in given]
        if not asked:
            raise BadData("there is no answer to score")
        return self._matrix(given, asked).scores(self.card.candidates)

    def _matrix(self, given: Mapping[str, Answer], asked: Sequence[Example]) -> Matrix:
        places: dict[str, int] = {}
        owner = np.array([places.setdefault(image_of(example.id), len(places)) for example in asked], np.int64)
        pool = Pool(list(places), [text_of(example.id) for example in asked], owner)
        return Matrix(given, pool, [example.id for example in asked], self.card.pool)


def _own_pairs(one: Pictured) -> list[Example]:
    pairs = zip(one.caption_ids, one.captions, strict=True)
    return [Example(pair_id(one.id, identity), (one.key,), (text,)) for identity, text in pairs]


def _score(found: Estimate, count: int, scorer: str) -> Score:
    assert found.low is not None  # only estimates over seeds lack bounds
    assert found.high is not None
    return Score(value=100 * found.value, low=100 * found.low, high=100 * found.high, count=count, scorer=scorer)

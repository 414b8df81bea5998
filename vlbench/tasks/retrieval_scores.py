"""Scores of every image with every text: as a run's answers give them, and as an answer file holds them.

A method that embeds is ranked by the inner product of its embeddings. Where it also fuses (ALBEF, BLIP), the best
candidates of each image and of each text are ranked anew by how well they match, and all others come last, as in
ALBEF's and BLIP's evaluation, which gives those -100. So the two directions differ: a pair that was looked at for
its image counts among the images of its text only if it is one of that text's candidates too.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlbench.tasks.reading import describe, listed, refuse
from vlbench.tasks.records import check_once
from vlbench.types import Answer, BadData, Example, Vectors

Floats32 = NDArray[np.float32]
Scores = NDArray[np.floating]
Integers = NDArray[np.int64]

LAST = -np.inf
"""The score of what is not looked at."""
FORM = "an answer file is an .npz with 'scores' [images, texts], 'image_ids' and 'text_ids'"


class Pool(NamedTuple):
    """The images and texts of a split that are searched, in order."""

    images: Sequence[str]
    texts: Sequence[str]
    owner: Integers
    """[texts]: the place of each text's image."""

    def first(self, count: int) -> Pool:
        """Return the pool of the first so many images; of all where it is 0."""
        if not count or count >= len(self.images):
            return self
        here = np.flatnonzero(self.owner < count)
        return Pool(self.images[:count], [self.texts[at] for at in here.tolist()], self.owner[here])


class Both(NamedTuple):
    """Scores of all pairs of a pool."""

    pool: Pool
    to_text: Scores
    """[images, texts]: what an image ranks texts by."""
    to_image: Scores | None = None
    """[images, texts]: what a text ranks images by, where that differs."""


class Pairs(Sequence[Example]):
    """Pairs of an image and a text to be asked: millions, each made when it is looked at."""

    def __init__(self, images: Sequence[Example], texts: Sequence[Example], places: tuple[Integers, Integers]) -> None:
        """Take an example of each image and of each text, and the places [P] of the pairs among them."""
        self._images, self._texts, self._places = images, texts, places

    def __len__(self) -> int:
        return len(self._places[0])

    def __getitem__(self, at: int) -> Example:  # type: ignore[override]  # nobody slices it
        image, text = self._images[self._places[0][at]], self._texts[self._places[1][at]]
        return Example(pair_id(image_of(image.id), text_of(text.id)), image.images, text.texts)


def pair_id(image: str, text: str) -> str:
    """Name a pair."""
    return f"{image}|{text}"


def image_of(pair: str) -> str:
    """Return the image of a pair's name."""
    return pair.rpartition("|")[0]


def text_of(pair: str) -> str:
    """Return the text of a pair's name."""
    return pair.rpartition("|")[2]


class Matrix:
    """What a run's answers say of the pairs of a pool."""

    def __init__(self, given: Mapping[str, Answer], pool: Pool, own: Sequence[str], most: int) -> None:
        """Take answers by pair; ``own``: the pair of each text with its image; ``most``: the card's ``pool``.

        BadData where an answer is none, or of a pair that is not of the pool.
        """
        self.given = given
        self.embeds = _embeds([given[pair] for pair in own], own)
        self.own = own
        self.whole, self.pool = pool, pool if self.embeds else pool.first(most)

    @cached_property
    def fused(self) -> tuple[Integers, Scores]:
        """The pairs that were fused, as places ``image * texts + text`` in order, and how well they match."""
        image_at = {name: at * len(self.pool.texts) for at, name in enumerate(self.pool.images)}
        text_at = {name: at for at, name in enumerate(self.pool.texts)}
        places, matches, others = [], [], []
        for pair, answer in self.given.items():
            image, _, text = pair.rpartition("|")
            match = _vectors(answer, pair).match
            if image not in image_at or text not in text_at:
                others.append(pair)
            elif match is not None:
                places.append(image_at[image] + text_at[text])
                matches.append(match)
        images, texts = frozenset(self.whole.images), frozenset(self.whole.texts)
        unknown = [pair for pair in others if image_of(pair) not in images or text_of(pair) not in texts]
        refuse("answers", "pairs of images and texts that the split does not hold", unknown)
        order = np.argsort(np.asarray(places, np.int64), kind="stable")
        exact = np.asarray(matches, np.float64)[order]
        short = exact.astype(np.float32)
        # Probabilities close to 1 are told apart by digits that a short number has not.
        return np.asarray(places, np.int64)[order], short if np.array_equal(short, exact) else exact

    @cached_property
    def likeness(self) -> Floats32:
        """The inner product of every image's embedding and every text's, [images, texts]."""
        first = np.unique(self.pool.owner, return_index=True)[1]
        images = _stacked([_image_vector(self.given[self.own[at]]) for at in first.tolist()])
        texts = _stacked([_text_vector(self.given[pair]) for pair in self.own])
        if images.shape[1] != texts.shape[1]:
            raise BadData(f"answers: embeddings of images [{images.shape[1]}], but of texts [{texts.shape[1]}]")
        found: Floats32 = images @ texts.T
        if not np.isfinite(found).all():
            raise BadData("the embeddings of images and texts hold what is no number", "was the training stable?")
        return found

    def candidates(self, count: int) -> tuple[Integers, Integers]:
        """Return, as places, the best texts of each image and the best images of each text by likeness."""
        images, texts = self.likeness.shape
        of_images = _best(self.likeness, count) + np.arange(images)[:, None] * texts
        of_texts = _best(self.likeness.T, count) * texts + np.arange(texts)[:, None]
        return of_images.ravel(), of_texts.ravel()

    def wanted(self, count: int) -> Integers:
        """Return the pairs to be fused, as places in order, that have not been; none where nothing can be fused."""
        done = self.fused[0]
        if not len(done):
            return done
        if self.embeds:
            # Counted, though nobody asks for counts: numpy sorts for them, which is faster than how it does without.
            every = np.unique(np.concatenate(self.candidates(count)), return_counts=True)[0]
        else:
            every = np.arange(len(self.pool.images) * len(self.pool.texts))
        return every[~np.isin(every, done, assume_unique=True)]

    def scores(self, count: int) -> Both:
        """Return the scores of all pairs; BadData where a pair that counts was not answered."""
        if not len(self.fused[0]):
            return Both(self.pool, self.likeness)
        if not self.embeds:
            return Both(self.pool, self._laid_out(np.arange(len(self.pool.images) * len(self.pool.texts))))
        of_images, of_texts = self.candidates(count)
        return Both(self.pool, self._laid_out(of_images), self._laid_out(of_texts))

    def _laid_out(self, wanted: Integers) -> Scores:
        """Lay out how well some pairs match, all others being last."""
        places, matches = self.fused
        at = np.minimum(np.searchsorted(places, wanted), len(places) - 1)
        missing = wanted[places[at] != wanted]
        if len(missing):
            pairs = (divmod(place, len(self.pool.texts)) for place in missing[:10].tolist())
            shown = ", ".join(pair_id(self.pool.images[image], self.pool.texts[text]) for image, text in pairs)
            raise BadData(f"answers: {len(missing)} pairs that count were not fused, such as {shown}")
        found = np.full(len(self.pool.images) * len(self.pool.texts), LAST, matches.dtype)
        found[wanted] = matches[at]
        return found.reshape(len(self.pool.images), -1)


def _best(likeness: Floats32, count: int) -> Integers:
    """Return the places of the best of each row, in any order: [rows, count]."""
    count = min(count, likeness.shape[1])
    parts = (np.argpartition(-part, count - 1, axis=1)[:, :count] for part in _blocks(likeness))
    return np.concatenate(list(parts)).astype(np.int64)


def _blocks(rows: Floats32, size: int = 1 << 22) -> Iterator[Floats32]:
    step = max(1, size // max(1, rows.shape[1]))
    return (rows[start : start + step] for start in range(0, len(rows), step))


def _embeds(answers: Sequence[Answer], pairs: Sequence[str]) -> bool:
    """Say whether a method embeds; BadData where it does for some pairs only."""
    without = [pair for pair, answer in zip(pairs, answers, strict=True) if not _is_whole(_vectors(answer, pair))]
    if without and len(without) < len(pairs):
        raise BadData(f"answers: embeddings of an image and a text are missing for {listed(without)}")
    bare = [pair for pair, answer in zip(pairs, answers, strict=True) if _vectors(answer, pair).match is None]
    if without and bare:
        raise BadData(f"answers: neither embeddings nor how well it matches for {listed(bare)}")
    return not without


def _is_whole(answer: Vectors) -> bool:
    return answer.image is not None and answer.text is not None


def _vectors(answer: Answer, pair: str) -> Vectors:
    if not isinstance(answer, Vectors):
        raise BadData(f"the answer to {pair} is {describe(answer)}, neither embeddings nor how well the pair matches")
    if answer.match is not None and not math.isfinite(answer.match):
        raise BadData(f"how well the pair {pair} matches came out as {answer.match}")
    return answer


def _image_vector(answer: Answer) -> NDArray[np.generic]:
    assert isinstance(answer, Vectors)
    assert answer.image is not None
    return answer.image


def _text_vector(answer: Answer) -> NDArray[np.generic]:
    assert isinstance(answer, Vectors)
    assert answer.text is not None
    return answer.text


def _stacked(vectors: Sequence[NDArray[np.generic]]) -> Floats32:
    shapes = {np.shape(vector) for vector in vectors}
    if len(shapes) > 1 or len(next(iter(shapes))) != 1:
        raise BadData(f"answers: embeddings of the shapes {sorted(shapes)[:3]}, but they should be rows of one length")
    return np.stack(vectors).astype(np.float32)


def write_scores(both: Both) -> bytes:
    """Write scores as an answer file; ``scores_t2i`` [texts, images] where texts rank by others."""
    file = io.BytesIO()
    parts = {"scores": both.to_text, "image_ids": np.array(both.pool.images), "text_ids": np.array(both.pool.texts)}
    if both.to_image is not None:
        parts["scores_t2i"] = both.to_image.T
    np.savez(file, **parts)  # type: ignore[arg-type]  # numpy's stub takes the names for its own options
    return file.getvalue()


_DAMAGES = (
    *(ValueError, TypeError, OSError, EOFError, LookupError, OverflowError, MemoryError, RuntimeError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)
"""What numpy and the archive may raise of a file that is damaged, encrypted or no archive."""


_MAGIC = (b"PK", b"\x93NUMPY")
"""What an .npz begins with, and an .npy, which is told apart below."""


class AnswerFile(NamedTuple):
    """An answer file as it is."""

    images: Sequence[str]
    texts: Sequence[str]
    to_text: NDArray[np.floating]
    """[images, texts]."""
    to_image: NDArray[np.floating] | None
    """[images, texts], where texts rank by others."""


def read_scores(content: bytes, where: str) -> AnswerFile:
    """Read an answer file; nothing in it is unpickled."""
    if not content.startswith(_MAGIC):  # else numpy speaks of an option of its own
        raise BadData(f"{where}: not readable as .npz: it is no archive, or cut short", FORM)
    try:
        packed = np.load(io.BytesIO(content), allow_pickle=False)
        if not isinstance(packed, np.lib.npyio.NpzFile):
            raise BadData(f"{where}: holds one array without a name", FORM)
        parts = {name: packed[name] for name in packed.files}
    except _DAMAGES as error:
        wrong = (str(error).strip().splitlines() or ["it is cut short"])[0]
        wrong = "it holds pickled objects, which are never opened" if "pickle" in wrong else wrong
        raise BadData(f"{where}: not readable as .npz: {wrong}", FORM) from None
    known = ("scores", "image_ids", "text_ids")
    refuse(where, "arrays that are missing", [name for name in known if name not in parts], FORM)
    images, texts = _ids(parts["image_ids"], "image_ids", where), _ids(parts["text_ids"], "text_ids", where)
    to_text = _scores(parts["scores"], "scores", (len(images), len(texts)), where)
    other = parts.get("scores_t2i")
    to_image = None if other is None else _scores(other, "scores_t2i", (len(texts), len(images)), where).T
    return AnswerFile(images, texts, to_text, to_image)


def _ids(array: NDArray[np.generic], name: str, where: str) -> list[str]:
    if array.ndim != 1 or array.dtype.kind not in "iuU":
        raise BadData(f"{where}: '{name}' should be a row of numbers or texts, found {array.dtype} {array.shape}", FORM)
    found = [str(one) for one in array.tolist()]
    check_once(found, where, f"ids that come more than once in '{name}'")
    return found


def _scores(array: NDArray[np.generic], name: str, shape: tuple[int, int], where: str) -> NDArray[np.floating]:
    if array.dtype.kind not in "fiu" or array.shape != shape:
        found = f"{array.dtype} {list(array.shape)}"
        raise BadData(f"{where}: '{name}' should be numbers of the shape {list(shape)}, found {found}", FORM)
    scores: NDArray[np.floating] = array if array.dtype.kind == "f" else array.astype(np.float64)  # type: ignore[assignment]
    if any(np.isnan(row).any() for row in scores):
        raise BadData(f"{where}: '{name}' holds what is no number")
    return scores

"""BLEU, ROUGE-L and CIDEr-D of captions, as the COCO caption evaluation computes them.

Papineni et al. 2002; Lin 2004; Vedantam et al. 2015 (arXiv 1411.5726). They take tokenised captions
(caption_words.py), one hypothesis an image and any number of references. What the evaluation does and the papers do
not say is kept: BLEU adds a tiny count so that nothing is ever 0 or divided by 0; ROUGE-L takes its best precision
and its best recall from different references; CIDEr-D counts documents among the references of the images at hand,
so that it is 0 for a single image, and compares lengths by the number of word pairs.

N images, C references in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from operator import ne
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlbench.metrics.caption_matches import LONGEST as LONGEST
from vlbench.metrics.caption_matches import Matches, Spans, common_length, matches
from vlbench.metrics.caption_pieces import END, Numbering
from vlbench.metrics.caption_rarity import grams

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

SCORER = "coco-caption"
_TINY, _SMALL = 1e-15, 1e-9
"""What BLEU adds to counts of matches and of guesses."""
_BLANK, _LAST = ord(" "), ord("~")
_AT_ONCE = 1 << 11
"""So many texts are read at once; more would not stay near the processor."""
_BETA = 1.2
"""How much more ROUGE-L weighs recall."""
_SIGMA = 6.0
"""By how many word pairs captions may differ in length before CIDEr-D counts it much."""


class BleuCounts(NamedTuple):
    """What BLEU is made of; sums over images give the score of a set."""

    matched: Floats
    """[..., 4]: n-grams that are in a reference, at most as often as in the one that has most of them."""
    guessed: Floats
    """[..., 4]: n-grams there are."""
    length: Floats
    """[...]: words of the hypothesis."""
    wanted: Floats
    """[...]: words of the reference that is nearest in length, the shorter of two."""


def bleu(counts: BleuCounts) -> Floats:
    """Return BLEU-1 to BLEU-4, [..., 4], from 0 to 1."""
    precision = (counts.matched + _TINY) / (counts.guessed + _SMALL)
    means = np.cumprod(precision, axis=-1) ** (1 / np.arange(1, LONGEST + 1))
    ratio = (counts.length + _TINY) / (counts.wanted + _SMALL)
    return np.asarray(means * np.exp(np.minimum(0.0, 1 - 1 / ratio))[..., None], np.float64)


def bleu_of_sum(counts: BleuCounts, times: NDArray[np.number] | None = None) -> Floats:
    """Return BLEU of all images together, [4]; with ``times`` [B, N], how often each counts, [B, 4]."""
    if times is None:
        return bleu(BleuCounts(*(part.sum(axis=0) for part in counts)))
    return bleu(BleuCounts(*(np.asarray(times @ part, np.float64) for part in counts)))


class Captions:
    """The words of hypotheses and references, read and compared once for all three metrics."""

    def __init__(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        """Take tokenised captions; an image has at least one reference."""
        if len(hypotheses) != len(references) or not hypotheses or not all(references):
            wrong = f"{len(hypotheses)} hypotheses, {len(references)} lists of references; none may be empty"
            raise ValueError(wrong)
        self.texts = [*hypotheses, *chain.from_iterable(references)]
        self.images = len(hypotheses)
        self.shares = np.fromiter(map(len, references), np.int64, self.images)
        """[N]: references of each image."""
        self.owner = np.repeat(np.arange(self.images), self.shares)
        """[C]: the image of each reference."""
        self.words, self.odd = _read(self.texts)
        ends = np.flatnonzero(self.words == END)
        self.lengths = np.diff(ends, prepend=-1) - 1
        self.spans = Spans(ends - self.lengths, self.lengths)

    def bleu_counts(self) -> BleuCounts:
        """Count what BLEU is made of, for each image."""
        said, wanted = self.lengths[: self.images], self.lengths[self.images :]
        guessed = np.maximum(0, said[:, None] - np.arange(LONGEST)).astype(np.float64)
        # Nearest first, then shortest, as one number.
        far = np.abs(wanted - said[self.owner]) << 32 | wanted
        nearest = np.minimum.reduceat(far, self._starts) & 0xFFFFFFFF
        matched = self._matches.matched.T.astype(np.float64)
        return BleuCounts(matched, guessed, said.astype(np.float64), nearest.astype(np.float64))

    def rouge_l(self) -> Floats:
        """Return ROUGE-L of each image, [N], from 0 to 1."""
        said, wanted = self.lengths[: self.images][self.owner], self.lengths[self.images :].copy()
        common = self._matches.common.copy()
        # ROUGE-L cuts at every blank and at nothing else, and takes no words for one empty word.
        for at in np.flatnonzero(self.odd[self.owner] | self.odd[self.images :]).tolist():
            pair = [self.texts[place].split(" ") for place in (self.owner[at], self.images + at)]
            common[at], said[at], wanted[at] = common_length(*pair), *map(len, pair)
        precision = np.maximum.reduceat(common / said, self._starts)
        recall = np.maximum.reduceat(common / wanted, self._starts)
        weighed = recall + _BETA**2 * precision
        score = np.divide((1 + _BETA**2) * precision * recall, weighed, out=np.zeros(self.images), where=weighed > 0)
        return np.asarray(score, np.float64)

    def cider(self) -> Floats:
        """Return CIDEr-D of each image, [N], from 0 to 10; its mean is the score of the set."""
        pairs = np.maximum(0, self.lengths - 1)
        longer = pairs[: self.images][self.owner] - pairs[self.images :]
        near = self._alike() * np.exp(-(longer**2) / (2 * _SIGMA**2))
        total = np.bincount(self.owner, weights=near, minlength=self.images)
        return np.asarray(10 * total / LONGEST / self.shares, np.float64)

    def _alike(self) -> Floats:
        """Return how alike each reference and its hypothesis are, summed over the lengths of n-grams, [C]."""
        captions = len(self.texts)
        size, common = np.zeros((LONGEST, captions)), np.zeros((LONGEST, captions))
        image = np.concatenate([np.full(self.images, -1), self.owner])
        said = self._matches.times(len(self.words))
        for length, first, caption, times, rarity in grams(self.words, self.lengths, image):
            square = rarity * rarity
            np.add.at(size[length - 1], caption, times * square)
            shared = said[length - 1][first]
            met = np.flatnonzero(shared)
            np.add.at(common[length - 1], caption[met], np.minimum(shared[met], times[met]) * square[met])
        size = np.sqrt(size)
        size, common = size[:, : self.images][:, self.owner] * size[:, self.images :], common[:, self.images :]
        alike = np.divide(common, size, out=np.zeros(size.shape), where=size > 0).sum(axis=0)
        return np.asarray(alike, np.float64)

    @cached_property
    def _starts(self) -> Integers:
        return np.cumsum(self.shares) - self.shares

    @cached_property
    def _matches(self) -> Matches:
        said, wanted = self.spans.of(slice(self.images)), self.spans.of(slice(self.images, None))
        return matches(self.words, said, wanted, self.owner)


def _read(texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Number the words of texts, with ``END`` behind each; and say of each text if it is not plainly its words."""
    numbering, numbers, odd = Numbering(), [], np.zeros(len(texts), np.bool_)
    for at in range(0, len(texts), _AT_ONCE):
        part = plain = texts[at : at + _AT_ONCE]
        letters = np.frombuffer("".join(part).encode("utf-8", "surrogatepass"), np.uint8)
        # Some control characters and some of other scripts are blanks, too.
        if letters.min(initial=_BLANK) < _BLANK:
            plain = [" ".join(text.split()) for text in part]
        elif letters.max(initial=_BLANK) > _LAST:
            plain = [text if text.isascii() else " ".join(text.split()) for text in part]
        if plain is not part:
            odd[at : at + _AT_ONCE] = list(map(ne, plain, part))
        found = numbering.cut(*plain)
        numbers.append(found.numbers.astype(np.int32))
        if not found.tight:
            odd[at : at + _AT_ONCE] = [text.split(" ") != text.split() for text in part]
    return np.concatenate(numbers), odd

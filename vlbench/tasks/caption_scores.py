"""All metrics of a set of captions: with intervals for a record, or plain for ``vlbench score``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlbench.metrics.caption import LONGEST, BleuCounts, Captions, bleu_of_sum
from vlbench.metrics.caption_words import tokenise
from vlbench.metrics.intervals import LEVEL, RESAMPLES, mean_interval
from vlbench.metrics.meteor import Meteor, meteor
from vlbench.record import Score

Floats = NDArray[np.float64]
_HIGHEST = 10.0
"""Of CIDEr-D; shown in percent, as all are."""


class Found(NamedTuple):
    """The parts that the metrics of a set are made of."""

    cider: Floats
    """[N]."""
    bleu: BleuCounts
    rouge: Floats
    """[N]."""
    meteor: Meteor


def measure(said: Sequence[str], wanted: Sequence[Sequence[str]]) -> Found:
    """Measure captions as written, one an image, against those that people wrote."""
    hypotheses = tokenise(said)
    words = iter(tokenise(list(chain.from_iterable(wanted))))
    references = [list(islice(words, len(captions))) for captions in wanted]
    captions = Captions(hypotheses, references)
    return Found(captions.cider(), captions.bleu_counts(), captions.rouge_l(), meteor(hypotheses, references))


def metrics_of(said: Sequence[str], wanted: Sequence[Sequence[str]]) -> tuple[dict[str, float | None], list[str]]:
    """Return every metric in percent, the main one first, and why one is missing."""
    found = measure(said, wanted)
    values = bleu_of_sum(found.bleu)
    return {
        "cider": 100 * float(found.cider.mean()),
        **{f"bleu_{at + 1}": 100 * float(values[at]) for at in range(LONGEST)},
        "rouge_l": 100 * float(found.rouge.mean()),
        "meteor": None if found.meteor.value is None else 100 * found.meteor.value,
    }, [found.meteor.missing] * bool(found.meteor.missing)


def scores_of(
    said: Sequence[str], wanted: Sequence[Sequence[str]], scorer: str, labels: Sequence[str] = ()
) -> dict[str, Score]:
    """Return every metric with its interval over images; METEOR, where it is known, without.

    ``labels``: of every image, or none; each gets a CIDEr-D of its own, by how rare words are among all images.
    """
    found, count = measure(said, wanted), len(said)
    values, (low, high) = bleu_of_sum(found.bleu), bleu_interval(found.bleu)
    scores = {"cider": _mean(found.cider, _HIGHEST, scorer)}
    for at in range(LONGEST):
        bounds = 100 * float(min(low[at], values[at])), 100 * float(max(high[at], values[at]))
        scores[f"bleu_{at + 1}"] = Score(
            value=100 * float(values[at]), low=bounds[0], high=bounds[1], count=count, scorer=scorer
        )
    scores["rouge_l"] = _mean(found.rouge, 1.0, scorer)
    if found.meteor.value is not None:
        scores["meteor"] = Score(value=100 * found.meteor.value, count=count, scorer=scorer)
    own = np.array(labels)
    for label in sorted(set(labels) - {""}):
        scores[f"cider_{label}"] = _mean(found.cider[own == label], _HIGHEST, scorer)
    return scores


def bleu_interval(counts: BleuCounts, *, seed: int = 0) -> Floats:
    """Return the bounds of a 95 % interval of BLEU-1 to BLEU-4, [2, 4]: of sets of as many images, drawn from these."""
    images = len(counts.length)
    times = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=RESAMPLES)
    drawn = bleu_of_sum(counts, times.astype(np.float32))
    return np.asarray(np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0), np.float64)


def _mean(values: Floats, highest: float, scorer: str) -> Score:
    found = mean_interval(values, limits=(0.0, highest))
    assert found.low is not None  # only estimates over seeds lack bounds
    assert found.high is not None
    return Score(value=100 * found.value, low=100 * found.low, high=100 * found.high, count=values.size, scorer=scorer)

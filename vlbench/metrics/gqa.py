"""The GQA scores: are answers right, valid, plausible, consistent, distributed and grounded as they should be.

Hudson & Manning 2019 (arXiv 1902.09506), section 4.4, and the evaluator its authors hand out. Answers are compared
letter for letter. Only balanced questions count; others are looked at where balanced ones entail them. Questions are
held as columns (gqa_columns.py): N questions, all in arrays.

Oddities of the official evaluator are kept on purpose, and each is named where it happens.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from itertools import chain, compress, repeat
from operator import contains, itemgetter
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vlbench.metrics.gqa_columns import Codes, Column, Kind, Numbers, Questions

Floats = NDArray[np.float64]
Label = TypeVar("Label", str, int)
Region = tuple[float, float, float, float]
"""x1, y1, x2, y2."""

COMMON = frozenset(("color", "material", "shape"))
"""What things may have in common."""
_LAST_STEPS = ("exist", "query: name", "choose name")
MAP_SIZE = 7
"""Cells a side of an attention map over the official grid features."""


class Choices(NamedTuple):
    """Which answers to a question make sense."""

    valid: Container[str]
    """Those of the kind that is asked for, such as every colour."""
    plausible: Container[str]
    """Those that occur in the world, such as the colours that apples have."""


class Part(NamedTuple):
    """The accuracy in percent of some of the questions."""

    score: float
    questions: int


class Summary(NamedTuple):
    """All scores of balanced questions: in percent, but for the distribution, of which less is better."""

    accuracy: float
    binary: float
    open: float
    validity: float
    plausibility: float
    consistency: float
    grounding: float
    distribution: float
    per_structural_type: dict[str, Part]
    per_semantic_type: dict[str, Part]
    per_steps: dict[int, Part]
    per_length: dict[int, Part]
    """By the number of words."""


class NotAsked(LookupError):
    """Questions are entailed that are not among those asked; ``args`` holds their ids."""


def count_steps(program: Iterable[tuple[str, str]]) -> int:
    """Count the steps of a program (operation, argument) but those that only ask for what has been found."""
    steps = [f"{operation}: {argument}" for operation, argument in program]
    text = "\n".join(steps)
    if not any(last in text for last in _LAST_STEPS):
        return len(steps)
    return sum(not any(last in step for last in _LAST_STEPS) for step in steps)


def answer_codes(questions: Questions, answers: Sequence[str]) -> Codes:
    """Number answers [N] as the gold ones are; -1 where an answer is gold nowhere."""
    places = {answer: place for place, answer in enumerate(questions.answers.values)}
    return np.fromiter(map(places.get, answers, repeat(-1)), np.int32, len(answers))


def sensible(kinds: Column[Kind], answers: Sequence[str], choices: Sequence[Choices]) -> tuple[Floats, Floats]:
    """Tell of each answer [N] whether it is valid and whether it is plausible, 0 or 1."""
    sets = (map(itemgetter(at), choices) for at in range(2))
    valid, plausible = (np.fromiter(map(contains, each, answers), bool, len(answers)) for each in sets)
    # What things have in common has choices of its own, whatever the choices are.
    common = np.array(["Common" in kind.detailed for kind in kinds.values], bool)[kinds.codes]
    valid[common] = plausible[common] = list(map(COMMON.__contains__, compress(answers, common)))
    return valid.astype(np.float64), plausible.astype(np.float64)


def consistencies(questions: Questions, right: Floats) -> tuple[Numbers, Floats]:
    """Return the rows of balanced questions that are right and entail others, and the share of those that are right.

    No question counts as entailed by itself; one that is listed twice counts twice. NotAsked where a right one
    entails a question that is not among these.
    """
    premises, entailed = questions.links
    held = (questions.balanced & (right > 0))[premises]
    premises, entailed = premises[held], entailed[held]
    if len(lost := premises[entailed < 0]):
        named = chain.from_iterable(questions.entailed[row] for row in np.unique(lost).tolist())
        raise NotAsked(*dict.fromkeys(one for one in named if one not in questions.places))
    counts, sums = (np.bincount(premises, each, minlength=1) for each in (None, right[entailed]))
    rows = np.flatnonzero(counts)
    return rows, sums[rows] / counts[rows]


def distribution(groups: Column[str | None], gold: Codes, said: Codes) -> float:
    """Return how far answers are distributed from the gold ones within groups: chi-square / 100, by group size.

    ``gold`` and ``said``: codes of answers [N]. ValueError where no question has a group; the official evaluator
    fails there, too.
    """
    grouped = np.array([group is not None for group in groups.values], bool)[groups.codes]
    if not grouped.any():
        raise ValueError("no question has a group")
    width = int(max(gold.max(), said.max())) + 2
    inside = groups.codes[grouped].astype(np.int64) * width
    # Answers that are gold nowhere in the group are not looked at.
    pairs, expected = np.unique(inside + gold[grouped] + 1, return_counts=True)
    others, times = np.unique(inside + said[grouped] + 1, return_counts=True)
    place = np.minimum(np.searchsorted(others, pairs), len(others) - 1)
    found = np.where(others[place] == pairs, times[place], 0)
    squares = np.bincount(pairs // width, weights=(found - expected) ** 2 / expected)
    sizes = np.bincount(pairs // width, weights=expected)
    return float(squares @ sizes / sizes.sum()) / 100


def grounding(regions: Iterable[Region], attention: ArrayLike, size: int = MAP_SIZE) -> float:
    """Return how much attention [size, size], whose first axis is x, falls into regions (0 to 1); all add up.

    The official evaluator would add the whole image for questions on the scene, but its test for them is never
    true; and its branch for attention to objects fails. ValueError where the map is smaller.
    """
    weights = np.asarray(attention, np.float64)[:size, :size]
    if weights.shape != (size, size):
        raise ValueError(f"an attention map of {weights.shape} cells where {size} x {size} are wanted")
    starts = np.arange(size) / size
    ends = starts + 1 / size
    total = 0.0
    for x1, y1, x2, y2 in regions:
        across = np.clip(np.minimum(ends, x2) - np.maximum(starts, x1), 0, None)
        down = np.clip(np.minimum(ends, y2) - np.maximum(starts, y1), 0, None)
        total += float(across @ weights @ down) * size * size
    return total


def summarise(
    questions: Questions,
    answers: Sequence[str],
    choices: Sequence[Choices] = (),
    *,
    consistency: bool = False,
    groundings: Sequence[float] = (),
) -> Summary:
    """Score answers [N], of which those to other than balanced questions may be missing ("") without consistency.

    As in the official evaluator, 0 stands for what was not asked for, what has nothing to be averaged over, and
    validity and plausibility without choices [N]. ValueError where no question has a group; NotAsked where one is
    entailed that is not there.
    """
    codes, scored = answer_codes(questions, answers), questions.balanced
    each = (codes == questions.answers.codes).astype(np.float64)
    shares = consistencies(questions, each)[1] if consistency else each[:0]
    asked, right = questions.only(scored), each[scored]
    kinds = asked.kinds
    valid = plausible = each[:0]
    if choices:
        valid, plausible = sensible(kinds, list(compress(answers, scored)), list(compress(choices, scored)))
    forms = parts(right, kinds.codes, [kind.form for kind in kinds.values])
    return Summary(
        accuracy=_percent(right),
        binary=forms["binary"].score if "binary" in forms else 0.0,
        open=forms["open"].score if "open" in forms else 0.0,
        validity=_percent(valid),
        plausibility=_percent(plausible),
        consistency=_percent(shares),
        grounding=_percent(groundings),
        distribution=distribution(asked.groups, asked.answers.codes, codes[scored]),
        per_structural_type=parts(right, kinds.codes, [kind.structural for kind in kinds.values]),
        per_semantic_type=parts(right, kinds.codes, [kind.semantic for kind in kinds.values]),
        per_steps=parts(right, asked.steps, range(asked.steps.max(initial=0) + 1)),
        per_length=parts(right, asked.words, range(asked.words.max(initial=0) + 1)),
    )


def parts(right: Floats, codes: Codes | Numbers, labels: Sequence[Label]) -> dict[Label, Part]:
    """Average over the questions of each label; ``labels``: what each code stands for."""
    sums, counts = (np.bincount(codes, weights, minlength=len(labels)) for weights in (right, None))
    found: dict[Label, tuple[float, int]] = {}
    for label, total, count in zip(labels, sums.tolist(), counts.tolist(), strict=True):
        if count:
            before = found.get(label, (0.0, 0))
            found[label] = (before[0] + total, before[1] + count)
    return {label: Part(100 * (total / count), count) for label, (total, count) in found.items()}


def _percent(values: ArrayLike) -> float:
    # Adds up in the order of the file, as the evaluator does; numpy's mean does not.
    sums = np.cumsum(np.asarray(values, np.float64))
    return 100 * float(sums[-1] / len(sums)) if len(sums) else 0.0

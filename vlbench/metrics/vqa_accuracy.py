"""VQA accuracy: agreement with the people who answered, in every version that numbers are published in.

Antol et al. 2015 (arXiv 1505.00468): an answer is right in so far as three of the other annotators gave it,
averaged over leaving each annotator out. The versions differ in which strings they tidy before comparing:

- ``official-2021``: both sides, but only where the annotators disagree (the evaluator since March 2021);
- ``official-2015``: the answer always, the annotators' punctuation only where they disagree (before that);
- ``always-normalise``: both sides, always (several evaluation harnesses);
- ``soft``: nothing; the raw answer is looked up among the annotators' raw answers, 0.3 each up to 1;
- ``exact-match``: nothing; for data sets that hold one answer a question.

Files hold millions of answers but few different ones, so each is tidied once; then answers are numbers in arrays.
Oddities of the official evaluator are kept on purpose, and each is named where it happens.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Accuracies = NDArray[np.float64]
Codes = NDArray[np.int32]
Tidy = Callable[[str], str]


class Reference(NamedTuple):
    """What people answered to one question."""

    answers: tuple[str, ...]
    """Raw, as typed, one an annotator."""
    answer_type: str = ""
    question_type: str = ""
    records: tuple[int, ...] = ()
    """Equal numbers mark annotators whose records agree in all but the answer; empty where none do."""


class Summary(NamedTuple):
    """Accuracy in percent: over all questions and over each kind."""

    overall: float
    per_answer_type: dict[str, float]
    per_question_type: dict[str, float]


_ALL_LEFT_OUT = """
    ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd
    how'll how's isn't it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock
    oughtn't shan't should've shouldn't somebody'll somebody's someone'd someone'll someone's
    something'd something'll that's there'd there're there's they'd they'll they're they've 'twas
    wasn't we've weren't what'll what're what's what've when's where'd where's where've who'd who'll
    who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're you've
"""
_ONE_LEFT_OUT = """
    couldn't've hadn't've he'd've it'd've mightn't've she'd've shouldn't've somebody'd've someone'd've
    something'd've there'd've they'd've we'd've who'd've wouldn't've y'all'll y'all'd've you'd've 'ow's'at
"""


def _contractions() -> dict[str, str]:
    """Build the official table of 120 misspelt contractions from what they should read."""
    table = {word.replace("'", ""): word for word in _ALL_LEFT_OUT.split()}
    for word in _ONE_LEFT_OUT.split():
        table |= {word[:at] + word[at + 1 :]: word for at, mark in enumerate(word) if mark == "'"}
    # Mapped on themselves, the wrong way round, or never met because the text is in lower case by then.
    odd = {"let's": "let's", "she's": "she's", "somebody'd": "somebodyd", "Im": "I'm", "Ive": "I've"}
    return table | odd | {"Id've": "I'd've", "I'dve": "I'd've"}


CONTRACTIONS = _contractions()
_COUNTED = "zero one two three four five six seven eight nine ten"
NUMBERS = {"none": "0"} | {word: str(number) for number, word in enumerate(_COUNTED.split())}
ARTICLES = ("a", "an", "the")
PUNCTUATION = tuple(';/[]"{}()=+\\_-><@`,?!')
_MARKED = re.compile(f"[{re.escape(''.join(PUNCTUATION))}.]")
_THOUSANDS = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_PERIODS = 32
"""Only so many periods go: the evaluator passes a flag of this value where the count belongs."""


def clean(raw: str) -> str:
    """Turn line ends and tabs into blanks and drop outer ones; done by every version but soft."""
    return raw.replace("\n", " ").replace("\t", " ").strip()


def strip_punctuation(text: str) -> str:
    """Delete marks or turn them into blanks; which of the two is decided on the untouched text."""
    if not _MARKED.search(text):
        return text
    thousands = _THOUSANDS.search(text) is not None
    result = text
    for mark in PUNCTUATION:
        if mark in text:
            beside = f"{mark} " in text or f" {mark}" in text
            result = result.replace(mark, "" if thousands or beside else " ")
    return _PERIOD.sub("", result, count=_PERIODS)


def simplify_words(text: str) -> str:
    """Lower the case, write numbers as digits, drop articles, and then mend contractions."""
    words = (NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join([CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES])


def normalise_answer(raw: str) -> str:
    """Tidy an answer as the official evaluator does before it compares."""
    return simplify_words(strip_punctuation(clean(raw)))


def preprocess_answer(raw: str) -> str:
    """Tidy an answer as published answer vocabularies do: no cleaning first, no comma left."""
    return simplify_words(strip_punctuation(raw)).replace(",", "")


def _as_given(raw: str) -> str:
    return raw


def soft_score(count: int) -> float:
    """Score an answer that so many annotators gave: 0, 0.3, 0.6, 0.9, and 1 from four on."""
    return (0.0, 0.3, 0.6, 0.9, 1.0)[min(count, 4)]


def soft_targets(
    answers: Iterable[str], vocabulary: Collection[str] | None = None, *, normalise: bool = False
) -> dict[str, float]:
    """Score every answer given, or every one in the vocabulary, as published training targets do.

    The published targets count raw strings though the vocabulary is preprocessed: "Two." earns nothing there.
    ``normalise`` preprocesses the annotators' answers first.
    """
    counts = Counter(map(preprocess_answer, answers) if normalise else answers)
    return {a: soft_score(n) for a, n in counts.items() if vocabulary is None or a in vocabulary}


def answer_list(majority_answers: Iterable[str], least: int) -> list[str]:
    """List the preprocessed majority answers of at least so many questions, in alphabetical order."""
    counts: Counter[str] = Counter()
    for answer, count in Counter(majority_answers).items():
        counts[preprocess_answer(answer)] += count
    return sorted(answer for answer, count in counts.items() if count >= least)


def agreement(answer: Hashable, humans: Sequence[Hashable], records: Sequence[int] = ()) -> float:
    """Average, over leaving each annotator out, how far three of the others gave the answer."""
    # The others are those whose whole record differs, so identical records leave each other out.
    people = list(zip(humans, records or range(len(humans)), strict=True))
    matched, twins, total = humans.count(answer), Counter(people), 0.0
    for person in people:
        total += min(1.0, (matched - twins[person] * (person[0] == answer)) / 3)
    return total / len(people)


def _agreements(matches: NDArray[np.bool_]) -> Accuracies:
    """Return the agreement on answers of whom [N, annotators] each matches, where no records are identical."""
    matched = matches.sum(axis=1)
    found: Accuracies = (matched > 3).astype(np.float64)
    unclear = np.flatnonzero((matched > 0) & (matched <= 3))
    others = np.minimum(1.0, (matched[unclear, None] - matches[unclear]) / 3)
    # Added up in the evaluator's order: such roundings decide ties in the second decimal it prints.
    found[unclear] = np.add.accumulate(others, axis=1)[:, -1] / matches.shape[1]
    return found


def _soft(matches: NDArray[np.bool_]) -> Accuracies:
    return np.array([soft_score(count) for count in matches.sum(axis=1).tolist()])


def _first(matches: NDArray[np.bool_]) -> Accuracies:
    return matches[:, 0].astype(np.float64)


class _Version(NamedTuple):
    """How annotators and answer are tidied before they are compared: where annotators agree, and where not."""

    people: tuple[Tidy, Tidy]
    answer: tuple[Tidy, Tidy]
    score: Callable[[NDArray[np.bool_]], Accuracies] = _agreements
    """Scores questions by which of their annotators [N, annotators] gave the answer."""


EXACT_MATCH = "exact-match"
_NORMALISED, _GIVEN = (normalise_answer, normalise_answer), (_as_given, _as_given)
_VERSIONS: Mapping[str, _Version] = {
    "official-2021": _Version((clean, normalise_answer), (clean, normalise_answer)),
    "official-2015": _Version((_as_given, strip_punctuation), _NORMALISED),
    "always-normalise": _Version(_NORMALISED, _NORMALISED),
    "soft": _Version(_GIVEN, _GIVEN, _soft),
    EXACT_MATCH: _Version(_GIVEN, _GIVEN, _first),
}
OFFICIAL = tuple(name for name in _VERSIONS if name != EXACT_MATCH)
"""The versions for questions that several people answered."""
SCORERS = tuple(_VERSIONS)


class _Numbering(dict[str, int]):
    """Numbers texts in the order in which they first come."""

    def __missing__(self, text: str) -> int:
        self[text] = number = len(self)
        return number

    def codes(self, texts: Iterable[str], count: int) -> Codes:
        return np.fromiter(map(self.__getitem__, texts), np.int32, count)


def accuracies(answers: Sequence[str], references: Sequence[Reference], scorer: str) -> Accuracies:
    """Score each answer from 0 to 1 against what people said; ``scorer`` is one of ``SCORERS``."""
    version = _VERSIONS[scorer]
    people = [reference.answers for _, reference in zip(answers, references, strict=True)]
    sizes = np.fromiter(map(len, people), np.intp, len(people))
    starts = np.cumsum(sizes) - sizes
    given, tidied = _Numbering(), _Numbering()
    said, humans = given.codes(answers, len(answers)), given.codes(chain.from_iterable(people), int(sizes.sum()))
    tidy = {way: tidied.codes(map(way, given), len(given)) for way in {*version.people, *version.answer}}
    values = np.zeros(len(people))
    for size in np.unique(sizes[sizes > 0]).tolist():  # ten, in all official files
        rows = np.flatnonzero(sizes == size)
        raw = humans[starts[rows, None] + np.arange(size)]
        alike, differing = (tidy[way][raw] for way in version.people)
        one = (alike == alike[:, :1]).all(axis=1)
        wanted = np.where(one[:, None], alike, differing)
        found = np.where(one, *(tidy[way][said[rows]] for way in version.answer))
        values[rows] = version.score(wanted == found[:, None])
        if version.score is _agreements:
            for place, row in enumerate(rows.tolist()):
                if records := references[row].records:
                    values[row] = agreement(int(found[place]), wanted[place].tolist(), records)
    return values


def summarise(values: Accuracies, references: Sequence[Reference]) -> Summary:
    """Average accuracies over all questions, answer types and question types, in percent."""
    return Summary(
        100 * float(np.cumsum(values)[-1]) / len(references),
        _means(values, [reference.answer_type for reference in references]),
        _means(values, [reference.question_type for reference in references]),
    )


def _means(values: Accuracies, kinds: Sequence[str]) -> dict[str, float]:
    rows = _Numbering()
    of = rows.codes(kinds, len(kinds))
    # Added up one by one in the order of the file, as the evaluator does; numpy's mean does not.
    sums, counts = np.bincount(of, weights=values), np.bincount(of)
    return {kind: 100 * float(sums[row]) / int(counts[row]) for kind, row in rows.items()}

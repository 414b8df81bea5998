"""Task: what is asked, and how answers are scored. It never sees a tensor or a model.

A task of one's own overrides ``form``, ``examples`` and ``score``; everything else has a default made from
these and from the data set's card.
"""

from __future__ import annotations

import json
import numbers
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vlbench.cards import DatasetCard, Split
from vlbench.metrics.intervals import mean_interval
from vlbench.record import Score
from vlbench.types import Answer, BadData, Chances, Example, Form, Misuse, Vectors, nearest

TEXTS = (".json", ".jsonl", ".csv", ".tsv", ".txt")


class OfficialFiles(NamedTuple):
    """The files that somebody's answers are scored by (``vlbench score``)."""

    answers: Path
    questions: Path | None = None
    annotations: Path | None = None
    choices: Path | None = None
    scenes: Path | None = None
    consistency: bool = False
    scorer: str = ""
    pool: bool = False
    """Of retrieval: whether the answers may be of some of a split's images only, among which they are searched."""


def needed(files: OfficialFiles, name: Literal["questions", "annotations"], task: str) -> Path:
    """Return a file that scoring cannot do without; Misuse where it was not given."""
    path: Path | None = getattr(files, name)
    if path is None:
        raise Misuse(f"--{name} is missing", f"as in: vlbench score {task} --answers FILE --{name} FILE")
    return path


def only_scorer(files: OfficialFiles, name: str) -> None:
    """Refuse a version of the scorer that was asked for where there is only one."""
    if files.scorer not in ("", name):
        raise Misuse(f"no scorer is called '{files.scorer}'; {nearest(files.scorer, [name])}", "leave --scorer out")


class Task(ABC):
    """A benchmark on one data set."""

    form: ClassVar[Form]
    answers_suffix: ClassVar[str] = "json"
    """What kind of file the official answer file is."""
    told: ClassVar[bool] = True
    """Whether closed answers are words that a decoder may tell; False where they name classes (entailment)."""

    def __init__(self, card: DatasetCard, folder: Path) -> None:
        """Take the data set's card and the root of official data; nothing is read yet."""
        self.card = card
        self.folder = folder / card.folder

    @abstractmethod
    def examples(self, split: str) -> Sequence[Example]:
        """List what is asked in a split, always in the same order."""

    @abstractmethod
    def score(self, given: Mapping[str, Answer], split: str, scorer: str = "") -> dict[str, Score]:
        """Score answers by example id; the first metric is the main one, ``count`` says how many it is of."""

    def count(self, split: str) -> int:
        """Count a split as its card does; a task that asks each of them in several ways overrides this."""
        return len(self.examples(split))

    def each(self, given: Mapping[str, Answer], split: str, scorer: str = "") -> Mapping[str, float]:
        """Return the score from 0 to 1 of every answered example, where a task can score one by one."""
        return {}

    def counted(self, given: Mapping[str, Answer], split: str) -> Set[str]:
        """Name the examples that the score of some answers is of, so that a control can be of the same."""
        return given.keys()

    def follow_up(self, given: Mapping[str, Answer]) -> Sequence[Example]:
        """Ask a second round that depends on the answers of the first; most tasks have none."""
        return ()

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits there are, by name."""
        return tuple(self.card.splits)

    def version(self, scorer: str) -> str:
        """Return the version of the scorer to use, "" being the data set's; Misuse where it cannot be scored by it."""
        return scorer or self.card.scorer

    def split(self, name: str) -> Split:
        """Return what the card says of a split; Misuse with the nearest name where there is none."""
        if name not in self.card.splits:
            raise Misuse(f"{self.card.name} has no split '{name}'; {nearest(name, self.splits)}")
        return self.card.splits[name]

    @cached_property
    def answers(self) -> Sequence[str]:
        """The closed answer list, in a fixed order; empty where answers are open.

        By default the best answers of the card's ``answer_splits`` that occur ``answer_count`` times there.
        """
        if self.form not in ("classify", "compare"):
            return ()
        counts: Counter[str] = Counter()
        for split in self.card.answer_splits:
            for example in self.examples(split):
                if isinstance(example.answer, numbers.Integral):
                    raise BadData(
                        f"{example.id}: the answer {example.answer} is a place in a list, and this task has no list",
                        "give answers as texts, or list them in 'answers'",
                    )
            weighed = (self.weights(example) for example in self.examples(split))
            counts.update(max(w, key=w.__getitem__) for w in weighed if w)
        return sorted(answer for answer, count in counts.items() if count >= self.card.answer_count)

    def use_answers(self, answers: Sequence[str]) -> None:
        """Take another closed list, in its order: that of a checkpoint whose head was trained on it."""
        self.__dict__["answers"] = tuple(answers)
        self.__dict__.pop("answer_numbers", None)

    @cached_property
    def answer_numbers(self) -> Mapping[str, int]:
        """Answer -> its place in ``answers``."""
        return {answer: number for number, answer in enumerate(self.answers)}

    def wording(self, answer: Answer) -> str:
        """Return an answer in words, be it given so or by its place in ``answers``."""
        if isinstance(answer, str):
            return answer
        if isinstance(answer, numbers.Integral) and 0 <= answer < len(self.answers):
            return self.answers[int(answer)]
        raise BadData(f"{answer!r} is neither an answer's text nor its place in a list of {len(self.answers)}")

    def weights(self, example: Example) -> Mapping[str, float]:
        """Return every right answer with its score from 0 to 1; empty where it is not public or not words."""
        if isinstance(example.answer, Mapping):
            return example.answer
        if self.form in ("classify", "compare") and isinstance(example.answer, str | numbers.Integral):
            return {self.wording(example.answer): 1.0}
        return {}

    def target(self, example: Example) -> Mapping[int, float] | int:
        """Return what is learned: scores of closed answers by place in ``answers``; of a choice, the right place."""
        if self.form == "choose" and isinstance(example.answer, numbers.Integral):
            return int(example.answer)
        known = self.answer_numbers
        return {known[answer]: score for answer, score in self.weights(example).items() if answer in known}

    def shares(self, example: Example) -> Mapping[int, float] | int:
        """Return the share of people who gave each closed answer; by default their scores, made to sum to 1."""
        target = self.target(example)
        if isinstance(target, int):
            return target
        total = sum(target.values()) or 1.0
        return {place: score / total for place, score in target.items()}

    def group(self, example: Example) -> str:
        """Name what an example shares with others; not being independent, they are resampled together."""
        return "|".join(example.images) or example.id

    def breakdown(self, example: Example) -> Mapping[str, str]:
        """Return the labels that get scores of their own, such as ``{"answer_type": "number"}``."""
        return {}

    def tally(
        self, examples: Sequence[Example], values: ArrayLike, scorer: str, metric: str = "accuracy"
    ) -> dict[str, Score]:
        """Average accuracies from 0 to 1 over all examples and over each label: percent, with intervals."""
        if not examples:
            raise BadData("there is no answer to score")
        parts: dict[str, list[int]] = {metric: list(range(len(examples)))}
        for row, example in enumerate(examples):
            for label in self.breakdown(example).values():
                parts.setdefault(f"{metric}_{label}", []).append(row)
        numbers_, groups = np.asarray(values, np.float64), [self.group(example) for example in examples]
        return {
            name: _percent(numbers_[rows], [groups[row] for row in rows], scorer)
            for name, rows in sorted(parts.items())
        }

    def answered(self, given: Mapping[str, Answer], split: str) -> list[Example]:
        """Return the examples that were answered, in their order; BadData where an id is not of the split.

        A run may be of the first examples of a split only, so unanswered ones are left out of the count.
        """
        found = [example for example in self.examples(split) if example.id in given]
        if len(found) < len(given):
            unknown = given.keys() - {example.id for example in found}
            raise BadData(f"answers to {len(unknown)} ids that {split} does not hold: {sorted(unknown)[:10]}")
        return found

    def answers_file(self, given: Mapping[str, Answer], split: str) -> list[dict[str, object]]:
        """Lay answers out as the official answer file has them."""
        return [{"id": example.id, "answer": _plain(given[example.id])} for example in self.answered(given, split)]

    def answers_content(self, given: Mapping[str, Answer], split: str) -> bytes:
        """Return the official answer file of a split, byte for byte."""
        return (json.dumps(self.answers_file(given, split)) + "\n").encode()

    def check_upload(self, content: bytes, split: str) -> list[str]:
        """Say what an evaluation server would refuse in an answer file of a split; nothing where it is right."""
        raise Misuse(f"{self.card.name} has no evaluation server", "its splits are scored here: vlbench evaluate")

    def upload_name(self, split: str, method: str) -> str:
        """Name the file for the evaluation server."""
        return f"upload-{self.card.id}-{split}-{method}.{self.answers_suffix}"

    def shown(self, answer: Answer | None) -> str:
        """Write an answer for people who look at errors; empty where there is none, or none to be read (embeddings)."""
        if answer is None or isinstance(answer, Vectors):
            return ""
        if isinstance(answer, Chances):
            return f"{answer.best} ({', '.join(f'{value:.2f}' for value in answer.values)})"
        if isinstance(answer, Mapping):
            return " | ".join(f"{a}:{s:.1f}" if s < 1 else a for a, s in answer.items())
        if isinstance(answer, tuple):
            return " | ".join(part if isinstance(part, str) else f"{part:.3f}" for part in answer)
        return self.wording(answer) if self.answers else str(answer)

    @classmethod
    def score_files(cls, files: OfficialFiles) -> dict[str, object]:
        """Score somebody's answer file: what ``vlbench score`` prints; percent, with ``count`` and ``scorer``."""
        raise Misuse(f"{cls.__name__} cannot score files", "it has no score_files")

    def files(self, split: str) -> dict[str, Path]:
        """Return the input files a split is read from, by name, so that a record can hold their hashes.

        By default those the card names; where there is no card, every text file in the folder.
        """
        if not self.card.file and not self.card.layout and self.folder.is_dir():
            texts = (path for path in sorted(self.folder.iterdir()) if path.suffix in TEXTS and path.is_file())
            return {path.name: path for path in texts}
        names = {"", split, self.split(split).of}
        papers = (f for f in self.card.file if f.split in names and f.role not in ("images", "features"))
        return {file.name: self.folder / file.name for file in papers}

    def image_files(self, split: str) -> dict[str, Path]:
        """Return the image file of every image key of a split; empty where images are not at hand."""
        return {}

    def controls(self, split: str, train_splits: Iterable[str]) -> dict[str, Mapping[str, Answer]]:
        """Answer a split without looking: what a model must beat to have learned from the images.

        ``prior`` always gives the most frequent training answer; ``question-only`` the most frequent one of
        the same question, or of the training questions that begin with as many of the same words as possible.
        """
        examples = self.examples(split)
        if any(len(example.texts) != 1 for example in examples):
            return {}
        asked = {example.id: _words(example.texts[0]) for example in examples}
        wanted = {words[:end] for words in asked.values() for end in range(len(words) + 1)}
        counts: dict[tuple[str, ...], dict[str, float]] = {}
        for train in train_splits:
            for example in self.examples(train):
                _count(example.texts[0], self.weights(example), wanted, counts)
        if () not in counts:
            return {}
        best = {words: min(count, key=lambda a: (-count[a], a)) for words, count in counts.items()}
        return {
            "prior": dict.fromkeys(asked, best[()]),
            "question-only": {i: best[_longest(words, best)] for i, words in asked.items()},
        }


def _plain(answer: Answer) -> object:
    """Return an answer as JSON can hold it."""
    if isinstance(answer, Chances):
        return list(answer.values)
    if isinstance(answer, Vectors):
        parts = {"image": answer.image, "text": answer.text}
        return {name: None if part is None else part.tolist() for name, part in parts.items()} | {"match": answer.match}
    return answer


_END = "?"
"""Closes a question, so that it is told from longer ones that begin alike."""


def _words(text: str) -> tuple[str, ...]:
    return (*text.lower().rstrip("?. ").split(), _END)


def _count(
    text: str,
    weights: Mapping[str, float],
    wanted: set[tuple[str, ...]],
    counts: dict[tuple[str, ...], dict[str, float]],
) -> None:
    """Add a training question's answers to every beginning of it that is asked for (few are, of millions)."""
    words = _words(text)
    for end in range(len(words) + 1):
        if weights and (start := words[:end]) in wanted:
            count = counts.setdefault(start, {})
            for answer, weight in weights.items():
                count[answer] = count.get(answer, 0.0) + weight


def _longest(words: tuple[str, ...], known: Mapping[tuple[str, ...], str]) -> tuple[str, ...]:
    return next(words[:end] for end in range(len(words), -1, -1) if words[:end] in known)


def _percent(values: np.ndarray, groups: Sequence[str], scorer: str) -> Score:
    found = mean_interval(values, groups)
    assert found.low is not None  # only estimates over seeds lack bounds
    assert found.high is not None
    low, high = 100 * found.low, 100 * found.high
    return Score(value=100 * found.value, low=low, high=high, count=values.size, scorer=scorer)

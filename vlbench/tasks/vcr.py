"""VCR: which of four answers is right, and which of four rationales says why (Zellers et al. 2019).

A question is asked twice. ``ID/a`` offers the question with each answer. ``ID/r`` offers the question and the right
answer with each rationale; where the right answer is not public, ``ID/r0`` to ``ID/r3`` do so with each of the four,
as the leaderboard wants. The main score is Q->AR: both must be right.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from vlbench.cards import DatasetCard
from vlbench.metrics.vcr import CHOICES, SCORER, chosen, judge_conditioned
from vlbench.record import Score
from vlbench.tasks.base import OfficialFiles, Task, needed
from vlbench.tasks.pictures import pictures_in
from vlbench.tasks.places import annotations_of, file_of, where_to_get
from vlbench.tasks.reading import refuse
from vlbench.tasks.records import check_complete, read_bytes
from vlbench.tasks.servers import Server
from vlbench.tasks.skills import read_skills
from vlbench.tasks.text_controls import choices_without_looking
from vlbench.tasks.vcr_files import (
    ANSWERS,
    RATIONALES,
    Probabilities,
    Question,
    Scores,
    read_questions,
    read_table,
    table,
)
from vlbench.types import Answer, BadData, Chances, Example, Fault, Form, Misuse, nearest

LAYOUT = "vcr"


class VCR(Task):
    """Visual commonsense reasoning."""

    form: ClassVar[Form] = "choose"
    answers_suffix: ClassVar[str] = "csv"
    server: ClassVar[Server] = Server({"Q->AR": "q_ar", "Q->A": "q_a", "QA->R": "qa_r"})
    score_options: ClassVar[tuple[str, ...]] = ("annotations",)

    def __init__(self, card: DatasetCard, folder: Path) -> None:
        super().__init__(card, folder)
        if card.layout != LAYOUT:
            raise BadData(f"{card.path}: no layout of vcr is called '{card.layout}'", f"known: {LAYOUT}")
        self._read: dict[str, Mapping[str, Question]] = {}
        self._examples: dict[str, list[Example]] = {}

    @cached_property
    def _skills(self) -> Mapping[str, str]:
        return read_skills(self.folder)

    def count(self, split: str) -> int:
        """Count what the card counts of a split: questions, not the choices that each is asked as."""
        return len(self.questions(split))

    def questions(self, split: str) -> Mapping[str, Question]:
        """Return the questions of a split by id, in the order of its file; an example is half of one, or a fifth."""
        public = self.split(split).public
        if split not in self._read:
            path = annotations_of(self.card, self.folder, split)
            found = read_questions(path, where_to_get(self.card, self.folder), public=public)
            others = self.card.splits.keys() - {split}
            foreign = [identity for identity in found if identity.rpartition("-")[0] in others]
            refuse(str(path), f"questions of another split than {split}", foreign)
            self._read[split] = found
        return self._read[split]

    def examples(self, split: str) -> Sequence[Example]:
        """List what is asked of every question: the answer, then the rationale."""
        if split not in self._examples:
            asked = self.questions(split).values()
            self._examples[split] = [example for question in asked for example in _ask(question)]
        return self._examples[split]

    def score(self, given: Mapping[str, Answer], split: str, scorer: str = "") -> dict[str, Score]:
        """Score answer and rationale together (q_ar, where both were given), the answer (q_a), the rationale (qa_r)."""
        right, version = self.each(given, split, scorer), self.version(scorer)
        examples = {example.id: example for example in self.answered(given, split)}
        both = [i for i in examples if i.endswith("/a") and f"{_question(i)}/r" in examples]
        parts = {
            "q_ar": {i: right[i] * right[f"{_question(i)}/r"] for i in both},
            "q_a": {i: value for i, value in right.items() if i.endswith("/a")},
            "qa_r": {i: value for i, value in right.items() if i.endswith("/r")},
        }
        scores: dict[str, Score] = {}
        for metric, values in parts.items():
            if values or not right:
                scores |= self.tally([examples[i] for i in values], list(values.values()), version, metric)
        return scores

    def each(self, given: Mapping[str, Answer], split: str, scorer: str = "") -> Mapping[str, float]:
        """Say of every answered choice whether it is right, 1 or 0; Fault where the split's answers are not public."""
        self.version(scorer)
        if not self.split(split).public:
            todo = "the answer file in the run's folder is what the leaderboard takes"
            raise Fault(f"the answers of {self.card.name} {split} are not public", todo)
        examples = self.answered(given, split)
        return {e.id: float(chosen(_scores(given[e.id], e.id)) == e.answer) for e in examples}

    def version(self, scorer: str) -> str:
        """Return the one scorer there is; Misuse where another is asked for."""
        name = scorer or self.card.scorer
        if name != SCORER:
            raise Misuse(f"{self.card.name} has no scorer '{name}'; {nearest(name, [SCORER])}")
        return name

    def breakdown(self, example: Example) -> Mapping[str, str]:
        """Label an example by the skill it asks for, where the data set says so."""
        skill = self._skills.get(_question(example.id))
        return {"skill": skill} if skill else {}

    def answers_file(self, given: Mapping[str, Answer], split: str) -> list[dict[str, object]]:
        """Lay probabilities out as rows of the leaderboard's table.

        Where the right answer is public, rationales were asked for given that one, and the columns given another stay
        empty: no score looks at them.
        """
        answered = {example.id for example in self.answered(given, split)}
        rows: dict[str, dict[str, object]] = {}
        for question in self.questions(split).values():
            groups = {f"{question.id}/a": ANSWERS, f"{question.id}/r": RATIONALES[question.answer or 0]}
            groups |= {f"{question.id}/r{place}": columns for place, columns in enumerate(RATIONALES)}
            for identity in groups.keys() & answered:
                row = rows.setdefault(question.id, {"annot_id": question.id})
                row |= zip(groups[identity], _scores(given[identity], identity), strict=True)
        return list(rows.values())

    def answers_content(self, given: Mapping[str, Answer], split: str) -> bytes:
        """Write the leaderboard's CSV table."""
        return table(self.answers_file(given, split))

    def check_upload(self, content: bytes, split: str) -> list[str]:
        """Say what the leaderboard would refuse: ids that are not exactly the split's, and groups left empty."""
        try:
            given = read_table(content, "the answer file")
            check_complete(given, self.questions(split), "the answer file")
            refuse(
                "the answer file", "questions with columns left empty", [i for i, one in given.items() if _gaps(one)]
            )
        except BadData as fault:
            return [fault.wrong]
        return []

    def image_files(self, split: str) -> dict[str, Path]:
        """Return the image files of a split that are here, by image key."""
        place = file_of(self.card, self.folder, "images", split)
        here = pictures_in(place) if place else {}
        keys = {question.key for question in self.questions(split).values()}
        return {key: here[key] for key in sorted(keys & here.keys())}

    def controls(self, split: str, train_splits: Iterable[str]) -> dict[str, Mapping[str, Answer]]:
        """Choose without looking: the commonest place, and by the texts alone; each stage by itself."""
        train = [example for name in train_splits for example in self.examples(name)]
        given: dict[str, dict[str, Answer]] = {}
        for stage in ("a", "r"):
            asked = [example for example in self.examples(split) if _stage(example.id) == stage]
            learned = [example for example in train if _stage(example.id) == stage]
            for name, places in choices_without_looking(learned, asked).items():
                given.setdefault(name, {}).update(places)
        return dict(given)

    @classmethod
    def score_files(cls, files: OfficialFiles) -> dict[str, object]:
        """Score an answer file in the leaderboard's form against an annotation file; percent.

        Of the rationale columns, those given a wrong answer may be left empty.
        """
        path, where = needed(files, "annotations", "vcr"), str(files.answers)
        if files.scorer not in ("", SCORER):
            raise Misuse(f"no scorer is called '{files.scorer}'; {nearest(files.scorer, [SCORER])}")
        asked = read_questions(path, "see https://visualcommonsense.com/download/", public=True)
        given = read_table(read_bytes(files.answers), where)
        check_complete(given, asked, where)
        unsaid = [i for i, question in asked.items() if question.answer in _gaps(given[i])]
        refuse(where, "questions without rationale columns given the right answer", unsaid)
        judged = judge_conditioned(
            [given[i].answers for i in asked],
            [given[i].rationales for i in asked],
            [question.answer or 0 for question in asked.values()],
            [question.rationale or 0 for question in asked.values()],
        )
        shares = {name: 100 * float(values.mean()) for name, values in judged._asdict().items()}
        return {**shares, "count": len(asked), "scorer": SCORER}


def _ask(question: Question) -> list[Example]:
    """Ask for the answer, and for the rationale of the right answer or, where that is not public, of each."""
    images = (question.key,)
    answered = tuple(f"{question.text} {answer}" for answer in question.answers)

    def why(stage: str, place: int) -> Example:
        texts = tuple(f"{answered[place]} {rationale}" for rationale in question.rationales)
        return Example(f"{question.id}/{stage}", images, texts, question.rationale)

    first = Example(f"{question.id}/a", images, answered, question.answer)
    if question.answer is None:
        return [first, *(why(f"r{place}", place) for place in range(CHOICES))]
    return [first, why("r", question.answer)]


def _question(identity: str) -> str:
    return identity.rpartition("/")[0]


def _stage(identity: str) -> str:
    """Return ``a`` or ``r``, whichever answer the rationale is of."""
    return identity.rpartition("/")[2][:1]


def _scores(answer: Answer, identity: str) -> Scores:
    """Return an answer's four scores, be it probabilities or a place."""
    if isinstance(answer, Chances) and len(answer.values) == CHOICES and all(map(math.isfinite, answer.values)):
        return tuple(float(value) for value in answer.values)
    if isinstance(answer, numbers.Integral) and 0 <= answer < CHOICES:
        return tuple(float(place == answer) for place in range(CHOICES))
    raise BadData(f"{identity}: {answer!r} is neither {CHOICES} probabilities nor a place from 0 to {CHOICES - 1}")


def _gaps(given: Probabilities) -> list[int]:
    """Return the answers whose rationales were left empty."""
    return [place for place, group in enumerate(given.rationales) if math.isnan(group[0])]

"""GQA: questions made from scene graphs, so that what they take and entail is known (Hudson & Manning 2019).

The layout ``gqa`` is the official files, which the card names; where those of a split are not here, it is read from the
list that LXMERT hands out, which knows no kinds of questions. Choices are used where their file is here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import compress
from pathlib import Path
from typing import ClassVar

import numpy as np

from vlbench.cards import DatasetCard
from vlbench.metrics.gqa import Choices, NotAsked, summarise
from vlbench.metrics.gqa_columns import Questions
from vlbench.record import Score
from vlbench.tasks.base import OfficialFiles, Task, needed
from vlbench.tasks.gqa_files import line_up, read_choices, read_predictions, read_scenes
from vlbench.tasks.gqa_questions import UNKNOWN, question_files, read_questions
from vlbench.tasks.gqa_scores import SCORER, further_scores
from vlbench.tasks.pictures import pictures_in
from vlbench.tasks.places import file_of, located, where_to_get
from vlbench.tasks.reading import refuse
from vlbench.tasks.servers import Server
from vlbench.tasks.skills import FILE, read_skills
from vlbench.types import Answer, BadData, Example, Fault, Form, Misuse, nearest

LXMERT = {"train": "train.json", "val": "valid.json", "testdev": "testdev.json", "submission": "submit.json"}
"""What LXMERT's lists of the splits are called."""
_FIRST = ("accuracy", "accuracy_binary", "accuracy_open")
_HOME = "see https://cs.stanford.edu/people/dorarad/gqa/download.html"


class GQA(Task):
    """Visual reasoning and compositional question answering."""

    form: ClassVar[Form] = "classify"
    server: ClassVar[Server] = Server(
        names={
            "accuracy": "accuracy",
            "binary": "accuracy_binary",
            "open": "accuracy_open",
            "validity": "validity",
            "plausibility": "plausibility",
            "consistency": "consistency",
            "distribution": "distribution",
        },
        wants="submission",
        tells={"submission": ("testdev", "test", "challenge")},
    )
    score_options: ClassVar[tuple[str, ...]] = ("questions", "choices", "scenes", "consistency")

    def __init__(self, card: DatasetCard, folder: Path) -> None:
        super().__init__(card, folder)
        if card.layout != "gqa":
            raise BadData(f"{card.path}: no layout of gqa is called '{card.layout}'", "known: gqa")
        self._read: dict[str, Questions] = {}
        self._examples: dict[str, list[Example]] = {}
        self._choices: dict[str, list[Choices]] = {}

    def examples(self, split: str) -> Sequence[Example]:
        """List the questions of a split in the order of its files."""
        if split not in self._examples:
            asked = self._questions(split)
            shown = [(image,) for image in asked.images.values]
            rows = zip(asked.ids, asked.images.codes.tolist(), asked.texts, asked.answers.each(), strict=True)
            self._examples[split] = [Example(name, shown[image], (text,), answer) for name, image, text, answer in rows]
        return self._examples[split]

    def score(self, given: Mapping[str, Answer], split: str, scorer: str = "") -> dict[str, Score]:
        """Score answers to balanced questions: accuracy, of either form and by kind, and what else the files allow."""
        right, asked = self.each(given, split, scorer), self._questions(split)
        answered = np.array([name in right for name in asked.ids])
        examples = list(compress(self.examples(split), asked.balanced & answered))
        if not examples:
            raise BadData(f"of {len(given)} answered questions none is balanced, and only such count")
        found = self.tally(examples, [right[example.id] for example in examples], SCORER)
        said = [self.wording(given[name]) if name in right else "" for name in asked.ids]
        more = further_scores(asked, said, answered, self._choices_of(split))
        return {name: found[name] for name in _FIRST if name in found} | dict(more) | found

    def each(self, given: Mapping[str, Answer], split: str, scorer: str = "") -> Mapping[str, float]:
        """Score every answered question 0 or 1; Fault where the split's answers are not public."""
        self.version(scorer)
        if not self.split(split).public:
            todo = "the answer file in the run's folder is what the evaluation server takes"
            raise Fault(f"the answers of {self.card.name} {split} are not public", todo)
        return {one.id: float(self.wording(given[one.id]) == one.answer) for one in self.answered(given, split)}

    def breakdown(self, example: Example) -> Mapping[str, str]:
        """Label an example by the form of its answer, by its structural and semantic type, and by its skill."""
        labels = {"skill": self._skills.get(example.id, "")}
        for asked in reversed(self._read.values()):  # the split that is scored was read last
            if (row := asked.places.get(example.id)) is not None:
                kind = asked.kinds.values[asked.kinds.codes[row]]
                types = {key: f"{key}_{getattr(kind, key)}" for key in ("structural", "semantic") if kind != UNKNOWN}
                labels |= {"form": kind.form, **types}
                break
        return {name: label for name, label in labels.items() if label}

    @cached_property
    def _skills(self) -> Mapping[str, str]:
        return read_skills(self.folder)

    def version(self, scorer: str) -> str:
        """Return the scorer to use; Misuse where there is none of that name."""
        return _known(scorer)

    def answers_file(self, given: Mapping[str, Answer], split: str) -> list[dict[str, object]]:
        """Lay answers out as the official answer file and the evaluation server have them."""
        return [{"questionId": e.id, "prediction": self.wording(given[e.id])} for e in self.answered(given, split)]

    def check_upload(self, content: bytes, split: str) -> list[str]:
        """Say what the evaluation server would refuse in an answer file of a split; nothing where it is right."""
        try:
            line_up(read_predictions(content, "the file"), self._questions(split), "the file", every=True)
        except BadData as fault:
            return [fault.wrong]
        return []

    def files(self, split: str) -> dict[str, Path]:
        """Return the question files of a split, and its choices and skills where they are here."""
        paths = [*self._question_files(split), *self._choices_files(split), self.folder / FILE]
        return {path.name: path for path in paths if path.name != FILE or path.is_file()}

    def image_files(self, split: str) -> dict[str, Path]:
        """Return the image files of a split that are here, by image id."""
        place = file_of(self.card, self.folder, "images", split)
        here = pictures_in(place) if place and place.exists() else {}
        return {key: here[key] for key in sorted(set(self._questions(split).images.values) & here.keys())}

    def _question_files(self, split: str) -> list[Path]:
        """Return all the files that a split lies in; LXMERT's where none of those is here."""
        self.split(split)
        official = self._named("questions", split)
        if not official:
            raise BadData(f"{self.card.path}: names no file of questions for the split {split}")
        other = self.folder / LXMERT.get(split, "")
        return [other] if other.is_file() and not any(path.exists() for path in official) else official

    def _choices_files(self, split: str) -> list[Path]:
        return [path for path in self._named("choices", split)[:1] if path.is_file()]

    def _named(self, role: str, split: str) -> list[Path]:
        names = (file.name for file in self.card.file if file.role == role and file.split == split)
        return [located(self.folder, name) for name in names]

    def _questions(self, split: str) -> Questions:
        paths = self._question_files(split)
        if split not in self._read:
            todo = where_to_get(self.card, self.folder)
            self._read[split] = read_questions(paths, todo, public=self.split(split).public)
        return self._read[split]

    def _choices_of(self, split: str) -> list[Choices]:
        if split not in self._choices:
            paths = self._choices_files(split)
            self._choices[split] = read_choices(paths[0], self._questions(split)) if paths else []
        return self._choices[split]

    @classmethod
    def score_files(cls, files: OfficialFiles) -> dict[str, object]:
        """Score an answer file by the official files: what the official evaluator prints, in its figures.

        So validity and plausibility are 0 without choices, and consistency is 0 where it is not asked for. Scene
        graphs only serve grounding, which wants attention maps that an answer file does not hold; they are checked.
        """
        scorer, where = _known(files.scorer), str(files.answers)
        path = needed(files, "questions", "gqa")
        questions = read_questions(question_files(path), _HOME)
        answers = line_up(read_predictions(files.answers), questions, where, every=files.consistency)
        choices = read_choices(files.choices, questions, _HOME) if files.choices else ()
        if files.scenes:
            read_scenes(files.scenes, questions, _HOME)
        try:
            found = summarise(questions, answers, choices, consistency=files.consistency)
        except NotAsked as lost:
            todo = "consistency is scored over all questions: give their file, such as val_all_questions.json"
            refuse(str(path), "entailed questions that it does not hold", lost.args, todo)
            raise
        except ValueError as fault:
            todo = "score the answers to a whole split; the official evaluator fails here, too"
            raise BadData(f"{path}: {fault}, so answers have no distribution", todo) from None
        parts = {name: value for name, value in found._asdict().items() if isinstance(value, dict)}
        return {
            **{name: value for name, value in found._asdict().items() if name not in parts and name != "grounding"},
            **{name: {label: part.score for label, part in sorted(value.items())} for name, value in parts.items()},
            "count": sum(part.questions for part in found.per_structural_type.values()),
            "scorer": scorer,
            **_not_asked(files),
        }


def _not_asked(files: OfficialFiles) -> dict[str, list[str]]:
    """Say which scores are 0 only because they were not asked for, as the official evaluator leaves them."""
    lacks = [("validity and plausibility were", "--choices")] * (files.choices is None)
    lacks += [("consistency was", "--consistency")] * (not files.consistency)
    notes = [f"{what} not computed, which the official evaluator writes as 0: give {option}" for what, option in lacks]
    return {"notes": notes} if notes else {}


def _known(scorer: str) -> str:
    if scorer not in ("", SCORER):
        raise Misuse(f"no scorer of gqa is called '{scorer}'; {nearest(scorer, [SCORER])}")
    return SCORER

"""NLVR2: is a sentence true of a pair of photographs (Suhr et al. 2019)? With its contrast sets (Gardner et al. 2020).

Splits are read from the files their card names. A split ``X-balanced`` or ``X-unbalanced`` is a subset of X: where
its file is here, X gets a score for it too, as for each linguistic phenomenon that the sentences of its file of
role ``ids`` show (``annotated_dev_examples.txt``), and for each skill.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from vlbench.cards import DatasetCard
from vlbench.metrics.nlvr import agreement, is_right
from vlbench.record import Score
from vlbench.tasks.base import OfficialFiles, Task, needed, only_scorer
from vlbench.tasks.nlvr_files import (
    DIGITS,
    LINE,
    WORDS,
    Statement,
    check_split,
    read_pairs,
    read_phenomena,
    take_predictions,
)
from vlbench.tasks.nlvr_scores import CONTRAST, SCORER, consistency, known_scorer, refuse_hidden
from vlbench.tasks.pictures import pictures_in
from vlbench.tasks.places import annotations_of, file_of, where_to_get
from vlbench.tasks.records import check_complete, comma_lines, read_bytes
from vlbench.tasks.servers import Server
from vlbench.tasks.skills import FILE, read_skills
from vlbench.types import Answer, BadData, Example, Form

SUBSETS = ("balanced", "unbalanced")


class NLVR2(Task):
    """Natural language for visual reasoning, on pairs of photographs."""

    form: ClassVar[Form] = "compare"
    told: ClassVar[bool] = False
    answers_suffix: ClassVar[str] = "csv"
    server: ClassVar[Server] = Server({"accuracy": "accuracy", "consistency": "consistency"})
    score_options: ClassVar[tuple[str, ...]] = ("annotations",)

    def __init__(self, card: DatasetCard, folder: Path) -> None:
        super().__init__(card, folder)
        if card.layout != "nlvr2":
            raise BadData(f"{card.path}: no layout of nlvr2 is called '{card.layout}'", "known: nlvr2")
        self._statements: dict[str, Mapping[str, Statement]] = {}
        self._labels: dict[str, dict[str, str]] = {}

    @cached_property
    def answers(self) -> Sequence[str]:
        """The two answers, in the order of LXMERT's, ALBEF's and every other published classifier."""
        return ("False", "True")

    def examples(self, split: str) -> Sequence[Example]:
        """List the sentences of a split, each with its two images, in the order of the file."""
        found = self._read(split).values()
        return [Example(one.id, one.images, (one.sentence,), one.label or None) for one in found]

    def score(self, given: Mapping[str, Answer], split: str, scorer: str = "") -> dict[str, Score]:
        """Score answers: accuracy, then consistency over sentences (over groups, in the contrast sets)."""
        right, name = self.each(given, split, scorer), self._scorer(split, scorer)
        statements = self._read(split)
        units = {one: statements[one].unit for one in right}
        sets = {one: "-".join(one.split("-")[:2]) for one in right}  # the eight images a sentence is written for
        examples = self.answered(given, split)
        found = self.tally(examples, [right[example.id] for example in examples], name)
        return {"accuracy": found.pop("accuracy"), "consistency": consistency(right, units, sets, name), **found}

    def each(self, given: Mapping[str, Answer], split: str, scorer: str = "") -> Mapping[str, float]:
        """Judge every answered example: 1 where it is right, else 0."""
        known_scorer(scorer, self.card)
        statements = self._read(split)
        refuse_hidden(self.card, split)
        asked = [example.id for example in self.answered(given, split)]
        return {one: float(is_right(self.wording(given[one]), statements[one].label)) for one in asked}

    def breakdown(self, example: Example) -> Mapping[str, str]:
        """Label an example by its subset, balanced or unbalanced, its skill, and the phenomena its sentence shows."""
        skill = self._skills.get(example.id, "")
        return self._labels.get(example.id, {}) | ({"skill": skill} if skill else {})

    def answers_content(self, given: Mapping[str, Answer], split: str) -> bytes:
        """Return the predictions as the official script and the leaderboard take them: a line an example."""
        lines = [f"{example.id},{self.wording(given[example.id])}\n" for example in self.answered(given, split)]
        return "".join(lines).encode()

    def check_upload(self, content: bytes, split: str) -> list[str]:
        """Say what is wrong with a file of predictions for a split; nothing where it can be handed in."""
        try:
            said = take_predictions(comma_lines(content, "the file", LINE), "the file")
            check_complete(said, self._read(split), "the file")
        except BadData as fault:
            return [fault.wrong]
        return []

    def version(self, scorer: str) -> str:
        """Return the scorer to use; Misuse where there is no such scorer."""
        return known_scorer(scorer, self.card)

    def files(self, split: str) -> dict[str, Path]:
        """Return the annotations of a split, and what its breakdown is read from, as far as that is here."""
        whole = self.split(split).of or split
        paths = [annotations_of(self.card, self.folder, split), *self._breakdown_files(whole).values()]
        return {path.name: path for path in (*paths, self.folder / FILE) if path in paths or path.is_file()}

    @cached_property
    def _skills(self) -> Mapping[str, str]:
        return read_skills(self.folder)

    def image_files(self, split: str) -> dict[str, Path]:
        """Return the image files of a split that are here, by key, in folders 0 to 99 or without."""
        place = file_of(self.card, self.folder, "images", self.split(split).of or split)
        here = pictures_in(place) if place else {}
        keys = {key for one in self._read(split).values() for key in one.images}
        return {key: here[key] for key in sorted(keys & here.keys())}

    @classmethod
    def score_files(cls, files: OfficialFiles) -> dict[str, object]:
        """Score a file of predictions against official annotations: of a split, a subset or the contrast sets."""
        path, where = needed(files, "annotations", "nlvr2"), str(files.answers)
        only_scorer(files, SCORER)
        statements = read_pairs(path, "see https://lil.nlp.cornell.edu/nlvr/")
        contrast = next(iter(statements.values())).contrast
        lines = comma_lines(read_bytes(files.answers), where, LINE)
        said = take_predictions(lines, where, (WORDS | DIGITS) if contrast else WORDS)
        check_complete(said, statements, where)
        right = [is_right(said[name], one.label) for name, one in statements.items()]
        found = agreement(right, [one.unit for one in statements.values()])
        return {
            "accuracy": 100 * found.accuracy,
            "consistency": 100 * found.consistency,
            "count": found.examples,
            "groups" if contrast else "sentences": found.units,
            "scorer": CONTRAST if contrast else SCORER,
        }

    def _scorer(self, split: str, scorer: str) -> str:
        return CONTRAST if split.startswith("contrast") else known_scorer(scorer, self.card)

    def _read(self, split: str) -> Mapping[str, Statement]:
        if split not in self._statements:
            about = self.split(split)
            path, whole = annotations_of(self.card, self.folder, split), about.of or split
            found = read_pairs(path, where_to_get(self.card, self.folder), public=about.public)
            check_split(found.values(), whole, self.splits, path)
            self._statements[split] = found
            self._label(whole, found)
        return self._statements[split]

    def _breakdown_files(self, split: str) -> dict[str, Path]:
        """Return what is here of the subset files of a split and of its list of phenomena, by label."""
        named = {subset: file_of(self.card, self.folder, "annotations", f"{split}-{subset}") for subset in SUBSETS}
        named["phenomena"] = file_of(self.card, self.folder, "ids", split)
        return {label: path for label, path in named.items() if path and path.is_file()}

    def _label(self, split: str, statements: Mapping[str, Statement]) -> None:
        for label, path in self._breakdown_files(split).items():
            if label == "phenomena":
                shown = read_phenomena(path)
                found = {one.id: shown.get(one.sentence, ()) for one in statements.values()}
            else:
                subset = read_pairs(path)
                check_split(subset.values(), split, self.splits, path)
                found = dict.fromkeys(subset, (label,))
            for name, labels in found.items():
                self._labels.setdefault(name, {}).update({each: each.replace(" ", "_") for each in labels})

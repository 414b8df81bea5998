"""SNLI-VE: does a photograph entail a sentence, contradict it, or neither (Xie et al. 2019)?

Only the hypothesis is asked of the image. The caption it was written for (``sentence1``) is the text premise of
SNLI: to show it would give the image away, so it is never read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from vlbench.cards import DatasetCard
from vlbench.metrics.accuracy import classified
from vlbench.record import Score
from vlbench.tasks.base import OfficialFiles, Task, needed, only_scorer
from vlbench.tasks.pictures import pictures_in
from vlbench.tasks.places import annotations_of, file_of, where_to_get
from vlbench.tasks.records import check_complete, read_bytes
from vlbench.tasks.skills import FILE, read_skills
from vlbench.tasks.snli_ve_files import LABELS, Pairs, read_pairs, take_answers
from vlbench.types import Answer, BadData, Example, Form, Misuse, nearest

SCORER = "accuracy"


class SNLIVE(Task):
    """Visual entailment."""

    form: ClassVar[Form] = "classify"
    told: ClassVar[bool] = False
    score_options: ClassVar[tuple[str, ...]] = ("annotations",)

    def __init__(self, card: DatasetCard, folder: Path) -> None:
        super().__init__(card, folder)
        if card.layout != "snli-ve":
            raise BadData(f"{card.path}: no layout of snli-ve is called '{card.layout}'", "known: snli-ve")
        self._read: dict[str, Pairs] = {}

    @cached_property
    def answers(self) -> Sequence[str]:
        """The three labels, in the order of the classifiers of ALBEF, ViLBERT and METER."""
        return LABELS

    def examples(self, split: str) -> Sequence[Example]:
        """List the hypotheses of a split, each with its image, in the order of the file."""
        found = self._pairs(split).labelled.items()
        return [Example(identity, (one.image,), (one.hypothesis,), one.label) for identity, one in found]

    def left_out(self, split: str) -> int:
        """Count the pairs of a split on whose label people did not agree, which nobody trains on or scores."""
        return len(self._pairs(split).unlabelled)

    def score(self, given: Mapping[str, Answer], split: str, scorer: str = "") -> dict[str, Score]:
        """Score answers, over all and by gold label."""
        values = self.each(given, split, scorer)
        return self.tally(self.answered(given, split), list(values.values()), self.version(scorer))

    def each(self, given: Mapping[str, Answer], split: str, scorer: str = "") -> Mapping[str, float]:
        """Judge every answered example: 1 where it is right, else 0."""
        self.version(scorer)
        return {one.id: float(self.wording(given[one.id]) == one.answer) for one in self.answered(given, split)}

    def breakdown(self, example: Example) -> Mapping[str, str]:
        """Label an example by its gold label, and by its skill where that is known."""
        skill = self._skills.get(example.id, "")
        return {"label": str(example.answer)} | ({"skill": skill} if skill else {})

    def answers_file(self, given: Mapping[str, Answer], split: str) -> list[dict[str, object]]:
        """Lay answers out as ``vlbench score snli-ve`` reads them; there is no official answer file."""
        asked = self.answered(given, split)
        return [{"pairID": example.id, "label": self.wording(given[example.id])} for example in asked]

    def version(self, scorer: str) -> str:
        """Return the scorer to use; Misuse where there is no such scorer."""
        if scorer not in ("", SCORER):
            raise Misuse(f"{self.card.name} has no scorer '{scorer}'; {nearest(scorer, [SCORER])}")
        return SCORER

    def files(self, split: str) -> dict[str, Path]:
        """Return the annotations of a split, and its skills where they are known."""
        self.split(split)
        paths = [annotations_of(self.card, self.folder, split), self.folder / FILE]
        return {path.name: path for path in paths if path == paths[0] or path.is_file()}

    def image_files(self, split: str) -> dict[str, Path]:
        """Return the Flickr30k images of a split that are here, by their number."""
        place = file_of(self.card, self.folder, "images", split)
        here = pictures_in(place) if place and place.exists() else {}
        keys = {one.image for one in self._pairs(split).labelled.values()}
        return {key: here[key] for key in sorted(keys & here.keys())}

    @classmethod
    def score_files(cls, files: OfficialFiles) -> dict[str, object]:
        """Score answers by pair id against an annotation file; pairs without a gold label need no answer."""
        path, where = needed(files, "annotations", "snli-ve"), str(files.answers)
        only_scorer(files, SCORER)
        pairs = read_pairs(path, "see https://github.com/necla-ml/SNLI-VE")
        said = take_answers(read_bytes(files.answers), where)
        check_complete(said.keys() - pairs.unlabelled, pairs.labelled.keys(), where)
        gold = [one.label for one in pairs.labelled.values()]
        found = classified(gold, [said[identity] for identity in pairs.labelled], LABELS)
        return {
            "accuracy": 100 * found.accuracy,
            "per_class": {
                name: None if math.isnan(one.accuracy) else 100 * one.accuracy for name, one in found.per_class.items()
            },
            "confusion": {
                name: dict(zip(LABELS, row, strict=True)) for name, row in zip(LABELS, found.confusion, strict=True)
            },
            "count": len(gold),
            "without_gold_label": len(pairs.unlabelled),
            "scorer": SCORER,
        }

    @cached_property
    def _skills(self) -> Mapping[str, str]:
        return read_skills(self.folder)

    def _pairs(self, split: str) -> Pairs:
        self.split(split)
        if split not in self._read:
            path = annotations_of(self.card, self.folder, split)
            self._read[split] = read_pairs(path, where_to_get(self.card, self.folder))
        return self._read[split]

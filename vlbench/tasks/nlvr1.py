"""NLVR: is a sentence true of a drawing of three boxes (Suhr et al. 2017)?

The corpus draws each example in up to six orders of the boxes. A split ``X-permutations`` asks of all six, as
the official script for images scores them; X asks of permutation 0, as the one for structured representations
does: once an example. Images lie in folders, or in a tar, which is unpacked into the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from vlbench.cards import DatasetCard
from vlbench.metrics.nlvr import agreement, is_right, presentation_unit
from vlbench.record import Score
from vlbench.tasks.base import OfficialFiles, Task, needed, only_scorer
from vlbench.tasks.nlvr_files import LINE, Statement, read_boxes, take_predictions
from vlbench.tasks.nlvr_scores import SCORER, consistency, known_scorer, refuse_hidden
from vlbench.tasks.pictures import pictures_in
from vlbench.tasks.places import annotations_of, file_of, where_to_get
from vlbench.tasks.records import check_complete, comma_lines, read_bytes
from vlbench.types import Answer, BadData, Example, Form

ALL = "-permutations"
PERMUTATIONS = 6


class NLVR1(Task):
    """Natural language for visual reasoning, on drawings."""

    form: ClassVar[Form] = "classify"
    told: ClassVar[bool] = False
    answers_suffix: ClassVar[str] = "csv"
    score_options: ClassVar[tuple[str, ...]] = ("annotations",)

    def __init__(self, card: DatasetCard, folder: Path) -> None:
        super().__init__(card, folder)
        if card.layout != "nlvr1":
            raise BadData(f"{card.path}: no layout of nlvr1 is called '{card.layout}'", "known: nlvr1")
        self._read: dict[str, Mapping[str, Statement]] = {}

    @cached_property
    def answers(self) -> Sequence[str]:
        """The two answers."""
        return ("False", "True")

    def examples(self, split: str) -> Sequence[Example]:
        """List the sentences of a split in the order of the file, once, or with each of the six permutations."""
        whole = self._whole(split)
        if split.endswith(ALL):
            drawn = ((f"{whole}-{one.id}-{k}", one) for one in self._statements(split) for k in range(PERMUTATIONS))
            return [Example(image, (image,), (one.sentence,), one.label or None) for image, one in drawn]
        return [
            Example(one.id, (f"{whole}-{one.id}-0",), (one.sentence,), one.label or None)
            for one in self._statements(split)
        ]

    def score(self, given: Mapping[str, Answer], split: str, scorer: str = "") -> dict[str, Score]:
        """Score answers: accuracy (the script calls it precision), then consistency over sentences."""
        right = self.each(given, split, scorer)
        groups = {example.id: self.group(example) for example in self.answered(given, split)}
        found = self.tally(self.answered(given, split), list(right.values()), self.version(scorer))
        return found | {"consistency": consistency(right, groups, groups, self.version(scorer))}

    def each(self, given: Mapping[str, Answer], split: str, scorer: str = "") -> Mapping[str, float]:
        """Judge every answered example: 1 where it is right, else 0."""
        known_scorer(scorer, self.card)
        asked = self.answered(given, split)
        refuse_hidden(self.card, split)
        return {one.id: float(is_right(self.wording(given[one.id]), str(one.answer))) for one in asked}

    def group(self, example: Example) -> str:
        """Name the presentation an example is of: up to four drawings in six orders each, and one sentence."""
        return example.images[0].rsplit("-", 3)[1]

    def answers_content(self, given: Mapping[str, Answer], split: str) -> bytes:
        """Return the predictions as the official scripts take them: a line an example, or a line an image file."""
        suffix = ".png" if split.endswith(ALL) else ""
        asked = self.answered(given, split)
        return "".join(f"{one.id}{suffix},{self.wording(given[one.id])}\n" for one in asked).encode()

    def version(self, scorer: str) -> str:
        """Return the scorer to use; Misuse where there is no such scorer."""
        return known_scorer(scorer, self.card)

    def files(self, split: str) -> dict[str, Path]:
        """Return the annotations of a split."""
        path = annotations_of(self.card, self.folder, self._whole(split))
        return {path.name: path}

    def image_files(self, split: str) -> dict[str, Path]:
        """Return the images of a split that are here, by key."""
        place = file_of(self.card, self.folder, "images", self._whole(split))
        here = pictures_in(place) if place and place.exists() else {}
        keys = {key for example in self.examples(split) for key in example.images}
        return {key: here[key] for key in sorted(keys & here.keys())}

    @classmethod
    def score_files(cls, files: OfficialFiles) -> dict[str, object]:
        """Score predictions by the script they are written for: that for images where the first names one."""
        path, where = needed(files, "annotations", "nlvr1"), str(files.answers)
        only_scorer(files, SCORER)
        statements = read_boxes(path, "see https://lil.nlp.cornell.edu/nlvr/")
        lines = list(comma_lines(read_bytes(files.answers), where, LINE))
        drawn = bool(lines) and lines[0][1].count("-") == 3
        said = take_predictions(_without_image_names(lines) if drawn else lines, where)
        asked = _permuted(statements) if drawn else statements
        check_complete(said, asked, where)
        right = [is_right(said[name], one.label) for name, one in asked.items()]
        found = agreement(right, [presentation_unit(name) for name in asked])
        return {
            "accuracy": 100 * found.accuracy,
            "consistency": 100 * found.consistency,
            "count": found.examples,
            "sentences": found.units,
            "permutations": PERMUTATIONS if drawn else 1,
            "scorer": SCORER,
        }

    def _whole(self, split: str) -> str:
        return self.split(split).of or split

    def _statements(self, split: str) -> Sequence[Statement]:
        whole = self._whole(split)
        if whole not in self._read:
            path, public = annotations_of(self.card, self.folder, whole), self.split(whole).public
            self._read[whole] = read_boxes(path, where_to_get(self.card, self.folder), public=public)
        return list(self._read[whole].values())


def _permuted(statements: Mapping[str, Statement]) -> dict[str, Statement]:
    return {f"{name}-{k}": one for name, one in statements.items() for k in range(PERMUTATIONS)}


def _without_image_names(lines: Sequence[tuple[str, str, str]]) -> Iterator[tuple[str, str, str]]:
    """Turn ``dev-72-0-5.png`` into 72-0-5, as the official script does: it looks at neither split nor suffix."""
    for place, name, word in lines:
        yield place, name.split(".", 1)[0].partition("-")[2], word

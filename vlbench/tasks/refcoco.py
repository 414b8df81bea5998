"""RefCOCO, RefCOCO+ and RefCOCOg: which object of an image is meant (Yu et al. 2016, Mao et al. 2016)?

One example is one expression; what is pointed at is found where the two boxes' intersection over union, in pixels,
is above one half. The published forms of that rule are the scorers (metrics/boxes.py).

An answer file is a JSON list of ``{"sent_id": number, "box": [x, y, width, height]}`` in pixels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from vlbench.cards import DatasetCard
from vlbench.metrics.boxes import DEFAULT, SCORERS, hits, shares
from vlbench.record import Score
from vlbench.tasks.base import OfficialFiles, Task, needed
from vlbench.tasks.box_controls import boxes_without_looking
from vlbench.tasks.pictures import pictures_in
from vlbench.tasks.places import file_of, located, where_to_get
from vlbench.tasks.reading import read_json, refuse
from vlbench.tasks.records import check_complete
from vlbench.tasks.refcoco_files import Expression, read_expressions, take_boxes
from vlbench.tasks.skills import read_skills
from vlbench.types import Answer, BadData, Box, Example, Fault, Form, Misuse, nearest

LAYOUT = "refer"
_AUTHOR = re.compile(r"refs\((.+)\)\.\w+$")


class RefCOCO(Task):
    """Referring expressions."""

    form: ClassVar[Form] = "point"
    score_options: ClassVar[tuple[str, ...]] = ("annotations", "questions")

    def __init__(self, card: DatasetCard, folder: Path) -> None:
        super().__init__(card, folder)
        if card.layout != LAYOUT:
            raise BadData(f"{card.path}: no layout of refcoco is called '{card.layout}'", f"known: {LAYOUT}")
        self._read: dict[Path, list[Expression]] = {}
        self._asked: dict[str, dict[str, Expression]] = {}
        self._examples: dict[str, list[Example]] = {}

    @cached_property
    def _skills(self) -> Mapping[str, str]:
        return read_skills(self.folder)

    def examples(self, split: str) -> Sequence[Example]:
        """List the expressions of a split in the order of its file; the answer is the box from 0 to 1 of the image."""
        if split not in self._examples:
            self._examples[split] = [
                Example(identity, (one.place.image,), (one.text,), one.place.relative())
                for identity, one in self.expressions(split).items()
            ]
        return self._examples[split]

    def expressions(self, split: str) -> Mapping[str, Expression]:
        """Return the expressions of a split by id, in the order of its file."""
        self.split(split)
        if split not in self._asked:
            refs = self._refs(split)
            if refs not in self._read:
                todo = where_to_get(self.card, self.folder)
                self._read[refs] = read_expressions(refs, self._file("annotations", split), todo)
            named = {_official(name, refs) for name in self.splits if self._refs(name) == refs}
            held = {one.split for one in self._read[refs]}
            refuse(str(refs), f"splits that {self.card.path} does not name", sorted(held - named))
            found = {str(one.id): one for one in self._read[refs] if one.split == _official(split, refs)}
            if not found:
                raise BadData(f"{refs}: holds no expression of the split {split}", f"it has: {', '.join(sorted(held))}")
            self._asked[split] = found
        return self._asked[split]

    def score(self, given: Mapping[str, Answer], split: str, scorer: str = "") -> dict[str, Score]:
        """Score boxes (x1, y1, x2, y2 from 0 to 1): how many are found, over all and by skill where that is known."""
        found = self.each(given, split, scorer)
        examples = [example for example in self.examples(split) if example.id in found]
        return self.tally(examples, [found[example.id] for example in examples], self.version(scorer))

    def each(self, given: Mapping[str, Answer], split: str, scorer: str = "") -> Mapping[str, float]:
        """Say of every answered expression whether its object is found, 1 or 0."""
        version, asked = self.version(scorer), self.expressions(split)
        if not self.split(split).public:
            raise Fault(f"the boxes of {self.card.name} {split} are not public")
        said = self._pixels(given, split)
        right = np.reshape([asked[i].place.box for i in said], (-1, 4))
        values = hits(np.reshape(list(said.values()), (-1, 4)), right, version)
        return dict(zip(said, values.astype(float).tolist(), strict=True))

    def version(self, scorer: str) -> str:
        """Return the form of the rule to score by; Misuse where there is none of that name."""
        return _known(scorer or self.card.scorer, self.card.name)

    def breakdown(self, example: Example) -> Mapping[str, str]:
        """Label an example by the skill it asks for, where the data set says so."""
        skill = self._skills.get(example.id)
        return {"skill": skill} if skill else {}

    def answers_file(self, given: Mapping[str, Answer], split: str) -> list[dict[str, object]]:
        """Lay boxes out as an answer file has them: x, y, width, height in pixels."""
        return [{"sent_id": int(i), "box": list(box)} for i, box in self._pixels(given, split).items()]

    def files(self, split: str) -> dict[str, Path]:
        """Return the two files a split is read from."""
        self.split(split)
        paths = (self._refs(split), self._file("annotations", split))
        return {path.name: path for path in paths}

    def image_files(self, split: str) -> dict[str, Path]:
        """Return the image files of a split that are here, by image key."""
        place = file_of(self.card, self.folder, "images", split)
        here = pictures_in(place) if place else {}
        keys = {one.place.image for one in self.expressions(split).values()}
        return {key: here[key] for key in sorted(keys & here.keys())}

    def controls(self, split: str, train_splits: Iterable[str]) -> dict[str, Mapping[str, Answer]]:
        """Point without looking: at the likeliest place of all, and at that of the expression's most telling word."""
        train = [example for name in train_splits for example in self.examples(name)]
        return dict(boxes_without_looking(train, self.examples(split)))

    @classmethod
    def score_files(cls, files: OfficialFiles) -> dict[str, object]:
        """Score an answer file against ``refs(AUTHOR).p``, beside which ``instances.json`` lies; percent.

        The two may also be given as questions and annotations. Of every split that is answered, all must be.
        """
        scorer = _known(files.scorer or DEFAULT, "RefCOCO")
        path, where = needed(files, "annotations", "refcoco"), str(files.answers)
        refs, instances = (files.questions, path) if files.questions else (path, path.with_name("instances.json"))
        asked = {
            str(one.id): one for one in read_expressions(refs, instances, "see https://github.com/lichengunc/refer")
        }
        said = take_boxes(read_json(files.answers), where)
        splits = {asked[i].split for i in said if i in asked}
        wanted = {i: one for i, one in asked.items() if one.split in splits}
        if not said:
            raise BadData(f"{where}: holds no answers")
        check_complete(said, wanted, where)
        found = hits([said[i] for i in wanted], [one.place.box for one in wanted.values()], scorer)
        percent = {name: 100 * share for name, share in shares(found, [one.split for one in wanted.values()]).items()}
        return {"accuracy": percent.pop("all"), "per_split": percent, "count": len(wanted), "scorer": scorer}

    def _pixels(self, given: Mapping[str, Answer], split: str) -> dict[str, Box]:
        """Return the answered boxes in pixels: x, y, width, height."""
        asked = self.expressions(split)
        return {one.id: asked[one.id].place.pixels(_box(given[one.id], one.id)) for one in self.answered(given, split)}

    def _refs(self, split: str) -> Path:
        return self._file("questions", split)

    def _file(self, role: Literal["questions", "annotations"], split: str) -> Path:
        """Return the file of a role for a split: one of its own, or the one for all."""
        named = {file.split: file.name for file in self.card.file if file.role == role}
        name = named.get(split, named.get(""))
        if name is None:
            raise BadData(f"{self.card.path}: names no file of {role} for the split {split}")
        return located(self.folder, name)


def _official(split: str, refs: Path) -> str:
    """Return what a file calls a split: ``google-val`` is the ``val`` of ``refs(google).p``."""
    author = _AUTHOR.search(refs.name)
    return split.removeprefix(f"{author[1]}-") if author else split


def _known(scorer: str, name: str) -> str:
    if scorer not in SCORERS:
        raise Misuse(f"{name} has no scorer '{scorer}'; {nearest(scorer, SCORERS)}")
    return scorer


def _box(answer: Answer, identity: str) -> Box:
    """Return an answer as four numbers; BadData where it is not."""
    if isinstance(answer, tuple) and len(answer) == 4 and all(isinstance(value, float | int) for value in answer):
        x1, y1, x2, y2 = (float(value) for value in answer)
        if all(map(math.isfinite, (x1, y1, x2, y2))):
            return (x1, y1, x2, y2)
    raise BadData(f"{identity}: {answer!r} is not a box: x1, y1, x2, y2 from 0 to 1")

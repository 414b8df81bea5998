"""What lies beside the questions of GQA: choices, scene graphs, and answers; checked as they are read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import compress
from pathlib import Path
from sys import intern
from typing import NamedTuple

from vlbench.metrics.gqa import Choices, Region
from vlbench.metrics.gqa_columns import Questions
from vlbench.tasks.gqa_questions import take_texts
from vlbench.tasks.json_stream import LETTERS, TEXTS, Block, members, stream, texts
from vlbench.tasks.reading import describe, many_objects, member, refuse
from vlbench.tasks.records import check_complete, check_once
from vlbench.types import BadData

_CHOICES = {name: f"(?P<{name}>{TEXTS})" for name in Choices._fields}
_PREDICTION = {name: f'"(?P<{name}>{LETTERS})"' for name in ("questionId", "prediction")}
_NO_CHOICE = Choices((), ())
FORM = 'an answer file is a JSON list of {"questionId": text, "prediction": text}'


def read_choices(path: Path, questions: Questions, todo: str = "") -> list[Choices]:
    """Read which answers make sense to each balanced question, and none for the others; the file may hold more."""
    wanted = dict.fromkeys(compress(questions.ids, questions.balanced))
    names: list[str] = []
    choices: list[Choices] = []
    pairs: dict[tuple[str, str], Choices] = {}  # many questions have the same choices, or the same of one kind
    sets: dict[str, frozenset[str]] = {}
    with many_objects():
        for part in stream(path, "an object", _choices_shape, todo=todo):
            if isinstance(part, Block):
                here: Sequence[str] = part.names
                taken = [take_choices(record, part.place(at)) for at, record in enumerate(part.values)]
            else:
                here, raws = part["id"], list(zip(part["valid"], part["plausible"], strict=True))
                for pair in set(raws) - pairs.keys():
                    for raw in pair:
                        sets[raw] = sets.get(raw) or frozenset(map(intern, texts(raw)))
                    pairs[pair] = Choices(*map(sets.__getitem__, pair))
                taken = list(map(pairs.__getitem__, raws))
            kept = list(map(wanted.__contains__, here))
            names += compress(here, kept)
            choices += compress(taken, kept)
    check_once(names, str(path), "question ids that came before")
    by_id = dict(zip(names, choices, strict=True))
    lacking = [name for name in wanted if name not in by_id]
    refuse(str(path), "balanced questions without choices", lacking, "the choices must be of the same split")
    return [by_id.get(name, _NO_CHOICE) for name in questions.ids]


@lru_cache
def _choices_shape(keys: tuple[str, ...]) -> re.Pattern[str] | None:
    fits = set(keys) == _CHOICES.keys()
    return re.compile(f', "(?P<id>{LETTERS})": {members(_CHOICES, keys)}') if fits else None


def take_choices(record: object, place: str) -> Choices:
    """Read a parsed record of a choices file."""
    valid, plausible = (frozenset(map(intern, take_texts(record, key, place))) for key in Choices._fields)
    return Choices(valid, plausible)


class Scene(NamedTuple):
    """Where the objects of an image are."""

    width: float
    height: float
    objects: Mapping[str, Region]
    """By object id, in pixels."""

    def region(self, name: str) -> Region:
        """Return where an object is, from 0 to 1; KeyError where there is none of that id."""
        x1, y1, x2, y2 = self.objects[name]
        return x1 / self.width, y1 / self.height, x2 / self.width, y2 / self.height


def read_scenes(path: Path, questions: Questions, todo: str = "") -> dict[str, Scene]:
    """Read where the objects are in the images that balanced questions are asked of; the file may hold others."""
    wanted = dict.fromkeys(compress(questions.images.each(), questions.balanced))
    found: dict[str, Scene] = {}
    for block in stream(path, "an object", todo=todo):
        assert isinstance(block, Block)  # as no shape is given
        for at, (image, record) in enumerate(zip(block.names, block.values, strict=True)):
            if image not in wanted:
                continue
            if image in found:
                refuse(str(path), "image ids that came before", [image])
            found[image] = take_scene(record, block.place(at))
    lacking = [image for image in wanted if image not in found]
    refuse(str(path), "images of balanced questions without a scene graph", lacking)
    return found


def take_scene(record: object, place: str) -> Scene:
    """Read a parsed record of a file of scene graphs, as far as it says where objects are."""
    objects: dict[str, Region] = {}
    for name, thing in member(record, "objects", dict, place).items():
        x, y, across, down = (_number(thing, key, f"{place}: objects: {describe(name)}") for key in "xywh")
        objects[name] = (x, y, x + across, y + down)
    width, height = (_number(record, key, place) for key in ("width", "height"))
    if width <= 0 or height <= 0:
        raise BadData(f"{place}: an image of {width:g} x {height:g} pixels")
    return Scene(width, height, objects)


def _number(record: object, key: str, place: str) -> float:
    value = record.get(key) if isinstance(record, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
        raise BadData(f"{place}: '{key}' should be a number of pixels, found {describe(value)}")
    return float(value)


def read_predictions(source: Path | bytes, where: str = "") -> dict[str, str]:
    """Read an answer file, or what it holds (``where`` names that), by question id."""
    where = where or str(source)
    names: list[str] = []
    answers: list[str] = []
    faults: dict[str, str] = {}
    with many_objects():
        for part in stream(source, "a list", _prediction_shape, where=where):
            if not isinstance(part, Block):
                names += part["questionId"]
                answers += map(intern, part["prediction"])
                continue
            for at, record in enumerate(part.values):
                try:
                    name, answer = take_prediction(record, part.place(at))
                except BadData as fault:
                    faults[f"[{part.row + at}]"] = fault.wrong
                    continue
                names.append(name)
                answers.append(intern(answer))
    refuse(next(iter(faults.values()), ""), "faulty records", list(faults), FORM)
    # The official evaluator takes the last of several answers, whoever meant which.
    check_once(names, where, "question ids answered more than once", "give one answer a question")
    return dict(zip(names, answers, strict=True))


@lru_cache
def _prediction_shape(keys: tuple[str, ...]) -> re.Pattern[str] | None:
    return re.compile(f", {members(_PREDICTION, keys)}") if set(keys) == _PREDICTION.keys() else None


def take_prediction(record: object, place: str) -> tuple[str, str]:
    """Read a parsed record of an answer file: question id and answer."""
    return member(record, "questionId", str, place), member(record, "prediction", str, place)


def line_up(said: Mapping[str, str], questions: Questions, where: str, *, every: bool) -> list[str]:
    """Return the answer to each question, "" where there is none.

    BadData where answers are not those of the questions: of every one, or at least of the balanced ones.
    """
    answers = [said.get(name) for name in questions.ids]
    if len(said) != len(answers) or None in answers:
        asked = dict.fromkeys(questions.ids if every else compress(questions.ids, questions.balanced))
        free = set(questions.ids).difference(asked)
        answered = {name: None for name in said if name not in free}
        check_complete(answered.keys(), asked.keys(), where)
    return [answer or "" for answer in answers]

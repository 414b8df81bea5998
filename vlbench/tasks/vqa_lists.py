"""ALBEF's lists of VQA, instead of the official files: question, image and answers in one record; checked as read.

``vqa_train.json`` and its like hold questions on COCO with what ten people answered; lists of hidden splits leave the
answers out. ``vg_qa.json`` holds questions on Visual Genome with one answer each, which ALBEF weighs by 0.5.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

from vlbench.metrics.vqa_accuracy import Reference, preprocess_answer, soft_targets
from vlbench.tasks.reading import describe, many_objects, member, read_json, refuse
from vlbench.tasks.records import check_once
from vlbench.tasks.vqa_files import Asked
from vlbench.types import BadData, Example

VISUAL_GENOME = "vg"
"""What a record calls its data set where it is not ``vqa``; ids of its questions begin with it."""
WEIGHT = 0.5
"""Of the one answer to a question on Visual Genome, beside 1 for the ten people of VQA."""


def read_list(path: Path, todo: str = "", *, public: bool = True) -> dict[str, Asked]:
    """Read a list's questions by id, in its order; ``todo`` says where to get it.

    Visual Genome counts its questions for itself, so their ids are told apart from VQA's: ``vg-1``.
    """
    data = read_json(path, todo)
    if not isinstance(data, list):
        raise BadData(f"{path}: expected a list, found {describe(data)}", todo)
    if not data:
        raise BadData(f"{path}: holds no questions", todo)
    with many_objects():
        found = [_take(record, f"{path}: [{at}]", public) for at, record in enumerate(data)]
    check_once([one.example.id for one in found], str(path), "questions with an id that came before")
    return {one.example.id: one for one in found}


def number_of(identity: str) -> int:
    """Return the number that a question's own data set knows it by."""
    return int(identity.removeprefix(f"{VISUAL_GENOME}-"))


def _take(record: Any, place: str, public: bool) -> Asked:
    source = member(record, "dataset", str, place)
    if source not in ("vqa", VISUAL_GENOME):
        raise BadData(f"{place}: 'dataset' should be 'vqa' or '{VISUAL_GENOME}', found {describe(source)}")
    number, text = member(record, "question_id", int, place), member(record, "question", str, place)
    image = PurePosixPath(member(record, "image", str, place)).stem
    if not image:
        raise BadData(f"{place}: 'image' names no file")
    if source == VISUAL_GENOME:
        answer = member(record, "answer", str, place)
        asked = Example(f"{VISUAL_GENOME}-{number}", (image,), (text,), {preprocess_answer(answer): WEIGHT})
        return Asked(asked, Reference(()), answer)  # no scorer has anybody to compare with
    if not public:
        return Asked(Example(str(number), (image,), (text,), None), Reference(()))
    answers = _take_answers(member(record, "answer", list, place), place)
    # the official files name the majority; of answers given equally often, the first is taken here
    majority = Counter(answers).most_common(1)[0][0]
    return Asked(Example(str(number), (image,), (text,), soft_targets(answers)), Reference(answers), majority)


def _take_answers(answers: list[Any], place: str) -> tuple[str, ...]:
    if not answers:
        raise BadData(f"{place}: 'answer' is empty", "only the list of a split whose answers are hidden has none")
    refuse(f"{place}: 'answer'", "what is no text", [describe(one) for one in answers if type(one) is not str])
    return tuple(answers)

"""The official VQA files: questions, annotations and answers, checked as they are read.

Each ``take_`` function turns parsed JSON into plain values or raises BadData that names the key and position.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from sys import intern
from typing import Any, NamedTuple, TypeVar

from vlbench.metrics.vqa_accuracy import Reference
from vlbench.tasks.json_stream import LETTERS, TEXT, Block, Columns, members, stream_list
from vlbench.tasks.reading import describe, listed, many_objects, member, read_json, refuse, refuse_records
from vlbench.tasks.records import check_once
from vlbench.types import BadData, Example

Identity = TypeVar("Identity", int, str)

_NUMBER = r"(?:0|-?[1-9][0-9]{0,17})"
_PEOPLE = range(1, 11)
_SAID = (
    rf'\{{"answer": "(?P<answer_{number}>{LETTERS})", "answer_confidence": {TEXT}, "answer_id": {number}\}}'
    for number in _PEOPLE
)
_MEMBERS = {key: f'"(?P<{key}>{LETTERS})"' for key in ("question_type", "multiple_choice_answer", "answer_type")}
_MEMBERS |= {key: f"(?P<{key}>{_NUMBER})" for key in ("question_id", "image_id")}
_MEMBERS |= {"answers": rf"\[{', '.join(_SAID)}\]"}
"""What an annotation holds that ten people made, each with one answer."""


class Question(NamedTuple):
    """One question of an official question file."""

    image: int
    text: str


class Annotation(NamedTuple):
    """What people answered, the answer most of them gave, and the image they were shown."""

    reference: Reference
    majority: str
    image: int = 0


def take_questions(data: object, where: str) -> dict[int, Question]:
    """Read the questions of a parsed question file by their ids."""
    ids: list[int] = []
    questions: list[Question] = []
    with many_objects():
        for row, record in enumerate(member(data, "questions", list, where)):
            place = f"{where}: questions[{row}]"
            image, text = member(record, "image_id", int, place), member(record, "question", str, place)
            ids.append(member(record, "question_id", int, place))
            questions.append(Question(image, text))
    _check_ids(ids, where, "questions")
    return dict(zip(ids, questions, strict=True))


def take_annotations(data: object, where: str) -> dict[int, Annotation]:
    """Read the annotations of a parsed annotation file by their question ids."""
    gathered = _Annotations(where)
    with many_objects():
        gathered.add(member(data, "annotations", list, where))
    return gathered.by_id()


def read_annotations(path: Path, todo: str = "") -> tuple[dict[int, Annotation], dict[str, Any]]:
    """Read an annotation file, without ever holding all of it: its annotations, and what else it says."""
    gathered, others = _Annotations(str(path)), dict[str, Any]()
    with many_objects():
        for part in stream_list(path, "annotations", others, _annotation_shape, todo=todo):
            gathered.add(part.values) if isinstance(part, Block) else gathered.add_columns(part)
        gathered.add(member(others, "annotations", list, str(path)))
    return gathered.by_id(), others


@lru_cache
def _annotation_shape(keys: tuple[str, ...]) -> re.Pattern[str] | None:
    return re.compile(f", {members(_MEMBERS, keys)}") if set(keys) == _MEMBERS.keys() else None


class _Annotations:
    """Puts annotations together; questions with the same answers in the same order share one tuple."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.ids: list[int] = []
        self.annotations: list[Annotation] = []
        self.same: dict[tuple[str, ...], tuple[str, ...]] = {}

    def add(self, records: Iterable[object]) -> None:
        """Take further parsed records."""
        for record in records:
            place = f"{self.where}: annotations[{len(self.ids)}]"
            identity = member(record, "question_id", int, place)
            said = member(record, "answers", list, place)
            answers = _take_answers(said, place)
            reference = Reference(
                self.same.setdefault(answers, answers),
                intern(member(record, "answer_type", str, place)),
                intern(member(record, "question_type", str, place)),
                _twins(said),
            )
            majority = member(record, "multiple_choice_answer", str, place)
            self.annotations.append(Annotation(reference, majority, member(record, "image_id", int, place)))
            self.ids.append(identity)

    def add_columns(self, found: Columns) -> None:
        """Take further records of the official shape, in which no two people have the same number."""
        people = zip(*(map(intern, found[f"answer_{number}"]) for number in _PEOPLE), strict=True)
        types = (map(intern, found[key]) for key in ("answer_type", "question_type"))
        references = map(Reference, (self.same.setdefault(answers, answers) for answers in people), *types)
        rest = found["multiple_choice_answer"], map(int, found["image_id"])
        self.annotations += map(Annotation, references, *rest)
        self.ids += map(int, found["question_id"])

    def by_id(self) -> dict[int, Annotation]:
        """Return all that was taken."""
        _check_ids(self.ids, self.where, "annotations")
        return dict(zip(self.ids, self.annotations, strict=True))


def _take_answers(records: list[Any], place: str) -> tuple[str, ...]:
    if not records:
        raise BadData(f"{place}: 'answers' is empty")
    try:
        return tuple([intern(record["answer"]) for record in records])
    except (TypeError, KeyError, IndexError):
        # Something is wrong; go through it again, slowly, to say what.
        return tuple(member(r, "answer", str, f"{place}.answers[{at}]") for at, r in enumerate(records))


def _twins(records: list[dict[str, Any]]) -> tuple[int, ...]:
    """Mark records that agree in all but the answer by equal numbers; empty where, as usual, none do."""
    ids = [record.get("answer_id") for record in records]
    if set(map(type, ids)) == {int} and len(set(ids)) == len(ids):
        return ()
    rest = [{key: value for key, value in record.items() if key != "answer"} for record in records]
    marks = tuple(rest.index(each) for each in rest)
    return marks if len(set(marks)) < len(marks) else ()


def _check_ids(ids: list[int], where: str, what: str) -> None:
    if not ids:
        raise BadData(f"{where}: holds no {what}")
    refuse(where, f"{what} with a question id that came before", _doubled(ids))


def _doubled(ids: Collection[int]) -> list[int]:
    return [one for one, count in Counter(ids).items() if count > 1] if len(set(ids)) < len(ids) else []


def take_answers(data: object, where: str, *, last_counts: bool = False) -> dict[int, str]:
    """Read a parsed answer file by question id.

    The official evaluator takes the last answer of a doubled id; that is an error unless ``last_counts``.
    """
    if not isinstance(data, list):
        raise BadData(
            f"{where}: expected a list, found {describe(data)}",
            'an answer file is a JSON list of {"question_id": number, "answer": text}',
        )
    wrong = [at for at, record in enumerate(data) if not _is_answer(record)]
    if wrong:
        refuse_records(
            data, wrong, where, ("question_id", "answer"), 'a record is {"question_id": number, "answer": text}'
        )
    if not last_counts:
        refuse(
            where,
            "question ids answered more than once",
            _doubled([one["question_id"] for one in data]),
            "give one answer a question",
        )
    return {record["question_id"]: record["answer"] for record in data}


def _is_answer(record: object) -> bool:
    return isinstance(record, dict) and type(record.get("question_id")) is int and type(record.get("answer")) is str


def check_pairing(questions: Collection[int], annotations: Collection[int], where: str) -> None:
    """Raise BadData where annotations and questions are not of the same ids."""
    todo = "the two files must be of the same split"
    refuse(where, "annotations of questions that do not exist", _beyond(annotations, questions), todo)
    refuse(where, "questions without annotations", _beyond(questions, annotations), todo)


def check_answered(answers: Collection[int], questions: Collection[int], where: str) -> None:
    """Raise BadData where the answers are not those of exactly the questions."""
    todo = "an answer file holds every question of the split once, and no other"
    missing, surplus = _beyond(questions, answers), _beyond(answers, questions)
    if missing and surplus:
        raise BadData(
            f"{where}: question ids without an answer: {listed(missing)}; answered ids that are not in the "
            f"questions: {listed(surplus)}",
            todo,
        )
    refuse(where, "question ids without an answer", missing, todo)
    refuse(where, "answered ids that are not in the questions", surplus, todo)


def _beyond(ids: Collection[Identity], others: Collection[Identity]) -> list[Identity]:
    return [each for each in ids if each not in others]


class Asked(NamedTuple):
    """An example with what people said to it; without answers where these are not public."""

    example: Example
    reference: Reference
    majority: str = ""


class Official(NamedTuple):
    """A split as its official files give it."""

    coco: str
    """The image part of COCO it is asked of, such as val2014."""
    questions: dict[int, Question]
    annotations: dict[int, Annotation]
    """Empty where the answers are not public."""


def read_official(questions: Path, annotations: Path | None, todo: str, subtypes: Collection[str] = ()) -> Official:
    """Read a question file with its annotations; ``todo`` says where to get them.

    ``subtypes``: what the files may call their split (``data_subtype``); empty where any name will do, as long as it is
    that of both files.
    """
    data = read_json(questions, todo)
    asked = take_questions(data, str(questions))
    subtype = member(data, "data_subtype", str, str(questions))
    if subtypes and subtype not in subtypes:
        _refuse_split(questions, subtype, subtypes, asked)
    coco = subtype.replace("test-dev", "test")
    if annotations is None:
        return Official(coco, asked, {})
    answered, others = read_annotations(annotations, todo)
    said = member(others, "data_subtype", str, str(annotations)) if "data_subtype" in others else subtype
    check_pairing(asked.keys(), answered.keys(), str(annotations))
    if said != subtype:
        _refuse_split(annotations, said, (subtype,), answered)
    moved = [identity for identity, annotation in answered.items() if annotation.image != asked[identity].image]
    what = f"annotations whose image (image_id) is not that of the question in {questions.name}"
    refuse(str(annotations), what, moved, "the two files must be of the same split")
    return Official(coco, asked, answered)


def _refuse_split(path: Path, found: str, wanted: Collection[str], ids: Collection[int]) -> None:
    """Say that a file is of another split than it is read as, and which questions it holds."""
    what = f"its 'data_subtype' is {describe(found)}, not {' or '.join(map(describe, wanted))}; it holds the questions"
    refuse(str(path), what, ids, "the file is of another split: get the right one, or put it where it belongs")


def local_file(folder: Path) -> Path:
    """Find LXMERT's list of minival: its records, or one COCO image id a line."""
    records, images = folder / "minival.json", folder / "minival_image_ids.txt"
    return images if images.is_file() and not records.is_file() else records


def read_local_ids(folder: Path, images: Mapping[str, str], todo: str) -> set[str]:
    """Read which questions of val are minival; ``images`` holds val's image keys by question id."""
    path = local_file(folder)
    if path.suffix == ".txt":
        return _of_images(path, images)
    data = read_json(path, todo)
    if not isinstance(data, list):
        raise BadData(f"{path}: expected a list, found {describe(data)}")
    ids = [str(member(record, "question_id", int, f"{path}: [{at}]")) for at, record in enumerate(data)]
    _check_list(ids, path, "questions")
    refuse(str(path), "questions that val does not hold", _beyond(ids, images.keys()))
    return set(ids)


def _of_images(path: Path, images: Mapping[str, str]) -> set[str]:
    try:
        words = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(f"{path}: cannot be read: {error}") from None
    numbers = {key: key.rpartition("_")[2].lstrip("0") for key in set(images.values())}
    named = [word.lstrip("0") for word in words]
    _check_list(named, path, "images")
    wanted = set(named)
    refuse(str(path), "not numbers of images that val has questions on", sorted(wanted - set(numbers.values())))
    return {identity for identity, key in images.items() if numbers[key] in wanted}


def _check_list(ids: list[str], path: Path, what: str) -> None:
    """Refuse a list of ids that is empty, as one that was never filled, or names one twice."""
    if not ids:
        raise BadData(f"{path}: names no {what}", "get it again, or take it away where nobody asks for minival")
    check_once(ids, str(path), f"{what} named more than once")

"""The official VCR files: a record a line, and the leaderboard's table of probabilities; checked as they are read.

Texts are token lists in which a list of numbers stands for objects of the image. Tags become words as in the
authors' loader: a person is a name that says nothing of gender, the same one wherever that person is meant; any
other object is its class, here with a number where the image has several of the class.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from vlbench.metrics.vcr import CHOICES
from vlbench.tasks.reading import describe, many_objects, member, refuse
from vlbench.tasks.records import check_once, read_records
from vlbench.types import BadData

NAMES = (
    *("Casey", "Riley", "Jessie", "Jackie", "Avery", "Jaime", "Peyton", "Kerry", "Jody", "Kendall"),
    *("Skyler", "Frankie", "Pat", "Quinn"),
)
"""The names of the authors' loader (rowanz/r2c, dataloaders/vcr.py), which has one of them twice."""
ANSWERS = tuple(f"answer_{place}" for place in range(CHOICES))
RATIONALES = tuple(
    tuple(f"rationale_conditioned_on_a{answer}_{place}" for place in range(CHOICES)) for answer in range(CHOICES)
)
COLUMNS = ("annot_id", *ANSWERS, *(name for group in RATIONALES for name in group))
"""The columns of the leaderboard's file, in its order."""
_LAYOUT = f"an answer file is a CSV table of the columns {', '.join(COLUMNS[:2])}, ... {COLUMNS[-1]}, a row a question"
_HIDDEN = (
    "the labels of VCR's test split are hidden, and only the leaderboard's server scores it (vlbench submit RUN); "
    "val.jsonl and train.jsonl hold theirs"
)

Scores = tuple[float, ...]


class Question(NamedTuple):
    """One record: a question on an image, four answers, and four rationales."""

    id: str
    image: str
    """The image's file, below the folder of images."""
    text: str
    answers: tuple[str, ...]
    rationales: tuple[str, ...]
    answer: int | None
    """The right answer's place; None where it is not public."""
    rationale: int | None

    @property
    def key(self) -> str:
        """The image's key: its file's name without folder and ending."""
        return PurePosixPath(self.image).stem


class Probabilities(NamedTuple):
    """What an answer file holds of a question."""

    answers: Scores
    """[4]."""
    rationales: tuple[Scores, ...]
    """[4][4]: given each answer; not a number where the file leaves a group empty."""


def read_questions(path: Path, todo: str, *, public: bool) -> dict[str, Question]:
    """Read an annotation file by its ids, in its order; ``public``: whether it must hold what is right."""
    with many_objects():
        read = [take_question(record, place, public=public) for place, record in read_records(path, todo)]
    if not read:
        raise BadData(f"{path}: holds no questions", todo)
    check_once([question.id for question in read], str(path), "ids of more than one question")
    keys = {question.image: question.key for question in read}
    check_once(list(keys.values()), str(path), "names of more than one image")
    return {question.id: question for question in read}


def take_question(record: object, place: str, *, public: bool) -> Question:
    """Check one record, and write its token lists as texts."""
    objects = member(record, "objects", list, place)
    if not all(isinstance(name, str) for name in objects):
        raise BadData(f"{place}: 'objects' should be a list of texts")
    names = object_names(objects)
    assert isinstance(record, dict)  # member() made sure of it
    return Question(
        member(record, "annot_id", str, place),
        member(record, "img_fn", str, place),
        as_text(member(record, "question", list, place), names, f"{place}: question"),
        _choices(record, "answer_choices", names, place),
        _choices(record, "rationale_choices", names, place),
        _label(record, "answer_label", place) if public else None,
        _label(record, "rationale_label", place) if public else None,
    )


def object_names(objects: Sequence[str]) -> list[str]:
    """Give every object of an image a name of its own."""
    many, seen, names = Counter(objects), Counter[str](), []
    for kind in objects:
        seen[kind] += 1
        if kind == "person":
            again, place = divmod(seen[kind] - 1, len(NAMES))
            names.append(f"{NAMES[place]} {again + 1}" if again else NAMES[place])
        else:
            names.append(f"{kind} {seen[kind]}" if many[kind] > 1 else kind)
    return names


def as_text(tokens: Sequence[object], names: Sequence[str], place: str) -> str:
    """Join tokens by blanks, tags by what they name: several objects one after another, as in the authors' loader."""
    words: list[str] = []
    for at, token in enumerate(tokens):
        if isinstance(token, str):
            words.append(token)
        elif isinstance(token, list) and all(type(tag) is int and 0 <= tag < len(names) for tag in token):
            words += [names[tag] for tag in token]
        else:
            wanted = f"a text or a list of numbers below {len(names)}, the objects there are"
            raise BadData(f"{place}: token {at} should be {wanted}, found {json.dumps(token)[:40]}")
    return " ".join(words)


def _choices(record: dict[str, object], key: str, names: Sequence[str], place: str) -> tuple[str, ...]:
    choices = member(record, key, list, place)
    if len(choices) != CHOICES or not all(isinstance(choice, list) for choice in choices):
        raise BadData(f"{place}: '{key}' should be {CHOICES} lists of tokens")
    return tuple(as_text(choice, names, f"{place}: {key}[{at}]") for at, choice in enumerate(choices))


def _label(record: dict[str, object], key: str, place: str) -> int:
    if isinstance(record, dict) and key not in record:
        raise BadData(f"{place}: the key '{key}' is missing", _HIDDEN)
    label = member(record, key, int, place)
    if not 0 <= label < CHOICES:
        raise BadData(f"{place}: '{key}' should be from 0 to {CHOICES - 1}, found {label}")
    return label


def read_table(content: bytes, where: str) -> dict[str, Probabilities]:
    """Read an answer file by question id."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        wrong = f"not UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}"
        raise BadData(f"{where}: {wrong}", _LAYOUT) from None
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        return take_rows(((lines.line_num, cells) for cells in lines), where)
    except csv.Error as error:
        raise BadData(f"{where}: line {lines.line_num}: not CSV: {error}", _LAYOUT) from None


def take_rows(rows: Iterable[tuple[int, Sequence[str]]], where: str) -> dict[str, Probabilities]:
    """Read a table's numbered lines, the first of which names its columns, by question id."""
    lines = ((number, cells) for number, cells in rows if cells)
    _, header = next(lines, (0, ()))
    if sorted(header) != sorted(COLUMNS):
        refuse(where, "columns that are missing", [name for name in COLUMNS if name not in header], _LAYOUT)
        refuse(where, "columns that are unknown or doubled", list((Counter(header) - Counter(COLUMNS)).keys()), _LAYOUT)
    found: list[tuple[str, Probabilities]] = []
    for number, cells in lines:
        place = f"{where}: line {number}"
        if len(cells) != len(header):
            raise BadData(f"{place}: {len(cells)} cells, but {len(header)} columns", "is the file cut short?")
        row = dict(zip(header, cells, strict=True))
        groups = tuple(_group(row, columns, place) for columns in RATIONALES)
        found.append((row["annot_id"], Probabilities(_numbers(row, ANSWERS, place), groups)))
    check_once([identity for identity, _ in found], where, "ids answered more than once", "give one row a question")
    return dict(found)


def _group(row: Mapping[str, str], columns: Sequence[str], place: str) -> Scores:
    """Read the rationales given one answer, which may all be left empty."""
    if not any(row[column].strip() for column in columns):
        return (math.nan,) * CHOICES
    return _numbers(row, columns, place)


def _numbers(row: Mapping[str, str], columns: Sequence[str], place: str) -> Scores:
    return tuple(_number(row[column], column, place) for column in columns)


def _number(cell: str, column: str, place: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadData(f"{place}: '{column}' should be a number, found {describe(cell)}", _LAYOUT)
    return value


def table(rows: Iterable[Mapping[str, object]]) -> bytes:
    """Write rows of an answer file, by column, as the leaderboard takes them."""
    file = io.StringIO(newline="")
    lines = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    lines.writeheader()
    lines.writerows(rows)
    return file.getvalue().encode("utf-8")

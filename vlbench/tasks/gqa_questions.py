"""The official GQA question files, checked as they are read; or LXMERT's lists, which hold question, image and answer.

A split may lie in several files (``train_all_questions``). They are read in a stream, as they hold up to millions of
questions each, with programs and annotations that nobody here asks for. Ids are texts, whose leading zeros count.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from vlbench.metrics.gqa import count_steps
from vlbench.metrics.gqa_columns import Gathering, Kind, Question, Questions
from vlbench.tasks.json_stream import LETTERS, TEXT, TEXTS, Block, Columns, members, stream, texts
from vlbench.tasks.reading import describe, many_objects, member
from vlbench.tasks.records import check_once
from vlbench.types import BadData

UNKNOWN = Kind("", "", "")
"""Of a question whose file says no more of it than its text, its image and perhaps its answer."""
_SCORED = ("answer", "types", "groups", "entailed", "semantic")
"""What scores need, and the files of hidden splits do not have."""

_NUMBER = r"(?:0|[1-9][0-9]*+)"
_NUMBERS = rf"\[(?:{_NUMBER}(?:, {_NUMBER})*+)?+\]"
_STEP = rf'\{{"operation": {TEXT}, "dependencies": {_NUMBERS}, "argument": {TEXT}\}}'
_NAMED = rf"\{{(?:{TEXT}: {TEXT}(?:, {TEXT}: {TEXT})*+)?+\}}"
_MEMBERS = {
    "question": f'"(?P<question>{LETTERS})"',
    "imageId": f'"(?P<imageId>{LETTERS})"',
    "isBalanced": "(?P<isBalanced>true|false)",
    "answer": f'"(?P<answer>{LETTERS})"',
    "types": f"(?P<types>{_NAMED})",
    "groups": rf'\{{"global": (?P<groups>null|{TEXT}), "local": {TEXT}\}}',
    "entailed": f"(?P<entailed>{TEXTS})",
    "semantic": rf"(?P<semantic>\[(?:{_STEP}(?:, {_STEP})*+)?+\])",
    "equivalent": TEXTS,
    "fullAnswer": TEXT,
    "semanticStr": TEXT,
    "annotations": rf"\{{{TEXT}: {_NAMED}(?:, {TEXT}: {_NAMED})*+\}}",
}
_OPERATION = '{"operation": '
_QUERY_NAME = re.compile(rf'query", "dependencies": {_NUMBERS}, "argument": "name')
_PROGRAM = re.compile(rf'"operation": "({LETTERS})", "dependencies": {_NUMBERS}, "argument": "({LETTERS})"')


def question_files(path: Path) -> list[Path]:
    """List the files that a path stands for: itself, or the numbered parts in a folder such as train_all_questions."""
    if not path.is_dir():
        return [path]
    if not (parts := sorted(path.glob(f"{path.name}_*.json"))):
        raise BadData(f"{path}: holds no {path.name}_*.json", "name the file of questions itself")
    return parts


def read_questions(paths: Sequence[Path], todo: str = "", *, public: bool = True) -> Questions:
    """Read the questions of the files that make up a split, in their order; ``todo`` says where to get them.

    Where answers are not public, questions may have nothing but their text and image.
    """
    found = Gathering()
    with many_objects():
        for path in paths:
            before = len(found.ids)
            for part in stream(path, "either", _shape, todo=todo):
                found.add(
                    zip(*_rows(part, public), strict=True) if isinstance(part, Block) else _columns(part, str(path))
                )
            if len(found.ids) == before:
                raise BadData(f"{path}: holds no questions", todo)
    hashes = np.fromiter(map(hash, found.ids), np.int64, len(found.ids))
    if len(np.unique(hashes)) < len(hashes):  # asked first, as a set of millions of ids would take gigabytes
        check_once(found.ids, str(paths[-1]), "question ids that came before")
    return found.questions()


@lru_cache
def _shape(keys: tuple[str, ...]) -> re.Pattern[str] | None:
    known = _MEMBERS.keys() >= set(keys)
    return re.compile(f', "(?P<id>{LETTERS})": {members(_MEMBERS, keys)}') if known else None


def _columns(found: Columns, where: str) -> Iterator[Sequence[Any]]:
    """Yield the fields of questions, a column each, from records that have the official shape."""
    count, balanced = len(found["id"]), [said == "true" for said in found["isBalanced"]]
    yield found["id"]
    yield found["imageId"]
    yield found["question"]
    yield balanced
    yield found.get("answer", [None] * count)
    yield _kinds(found["types"], found["id"], where) if "types" in found else [UNKNOWN] * count
    yield [None if raw == "null" else raw[1:-1] for raw in found.get("groups", ["null"] * count)]
    # Only balanced questions are premises, and most are not.
    entailed = zip(found.get("entailed", [""] * count), balanced, strict=True)
    yield [texts(raw) if premise else () for raw, premise in entailed]
    programs = zip(found.get("semantic", [""] * count), balanced, strict=True)
    yield [_steps(raw) if scored else 0 for raw, scored in programs]


def _kinds(raws: Sequence[str], ids: Sequence[str], where: str) -> list[Kind]:
    known = {raw: row for row, raw in enumerate(raws)}
    kinds = {raw: _take_kind(json.loads(raw), f"{where}: {describe(ids[row])}") for raw, row in known.items()}
    return [kinds[raw] for raw in raws]


def _rows(found: Block, public: bool) -> Iterator[Question]:
    """Yield questions, be they of records of any other shape or of LXMERT's lists."""
    for at, record in enumerate(found.values):
        if found.names:
            yield take_question(found.names[at], record, found.place(at), public=public)
        else:
            yield _take_lxmert(record, found.place(at), public)


def _steps(raw: str) -> int:
    """Count the steps of a program as it stands in a file, as ``count_steps`` does."""
    exist, name = "exist" in raw, "name" in raw
    if (exist or name) and raw.count("exist") + raw.count("name") > 1:
        return count_steps(_PROGRAM.findall(raw))
    # One step at most only asks for what has been found.
    asks = exist or (name and ("choose name" in raw or "query: name" in raw or _QUERY_NAME.search(raw)))
    return raw.count(_OPERATION) - bool(asks)


def take_question(name: str, record: object, place: str, *, public: bool = True) -> Question:
    """Read a parsed record of an official question file; ``place`` says where it stands."""
    text, image = member(record, "question", str, place), member(record, "imageId", str, place)
    assert isinstance(record, dict)  # else it had no members
    balanced = _take_flag(record, "isBalanced", place)
    told = record.keys() | set(_SCORED if public else ())
    answer = member(record, "answer", str, place) if "answer" in told else None
    kind = _take_kind(member(record, "types", dict, place), place) if "types" in told else UNKNOWN
    entailed = take_texts(record, "entailed", place) if "entailed" in told else ()
    program = [_take_step(one, place) for one in member(record, "semantic", list, place)] if "semantic" in told else ()
    return Question(
        id=name,
        image=image,
        text=text,
        balanced=balanced,
        answer=answer,
        kind=kind,
        group=_take_group(member(record, "groups", dict, place), place) if "groups" in told else None,
        entailed=entailed if balanced else (),
        steps=count_steps(program) if balanced else 0,
    )


def _take_flag(record: Mapping[str, Any], key: str, place: str) -> bool:
    if key not in record:
        raise BadData(f"{place}: the key '{key}' is missing")
    if not isinstance(record[key], bool):
        raise BadData(f"{place}: '{key}' should be true or false, found {describe(record[key])}")
    return bool(record[key])


def _take_kind(types: dict[str, Any], place: str) -> Kind:
    structural, semantic, detailed = (member(types, key, str, f"{place}: types") for key in Kind._fields)
    return Kind(structural, semantic, detailed)


def _take_group(groups: dict[str, Any], place: str) -> str | None:
    return None if groups.get("global", "") is None else member(groups, "global", str, f"{place}: groups")


def take_texts(record: object, key: str, place: str) -> tuple[str, ...]:
    """Read a list of texts of a parsed record."""
    values = member(record, key, list, place)
    if wrong := [each for each in values if not isinstance(each, str)]:
        raise BadData(f"{place}: '{key}' should hold texts, found {describe(wrong[0])}")
    return tuple(values)


def _take_step(step: object, place: str) -> tuple[str, str]:
    place = f"{place}: semantic"
    return member(step, "operation", str, place), member(step, "argument", str, place)


def _take_lxmert(record: object, place: str, public: bool) -> Question:
    name, image = member(record, "question_id", str, place), member(record, "img_id", str, place)
    assert isinstance(record, dict)  # else it had no members
    labels = member(record, "label", dict, place) if public or "label" in record else {}
    if len(labels) > 1 or (public and not labels):
        raise BadData(f"{place}: 'label' should hold one answer, found {len(labels)}")
    return Question(name, image, member(record, "sent", str, place), True, next(iter(labels), None), UNKNOWN)

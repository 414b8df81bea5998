"""A list within an object is read in a stream: the same is read as from the whole file, and the same refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlbench.tasks import json_stream
from vlbench.tasks.json_stream import Block, stream_list
from vlbench.tasks.vqa_files import Annotation, read_annotations, take_annotations
from vlbench.types import BadData

SLOWLY = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))


def annotation(number: int, *, people: int = 10) -> dict[str, Any]:
    return {
        "question_type": "what is",
        "multiple_choice_answer": f"é{number % 3}",
        "answers": [
            {"answer": f"é{(number + at) % 3}", "answer_confidence": "yes", "answer_id": at}
            for at in range(1, people + 1)
        ],
        "image_id": number // 4,
        "answer_type": "other",
        "question_id": number,
    }


def turned(record: dict[str, Any]) -> dict[str, Any]:
    return dict(reversed(record.items()))


RECORDS = [*map(annotation, range(6)), annotation(-7, people=3), turned(annotation(8)), annotation(9)]
RECORDS[3]["answers"][2]["answer"] = 'a "quote"'
RECORDS[4]["answers"][2]["answer_id"] = 1
CONTENT = {"info": {"annotations": [1]}, "data_subtype": "val2014", "annotations": RECORDS, "license": {"url": []}}


def whole(content: bytes) -> tuple[dict[int, Annotation], dict[str, Any]]:
    """Read an annotation file by parsing all of it."""
    data = json.loads(content.decode())
    found = take_annotations(data, "FILE")
    return found, {key: value for key, value in data.items() if key != "annotations"}


def streamed(path: Path, content: bytes) -> tuple[dict[int, Annotation], dict[str, Any]]:
    path.write_bytes(content)
    found, others = read_annotations(path)
    return found, {key: value for key, value in others.items() if key != "annotations"}


@pytest.mark.parametrize("block", [1, 7, 64, 1000, 1 << 20])
@pytest.mark.parametrize("form", [{}, {"indent": 2}, {"ensure_ascii": False}])
def test_annotations_are_read_as_from_the_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, form: dict[str, Any]
) -> None:
    monkeypatch.setattr(json_stream, "BLOCK", block)
    monkeypatch.setattr(json_stream, "_NEARLY", 50)
    for data in (CONTENT, turned(CONTENT), {"annotations": RECORDS}):
        content = json.dumps(data, **form).encode()
        assert streamed(tmp_path / "file.json", content) == whole(content)
    named = json.dumps(CONTENT, **form).encode().replace(b'"annotations": [{', b'"annot\\u0061tions": [{', 1)
    assert streamed(tmp_path / "file.json", named) == whole(named)


@SLOWLY
@given(at=st.integers(0, 20_000), much=st.integers(0, 12), put=st.binary(max_size=3))
def test_a_change_of_bytes_is_read_as_from_the_whole_file_or_refused(
    tmp_path_factory: pytest.TempPathFactory, at: int, much: int, put: bytes
) -> None:
    content = json.dumps(CONTENT, ensure_ascii=False).encode()
    at %= len(content)
    content = content[:at] + put + content[at + much :]
    path = tmp_path_factory.getbasetemp() / "changed.json"
    try:
        expected = whole(content)
    except (BadData, ValueError):
        with pytest.raises(BadData):
            streamed(path, content)
        return
    assert streamed(path, content) == expected


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    content = json.dumps(CONTENT, ensure_ascii=False).encode()
    for end in range(0, len(content), 7):
        with pytest.raises(BadData, match=r"not (JSON: line 1, column|UTF-8 text: byte) \d+"):
            streamed(tmp_path / "cut.json", content[:end])


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("[]", "expected an object, found a list"),
        ("{}", "the key 'annotations' is missing"),
        ('{"annotations": []}', "holds no annotations"),
        ('{"annotations": {"a": []}}', "'annotations' should be a list, found an object"),
        ('{"annotations": [], "annotations": []}', "line 1, column 37: the key 'annotations' came before"),
        ('{"annotations": 1,\n "annotations": []}', "line 2, column 18: the key 'annotations' came before"),
        ('{"annotations": [], "annotations": 1}', "the key 'annotations' came before"),
        ('{"annotations": []', "line 1, column 19: expecting ,"),
        ('{"a": 1 "annotations": []}', "line 1, column 9: expecting ,"),
        ('{, "annotations": []}', 'line 1, column 2: expecting "'),
        ('{"annotations": []} x', "line 1, column 21: extra data"),
        ('{"annotations": [1]}', r"annotations\[0\]: expected an object with 'question_id'"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, content: str, line: str) -> None:
    with pytest.raises(BadData, match=line):
        streamed(tmp_path / "file.json", content.encode())


def test_faulty_records_are_named_by_their_place(tmp_path: Path) -> None:
    for at in range(len(RECORDS)):
        records = [{**record, "image_id": "1"} if row == at else record for row, record in enumerate(RECORDS)]
        with pytest.raises(BadData, match=rf"file\.json: annotations\[{at}\]: 'image_id' should be a whole number"):
            streamed(tmp_path / "file.json", json.dumps({"annotations": records}).encode())
    with pytest.raises(BadData, match=r"with a question id that came before: 0, 9 \(2 in all\)"):
        streamed(tmp_path / "file.json", json.dumps({"annotations": RECORDS + RECORDS[::8]}).encode())


def test_any_list_is_read(tmp_path: Path) -> None:
    path, others = tmp_path / "file.json", dict[str, Any]()
    path.write_text('{"a": [1], "b": [], "some [name]": [1, {"b": [2]}, "x"] , "c": 0}')
    parts = [part.values for part in stream_list(path, "some [name]", others) if isinstance(part, Block)]
    assert [value for values in parts for value in values] == [1, {"b": [2]}, "x"]
    assert others == {"a": [1], "b": [], "some [name]": [], "c": 0}

"""Text without escapes and control characters is read by faster patterns: the same is read, and the same refused."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlbench.metrics.gqa import count_steps
from vlbench.tasks import json_stream
from vlbench.tasks.gqa_questions import _steps
from vlbench.tasks.json_stream import LETTERS, TEXTS, Block, members, stream, texts
from vlbench.types import BadData

MEMBERS = {"a": f'"(?P<a>{LETTERS})"', "b": f"(?P<b>{TEXTS})"}
RECORDS = {f"{number:03d}": {"a": f"é{number}", "b": ["x", "ü"] * (number % 3)} for number in range(50)}
ESCAPED = {f"{number}": {"a": 'a "quote"', "b": ["a\\b"]} for number in range(5)}


def shape(keys: tuple[str, ...]) -> re.Pattern[str] | None:
    return re.compile(f', "(?P<id>{LETTERS})": {members(MEMBERS, keys)}') if set(keys) == {"a", "b"} else None


def read(content: bytes) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for part in stream(content, "either", shape, where="FILE"):
        if isinstance(part, Block):
            rows += zip(part.names or [""] * len(part.values), part.values, strict=True)
        else:
            records = zip(part["id"], part["a"], map(texts, part["b"]), strict=True)
            rows += [(name, {"a": a, "b": list(b)}) for name, a, b in records]
    return rows


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(at=st.integers(0, 2000), much=st.integers(0, 4), put=st.binary(max_size=4))
def test_a_change_of_bytes_is_read_as_json_would_or_refused(at: int, much: int, put: bytes) -> None:
    content = json.dumps(RECORDS, ensure_ascii=False).encode()
    at %= len(content)
    content = content[:at] + put + content[at + much :]
    try:
        expected = json.loads(content.decode(), object_pairs_hook=list)
    except ValueError:
        with pytest.raises(BadData):
            read(content)
        return
    assert [name for name, _ in read(content)] == [name for name, _ in expected]


@pytest.mark.parametrize("char", ["\t", "\n", "\0", "\x1f"])
def test_a_control_character_within_a_text_is_refused(char: str) -> None:
    text = json.dumps(RECORDS, ensure_ascii=False)
    with pytest.raises(BadData, match="Invalid control character"):
        read(text.replace("é30", f"é{char}").encode())


@pytest.mark.parametrize("block", [1, 7, 64, 300, 1000])
def test_escapes_in_some_blocks_only(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(json_stream, "BLOCK", block)
    monkeypatch.setattr(json_stream, "_NEARLY", 5)
    mixed = RECORDS | ESCAPED | {f"{number}": RECORDS["001"] for number in range(200, 230)}
    assert read(json.dumps(mixed, ensure_ascii=False).encode()) == list(mixed.items())


PHRASES = ["exist", "name", "query", "query: name", "choose name", "choose", ": ", "e", "not exist", "names"]
WORDS = st.lists(st.sampled_from(PHRASES), max_size=3).map(" ".join)


@given(st.lists(st.tuples(WORDS, WORDS), max_size=4))
def test_steps_are_counted_as_they_stand(program: list[tuple[str, str]]) -> None:
    keys = ("operation", "dependencies", "argument")
    steps = [dict(zip(keys, (one, [3, 4] * at, other), strict=True)) for at, (one, other) in enumerate(program)]
    assert _steps(json.dumps(steps)) == count_steps(program)

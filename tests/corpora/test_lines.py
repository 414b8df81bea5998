"""Plain text: every line that holds something is an example, and only a line feed ends one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlbench.corpora.corpus import Corpus
from vlbench.types import BadData, Example

Open = Callable[..., Corpus]
LOOSE = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(["\n", "\r\n", ""]))
@LOOSE
def test_no_line_is_lost(opened: Open, text: str, end: str) -> None:
    wanted = [line.strip(" \t\r\n") for line in (text + end).split("\n")]
    corpus = opened("lines", {"a.txt": text + end, "b.txt": "one\n\ntwo"})
    found = [corpus.example(number) for number in range(len(corpus))]
    assert [example.texts[0] for example in found] == [*filter(None, wanted), "one", "two"]
    assert [(example.id, example.images) for example in found] == [(f"mine:{n}", ()) for n in range(len(found))]


def test_there_are_no_images(opened: Open) -> None:
    corpus = opened("lines", {"a.txt": "one\u2028two\n"})
    assert corpus.example(0) == Example("mine:0", (), ("one\u2028two",))
    assert corpus.picture("mine:x") is None
    assert list(corpus.texts(9, 0)) == ["one\u2028two"]
    assert list(corpus.files()) == ["a.txt"]


def test_what_is_no_text_is_refused(opened: Open) -> None:
    with pytest.raises(BadData, match=r"b\.txt: not UTF-8 text: byte 5 is 0xe9") as fault:
        opened("lines", {"a.txt": "fine", "b.txt": b"fine\n\xe9"})
    assert fault.value.todo

"""Words as numbers: equal ones have equal numbers, and no others."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlbench.metrics import caption_pieces
from vlbench.metrics.caption_pieces import END, Numbering

WORDS = st.one_of(
    st.text(alphabet="ab", min_size=1, max_size=13),
    st.text(alphabet="ab\0é日\U0001f600\ud800\t", min_size=1, max_size=13),
    st.sampled_from(["a" * size for size in (7, 8, 10, 11, 13, 14, 40)]),
)
TEXTS = st.lists(st.lists(WORDS, max_size=6).map(" ".join), max_size=5)


@given(TEXTS, TEXTS)
@settings(max_examples=300, deadline=None)
def test_equal_words_and_no_others_have_equal_numbers(first: list[str], second: list[str]) -> None:
    numbering, known = Numbering(), {"\n": END}
    for texts in (first, second):
        before, found = numbering.count, numbering.cut(*texts)
        wanted = [word for text in texts for word in [*text.split(" "), "\n"] if word]
        assert len(wanted) == len(found.numbers)
        for word, number in zip(wanted, found.numbers.tolist(), strict=True):
            assert known.setdefault(word, number) == number < numbering.count
        assert len(set(known.values())) == len(known)
        assert found.spelled(before) == {number: word for word, number in known.items() if number >= before}
        assert found.tight == all(text and "  " not in f" {text} " for text in texts)


def test_words_that_want_one_place_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_pieces, "_SLOTS", 2)
    words = [f"{letter}{number}" for letter in ("w", "long-word-") for number in range(40)]
    numbers = Numbering().cut(" ".join(words), " ".join(words)).numbers.tolist()
    assert numbers[: len(words) + 1] == numbers[len(words) + 1 :]
    assert len(set(numbers)) == len(words) + 1

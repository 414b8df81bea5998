"""The scorer's versions, its quirks one by one, vocabularies and soft targets."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlbench.metrics.vqa_accuracy import (
    SCORERS,
    Reference,
    accuracies,
    agreement,
    answer_list,
    clean,
    normalise_answer,
    preprocess_answer,
    soft_score,
    soft_targets,
    strip_punctuation,
    summarise,
)


def score(humans: list[str], said: str, scorer: str, records: tuple[int, ...] = ()) -> float:
    reference = Reference(tuple(humans), records=records)
    return round(100 * float(accuracies([said], [reference], scorer)[0]), 6)


# What each published version gives, as measured on the evaluators themselves:
# people, answer, official since March 2021, official before, always normalising.
VERSIONS = [
    (["t-shirt"] * 10, "t-shirt", 100, 0, 100),
    (["two"] * 10, "2", 0, 0, 100),
    (["2"] * 10, "two", 0, 100, 100),
    (["the beach"] * 6 + ["ocean"] * 4, "the beach", 100, 0, 100),
    (["two"] * 6 + ["3"] * 4, "2", 100, 0, 100),
    (["dont walk"] * 10, "don't walk", 0, 0, 100),
    (["no"] * 10, "No", 0, 100, 100),
    (["10:30"] * 10, "10:30", 100, 100, 100),
]


@pytest.mark.parametrize(("humans", "said", "now", "before", "always"), VERSIONS)
def test_versions_differ_as_published(humans: list[str], said: str, now: int, before: int, always: int) -> None:
    assert score(humans, said, "official-2021") == now
    assert score(humans, said, "official-2015") == before
    assert score(humans, said, "always-normalise") == always


@pytest.mark.parametrize("scorer", SCORERS)
def test_a_typical_answer_scores_alike_in_every_version(scorer: str) -> None:
    assert score(["red"] * 10, "red", scorer) == 100
    assert score(["red"] * 10, "blue", scorer) == 0


def test_soft_is_a_look_up_of_the_raw_string() -> None:
    humans = ["Two", "two", "two"] + ["3"] * 7
    assert [score(humans, said, "soft") for said in ("two", "Two", "2", "3")] == [60, 30, 0, 100]


def test_exact_match_is_letter_for_letter() -> None:
    assert score(["red"], "red", "exact-match") == 100
    assert score(["red"], "Red", "exact-match") == 0


@pytest.mark.parametrize(("matched", "percent"), [(0, 0), (1, 30), (2, 60), (3, 90), (4, 100), (9, 100)])
def test_ten_annotators(matched: int, percent: int) -> None:
    humans = ["red"] * matched + [f"other {i}" for i in range(10 - matched)]
    assert score(humans, "red", "official-2021") == percent


def test_other_numbers_of_annotators() -> None:
    assert score(["red"], "red", "official-2021") == 0
    assert score(["red", "0"], "red", "official-2021") == pytest.approx(100 / 6)
    assert score(["red"] * 3, "red", "official-2021") == pytest.approx(200 / 3)


def test_identical_records_leave_each_other_out() -> None:
    assert score(["red"] * 10, "red", "official-2021", (0,) * 10) == 0
    assert score(["red"] * 4 + ["0"] * 6, "red", "official-2021", (0,) * 4 + tuple(range(4, 10))) == 60


@pytest.mark.parametrize(
    ("raw", "tidy"),
    [
        ("1,000-2,000", "10002000"),  # a thousands comma anywhere: every mark is deleted
        ("a-pizza", "pizza"),  # a mark without a blank beside it becomes one
        ("blue-white -", "bluewhite"),  # but is deleted everywhere where one stands beside a blank
        ("p.m.", "pm"),
        ("3.5.", "3.5"),
        ("none", "0"),
        ("Im", "im"),  # the table spells it with a capital, and the text is in lower case by then
        ("somebody'd", "somebodyd"),
        ("3:30 & $5 #1", "3:30 & $5 #1"),
        ("a", ""),
        ("hot\ndog\t", "hot dog"),
    ],
)
def test_normalising(raw: str, tidy: str) -> None:
    assert normalise_answer(raw) == tidy


def test_at_most_32_periods_go() -> None:
    assert strip_punctuation("x." * 40) == "x" * 33 + "." + "x." * 7


def test_preprocessing_does_not_clean_first() -> None:
    assert (preprocess_answer(" ;x;y"), normalise_answer(" ;x;y")) == ("xy", "x y")


def test_answer_list_counts_preprocessed_answers() -> None:
    majority = ["Two.", "2", "two", "red", "red", "blue"]
    assert answer_list(majority, 2) == ["2", "red"]
    assert answer_list(reversed(majority), 2) == ["2", "red"]


def test_soft_targets_count_raw_strings() -> None:
    answers = ["2", "two", "Two.", "two", "left"]
    assert soft_targets(answers) == {"2": 0.3, "two": 0.6, "Two.": 0.3, "left": 0.3}
    assert soft_targets(answers, {"2", "red"}) == {"2": 0.3}
    assert soft_targets(answers, {"2", "red"}, normalise=True) == {"2": 1.0}


def test_summary_averages_over_questions_not_over_kinds() -> None:
    references = [Reference(("x",), kind, group) for kind, group in (("a", "p"), ("a", "q"), ("b", "q"))]
    found = summarise(np.array([1.0, 0.0, 0.3]), references)
    assert found.overall == pytest.approx(130 / 3)
    assert found.per_answer_type == pytest.approx({"a": 50.0, "b": 30.0})
    assert found.per_question_type == pytest.approx({"p": 100.0, "q": 15.0})


def _plain_agreement(said: str, humans: list[str], records: list[int]) -> float:
    """The definition, written out."""
    people = list(zip(humans, records, strict=True))
    total = 0.0
    for person in people:
        others = [other for other in people if other != person]
        total += min(1.0, sum(human == said for human, _ in others) / 3)
    return total / len(people)


@given(
    st.sampled_from(["x", "y", "z"]),
    st.lists(st.tuples(st.sampled_from(["x", "y"]), st.integers(0, 12)), min_size=1, max_size=12),
)
def test_agreement_is_the_definition(said: str, people: list[tuple[str, int]]) -> None:
    humans, records = [human for human, _ in people], [record for _, record in people]
    assert agreement(said, humans, records) == _plain_agreement(said, humans, records)
    distinct = list(range(len(humans)))
    assert agreement(said, humans) == _plain_agreement(said, humans, distinct)


@given(st.text(max_size=30))
def test_normalising_never_fails_and_cleaning_is_final(raw: str) -> None:
    assert clean(clean(raw)) == clean(raw)
    assert normalise_answer(raw) == " ".join(normalise_answer(raw).split())
    assert "," not in preprocess_answer(raw)


def test_order_of_annotators_does_not_matter() -> None:
    humans = ["red"] * 2 + ["Red."] + ["blue"] * 7
    expected = score(humans, "red", "official-2021")
    for seed in range(20):
        random.Random(seed).shuffle(humans)
        assert score(humans, "red", "official-2021") == expected == 90


def test_soft_score_is_the_published_table() -> None:
    assert [soft_score(count) for count in range(7)] == [0, 0.3, 0.6, 0.9, 1, 1, 1]

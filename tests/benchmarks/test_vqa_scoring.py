"""How long scoring takes at the size of VQA v2 val; reported, not asserted, as machines differ."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import numpy as np
import pytest

from vlbench.metrics.intervals import mean_interval
from vlbench.metrics.vqa_accuracy import (
    OFFICIAL,
    Reference,
    accuracies,
    clean,
    simplify_words,
    strip_punctuation,
    summarise,
)

QUESTIONS = 214_354
PLAIN = 2_000
"""The plain version is run on this many only."""


def made_up(count: int) -> tuple[list[str], list[Reference]]:
    """Questions whose ten answers disagree about as often as people do, over a long tail of strings."""
    draw = random.Random(0)
    words = [f"{shape} {number}" for number in range(4000) for shape in ("the cat", "t-shirt", "Two.", "1,000", "dont")]
    references, answers = [], []
    for _ in range(count):
        common = words[min(int(draw.expovariate(0.01)), len(words) - 1)]
        people = tuple(common if draw.random() < 0.8 else draw.choice(words) for _ in range(10))
        references.append(Reference(people, draw.choice(("yes/no", "number", "other")), f"type {draw.randrange(65)}"))
        answers.append(common if draw.random() < 0.6 else draw.choice(words))
    return answers, references


def plain_accuracy(answer: str, humans: Sequence[str]) -> float:
    """The official rule of today written out: no cache, every annotator left out in turn."""
    humans, answer = [clean(human) for human in humans], clean(answer)
    if len(set(humans)) > 1:
        humans = [simplify_words(strip_punctuation(human)) for human in humans]
        answer = simplify_words(strip_punctuation(answer))
    each = []
    for at in range(len(humans)):
        others = [human for place, human in enumerate(humans) if place != at]
        each.append(min(1.0, sum(human == answer for human in others) / 3))
    return sum(each) / len(each)


def test_scoring_at_the_size_of_val(capsys: pytest.CaptureFixture[str]) -> None:
    answers, references = made_up(QUESTIONS)
    lines = []
    for scorer in OFFICIAL:
        start = time.perf_counter()
        values = accuracies(answers, references, scorer)
        summary = summarise(values, references)
        lines.append(f"{scorer}: {QUESTIONS} questions in {time.perf_counter() - start:.2f} s")
        assert len(values) == QUESTIONS
        assert 0 < summary.overall < 100
    start = time.perf_counter()
    estimate = mean_interval(values, np.arange(QUESTIONS) // 5)
    lines.append(f"interval over {QUESTIONS // 5} images in {time.perf_counter() - start:.2f} s")
    assert estimate.low is not None
    with capsys.disabled():
        print("", *lines, sep="\n")


def test_plain_version_agrees_and_is_slower(capsys: pytest.CaptureFixture[str]) -> None:
    answers, references = made_up(PLAIN)
    start = time.perf_counter()
    plain = [plain_accuracy(said, reference.answers) for said, reference in zip(answers, references, strict=True)]
    middle = time.perf_counter()
    ours = accuracies(answers, references, "official-2021")
    end = time.perf_counter()
    assert ours.tolist() == plain
    with capsys.disabled():
        print(f"\n{PLAIN} questions: plain {middle - start:.3f} s, ours {end - middle:.3f} s")

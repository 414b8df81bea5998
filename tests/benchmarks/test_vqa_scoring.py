"""How long scoring VQA v2 takes beside the official way, which is written out here and agrees on any text.

``python tests/benchmarks/test_vqa_scoring.py`` compares them on files of the size of val, in one run, and ends with 1
where scoring is less than 20 times as fast. Times are of the processor, so that other work on the machine counts
little. The tests only see that the two agree.
"""

from __future__ import annotations

import gc
import json
import random
import re
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlbench.metrics.intervals import mean_interval
from vlbench.metrics.vqa_accuracy import (
    ARTICLES,
    CONTRACTIONS,
    NUMBERS,
    OFFICIAL,
    PUNCTUATION,
    Accuracies,
    Reference,
    Summary,
    accuracies,
    summarise,
)
from vlbench.tasks.reading import read_json
from vlbench.tasks.vqa_files import check_answered, read_official, take_annotations, take_answers

Found = TypeVar("Found")
QUESTIONS, ANNOTATORS = 214_354, 10
FEW = 2_000
ROUNDS, EVERY, CLAIM = 5, 40, 20
"""In each round the plain version scores every fortieth question, and each time others."""
PATHS = ("questions.json", "annotations.json", "answers.json")
_STEMS = (
    "cat dog table red blue tennis racket pizza on left of the wall two people street sign wooden bench white train"
)
KINDS = {"yes/no": ["yes", "no"], "number": ["1", "2", "3", "4", "0", *map(str, range(5, 120)), "1,000", "2 1/2"]}
SPOILED: tuple[Callable[[str], str], ...] = (
    str.capitalize,
    "{}.".format,
    "the {}".format,
    "a {}!".format,
    "{} , too".format,
    "dont {}".format,
    "{}-like".format,
    "{}\n".format,
)
"""Ways of saying the same that only normalising sees through, and some that are wrong."""


def made_up(count: int) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
    """Make official questions, annotations and answers: ten people who half agree, over a long tail of texts."""
    draw = random.Random(0)
    stems = _STEMS.split()
    others = list(dict.fromkeys(" ".join(draw.choices(stems, k=1 + min(place // 20, 3))) for place in range(60_000)))
    words = {**KINDS, "other": others}
    heights = {kind: np.cumsum(1 / np.arange(1, len(texts) + 1)).tolist() for kind, texts in words.items()}

    def word(kind: str) -> str:
        text = draw.choices(words[kind], cum_weights=heights[kind])[0]
        return draw.choice(SPOILED)(text) if draw.random() < 0.05 else text

    questions, annotations, answers = [], [], []
    for place in range(count):
        name, image = place * 3, place // 5
        kind = draw.choices(("yes/no", "number", "other"), (38, 12, 50))[0]
        common, agree = word(kind), draw.choice((0.4, 0.6, 0.8, 1.0))
        people = [common if draw.random() < agree else word(kind) for _ in range(ANNOTATORS)]
        questions.append({"image_id": image, "question": f"What is {place}?", "question_id": name})
        annotations.append(
            {
                "question_type": f"what is {draw.randrange(65)}",
                "multiple_choice_answer": common,
                "answers": [
                    {"answer": text, "answer_confidence": draw.choice(("yes", "maybe", "no")), "answer_id": at}
                    for at, text in enumerate(people, 1)
                ],
                "image_id": image,
                "answer_type": kind,
                "question_id": name,
            }
        )
        said = common if draw.random() < 0.6 else word(kind)
        answers.append({"question_id": name, "answer": draw.choice(SPOILED)(said) if draw.random() < 0.3 else said})
    subtype = {"data_subtype": "val2014"}
    return {**subtype, "questions": questions}, {**subtype, "annotations": annotations}, answers


def plain_text(text: str) -> str:
    """Normalise as the official evaluator goes about it: twenty marks, one after the other, then word by word."""
    found = text
    for mark in PUNCTUATION:
        if f"{mark} " in text or f" {mark}" in text or re.search(r"\d,\d", text):
            found = found.replace(mark, "")
        else:
            found = found.replace(mark, " ")
    words = []
    for word in re.sub(r"\.(?!\d)", "", found, count=32).lower().split():
        word = NUMBERS.get(word, word)
        if word not in ARTICLES:
            words.append(word)
    for place, word in enumerate(words):
        words[place] = CONTRACTIONS.get(word, word)
    return " ".join(words)


def plain_accuracy(said: str, people: list[dict[str, Any]]) -> float:
    """Score as the official evaluator of today goes about it; changes the records, as it does."""
    said = said.replace("\n", " ").replace("\t", " ").strip()
    for person in people:
        person["answer"] = person["answer"].replace("\n", " ").replace("\t", " ").strip()
    if len({person["answer"] for person in people}) > 1:
        for person in people:
            person["answer"] = plain_text(person["answer"])
        said = plain_text(said)
    each = []
    for person in people:
        others = [other for other in people if other != person]
        each.append(min(1.0, len([other for other in others if other["answer"] == said]) / 3))
    return plain_mean(each)


def plain_mean(values: list[float]) -> float:
    total = 0.0
    for value in values:  # one by one; how sum() adds depends on the version of Python
        total += value
    return total / len(values)


def plain_scores(annotations: list[dict[str, Any]], said: dict[int, str]) -> tuple[list[float], Summary]:
    """Score question by question, with a list of scores for each kind."""
    values: list[float] = []
    by_answer: defaultdict[str, list[float]] = defaultdict(list)
    by_question: defaultdict[str, list[float]] = defaultdict(list)
    for record in annotations:
        value = plain_accuracy(said[record["question_id"]], record["answers"])
        values.append(value)
        by_answer[record["answer_type"]].append(value)
        by_question[record["question_type"]].append(value)
    tables = [{k: 100 * plain_mean(some) for k, some in kinds.items()} for kinds in (by_answer, by_question)]
    return values, Summary(100 * plain_mean(values), *tables)


def plain_read(folder: Path) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """Parse all files, and see that they are of the same questions."""
    questions, annotations, answers = (json.loads((folder / path).read_text()) for path in PATHS)
    asked = {record["question_id"]: record for record in questions["questions"]}
    said = {record["question_id"]: record["answer"] for record in answers}
    assert asked.keys() == said.keys() == {record["question_id"] for record in annotations["annotations"]}
    return annotations["annotations"], said


def read(folder: Path) -> tuple[list[str], list[Reference]]:
    """Read the files as ``vlbench score vqa`` does."""
    people = read_official(folder / PATHS[0], folder / PATHS[1], "").annotations
    said = take_answers(read_json(folder / PATHS[2]), PATHS[2])
    check_answered(said.keys(), people.keys(), PATHS[2])
    return [said[name] for name in people], [annotation.reference for annotation in people.values()]


def scored(answers: list[str], references: list[Reference]) -> tuple[Accuracies, Summary]:
    values = accuracies(answers, references, "official-2021")
    return values, summarise(values, references)


def timed(work: Callable[..., Found], *given: Any) -> tuple[Found, float]:
    start = time.process_time()
    found = work(*given)
    return found, time.process_time() - start


def test_scoring_at_the_size_of_val(capsys: pytest.CaptureFixture[str]) -> None:
    _, annotations, answers = made_up(QUESTIONS // 4)
    references = [annotation.reference for annotation in take_annotations(annotations, "annotations").values()]
    lines = []
    for scorer in OFFICIAL:
        values, spent = timed(accuracies, [one["answer"] for one in answers], references, scorer)
        lines.append(f"{scorer}: {len(references)} questions in {spent:.2f} s")
        assert len(values) == len(references)
        assert 0 < summarise(values, references).overall < 100
    estimate, spent = timed(mean_interval, values, np.arange(len(values)) // 5)
    lines.append(f"interval over {len(values) // 5} images in {spent:.2f} s")
    assert estimate.low is not None
    with capsys.disabled():
        print("", *lines, sep="\n")


def test_plain_version_agrees(tmp_path: Path) -> None:
    for path, content in zip(PATHS, made_up(FEW), strict=True):
        (tmp_path / path).write_text(json.dumps(content))
    values, summary = scored(*read(tmp_path))
    plain, plain_summary = plain_scores(*plain_read(tmp_path))
    assert values.tolist() == plain
    assert summary.overall == pytest.approx(plain_summary.overall, abs=1e-9)
    assert summary.per_answer_type == pytest.approx(plain_summary.per_answer_type, abs=1e-9)
    assert summary.per_question_type == pytest.approx(plain_summary.per_question_type, abs=1e-9)


PIECES = [
    "a",
    "the",
    "two",
    "2",
    "none",
    "dont",
    "couldntve",
    "Id've",
    "T-Shirt",
    "1,000",
    "p.m.",
    ".",
    ",",
    " ",
    "\n\t",
]
TEXTS = st.lists(st.sampled_from([*PIECES, *PUNCTUATION]), max_size=4).map("".join) | st.text(max_size=6)
PEOPLE = st.lists(st.tuples(TEXTS | st.sampled_from(PIECES[:4]), st.integers(1, 12)), min_size=1, max_size=12)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(TEXTS, PEOPLE), max_size=5), st.sampled_from([None, 0]))
def test_plain_version_agrees_on_any_texts(rows: list[tuple[str, list[tuple[str, int]]]], take: int | None) -> None:
    said = [people[take][0] if take is not None else text for text, people in rows]
    annotations = [
        {
            "question_id": place,
            "image_id": 0,
            "answer_type": "other",
            "question_type": "what",
            "multiple_choice_answer": "",
            "answers": [{"answer": text, "answer_confidence": "yes", "answer_id": number} for text, number in people],
        }
        for place, (_, people) in enumerate(rows)
    ]
    if not rows:
        return
    references = [one.reference for one in take_annotations({"annotations": annotations}, "").values()]
    values, _ = scored(said, references)
    assert values.tolist() == plain_scores(annotations, dict(enumerate(said)))[0]


def alone(folder: Path) -> float:
    """Time what the standard library's parser takes at best, and nothing else."""
    texts = [(folder / path).read_text() for path in PATHS]
    gc.disable()
    _, spent = timed(lambda: [json.loads(text) for text in texts])
    gc.enable()
    return spent


def main() -> int:
    """Compare reading, scoring and both at the size of val; 1 where scoring is slower than is claimed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path, content in zip(PATHS, made_up(QUESTIONS), strict=True):
            (folder / path).write_text(json.dumps(content))
        del content
        size = sum((folder / path).stat().st_size for path in PATHS)
        plain: dict[str, list[float]] = {"reading": [], "scoring": []}
        ours: dict[str, list[float]] = {"reading": [], "scoring": []}
        parsing: list[float] = []
        for turn in range(ROUNDS):
            files, spent = timed(read, folder)
            ours["reading"].append(spent)
            (values, _), spent = timed(scored, *files)
            ours["scoring"].append(spent)
            texts = {text for reference in files[1] for text in reference.answers}
            del files
            (annotations, said), spent = timed(plain_read, folder)
            plain["reading"].append(spent)
            (some, _), spent = timed(plain_scores, annotations[turn::EVERY], said)
            plain["scoring"].append(spent * len(values) / len(some))
            assert some == values[turn::EVERY].tolist()
            del annotations, said
            parsing.append(alone(folder))
    print(
        f"VQA v2, {QUESTIONS} questions, {ANNOTATORS} answers each, {len(texts)} different; files of {size >> 20} MiB"
    )
    each = [1e6 * one / QUESTIONS for one in plain["scoring"]]
    print(f"plain scoring is of every {EVERY}th question, others in each of {ROUNDS} rounds, times {EVERY}:")
    print(f"{min(each):.0f} to {max(each):.0f} microseconds each; medians of processor time:")
    for times in (plain, ours):
        times["both"] = [sum(pair) for pair in zip(times["reading"], times["scoring"], strict=True)]
    ratios = {what: median(plain[what]) / median(ours[what]) for what in plain}
    for what, ratio in ratios.items():
        print(f"{what}: plain {median(plain[what]):.2f} s, ours {median(ours[what]):.2f} s, {ratio:.1f} times")
    bound = median(plain["both"]) / CLAIM
    print(
        f"json.loads alone, collector off: {median(parsing):.2f} s, where a {CLAIM}th of plain's both is {bound:.2f} s"
    )
    return int(ratios["scoring"] < CLAIM)


if __name__ == "__main__":
    sys.exit(main())

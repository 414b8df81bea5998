"""How long scoring GQA takes beside the official way: parse whole files, and go through them question by question.

``python tests/benchmarks/test_gqa_scoring.py`` compares them at the sizes of testdev_balanced and val_balanced, in one
run, and ends with 1 where scoring val_balanced is less than 20 times as fast. Times are of the processor, so that other
work on the machine counts little. The tests only see that the two agree.
"""

from __future__ import annotations

import gc
import json
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import pytest

from vlbench.metrics.gqa import Choices, Summary, summarise
from vlbench.metrics.gqa_columns import Questions
from vlbench.tasks.gqa_files import line_up, read_choices, read_predictions
from vlbench.tasks.gqa_questions import read_questions

Found = TypeVar("Found")
SIZES = {"testdev_balanced": 12_578, "val_balanced": 132_062}
FEW = 2_000
ROUNDS, CLAIM = 5, 20
WORDS = ("yes", "no", "left", "right", *(f"{colour} {thing}" for colour in "abcdefgh" for thing in range(200)))
PATHS = ("questions.json", "choices.json", "answers.json")


def write_made_up(folder: Path, count: int) -> None:
    """Write questions with programs, each entailing up to three others, with choices and answers to them."""
    draw = random.Random(0)
    kinds = [tuple(draw.sample(WORDS, draw.randrange(2, 30))) for _ in range(100)]
    names = [f"{number * 7:08d}" for number in range(count)]
    questions, choices, answers = {}, {}, []
    for place, name in enumerate(names):
        kind = kinds[draw.randrange(100)]
        questions[name] = question(draw, draw.choice(kind), place, draw.sample(names, draw.randrange(4)), name)
        choices[name] = {"valid": kind, "plausible": kind[: 1 + draw.randrange(3) * len(kind) // 3]}
        said = questions[name]["answer"] if draw.random() < 0.6 else draw.choice(WORDS)
        answers.append({"questionId": name, "prediction": said})
    for path, value in zip(PATHS, (questions, choices, answers), strict=True):
        (folder / path).write_text(json.dumps(value))


def question(draw: random.Random, answer: str, place: int, entailed: list[str], name: str) -> dict[str, Any]:
    """Make a record as long as official ones are."""
    structural = draw.choice(("verify", "query", "choose", "logical", "compare"))
    last = draw.choice((("exist", "?"), ("query", "name"), ("verify color", "dark"), ("choose rel", "left|right")))
    steps = [("select", f"table ({1000 + place})"), ("relate", f"man,to the left of,s ({place})"), last]
    words = " ".join(draw.choice(("is", "the", "table", "man", "left")) for _ in range(draw.randrange(4, 14)))
    return {
        "semantic": [
            {"operation": operation, "dependencies": [at - 1] * (at > 0), "argument": argument}
            for at, (operation, argument) in enumerate(steps)
        ],
        "entailed": entailed,
        "equivalent": [name],
        "question": f"{words}?",
        "imageId": str(2_300_000 + place // 13),
        "isBalanced": True,
        "groups": {"global": draw.choice((None, f"group {draw.randrange(700)}")), "local": f"10-{words[:9]}"},
        "answer": answer,
        "semanticStr": "->".join(f"{operation}: {argument} [0]" for operation, argument in steps),
        "annotations": {"answer": {}, "question": {"2": str(1000 + place)}, "fullAnswer": {"1": str(place)}},
        "types": {"detailed": draw.choice(("exist", "relS", "twoCommon")), "semantic": "rel", "structural": structural},
        "fullAnswer": f"The answer is {answer}.",
    }


def plain_read(folder: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """Parse all files, and see that every question is answered."""
    questions, choices, answers = (json.loads((folder / path).read_text()) for path in PATHS)
    said = {row["questionId"]: row["prediction"] for row in answers}
    assert all(name in said for name in questions)
    return questions, choices, said


def plain_scores(questions: dict[str, Any], choices: dict[str, Any], said: dict[str, str]) -> dict[str, float]:
    """Score question by question, with a list of scores for each number."""
    lists: defaultdict[str, list[float]] = defaultdict(list)
    parts: defaultdict[str, list[float]] = defaultdict(list)
    gold: defaultdict[str, Counter[str]] = defaultdict(Counter)
    given: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for name, record in questions.items():
        answer, types = said[name], record["types"]
        score = float(answer == record["answer"])
        steps = [f"{step['operation']}: {step['argument']}" for step in record["semantic"]]
        last = ("exist", "query: name", "choose name")
        lists["accuracy"].append(score)
        lists["open" if types["structural"] == "query" else "binary"].append(score)
        parts[f"length {len(record['question'].split())}"].append(score)
        parts[f"steps {len([step for step in steps if not any(one in step for one in last)])}"].append(score)
        parts[f"structural {types['structural']}"].append(score)
        parts[f"semantic {types['semantic']}"].append(score)
        for metric, kind in (("validity", "valid"), ("plausibility", "plausible")):
            group = ["color", "material", "shape"] if "Common" in types["detailed"] else choices[name][kind]
            lists[metric].append(float(answer in group))
        if record["groups"]["global"] is not None:
            gold[record["groups"]["global"]][record["answer"]] += 1
            given[record["groups"]["global"]][answer] += 1
        others = [one for one in record["entailed"] if one != name]
        if score and others:
            shares = [float(said[one] == questions[one]["answer"]) for one in others]
            lists["consistency"].append(sum(shares) / len(shares))
    weighted = total = 0.0
    for group, counts in gold.items():
        squares = sum((given[group][answer] - count) ** 2 / count for answer, count in counts.items())
        weighted, total = weighted + squares * counts.total(), total + counts.total()
    averages = {name: 100 * sum(scores) / len(scores) for name, scores in {**lists, **parts}.items()}
    return averages | {"distribution": weighted / total / 100}


def check_same(ours: Summary, plain: dict[str, float]) -> None:
    found = {name: value for name, value in ours._asdict().items() if isinstance(value, float) and name in plain}
    for name in ("structural_type", "semantic_type", "steps", "length"):
        parts = getattr(ours, f"per_{name}")
        found |= {f"{name.removesuffix('_type')} {label}": part.score for label, part in parts.items()}
    assert found == pytest.approx(plain, abs=1e-9)


def read(folder: Path) -> tuple[Questions, list[str], list[Choices]]:
    """Read the files as ``vlbench score gqa`` does."""
    questions = read_questions([folder / PATHS[0]])
    answers = line_up(read_predictions(folder / PATHS[2]), questions, PATHS[2], every=True)
    return questions, answers, read_choices(folder / PATHS[1], questions)


def scored(questions: Questions, answers: list[str], choices: list[Choices]) -> Summary:
    return summarise(questions, answers, choices, consistency=True)


def least(folder: Path) -> dict[str, float]:
    """Time what no reader can do without, or what would be the next best in the standard library."""
    contents = [(folder / path).read_bytes() for path in PATHS]
    texts, decoding = timed(lambda: [content.decode() for content in contents])
    _, marks = timed(lambda: [text.count('"') for text in texts])
    gc.disable()
    _, parsing = timed(lambda: [json.loads(text) for text in texts])
    gc.enable()
    return {"decoding and one look for quotation marks": decoding + marks, "json.loads alone, collector off": parsing}


def timed(work: Callable[..., Found], *given: Any) -> tuple[Found, float]:
    start = time.process_time()
    found = work(*given)
    return found, time.process_time() - start


def test_plain_version_agrees(tmp_path: Path) -> None:
    write_made_up(tmp_path, FEW)
    check_same(scored(*read(tmp_path)), plain_scores(*plain_read(tmp_path)))


def compare(folder: Path, what: str, count: int) -> float:
    """Print the ratios of reading, scoring and both, and return that of scoring.

    Who entails whom is looked up once, however many answers are scored, and counts as reading, as plain's dictionaries
    do; a line says what scoring would be with it.
    """
    write_made_up(folder, count)
    plain: dict[str, list[float]] = {"reading": [], "scoring": []}
    ours: dict[str, list[float]] = {"reading": [], "scoring": []}
    links: list[float] = []
    bounds: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        files, reading = timed(read, folder)
        _, linking = timed(getattr, files[0], "links")
        found, scoring = timed(scored, *files)
        del files
        links.append(linking)
        ours["reading"].append(reading + linking)
        ours["scoring"].append(scoring)
        parsed, reading = timed(plain_read, folder)
        expected, scoring = timed(plain_scores, *parsed)
        del parsed
        plain["reading"].append(reading)
        plain["scoring"].append(scoring)
        check_same(found, expected)
        for name, spent in least(folder).items():
            bounds.setdefault(name, []).append(spent)
    for times in (plain, ours):
        times["both"] = [sum(pair) for pair in zip(times["reading"], times["scoring"], strict=True)]
    size = sum((folder / path).stat().st_size for path in PATHS) >> 20
    print(f"GQA {what}, {count} questions with consistency, files of {size} MiB; medians of {ROUNDS} rounds:")
    ratios = {name: median(plain[name]) / median(ours[name]) for name in plain}
    for name, ratio in ratios.items():
        print(f"{name}: plain {median(plain[name]):.3f} s, ours {median(ours[name]):.3f} s, {ratio:.1f} times")
    once = median(ours["scoring"]) + median(links)
    print(f"scoring with the look-up of who entails whom: {once:.3f} s, {median(plain['scoring']) / once:.1f} times")
    for name, times in bounds.items():
        print(
            f"{name}: {median(times):.3f} s, where a {CLAIM}th of plain's both is {median(plain['both']) / CLAIM:.3f} s"
        )
    return ratios["scoring"]


def main() -> int:
    """Compare at all sizes; 1 where scoring the largest is slower than is claimed."""
    ratio = 0.0
    for what, count in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            ratio = compare(Path(folder), what, count)
    return int(ratio < CLAIM)


if __name__ == "__main__":
    sys.exit(main())

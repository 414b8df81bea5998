"""The recorded cases of the official VQA evaluator and of the published soft targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from vlbench.metrics.vqa_accuracy import (
    ARTICLES,
    CONTRACTIONS,
    NUMBERS,
    PUNCTUATION,
    Reference,
    Summary,
    accuracies,
    agreement,
    clean,
    normalise_answer,
    preprocess_answer,
    soft_score,
    soft_targets,
    strip_punctuation,
    summarise,
)
from vlbench.proof.cases import Check, compare, failure
from vlbench.tasks.vqa_files import (
    check_answered,
    check_pairing,
    take_annotations,
    take_answers,
    take_questions,
)
from vlbench.types import BadData

SCORER = "official-2021"
EXACT, ROUNDED = 1e-6, 1e-9
"""Tolerances in percent: against 8 decimals, and against ours rounded to the same 2 decimals."""


def vqa_checks(cases: Mapping[str, Any]) -> Iterator[Check]:
    """Check normalisation stage by stage, whole and partial data sets, and what the loader accepts."""
    stages: Mapping[str, Callable[[str], str]] = {
        "stripped": clean,
        "after_punctuation": lambda raw: strip_punctuation(clean(raw)),
        "normalised": normalise_answer,
    }
    for stage, tidy in stages.items():
        yield _strings(f"normalisation/{stage}", ((r["raw"], tidy(r["raw"]), r[stage]) for r in cases["normalisation"]))
    tables = {
        "number_words": (NUMBERS, cases["number_words"]),
        "articles": (sorted(ARTICLES), sorted(cases["articles"])),
        "punctuation_marks": (sorted(PUNCTUATION), sorted(cases["punctuation_marks"])),
        "contractions_count": (len(CONTRACTIONS), cases["contractions_count"]),
    }
    yield from (_strings(name, [(name, *pair)]) for name, pair in tables.items())
    for dataset in cases["datasets"]:
        yield from _dataset_checks(f"datasets/{dataset['name']}", dataset)
    yield from _loader_checks(cases["loader_cases"])
    yield from _unknown_parts(cases, {"normalisation", "datasets", "loader_cases", *tables})


def soft_target_checks(cases: Mapping[str, Any]) -> Iterator[Check]:
    """Check preprocessing, the score table for any number of annotators, and targets of whole questions."""
    rows = cases["preprocess"]
    yield _strings("preprocess", ((r["raw"], preprocess_answer(r["raw"]), r["preprocessed"]) for r in rows))
    grid = cases["grid"]
    yield _numbers(
        "grid/table_score",
        {i: soft_score(r["n_equal"]) for i, r in enumerate(grid)},
        _column(grid, "table_score"),
    )
    ours = {i: _left_out(r["n_equal"], r["n_annotators"]) for i, r in enumerate(grid)}
    yield _numbers("grid/leave_one_out_official", ours, _column(grid, "leave_one_out_official"))
    for case in cases["cases"]:
        yield _target_check(f"cases/{case['id']}", case, frozenset(cases["vocabulary"]))
    yield from _unknown_parts(cases, {"preprocess", "grid", "cases", "vocabulary"})


def _dataset_checks(name: str, dataset: Mapping[str, Any]) -> Iterator[Check]:
    questions = take_questions(dataset["questions"], f"{name}/questions")
    people = take_annotations(dataset["annotations"], f"{name}/annotations")
    check_pairing(questions.keys(), people.keys(), name)
    said = take_answers(dataset["results"], f"{name}/results")
    check_answered(said.keys(), people.keys(), name)
    references = {identity: annotation.reference for identity, annotation in people.items()}
    yield _scores(name, said, references, dataset["expected"], 2)
    yield _scores(f"{name}/8 decimals", said, references, dataset["expected_8_decimals"], 8)
    subset = {identity: references[identity] for identity in dataset["subset"]["question_ids"]}
    yield _scores(f"{name}/subset", said, subset, dataset["subset"]["expected"], 2)
    known = {
        "name",
        "questions",
        "annotations",
        "results",
        "notes",
        "expected",
        "expected_8_decimals",
        "subset",
    }
    yield from _unknown_parts(dataset, known, f"{name}/")


def _scores(
    name: str,
    said: Mapping[int, str],
    people: Mapping[int, Reference],
    expected: Mapping[str, Any],
    decimals: int,
) -> Check:
    """Compare every number of a run: overall, per answer type, per question type, per question."""
    references = list(people.values())
    values = accuracies([said[identity] for identity in people], references, SCORER)
    each = {str(identity): 100 * float(value) for identity, value in zip(people, values, strict=True)}
    ours = _flat(summarise(values, references), each)
    theirs = _flat(Summary(**{key: expected[key] for key in Summary._fields}), expected["per_question"])
    if decimals == 2:
        return _numbers(name, {key: round(value, 2) for key, value in ours.items()}, theirs, ROUNDED)
    return _numbers(name, ours, theirs, EXACT)


def _flat(summary: Summary, each: Mapping[str, float]) -> dict[object, float]:
    parts = (
        ("answer type", summary.per_answer_type),
        ("question type", summary.per_question_type),
        ("question", each),
    )
    return {"overall": summary.overall} | {(part, key): v for part, values in parts for key, v in values.items()}


def _loader_checks(cases: Mapping[str, Any]) -> Iterator[Check]:
    people = take_annotations(cases["annotations"], "loader_cases/annotations")
    check_pairing(take_questions(cases["questions"], "loader_cases/questions").keys(), people.keys(), "loader_cases")
    references = {identity: annotation.reference for identity, annotation in people.items()}
    for case in cases["cases"]:
        name = f"loader_cases/{case['name']}"
        try:
            # The official loader lets the last of two answers count; vlbench score refuses them.
            said = take_answers(case["results"], name, last_counts=True)
            check_answered(said.keys(), people.keys(), name)
        except BadData as fault:
            refused = "expected_error" in case
            yield Check(name, 0.0 if refused else 1.0, 0.0, refused, "" if refused else fault.wrong)
            continue
        if "expected_error" in case:
            yield failure(name, f"was accepted; the official loader says: {case['expected_error']}")
        else:
            yield _scores(name, said, references, case["expected"], 2)
    yield from _unknown_parts(cases, {"questions", "annotations", "cases"}, "loader_cases/")


def _target_check(name: str, case: Mapping[str, Any], vocabulary: frozenset[str]) -> Check:
    raw: list[str] = case["answers"]
    tidy = [preprocess_answer(answer) for answer in raw]
    reference = Reference(tuple(raw))
    parts: dict[str, Mapping[str, float]] = {
        "counts_raw": {answer: raw.count(answer) for answer in raw},
        "counts_normalised": {answer: tidy.count(answer) for answer in tidy},
        "soft_raw_all": soft_targets(raw),
        "soft_raw_in_vocabulary": soft_targets(raw, vocabulary),
        "soft_normalised_all": soft_targets(raw, normalise=True),
        "soft_normalised_in_vocabulary": soft_targets(raw, vocabulary, normalise=True),
        "leave_one_out_official": {
            answer: float(accuracies([answer], [reference], SCORER)[0]) for answer in case["leave_one_out_official"]
        },
    }
    unknown = case.keys() - parts.keys() - {"id", "answers", "note"}
    if unknown:
        return failure(name, f"vlbench does not know the parts {sorted(unknown)}")
    ours = {(part, answer): float(v) for part, values in parts.items() for answer, v in values.items()}
    theirs = {(part, answer): float(v) for part in parts for answer, v in case[part].items()}
    return _numbers(name, ours, theirs)


def _left_out(equal: int, annotators: int) -> float:
    humans = ["the answer"] * equal + [f"another {number}" for number in range(annotators - equal)]
    return agreement("the answer", humans)


def _column(rows: list[Mapping[str, float]], key: str) -> dict[int, float]:
    return {row: values[key] for row, values in enumerate(rows)}


def _numbers(name: str, ours: Mapping[Any, float], theirs: Mapping[Any, float], tolerance: float = EXACT) -> Check:
    """Compare numbers by key; a key that only one side has is a failure."""
    lone = ours.keys() ^ theirs.keys()
    if lone:
        return failure(name, f"{len(lone)} values stand on one side only, such as {sorted(map(str, lone))[0]}")
    errors = {key: abs(ours[key] - theirs[key]) for key in theirs}
    worst = max(errors, key=errors.__getitem__, default=None)
    if worst is None:
        return failure(name, "holds nothing to compare")
    return compare(name, errors[worst], tolerance, f"{worst}: {ours[worst]} instead of {theirs[worst]}")


def _strings(name: str, rows: Iterable[tuple[object, object, object]]) -> Check:
    """Compare (input, ours, theirs); the error is how many differ."""
    held = list(rows)
    wrong = [row for row in held if row[1] != row[2]]
    if not held:
        return failure(name, "holds nothing to compare")
    note = "{!r} gives {!r} instead of {!r}".format(*wrong[0]) if wrong else ""
    return compare(name, float(len(wrong)), 0.0, note)


def _unknown_parts(cases: Mapping[str, Any], known: set[str], prefix: str = "") -> Iterator[Check]:
    """Fail for every part with cases in it that we do not know; plain remarks are not cases."""
    for key in sorted(cases.keys() - known):
        value = cases[key]
        if isinstance(value, dict) or (isinstance(value, list) and not all(isinstance(v, str) for v in value)):
            yield failure(f"{prefix}{key}", "vlbench does not know this part")

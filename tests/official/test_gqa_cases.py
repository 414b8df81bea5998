"""Each part of the recorded runs of the GQA evaluator can fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Cases = dict[str, Any]
Failing = Callable[[str, Callable[[Cases], object]], list[str]]


def run(cases: Cases, name: str) -> Any:
    return next(one for one in cases["runs"] if one["name"] == name)


def expected(cases: Cases, name: str) -> Any:
    return run(cases, name)["expected"]


SCORED = (
    "plain",
    "consistency",
    "consistency_grounding",
    "no_choices",
    "balanced_predictions_only",
    "extra_and_duplicate",
    "all_wrong",
    "all_right",
)
"""The runs that do not end in an error."""

SPOILT: dict[str, tuple[Callable[[Cases], object], list[str]]] = {
    "accuracy": (lambda c: expected(c, "plain").update(accuracy=63.493), ["runs/plain"]),
    "consistency": (lambda c: expected(c, "consistency").update(consistency=67.05), ["runs/consistency"]),
    "grounding": (
        lambda c: expected(c, "consistency_grounding").update(grounding=7.9523),
        ["runs/consistency_grounding"],
    ),
    "distribution": (lambda c: expected(c, "all_wrong").update(distribution=0.04162), ["runs/all_wrong"]),
    "type": (lambda c: expected(c, "plain")["accuracyPerSemanticType"]["cat"].update(score=80), ["runs/plain"]),
    "size of a type": (lambda c: expected(c, "plain")["accuracyPerSteps"]["2"].update(questions=48), ["runs/plain"]),
    "length lost": (lambda c: expected(c, "all_right")["accuracyPerLength"].pop("5"), ["runs/all_right"]),
    "score added": (lambda c: expected(c, "plain").update(coverage=1.0), ["runs/plain"]),
    "printed": (lambda c: run(c, "plain")["printed"].__setitem__(0, "Binary: 65.36%"), ["runs/plain/printed"]),
    "printed less": (lambda c: run(c, "plain")["printed"].pop(), ["runs/plain/printed"]),
    "no error": (lambda c: run(c, "no_groups").pop("expected_error"), ["runs/no_groups"]),
    "error": (lambda c: run(c, "plain").update(expected_error="KeyError"), ["runs/plain"]),
    "flag": (lambda c: run(c, "plain")["flags"].append("--tier=train"), ["runs/plain"]),
    "objects": (
        lambda c: run(c, "consistency_grounding")["flags"].append("--objectFeatures"),
        ["runs/consistency_grounding"],
    ),
    "smaller maps": (
        lambda c: run(c, "consistency_grounding")["flags"].append("--mapSize=5"),
        ["runs/consistency_grounding", "runs/consistency_grounding/printed"],
    ),
    "larger maps": (
        lambda c: run(c, "consistency_grounding")["flags"].extend(["--mapSize", "9"]),
        ["runs/consistency_grounding"],
    ),
    "no maps": (
        lambda c: run(c, "consistency_grounding")["files"].update(attentions=False),
        ["runs/consistency_grounding"],
    ),
    "no scenes": (
        lambda c: run(c, "consistency_grounding")["files"].update(scenes=False),
        ["runs/consistency_grounding"],
    ),
    "no choices": (
        lambda c: run(c, "plain")["files"].update(choices=False),
        ["runs/plain", "runs/plain/printed"],
    ),
    "file": (lambda c: run(c, "plain")["files"].update(features=True), ["runs/plain"]),
    "part of a run": (lambda c: run(c, "plain").update(tiers=[1]), ["runs/plain/tiers"]),
    "part": (lambda c: c.update(tiers=[1]), ["tiers"]),
    "choices of one": (
        lambda c: c["choices"].pop("10000000"),
        [f"runs/{name}" for name in SCORED if name != "no_choices"],
    ),
    "runs": (lambda c: c["runs"].clear(), ["runs"]),
    "layout": (lambda c: c.pop("questions"), ["gqa"]),
    "record": (lambda c: c["questions"].update(x=3), [f"runs/{name}" for name in SCORED]),
}


@pytest.mark.parametrize(("spoil", "names"), SPOILT.values(), ids=SPOILT)
def test_each_part_of_gqa_can_fail(failing: Failing, spoil: Callable[[Cases], object], names: list[str]) -> None:
    assert failing("gqa", spoil) == names


def test_an_empty_choices_file_is_none_to_the_evaluator(failing: Failing) -> None:
    def spoil(cases: Cases) -> None:
        cases["choices"].clear()
        cases["runs"] = [run(cases, "no_choices")]
        cases["runs"][0]["files"]["choices"] = True

    assert failing("gqa", spoil) == []

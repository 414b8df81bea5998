"""Each part of the recorded cases of NLVR2, its contrast sets, NLVR and SNLI-VE can fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Cases = dict[str, Any]
Failing = Callable[[str, Callable[[Cases], object]], list[str]]


def run(cases: Cases, name: str, kind: str = "runs") -> Any:
    return next(one for one in cases[kind] if one["name"] == name)


def drop(cases: Cases, name: str, kind: str = "runs") -> None:
    run(cases, name, kind)["predictions"].pop(0)


NLVR2: dict[str, tuple[Callable[[Cases], object], list[str]]] = {
    "accuracy": (lambda c: run(c, "good")["expected"].update(accuracy=0.84), ["runs/good"]),
    "consistency": (lambda c: run(c, "chance")["expected"].update(consistency=0.0571), ["runs/chance"]),
    "score lost": (lambda c: run(c, "good")["expected"].pop("consistency"), ["runs/good"]),
    "score added": (lambda c: run(c, "good")["expected"].update(f1=0.5), ["runs/good"]),
    "subset": (
        lambda c: run(c, "good")["balanced_subset"].update(accuracy_percent=80.3),
        ["runs/good/balanced_subset"],
    ),
    "subset size": (lambda c: run(c, "good")["balanced_subset"].update(n=75), ["runs/good/balanced_subset"]),
    "left out": (
        lambda c: run(c, "not_true_false")["balanced_subset"]["printed"].pop(0),
        ["runs/not_true_false/balanced_subset"],
    ),
    "subset error": (
        lambda c: run(c, "good")["balanced_subset"].update(error="ZeroDivisionError"),
        ["runs/good/balanced_subset"],
    ),
    "category": (
        lambda c: run(c, "good")["categories_printed"].__setitem__(4, "comparison: 88.90 (of 9 examples)"),
        ["runs/good/categories"],
    ),
    "category lost": (lambda c: run(c, "good")["categories_printed"].pop(), ["runs/good/categories"]),
    "category stops": (
        lambda c: run(c, "good").update(categories_printed=["error: made up"]),
        ["runs/good/categories"],
    ),
    "category does not stop": (
        lambda c: run(c, "not_true_false").update(categories_printed=run(c, "good")["categories_printed"]),
        ["runs/not_true_false/categories"],
    ),
    "no error": (lambda c: run(c, "missing_one").pop("expected_error"), ["runs/missing_one"]),
    "error": (lambda c: run(c, "all_true").update(expected_error=["made up"]), ["runs/all_true"]),
    "unknown part": (lambda c: c.update(more=[{"identifier": "x"}]), ["more"]),
    "unknown part of a run": (lambda c: run(c, "good").update(more={"a": 1}), ["runs/good/more"]),
    "nothing": (lambda c: c.update(runs=[]), ["runs"]),
}


@pytest.mark.parametrize(("spoil", "names"), NLVR2.values(), ids=NLVR2)
def test_each_part_of_nlvr2_can_fail(failing: Failing, spoil: Callable[[Cases], object], names: list[str]) -> None:
    assert failing("nlvr2", spoil) == names


CONTRAST: dict[str, tuple[Callable[[Cases], object], list[str]]] = {
    "intended": (lambda c: run(c, "chance")["intended"].update(consistency=0.18), ["runs/chance"]),
    "one missing": (lambda c: drop(c, "all_right"), ["runs/all_right"]),
    "unknown part": (lambda c: run(c, "good").update(more={"a": 1}), ["runs/good/more"]),
}


@pytest.mark.parametrize(("spoil", "names"), CONTRAST.values(), ids=CONTRAST)
def test_each_part_of_contrast_sets_can_fail(
    failing: Failing, spoil: Callable[[Cases], object], names: list[str]
) -> None:
    assert failing("nlvr2_contrast", spoil) == names


NLVR1: dict[str, tuple[Callable[[Cases], object], list[str]]] = {
    "precision": (
        lambda c: run(c, "good", "image_runs")["expected"].update(precision=0.7732),
        ["image_runs/good"],
    ),
    "consistency": (
        lambda c: run(c, "fair", "structured_runs")["expected"].update(consistency=0.126),
        ["structured_runs/fair"],
    ),
    "one missing": (lambda c: drop(c, "chance", "image_runs"), ["image_runs/chance"]),
    "surplus": (
        lambda c: run(c, "good", "structured_runs")["predictions"].append(["9-9", "true"]),
        ["structured_runs/good"],
    ),
    "no error": (
        lambda c: run(c, "one_extra", "image_runs").pop("expected_error"),
        ["image_runs/one_extra"],
    ),
    "nothing": (lambda c: c.update(structured_runs=[]), ["structured_runs"]),
}


@pytest.mark.parametrize(("spoil", "names"), NLVR1.values(), ids=NLVR1)
def test_each_part_of_nlvr1_can_fail(failing: Failing, spoil: Callable[[Cases], object], names: list[str]) -> None:
    assert failing("nlvr1", spoil) == names


SNLI_VE: dict[str, tuple[Callable[[Cases], object], list[str]]] = {
    "accuracy": (lambda c: c["runs"][0]["expected"].update(accuracy=0.88), ["runs/0"]),
    "class": (lambda c: c["runs"][1]["expected"]["per_class"]["neutral"].update(accuracy=0.55), ["runs/1"]),
    "count": (lambda c: c["runs"][1]["expected"]["per_class"]["neutral"].update(n=32), ["runs/1"]),
    "confusion": (
        lambda c: c["runs"][2]["expected"]["confusion_rows_gold"][0].__setitem__(1, 1),
        ["runs/2/confusion"],
    ),
    "choice": (lambda c: c["runs"][3]["expected_label_index"].__setitem__(0, 1), ["runs/3"]),
    "order": (lambda c: c["runs"][3]["label_order"].update(neutral=2, entailment=1), ["runs/3/label_order"]),
    "labels": (lambda c: c["label_names"].append("maybe"), ["label_names", "runs/0/confusion"]),
    "unknown part": (lambda c: c["runs"][0].update(more={"a": 1}), ["runs/0/more"]),
    "nothing": (lambda c: c.update(runs=[]), ["runs"]),
}


@pytest.mark.parametrize(("spoil", "names"), SNLI_VE.values(), ids=SNLI_VE)
def test_each_part_of_entailment_can_fail(failing: Failing, spoil: Callable[[Cases], object], names: list[str]) -> None:
    assert set(names) <= set(failing("snli_ve", spoil))

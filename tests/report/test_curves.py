"""Curves of a study: their points, their table, their picture."""

from __future__ import annotations

from collections.abc import Callable
from xml.etree import ElementTree

import pytest
from pydantic import ValidationError

from vlbench.cards import SuiteCard
from vlbench.record import RunRecord
from vlbench.report.curves import BELOW, HIGH, TOP, Curve, curve_columns, curves, picture
from vlbench.report.studies import Study, study

MakeRecord = Callable[..., RunRecord]
SVG = "{http://www.w3.org/2000/svg}"
ATTACKS = {"start": "variant:plain", "steps": 0, "attack": "fgsm"}
SUITE = SuiteCard.model_validate(
    {
        "id": "robust",
        "about": "attacked",
        "variants": {
            "plain": {"about": "as it is"},
            "hit": {"about": "attacked", "run": ATTACKS, "over": {"attack_size": [0.3, 0.1]}},
        },
    }
)


@pytest.fixture
def found(make_record: MakeRecord) -> Study:
    values = {"plain": 90.0, "hit-0.1": 60.0, "hit-0.3": 12.5}
    records = [
        make_record(
            value + 2 * seed, seed=seed, method=method, suite="robust", recipe={"variant": name},
            id=f"{method}{name}{seed}", kind="finetune" if name == "plain" else "evaluate",
        )
        for name, value in values.items() for seed in (0, 1) for method in ("lxmert", "a<b&c")
    ]  # fmt: skip
    return study(SUITE, records)


def test_a_variant_over_values_is_one_for_each() -> None:
    assert list(SUITE.variants) == ["plain", "hit-0.3", "hit-0.1"]
    hit = SUITE.variants["hit-0.1"]
    assert hit.run == {**ATTACKS, "attack_size": 0.1}
    assert hit.place == ("hit", "attack_size", 0.1)
    assert hit.begins_from == "plain"


@pytest.mark.parametrize(
    ("variants", "wrong"),
    [
        ({"a": {"about": "a", "run": {"start": "variant:b"}}}, "there is no variant 'b'"),
        ({"a": {"about": "a", "run": {"start": "variant:a"}}}, "there is no variant 'a'"),
        ({"a": {"about": "a", "over": {"rate": [1.0], "batch": [2.0]}}}, "one recipe value at a time"),
    ],
)
def test_variants_that_cannot_be(variants: dict[str, object], wrong: str) -> None:
    with pytest.raises(ValidationError, match=wrong):
        SuiteCard.model_validate({"about": "x", "variants": variants})


def test_a_curve_begins_with_the_run_that_is_attacked(found: Study) -> None:
    (subject,) = found.outcomes
    assert subject.trained
    some = curves(found, subject)
    assert [(one.method, one.row, one.key) for one in some] == [
        ("a<b&c", "hit", "attack_size"),
        ("lxmert", "hit", "attack_size"),
    ]
    assert [(value, estimate.value) for value, estimate in some[0].points] == [(0.0, 91.0), (0.1, 61.0), (0.3, 13.5)]
    columns = curve_columns(some)
    assert [column.title for column in columns] == ["method", "variant", "0", "0.1", "0.3"]
    assert [column.cell(some[1]) for column in columns] == ["lxmert", "hit", "91.0", "61.0", "13.5"]


def test_a_picture_has_the_numbers_of_the_table(found: Study) -> None:
    (subject,) = found.outcomes
    some = curves(found, subject)
    drawn = ElementTree.fromstring(picture(some, "a & b", "accuracy"))
    assert drawn.find(f"{SVG}title").text == "a & b"  # type: ignore[union-attr]
    dots = list(drawn.iter(f"{SVG}circle"))
    told = [dot.find(f"{SVG}title").text for dot in dots]  # type: ignore[union-attr]
    assert told == [
        f"{curve.method}, hit, {value:g}: {estimate.value:.1f} %" for curve in some for value, estimate in curve.points
    ]
    lines = list(drawn.iter(f"{SVG}polyline"))
    assert len(lines) == 2
    inside = HIGH - TOP - BELOW
    for curve, line in zip(some, lines, strict=True):
        points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
        own = [dot for dot, name in zip(dots, told, strict=True) if str(name).startswith(curve.method)]
        assert points == [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in own]
        assert [x for x, _ in points] == sorted({x for x, _ in points})
        fallen = (points[-1][1] - points[0][1]) / inside * 100
        assert fallen == pytest.approx(curve.points[0][1].value - curve.points[-1][1].value, abs=0.01)


def test_one_value_alone_is_a_point(found: Study) -> None:
    (subject,) = found.outcomes
    one = curves(found, subject)[0]
    alone = Curve(one.method, one.row, one.key, one.points[:1])
    assert len(list(ElementTree.fromstring(picture([alone], "x", "y")).iter(f"{SVG}circle"))) == 1

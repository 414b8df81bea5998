"""What a suite that compares variants found out: differences between like runs, with their intervals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from vlbench.cards import SuiteCard, Variant
from vlbench.record import RunRecord
from vlbench.report.bootstraps import read_bootstrap
from vlbench.report.compare import leading, write_leaderboards
from vlbench.report.studies import Study, study
from vlbench.report.study_page import study_page, write_studies
from vlbench.types import BadData

MakeRecord = Callable[..., RunRecord]
SUITE = SuiteCard(
    id="controlled",
    about="plain and other",
    variants={"plain": Variant(about="as it is"), "other": Variant(about="otherwise")},
    against="plain",
    claims=("The other is better.",),
)


@pytest.fixture
def compared(make_record: MakeRecord) -> Callable[..., list[RunRecord]]:
    def make(plain: list[float], other: list[float]) -> list[RunRecord]:
        return [
            make_record(value, seed=seed, suite="controlled", recipe={"variant": name}, id=f"{name}{seed}")
            for name, values in (("plain", plain), ("other", other))
            for seed, value in enumerate(values)
        ]

    return make


def only(found: Study, variant: str) -> Any:
    (some,) = found.outcomes.values()
    (one,) = [one for one in some if one.variant == variant]
    return one


def test_differences_are_between_runs_of_one_seed(compared: Callable[..., list[RunRecord]]) -> None:
    plain, other = [50.0, 60.0, 70.0], [52.0, 61.0, 73.0]
    found = study(SUITE, compared(plain, other))
    one = only(found, "other")
    low, high = stats.ttest_rel(other, plain).confidence_interval(0.95)
    assert one.ahead is not None
    np.testing.assert_allclose([one.ahead.value, one.ahead.low, one.ahead.high], [2.0, low, high], rtol=1e-9)
    assert one.value.value == pytest.approx(np.mean(other))
    assert only(found, "plain").ahead is None


@pytest.mark.parametrize(
    ("other", "verdict"),
    [([60.0, 61.5, 62.0], "ahead"), ([40.0, 41.5, 42.0], "behind"), ([40.0, 51.0, 62.0], "unclear")],
)
def test_a_verdict_is_what_the_interval_leaves_no_doubt_of(
    compared: Callable[..., list[RunRecord]], other: list[float], verdict: str
) -> None:
    found = study(SUITE, compared([50.0, 50.5, 51.0], other))
    assert only(found, "other").verdict == verdict
    assert found.tally()[verdict] == 1


def test_one_seed_has_no_verdict(compared: Callable[..., list[RunRecord]]) -> None:
    assert only(study(SUITE, compared([50.0], [60.0])), "other").verdict == "-"


def test_seeds_that_only_one_side_has_are_left_out_of_the_difference(compared: Callable[..., list[RunRecord]]) -> None:
    one = only(study(SUITE, compared([50.0, 52.0], [60.0, 61.0, 99.0])), "other")
    assert one.ahead is not None
    assert one.ahead.value == pytest.approx(9.5)
    assert one.seeds == (0, 1, 2)


def test_runs_that_differ_in_more_than_the_variant_are_left_out_and_named(
    compared: Callable[..., list[RunRecord]], make_record: MakeRecord
) -> None:
    records = compared([50.0, 60.0, 70.0], [52.0, 61.0, 73.0])
    values = {"variant": "plain", "epochs": 99.0}
    other = [make_record(10.0, seed=s, suite="controlled", recipe=values, id=f"z{s}", started="2030") for s in (0, 1)]
    found = study(SUITE, [*records, *other])
    assert found.outcomes == study(SUITE, records).outcomes
    assert found.left_out == ("z0", "z1")
    page = study_page(found)
    assert "differ from the others in more than the variant: z0, z1" in page
    assert "differ from the others" not in study_page(study(SUITE, records))


def test_a_variant_can_be_set_against_one_of_its_own(make_record: MakeRecord) -> None:
    rows = {"plain": "", "better": "plain", "odd": "", "odder": "odd"}
    suite = SUITE.model_copy(
        update={"variants": {name: Variant(about=name, against=one) for name, one in rows.items()}, "against": ""}
    )
    values = {"plain": 50.0, "better": 53.0, "odd": 20.0, "odder": 21.0}
    records = [
        make_record(
            value * (1 + seed / 100), seed=seed, suite="controlled", recipe={"variant": name}, id=f"{name}{seed}"
        )
        for name, value in values.items()
        for seed in (0, 1, 2)
    ]
    found = study(suite, records)
    assert only(found, "better").ahead.value == pytest.approx(3.03)
    assert only(found, "odder").ahead.value == pytest.approx(1.01)
    assert only(found, "odd").ahead is None
    page = study_page(found)
    assert "| set against | ahead by |" in page
    assert "| odder | 21.21 |" in page
    assert "Of all rows: 2 clearly ahead" in page


def test_answers_without_training_are_a_subject_of_their_own(compared: Callable[..., list[RunRecord]]) -> None:
    trained = compared([50.0], [60.0])
    asked = [one.model_copy(update={"id": f"{one.id}e", "kind": "evaluate"}) for one in trained]
    found = study(SUITE, [*trained, *asked])
    assert [subject.title for subject in found.outcomes] == ["vqa, zero-shot", "vqa"]


def test_other_suites_unknown_variants_and_smoke_do_not_count(
    compared: Callable[..., list[RunRecord]], make_record: MakeRecord
) -> None:
    more = [
        make_record(10.0, suite="quick", recipe={"variant": "plain"}),
        make_record(10.0, suite="controlled", recipe={"variant": "third"}),
        make_record(10.0, suite="controlled", recipe={"variant": "other"}, basis="smoke", started="2027"),
    ]
    assert only(study(SUITE, [*compared([50.0], [60.0]), *more]), "other").value.value == 60.0


def test_the_page_says_what_was_claimed_and_what_came_out(
    compared: Callable[..., list[RunRecord]], make_record: MakeRecord
) -> None:
    begun = make_record(
        0.0, id="begun", kind="pretrain", suite="controlled", scores={}, losses={"matching": 0.25}, dataset="world"
    )
    records = compared([50.0, 51.0, 52.0], [60.0, 61.5, 62.0])
    records[-1] = records[-1].model_copy(
        update={"recipe": records[-1].recipe.model_copy(update={"start": "run:begun", "variant": "other"})}
    )
    page = study_page(study(SUITE, [*records, begun]))
    assert "- The other is better." in page
    assert "1 clearly ahead" in page
    assert "| 1 of 1 |" in page
    assert "| begun |" in page
    assert "matching 0.250" in page
    assert page == study_page(study(SUITE, [begun, *records[::-1]]))
    assert "What came out" not in page
    told = study_page(study(SUITE.model_copy(update={"found": ("It is, but for one.",)}), records))
    assert "- It is, but for one." in told


def test_pre_training_of_another_suite_and_of_earlier_stages_is_listed(
    compared: Callable[..., list[RunRecord]], make_record: MakeRecord
) -> None:
    records = compared([50.0], [60.0])
    (last,) = records[-1:]
    update = {"recipe": last.recipe.model_copy(update={"start": "run:second"})}
    facts = {"kind": "pretrain", "suite": "quick", "scores": {}, "losses": {"matching": 0.25}}
    stages = [
        make_record(0.0, id="first", **facts),
        make_record(0.0, id="second", recipe={"start": "run:first"}, **facts),
        make_record(0.0, id="other", **facts),
    ]
    found = study(SUITE, [*records[:-1], last.model_copy(update=update), *stages])
    assert {one.id for one in found.pretraining} == {"first", "second"}


def test_variants_stand_in_their_study_and_not_in_leaderboards(
    compared: Callable[..., list[RunRecord]], make_record: MakeRecord, tmp_path: Path
) -> None:
    records = [*compared([50.0], [60.0]), make_record(97.0)]
    assert [one.suite for one in leading(records)] == ["quick"]
    write_leaderboards(records, tmp_path / "boards")
    assert "60.00" not in (tmp_path / "boards" / "vqa-easy-vqa.md").read_text(encoding="utf-8")
    renamed = [one.model_copy(update={"recipe": one.recipe.model_copy(update={"variant": name})})
               for one, name in zip(records, ("scratch", "pretrained"), strict=False)]  # fmt: skip
    (page,) = write_studies(renamed, tmp_path / "studies")
    assert page.name == "controlled.md"
    assert "+10.0" in page.read_text(encoding="utf-8")


def test_what_capfilt_judged_stands_on_the_page_of_the_runs_that_began_from_it(
    compared: Callable[..., list[RunRecord]], make_record: MakeRecord, tmp_path: Path
) -> None:
    begun = make_record(0.0, id="begun", kind="pretrain", suite="controlled", scores={}, losses={}, dataset="world")
    records = compared([50.0, 51.0], [60.0, 61.5])
    records[-1] = records[-1].model_copy(
        update={"recipe": records[-1].recipe.model_copy(update={"start": "run:begun"})}
    )
    path = tmp_path / "capfilt.json"
    content = {
        "corpus": "world-web",
        "runs": {"start": "run:begun", "captioner": "c", "filter": "f"},
        "web": {
            "texts": 4000,
            "kept": 300,
            "share_kept": 7.5,
            "share_right": 70.08,
            "precision": 96.14,
            "recall": None,
        },
        "made_of": {"keep above": 1 / 3},
        "synthetic": {"texts": 3999, "kept": 1, "share_kept": 0.03},
    }
    path.write_text(json.dumps(content))
    judged = [read_bootstrap(path)]
    page = study_page(study(SUITE, [*records, begun]), judged)
    assert "| world-web | 0.33 | 4,000 | 70.1 | 7.5 | 96.1 | - | 3,999 | 0.0 | c | f |" in page
    assert "CapFilt" not in study_page(study(SUITE, compared([50.0], [60.0])), judged)
    path.write_text(json.dumps({**content, "runs": {}}))
    with pytest.raises(BadData, match="not what vlbench capfilt writes"):
        read_bootstrap(path)

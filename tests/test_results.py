"""The checked-in results: what the suite's header says of them holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlbench.cards import SuiteCard
from vlbench.catalog import find, find_suite, known_forms
from vlbench.paths import card_folder
from vlbench.plan import plan
from vlbench.record import RunRecord, read_record
from vlbench.report.bootstraps import read_bootstrap
from vlbench.report.result import warnings

RESULTS = Path(__file__).resolve().parents[1] / "reports" / "results"
FILES = sorted(RESULTS.rglob("*.json"))


@pytest.fixture(params=FILES, ids=[path.relative_to(RESULTS).with_suffix("").as_posix() for path in FILES])
def record(request: pytest.FixtureRequest) -> RunRecord:
    return read_record(request.param)


def test_it_lies_where_it_belongs_and_is_as_it_was_written(record: RunRecord) -> None:
    (path,) = [path for path in FILES if path.stem == record.id]
    assert path.parent == RESULTS / record.method / record.task
    assert not record.code.dirty
    assert record.basis != "smoke"


def test_it_answers_the_splits_that_its_suite_asks_for(record: RunRecord) -> None:
    if record.kind == "pretrain":
        assert not record.scores
        return
    asked = plan(record.method, record.task, suite=record.suite, typed={"dataset": record.dataset})
    assert set(asked.recipe.evaluate_splits) <= set(record.scores)


def test_all_read_the_same_files() -> None:
    """Numbers of one table are of one state of the data."""
    read: dict[tuple[str, str, str], set[str]] = {}
    for one in map(read_record, FILES):
        for name, content in one.inputs.items():
            if name.endswith((".json", ".jsonl", ".p")):
                read.setdefault((one.dataset, one.task, name), set()).add(content)
    assert read
    assert not {name: contents for name, contents in read.items() if len(contents) > 1}


def test_it_is_clearly_ahead_of_its_controls_or_the_suite_says_why_not(record: RunRecord) -> None:
    suite = find(SuiteCard, record.suite)
    if (
        suite.variants or record.kind == "pretrain"
    ):  # compared with each other, at budgets that may be too small for more
        return
    assert record.controls
    assert bool(warnings(record)) is (f"{record.method}/{record.task}" in suite.unclear)


def test_every_pair_of_the_quick_suite_has_a_result_or_the_suite_says_why_not() -> None:
    suite = find(SuiteCard, "quick")
    have = {(record.method, record.task) for record in map(read_record, FILES) if record.suite == "quick"}
    methods = ("albef", "beit3", "blip", "coca", "lxmert", "mcan", "meter", "vilbert", "vlmo")
    able = {
        (method, task)
        for method in methods
        for task in suite.datasets
        if plan(method, task).task.form in known_forms(method)
    }
    assert able - have == {tuple(pair.split("/")) for pair, why in suite.unclear.items() if why.startswith("not run")}


def test_what_a_result_begins_from_is_here_too(record: RunRecord) -> None:
    start = record.recipe.start
    assert not start.startswith("run:") or start.removeprefix("run:") in {path.stem for path in FILES}


def test_a_study_has_every_variant_with_every_seed() -> None:
    """What is asked of a method on a task is asked of all variants; a mean over fewer seeds would be another's."""
    found: dict[tuple[str, str, str, bool], set[tuple[str, int]]] = {}
    for one in map(read_record, FILES):
        if one.recipe.variant:
            key = (one.suite, one.method, one.task, one.kind == "finetune")
            found.setdefault(key, set()).add((one.recipe.variant, one.seed))
    for (name, method, task, trained), have in found.items():
        suite = find_suite(name)
        seeds = {seed for _, seed in have}
        only_asks = {variant for variant, told in suite.variants.items() if told.run.get("steps") == 0}
        wanted = {*suite.variants} - only_asks if trained else only_asks or {*suite.variants}
        assert have == {(variant, seed) for variant in wanted for seed in seeds}, (name, method, task)
        assert seeds >= set(suite.seeds) or not trained, (name, method, task)


@pytest.mark.parametrize(
    "path", sorted((card_folder("reports") / "capfilt").glob("*.json")), ids=lambda path: path.stem
)
def test_what_judged_a_corpus_has_its_records(path: Path) -> None:
    judged = read_bootstrap(path)
    ids = {file.stem for file in FILES}
    assert {judged.start, judged.runs["captioner"], judged.runs["filter"]} <= ids

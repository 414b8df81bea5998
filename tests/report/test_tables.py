"""What may stand beside what: differences only where task, set, split, metric, scorer and method agree."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vlbench.record import RunRecord
from vlbench.report.published import Published, find_published
from vlbench.report.tables import Row, Table, board, judge, leaderboard

MakeRecord = Callable[..., RunRecord]


def published(value: float = 69.9, **changes: object) -> Published:
    values = {
        "method": "LXMERT", "variant": "base", "task": "vqa", "dataset": "VQA v2", "split": "local-val",
        "metric": "accuracy", "value": value, "setting": "finetuned", "verified": "readme",
        "source_title": "A paper", "arxiv_id": "", "table_or_section": "Table 1", "url": "", "note": "",
        "pretrain_data": "", "params_millions": "",
    }  # fmt: skip
    return Published.model_validate({**values, **changes})


def only_row(tables: list[Table]) -> Row:
    (row,) = [row for table in tables for row in table.rows]
    return row


def on_vqa(make_record: MakeRecord, rows: list[Published], **changes: object) -> list[Table]:
    values = {"value": 69.7, "dataset": "vqa-v2", "split": "minival", "size": "base", **changes}
    return leaderboard([make_record(**values)], rows, board("vqa", "vqa-v2"))


def test_same_split_by_its_published_name_gives_a_difference(make_record: MakeRecord) -> None:
    row = only_row(on_vqa(make_record, find_published(ablations=False)))
    assert row.published is not None
    assert (row.published.value, row.published.variant) == (69.9, "base")
    assert row.difference == pytest.approx(-0.2)
    assert row.verdict == "within CI"
    assert {p.split for p in row.elsewhere} == {"test-dev", "test-std"}


def test_a_number_from_memory_is_shown_and_gives_no_difference(make_record: MakeRecord) -> None:
    row = only_row(on_vqa(make_record, [published(verified="memory")]))
    assert row.published is not None
    assert (row.difference, row.verdict) == (None, "from memory")
    seen = only_row(on_vqa(make_record, [published(verified="memory"), published(60.0, verified="secondary")]))
    assert seen.difference == pytest.approx(9.7)


@pytest.mark.parametrize(
    ("changes", "row", "verdict"),
    [
        ({"split": "val"}, {}, "other split"),
        ({}, {"split": "test-dev"}, "other split"),
        ({"count": 512, "recipe": {"limit": 512}}, {}, "part of split"),
        ({"count": 25000}, {}, "part of split"),
        ({"scorer": "soft"}, {}, "other scorer"),
        ({}, {"note": "a custom set of twice the size"}, "other set"),
        ({}, {"method": "UNITER"}, "-"),
        ({}, {"metric": "accuracy_number"}, "-"),
        ({}, {"dataset": "GQA"}, "-"),
        ({}, {"variant": "ablation: no vision tasks"}, "-"),
        ({"method": "mine"}, {}, "-"),
    ],
)
def test_no_difference_where_anything_differs(
    make_record: MakeRecord, changes: dict[str, object], row: dict[str, object], verdict: str
) -> None:
    found = only_row(on_vqa(make_record, [published().model_copy(update=row)], **changes))
    assert (found.published, found.difference, found.verdict) == (None, None, verdict)


def test_seeds_of_one_recipe_become_one_row(make_record: MakeRecord) -> None:
    runs = [make_record(96.0, seed=0), make_record(98.0, seed=1), make_record(50.0, recipe={"rate": 1e-3})]
    (table,) = leaderboard(runs, [], board("vqa", "easy-vqa"))
    averaged, other = table.rows
    assert (averaged.value, averaged.seeds) == (97.0, (0, 1))
    assert averaged.runs == (runs[0].id, runs[1].id)
    assert averaged.low == pytest.approx(97.0 - 12.706, abs=1e-3)  # Student's t with one degree of freedom
    assert averaged.high == 100
    assert (other.value, other.seeds, other.low, other.high) == (50.0, (0,), 49.5, 50.5)


def test_of_two_runs_with_one_seed_the_later_counts(make_record: MakeRecord) -> None:
    old = make_record(90.0, id="old", started="2025-01-01T00:00:00+00:00")
    new = make_record(95.0, id="new")
    (table,) = leaderboard([new, old], [], board("vqa", "easy-vqa"))
    assert [(row.value, row.runs) for row in table.rows] == [(95.0, ("new",))]


def test_splits_parts_and_scorers_never_share_a_table(make_record: MakeRecord) -> None:
    same = {"dataset": "vqa-v2", "size": "base"}
    runs = [
        make_record(60.0, split="val", **same),
        make_record(61.0, split="minival", **same),
        make_record(62.0, split="minival", scorer="soft", **same),
        make_record(63.0, split="minival", count=64, recipe={"limit": 64}, **same),
        make_record(64.0, dataset="easy-vqa"),
    ]
    tables = leaderboard(runs, [], board("vqa", "vqa-v2"))
    places = [(table.split, table.scorer, table.part, table.rows[0].value) for table in tables]
    assert places == [
        ("val", "official-2021", 0, 60.0),
        ("minival", "official-2021", 0, 61.0),
        ("minival", "soft", 0, 62.0),
        ("minival", "official-2021", 64, 63.0),
    ]
    assert {len(table.rows) for table in tables} == {1}


def test_methods_without_a_run_keep_their_published_rows(make_record: MakeRecord) -> None:
    tables = leaderboard([make_record()], find_published(), board("vqa", "easy-vqa"))
    assert [p.value for table in tables for p in table.published] == [99.5, 87.6]
    assert only_row(tables).difference is None
    limited = make_record(count=512, recipe={"limit": 512})
    part, whole = leaderboard([limited], find_published(), board("vqa", "easy-vqa"))
    assert (part.part, len(part.published), len(whole.published)) == (512, 0, 2)


def test_without_runs_every_published_split_has_a_table_of_its_own() -> None:
    tables = leaderboard([], find_published(), board("vqa", "vqa-v2"))
    assert [t.published_split for t in tables][:4] == ["val", "local-val", "test-dev", "test-std"]
    assert all({p.split for p in t.published} == {t.published_split} for t in tables)
    assert not any(p.is_ablation for t in tables for p in t.published)


def test_a_users_own_task_has_a_table_without_cards(make_record: MakeRecord) -> None:
    run = make_record(12.0, task="riddles", dataset="my-set", metric="luck", scorer="mine", count=7)
    (table,) = leaderboard([run], find_published(), board("riddles", "my-set", [run]))
    assert (table.metric, table.scorer, table.part, len(table.rows)) == ("luck", "mine", 0, 1)


@pytest.mark.parametrize(
    ("value", "low", "high", "verdict"),
    [
        (70.0, 69.0, 71.0, "within CI"),
        (75.0, 74.0, 76.0, "above"),
        (60.0, 59.0, 61.0, "below"),
        (70.0, None, None, "no interval"),
    ],
)
def test_judge(value: float, low: float | None, high: float | None, verdict: str) -> None:
    assert judge(70.0, value, low, high) == verdict

"""The best control beside every result, and the page of all methods on all tasks."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from vlbench.record import RunRecord, Score
from vlbench.report.compare import write_leaderboards
from vlbench.report.tables import Control, board, leaderboard

MakeRecord = Callable[..., RunRecord]


def control(value: float, half: float = 1.0) -> Score:
    return Score(value=value, low=value - half, high=value + half, count=9673, scorer="exact-match")


def page(records: list[RunRecord], folder: Path) -> str:
    write_leaderboards(records, folder)
    return (folder / "README.md").read_text(encoding="utf-8")


def test_the_best_control_is_the_one_that_ends_highest(make_record: MakeRecord) -> None:
    record = make_record(97.0, controls={"prior": control(60.0), "question-only": control(59.0, half=9.0)})
    (table,) = leaderboard([record], [], board("vqa", "easy-vqa"))
    assert table.rows[0].control == Control("question-only", 59.0, 68.0)
    assert table.rows[0].clear


def test_controls_of_several_seeds_are_averaged(make_record: MakeRecord) -> None:
    records = [make_record(97.0, seed=seed, controls={"image-shuffled": control(50.0 + seed)}) for seed in (0, 2)]
    (table,) = leaderboard(records, [], board("vqa", "easy-vqa"))
    assert table.rows[0].control == Control("image-shuffled", 51.0, 53.0)


@pytest.mark.parametrize(("value", "clear"), [(52.6, True), (51.4, False), (40.0, False)])
def test_a_lead_within_the_intervals_is_no_lead(
    make_record: MakeRecord, tmp_path: Path, value: float, clear: bool
) -> None:
    record = make_record(value, controls={"prior": control(51.0)})
    text = page([record], tmp_path)
    assert ("not clearly ahead" in text) is not clear
    assert f"| {value:.1f} ? |" in text or clear
    own = (tmp_path / "vqa-easy-vqa.md").read_text(encoding="utf-8")
    assert f"| 51.00 (prior) | {value - 51:+.2f}{'' if clear else ', not clearly'} |" in own


def test_only_the_main_metric_and_split_have_controls(make_record: MakeRecord) -> None:
    scores = {"val": {"accuracy": control(60.0)}, "test": {"accuracy": control(61.0)}}
    record = make_record(60.0, scores=scores, controls={"prior": control(51.0)})
    tables = leaderboard([record], [], board("vqa", "easy-vqa"))
    assert {table.split: table.rows[0].control is not None for table in tables} == {"val": True, "test": False}


def test_all_methods_stand_in_a_line_of_their_task(make_record: MakeRecord, tmp_path: Path) -> None:
    records = [
        make_record(97.0, controls={"prior": control(51.0)}),
        make_record(88.0, method="mcan", controls={"prior": control(51.5)}),
        make_record(
            70.0,
            method="mcan",
            task="gqa",
            dataset="world",
            split="testdev",
            scorer="official",
            controls={"prior": control(40.0)},
        ),
        make_record(80.0, size="base", controls={"prior": control(51.0)}),
        make_record(10.0, count=48, recipe={"limit": 48}, basis="smoke", controls={"prior": control(5.0)}),
    ]
    text = page(records, tmp_path)
    assert re.search(r"\| task \| data \| metric \| best control \| lxmert \| mcan \|", text)
    assert "| [vqa](vqa-easy-vqa.md) | easy-vqa | accuracy | 51.5 (prior) | 97.0 | 88.0 |" in text
    assert "| [gqa](gqa-world.md) | world | accuracy | 40.0 (prior) | - | 70.0 |" in text
    assert text.index("## Size mini") < text.index("97.0 | 88.0") < text.index("## Size base") < text.index("| 80.0 |")
    assert "10.0" not in text


def test_of_several_recipes_the_latest_counts(make_record: MakeRecord, tmp_path: Path) -> None:
    later = {"id": "20270101-000000-00000000-s0", "recipe": {"rate": 1e-3}}
    records = [make_record(97.0, controls={"prior": control(51.0)})]
    records += [make_record(95.0, controls={"prior": control(51.0)}, **later)]
    assert "| 95.0 |" in page(records, tmp_path)


def test_a_smaller_pool_is_a_line_of_its_own(make_record: MakeRecord, tmp_path: Path) -> None:
    retrieval = {"task": "retrieval", "dataset": "world", "metric": "r_mean", "scorer": "recall"}
    records = [
        make_record(42.0, method="coca", count=1500, controls={"prior": control(1.0)}, **retrieval),
        make_record(87.0, method="vilbert", count=250, controls={"prior": control(7.0)}, **retrieval),
    ]
    text = page(records, tmp_path)
    assert "| [retrieval](retrieval-world.md) | world | r_mean | 1.0 (prior) | 42.0 | - |" in text
    assert "| [retrieval, 250 texts](retrieval-world.md) | world | r_mean | 7.0 (prior) | - | 87.0 |" in text
    board_text = (tmp_path / "retrieval-world.md").read_text(encoding="utf-8")
    assert board_text.count("## ") >= 2
    assert "250 examples of it" in board_text

"""The end of a run: score, controls, published numbers, costs, where to look."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from vlbench.record import RunRecord, Score
from vlbench.report.published import find_published
from vlbench.report.result import show_result

MakeRecord = Callable[..., RunRecord]


def score(value: float) -> Score:
    return Score(value=value, low=value - 0.5, high=value + 0.5, count=9673, scorer="exact-match")


def shown(record: RunRecord, folder: Path = Path("runs/easy-vqa/lxmert/one")) -> str:
    console = Console(width=100, record=True, file=io.StringIO())
    show_result(record, find_published(), folder, console)
    return console.export_text()


def test_score_controls_and_lead_are_shown(make_record: MakeRecord) -> None:
    controls = {"prior": score(22.0), "question-only": score(52.0), "image-shuffled": score(50.0)}
    text = shown(make_record(97.4, controls=controls))
    assert re.search(r"accuracy +97\.40 +96\.90 to 97\.90 +9,673 +exact-match", text)
    assert re.search(r"prior .*\+75\.40", text)
    assert re.search(r"image-shuffled .*\+47\.40", text)
    assert "no sign that it uses the image" not in text


def test_a_model_that_ignores_the_image_is_called_out(make_record: MakeRecord) -> None:
    controls = {"question-only": score(52.0), "image-shuffled": score(97.0)}
    assert "not clearly ahead of image-shuffled: no sign that it uses the image" in shown(
        make_record(97.4, controls=controls)
    )


def test_each_doubt_is_said_in_a_line_of_its_own(make_record: MakeRecord) -> None:
    near = {"prior": 97.0, "question-only": 97.1, "image-shuffled": 97.2, "text-shuffled": 97.3}
    text = shown(make_record(97.4, controls={name: score(value) for name, value in near.items()}))
    assert "not clearly ahead of prior: no sign that it has learned\n" in text
    assert "not clearly ahead of question-only: it may know no more than the words tell\n" in text
    assert "not clearly ahead of text-shuffled: no sign that it uses the text\n" in text


def test_other_methods_and_sets_are_shown_without_a_difference(make_record: MakeRecord) -> None:
    text = shown(make_record(97.4))
    assert re.search(r"Baseline .*99\.50 \[\d\] +another set", text)
    assert re.search(r"Baseline .*87\.60 \[\d\] +other method", text)
    assert "custom set" in text
    assert "Δ" not in text


def test_the_methods_own_number_on_the_split_has_a_difference(make_record: MakeRecord) -> None:
    text = shown(make_record(69.7, dataset="vqa-v2", split="minival", size="base"))
    assert re.search(r"LXMERT +base +local-val .*69\.90 \[1\] +-0\.20 +within CI", text)
    assert re.search(r"test-dev .*72\.42 \[\d\] +- +other split", text)
    assert "more: vlbench compare vqa --dataset vqa-v2" in text


def test_part_of_a_split_has_no_difference(make_record: MakeRecord) -> None:
    run = make_record(69.7, dataset="vqa-v2", split="minival", count=64, recipe={"limit": 64})
    text = shown(run)
    assert re.search(r"local-val .*69\.90 \[1\] +part of split", text)
    assert "Δ" not in text


def test_cost_folder_and_mlflow_are_named(make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLBENCH_RUNS", raising=False)
    text = shown(make_record())
    assert "0.4M parameters, 1.00 GiB at peak, cpu" in text
    assert "812 samples/s in training, 3,001 samples/s in evaluation, 1.5 min training" in text
    assert "run     runs/easy-vqa/lxmert/one\n" in text
    assert text.rstrip().endswith("mlflow  vlbench ui")
    assert "vlbench ui --out 'my runs'" in shown(make_record(), Path("my runs/easy-vqa/lxmert/one"))


def test_a_hidden_split_points_to_the_server(make_record: MakeRecord) -> None:
    run = make_record(dataset="vqa-v2", scores={})
    assert "answers-<split>.json is what the evaluation server takes" in shown(run)


def test_untrained_weights_are_said_to_be_so(make_record: MakeRecord) -> None:
    said = "the weights are untrained (--start scratch)"
    assert said in shown(make_record(22.0, kind="evaluate", steps=0, recipe={"start": "scratch"}))
    assert said not in shown(make_record(97.4, recipe={"start": "scratch"}))
    assert said not in shown(make_record(97.4, kind="evaluate", steps=0, recipe={"start": "run:one"}))


def test_a_pretraining_says_how_to_go_on(make_record: MakeRecord) -> None:
    run = make_record(kind="pretrain", scores={})
    assert f"--start run:{run.id}" in shown(run)

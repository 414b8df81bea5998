"""Adversarial training and attacks from the command line, for every method; the curve that a suite makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from vlbench.cards import ModelCard
from vlbench.catalog import card_names
from vlbench.engine.train import Training
from vlbench.paths import card_folder
from vlbench.preview import _time
from vlbench.recipe import Recipe
from vlbench.record import read_record
from vlbench.report.compare import collect, leading

FEW = ("--limit", 8, "--set", "batch=4", "--no-mlflow", "--json")
SMALL = ("--set", "image_size=0", "--set", "dropout=0", "--set", "controls=", *FEW)
Command = Callable[..., Any]
SUITE = """
about = "robust or not"
all_methods = ["mcan"]
all_tasks = ["gqa"]
seeds = [0]
[datasets]
gqa = "world"
[variants.plain]
about = "as usual"
[variants.villa]
about = "by adversarial training"
run = { adversary = "villa", adversary_steps = 1 }
[variants.plain-pgd]
about = "the plain run under PGD"
run = { start = "variant:plain", steps = 0, attack = "pgd", attack_steps = 2 }
over = { attack_size = [0.1, 1.0] }
[variants.villa-fgsm]
about = "the other under FGSM"
run = { start = "variant:villa", steps = 0, attack = "fgsm" }
over = { attack_size = [0.1, 1.0] }
[all]
size = "mini"
start = "scratch"
epochs = 1
batch = 128
dropout = 0.0
image_size = 0
controls = []
"""


@pytest.mark.parametrize("method", card_names(ModelCard))
def test_every_method_learns_against_attacks_and_answers_under_them(
    command: Command, made: Path, tmp_path: Path, method: str
) -> None:
    place = ("--dataset", "world", "--data", made, "--out", tmp_path / "runs", *SMALL)
    villa = ("--set", "adversary=villa", "--set", "adversary_steps=1", "--set", "steps=1")
    (learned,) = json.loads(command("run", method, "gqa", *place, *villa).out)["runs"]
    assert learned["recipe"]["adversary"] == "villa"
    lines = (Path(learned["folder"]) / "log.jsonl").read_text().splitlines()
    (step,) = [event["values"] for event in map(json.loads, lines) if event["event"] == "step"]
    assert {"answer", "adversarial_image", "adversarial_text", "smoothing"} <= set(step)
    start = ("evaluate", method, "gqa", *place, "--start", f"run:{learned['id']}")
    clean, attacked, still = (
        json.loads(command(*start, *(word for one in more for word in ("--set", one))).out)["runs"][0]
        for more in ((), ("attack=pgd", "attack_steps=1", "attack_size=0.5"), ("attack=pgd", "attack_size=0"))
    )
    assert attacked["kind"] == "evaluate"
    given = [(Path(run["folder"]) / next(iter(run["answers"].values()))).read_bytes() for run in (clean, still)]
    assert given[0] == given[1]
    assert clean["scores"] == still["scores"]
    assert attacked["fingerprint"] != clean["fingerprint"]
    records = collect(tmp_path / "runs").records
    own = {record.id for record in records if not record.suite.startswith("controlled")}
    assert attacked["id"] in own
    assert attacked["id"] not in {record.id for record in leading(records)}
    assert clean["id"] in {record.id for record in leading(records)}


def test_pretraining_against_attacks_goes_on_where_it_stopped(command: Command, made: Path, tmp_path: Path) -> None:
    sizes = ("--set", "batch=8", "--set", "image_size=0", "--set", "dropout=0.1", "--no-mlflow", "--json")
    typed = (
        "pretrain",
        "albef",
        "--size",
        "mini",
        "--data",
        made,
        "--set",
        "adversary=villa",
        "--set",
        "steps=2",
        *sizes,
    )
    (whole,) = json.loads(command(*typed, "--out", tmp_path / "whole").out)["runs"]
    assert {"adversarial_image", "adversarial_text", "contrastive", "smoothing"} <= set(whole["losses"])

    class Stop(Exception):
        """Stands for a kill."""

    with pytest.MonkeyPatch.context() as patch:
        real = Training.update

        def update(self: Training, *rest: Any) -> Any:
            if self.step == 1:
                raise Stop("killed")
            return real(self, *rest)

        patch.setattr(Training, "update", update)
        assert command(*typed, "--out", tmp_path / "cut", "--set", "save_every=1").code == 1
    (resumed,) = json.loads(command(*typed, "--out", tmp_path / "cut", "--set", "save_every=1").out)["runs"]
    assert resumed["weights"] == whole["weights"]


def test_a_result_says_that_it_is_under_attack(command: Command, made: Path, tmp_path: Path) -> None:
    place = ("--dataset", "world", "--data", made, "--out", tmp_path / "runs", "--set", "image_size=0")
    few = ("--limit", 8, "--set", "batch=4", "--no-mlflow")
    shown = command(
        "evaluate",
        "mcan",
        "gqa",
        *place,
        *few,
        "--start",
        "scratch",
        "--set",
        "attack=fgsm",
        "--set",
        "attack_on=image",
    )
    assert shown.code == 0, shown.err
    assert "under attack: fgsm on images, size 0.1" in shown.out
    assert "published" not in shown.out.partition("under attack")[0]


def test_what_cannot_be_attacked_is_refused(command: Command, made: Path, tmp_path: Path) -> None:
    place = ("--data", made, "--out", tmp_path / "runs", "--no-mlflow", "--set", "attack=pgd")
    command("run", "lxmert", "gqa", "--dataset", "world", *place).refused(2, "attack=pgd is of an evaluation")
    for task in ("retrieval", "captioning"):
        command("evaluate", "blip", task, "--dataset", "world", "--start", "scratch", *place).refused(
            1, "cannot be attacked"
        )
    hidden = ("evaluate", "lxmert", "vqa-v2", "--split", "test-dev", "--start", "scratch", *place)
    command(*hidden).refused(2, "its answers are not public")
    command("evaluate", "lxmert", "gqa", "--dataset", "world", "--start", "scratch", *place[:-1], "attack=pdg").refused(
        2, "attack"
    )
    command("evaluate", "lxmert", "gqa", "--start", "variant:none", "--suite", "quick", *place[:-2]).refused(
        2, "variant:none"
    )


def test_a_preview_counts_the_passes_of_a_step() -> None:
    shipped = map(read_record, sorted(card_folder("reports/results").rglob("*.json")))
    like = next(one for one in shipped if one.throughput.train_samples_per_second)

    def minutes(examples: int, asked: int, **values: object) -> float:
        told = _time(like, examples, asked, Recipe.model_validate({"model": "m", "task": "t", **values}))
        return float(told.split()[1])

    trained, answered = minutes(10**7, 0), minutes(0, 10**8)
    assert minutes(10**7, 0, adversary="villa", adversary_steps=2) == pytest.approx(5 * trained, rel=0.01)
    assert minutes(0, 10**8, attack="fgsm") == pytest.approx(4 * answered, rel=0.01)
    assert minutes(0, 10**8, attack="pgd", attack_steps=3) == pytest.approx(10 * answered, rel=0.01)


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "robust.toml"
    path.write_text(SUITE)
    return path


def test_a_suite_attacks_what_it_trained_and_draws_the_curve(
    command: Command, made: Path, suite: Path, tmp_path: Path
) -> None:
    place = ("--suite", suite, "--data", made, "--out", tmp_path / "runs")
    typed = ("run", "all", "all", *place, "--no-mlflow", "--json")
    # one that is asked for alone makes what it begins from first
    (first,) = json.loads(command(*typed, "--seed", 0, "--set", "variant=plain-pgd-1").out)["runs"]
    runs = json.loads(command(*typed).out)["runs"]
    known = {(run["recipe"]["variant"], run["seed"]): run for run in runs}
    assert len(known) == len(runs) == 6
    assert known["plain-pgd-1", 0]["id"] == first["id"]
    for (variant, seed), run in known.items():
        trained = variant in ("plain", "villa")
        assert run["kind"] == ("finetune" if trained else "evaluate")
        assert (run["steps"] > 0) == trained
        if not trained:
            assert run["recipe"]["start"] == f"run:{known[variant.partition('-')[0], seed]['id']}"
            assert run["recipe"]["attack_size"] == float(variant.rpartition("-")[2])
    assert len(list((tmp_path / "runs").rglob("record.json"))) == 6
    folders = ("--into", tmp_path / "boards", "--studies", tmp_path / "studies")
    reported = command("report", "--out", tmp_path / "runs", *folders, "--json")
    assert "no study of robust" in reported.err
    assert "--suite" in reported.err
    reported = command("report", "--out", tmp_path / "runs", *folders, "--json", "--suite", suite)
    assert "no study of" not in reported.err
    written = json.loads(reported.out)["studies"]
    split = next(iter(first["scores"]))
    page, picture = (tmp_path / "studies" / name for name in ("robust.md", f"robust-gqa-world-{split}.svg"))
    assert {str(page), str(picture)} <= set(written)
    text = page.read_text()
    assert f"]({picture.name})" in text
    scores = {
        row: [
            known[name, 0]["scores"][split]["accuracy"]["value"]
            for name in (row.partition("-")[0], f"{row}-0.1", f"{row}-1")
        ]
        for row in ("plain-pgd", "villa-fgsm")
    }
    lines = {line.split("|")[2].strip(): line for line in text.splitlines() if line.startswith("| mcan")}
    curves = text.partition("Against `attack_size`")[2].partition("![")[0]
    for row, values in scores.items():
        (line,) = [line for line in curves.splitlines() if f"| {row} " in line]
        assert [cell.strip() for cell in line.split("|")[3:-1]] == [f"{value:.1f}" for value in values]
        assert f"{row}-0.1" in lines
    drawn = ElementTree.parse(picture).getroot()
    titles = [title.text or "" for title in drawn.iter("{http://www.w3.org/2000/svg}title")]
    for row, values in scores.items():
        for size, value in zip(("0", "0.1", "1"), values, strict=True):
            assert f"mcan, {row}, {size}: {value:.1f} %" in titles

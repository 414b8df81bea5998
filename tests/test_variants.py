"""Suites that compare variants, and runs that begin from the suite's own pre-training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from vlbench.runfolder import locked
from vlbench.types import Fault

PLAIN = ("--no-mlflow", "--json")
FEW = ("--set", "batch=8", *PLAIN, "--limit", 24)
Command = Callable[..., Any]
SUITE = """
about = "with and without"
all_methods = ["albef"]
all_tasks = ["retrieval"]
seeds = [0, 1]
against = "scratch"
[datasets]
retrieval = "world"
[variants.scratch]
about = "from nothing"
run = { start = "scratch" }
[variants.begun]
about = "from pre-training"
[variants.unmatched]
about = "without matching"
pretrain = { losses = { contrastive = 1.0, masked_lm = 1.0 } }
[all]
size = "mini"
start = "pretrained"
steps = 2
dropout = 0.0
image_size = 0
[pretrain.all]
size = "mini"
seed = 5
corpora = ["world"]
steps = 2
batch = 8
dropout = 0.0
image_size = 0
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "compared.toml"
    path.write_text(SUITE)
    return path


def test_every_variant_runs_with_every_seed_from_what_it_shares(
    command: Command, made: Path, suite: Path, tmp_path: Path
) -> None:
    typed = ("run", "all", "all", "--suite", suite, "--data", made, "--out", tmp_path / "runs", *FEW)
    done = command(*typed)
    runs = json.loads(done.out)["runs"]
    which = [(run["recipe"]["variant"], run["seed"]) for run in runs]
    assert sorted(which) == sorted((name, seed) for name in ("scratch", "begun", "unmatched") for seed in (0, 1))
    records = [json.loads(path.read_text()) for path in (tmp_path / "runs").rglob("record.json")]
    begun = {one["id"]: one for one in records if one["kind"] == "pretrain"}
    assert sorted(tuple(sorted(one["recipe"]["losses"])) for one in begun.values()) == [
        ("contrastive", "masked_lm"),
        ("contrastive", "masked_lm", "matching"),
    ]  # one a variant, shared by the seeds: the suite says which seed it has
    assert {one["seed"] for one in begun.values()} == {5}
    for run in runs:
        start = run["recipe"]["start"]
        if run["recipe"]["variant"] == "scratch":
            assert start == "scratch"
        else:
            lost = "matching" not in begun[start.removeprefix("run:")]["recipe"]["losses"]
            assert lost is (run["recipe"]["variant"] == "unmatched")
    again = json.loads(command(*typed).out)["runs"]
    assert [run["id"] for run in again] == [run["id"] for run in runs]
    shown = command(*(word for word in typed if word != "--json"))
    assert "unmatched" in shown.out


def test_one_variant_is_run_where_it_is_named(command: Command, made: Path, suite: Path, tmp_path: Path) -> None:
    typed = ("--suite", suite, "--data", made, "--out", tmp_path / "runs", "--seed", "3", *FEW)
    (run,) = json.loads(command("run", "all", "all", *typed, "--set", "variant=scratch").out)["runs"]
    assert (run["recipe"]["variant"], run["seed"]) == ("scratch", 3)
    command("run", "all", "all", *typed, "--set", "variant=scrach").refused(2, "did you mean 'scratch'?")


def test_pretrain_makes_what_the_runs_of_a_suite_begin_from(
    command: Command, made: Path, suite: Path, tmp_path: Path
) -> None:
    place = ("--suite", suite, "--data", made, "--out", tmp_path / "runs", "--no-mlflow", "--json")
    stages = json.loads(command("pretrain", "all", *place).out)["runs"]
    assert len(stages) == 2
    command("run", "all", "all", *place, "--set", "batch=8", "--limit", 24)
    records = [json.loads(path.read_text()) for path in (tmp_path / "runs").rglob("record.json")]
    assert {one["id"] for one in records if one["kind"] == "pretrain"} == {one["id"] for one in stages}


def test_variants_of_other_sizes_begin_from_pre_trainings_of_their_own(command: Command, made: Path) -> None:
    typed = ("vilbert", "--suite", "vilbert-layers", "--data", made, "--dry-run")
    for made_first in (
        json.loads(command("pretrain", *typed, "--json").out)["plans"],
        json.loads(command("run", typed[0], "gqa", *typed[1:], "--json").out)["before"],
    ):
        layers = [one.get("changes", {}) for one in made_first]
        assert layers == [{}, {"co_layers": 1, "image_layers": 1}, {"co_layers": 3, "image_layers": 3}]
    assert "co_layers 3, image_layers 3" in command("pretrain", *typed).out


def test_variants_are_asked_without_training_from_where_each_begins(
    command: Command, made: Path, suite: Path, tmp_path: Path
) -> None:
    typed = ("evaluate", "all", "all", "--suite", suite, "--data", made, "--out", tmp_path / "runs", *FEW)
    runs = json.loads(command(*typed, "--seed", 0).out)["runs"]
    starts = {run["recipe"]["variant"]: run["recipe"]["start"] for run in runs}
    assert starts["scratch"] == "scratch"
    assert len(set(starts.values())) == 3
    assert {run["kind"] for run in runs} == {"evaluate"}
    command(*typed, "--start", "scratch").refused(2, "both say what runs begin from")
    (one,) = json.loads(command(*typed, "--seed", 0, "--start", "scratch", "--set", "variant=begun").out)["runs"]
    assert (one["recipe"]["variant"], one["recipe"]["start"]) == ("begun", "scratch")


def test_what_runs_begin_from_is_not_made_afresh_with_them(
    command: Command, made: Path, suite: Path, tmp_path: Path
) -> None:
    typed = ("run", "all", "all", "--suite", suite, "--data", made, "--out", tmp_path / "runs", *FEW)
    typed += ("--seed", 0, "--set", "variant=begun")
    (first,), (again,) = (json.loads(command(*typed, *more).out)["runs"] for more in ((), ("--fresh",)))
    assert first["id"] != again["id"]
    assert first["recipe"]["start"] == again["recipe"]["start"]


def test_what_another_process_makes_is_waited_for_where_it_is_only_begun_from(tmp_path: Path) -> None:
    told = []
    other = FileLock(tmp_path / ".lock")
    other.acquire()

    def wait(line: str) -> None:
        told.append(line)
        other.release()

    with locked(tmp_path, wait):
        assert told == [f"waiting for {tmp_path.name}, which another process is making"]
        with pytest.raises(Fault, match="is being run by another process"), locked(tmp_path):
            pass


def test_what_stops_before_it_begins_leaves_no_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Fault, match="no data"), locked(folder):
        raise Fault("no data", "get some")
    assert not folder.exists()
    with locked(folder):
        (folder / "begun.json").write_text("{}")
    assert (folder / "begun.json").is_file()


def test_a_folder_that_was_taken_away_while_it_was_waited_for_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    other = FileLock(folder / ".lock")
    other.acquire()

    def wait(line: str) -> None:
        (folder / ".lock").unlink()
        folder.rmdir()
        other.release()

    with locked(folder, wait):
        (folder / "begun.json").write_text("{}")
        with pytest.raises(Fault, match="is being run by another process"), locked(folder):
            pass


def test_a_method_without_pretraining_cannot_begin_from_it(command: Command, made: Path) -> None:
    typed = ("--data", made, "--start", "pretrained", "--dataset", "world", *FEW)
    command("run", "mcan", "gqa", *typed).refused(1, "has no image-text pre-training")


def test_other_numbers_of_a_size_are_named_and_must_agree(command: Command, made: Path, tmp_path: Path) -> None:
    place = (
        "--data",
        made,
        "--out",
        tmp_path / "runs",
        "--set",
        "steps=2",
        "--set",
        "batch=8",
        "--no-mlflow",
        "--json",
    )
    other = ("--set", "changes=cross_layers:1,text_layers:1")
    (stage,) = json.loads(command("pretrain", "lxmert", *place, *other).out)["runs"]
    (usual,) = json.loads(command("pretrain", "lxmert", *place).out)["runs"]
    assert stage["recipe"]["changes"] == {"cross_layers": 1, "text_layers": 1}
    assert stage["parameters"] < usual["parameters"]
    assert "changes" in usual["recipe"]
    start = ("run", "lxmert", "gqa", "--dataset", "world", "--start", f"run:{stage['id']}", *place, "--limit", 8)
    done = command(*start, "--set", "changes=cross_layers:2")
    done.refused(2, "that run had other numbers in its size")
    assert "type --set changes=cross_layers:1,text_layers:1" in done.err
    (run,) = json.loads(command(*start).out)["runs"]  # where none are typed, they are those of the start
    assert run["recipe"]["changes"] == stage["recipe"]["changes"]
    assert run["origins"]["changes"] == f"run:{stage['id']}"
    command("pretrain", "lxmert", *place, "--set", "changes=crossed_layers:1").refused(1, "crossed_layers")


def test_a_share_of_the_corpora_is_the_same_in_every_epoch(command: Command, made: Path, tmp_path: Path) -> None:
    typed = ("pretrain", "coca", "--data", made, "--set", "epochs=2", "--set", "batch=8", "--no-mlflow", "--json")
    (part,) = json.loads(command(*typed, "--set", "corpus_share=0.25").out)["runs"]
    (whole,) = json.loads(command(*typed).out)["runs"]
    assert part["examples_seen"] * 4 == whole["examples_seen"]
    assert part["basis"] == whole["basis"]


def test_keys_that_came_later_change_no_name() -> None:
    from vlbench.recipe import Recipe

    plain = Recipe(model="a", task="b")
    assert not {"variant", "changes", "corpus_share"} & set(plain.named())
    assert plain.digest() != plain.model_copy(update={"variant": "other"}).digest()

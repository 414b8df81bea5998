"""``--start``: what it may name, what follows from it, and how a start that does not fit is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vlbench.paths import card_folder
from vlbench.plan import means_published, plan
from vlbench.possible import check_possible
from vlbench.record import read_record
from vlbench.types import Misuse, WrongStart

Command = Callable[..., Any]
HEADER = "seed 0 ("


@pytest.fixture
def lxmert_run(tmp_path: Path) -> Path:
    """The folder of a finished run of LXMERT at its mini size; its weights are looked for, but never read."""
    (source,) = sorted((card_folder("reports/results") / "lxmert" / "vqa").glob("*.json"))[:1]
    record = read_record(source)
    folder = tmp_path / "runs" / "easy-vqa" / "lxmert" / record.id
    (folder / "checkpoint").mkdir(parents=True)
    shutil.copy(source, folder / "record.json")
    (folder / "checkpoint" / "weights.safetensors").touch()
    return folder


@pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["run", "dry-run"])
@pytest.mark.parametrize("verb", ["run", "evaluate"])
def test_a_run_of_another_method_or_size_is_refused(
    command: Command, lxmert_run: Path, verb: str, dry: tuple[str, ...]
) -> None:
    start = ("--start", f"run:{lxmert_run.name}", *dry)
    other = command(verb, "mcan", "vqa", *start)
    other.refused(2, "mcan cannot start from", lxmert_run, "a run of lxmert")
    larger = command(verb, "lxmert", "vqa", "--size", "base", *start)
    larger.refused(2, "at size base cannot start from", lxmert_run, "a run at size mini")
    assert "--size mini" in larger.err
    assert all(HEADER not in done.out + done.err for done in (other, larger))


def test_of_several_methods_those_whose_run_it_is_not_are_left_out(command: Command, lxmert_run: Path) -> None:
    start = ("--start", f"run:{lxmert_run.name}", "--dry-run", "--json")
    done = command("evaluate", "lxmert,mcan", "vqa", *start)
    assert done.code == 0, done.err
    assert [one["run"] for one in json.loads(done.out)["plans"]] == ["LXMERT on vqa (easy-VQA), seed 0"]
    assert "left out: MCAN on vqa: mcan cannot start from" in done.err
    command("evaluate", "vilbert,mcan", "vqa", *start).refused(2, "vilbert cannot start from")


def test_a_run_that_was_stopped_is_told_from_one_that_is_not_there(command: Command, lxmert_run: Path) -> None:
    (lxmert_run / "record.json").rename(lxmert_run / "begun.json")
    done = command("evaluate", "lxmert", "vqa", "--start", f"run:{lxmert_run.name}", "--dry-run")
    done.refused(2, lxmert_run, "was begun and has not ended")
    assert "the command that began it again" in done.err


def test_a_run_without_weights_is_refused(command: Command, lxmert_run: Path) -> None:
    start = ("--start", f"run:{lxmert_run.name}", "--dry-run")
    (lxmert_run / "checkpoint" / "weights.safetensors").unlink()
    command("evaluate", "lxmert", "vqa", *start).refused(3, lxmert_run, "weights.safetensors is not here")
    record = json.loads((lxmert_run / "record.json").read_text())
    (lxmert_run / "record.json").write_text(json.dumps({**record, "kind": "evaluate", "checkpoint": ""}))
    done = command("evaluate", "lxmert", "vqa", *start)
    done.refused(2, lxmert_run, "has left no weights")
    assert f"--start {record['recipe']['start']}" in done.err


def test_a_run_with_another_vocabulary_is_refused(command: Command, lxmert_run: Path) -> None:
    record = json.loads((lxmert_run / "record.json").read_text())
    record["recipe"]["tokeniser"] = "bert-base-uncased"
    (lxmert_run / "record.json").write_text(json.dumps(record))
    typed = ("evaluate", "lxmert", "vqa", "--start", f"run:{lxmert_run.name}", "--dry-run")
    done = command(*typed, "--set", "tokeniser=train")
    done.refused(2, "with the vocabulary train cannot start from", lxmert_run, "that run had bert-base-uncased")
    assert "--set tokeniser=bert-base-uncased" in done.err
    assert "tokenisers/bert-base-uncased" in command(*typed).out  # where none is typed, that of the start


@pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["run", "dry-run"])
@pytest.mark.parametrize(
    ("start", "code", "words"),
    [
        ("publishd", 2, ("'publishd'", "no checkpoint of lxmert, no run and no file", "did you mean 'published'?")),
        ("qwxyz", 2, ("'qwxyz'", "known: pretrained, published, scratch")),
        ("{run}", 2, ("did you mean 'run:{run}'?",)),
        ("run:{run}9", 2, ("no finished run below", "did you mean 'run:{run}'?")),
        ("run:{day}", 2, ("2 runs below", "fit 'run:{day}': {run}, {run}-b")),
        ("{folder}", 2, ("{folder} is a folder",)),
        ("{folder}/checkpoint/weight.safetensors", 3, ("did you mean '{folder}/checkpoint/weights.safetensors'?",)),
        ("nowhere/none.pth", 3, ("there is no checkpoint nowhere/none.pth",)),
    ],
)  # fmt: skip
def test_a_start_that_is_nothing_is_refused_at_once(
    command: Command, lxmert_run: Path, start: str, code: int, words: tuple[str, ...], dry: tuple[str, ...]
) -> None:
    named = {"run": lxmert_run.name, "day": lxmert_run.name[:8], "folder": str(lxmert_run)}
    shutil.copytree(lxmert_run, lxmert_run.with_name(f"{lxmert_run.name}-b"))
    done = command("evaluate", "lxmert", "vqa", "--start", start.format(**named), *dry)
    done.refused(code, *(word.format(**named) for word in words))
    assert HEADER not in done.out + done.err


def test_published_weights_of_another_size_are_refused_before_anything_is_read(command: Command) -> None:
    done = command("evaluate", "lxmert", "vqa", "--size", "mini", "--dry-run")
    done.refused(1, "lxmert has no published checkpoint of size mini")
    assert "--size base" in done.err


# --- a checkpoint of the card, by its name ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "typed", "size", "origin"),
    [
        ("albef", {"start": "4m"}, "base", "the checkpoint 4m"),
        ("albef", {"start": "4m", "size": "base"}, "base", "typed"),
        ("blip", {"start": "published-large"}, "large", "the checkpoint published-large"),
        ("vlmo", {"start": "vqa"}, "base", "the checkpoint vqa"),
        ("vlmo", {"start": "vqa", "size": "large"}, "large", "typed"),
        ("vilbert", {"start": "multi-task"}, "multi-task", "the checkpoint multi-task"),
        ("lxmert", {"start": "published"}, "base", "the checkpoint published"),
        ("lxmert", {"start": "scratch"}, "mini", "suites/quick.toml"),
    ],
)
def test_the_size_follows_from_a_named_checkpoint(method: str, typed: dict[str, Any], size: str, origin: str) -> None:
    made = plan(method, "vqa", typed=typed)
    assert (made.recipe.size, made.origins["size"]) == (size, origin)
    check_possible(made)


def test_published_weights_begin_with_the_vocabulary_of_their_method() -> None:
    """One learned from the texts of the data set would fit none of their words."""
    made = plan("albef", "vqa", typed={"start": "4m"})
    assert made.recipe.tokeniser == made.tokeniser == "bert-base-uncased"
    assert made.origins["tokeniser"] == "the checkpoint 4m"
    assert plan("lxmert", "vqa", suite="paper").recipe.tokeniser == ""  # official data has none of its own
    assert plan("meter", "vqa", typed={"start": "published"}).tokeniser == "roberta-base"
    assert plan("mcan", "vqa", typed={"start": "small"}).tokeniser == "whole-words"
    assert plan("albef", "vqa", typed={"start": "4m", "tokeniser": "train"}).tokeniser == "train"
    assert plan("albef", "vqa").tokeniser == "train"


def test_a_size_that_a_named_checkpoint_is_not_of(command: Command) -> None:
    with pytest.raises(WrongStart, match="'4m' of albef is of size base, but --size mini was typed"):
        plan("albef", "vqa", typed={"start": "4m", "size": "mini"})
    done = command("run", "albef", "vqa", "--start", "4m", "--size", "mini")
    done.refused(2, "the checkpoint '4m' of albef is of size base, but --size mini was typed")
    assert "leave --size out" in done.err
    command("show", "albef", "vqa", "--start", "4m", "--size", "mini").refused(2, "is of size base")


def test_a_named_checkpoint_is_answered_by_its_papers_recipe(command: Command, tmp_path: Path) -> None:
    """As ``--start published`` is: no suite and no size need to be typed."""
    done = command("evaluate", "albef", "vqa", "--start", "vqa", "--data", tmp_path, "--dry-run", "--json")
    assert done.code == 3
    (found,) = json.loads(done.out)["plans"]
    assert found["run"] == "ALBEF on vqa (VQA v2), seed 0"
    assert any("checkpoints/albef/vqa.pth" in line for line in found["missing"])
    assert not any("no published checkpoint" in line for line in found["missing"])


def test_whose_name_means_published_weights() -> None:
    assert means_published("published", "mcan")
    assert means_published("4m", "lxmert,albef")
    assert means_published("4m", "all")
    assert not means_published("4m", "lxmert")
    assert not means_published("scratch", "all")
    with pytest.raises(Misuse, match="'lxmert'"):
        means_published("scratch", "lxmrt")

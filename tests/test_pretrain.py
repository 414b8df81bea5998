"""Pre-training from command to record, and fine-tuning from it, on a tiny made-up world."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vlbench import session
from vlbench.cards import ModelCard
from vlbench.catalog import card_names, find

FEW = ("--set", "steps=3", "--set", "batch=8", "--no-mlflow", "--json")
METHODS = [name for name in card_names(ModelCard) if find(ModelCard, name).pretrain]
Command = Callable[..., Any]


def runs(done: Any) -> list[dict[str, Any]]:
    assert done.code == 0, done.err
    found: list[dict[str, Any]] = json.loads(done.out)["runs"]
    return found


def test_all_but_mcan_can_be_pretrained() -> None:
    assert sorted({*card_names(ModelCard)} - {*METHODS}) == ["mcan"]


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_pretrained_and_goes_on_to_a_task(command: Command, made: Path, method: str) -> None:
    stages = runs(command("pretrain", method, "--data", made, *FEW))
    assert [one["recipe"]["stage"] for one in stages] == find(ModelCard, method).stages()
    record = stages[-1]
    assert (record["kind"], record["steps"], record["scores"]) == ("pretrain", 3, {})
    assert record["losses"]
    assert all(value > 0 for value in record["losses"].values())
    wanted = set(record["recipe"]["losses"])  # METER's mini size chooses two objectives
    assert ({"masked_lm", "matching"} if method == "meter" else wanted) == set(record["losses"])
    assert [name for name in record["inputs"] if name.startswith("corpus:")]
    task = "retrieval" if method in ("albef", "vlmo", "blip", "coca", "beit3", "meter") else "gqa"
    typed = ("--data", made, "--dataset", "world", "--start", f"run:{record['id']}", *FEW, "--limit", 24)
    (tuned,) = runs(command("run", method, task, *typed))
    assert tuned["recipe"]["start"] == f"run:{record['id']}"
    assert tuned["inputs"]["words"] == record["inputs"]["words"]
    assert "start" in tuned["inputs"]
    # also where the suite's data are others: what sees regions is asked on those it has learned from
    done = command("run", method, "vqa", "--data", made, "--start", f"run:{record['id']}", *FEW, "--limit", 24)
    (asked,) = runs(done)
    regions = method in ("lxmert", "vilbert")
    assert asked["dataset"] == ("world" if regions else "easy-vqa")
    assert ("whose regions it was pre-trained on" in done.err) is regions


def test_the_next_stage_begins_from_the_one_before(command: Command, made: Path) -> None:
    stages = runs(command("pretrain", "vlmo", "--data", made, *FEW))
    for before, after in pairwise(stages):
        assert after["recipe"]["start"].endswith(before["id"])
    asked = [{"reconstruction", "commitment"}, {"image_codes"}, {"masked_lm"}]
    assert [set(one["losses"]) for one in stages[:3]] == asked
    assert len(stages[3]["losses"]) == 4
    again = runs(command("pretrain", "vlmo", "--data", made, *FEW))
    assert [one["id"] for one in again] == [one["id"] for one in stages]


def test_it_goes_on_where_it_was_stopped(
    command: Command, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = ("pretrain", "albef", "--data", made, "--set", "steps=8", "--set", "batch=24", "--set", "save_every=3")
    typed += ("--set", "dropout=0.1", "--set", "augment=2", "--set", "crop=random", "--no-mlflow", "--json")
    (whole,) = runs(command(*typed, "--out", tmp_path / "whole"))
    left = iter(range(5))

    @contextmanager
    def interruptible() -> Iterator[Callable[[], bool]]:
        yield lambda: next(left, None) is not None

    with monkeypatch.context() as patch:
        patch.setattr(session, "interruptible", interruptible)
        command(*typed, "--out", tmp_path / "parts").refused(1, "stopped")
    done = command(*typed, "--out", tmp_path / "parts")
    assert "going on after step" in done.err
    (parts,) = runs(done)
    assert parts["weights"] == whole["weights"]
    assert parts["fingerprint"] == whole["fingerprint"]


def test_objectives_are_chosen_by_name(command: Command, made: Path) -> None:
    typed = ("pretrain", "albef", "--data", made, *FEW)
    both = runs(command(*typed, "--set", "losses=matching:1,masked_lm:0.5"))[0]
    assert both["recipe"]["losses"] == {"matching": 1.0, "masked_lm": 0.5}
    other = runs(command(*typed, "--set", "losses=matching:1"))[0]
    assert other["weights"] != both["weights"]
    command(*typed, "--set", "losses=matchin:1").refused(2, "did you mean 'matching'?")


@pytest.mark.parametrize("workers", [0, 1])
def test_broken_images_are_counted_and_named(command: Command, own_made: Path, workers: int) -> None:
    root = own_made
    pictures = sorted((root / "world" / "small" / "images" / "coco").glob("COCO_train*"))
    pictures[3].write_bytes(b"no picture")
    pictures[5].unlink()
    typed = ("--set", "epochs=1", "--set", f"workers={workers}", "--set", "batch=16", "--no-mlflow", "--json")
    (record,) = runs(command("pretrain", "coca", "--data", root, *typed))
    assert record["note"].startswith("2 examples were left out")
    log = (Path(record["folder"]) / "log.jsonl").read_text()
    assert pictures[3].stem in log
    assert pictures[5].stem in log


def test_what_was_left_out_before_a_stop_counts_once(
    command: Command, own_made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = sorted((own_made / "world" / "small" / "images" / "coco").glob("COCO_train*"))
    pictures[3].write_bytes(b"no picture")
    typed = ("pretrain", "coca", "--data", own_made, "--set", "epochs=3", "--set", "batch=16", "--no-mlflow", "--json")
    left = iter(range(5))  # one is asked for a step: stopped in the second epoch

    @contextmanager
    def interruptible() -> Iterator[Callable[[], bool]]:
        yield lambda: next(left, None) is not None

    with monkeypatch.context() as patch:
        patch.setattr(session, "interruptible", interruptible)
        command(*typed).refused(1, "stopped")
    (record,) = runs(command(*typed))
    assert record["note"].startswith("1 examples were left out")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("mcan",), "mcan has no image-text pre-training"),
        (("albef", "--stage", "parts"), "did you mean 'pairs'?"),
        (("lxmert", "--stage", "pairs"), "has one stage, without a name"),
        (("albef", "--set", "corpora=wrold"), "did you mean 'world'?"),
        (("albef", "--set", "corpora=world*many"), "neither NAME nor NAME*2"),
        (("albef", "--set", "corpora=world,world"), "twice"),
        (("albef", "--size", "huge"), "no size 'huge'"),
    ],
)
def test_what_cannot_be_is_refused(command: Command, made: Path, words: tuple[str, ...], said: str) -> None:
    command("pretrain", *words, "--data", made, *FEW).refused(2, said)


def test_a_dry_run_says_what_would_be_done(command: Command, made: Path, tmp_path: Path) -> None:
    done = command("pretrain", "vlmo,lxmert", "--data", made, *FEW, "--dry-run", "--out", tmp_path / "none")
    assert done.code == 0, done.err
    plans = json.loads(done.out)["plans"]
    stages = ["image-tokeniser", "vision", "text", "pairs"]
    assert [(one["method"], one["stage"]) for one in plans] == [*(("vlmo", name) for name in stages), ("lxmert", "")]
    assert not (tmp_path / "none").exists()
    begun = [f"the stage {name}" for name in stages[:3]]
    assert [one["start"] for one in plans] == ["scratch", *begun, "scratch"]
    assert [one["missing"] for one in plans] == [[]] * 5


def test_a_dry_run_is_written_for_people(command: Command, made: Path, tmp_path: Path) -> None:
    typed = ("--data", made, "--set", "corpora=world,world-web*2", "--out", tmp_path / "none", "--dry-run")
    done = command("pretrain", "beit3", "--stage", "masked", *typed)
    assert done.code == 0, done.err
    lines = dict(line.strip().split("  ", 1) for line in done.out.splitlines() if line.strip())
    assert lines["corpora"] == "world, world-web*2"
    assert lines["losses"] == "text_words, image_codes, pair_words, pair_codes"
    steps, epochs = (int(lines[name].replace(",", "")) for name in ("steps", "epochs"))
    examples, batch = (int(lines[name].replace(",", "")) for name in ("examples", "batch"))
    assert steps == epochs * -(-examples // batch) > 0
    assert lines["without"] == "the stages before it (image-tokeniser), as --stage leaves them out"
    done = command("pretrain", "lxmert", "--data", made, "--set", "steps=7", "--dry-run")
    names = [line.split()[0] for line in done.out.splitlines() if line.strip()]
    assert "stage" not in names
    assert "steps  7" in done.out
    done = command(
        "pretrain", "lxmert", "--data", made, "--set", "epochs=2", "--set", "batch=4", "--limit", 9, "--dry-run"
    )
    assert "steps  6" in done.out


def test_a_stage_of_one_task_is_told_of_before_it_is_made(command: Command, made: Path) -> None:
    done = command("pretrain", "albef", "--stage", "text-assignment", "--data", made, *FEW, "--dry-run")
    assert done.code == 0, done.err
    assert [one["stage"] for one in json.loads(done.out)["plans"]] == ["text-assignment"]


def test_what_sees_regions_is_asked_on_those_of_the_pre_training_made_first(command: Command, made: Path) -> None:
    typed = ("--data", made, "--start", "pretrained", "--set", "steps=2", "--set", "batch=8", "--no-mlflow", "--json")
    (tuned,) = runs(command("run", "lxmert", "vqa", *typed, "--limit", 24))
    assert tuned["dataset"] == "world"
    assert tuned["recipe"]["start"].startswith("run:")


def test_a_dry_run_of_runs_tells_of_the_pre_training_before_them(command: Command, made: Path) -> None:
    typed = ("--data", made, "--suite", "controlled", "--seed", "0,1", "--dry-run")
    done = command("run", "beit3", "gqa", *typed, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert [one["stage"] for one in found["before"]] == ["image-tokeniser", "masked"]  # once for both seeds
    assert [one["start"] for one in found["before"]] == ["scratch", "the stage image-tokeniser"]
    assert len(found["plans"]) == 4
    shown = command("run", "beit3", "gqa", *typed).out
    assert shown.index("image-tokeniser") < shown.index("BEiT-3 on gqa")
    scratch = command("run", "beit3", "gqa", *typed, "--json", "--set", "variant=scratch")
    assert json.loads(scratch.out)["before"] == []


def test_runs_from_scratch_can_read_as_those_from_pre_training_do(command: Command, made: Path) -> None:
    """Captions ask nothing: a vocabulary of them alone would cut questions and answers into letters."""
    (begun,) = runs(command("pretrain", "coca", "--data", made, "--set", "corpora=world", *FEW))
    words = (Path(begun["folder"]) / "vocabulary.txt").read_text().split()
    assert {"yes", "no", "how", "what"} <= {*words}
    typed = ("--data", made, "--dataset", "world", *FEW, "--limit", 24)
    for task in ("gqa", "retrieval"):
        (tuned,) = runs(command("run", "coca", task, "--set", "tokeniser=world", *typed))
        assert tuned["inputs"]["words"] == begun["inputs"]["words"]
    command("run", "coca", "vqa", "--dataset", "easy-vqa", "--set", "tokeniser=world", *FEW).refused(2, "made-up world")


def test_a_dry_run_names_what_is_missing_of_the_papers_corpora(command: Command, tmp_path: Path) -> None:
    done = command("pretrain", "all", "--suite", "paper", "--dry-run", "--json", "--data", tmp_path)
    assert done.code == 3, done.err
    plans = {(one["method"], one["stage"]): one for one in json.loads(done.out)["plans"]}
    assert len(plans) == sum(len(find(ModelCard, name).stages()) for name in METHODS)
    texts, regions = (" ".join(plans[name]["missing"]) for name in (("vlmo", "text"), ("lxmert", "")))
    assert "wikipedia/*.txt" in texts
    assert "tokenisers/bert-base-uncased" in texts
    assert "images" not in texts
    assert "mscoco_train.json" in regions
    assert "train2014_obj36.tsv (or train2014_obj36.h5)" in regions


def test_a_corpus_that_nobody_gives_out_is_said_to_be_so(command: Command, tmp_path: Path) -> None:
    done = command("pretrain", "coca", "--suite", "paper", "--data", tmp_path, "--no-mlflow")
    assert done.code == 3
    assert "JFT-3B is not given out" in done.err


def test_a_corpus_without_regions_is_refused_where_they_are_needed(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "coco"
    folder.mkdir()
    Image.new("RGB", (32, 32)).save(folder / "a.png")
    done = command("pretrain", "lxmert", "--set", "corpora=coco-captions", "--data", tmp_path, *FEW)
    assert done.code == 3
    assert len(done.complaints) == 1

"""From command to record on the made-up world: every form of answer, the data verbs, uploads and servers' replies."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vlbench import session, submission
from vlbench.cards import DatasetCard, ModelCard, TaskCard
from vlbench.catalog import card_names, cards, find, find_dataset, known_forms
from vlbench.plan import plan
from vlbench.plugins import load_code
from vlbench.possible import check_possible, trained_on
from vlbench.record import read_record
from vlbench.tasks.base import OfficialFiles, Task
from vlbench.types import BadData, Impossible

FEW = ("--set", "steps=2", "--set", "batch=8", "--limit", 24, "--no-mlflow", "--json")
Command = Callable[..., Any]


PAIRS = [
    ("lxmert", "gqa", "accuracy"),
    ("mcan", "vqa", "accuracy"),
    ("albef", "nlvr2", "accuracy"),
    ("vlmo", "snli-ve", "accuracy"),
    ("coca", "vcr", "q_ar"),
    ("lxmert", "vcr", "q_ar"),
    ("vilbert", "refcoco", "accuracy"),
    ("mcan", "refcoco+", "accuracy"),
    ("lxmert", "refcocog", "accuracy"),
    ("beit3", "retrieval", "r_mean"),
    ("meter", "retrieval", "r_mean"),
    ("blip", "captioning", "cider"),
    ("beit3", "nocaps", "cider"),
]
"""Every task, every form, regions and pixels, one and two rounds."""


@pytest.mark.parametrize(("method", "task", "metric"), PAIRS, ids=[f"{m}-{t}" for m, t, _ in PAIRS])
def test_from_command_to_record(command: Command, made: Path, method: str, task: str, metric: str) -> None:
    done = command("run", method, task, "--dataset", "world", "--data", made, *FEW)
    assert done.code == 0, done.err
    (record,) = json.loads(done.out)["runs"]
    split = next(iter(record["scores"]))
    assert next(iter(record["scores"][split])) == metric
    assert 0 <= record["scores"][split][metric]["value"] <= 100
    assert record["basis"] == "smoke"
    texts = task in ("nlvr2", "snli-ve", "refcoco", "refcoco+", "refcocog")
    assert {"prior", "image-shuffled", *(["text-shuffled"] if texts else [])} == set(record["controls"]) - {
        "question-only"
    }
    folder = Path(record["folder"])
    for name in record["answers"].values():
        assert (folder / name).stat().st_size > 0
    assert all((folder / f"samples-{name}.parquet").is_file() for name in record["answers"])


def test_every_task_but_those_of_real_images_only_reads_the_world() -> None:
    served = {card.id for card in cards(TaskCard) if "world" in card.datasets}
    assert served == set(card_names(TaskCard)) - {"nlvr1"}
    assert set(find(DatasetCard, "world").task) == served


@pytest.mark.parametrize("task", ["vqa", "gqa", "nlvr2", "snli-ve", "refcoco"])
def test_its_official_files_are_scored_by_score(made: Path, tmp_path: Path, task: str) -> None:
    """What a task writes as answers is what ``vlbench score`` reads, and the gold answers score full marks."""
    card = find_dataset("world", task)
    card = card.model_copy(update={"folder": str(made / "world" / "small" / card.folder)})
    opened: Task = load_code(find(TaskCard, task).code, Task)(card, tmp_path)
    split = card.recipe["evaluate_splits"][0]
    given = {
        example.id: max(weights, key=weights.__getitem__) if (weights := opened.weights(example)) else example.answer
        for example in opened.examples(split)
    }
    answers = tmp_path / f"answers.{opened.answers_suffix}"
    answers.write_bytes(opened.answers_content(given, split))  # type: ignore[arg-type]
    files = [path for path in opened.files(split).values() if path.name != "skills.json"]
    questions = next((path for path in files if "questions" in path.name or "refs" in path.name), None)
    annotations = next((path for path in files if path != questions and "choices" not in path.name), None)
    found = opened.score_files(OfficialFiles(answers, questions, annotations))
    assert found.get("overall", found.get("accuracy")) == 100


def test_check_finds_it_whole_and_says_what_is_lost(command: Command, made: Path, tmp_path: Path) -> None:
    done = command("data", "check", "world", "--data", made, "--json")
    assert done.code == 0, done.err
    parts = json.loads(done.out)
    corpus = parts.pop()  # the world is a corpus, too
    assert (corpus["task"], corpus["examples"], corpus["at_hand"]) == ("pretraining", 60, corpus["images"])
    files = parts.pop()
    assert (files["task"], files["split"], files["examples"]) == ("-", "files", files["expected"])
    assert {part["task"] for part in parts} == {card.id for card in cards(TaskCard) if "world" in card.datasets}
    assert all(part["at_hand"] == part["images"] > 0 for part in parts)
    assert all(part["examples"] == part["expected"] > 0 for part in parts)
    copy = Path(shutil.copytree(made, tmp_path / "copy"))
    small = copy / "world" / "small"
    (small / "regions.h5").unlink()
    victim = sorted((small / "images" / "coco").iterdir())[0]
    victim.unlink()
    questions = small / "vqa-v2" / "v2_OpenEnded_mscoco_val2014_questions.json"
    questions.write_bytes(questions.read_bytes()[:-40])
    cut = sorted((small / "images" / "nlvr2").iterdir())[0]
    cut.write_bytes(cut.read_bytes()[:60])
    done = command("data", "check", "world", "--data", copy)
    assert done.code == 3
    for word in (victim.stem, cut.stem, questions.name, "cannot be decoded", "neither as files nor as features"):
        assert word in done.err
    assert "Traceback" not in done.err


def test_the_list_says_what_is_here(command: Command, made: Path, tmp_path: Path) -> None:
    def states(data: Path) -> dict[str, str]:
        return {
            row["dataset"]: row["state"] for row in json.loads(command("data", "list", "--data", data, "--json").out)
        }

    assert states(made)["world"] == "here"
    empty = states(tmp_path / "none")
    assert empty["world"] == "made when first used"
    assert empty["easy-vqa"] == "here"
    assert empty["vqa-v2"] == "not here"


def test_a_world_of_an_unknown_size(command: Command, tmp_path: Path) -> None:
    command("data", "get", "world", "--size", "huge", "--data", tmp_path).refused(2, "huge")
    command("data", "get", "wrold", "--data", tmp_path).refused(2, "'world'")
    done = command("data", "get", "vcr", "--data", tmp_path)
    assert done.code == 0
    assert "visualcommonsense.com" in done.out


@pytest.mark.parametrize("method", card_names(ModelCard))
def test_pairs_that_cannot_be_are_refused_from_the_cards(method: str) -> None:
    for task in card_names(TaskCard):
        made_plan = plan(method, task, typed={"steps": 1})
        if find(TaskCard, task).form in known_forms(method):
            check_possible(made_plan)
        else:
            with pytest.raises(Impossible, match="no head of the form"):
                check_possible(made_plan)


def test_several_pairs_leave_out_those_that_cannot_be(command: Command, made: Path) -> None:
    done = command("run", "lxmert,albef", "refcoco", "--dataset", "world", "--data", made, *FEW)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert [record["method"] for record in found["runs"]] == ["lxmert"]
    assert [one["title"] for one in found["impossible"]] == ["ALBEF on refcoco"]
    assert "left out: ALBEF on refcoco" in done.err
    command("run", "meter", "refcoco", "--data", made).refused(1, "no head of the form 'point'")
    command("show", "mcan", "retrieval").refused(1, "no head of the form 'match'")
    command("run", "albef", "refcoco", "--data", made).refused(1, "no head of the form 'point'")
    command("evaluate", "mcan", "vqa").refused(1, "no run can begin from")
    command("evaluate", "lxmert", "vqa").refused(1, "pre-trained only")


def test_splits_that_fine_tuning_has_seen_are_named() -> None:
    def seen(method: str, split: str) -> list[str]:
        return trained_on(
            plan(method, "vqa-v2", suite="paper", typed={"steps": 0, "epochs": 0, "evaluate_splits": (split,)})
        )

    assert seen("albef", "val") == ["val"]
    assert seen("albef", "test-dev") == []


# --- stopped and gone on with ----------------------------------------------------------------------------


def stopping_after(steps: int) -> Callable[[], Any]:
    """Let Ctrl-C come after so many steps, over all runs of the process."""
    left = iter(range(steps))

    @contextmanager
    def interruptible() -> Iterator[Callable[[], bool]]:
        yield lambda: next(left, None) is not None

    return interruptible


@pytest.mark.parametrize("method", ["albef", "blip", "beit3"])
def test_queues_and_twins_go_on_where_they_were(
    command: Command, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Momentum, queues and their pointers, and ramps over the epochs, are as if nothing had happened."""
    typed = ("run", method, "retrieval", "--dataset", "world", "--data", made, "--set", "steps=8", "--set", "batch=8")
    typed += ("--set", "save_every=3", "--set", "dropout=0.1", "--limit", "24", "--no-mlflow", "--json")
    whole = json.loads(command(*typed, "--out", tmp_path / "whole").out)["runs"][0]
    with monkeypatch.context() as patch:
        patch.setattr(session, "interruptible", stopping_after(5))
        command(*typed, "--out", tmp_path / "parts").refused(1, "stopped")
    done = command(*typed, "--out", tmp_path / "parts")
    assert "going on after step" in done.err
    parts = json.loads(done.out)["runs"][0]
    assert parts["weights"] == whole["weights"]
    assert parts["fingerprint"] == whole["fingerprint"]


def test_several_runs_go_on_in_the_one_that_was_stopped(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = ("run", "lxmert,mcan", "vqa", "--set", "steps=4", "--set", "save_every=1", *FEW[2:])
    with monkeypatch.context() as patch:
        patch.setattr(session, "interruptible", stopping_after(6))
        stopped = command(*typed)
    assert stopped.code == 1
    assert [record["method"] for record in json.loads(stopped.out)["runs"]] == ["lxmert"]
    done = command(*typed)
    assert done.code == 0, done.err
    assert "this run was finished before" in done.err
    assert "going on after step" in done.err
    assert [record["method"] for record in json.loads(done.out)["runs"]] == ["lxmert", "mcan"]


# --- uploads and replies --------------------------------------------------------------------------------


@pytest.fixture
def asked(command: Command, vqa_v2: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that has answered all of test-dev, which it cannot score; its card counts the eight questions there are."""

    def of_eight(name: str, task: str) -> DatasetCard:
        card = find_dataset(name, task)
        splits = {**card.splits, "test-dev": card.splits["test-dev"].model_copy(update={"examples": 8})}
        return card.model_copy(update={"splits": splits})

    monkeypatch.setattr(submission, "find_dataset", of_eight)
    typed = ("run", "lxmert", "vqa", "--dataset", "vqa-v2", "--data", vqa_v2, "--set", "steps=2", "--set", "batch=8")
    words = (
        "--set",
        "tokeniser=bert-base-uncased",
        "--set",
        "evaluate_splits=minival,test-dev",
        "--set",
        "answer_count=1",
    )
    done = command(*typed, *words, "--no-mlflow", "--json")
    assert done.code == 0, done.err
    return Path(json.loads(done.out)["runs"][0]["folder"])


def test_an_upload_is_written_and_checked(command: Command, asked: Path, vqa_v2: Path) -> None:
    done = command("submit", asked.name, "--data", vqa_v2, "--json")
    assert done.code == 0, done.err
    (upload,) = json.loads(done.out)
    rows = json.loads(Path(upload["path"]).read_text())
    assert upload["split"] == "test-dev"
    assert len(rows) == 8
    answers = asked / "answers-test-dev.json"
    answers.write_text(json.dumps(rows[1:]))
    Path(upload["path"]).unlink()
    command("submit", asked.name, "--data", vqa_v2).refused(3, "without an answer", str(rows[0]["question_id"]))
    assert not Path(upload["path"]).exists()
    command("submit", asked.name, "--data", vqa_v2, "--split", "test").refused(2, "has not answered test")


def test_a_servers_reply_enters_the_record(command: Command, asked: Path, tmp_path: Path) -> None:
    reply = tmp_path / "reply.json"
    reply.write_text(json.dumps([{"test-dev": {"yes/no": 87.28, "number": 54.13, "other": 62.65, "overall": 71.83}}]))
    before = read_record(asked / "record.json")
    assert command("record", asked.name, "--server", reply, "--no-mlflow").code == 0
    after = read_record(asked / "record.json")
    assert next(iter(after.scores["test-dev"])) == "accuracy"
    assert after.scores["test-dev"]["accuracy"].value == 71.83
    assert after.scores["test-dev"]["accuracy_yes_no"].scorer == "evaluation server"
    assert after.scores["minival"] == before.scores["minival"]
    assert after.fingerprint != before.fingerprint


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ([], "empty"),
        ([{"test-dev": 71.0}], "test-dev"),
        ([{"test-dev": {"overall": "high"}}], "overall"),
        ([{"test-moon": {"overall": 70.0}}], "test-moon"),
        ("nothing", "expected an object"),
    ],
)
def test_a_reply_that_is_none(command: Command, asked: Path, tmp_path: Path, reply: object, words: str) -> None:
    (path := tmp_path / "reply.json").write_text(json.dumps(reply))
    before = (asked / "record.json").read_bytes()
    done = command("record", asked.name, "--server", path, "--no-mlflow")
    done.refused(3, words)
    assert '[{"test-dev": {"overall": 71.83}}]' in done.err  # how one looks
    assert (asked / "record.json").read_bytes() == before


def test_a_task_without_a_server(command: Command, made: Path) -> None:
    done = command("run", "lxmert", "refcoco", "--dataset", "world", "--data", made, *FEW)
    name = json.loads(done.out)["runs"][0]["id"]
    nothing = command("submit", name, "--data", made)
    nothing.refused(2, "the made-up world has no evaluation server: vlbench evaluate scores its splits")
    again = f"evaluate lxmert refcoco --dataset world --size mini --start run:{name} --split testA,testB --suite quick"
    assert f"  -> vlbench {again}\n" in nothing.err
    assert command(*again.split(), "--data", made, "--dry-run").code == 0  # what is advised can be typed
    command("submit", name, "--data", made, "--split", "testA").refused(2, "no evaluation server")


def test_an_upload_of_the_made_up_world_names_no_server(command: Command, made: Path) -> None:
    typed = ("run", "lxmert", "snli-ve", "--dataset", "world", "--data", made, *FEW)
    name = json.loads(command(*typed).out)["runs"][0]["id"]
    command("submit", name, "--data", made).refused(2, "no evaluation server")
    few = ("--set", "steps=2", "--set", "batch=8", "--no-mlflow", "--json")
    typed = ("run", "lxmert", "vqa", "--dataset", "world", "--data", made, *few)
    name = json.loads(command(*typed).out)["runs"][0]["id"]
    done = command("submit", name, "--data", made, "--split", "test")
    assert done.code == 0, done.err
    assert "the made-up world has no evaluation server: vlbench evaluate scores its splits" in done.out
    assert "named at" not in done.out
    (upload,) = json.loads(command("submit", name, "--data", made, "--split", "test", "--json").out)
    assert Path(upload["path"]).is_file()
    assert upload["home"] == ""


def test_what_to_do_names_real_splits(command: Command, asked: Path, vqa_v2: Path) -> None:
    """A split that was not answered is named in the command that answers it; one that is none is not."""
    done = command("submit", asked.name, "--data", vqa_v2, "--split", "test")
    done.refused(2, "has not answered test")
    command_line = f"evaluate lxmert vqa --dataset vqa-v2 --size mini --start run:{asked.name}"
    assert f"{command_line} --split test --suite quick\n" in done.err
    done = command("submit", asked.name, "--data", vqa_v2, "--split", "tset")
    done.refused(2, "has not answered tset")
    assert "its splits: train, val, " in done.err
    record = json.loads((asked / "record.json").read_text())
    del record["answers"]["test-dev"]
    (asked / "record.json").write_text(json.dumps(record))
    done = command("submit", asked.name, "--data", vqa_v2)
    done.refused(2, "no split whose answers only a server knows")
    assert f"{command_line} --split test-dev,test --suite quick\n" in done.err


def test_a_faulty_part_of_a_card() -> None:
    card = find(DatasetCard, "world").model_copy(update={"task": {"vqa": {"scorer": 3}}})
    with pytest.raises(BadData, match=r"\[task.vqa\]: scorer"):
        card.for_task("vqa")

"""Uploads for evaluation servers, and the servers' replies: what is refused, and under which names scores are kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vlbench import submission
from vlbench.cards import DatasetCard
from vlbench.catalog import find_dataset
from vlbench.cli import _report
from vlbench.recipe import Recipe
from vlbench.record import Code, Machine, RunRecord, Score, Throughput, read_record
from vlbench.types import BadData, Misuse

Command = Callable[..., Any]
Asked = dict[str, bytes]


@pytest.fixture
def answered(tmp_path: Path) -> Callable[..., Path]:
    """Write a run that has answered splits: split -> what its answer file holds; returns the run's folder."""

    def make(task: str, dataset: str, answers: Asked, scores: dict[str, dict[str, Score]] | None = None) -> Path:
        folder = tmp_path / "runs" / dataset / "lxmert" / "20260101-000000-abcdef01-s0"
        folder.mkdir(parents=True)
        for split, content in answers.items():
            (folder / f"answers-{split}").write_bytes(content)
        RunRecord(
            id=folder.name,
            kind="evaluate",
            method="lxmert",
            task=task,
            dataset=dataset,
            suite="quick",
            size="mini",
            seed=0,
            basis="reduced",
            recipe=Recipe(model="lxmert", task=task, dataset=dataset, size="mini"),
            origins={},
            inputs={},
            code=Code(version="0.1.0"),
            machine=Machine(device="cpu", cpu="a cpu", torch="2.5", precision="fp32"),
            started="2026-01-01T00:00:00+00:00",
            seconds=1.0,
            steps=0,
            examples_seen=0,
            parameters=1,
            throughput=Throughput(),
            scores=scores or {},
            answers={split: f"answers-{split}" for split in answers},
        ).sealed().write(folder / "record.json")
        return folder

    return make


@pytest.fixture
def record(command: Command, tmp_path: Path) -> Callable[..., Any]:
    """Give a run a server's reply."""

    def call(run: Path, reply: object) -> Any:
        path = tmp_path / "reply.json"
        path.write_text(reply if isinstance(reply, str) else json.dumps(reply))
        return command("record", run.name, "--server", path, "--no-mlflow")

    return call


# --- replies ----------------------------------------------------------------------------------------------

NOCAPS = {"B1": 74.3, "B4": 21.0, "METEOR": 25.1, "ROUGE-L": 53.7, "CIDEr": 73.1, "SPICE": 11.2}
CAPTIONED = ["cider", "bleu_1", "bleu_4", "meteor", "rouge_l", "spice"]
REPLIES: dict[str, tuple[str, str, str, object, dict[str, list[str]]]] = {
    "vqa": (
        *("vqa", "vqa-v2", "test"),
        [
            {"test-dev": {"yes/no": 87.28, "number": 54.13, "other": 62.65, "overall": 71.83}},
            {"test-standard": {"overall": 72.0}},
        ],
        {
            "test-dev": ["accuracy", "accuracy_yes_no", "accuracy_number", "accuracy_other"],
            "test": ["accuracy"],
        },
    ),
    "vcr": (
        *("vcr", "vcr", "test"),
        {"test": {"Q->A": 75.1, "QA->R": 76.2, "Q->AR": 57.9}},
        {"test": ["q_ar", "q_a", "qa_r"]},
    ),
    "nocaps": ("nocaps", "nocaps", "test", {"test": NOCAPS}, {"test": CAPTIONED}),
    "nocaps by domain": (
        *("nocaps", "nocaps", "test"),
        [{"in-domain": {"CIDEr": 80.0}}, {"entire": NOCAPS}],
        {"test": ["cider", "cider_in_domain", *CAPTIONED[1:]]},
    ),
    "coco's names": (
        *("nocaps", "nocaps", "test"),
        {"test": {"Bleu_1": 70.0, "Bleu_4": 20.0, "CIDEr": 70.0, "ROUGE_L": 50.0}},
        {"test": ["cider", "bleu_1", "bleu_4", "rouge_l"]},
    ),
    "nlvr2": (
        *("nlvr2", "nlvr2", "test2"),
        {"test-U": {"Consistency": 42.1, "Accuracy": 76.2}},
        {"test2": ["accuracy", "consistency"]},
    ),
    "gqa": (
        *("gqa", "gqa", "submission"),
        [{"test-std": {"Binary": 77.0, "Open": 45.0, "Consistency": 89.0, "Validity": 96.0, "Accuracy": 60.3}}],
        {"test": ["accuracy", "accuracy_binary", "accuracy_open", "consistency", "validity"]},
    ),
    "unknown names": (
        *("vqa", "vqa-v2", "test-dev"),
        {"test-dev": {"Time taken (s)": 3.0, "overall": 70.0}},
        {"test-dev": ["accuracy", "time_taken_s"]},
    ),
}


@pytest.mark.parametrize(("task", "dataset", "split", "reply", "names"), REPLIES.values(), ids=REPLIES)
def test_a_reply_is_kept_under_our_names(
    answered: Callable[..., Path],
    record: Callable[..., Any],
    task: str,
    dataset: str,
    split: str,
    reply: object,
    names: dict[str, list[str]],
) -> None:
    """They are those of the task's own scorer, the main one first, so that leaderboards show them."""
    run = answered(task, dataset, {split: b""})
    done = record(run, reply)
    assert done.code == 0, done.err
    scores = read_record(run / "record.json").scores
    assert {one: list(found) for one, found in scores.items()} == names
    assert {score.scorer for found in scores.values() for score in found.values()} == {"evaluation server"}


def test_the_values_go_with_their_names(answered: Callable[..., Path], record: Callable[..., Any]) -> None:
    run = answered("vcr", "vcr", {"test": b""})
    record(run, REPLIES["vcr"][3])
    scores = read_record(run / "record.json").scores["test"]
    assert {name: score.value for name, score in scores.items()} == {"q_ar": 57.9, "q_a": 75.1, "qa_r": 76.2}
    assert scores["q_ar"].count == 25263
    record(run, {"test": {"Q->AR": 60.0}})  # a later reply takes the place of an earlier one
    assert list(read_record(run / "record.json").scores["test"]) == ["q_ar"]


REFUSED: dict[str, tuple[int, object, str]] = {
    "never answered": (2, {"test-std": {"overall": 70.0}}, "has not answered test"),
    "scored here": (2, {"val": {"overall": 70.0}}, "has scored val itself"),
    "twice": (3, [{"test-dev": {"overall": 70.0}}, {"test-dev": {"overall": 71.0}}], "scores of test-dev came before"),
    "twice in one": (3, '{"test-dev": {"overall": 70.0}, "test-dev": {"overall": 71.0}}', "given twice: test-dev"),
    "two of a name": (3, {"test-dev": {"overall": 70.0, "Accuracy": 71.0}}, "accuracy came before"),
    "no main score": (3, {"test-dev": {"number": 70.0}}, "accuracy, the main score, is not in it"),
    "no split": (3, {"test-moon": {"overall": 70.0}}, "no split 'test-moon'"),
    "no number": (3, {"test-dev": {"overall": "high"}}, "expected a number"),
    "a part of nothing": (3, {"in-domain": {"overall": 70.0}}, "no split 'in-domain'"),
}


@pytest.mark.parametrize(("code", "reply", "words"), REFUSED.values(), ids=REFUSED)
def test_a_reply_that_cannot_be_of_a_run(
    answered: Callable[..., Path], record: Callable[..., Any], code: int, reply: object, words: str
) -> None:
    scored = {"val": {"accuracy": Score(value=50, count=8, scorer="official-2021")}}
    run = answered("vqa", "vqa-v2", {"val": b"", "test-dev": b""}, scored)
    before = (run / "record.json").read_bytes()
    record(run, reply).refused(code, words)
    assert (run / "record.json").read_bytes() == before


def test_a_refused_reply_is_shown_how_one_looks(answered: Callable[..., Path], record: Callable[..., Any]) -> None:
    done = record(answered("vcr", "vcr", {"test": b""}), [])
    assert '[{"test": {"Q->AR": 71.83}}]' in done.err


def test_the_made_up_world_has_no_server_to_reply(answered: Callable[..., Path], record: Callable[..., Any]) -> None:
    run = answered("vcr", "world", {"test": b""})
    record(run, {"test": {"Q->AR": 50.0}}).refused(2, "the made-up world has no evaluation server")


# --- uploads ----------------------------------------------------------------------------------------------


@pytest.fixture
def asked(vqa_v2: Path) -> Asked:
    """Answers to all questions of two splits that are here, which are a few of the official ones."""
    found = {}
    for split in ("test-dev", "test"):
        path = vqa_v2 / "vqa-v2" / f"v2_OpenEnded_mscoco_{split}2015_questions.json"
        questions = json.loads(path.read_text())["questions"]
        found[split] = json.dumps([{"question_id": one["question_id"], "answer": "yes"} for one in questions]).encode()
    return found


def test_a_part_of_a_split_is_no_upload(
    command: Command, answered: Callable[..., Path], asked: Asked, vqa_v2: Path
) -> None:
    run = answered("vqa", "vqa-v2", asked)
    done = command("submit", run.name, "--data", vqa_v2, "--split", "test")
    done.refused(3, "16 of 447,793 examples: the server refuses a part")
    assert not list(run.glob("vqa_OpenEnded*"))


def test_nothing_is_written_where_one_of_several_is_refused(
    command: Command, answered: Callable[..., Path], asked: Asked, vqa_v2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_eight(name: str, task: str) -> DatasetCard:
        card = find_dataset(name, task)
        splits = {**card.splits, "test-dev": card.splits["test-dev"].model_copy(update={"examples": 8})}
        return card.model_copy(update={"splits": splits})

    monkeypatch.setattr(submission, "find_dataset", of_eight)
    run = answered("vqa", "vqa-v2", asked)
    command("submit", run.name, "--data", vqa_v2, "--split", "test-dev,test").refused(3, "refuses a part")
    assert not list(run.glob("vqa_OpenEnded*"))
    assert command("submit", run.name, "--data", vqa_v2, "--split", "test-dev").code == 0
    assert len(list(run.glob("vqa_OpenEnded*"))) == 1


@pytest.mark.parametrize("typed", [(), ("--split", "test"), ("--split", "testdev")], ids=str)
def test_gqas_server_wants_the_whole_submission(
    command: Command, answered: Callable[..., Path], tmp_path: Path, typed: tuple[str, ...]
) -> None:
    run = answered("gqa", "gqa", {"test": b"[]"})
    done = command("submit", run.name, "--data", tmp_path, *typed)
    done.refused(2, "wants the answers to all of submission, not to ")
    assert "--split submission" in done.err


def test_of_all_hidden_splits_only_the_one_it_wants_is_handed_in(
    command: Command, answered: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "gqa").mkdir()
    asked = [{"img_id": "n75", "question_id": "1", "sent": "Is it red?"}]
    (tmp_path / "gqa" / "submit.json").write_text(json.dumps(asked))
    said = json.dumps([{"questionId": "1", "prediction": "yes"}]).encode()
    run = answered("gqa", "gqa", {"test": b"[]", "submission": said})
    done = command("submit", run.name, "--data", tmp_path, "--json")
    assert done.code == 0, done.err
    assert [upload["split"] for upload in json.loads(done.out)] == ["submission"]


# --- the last resort --------------------------------------------------------------------------------------


def test_bad_data_always_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert _report(BadData("this file is no such file")) == 3
    assert capsys.readouterr().err.splitlines()[1] == "  -> mend the file, or get it again"
    assert _report(BadData("wrong", "do that")) == 3
    assert capsys.readouterr().err.splitlines()[1] == "  -> do that"
    assert _report(Misuse("typed wrongly")) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1

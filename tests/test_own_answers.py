"""The answer file that a run writes, given to ``vlbench score`` with the official files: the record's numbers again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from vlbench.tasks.base import OfficialFiles
from vlbench.tasks.retrieval import Retrieval

FEW = ("--set", "steps=2", "--set", "batch=8", "--no-mlflow", "--json")
Command = Callable[..., Any]


class Case(NamedTuple):
    """A method's run on a task, and how its answers are scored."""

    method: str
    task: str
    split: str
    files: dict[str, str]
    """Option of ``vlbench score`` -> file of the world."""
    same: tuple[str, ...]
    """Metrics that both the record and the command call by one name; the first is the task's main one."""
    renamed: str = ""
    """What the command calls the first, where that is not what the record does."""


VQA = {
    "questions": "vqa-v2/v2_OpenEnded_mscoco_test2015_questions.json",
    "annotations": "vqa-v2/v2_mscoco_test2015_annotations.json",
}
GQA = {"questions": "gqa/testdev_balanced_questions.json", "choices": "gqa/testdev_choices.json"}
RECALLS = ("r_mean", "tr_r1", "tr_r5", "tr_r10", "ir_r1", "ir_r5", "ir_r10")
WORDS = ("cider", "bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l")
CASES = [
    Case("lxmert", "vqa", "test", VQA, ("accuracy",), "overall"),
    Case("lxmert", "gqa", "testdev", GQA, ("accuracy", "validity", "plausibility", "distribution")),
    Case("lxmert", "nlvr2", "test1", {"annotations": "nlvr2/data/test1.json"}, ("accuracy", "consistency")),
    Case("lxmert", "snli-ve", "test", {"annotations": "snli-ve/snli_ve_test.jsonl"}, ("accuracy",)),
    Case("lxmert", "vcr", "val", {"annotations": "vcr/val.jsonl"}, ("q_ar", "q_a", "qa_r")),
    Case("vilbert", "refcoco+", "testB", {"annotations": "refcoco+/refs(unc).p"}, ("accuracy",)),
    Case("mcan", "refcocog", "unseen", {"annotations": "refcocog/refs(umd).p"}, ("accuracy",)),
    Case("albef", "retrieval", "test", {"annotations": "karpathy/dataset_flickr30k.json"}, RECALLS),
    Case("vlmo", "retrieval", "unseen", {"annotations": "karpathy/flickr30k_unseen.json"}, RECALLS),
    Case("blip", "captioning", "test", {"annotations": "coco-captions/dataset_coco.json"}, WORDS),
    Case("coca", "captioning", "unseen", {"annotations": "coco-captions/captions_unseen2015.json"}, WORDS),
    Case("coca", "nocaps", "val", {"annotations": "nocaps/nocaps_val_4500_captions.json"}, WORDS),
]


def trained(command: Command, made: Path, method: str, task: str, split: str, *more: object) -> dict[str, Any]:
    words = ("run", method, task, "--dataset", "world", "--data", made, *FEW, "--set", f"evaluate_splits={split}")
    done = command(*words, *more)
    assert done.code == 0, done.err
    (record,) = json.loads(done.out)["runs"]
    return dict(record)


def answers_of(record: dict[str, Any], split: str) -> Path:
    return Path(record["folder"]) / str(record["answers"][split])


@pytest.mark.parametrize("case", CASES, ids=[f"{case.method}-{case.task}" for case in CASES])
def test_the_answers_of_a_run_score_as_its_record_says(command: Command, made: Path, case: Case) -> None:
    record = trained(command, made, case.method, case.task, case.split)
    files = [word for name, file in case.files.items() for word in (f"--{name}", made / "world" / "small" / file)]
    done = command("score", case.task, "--answers", answers_of(record, case.split), *files, "--json")
    assert done.code == 0, done.err
    found, mine = json.loads(done.out), record["scores"][case.split]
    main = case.same[0]
    assert any(mine[name]["value"] for name in case.same)  # else there would be nothing to compare
    assert next(iter(mine)) == main
    assert found["count"] == mine[main]["count"]
    assert found["scorer"] == mine[main]["scorer"]
    if case.renamed:
        assert found[case.renamed] == round(mine[main]["value"], 2)
    else:
        wanted = {name: mine[name]["value"] for name in case.same}
        assert {name: found[name] for name in case.same} == pytest.approx(wanted, abs=0.005)


@pytest.mark.parametrize("method", ["vilbert", "meter"])
def test_answers_of_a_smaller_pool_score_as_the_record_says(command: Command, made: Path, method: str) -> None:
    """Methods that only fuse search the first images of a split; here, as it is tiny, those of a limit."""
    record = trained(command, made, method, "retrieval", "test", "--limit", 25)
    path = made / "world/small/karpathy/dataset_flickr30k.json"
    answers, mine = answers_of(record, "test"), record["scores"]["test"]
    found = Retrieval.score_files(OfficialFiles(answers, annotations=path, pool=True))
    assert (found["images"], found["images_of_the_split"], found["count"]) == (5, 30, 25)
    assert {name: found[name] for name in RECALLS} == pytest.approx({name: mine[name]["value"] for name in RECALLS})
    assert mine["r_mean"]["count"] == 25
    done = command("score", "retrieval", "--answers", answers, "--annotations", path)
    done.refused(3, "images without scores", "(25 in all)")
    assert "--pool" in done.err
    done = command("score", "retrieval", "--answers", answers, "--annotations", path, "--pool", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["r_mean"] == pytest.approx(mine["r_mean"]["value"])

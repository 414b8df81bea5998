"""VQA v2 in the official layout, from the command to the record, on small made-up files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vlbench.cards import DatasetCard, ModelCard
from vlbench.catalog import find
from vlbench.data import opening
from vlbench.engine.checkpoint import read_table
from vlbench.engine.weightfile import read_weights
from vlbench.models.lxmert import LXMERT
from vlbench.paths import card_folder
from vlbench.plan import plan
from vlbench.prepare import Options, open_data
from vlbench.types import Example

Command = Callable[..., Any]
FEW = ("--dataset", "vqa-v2", "--size", "mini", "--set", "batch=16", "--no-mlflow")
TRAIN = ("run", "lxmert", "vqa", *FEW, "--set", "steps=6")


def records(done: Any) -> list[dict[str, Any]]:
    assert done.code == 0, done.err
    found: list[dict[str, Any]] = json.loads(done.out)["runs"]
    return found


@pytest.fixture
def record(command: Command, vqa_v2: Path) -> dict[str, Any]:
    """The record of a short training on the official files."""
    return records(command(*TRAIN, "--data", vqa_v2, "--json"))[0]


def official(data: Path, split: str) -> tuple[Path, Path]:
    """Return the question file and the annotation file of a split."""
    folder = data / "vqa-v2"
    return (
        folder / f"v2_OpenEnded_mscoco_{split}2014_questions.json",
        folder / f"v2_mscoco_{split}2014_annotations.json",
    )


def test_from_official_files_to_a_record(record: dict[str, Any], vqa_v2: Path) -> None:
    assert record["recipe"]["train_splits"] == ["train", "nominival"]
    assert record["steps"] == 6
    assert record["examples_seen"] == 2 * (48 + 16) - 2 * 16  # one epoch is four batches of 16, then two more
    assert list(record["scores"]) == ["minival"]
    assert record["scores"]["minival"]["accuracy"]["count"] == 8
    assert record["scores"]["minival"]["accuracy"]["scorer"] == "official-2021"
    assert set(record["controls"]) == {"prior", "question-only", "image-shuffled"}
    names = {path.name for split in ("train", "val") for path in official(vqa_v2, split)} | {"minival.json"}
    assert names <= record["inputs"].keys()
    answers = json.loads((Path(record["folder"]) / "answers-minival.json").read_text())
    asked = json.loads((vqa_v2 / "vqa-v2" / "minival.json").read_text())
    assert [one["question_id"] for one in answers] == [one["question_id"] for one in asked]


def test_albefs_lists_of_the_same_questions_make_the_same_run(
    command: Command, vqa_v2: Path, record: dict[str, Any]
) -> None:
    for split in ("train", "val"):
        questions, annotations = official(vqa_v2, split)
        said = {one["question_id"]: one for one in json.loads(annotations.read_text())["annotations"]}
        rows = [
            {
                "question_id": one["question_id"],
                "question": one["question"],
                "answer": [each["answer"] for each in said[one["question_id"]]["answers"]],
                "image": f"{split}2014/COCO_{split}2014_{one['image_id']:012d}.jpg",
                "dataset": "vqa",
            }
            for one in json.loads(questions.read_text())["questions"]
        ]
        (vqa_v2 / "vqa-v2" / f"vqa_{split}.json").write_text(json.dumps(rows))
        questions.unlink()
        annotations.unlink()
    made = records(command(*TRAIN, "--data", vqa_v2, "--fresh", "--json"))[0]
    assert made["weights"] == record["weights"]
    scores, wanted = made["scores"]["minival"], record["scores"]["minival"]
    assert list(scores) == ["accuracy"]  # a list does not say of which type an answer is
    assert scores["accuracy"] == wanted["accuracy"]
    assert {"vqa_train.json", "vqa_val.json", "minival.json"} <= made["inputs"].keys()
    assert not any(name.startswith("v2_") for name in made["inputs"])


def test_features_are_converted_once(command: Command, vqa_v2: Path, tmp_path: Path) -> None:
    records(command(*TRAIN, "--data", vqa_v2, "--json"))
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.h5")}
    assert sorted(path.name.partition("-")[0] for path in kept) == ["train2014_obj36", "val2014_obj36"]
    records(command(*TRAIN, "--data", vqa_v2, "--seed", "1", "--json"))
    assert kept == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.h5")}


def test_train_and_val_features_are_joined(command: Command, vqa_v2: Path, tmp_path: Path) -> None:
    made = plan("lxmert", "vqa", typed={"dataset": "vqa-v2", "size": "mini", "steps": 6})
    opened = open_data(made, Options(tmp_path / "runs", vqa_v2), tmp_path / "folder")
    assert isinstance(opened.images, opening.JoinedStore)
    assert opened.images.feature_dim == 24
    both = [opened.examples["train"][0], opened.examples["minival"][0], opened.examples["nominival"][0]]
    assert [example.images[0][:12] for example in both] == ["COCO_train20", "COCO_val2014", "COCO_val2014"]
    joined = opened.collate(both).image.values
    for row, example in enumerate(both):
        assert torch.equal(joined[row], opened.collate([example]).image.values[0])
    assert {e.id for e in opened.examples["minival"]}.isdisjoint(e.id for e in opened.examples["nominival"])


@pytest.mark.parametrize("scorer", ["official-2015", "always-normalise", "soft"])
def test_other_versions_of_the_scorer(command: Command, vqa_v2: Path, scorer: str) -> None:
    record = records(command(*TRAIN, "--data", vqa_v2, "--set", f"scorer={scorer}", "--json"))[0]
    assert {score["scorer"] for score in record["scores"]["minival"].values()} == {scorer}


@pytest.mark.parametrize("scorer", ["official-2021", "official-2015", "always-normalise", "soft"])
def test_scoring_the_answers_again_gives_the_same(
    command: Command, vqa_v2: Path, record: dict[str, Any], scorer: str
) -> None:
    again = ("evaluate", "lxmert", "vqa", *FEW, "--data", vqa_v2, "--json")
    start = ("--start", f"run:{record['id']}", "--split", "val", "--set", f"scorer={scorer}")
    made = records(command(*again, *start))[0]
    assert made["kind"] == "evaluate"
    assert made["basis"] == record["basis"]
    scored = made["scores"]["val"]["accuracy"]
    assert scored["count"] == 24
    questions, annotations = official(vqa_v2, "val")
    files = ("--questions", questions, "--annotations", annotations, "--scorer", scorer, "--json")
    done = command("score", "vqa", "--answers", Path(made["folder"]) / "answers-val.json", *files)
    assert done.code == 0, done.err
    assert json.loads(done.out)["overall"] == round(scored["value"], 2)


@pytest.mark.parametrize(("split", "count"), [("test-dev", 8), ("test", 16)])
def test_a_hidden_split_gets_a_whole_answer_file_and_no_score(
    command: Command, vqa_v2: Path, record: dict[str, Any], split: str, count: int
) -> None:
    again = ("evaluate", "lxmert", "vqa", *FEW, "--data", vqa_v2, "--split", split)
    made = records(command(*again, "--start", f"run:{record['id']}", "--json"))[0]
    assert made["scores"] == {}
    assert made["controls"] == {}
    answers = json.loads((Path(made["folder"]) / f"answers-{split}.json").read_text())
    asked = json.loads((vqa_v2 / "vqa-v2" / f"v2_OpenEnded_mscoco_{split}2015_questions.json").read_text())
    assert [one["question_id"] for one in answers] == [one["question_id"] for one in asked["questions"]]
    assert len(answers) == count
    assert all(one.keys() == {"question_id", "answer"} and type(one["answer"]) is str for one in answers)
    shown = command(*again, "--start", f"run:{record['id']}")  # the result of a run without a score can be shown
    assert shown.code == 0, shown.err


def test_rare_answers_are_dropped_and_their_questions_kept(vqa_v2: Path, tmp_path: Path) -> None:
    made = plan("lxmert", "vqa", typed={"dataset": "vqa-v2", "size": "mini", "steps": 6})
    opened = open_data(made, Options(tmp_path / "runs", vqa_v2), tmp_path / "folder")
    assert opened.task.answers == ["2", "no", "red", "yes"]
    train = opened.examples["train"]
    assert len(train) == 48

    def weight(example: Example) -> float:
        target = opened.collate([example]).target
        assert target is not None
        return float(target.sum())

    without = [example for example in train if weight(example) == 0]
    assert len(without) == 6  # two questions on each of the images 7, 14 and 21
    assert {example.images[0][-2:] for example in without} == {"07", "14", "21"}


def test_the_recipe_overrules_the_answer_count_of_the_card(command: Command, vqa_v2: Path, tmp_path: Path) -> None:
    counts = {}
    for least in (0, 1, 30):
        typed = {"dataset": "vqa-v2", "size": "mini", "steps": 6, "answer_count": least}
        opened = open_data(plan("lxmert", "vqa", typed=typed), Options(tmp_path / "runs", vqa_v2), tmp_path / "folder")
        counts[least] = len(opened.task.answers)
    assert counts == {0: 4, 1: 4 + 2 * 5, 30: 0}
    none = command(*TRAIN, "--data", vqa_v2, "--set", "answer_count=30")
    assert none.code == 1
    assert "no answer list" in none.complaints[0]


def test_an_earlier_run_brings_its_answer_count(command: Command, vqa_v2: Path) -> None:
    first = records(command(*TRAIN, "--data", vqa_v2, "--set", "answer_count=1", "--json"))[0]
    again = ("evaluate", "lxmert", "vqa", *FEW, "--data", vqa_v2, "--start", f"run:{first['id']}", "--json")
    made = records(command(*again))[0]
    assert made["scores"]["minival"] == first["scores"]["minival"]


# --- published checkpoints ------------------------------------------------------------------------------


def test_a_published_checkpoint_that_is_not_here(command: Command, vqa_v2: Path) -> None:
    done = command("run", "lxmert", "vqa", "--suite", "paper", "--data", vqa_v2, "--no-mlflow")
    card = find(ModelCard, "lxmert").checkpoint[0]
    assert done.code == 3
    assert len(done.complaints) == 1
    assert str(vqa_v2 / card.file) in done.err
    assert card.url in done.err


def authors_state(model: LXMERT) -> dict[str, torch.Tensor]:
    """Write a model under the authors' names, by turning the rename table round, as their pre-training saves it."""
    patterns = {ours: theirs for group in read_table("lxmert").groups.values() for theirs, ours in group.items()}
    made = {}
    for name, tensor in model.state_dict(prefix="model.").items():
        stem, _, leaf = name.rpartition(".")
        pattern = ".".join("{}" if part.isdigit() else part for part in stem.split("."))
        numbers = [part for part in stem.split(".") if part.isdigit()]
        theirs = patterns.get(name) or f"{patterns.get(stem) or patterns[pattern].format(*numbers)}.{leaf}"
        made[f"module.{theirs}"] = tensor
    made["module.cls.predictions.decoder.weight"] = made["module.bert.embeddings.word_embeddings.weight"]
    return made


@pytest.fixture
def small_published(vqa_v2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """A method of one's own card: LXMERT with a published checkpoint of size mini, as the authors write it."""
    cards = tmp_path / "cards" / "registry" / "models"
    cards.mkdir(parents=True)
    text = (card_folder("registry") / "models" / "lxmert.toml").read_text()
    place = 'names = "lxmert"\n'
    assert place in text
    (cards / "small-lxmert.toml").write_text(text.replace(place, f'{place}size = "mini"\n'))
    vocabulary = len((vqa_v2 / "tokenisers/bert-base-uncased/vocab.txt").read_text().splitlines())
    torch.manual_seed(7)
    sizes: dict[str, Any] = dict(find(ModelCard, "lxmert").sizes["mini"])
    kinds = {"objects": 9, "attributes": 9, "answers": 5, "pretraining": True}
    state = authors_state(LXMERT(vocabulary=vocabulary, feature_dim=24, **sizes, **kinds))
    path = vqa_v2 / find(ModelCard, "lxmert").checkpoint[0].file
    path.parent.mkdir(parents=True)
    torch.save(state, path)
    return state


def test_fine_tuning_starts_from_the_authors_file(
    command: Command,
    vqa_v2: Path,
    tmp_path: Path,
    small_published: dict[str, torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    typed = ["run", "small-lxmert", "vqa", *FEW, "--start", "published", "--data", vqa_v2, "--json"]
    # a rate of next to nothing: what training starts from is what it ends with
    still = ["--set", "steps=1", "--set", "rate=1e-30", "--set", "decay=0"]
    monkeypatch.setenv("VLBENCH_CARDS", str(tmp_path / "cards"))
    done = command(*typed, *still)
    record = records(done)[0]
    assert record["inputs"]["start"]
    assert "begin anew" in done.err
    weights = read_weights(Path(record["folder"]) / "checkpoint" / "weights.safetensors")
    words = small_published["module.bert.embeddings.word_embeddings.weight"]
    assert torch.allclose(weights["model.text_embedding.words.weight"], words, atol=1e-12)
    inner = small_published["module.bert.encoder.x_layers.1.visn_inter.dense.weight"]
    assert torch.allclose(weights["model.cross_layers.1.image_feed_forward.part.expand.weight"], inner, atol=1e-12)
    # the same file by its path, for the same method's own card
    by_path = command(
        *TRAIN, *still, "--data", vqa_v2, "--json", "--start", vqa_v2 / "checkpoints/lxmert/model_LXRT.pth"
    )
    assert records(by_path)[0]["weights"] == record["weights"]
    # and there is nothing in it to answer with
    asked = command("evaluate", "small-lxmert", "vqa", *FEW, "--start", "published", "--data", vqa_v2)
    asked.refused(1, "pre-trained only", "no head for vqa")


# --- what is missing ------------------------------------------------------------------------------------


def test_a_dry_run_lists_what_is_missing(command: Command, tmp_path: Path) -> None:
    done = command("run", "lxmert", "vqa", "--suite", "paper", "--data", tmp_path / "empty", "--dry-run", "--json")
    assert done.code == 3
    (found,) = json.loads(done.out)["plans"]
    missing = "\n".join(found["missing"])
    for name in (
        "v2_OpenEnded_mscoco_train2014_questions.json",
        "checkpoints/lxmert/model_LXRT.pth",
        "train2014_obj36.tsv",
        "val2014_obj36.tsv",
        "bert-base-uncased",
    ):
        assert name in missing, name
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "empty").exists()


@pytest.mark.parametrize("size", ["base", "base-regions"])
def test_a_dry_run_wants_what_the_size_looks_at(command: Command, vqa_v2: Path, size: str) -> None:
    typed = ("evaluate", "meter", "vqa-v2", "--size", size, "--set", "evaluate_splits=val,test-dev")
    (vqa_v2 / "vqa-v2" / "val2014_obj36.tsv").unlink()
    (vqa_v2 / "vqa-v2" / "val2014").mkdir()  # and nothing in it

    def missing() -> str:
        done = command(*typed, "--start", "scratch", "--data", vqa_v2, "--dry-run", "--json")
        return "\n".join(json.loads(done.out)["plans"][0]["missing"])

    pictures = [f"{vqa_v2 / 'vqa-v2' / name} (its images)" for name in ("val2014", "test2015")]
    if size == "base-regions":
        assert "val2014_obj36.tsv" in missing()
        assert not any(name in missing() for name in pictures)
        return
    assert "obj36" not in missing()
    assert all(name in missing() for name in pictures)
    (vqa_v2 / "vqa-v2" / "val2014" / "COCO_val2014_000000000025.jpg").touch()
    assert "val2014 (" not in missing()


@pytest.mark.parametrize(("known", "size"), [("", "size not stated by its authors"), ("bytes = 912345678", "912 MB")])
def test_a_checkpoint_that_is_not_here_is_named_with_address_and_size(
    command: Command, vqa_v2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: str, size: str
) -> None:
    cards = tmp_path / "cards" / "registry" / "models"
    cards.mkdir(parents=True)
    text = (card_folder("registry") / "models" / "lxmert.toml").read_text()
    place = 'names = "lxmert"\n'
    (cards / "small-lxmert.toml").write_text(text.replace(place, f'{place}size = "mini"\n{known}\n'))
    monkeypatch.setenv("VLBENCH_CARDS", str(tmp_path / "cards"))
    checkpoint = find(ModelCard, "lxmert").checkpoint[0]
    wanted = f"{vqa_v2 / checkpoint.file} (from {checkpoint.url}, {size})"
    typed = ("run", "small-lxmert", "vqa", *FEW, "--start", "published", "--data", vqa_v2)
    done = command(*typed, "--dry-run", "--json")
    assert json.loads(done.out)["plans"][0]["missing"] == [wanted]
    command(*typed).refused(3, wanted)


def test_a_dry_run_of_a_hidden_split_wants_its_features(command: Command, vqa_v2: Path) -> None:
    (vqa_v2 / "vqa-v2" / "test2015_obj36.tsv").unlink()
    typed = ("run", "lxmert", "vqa", *FEW, "--set", "evaluate_splits=test-dev", "--data", vqa_v2, "--dry-run", "--json")
    done = command(*typed)
    assert done.code == 3
    assert "test2015_obj36.tsv" in json.loads(done.out)["plans"][0]["missing"][0]


def test_a_dry_run_with_all_files_misses_nothing(command: Command, vqa_v2: Path) -> None:
    done = command(*TRAIN, "--data", vqa_v2, "--dry-run", "--json")
    assert done.code == 0, done.err
    (found,) = json.loads(done.out)["plans"]
    assert found["missing"] == []
    assert found["examples"] == "64 to train on, 8 to answer"


def test_the_card_names_every_file_the_made_up_set_has(vqa_v2: Path) -> None:
    """The made-up files are called as the official ones are, so that the tests above speak of these."""
    named = {file.name for file in find(DatasetCard, "vqa-v2").file}
    assert {path.name for path in (vqa_v2 / "vqa-v2").iterdir()} <= named

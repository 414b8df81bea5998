"""``vlbench evaluate METHOD vqa-v2 --start published``: official files in, a record out, nothing executed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from vlbench.building import _check_order
from vlbench.cards import ModelCard
from vlbench.catalog import cards
from vlbench.paths import card_folder
from vlbench.plan import answer_list_of, plan, published_checkpoint
from vlbench.possible import check_possible, other_data
from vlbench.prepare import Options
from vlbench.types import BadData, Impossible

Command = Callable[..., Any]
CASE = Path(__file__).parent / "official" / "parity" / "albef" / "vqa"
SIZE = """
[sizes.recorded]
image_size = 48
patch = {patch_size}
vision_width = {vision_width}
vision_layers = {vision_depth}
vision_heads = {vision_heads}
width = {hidden_size}
heads = {num_attention_heads}
inner = {intermediate_size}
layers = {num_hidden_layers}
fusion_from = {fusion_layer}
decoder_layers = {decoder_layers}
positions = {max_position_embeddings}
distill = {distill}

[[checkpoint]]
name = "published"
url = "https://example.org/albef-recorded.pth"
file = "checkpoints/albef/recorded.pth"
names = "albef"
task = "vqa"
size = "recorded"
bytes = 1500000
"""
TYPED = (
    "evaluate", "albef-recorded", "vqa-v2", "--size", "recorded", "--split", "minival",
    "--set", "image_size=48", "--set", "answer_count=1",
)  # fmt: skip


@pytest.fixture
def data(vqa_v2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Official questions with images, a vocabulary as large as the recorded one, and a card of the recorded size."""
    config = json.loads((CASE / "case.json").read_text())["config"]
    text = (card_folder("registry") / "models" / "albef.toml").read_text(encoding="utf-8")
    cards = tmp_path / "cards" / "registry" / "models"
    cards.mkdir(parents=True)
    values = {**config, **config["text"], "distill": "true"}
    (cards / "albef-recorded.toml").write_text(text + SIZE.format(**values), encoding="utf-8")
    monkeypatch.setenv("VLBENCH_CARDS", str(tmp_path / "cards"))
    words = vqa_v2 / "tokenisers" / "bert-base-uncased" / "vocab.txt"
    pieces = words.read_text().split()
    lines = [*pieces, *(f"word{number}" for number in range(config["text"]["vocab_size"] - len(pieces)))]
    words.write_text("\n".join(lines) + "\n")
    generator = np.random.default_rng(0)
    folder = vqa_v2 / "vqa-v2" / "val2014"
    folder.mkdir()
    for image in range(25, 37):
        pixels = generator.integers(0, 256, (40, 56, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"COCO_val2014_{image:012d}.jpg")
    return vqa_v2


def official(data: Path, change: Callable[[dict[str, Any]], None] = lambda state: None) -> Path:
    """Write the recorded weights as the authors' scripts do: a dict with the weights under ``model``."""
    path = data / "checkpoints" / "albef" / "recorded.pth"
    path.parent.mkdir(parents=True)
    state: dict[str, Any] = load_file(CASE / "weights.safetensors")
    change(state)
    torch.save({"model": state, "epoch": 7, "config": {"image_res": 32}}, path)
    return path


def test_a_published_checkpoint_answers_at_another_image_size(command: Command, data: Path) -> None:
    official(data)
    done = command(*TYPED, "--data", data, "--no-mlflow", "--json")
    assert done.code == 0, done.err
    record = json.loads(done.out)["runs"][0]
    assert record["basis"] == "published weights"
    assert record["scores"]["minival"]["accuracy"]["count"] == 8
    assert record["recipe"]["start"] == "published"
    assert "recorded.pth" in done.err
    assert "0 begin anew" in done.err


def test_a_file_that_is_not_there_is_named_with_its_address_and_size(command: Command, data: Path) -> None:
    done = command(*TYPED, "--data", data, "--no-mlflow")
    assert done.code == 3
    assert "checkpoints/albef/recorded.pth" in done.err
    assert "(from https://example.org/albef-recorded.pth, 2 MB)" in done.err


@pytest.mark.parametrize("fault", ["missing", "surplus", "shape"])
def test_a_key_that_does_not_fit_is_fatal(command: Command, data: Path, fault: str) -> None:
    def change(state: dict[str, Any]) -> None:
        name = "text_encoder.encoder.layer.2.crossattention.self.key.weight"
        if fault == "missing":
            del state[name]
        elif fault == "surplus":
            state["text_encoder.encoder.layer.9.output.dense.weight"] = torch.zeros(2, 2)
        else:
            state[name] = torch.zeros(5, 5)

    official(data, change)
    done = command(*TYPED, "--data", data, "--no-mlflow")
    assert done.code == 3
    assert f"1 {fault}" in done.err


def test_a_foreign_classifier_without_its_answer_list_is_refused(tmp_path: Path) -> None:
    """Its rows fit ours in number, and mean other answers: every score would be wrong without a sign of it."""
    made = plan("vlmo", "vqa-v2", suite="paper", typed={"steps": 0, "epochs": 0})
    options, used = Options(tmp_path, tmp_path), {"head.classifier.3.weight": torch.zeros(3129, 4)}
    with pytest.raises(BadData, match="an order of their own") as refused:
        _check_order(made, used, 3129, options)
    listed = answer_list_of(made, options.data)
    assert listed is not None
    assert str(listed) in str(refused.value)
    listed.parent.mkdir(parents=True)
    listed.write_text(json.dumps(["no", "yes"]))
    _check_order(made, used, 3129, options)
    _check_order(made, {"head.pooler.weight": torch.zeros(4, 4)}, 3129, options)  # not a row an answer
    trains = plan("vlmo", "vqa-v2", suite="paper")
    assert answer_list_of(trains, options.data) is None  # training begins from the pre-trained file


def test_answers_are_taken_in_the_order_of_the_checkpoint(command: Command, data: Path) -> None:
    """ALBEF ranks texts, so another order of its list changes nothing but the order."""
    path = official(data)
    said = []
    for answers in (["yes", "red", "2", "no"], ["no", "2", "red", "yes"]):
        path.with_name("recorded.pth.answers.json").write_text(json.dumps(answers))
        done = command(*TYPED, "--data", data, "--no-mlflow", "--json")
        assert done.code == 0, done.err
        record = json.loads(done.out)["runs"][0]
        assert "answers of the start" in record["inputs"]
        said.append(json.loads((Path(record["folder"]) / "answers-minival.json").read_text()))
    assert said[0] == said[1]
    assert {one["answer"] for one in said[0]} <= {"yes", "red", "2", "no"}


@pytest.mark.parametrize("card", cards(ModelCard), ids=lambda card: card.id)
def test_each_data_set_is_answered_with_its_own_weights(card: ModelCard) -> None:
    """Where a method published weights for a data set, these are taken, and no others."""
    for one in card.checkpoint:
        if not one.dataset or one.unfit:
            continue
        task = "nocaps" if one.dataset == "nocaps" else one.task
        typed = {"steps": 0, "epochs": 0, "dataset": one.dataset, "size": one.size}
        chosen = published_checkpoint(plan(card.id, task, suite="paper", typed=typed))
        assert chosen is not None
        assert chosen.dataset == one.dataset
        by_name = published_checkpoint(plan(card.id, task, suite="paper", typed={**typed, "start": one.name}))
        assert by_name == one


def test_weights_of_another_data_set_are_taken_and_said() -> None:
    typed = {"steps": 0, "epochs": 0, "dataset": "world"}
    assert other_data(plan("albef", "retrieval", suite="paper", typed=typed)) == "coco-retrieval"
    assert other_data(plan("albef", "retrieval", suite="paper", typed={**typed, "dataset": "flickr30k"})) == ""
    with pytest.raises(Impossible, match="fine-tuned for vqa"):
        check_possible(plan("albef", "retrieval", suite="paper", typed={**typed, "start": "vqa"}))

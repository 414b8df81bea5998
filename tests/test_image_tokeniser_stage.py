"""Stages around an image tokeniser from the command line: trained, frozen, missing, taken from a file, stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vlbench import session
from vlbench.engine.checkpoint import read_table
from vlbench.nn.image_tokeniser import ImageTokeniser
from vlbench.paths import card_folder, sha256

Command = Callable[..., Any]
FEW = ("--set", "batch=8", "--no-mlflow", "--json")
BELOW = "model.image_tokeniser."
MINI = {"codes": 512, "width": 64, "heads": 4, "layers": 4}


def runs(done: Any) -> list[dict[str, Any]]:
    assert done.code == 0, done.err
    found: list[dict[str, Any]] = json.loads(done.out)["runs"]
    return found


def weights(record: dict[str, Any]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = load_file(Path(record["folder"]) / "checkpoint" / "weights.safetensors")
    return found


def of_tokeniser(record: dict[str, Any]) -> dict[str, Tensor]:
    return {name: part for name, part in weights(record).items() if name.startswith(BELOW)}


def test_the_tokeniser_is_trained_then_kept_bit_for_bit_then_left_out(command: Command, made: Path) -> None:
    first, second = runs(command("pretrain", "beit3", "--data", made, *FEW, "--set", "steps=4"))
    assert set(first["losses"]) == {"reconstruction", "commitment"}
    assert set(second["losses"]) == {"text_words", "image_codes", "pair_words", "pair_codes"}
    assert "codes in use" in first["note"]
    assert "codes in use" not in second["note"]
    assert first["parameters"] < second["parameters"]
    trained, kept = of_tokeniser(first), of_tokeniser(second)
    assert set(trained) - set(kept) == {
        name for name in trained if name.startswith((f"{BELOW}decoder", f"{BELOW}output"))
    }
    assert all(torch.equal(part, trained[name]) for name, part in kept.items())
    before, after = weights(first), weights(second)
    assert not torch.equal(before["model.words.weight"], after["model.words.weight"])
    typed = ("--dataset", "world", "--start", f"run:{second['id']}", "--limit", 8, "--set", "steps=2")
    (tuned,) = runs(command("run", "beit3", "retrieval", "--data", made, *FEW, *typed))
    assert not of_tokeniser(tuned)
    assert set(weights(tuned)) > {"model.words.weight", "head.log_scale"}


def test_vlmo_goes_from_images_to_texts_to_pairs(command: Command, made: Path) -> None:
    stages = runs(command("pretrain", "vlmo", "--data", made, *FEW, "--set", "steps=3", "--set", "batch=16"))
    first, vision, text, pairs = (weights(record) for record in stages)
    trained, kept = of_tokeniser(stages[0]), of_tokeniser(stages[1])
    assert all(torch.equal(part, trained[name]) for name, part in kept.items())
    assert not of_tokeniser(stages[2])
    assert not {"model.mask_patch", "model.code_output.weight"} & {*text}

    def same(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
        shared = {*before} & {*after}
        return {name.removeprefix("model.") for name in shared if torch.equal(before[name], after[name])}

    attention = {name.removeprefix("model.") for name in text if ".attention" in name}
    images = {name.removeprefix("model.") for name in text if ".image." in name and "trunk" in name}
    texts = {name.removeprefix("model.") for name in text if ".experts.text." in name or "text_embedding" in name}
    assert attention | images | {"first_token"} <= same(vision, text)
    assert texts | {"kinds.weight", "word_output.weight"} <= same(first, vision)
    assert not (attention | images) & same(first, vision)
    assert not texts & same(vision, text) - {"text_embedding.segments.weight"}
    assert not (attention | images | texts) & same(text, pairs) - {"text_embedding.segments.weight"}
    (record,) = runs(command("pretrain", "vlmo", "--data", made, *FEW, "--set", "steps=3", "--stage", "text"))
    assert record["recipe"]["start"] == "scratch"
    lacking = command("pretrain", "vlmo", "--data", made, *FEW, "--set", "steps=3", "--stage", "vision")
    lacking.refused(2, "the stage vision of vlmo needs an image-tokeniser for image_codes", "(scratch)")


def test_without_a_tokeniser_one_line_says_what_to_do(command: Command, made: Path) -> None:
    typed = ("pretrain", "beit3", "--stage", "masked", "--data", made, *FEW, "--set", "steps=2")
    done = command(*typed)
    done.refused(2, "the stage masked of beit3 needs an image-tokeniser for image_codes and pair_codes", "(scratch)")
    assert "vlbench pretrain beit3" in done.err
    words = "losses=text_words:1,pair_words:1"
    assert f"--set {words}" in done.err
    (record,) = runs(command(*typed, "--set", words))
    assert set(record["losses"]) == {"text_words", "pair_words"}
    assert not of_tokeniser(record)
    wrong = command("pretrain", "beit3", "--data", made, *FEW, "--set", "steps=2", "--set", words)
    wrong.refused(2, "the stage image-tokeniser of beit3 has no objective 'text_words'")
    assert "--stage masked" in wrong.err


CARD = """
[[part]]
name = "image-tokeniser"
url = "https://example.org/tokeniser.pth"
file = "checkpoints/beit2/tokeniser.pth"
names = "beit2-tokeniser"
size = "mini"
"""


def as_published(own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give a tokeniser's weights the names of the authors, by the rename table read backwards."""
    table, found = read_table("beit2-tokeniser"), {}
    for pattern in table.groups["model"]:
        for number in range(4):
            for leaf in ("", ".weight", ".bias"):
                key = pattern.format(number) + leaf
                name = (table.translate(key) or (("",), ""))[0][0].removeprefix(BELOW)
                if name in own:
                    found[key] = own[name]
    assert len(found) == len(own)
    return found


def test_a_published_tokeniser_is_taken_where_the_start_has_none(
    command: Command, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards, data = tmp_path / "cards" / "registry" / "models", tmp_path / "data"
    cards.mkdir(parents=True)
    text = (card_folder("registry") / "models" / "beit3.toml").read_text(encoding="utf-8")
    (cards / "beit3-part.toml").write_text(text + CARD, encoding="utf-8")
    monkeypatch.setenv("VLBENCH_CARDS", str(tmp_path / "cards"))
    data.mkdir()
    (data / "world").symlink_to(made / "world")
    typed = ("pretrain", "beit3-part", "--data", data, *FEW, "--set", "steps=2")
    done = command(*typed, "--stage", "masked")
    done.refused(2, "needs an image-tokeniser")
    assert "checkpoints/beit2/tokeniser.pth (from https://example.org/tokeniser.pth)" in done.err
    torch.manual_seed(7)
    tokeniser = ImageTokeniser(32, 8, decodes=False, **MINI).train()
    tokeniser.quantiser(tokeniser.latents(torch.randn(40, 3, 32, 32)))
    path = data / "checkpoints" / "beit2" / "tokeniser.pth"
    path.parent.mkdir(parents=True)
    torch.save({"model": as_published(tokeniser.state_dict())}, path)
    (record,) = runs(command(*typed, "--stage", "masked"))  # the same run: it had not begun
    assert record["inputs"]["part:image-tokeniser"] == sha256(path)
    assert set(record["losses"]) == {"text_words", "image_codes", "pair_words", "pair_codes"}
    taken = of_tokeniser(record)
    assert {name.removeprefix(BELOW) for name in taken} == set(tokeniser.state_dict())
    assert all(torch.equal(taken[BELOW + name], part) for name, part in tokeniser.state_dict().items())
    (planned,) = json.loads(command(*typed, "--dry-run").out)["plans"]
    assert (planned["stage"], planned["takes"]) == ("masked", "the published image-tokeniser")
    (taken_again,) = runs(command(*typed))  # none is trained where the published one is
    assert taken_again["id"] == record["id"]
    first, second = runs(command(*typed, "--stage", "image-tokeniser,masked"))  # but where that is typed
    assert "part:image-tokeniser" not in {**first["inputs"], **second["inputs"]}
    own = of_tokeniser(first)
    assert all(torch.equal(part, own[name]) for name, part in of_tokeniser(second).items())


@pytest.mark.parametrize(("method", "stage"), [("beit3", "image-tokeniser"), ("beit3", "masked"), ("vlmo", "vision")])
def test_each_stage_goes_on_exactly_where_it_was_stopped(
    command: Command, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, stage: str
) -> None:
    typed = ("pretrain", method, "--data", made, *FEW, "--set", "save_every=2", "--set", "crop=random")
    first = (*typed, "--stage", "image-tokeniser", "--set", "steps=6")
    last = (*typed, "--stage", stage, "--set", "steps=6", "--set", "drop_path=0.1")

    def both(out: Path) -> list[tuple[object, ...]]:
        if stage == "image-tokeniser":
            return [(*first, "--out", out)]
        (begun,) = runs(command(*first, "--out", out))
        return [(*last, "--out", out, "--start", f"run:{begun['id']}")]

    (whole,) = runs(command(*both(tmp_path / "whole")[0]))
    (parts,) = both(tmp_path / "parts")
    left = iter(range(3))

    @contextmanager
    def interruptible() -> Iterator[Callable[[], bool]]:
        yield lambda: next(left, None) is not None

    with monkeypatch.context() as patch:
        patch.setattr(session, "interruptible", interruptible)
        command(*parts).refused(1, "stopped")
    done = command(*parts)
    assert "going on after step" in done.err
    (record,) = runs(done)
    assert record["weights"] == whole["weights"]
    assert record["note"] == whole["note"]

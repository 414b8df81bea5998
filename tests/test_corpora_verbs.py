"""Corpora on disk: listed, checked, and compared with what is evaluated on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vlbench.cards import CorpusCard
from vlbench.catalog import card_names
from vlbench.corpora_on_disk import list_corpora
from vlbench.world import read_manifest

Command = Callable[..., Any]


def own_corpus(folder: Path, pictures: int) -> Path:
    """Write a corpus of so many pictures of noise, with a card of its own, and return the card."""
    random = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    for number in range(pictures):
        noise = random.integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "images" / f"{number}.png")
    pairs = [{"image": f"{number}.png", "caption": f"noise {number}"} for number in range(pictures)]
    (folder / "captions.json").write_text(json.dumps(pairs))
    card = folder / "corpus.toml"
    card.write_text(
        f'name = "noise"\nabout = "noise"\nhome = "nowhere"\nlicence = "none"\n'
        f'layout = "pairs"\nexamples = {pictures}\n'
        '[[file]]\nname = "captions.json"\nrole = "texts"\n[[file]]\nname = "images"\nrole = "images"\n'
    )
    return card


def test_every_corpus_that_has_a_card_is_listed(command: Command, tmp_path: Path) -> None:
    done = command("list", "corpora", "--json")
    assert {row["corpus"] for row in json.loads(done.out)} == {*card_names(CorpusCard)}
    states = {one.corpus: one.state for one in list_corpora(tmp_path)}
    assert states["world"] == "made when first used"
    assert states["cc3m"] == "not here"


def test_made_up_corpora_are_whole(command: Command, made: Path) -> None:
    """Their cards state the numbers of the standard world of size small; they are checked by those of the one here."""
    manifest = read_manifest(made / "world" / "small").tasks["corpora"]
    stated = {"world-web": manifest["web"]["images"], "world-lxmert": manifest["lxmert-train"]["examples"]}
    for name, examples in stated.items():
        done = command("data", "check", name, "--data", made, "--json")
        (part,) = json.loads(done.out)
        assert part["images"] == part["at_hand"] > 0
        assert part["examples"] == part["expected"] == examples
        assert (done.code, part["wrong"]) == (0, [])


def test_a_made_up_corpus_that_lost_a_caption_is_not_whole(command: Command, own_made: Path) -> None:
    path = own_made / "world" / "small" / "corpora" / "web.json"
    path.write_text(json.dumps(json.loads(path.read_text())[:-1]))
    done = command("data", "check", "world-web", "--data", own_made)
    assert (done.code, "63 examples, but the card says 64" in done.err) == (3, True)


def test_a_corpus_of_ones_own_is_checked_by_its_card(command: Command, tmp_path: Path) -> None:
    card = own_corpus(tmp_path / "noise", 12)
    done = command("data", "check", card, "--data", tmp_path)
    assert done.code == 0, done.err
    assert "whole" in done.out


def test_broken_and_missing_pictures_are_named(command: Command, tmp_path: Path) -> None:
    card = own_corpus(tmp_path / "noise", 12)
    (tmp_path / "noise" / "images" / "3.png").write_bytes(b"no picture")
    (tmp_path / "noise" / "images" / "7.png").unlink()
    done = command("data", "check", card, "--data", tmp_path)
    assert done.code == 3
    assert "images that are not here: noise-corpus:7.png" in done.err
    assert "images that cannot be decoded: noise-corpus:3.png (" in done.err


def test_a_list_that_is_cut_is_refused(command: Command, tmp_path: Path) -> None:
    card = own_corpus(tmp_path / "noise", 12)
    path = tmp_path / "noise" / "captions.json"
    path.write_text(path.read_text()[:-20])
    done = command("data", "check", card, "--data", tmp_path)
    assert done.code == 3
    assert "captions.json" in done.err


def test_pictures_that_are_evaluated_on_are_found_in_a_corpus(command: Command, made: Path, tmp_path: Path) -> None:
    card = own_corpus(tmp_path / "noise", 6)
    asked = sorted((made / "world" / "small" / "images" / "coco").glob("COCO_val*"))[2]
    with Image.open(asked) as picture:
        picture.resize((50, 50)).save(tmp_path / "noise" / "images" / "4.png")
    done = command("data", "duplicates", card, "world", "--data", made, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert {one["ours"] for one in found["duplicates"]} == {"noise-corpus:4.png"}
    assert any(asked.stem in one["theirs"] for one in found["duplicates"])
    assert found["unreadable"]["total"] == 0

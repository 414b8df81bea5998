"""Keys of images by row, and rows by key."""

from __future__ import annotations

import numpy as np
import pytest

from vlbench.data.keys import ImageKeys

NAMES = [f"COCO_{number:012}" for number in range(300)] + ["", "große Straße", "a", "ab"]


def blocks(names: list[str], size: int = 7) -> list[list[str]]:
    return [names[start : start + size] for start in range(0, len(names), size)]


def test_rows_and_keys_agree() -> None:
    keys = ImageKeys(blocks(NAMES))
    assert list(keys) == NAMES
    assert len(keys) == len(NAMES)
    assert keys[-1] == "ab"
    assert keys[1:3] == tuple(NAMES[1:3])
    with pytest.raises(IndexError):
        keys[len(NAMES)]
    shuffled = np.random.default_rng(0).permutation(len(NAMES))
    assert keys.rows([NAMES[row] for row in shuffled]).tolist() == shuffled.tolist()


def test_what_is_not_there_has_no_row() -> None:
    keys = ImageKeys(blocks(NAMES))
    assert keys.rows(["COCO_", "b", "a"]).tolist() == [-1, -1, NAMES.index("a")]
    assert "b" not in keys
    assert keys.__contains__(3) is False
    assert "" in keys
    assert "" not in ImageKeys([])
    assert ImageKeys([]).rows([]).tolist() == []


def test_keys_of_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlbench.data.keys.hash", lambda key: 1, raising=False)
    keys = ImageKeys(blocks(NAMES))
    assert keys.rows(NAMES).tolist() == list(range(len(NAMES)))
    assert keys.repeated() is None
    assert ImageKeys([[*NAMES, "b", "a"]]).repeated() == "a"


def test_a_key_of_two_rows_is_named() -> None:
    assert ImageKeys(blocks(NAMES)).repeated() is None
    assert ImageKeys([["a", "b", "a"]]).repeated() == "a"

"""Worlds of another seed and noise: made where the user says, used by ``--data``, never taken for the standard one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vlbench.cards import CorpusCard
from vlbench.catalog import find
from vlbench.corpora.opening import open_corpus
from vlbench.made import open_made
from vlbench.paths import sha256
from vlbench.types import Misuse
from vlbench.world import SIZES, WORLD_VERSION, Counts, Manifest, check_world, make_world, read_manifest
from vlbench.world.checking import STANDARD, command_for, origin_of

TINY = Counts(train=60, val=30, test=30, unseen=30, sets=12, tested_sets=3, name="small")
WEB = ("corpora/web.json", "corpora/web_truth.jsonl")
Command = Callable[..., Any]


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "small", TINY)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, float], Path]:
    """Worlds by seed and noise; do not write in them."""
    root = tmp_path_factory.mktemp("worlds")
    found = {(seed, noise): root / f"{seed}-{noise}" for seed, noise in ((0, 0.3), (0, 0.0), (0, 1.0), (5, 0.5))}
    for (seed, noise), place in found.items():
        make_world(place, size=dataclasses.replace(TINY, wrong=noise), seed=seed)
    return found


def get(command: Command, *words: object) -> Any:
    return command("data", "get", "world", *words)


def truth(place: Path) -> list[dict[str, Any]]:
    lines = (place / "corpora/web_truth.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_the_standard_world_is_what_it_was(tmp_path: Path) -> None:
    """The manifest has the hash of every file; this is the hash of the manifest of version 5."""
    counts = Counts(train=60, val=30, test=30, unseen=30, sets=4, tested_sets=3)
    make_world(tmp_path / "world", size=counts)
    known = {5: "eadd11fc2632160d6a4d35a055489fdddfebe850cb5742bf705c5217318f4063"}
    assert sha256(tmp_path / "world" / "manifest.json") == known[WORLD_VERSION]
    assert origin_of(tmp_path / "world") == STANDARD == (0, 0.3)


@pytest.mark.parametrize("key", [(0, 0.3), (0, 0.0), (0, 1.0), (5, 0.5)])
def test_as_many_captions_are_wrong_as_were_asked_for(
    made: dict[tuple[int, float], Path], key: tuple[int, float]
) -> None:
    """A share is exchanged, to the next whole number; two pictures may be told of in the same words."""
    told = json.loads((made[key] / WEB[0]).read_text(encoding="utf-8"))
    lines = truth(made[key])
    assert [line["right"] for line in lines] == [
        one["caption"] == line["caption"] for one, line in zip(told, lines, strict=True)
    ]
    wrong = sum(not line["right"] for line in lines)
    assert len(lines) == 8 * TINY.sets
    assert 0.9 * key[1] * len(lines) - 1 <= wrong < key[1] * len(lines) + 1


def test_noise_changes_no_more_than_the_web_and_a_seed_changes_pictures(made: dict[tuple[int, float], Path]) -> None:
    clean, noisy, other = (read_manifest(made[key]) for key in ((0, 0.0), (0, 1.0), (5, 0.5)))

    def without_web(manifest: Manifest) -> Any:
        return {name: value for name, value in manifest.files.items() if name not in WEB}

    assert without_web(clean) == without_web(noisy)
    assert all(clean.files[name] != noisy.files[name] for name in WEB)
    assert (clean.folders, clean.regions, clean.tasks) == (noisy.folders, noisy.regions, noisy.tasks)
    assert all(other.folders[name] != value for name, value in clean.folders.items())


def test_another_world_is_made_the_same_each_time_checked_and_used(
    command: Command, made: dict[tuple[int, float], Path], tmp_path: Path
) -> None:
    own = tmp_path / "own"
    done = get(command, "--seed", 5, "--noise", 0.5, "--to", own, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)[1] == f"commands take it for the world with --data {own}"
    place = own / "world" / "small"
    assert sha256(place / "manifest.json") == sha256(made[5, 0.5] / "manifest.json")
    manifest = check_world(place)
    assert (manifest.seed, manifest.counts["wrong"], manifest.size) == (5, 0.5, "small")

    for name in ("world", "world-web", "world-lxmert"):
        done = command("data", "check", name, "--data", own)
        assert (done.code, done.complaints) == (0, [])
    card = open_made(find(CorpusCard, "world-web"), own)
    assert Path(card.folder).resolve() == (place / "corpora").resolve()
    corpus = open_corpus(card, own)
    assert len(corpus) == manifest.tasks["corpora"]["web"]["images"] == 8 * TINY.sets

    for where in (
        ("--data", own),
        ("--seed", 5, "--noise", 0.5, "--data", own),
        ("--seed", 5, "--noise", 0.5, "--to", own),
    ):
        assert get(command, *where).out == f"{place}: here already, of seed 5, noise 0.5\n"
    for others, named in ((("--seed", 6, "--noise", 0.5), "seed 6, noise 0.5"), ((), "seed 0, noise 0.3")):
        done = get(command, *others, "--to", own)
        done.refused(2, f"{place} is a world of seed 5, noise 0.5, not of {named}")
    assert read_manifest(place) == manifest


def test_a_world_of_another_version_is_made_anew_with_its_seed_and_noise(
    command: Command, made: dict[tuple[int, float], Path], tmp_path: Path
) -> None:
    path = tmp_path / "world" / "small" / "manifest.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(json.loads((made[5, 0.5] / path.name).read_text()) | {"version": 0}))
    assert get(command, "--data", tmp_path).code == 0
    assert sha256(path) == sha256(made[5, 0.5] / path.name)


def test_no_other_world_lies_where_runs_look_for_the_standard_one(command: Command, tmp_path: Path) -> None:
    usual = ("--data", tmp_path)
    for words in (("--seed", 5), ("--noise", 0.5), ("--seed", 5, "--to", tmp_path / "own" / "..")):
        get(command, *words, *usual).refused(2, f"would be taken for the standard one in {tmp_path}")
    assert not (tmp_path / "world").exists()
    assert get(command, "--seed", 0, "--noise", 0.3, *usual).code == 0  # it is the standard one
    assert "here already\n" in get(command, *usual).out
    get(command, "--noise", 0.5, *usual).refused(2, "is a world of seed 0, noise 0.3, not of seed 0, noise 0.5")


def test_what_cannot_be_is_refused(command: Command, tmp_path: Path) -> None:
    own = ("--to", tmp_path / "own")
    for noise in ("-0.1", "1.5", "nan", "inf"):
        get(command, "--noise", noise, *own).refused(2, f"a noise of {noise} is no share")
    assert get(command, "--seed", -1, *own).code == 2
    command("data", "get", "vqa-v2", "--seed", 1, *own).refused(2, "vqa-v2 is not made", "takes no --seed, --to")
    assert not (tmp_path / "own").exists()
    with pytest.raises(Misuse, match="noise of 2 is no share"):
        make_world(tmp_path / "own", size=dataclasses.replace(TINY, wrong=2))


def test_the_command_that_makes_a_world_again_has_its_seed_and_noise(
    made: dict[tuple[int, float], Path], tmp_path: Path
) -> None:
    origin = origin_of(made[5, 0.5])
    assert origin
    assert command_for("small", origin) == "vlbench data get world --size small --seed 5 --noise 0.5 --to FOLDER"
    assert command_for("small") == "vlbench data get world --size small"
    (tmp_path / "manifest.json").write_text('{"seed": 5}')
    assert origin_of(tmp_path) is None

"""The corpora of the made-up world, opened by their cards, and looked through for copies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vlbench.cards import CorpusCard
from vlbench.catalog import find
from vlbench.corpora.corpus import Corpus
from vlbench.corpora.duplicates import near_duplicates, pictures_of
from vlbench.corpora.mixture import Mixture
from vlbench.corpora.opening import open_corpus
from vlbench.data.features import FeatureFile
from vlbench.world import Counts, make_world

COUNTS = Counts(train=40, val=30, test=30, unseen=30, sets=5, tested_sets=3)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "made"
    make_world(folder, size=COUNTS)
    return folder


def opened(name: str, world: Path) -> Corpus:
    card = find(CorpusCard, name)
    return open_corpus(card.model_copy(update={"folder": str(world / card.folder)}), Path("nowhere"))


def read(world: Path, name: str) -> Any:
    return json.loads((world / "corpora" / name).read_text(encoding="utf-8"))


def test_captions(world: Path) -> None:
    corpus, written = opened("world", world), read(world, "captions.json")
    assert len(corpus) == len(written) == 40
    for number, record in enumerate(written):
        assert {corpus.example(number, draw).texts[0] for draw in range(100)} == set(record["caption"])
    assert len(list(corpus.texts(10_000, 0))) == 200
    assert all(picture is not None for _, picture in pictures_of(corpus))


def test_web(world: Path) -> None:
    corpus = opened("world-web", world)
    truth = (world / "corpora" / "web_truth.jsonl").read_text(encoding="utf-8").splitlines()
    told = [corpus.example(number) for number in range(len(corpus))]
    assert len(told) == len(truth) == 8 * 5
    for example, line in zip(told, map(json.loads, truth), strict=True):
        assert example.images == (f"world-web:{line['image']}",)
        assert (example.texts[0] == line["caption"]) == line["right"]


def test_lxmert_mixture(world: Path) -> None:
    corpus, written = opened("world-lxmert", world), read(world, "lxmert/mscoco_train.json")
    assert len(corpus) == sum(len(texts) for record in written for texts in record["sentf"].values())
    stored = FeatureFile(world / "regions.h5")
    keys = [key for key, picture in pictures_of(corpus) if picture is not None]
    assert keys == [f"world-lxmert:{record['img_id']}" for record in written]
    assert not stored.missing([key.partition(":")[2] for key in keys])
    assert set(corpus.files()) == {"mscoco_train.json", "all_ans.json"}


def test_a_mixture_of_all(world: Path) -> None:
    parts = [opened(name, world) for name in ("world", "world-web", "world-lxmert")]
    mixture = Mixture([(parts[0], 2), (parts[1], 1), (parts[2], 1)])
    ids = {mixture.example(number).id for number in range(len(mixture))}
    assert len(ids) == len(mixture) - len(parts[0]) == sum(map(len, parts))


def test_pictures_of_two_corpora_that_are_the_same(world: Path) -> None:
    ours, theirs = pictures_of(opened("world", world)), pictures_of(opened("world-lxmert", world))
    found = near_duplicates(ours, theirs)
    assert not found.unreadable.total
    names = [(Path(one.ours).stem, one.theirs.partition(":")[2]) for one in found.duplicates]
    assert len(names) == 40
    assert all(ours == theirs for ours, theirs in names)

"""Several corpora as one, and what every corpus can do: give texts, be sent to other processes."""

from __future__ import annotations

import multiprocessing
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from vlbench.corpora.corpus import Corpus
from vlbench.corpora.mixture import Mixture
from vlbench.types import Example, Misuse

Open = Callable[..., Corpus]
PAIRS = [{"image": f"{n}.jpg", "caption": [f"{n} {way}" for way in "abc"]} for n in range(5)]
TOLD = [
    {"img_id": f"{n}", "sentf": {"mscoco": [f"t{n}"], "vqa": [f"q{n}?"]}, "labelf": {"vqa": [{"a": 1}]}}
    for n in range(3)
]


@pytest.fixture
def mixture(opened: Open) -> Mixture:
    pairs = opened("pairs", {"x.json": PAIRS}, identity="pairs")
    empty = opened("pairs", {"x.json": []}, identity="none")
    return Mixture([(pairs, 3), (empty, 2), (opened("lxmert", {"x.json": TOLD}, identity="told"), 1)])


def test_every_corpus_comes_as_often_as_is_wanted(mixture: Mixture) -> None:
    assert len(mixture) == 3 * 5 + 6
    ids = [mixture.example(number).id for number in range(len(mixture))]
    assert Counter(ids) == {f"pairs:{n}": 3 for n in range(5)} | {
        f"told:{n}#{at}": 1 for n in range(3) for at in (0, 1)
    }
    with pytest.raises(IndexError):
        mixture.example(len(mixture))


def test_every_pass_of_an_epoch_is_a_draw_of_its_own(mixture: Mixture) -> None:
    corpus = mixture.parts[0][0]
    for epoch in (0, 1, 7):
        for passed in range(3):
            assert mixture.example(5 * passed + 2, epoch) == corpus.example(2, 3 * epoch + passed)


def test_pictures_and_files_are_those_of_the_corpora(mixture: Mixture, tmp_path: Path) -> None:
    (tmp_path / "data2" / "images").mkdir()
    (tmp_path / "data2" / "images" / "1.png").touch()
    assert mixture.picture("told:1") == tmp_path / "data2" / "images" / "1.png"
    assert mixture.picture("pairs:0.jpg") is None
    with pytest.raises(KeyError, match="of none of pairs, none, told"):
        mixture.picture("other:1")
    assert set(mixture.files()) == {"pairs/x.json", "none/x.json", "told/x.json"}


def test_wrong_parts_are_refused(opened: Open) -> None:
    corpus = opened("pairs", {"x.json": PAIRS})
    for times in (0, -1, 1.5, True):
        with pytest.raises(Misuse, match="an epoch cannot pass"):
            Mixture([(corpus, times)])  # type: ignore[list-item]
    with pytest.raises(Misuse, match="a mixture has mine twice"):
        Mixture([(corpus, 1), (corpus, 1)])
    assert len(Mixture([])) == 0


def test_texts_are_a_seeded_sample(mixture: Mixture) -> None:
    everything = (
        [f"{n} {way}" for n in range(5) for way in "abc"] * 3
        + [f"t{n}" for n in range(3)]
        + [f"q{n}?" for n in range(3)]
    )
    assert Counter(mixture.texts(1000, 0)) == Counter(everything)
    some = list(mixture.texts(7, 1))
    assert len(some) == 7
    assert some == list(mixture.texts(7, 1))
    assert len({tuple(mixture.texts(7, seed)) for seed in range(10)}) == 10
    assert list(mixture.texts(0, 0)) == []


def read(corpus: Corpus) -> list[Example]:
    return [corpus.example(number, 1) for number in range(len(corpus))]


@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_workers_read_what_they_are_sent(mixture: Mixture, way: str) -> None:
    here = read(mixture)  # files and maps are open as processes are forked off
    sent = pickle.dumps(mixture)
    assert len(sent) < 5000
    assert read(pickle.loads(sent)) == here
    with multiprocessing.get_context(way).Pool(2) as pool:
        assert pool.map(read, [mixture] * 4) == [here] * 4

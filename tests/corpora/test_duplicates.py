"""Copies of evaluation images are found however they were changed a little, and different pictures are not."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import pytest
from PIL import Image as Pictures
from PIL.Image import Image as Picture

from vlbench.corpora import duplicates, fingerprints
from vlbench.corpora.duplicates import near_duplicates
from vlbench.corpora.fingerprints import NEAR, SIDE, distance, fingerprint, thumbnail
from vlbench.world import Counts, make_world

Change = Callable[[Picture], Picture]
SMOOTH = Pictures.Resampling.BICUBIC


class Held:
    """A picture in memory, opened as a file is."""

    def __init__(self, picture: Picture, kind: str = "PNG", quality: int = 75) -> None:
        held = io.BytesIO()
        picture.save(held, kind, **({"quality": quality} if kind == "JPEG" else {}))
        self.content = held.getvalue()

    def open(self, mode: Literal["rb"], /) -> BinaryIO:
        return io.BytesIO(self.content)


def jpeg(quality: int) -> Change:
    def change(picture: Picture) -> Picture:
        with Pictures.open(Held(picture, "JPEG", quality).open("rb")) as opened:
            return opened.convert("RGB")

    return change


def resized(width: float, height: float) -> Change:
    return lambda picture: picture.resize((round(picture.width * width), round(picture.height * height)), SMOOTH)


def brightened(gain: float, more: int) -> Change:
    return lambda picture: picture.point(lambda value: min(255, int(value * gain + more)))


def trimmed(left: float, top: float, right: float, bottom: float) -> Change:
    def change(picture: Picture) -> Picture:
        wide, high = picture.size
        return picture.crop(
            (round(wide * left), round(high * top), round(wide * (1 - right)), round(high * (1 - bottom)))
        )

    return change


def several(picture: Picture) -> Picture:
    return jpeg(75)(brightened(1.05, 0)(resized(1.4, 1.4)(trimmed(0.01, 0.01, 0.01, 0.01)(picture))))


CHANGES: dict[str, Change] = {
    "none": lambda picture: picture,
    "jpeg 90": jpeg(90),
    "jpeg 75": jpeg(75),
    "half": resized(0.5, 0.5),
    "larger": resized(1.5, 1.5),
    "squashed": resized(1.0, 0.8),
    "gain": brightened(1.05, 0),
    "offset": brightened(1.0, 12),
    "darker": brightened(0.9, 0),
    "trimmed": trimmed(0.01, 0.01, 0.01, 0.01),
    "trimmed at the left": trimmed(0.02, 0, 0, 0),
    "trimmed at a corner": trimmed(0, 0.02, 0.02, 0),
    "several": several,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Picture]:
    """All pictures of a small world."""
    folder = tmp_path_factory.mktemp("world") / "made"
    make_world(folder, size=Counts(train=150, val=40, test=90, unseen=40, sets=10, tested_sets=3))
    return {path.name: Pictures.open(path).convert("RGB") for path in sorted(folder.glob("images/*/*.png"))}


@pytest.fixture(scope="module")
def photographs() -> dict[str, Picture]:
    """Fields of colour with edges, rough on every scale as photographs are."""
    generator = np.random.default_rng(0)
    made = {}
    for number in range(60):
        wide, high = generator.integers(120, 240, 2)
        whole = np.zeros((high, wide, 3))
        for octave in range(1, 6):
            coarse = Pictures.fromarray(generator.integers(0, 256, (2**octave, 2**octave, 3), dtype=np.uint8))
            whole += np.asarray(coarse.resize((int(wide), int(high)), SMOOTH)) / 2**octave
        across = np.arange(wide) * generator.normal() + np.arange(high)[:, None] * generator.normal()
        whole += 60 * (across > across.mean())[..., None] * generator.random(3)
        made[f"photo {number}"] = Pictures.fromarray(np.clip(whole * 0.8, 0, 255).astype(np.uint8))
    return made


@pytest.mark.parametrize("change", CHANGES)
def test_copies_of_photographs_are_found(photographs: dict[str, Picture], change: str) -> None:
    copies = [(f"copy of {name}", Held(CHANGES[change](picture))) for name, picture in photographs.items()]
    found = near_duplicates(copies, [(name, Held(picture)) for name, picture in photographs.items()])
    assert {(one.ours, one.theirs) for one in found.duplicates} == {(f"copy of {name}", name) for name in photographs}
    assert all(0 <= one.distance <= NEAR for one in found.duplicates)


def evaluated(world: dict[str, Picture]) -> dict[str, Picture]:
    """Pictures of the splits that are not trained on, without contrast sets: these are near-duplicates on purpose."""
    return {name: picture for name, picture in world.items() if "train" not in name and name.count("-") < 5}


@pytest.mark.parametrize("change", CHANGES)
def test_copies_of_plain_pictures_are_found(world: dict[str, Picture], change: str) -> None:
    theirs = dict(list(evaluated(world).items())[:150])
    copies = [(f"copy of {name}", Held(CHANGES[change](picture))) for name, picture in theirs.items()]
    found = near_duplicates(copies, [(name, Held(picture)) for name, picture in theirs.items()])
    pairs = {(one.ours, one.theirs) for one in found.duplicates}
    missed = {(f"copy of {name}", name) for name in theirs} - pairs
    assert len(missed) <= len(theirs) / 50, missed
    assert len(pairs) == len(theirs) - len(missed)


def test_different_pictures_of_the_world_are_not_copies(world: dict[str, Picture]) -> None:
    ours = [(name, Held(picture)) for name, picture in world.items() if "train" in name]
    found = near_duplicates(ours, [(name, Held(picture)) for name, picture in evaluated(world).items()])
    assert len(ours) > 200
    assert found.duplicates == []


def test_a_picture_of_the_corpus_may_be_several_of_theirs(photographs: dict[str, Picture]) -> None:
    picture = photographs["photo 0"]
    theirs = [
        ("near", Held(jpeg(90)(picture))),
        ("far", Held(several(picture))),
        ("other", Held(photographs["photo 1"])),
    ]
    found = near_duplicates([("mine", Held(picture))], theirs)
    assert [(one.ours, one.theirs) for one in found.duplicates] == [("mine", "near"), ("mine", "far")]


def test_what_cannot_be_read_is_counted_and_named(photographs: dict[str, Picture], tmp_path: Path) -> None:
    (tmp_path / "cut.jpg").write_bytes(Held(photographs["photo 0"], "JPEG").content[:200])
    (tmp_path / "text.jpg").write_bytes(b"no picture")
    whole = [(name, Held(picture)) for name, picture in photographs.items()]
    broken = [("gone", tmp_path / "gone.jpg"), ("cut", tmp_path / "cut.jpg"), ("text", tmp_path / "text.jpg")]
    found = near_duplicates([*broken, ("none", None), whole[3]], [*whole, *broken])
    assert found.unreadable.total == 7
    assert found.unreadable.first == ("gone", "cut", "text", "gone", "cut", "text", "none")
    assert [one.theirs for one in found.duplicates] == ["photo 3"]
    many = near_duplicates([(f"{n}", None) for n in range(30)], [])
    assert many.unreadable == (30, tuple(map(str, range(10))))
    assert near_duplicates(whole, []).duplicates == near_duplicates([], whole).duplicates == []


def test_plain_pictures_and_odd_ones_do_no_harm() -> None:
    colours = {"red": (200, 0, 0), "blue": (0, 0, 200), "black": (0, 0, 0), "white": (255, 255, 255)}
    plain = [(name, Held(Pictures.new("RGB", (50, 40), colour))) for name, colour in colours.items()]
    found = near_duplicates(plain, plain)
    assert {(one.ours, one.theirs) for one in found.duplicates} == {(name, name) for name in colours}
    odd = [
        ("dot", Held(Pictures.new("RGB", (1, 1), (9, 200, 9)))),
        ("line", Held(Pictures.new("L", (500, 1)))),
        ("clear", Held(Pictures.new("RGBA", (9, 9)))),
        ("palette", Held(Pictures.new("P", (9, 9), 3))),
    ]
    assert {one.theirs for one in near_duplicates(odd, odd).duplicates if one.ours == "dot"} == {"dot"}


def test_progress_is_told(photographs: dict[str, Picture]) -> None:
    told: list[tuple[int, int, str]] = []
    whole = [(name, Held(picture)) for name, picture in photographs.items()][:5]
    near_duplicates(iter(whole), whole, lambda *step: told.append(step))
    assert told[4] == (5, 5, "evaluation images")
    assert told[-1] == (5, 5, "images compared")


def test_memory_grows_by_few_bytes_an_image(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By about a hundred for one of the evaluation set, by none for one of the corpus."""
    generator = np.random.default_rng(0)
    pictures = generator.integers(0, 256, (64, SIDE, SIDE, 3), dtype=np.uint8)
    monkeypatch.setattr(duplicates, "_small", lambda readable: pictures[readable.number])

    class Numbered:
        def __init__(self, number: int) -> None:
            self.number = number % 64 if number < 64 else 0

    def peak(ours: int, theirs: int) -> int:
        def keyed(count: int) -> Iterator[tuple[str, Numbered]]:
            return ((f"image {number}", Numbered(number)) for number in range(count))

        tracemalloc.start()
        near_duplicates(keyed(ours), keyed(theirs))  # type: ignore[arg-type]  # nothing opens them here
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(1, 10)  # what is made once
    few, many = peak(0, 300), peak(0, 2300)
    assert (many - few) / 2000 < 130  # 90 when all is in order, more while it is put in order
    assert peak(2, 64) + 50_000 > peak(100, 64)


def test_fingerprints_are_the_same_everywhere() -> None:
    """Thumbnails are of whole numbers and so are limits, but for a mean: one picture stands for all."""
    ramp = np.arange(SIDE * SIDE * 3).reshape(SIDE, SIDE, 3) * 7 % 256
    small = thumbnail(Pictures.fromarray(ramp.astype(np.uint8)))
    assert small.shape == (SIDE, SIDE, 3)
    assert np.array_equal(small, ramp)
    words = fingerprint(small)
    assert words.shape == (fingerprints.WORDS,)
    assert fingerprints.differing_bits(words, np.stack([words, ~words])).tolist() == [0, 16 * fingerprints.WORDS]
    assert distance(small, small) < 1e-6
    assert distance(small, small[::-1]) > 0.5

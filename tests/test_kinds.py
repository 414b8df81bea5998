"""Corpora of pairs, of images alone and of texts alone: each stage learns from what it can, and refuses the others."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vlbench.corpora.feed import CorpusFeed, Lost
from vlbench.corpora.images import BrokenImages
from vlbench.data.batches import Collator, Share
from vlbench.data.words import train_words
from vlbench.recipe import Recipe
from vlbench.types import BadData, Example, Kind, Misuse
from vlbench.types import Image as Pixels

SMALL = ("--set", "image_size=0", "--no-mlflow", "--json")
Command = Callable[..., Any]


@pytest.fixture
def cards(tmp_path: Path) -> dict[str, Path]:
    """Corpora of 30 texts and of 20 images, by their cards."""
    random = np.random.default_rng(0)
    folder = tmp_path / "own"
    (folder / "images").mkdir(parents=True)
    for number in range(20):
        noise = random.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "images" / f"{number}.png")
    (folder / "texts.txt").write_text("".join(f"a red circle beside {number} blue squares\n" for number in range(30)))
    about = 'name = "own"\nabout = "own"\nhome = "here"\nlicence = "none"\n'
    layouts = {"texts": ("lines", "texts.txt", "texts"), "images": ("pictures", "images", "images")}
    for kind, (layout, name, role) in layouts.items():
        card = f'{about}layout = "{layout}"\n[[file]]\nname = "{name}"\nrole = "{role}"\n'
        (folder / f"{kind}.toml").write_text(card)
    return {kind: folder / f"{kind}.toml" for kind in layouts}


def runs(done: Any) -> list[dict[str, Any]]:
    assert done.code == 0, done.err
    found: list[dict[str, Any]] = json.loads(done.out)["runs"]
    return found


def test_a_mixture_of_all_kinds_is_learned_from(command: Command, made: Path, cards: dict[str, Path]) -> None:
    corpora = f"corpora=world,{cards['texts']},{cards['images']}"
    typed = ("--data", made, "--set", corpora, "--set", "batch=22", "--set", "epochs=1", *SMALL)
    tokeniser, masked = runs(
        command("pretrain", "beit3", "--data", made, "--set", "steps=5", "--set", "batch=22", *SMALL)
    )
    (record,) = runs(command("pretrain", "beit3", "--stage", "masked", "--start", f"run:{tokeniser['id']}", *typed))
    assert set(record["losses"]) == set(masked["losses"]) == {"text_words", "pair_words", "pair_codes", "image_codes"}
    assert record["examples_seen"] == 22 * 9  # as long as the 60 pairs take, of which a step has seven
    assert {name.partition("/")[0] for name in record["inputs"] if name.startswith("corpus:")} == {
        "corpus:world", "corpus:own-texts", "corpus:own-images",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "stage", "kind", "losses"),
    [
        ("beit3", "image-tokeniser", "images", {"reconstruction", "commitment"}),
        ("vlmo", "text", "texts", {"masked_lm"}),
    ],
)
def test_a_stage_on_one_kind_alone(
    command: Command, tmp_path: Path, cards: dict[str, Path], method: str, stage: str, kind: str, losses: set[str]
) -> None:
    place = tmp_path / "tokenisers" / "own"
    place.mkdir(parents=True)
    (place / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefg"]))
    vocabulary = "own" if kind == "images" else "train"
    typed = ("--stage", stage, "--set", f"corpora={cards[kind]}", "--set", f"tokeniser={vocabulary}")
    (record,) = runs(
        command("pretrain", method, *typed, "--data", tmp_path, "--set", "steps=3", "--set", "batch=8", *SMALL)
    )
    assert set(record["losses"]) == losses


def test_a_vocabulary_is_not_learned_from_images(command: Command, cards: dict[str, Path]) -> None:
    typed = ("--set", f"corpora={cards['images']}", "--set", "tokeniser=train", "--set", "steps=3", *SMALL)
    done = command("pretrain", "beit3", "--stage", "image-tokeniser", *typed)
    done.refused(2, "own-images", "hold no text to learn words from")


@pytest.mark.parametrize(
    ("method", "stage", "kind"),
    [("coca", "", "images"), ("coca", "", "texts"), ("vlmo", "text", "images"), ("beit3", "image-tokeniser", "texts")],
)
def test_what_nothing_is_learned_from_is_refused(
    command: Command, made: Path, cards: dict[str, Path], method: str, stage: str, kind: str
) -> None:
    typed = ("--set", f"corpora=world,{cards[kind]}", *(("--stage", stage) if stage else ()))
    done = command("pretrain", method, *typed, "--data", made, "--set", "steps=3", "--set", "batch=8", *SMALL)
    done.refused(2, f"holds {kind} alone", "learns from")


def test_objectives_that_the_corpora_have_nothing_for_are_told(command: Command, made: Path) -> None:
    typed = (
        "pretrain",
        "lxmert",
        "--data",
        made,
        "--set",
        "corpora=world",
        "--set",
        "steps=2",
        "--set",
        "batch=8",
        *SMALL,
    )
    command(*typed, "--set", "losses=image_qa:1").refused(2, "nothing is learned of", "image_qa")
    (record,) = runs(command(*typed, "--set", "losses=image_qa:1,matching:1"))
    assert "nothing was learned by image_qa" in record["note"]
    assert set(record["losses"]) == {"matching"}
    command(*typed, "--set", "losses=matching:-1").refused(2, "losses")
    done = command(*typed, "--set", "losses=matching")
    done.refused(2, "'matching' has no value")
    assert "write matching:1" in done.err


class Listed:
    """Examples in memory."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def example(self, number: int, draw: int = 0) -> Example:
        return self.examples[number]


class Shown:
    """Images that are made of their keys; those of ``broken`` cannot be read."""

    def __init__(self, broken: frozenset[str] = frozenset()) -> None:
        self.broken = broken
        self.draws: list[int] = []

    def load(self, keys: Sequence[str], draw: int = 0) -> Pixels:
        self.draws.append(draw)
        if lost := self.broken & {*keys}:
            raise BrokenImages("no image", frozenset(lost))
        return Pixels(torch.arange(len(keys))[:, None, None, None].expand(-1, 3, 2, 2).float())


def feed(examples: Sequence[Example], broken: frozenset[str] = frozenset(), **more: Any) -> CorpusFeed:
    collate = Collator(Shown(broken), train_words(["a red circle"], 60), length=8, keeps=False)
    recipe = Recipe(**{"model": "m", "task": "t", "batch": 4, **more.pop("recipe", {})})
    return CorpusFeed(Listed(examples), collate, recipe, **more)


PAIRS = [Example(f"p{n}", (f"i{n}",), ("a red circle",)) for n in range(9)]
MIXED = [
    *PAIRS,
    *(Example(f"t{n}", (), ("a circle",)) for n in range(7)),
    *(Example(f"m{n}", (f"k{n}",), ()) for n in range(5)),
]


def test_each_batch_is_of_one_kind_and_none_is_lost() -> None:
    made = feed(MIXED, kinds=("pairs", "texts", "images"))
    parts = [part for step in made.steps(0, made.per_epoch) for part in step]
    assert sorted(name for part in parts for name in part.ids) == sorted(one.id for one in MIXED)
    assert all(len({name[0] for name in part.ids}) == 1 for part in parts)
    assert {part.kind for part in parts} == {"pairs", "texts", "images"}
    assert all({"p": "pairs", "t": "texts", "m": "images"}[part.ids[0][0]] == part.kind for part in parts)


GROUPS = (range(9), range(9, 16), range(16, 21))
"""Of the pairs, texts and images of MIXED."""


def test_a_step_has_as_many_of_each_kind_and_each_goes_at_its_own_pace() -> None:
    made = feed(MIXED, kinds=("pairs", "texts", "images"), groups=GROUPS, recipe={"batch": 8})
    steps = [{part.kind: list(part.ids) for part in step} for step in made.steps(0, 35)]
    assert all(
        {kind: len(ids) for kind, ids in step.items()} == {"pairs": 2, "texts": 3, "images": 3} for step in steps
    )
    counts: dict[Kind, int] = {"pairs": 9, "texts": 7, "images": 5}
    for kind, count in counts.items():
        shown = [name for step in steps for name in step[kind]]
        epochs = [shown[start : start + count] for start in range(0, len(shown) - count + 1, count)]
        assert all(len({*epoch}) == count for epoch in epochs)  # each once before any comes again
        assert len({tuple(epoch) for epoch in epochs[:3]}) == 3  # and in another order
    assert made.examples_until(3) == 24
    assert made.per_epoch == 5  # of nine pairs a step has two
    assert [{part.kind: list(part.ids) for part in made.parts(7)[0]}] == steps[7:8]  # any step can be the next


def test_pictures_are_drawn_anew_by_epoch_or_where_groups_have_their_own_by_step() -> None:
    def draws(made: CorpusFeed, steps: int) -> list[int]:
        shown = made.collate.images
        assert isinstance(shown, Shown)
        for step in range(steps):
            made.parts(step)
        return shown.draws

    assert draws(feed(PAIRS), 7) == [0, 0, 0, 1, 1, 1, 2]
    groups = feed(MIXED, kinds=("pairs", "texts", "images"), groups=GROUPS, recipe={"batch": 8})
    assert draws(groups, 4) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_shares_parts_and_limits_hold_for_each_kind() -> None:
    def ids(share: Share, **recipe: Any) -> list[list[str]]:
        made = feed(MIXED, kinds=("pairs", "texts", "images"), groups=GROUPS, share=share, recipe=recipe)
        return [[name for part in made.parts(step)[0] for name in part.ids] for step in range(9)]

    whole = ids(Share(), batch=6)
    halves = [ids(Share(process, 2), batch=6) for process in (0, 1)]
    for step, all_of_it in enumerate(whole):
        assert sorted([*halves[0][step], *halves[1][step]]) == sorted(all_of_it)
        assert [name[0] for name in halves[0][step]] == ["p", "t", "m"]
    assert list(map(sorted, ids(Share(), batch=6, accumulate=2))) == list(map(sorted, whole))
    for few in ({"limit": 7}, {"corpus_share": 0.3}):
        shown = {name for step in ids(Share(), batch=6, **few) for name in step}
        assert {kind: sum(name[0] == kind for name in shown) for kind in "ptm"} in (
            {"p": 2, "t": 2, "m": 3},
            {"p": 3, "t": 3, "m": 2},
        )


def test_a_batch_without_room_for_all_kinds_is_refused() -> None:
    with pytest.raises(Misuse, match="a batch of 2 has no room for 3 kinds"):
        feed(MIXED, kinds=("pairs", "texts", "images"), groups=GROUPS, recipe={"batch": 2})


@pytest.mark.parametrize(("kinds", "fold"), [(("texts",), (0, 1)), (("images",), (1, 0))])
def test_of_pairs_a_part_is_learned_from_where_that_is_all(kinds: Any, fold: tuple[int, int]) -> None:
    made = feed(PAIRS, kinds=kinds)
    assert {tuple(part.fold) for step in made.steps(0, 3) for part in step} == {fold}


def test_a_kind_that_is_not_learned_from_is_named() -> None:
    made = feed(MIXED, kinds=("pairs",))
    with pytest.raises(BadData, match="alone, and pairs are learned from"):
        list(made.steps(0, made.per_epoch))


@pytest.mark.parametrize("processes", [2, 3])
def test_all_processes_have_as_many_examples(processes: int) -> None:
    shares = [feed(PAIRS, share=Share(process, processes)) for process in range(processes)]
    for step in range(6):
        seen = [[name for part in one.parts(step)[0] for name in part.ids] for one in shares]
        assert len({len(some) for some in seen}) == 1
        alone = {name for part in feed(PAIRS).parts(step)[0] for name in part.ids}
        assert {name for some in seen for name in some} == alone


def test_a_step_of_broken_images_is_passed_over_and_each_is_told_once() -> None:
    told: list[Lost] = []
    broken = frozenset(f"i{n}" for n in range(9) if n != 4)
    made = feed(PAIRS, broken, tell=told.append)
    steps = list(made.steps(0, 2 * made.per_epoch))
    assert [len(parts) for parts in steps].count(1) == 2
    assert sorted(name for one in told for name in one.ids) == sorted(one.id for one in PAIRS if one.id != "p4")
    with pytest.raises(BadData, match="no image of the corpora can be read"):
        list(feed(PAIRS, broken | {"i4"}).steps(0, 9))

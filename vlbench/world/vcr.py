"""Questions with four answers and four reasons, in the files of VCR.

There is no split of unseen pairs of colour and shape. Of each shape two colours are kept for such splits, so four
answers, or reasons, about the color of a thing whose shape is named could not be right equally often: whoever knows
which pairs are kept would know two of them wrong. What else is asked does not take a thing's colour and shape together.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from vlbench.world.blocks import Block
from vlbench.world.choices import ASKING, EVEN, WAYS, Choice, Item, items, loose, squares, tokens, written
from vlbench.world.dice import Dice
from vlbench.world.layout import METADATA, path_of
from vlbench.world.output import Output
from vlbench.world.scenes import SIDE, Scene

_NAME = "vcr"
_MOVIE = "0000_MADE_UP_WORLD"
_SURE = 0.99
_HIDDEN = "test"
_TELLING = ("label", "orig", "sources", "match_iter")
"""What a record says of its answer and its rationale that tells the right one: the official file of tests has none."""
_FEW = 2
"""Where squares give less than one example for so many pictures, loose ones are added."""


def write_vcr(block: Block, output: Output) -> None:
    """Write the questions of a block, and the boxes of the pictures they are asked of."""
    if block.split == "unseen":
        return
    dice = block.dice("vcr")
    pools: dict[tuple[str, str], list[Item]] = {}
    for place, picture in enumerate(block.pictures):
        for family, item in items(picture.scene, place):
            pools.setdefault((family, item.key), []).append(item)
    asked = sorted(_choose(pools, len(block.pictures), dice), key=lambda one: one[1].item.place)
    shown: dict[int, int] = {}
    for family, choice in asked:
        place = choice.item.place
        shown[place] = shown.get(place, -1) + 1
        _write(block, family, choice, shown[place], dice, output)
    for place in shown:
        _write_boxes(block, place, output)
    output.tally(_NAME, block.split, images=len(shown), examples=len(asked), guessed=len(asked) / WAYS)


def _choose(pools: dict[tuple[str, str], list[Item]], images: int, dice: Dice) -> list[tuple[str, Choice]]:
    """Choose what is asked, by family."""
    wordings = Counter(family for family, _ in pools)
    asked: list[tuple[str, Choice]] = []
    for (family, _), pool in pools.items():
        wanted = ASKING[family].rate * images / (WAYS * WAYS * wordings[family])
        for square in squares(family, dice.shuffled(pool), max(1, dice.rounded(wanted)), dice):
            asked += [(family, choice) for choice in square]
    if len(asked) < images // _FEW:
        for (family, _), pool in pools.items():
            if family in EVEN:
                wanted = 1 + images // (_FEW * wordings[family])
                asked += [(family, choice) for choice in loose(family, dice.shuffled(pool), wanted, dice)]
    return asked


def _write(block: Block, family: str, choice: Choice, number: int, dice: Dice, output: Output) -> None:
    asking, item = ASKING[family], choice.item
    picture, row = block.pictures[item.place], output.number(f"{_NAME} {block.split}")
    answers, reasons = dice.shuffled(choice.answers), dice.shuffled(choice.reasons)
    label, why = answers.index(choice.answer), reasons.index(choice.reason)
    identity, image = f"{block.split}-{row}", f"{block.split}-{picture.number}"
    texts = [[asking.answer(one) for one in answers], [asking.reason(one) for one in reasons]]
    record = {
        "movie": _MOVIE,
        "objects": [thing.shape for thing in picture.scene.things],
        "interesting_scores": [1],
        "answer_likelihood": "likely",
        "img_fn": f"../../{picture.file}",
        "metadata_fn": f"{picture.key}.json",
        "answer_orig": written(texts[0][label], item.tags),
        "question_orig": written(asking.question, item.tags),
        "rationale_orig": written(texts[1][why], item.tags),
        "question": tokens(asking.question, item.tags),
        "answer_match_iter": _order(label),
        "answer_sources": _sources(row, label),
        "answer_choices": [tokens(text, item.tags) for text in texts[0]],
        "answer_label": label,
        "rationale_choices": [tokens(text, item.tags) for text in texts[1]],
        "rationale_sources": _sources(row, why),
        "rationale_match_iter": _order(why),
        "rationale_label": why,
        "img_id": image,
        "question_number": number,
        "annot_id": identity,
        "match_fold": f"{block.split}-0",
        "match_index": row,
    }
    if block.split == _HIDDEN:
        for name in _TELLING:
            del record[f"answer_{name}"], record[f"rationale_{name}"]
    output.lines(path_of(_NAME, block.split, "annotations")).add(record)
    output.skill(_NAME, identity, asking.skill)


def _order(label: int) -> list[int]:
    """Return how the choices were matched: the right one is number 0, the others count on."""
    return [(place - label) % WAYS for place in range(WAYS)]


def _sources(row: int, label: int) -> list[int]:
    """Return which example each choice was written for: the right one for this."""
    return [row + number for number in _order(label)]


def _write_boxes(block: Block, place: int, output: Output) -> None:
    picture = block.pictures[place]
    content = json.dumps(_boxes(picture.scene), sort_keys=True).encode()
    output.write(f"{_NAME}/{METADATA}/{picture.key}.json", content)


def _boxes(scene: Scene) -> dict[str, object]:
    polygons: list[list[Sequence[Sequence[int]]]] = [[thing.span.corners] for thing in scene.things]
    return {
        "boxes": [[*map(float, thing.span), _SURE] for thing in scene.things],
        "segms": polygons,
        "names": [thing.shape for thing in scene.things],
        "width": SIDE,
        "height": SIDE,
    }

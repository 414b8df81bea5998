"""Expressions that mean one thing among others of its shape, in the files of RefCOCO, RefCOCO+ and RefCOCOg.

RefCOCO's may say where a thing is, RefCOCO+'s only how it looks, RefCOCOg's what it stands beside. Two test splits:
testA (of RefCOCOg, test) as training, testB (unseen) of unseen pairs of colour and shape. The stated prior is the
chance of who knows every object's box and shape and picks one of the shape that is meant; without the boxes far fewer
are found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

from vlbench.world.blocks import Block, Picture
from vlbench.world.dice import Dice
from vlbench.world.layout import path_of, split_of
from vlbench.world.output import Output
from vlbench.world.scenes import SHAPES, SIDE, Scene, Thing
from vlbench.world.words import RELATIONS, SHAPE_KINDS, Kind, corner, kind_of, single

_THINGS = 2
"""Most things of a picture that are referred to, a data set."""
_SAID = 3
"""Most expressions a thing."""


_ENDS = {"left": "left of", "right": "right of", "top": "above", "bottom": "below"}
"""What the thing is called that has a relation to all others of its shape."""


class Said(NamedTuple):
    """An expression that fits one thing of a scene, and the skill it takes."""

    text: str
    skill: str


def _by_look(scene: Scene, thing: Thing) -> Iterator[Said]:
    """Red circle, small striped circle: the shortest that will do."""
    looks = (
        Kind(thing.shape, thing.colour),
        Kind(thing.shape, None, thing.size),
        Kind(thing.shape, None, None, thing.texture),
        Kind(None, thing.colour),
        Kind(thing.shape, None, thing.size, thing.texture),
        Kind(thing.shape, thing.colour, thing.size),
        Kind(thing.shape, thing.colour, None, thing.texture),
    )
    return (Said(kind.name, "attribute") for kind in looks if single(kind, scene.things))


def _by_place(scene: Scene, thing: Thing) -> Iterator[Said]:
    """Left circle, circle at the top left, and how things look."""
    alike = SHAPE_KINDS[thing.shape].among(scene.things)
    for word, relation in _ENDS.items():
        if all(RELATIONS[relation](thing, other) for other in alike if other is not thing):
            yield Said(f"{word} {thing.shape}", "relation")
    if [corner(other) for other in alike].count(corner(thing)) == 1:
        yield Said(f"{thing.shape} at the {corner(thing)}", "relation")
    yield from _by_look(scene, thing)


def _by_neighbour(scene: Scene, thing: Thing) -> Iterator[Said]:
    """The circle left of the red square; the small striped red circle."""
    alike = SHAPE_KINDS[thing.shape].among(scene.things)
    for other in scene.things:
        if other.shape == thing.shape or not single(kind_of(other), scene.things):
            continue
        name = other.shape if single(SHAPE_KINDS[other.shape], scene.things) else kind_of(other).name
        for relation, holds in RELATIONS.items():
            if [one for one in alike if holds(one, other)] == [thing]:
                yield Said(f"the {thing.shape} that is {relation} the {name}", "relation")
    full = Kind(thing.shape, thing.colour, thing.size, thing.texture)
    if single(full, scene.things):
        yield Said(f"the {full.name}", "attribute")


Style: TypeAlias = Callable[[Scene, Thing], Iterator[Said]]
"""How a data set refers."""
STYLES: dict[str, Style] = {"refcoco": _by_place, "refcoco+": _by_look, "refcocog": _by_neighbour}
CATEGORIES = {shape: number for number, shape in enumerate(SHAPES, 1)}
_HEAD: dict[str, object] = {
    "info": {"description": "A made-up world in the layout of COCO 2014", "version": "1.0", "year": 2014},
    "licenses": [{"url": "", "id": 1, "name": "made up"}],
    "categories": [{"supercategory": "shape", "id": n, "name": shape} for shape, n in CATEGORIES.items()],
}


def write_referring(block: Block, output: Output) -> None:
    """Write the expressions of a block, in each of the three styles."""
    for name, style in STYLES.items():
        dice, images, expressions, guessed = block.dice(name), 0, 0, 0.0
        for picture in block.pictures:
            said = _refer(picture.scene, style, dice, block.split == "unseen")
            for place, texts in said.items():
                _write_ref(name, split_of(name, block.split), picture, place, texts, output)
                alike = SHAPE_KINDS[picture.scene.things[place].shape].among(picture.scene.things)
                expressions += len(texts)
                guessed += len(texts) / len(alike)
            if said:
                images += 1
                _write_instances(name, picture, output)
        output.tally(name, block.split, images=images, examples=expressions, guessed=guessed)


def _refer(scene: Scene, style: Style, dice: Dice, novel: bool) -> dict[int, list[Said]]:
    """Choose what is referred to, by place in the scene: things that are not the only ones of their shape."""
    shapes = [thing.shape for thing in scene.things]
    found: dict[int, list[Said]] = {}
    for place in dice.shuffled(range(len(scene.things))):
        thing = scene.things[place]
        if shapes.count(thing.shape) < 2 or (novel and not thing.unseen) or len(found) == _THINGS:
            continue
        said = dice.some(list(dict.fromkeys(style(scene, thing))), dice.between(1, _SAID))
        if said:
            found[place] = said
    return found


def _annotation(picture: Picture, place: int) -> int:
    return picture.number * 100 + place


def _write_ref(name: str, split: str, picture: Picture, place: int, said: list[Said], output: Output) -> None:
    sentences = []
    for one in said:
        identity = output.number(f"{name} sentences")
        sentences.append({"tokens": one.text.split(), "raw": one.text, "sent_id": identity, "sent": one.text})
        output.skill(name, str(identity), one.skill)
    ref = {
        "sent_ids": [sentence["sent_id"] for sentence in sentences],
        "file_name": f"{picture.key}_{place}.jpg",
        "ann_id": _annotation(picture, place),
        "ref_id": output.number(f"{name} refs"),
        "image_id": picture.number,
        "split": split,
        "sentences": sentences,
        "category_id": CATEGORIES[picture.scene.things[place].shape],
    }
    output.pickled(path_of(name, "", "refs")).add(ref)


def _write_instances(name: str, picture: Picture, output: Output) -> None:
    file = output.document(path_of(name, "", "instances"), _HEAD, ("images", "annotations"))
    image = {
        "license": 1,
        "file_name": f"{picture.key}.png",
        "coco_url": "",
        "height": SIDE,
        "width": SIDE,
        "date_captured": "",
        "flickr_url": "",
        "id": picture.number,
    }
    file.add(image, "images")
    for place, thing in enumerate(picture.scene.things):
        x1, y1, x2, y2 = map(float, thing.span)
        polygon = [float(number) for corner_ in thing.span.corners for number in corner_]
        record = {
            "segmentation": [polygon],
            "area": (x2 - x1) * (y2 - y1),
            "iscrowd": 0,
            "image_id": picture.number,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "category_id": CATEGORIES[thing.shape],
            "id": _annotation(picture, place),
        }
        file.add(record, "annotations")

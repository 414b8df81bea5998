"""The files of the refer toolkit: who is meant by which words (``refs(AUTHOR).p``), and where (``instances.json``).

A record of the first file is an object with all that was said of it, and the split its author put it in; its box
stands in the second, which has the form of COCO's instances. Boxes are x, y, width, height in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from vlbench.tasks.plain_pickle import read_plain_pickle
from vlbench.tasks.reading import describe, many_objects, member, read_json, refuse
from vlbench.tasks.records import check_once
from vlbench.types import BadData, Box

LARGEST = 10**9
"""No image has so many pixels in a row; what is larger is a damaged number."""
ANSWER = '{"sent_id": number, "box": [x, y, width, height]}'


class Place(NamedTuple):
    """Where an object is."""

    image: str
    """The image's key: its file's name without the ending."""
    width: int
    """Of the image, in pixels."""
    height: int
    box: Box
    """Of the object: x, y, width, height in pixels."""

    def relative(self) -> Box:
        """Return the box's corners x1, y1, x2, y2 from 0 to 1 of the image."""
        x, y, width, height = self.box
        corners = (x / self.width, y / self.height, (x + width) / self.width, (y + height) / self.height)
        return tuple(min(max(corner, 0.0), 1.0) for corner in corners)  # type: ignore[return-value]

    @property
    def shown(self) -> bool:
        """Whether any of the box lies in the image."""
        x1, y1, x2, y2 = self.relative()
        return x1 < x2 and y1 < y2

    def pixels(self, corners: Box) -> Box:
        """Return corners from 0 to 1 of the image as x, y, width, height in pixels."""
        x1, y1, x2, y2 = corners
        return (x1 * self.width, y1 * self.height, (x2 - x1) * self.width, (y2 - y1) * self.height)


class Expression(NamedTuple):
    """What one person said of an object."""

    id: int
    split: str
    text: str
    place: Place


def read_expressions(refs: Path, instances: Path, todo: str) -> list[Expression]:
    """Read every expression of a data set, in the order of its file, joined with its box."""
    records = read_json(refs, todo) if refs.suffix == ".json" else read_plain_pickle(refs, todo)
    with many_objects():
        held = take_instances(read_json(instances, todo), str(instances))
        found = _join(take_refs(records, str(refs)), held, refs, instances)
    check_once([str(one.id) for one in found], str(refs), "ids of more than one expression")
    return found


class Ref(NamedTuple):
    """An object with what was said of it: number and text of each expression."""

    annotation: int
    image: int
    split: str
    sentences: tuple[tuple[int, str], ...]


class Instances(NamedTuple):
    """Images by their number, and boxes with the number of their image by theirs."""

    images: Mapping[int, tuple[str, int, int]]
    boxes: Mapping[int, tuple[int, Box]]


def take_refs(data: object, where: str) -> list[Ref]:
    """Check the records of a parsed ``refs(AUTHOR).p``."""
    if not isinstance(data, list) or not data:
        raise BadData(
            f"{where}: expected a list of objects that are referred to, found {describe(data)}",
            "it is the refer toolkit's refs(AUTHOR).p, beside which instances.json lies",
        )
    return [_take_ref(record, f"{where}: [{at}]") for at, record in enumerate(data)]


def _take_ref(record: Any, place: str) -> Ref:
    numbers = [member(record, key, int, place) for key in ("ann_id", "image_id")]
    said = member(record, "sentences", list, place)
    sentences = tuple(_take_sentence(one, f"{place}.sentences[{at}]") for at, one in enumerate(said))
    if not sentences:
        raise BadData(f"{place}: 'sentences' is empty")
    if record.get("sent_ids", [one[0] for one in sentences]) != [one[0] for one in sentences]:
        raise BadData(f"{place}: 'sent_ids' are not those of its sentences")
    return Ref(numbers[0], numbers[1], member(record, "split", str, place), sentences)


def _take_sentence(record: Any, place: str) -> tuple[int, str]:
    return member(record, "sent_id", int, place), member(record, "sent", str, place)


def take_instances(data: object, where: str) -> Instances:
    """Check the images and boxes of a parsed ``instances.json``."""
    images: dict[int, tuple[str, int, int]] = {}
    rows = member(data, "images", list, where)
    for at, record in enumerate(rows):
        place = f"{where}: images[{at}]"
        width, height = (member(record, key, int, place) for key in ("width", "height"))
        if not (0 < width < LARGEST and 0 < height < LARGEST):
            raise BadData(f"{place}: an image of {describe(width)} x {describe(height)} pixels")
        key = PurePosixPath(member(record, "file_name", str, place)).stem
        images[member(record, "id", int, place)] = (key, width, height)
    check_once([str(record["id"]) for record in rows], where, "ids of more than one image")
    boxes: dict[int, tuple[int, Box]] = {}
    rows = member(data, "annotations", list, where)
    for at, record in enumerate(rows):
        place = f"{where}: annotations[{at}]"
        box = take_box(member(record, "bbox", list, place), f"{place}: 'bbox'")
        boxes[member(record, "id", int, place)] = (member(record, "image_id", int, place), box)
    check_once([str(record["id"]) for record in rows], where, "ids of more than one annotation")
    return Instances(images, boxes)


def take_box(values: object, place: str) -> Box:
    """Check a box: x, y, width, height in pixels."""
    if not isinstance(values, list) or len(values) != 4 or not all(type(value) in (int, float) for value in values):
        raise BadData(f"{place} should be four numbers: x, y, width, height")
    if not all(abs(value) < LARGEST for value in values):
        raise BadData(f"{place} should be four numbers of pixels, below {LARGEST:,}")
    x, y, width, height = (float(value) for value in values)
    return (x, y, width, height)


def _join(refs: list[Ref], instances: Instances, path: Path, boxed: Path) -> list[Expression]:
    """Give every expression the box of the object it is said of; ``boxed`` is where the boxes stand."""
    lost = [ref.annotation for ref in refs if ref.annotation not in instances.boxes]
    todo = "the two files must be of the same data set"
    refuse(str(path), "annotation ids (ann_id) that instances.json does not hold", lost, todo)
    moved = [ref.annotation for ref in refs if instances.boxes[ref.annotation][0] != ref.image]
    refuse(str(path), "annotations (ann_id) that instances.json has on another image", moved, todo)
    unseen = [ref.image for ref in refs if ref.image not in instances.images]
    refuse(str(path), "images (image_id) that instances.json does not hold", unseen, todo)
    # Of what nothing is said, any box will do: COCO has some of no height.
    places = ((ref, Place(*instances.images[ref.image], instances.boxes[ref.annotation][1])) for ref in refs)
    outside = list(dict.fromkeys(ref.annotation for ref, place in places if not place.shown))
    refuse(str(boxed), "boxes (annotation ids) that show nothing of their image", outside)
    found = []
    for ref in refs:
        place = Place(*instances.images[ref.image], instances.boxes[ref.annotation][1])
        found += [Expression(number, ref.split, text, place) for number, text in ref.sentences]
    return found


def take_boxes(data: object, where: str) -> dict[str, Box]:
    """Read a parsed answer file: a JSON list of ``{"sent_id": number, "box": [x, y, width, height]}`` in pixels."""
    if not isinstance(data, list):
        raise BadData(f"{where}: expected a list, found {describe(data)}", f"an answer file is a JSON list of {ANSWER}")
    rows: list[tuple[str, Box]] = []
    for at, row in enumerate(data):
        place = f"{where}: [{at}]"
        box = take_box(member(row, "box", list, place), f"{place}: 'box'")
        rows.append((str(member(row, "sent_id", int, place)), box))
    check_once([identity for identity, _ in rows], where, "expressions answered more than once", "give one box each")
    return dict(rows)

"""Captioned images in the files of Karpathy's splits and in what is handed out instead; checked as they are read.

``dataset_coco.json`` and ``dataset_flickr30k.json`` hold every split. Instead there may be ALBEF's or BLIP's lists
(an entry a caption in training, else one an image), ViLBERT's and VOLTA's lines (``*_ann.jsonl``), or Flickr30k's own
``.token``. The content says which it is. All captions of an image are kept, as ALBEF does; some loaders keep five.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from vlbench.tasks.coco_files import take_coco
from vlbench.tasks.reading import describe, many_objects, member, read_json, refuse
from vlbench.tasks.records import check_once, json_lines, read_bytes
from vlbench.types import BadData

PARTS = ("train", "restval", "val", "test")
_OWN_NAMES = {f"dataset_{name}.json": name for name in ("coco", "flickr30k", "flickr8k")}
"""Files of Karpathy's splits -> the data set that each says it is of."""
_COCO_NAME = re.compile(r"COCO_[a-z]+\d{4}_0*(\d+)")


class Pictured(NamedTuple):
    """An image with its captions."""

    names: tuple[str, ...]
    """What an answer file may call it, its id first; of images of one file, as many and in the same order."""
    key: str
    """In the image store: the file's name without ending."""
    captions: tuple[str, ...]
    caption_names: tuple[tuple[str, ...], ...]
    """What an answer file may call each caption, its id first."""
    part: str = ""
    """The split, or the domain, that it belongs to, where the file says so."""

    @property
    def id(self) -> str:
        """The image's id."""
        return self.names[0]

    @property
    def caption_ids(self) -> tuple[str, ...]:
        """The captions' ids."""
        return tuple(names[0] for names in self.caption_names)


def read_pictured(path: Path, todo: str = "") -> list[Pictured]:
    """Read a file of captioned images in any of the layouts, in its order; ``todo`` says where to get it."""
    where = str(path)
    if path.suffix == ".token":
        return take_tokens(read_bytes(path, todo), where)
    if path.suffix == ".jsonl":
        return take_lines(read_bytes(path, todo), where)
    data = read_json(path, todo, _without_tokens)
    with many_objects():
        if isinstance(data, list):
            return take_list(data, where)
        _check_name(data, path, todo)
        images = member(data, "images", list, where)
        is_coco = "annotations" in data or (images and isinstance(images[0], dict) and "file_name" in images[0])
        return _pictured(data, where) if is_coco else take_karpathy(data, where)


def _check_name(data: Any, path: Path, todo: str) -> None:
    """Raise BadData where one of Karpathy's files has another's name; their layouts are one, so nothing else tells."""
    wanted, stated = _OWN_NAMES.get(path.name), data.get("dataset") if isinstance(data, dict) else None
    if wanted and stated is not None and stated != wanted:
        wrong = f"its name says that it is of '{wanted}', but its 'dataset' is {describe(stated)}"
        raise BadData(f"{path}: {wrong}", todo or "it may have been put in the place of another: give it its own name")


def _without_tokens(record: dict[str, Any]) -> dict[str, Any]:
    record.pop("tokens", None)  # most of the file; nobody asks for them
    return record


def _pictured(data: Any, where: str) -> list[Pictured]:
    """Read a file of COCO captions, or of nocaps, as captioned images; some may have none."""
    return [
        Pictured(
            (str(image.id), image.key),
            image.key,
            tuple(text for _, text in image.captions),
            tuple((str(number),) for number, _ in image.captions),
            image.domain,
        )
        for image in take_coco(data, where)
    ]


def take_karpathy(data: Any, where: str) -> list[Pictured]:
    """Read a parsed file of Karpathy's splits."""
    images = member(data, "images", list, where)
    return _checked([_take_image(image, f"{where}: images[{at}]") for at, image in enumerate(images)], where)


def _take_image(record: Any, place: str) -> Pictured:
    name, part = member(record, "filename", str, place), member(record, "split", str, place)
    if part not in PARTS:
        raise BadData(f"{place}: 'split' should be one of {', '.join(PARTS)}, found {describe(part)}")
    number, key = str(member(record, "imgid", int, place)), PurePosixPath(name).stem
    sentences = member(record, "sentences", list, place)
    texts = tuple(member(one, "raw", str, f"{place}.sentences[{at}]") for at, one in enumerate(sentences))
    ids = [str(member(one, "sentid", int, f"{place}.sentences[{at}]")) for at, one in enumerate(sentences)]
    if not texts:
        raise BadData(f"{place}: 'sentences' is empty")
    names = (str(member(record, "cocoid", int, place)), key, number) if "cocoid" in record else (key, number)
    return Pictured((*names, name), key, texts, _with_places(ids, key), part)


def _with_places(ids: Iterable[str], key: str) -> tuple[tuple[str, ...], ...]:
    return tuple((identity, f"{key}#{at}") for at, identity in enumerate(ids))


def take_list(data: list[Any], where: str) -> list[Pictured]:
    """Read a parsed list of ALBEF or BLIP: an image with all its captions an entry, or an image and one of them."""
    texts: dict[str, list[tuple[str, str]]] = {}
    whole: list[str] = []
    count = 0
    for at, record in enumerate(data):
        place = f"{where}: [{at}]"
        image = member(record, "image", str, place)
        captions = record.get("caption")
        if isinstance(captions, list):
            whole.append(image)
        else:
            captions = [member(record, "caption", str, place)]
        refuse(place, "captions that are no texts", [one for one in captions if type(one) is not str])
        if not captions:
            raise BadData(f"{place}: 'caption' is empty")
        own = texts.setdefault(image, [])
        own += [(str(count + number), text) for number, text in enumerate(captions)]
        count += len(captions)
    check_once(whole, where, "images that came before")
    return _checked([_of_path(image, at, own) for at, (image, own) in enumerate(texts.items())], where)


def take_lines(content: bytes, where: str) -> list[Pictured]:
    """Read ViLBERT's and VOLTA's lines: an image with its captions each."""
    found: list[Pictured] = []
    count = 0
    for place, record in json_lines(content.split(b"\n"), where):
        name, number = member(record, "img_path", str, place), str(member(record, "id", int, place))
        captions = member(record, "sentences", list, place)
        refuse(place, "captions that are no texts", [one for one in captions if type(one) is not str])
        if not captions:
            raise BadData(f"{place}: 'sentences' is empty")
        one = _of_path(name, len(found), [(str(count + at), text) for at, text in enumerate(captions)])
        found.append(one._replace(names=(*one.names, number)))
        count += len(captions)
    return _checked(found, where)


def take_tokens(content: bytes, where: str) -> list[Pictured]:
    """Read Flickr30k's own file: ``IMAGE.jpg#NUMBER``, a tab and the caption a line."""
    try:
        lines = content.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise BadData(f"{where}: not UTF-8 text: byte {error.start} is 0x{content[error.start]:02x}") from None
    texts: dict[str, list[tuple[str, str]]] = {}
    ids = []
    for number, line in enumerate(lines, 1):
        name, tab, text = line.rstrip("\r").partition("\t")
        image, mark, place = name.rpartition("#")
        if line.strip() and not (tab and mark and image and place.isascii() and place.isdigit()):
            raise BadData(f"{where}: line {number}: expected IMAGE.jpg#NUMBER, a tab and a caption", "is it cut short?")
        if line.strip():
            texts.setdefault(image, []).append((f"{PurePosixPath(image).stem}#{place}", text))
            ids.append(name)
    check_once(ids, where, "captions that came before")
    return _checked([_of_path(image, at, own) for at, (image, own) in enumerate(texts.items())], where)


def _of_path(path: str, at: int, captions: list[tuple[str, str]]) -> Pictured:
    """Make an image of its path, its place in the file, and its captions with their ids."""
    key = PurePosixPath(path).stem
    number = _COCO_NAME.fullmatch(key)
    names = (number[1], key, path, str(at)) if number else (key, path, str(at))
    texts = tuple(text for _, text in captions)
    return Pictured(names, key, texts, _with_places((identity for identity, _ in captions), key))


def _checked(found: list[Pictured], where: str) -> list[Pictured]:
    if not found:
        raise BadData(f"{where}: holds no images", "if it was downloaded, it may be cut short: get it again")
    check_once([one.id for one in found], where, "ids of more than one image")
    check_once([one.key for one in found], where, "names of more than one image file")
    check_once([identity for one in found for identity in one.caption_ids], where, "ids of more than one caption")
    many = {len(one.names) for one in found}
    if len(many) > 1:
        raise BadData(f"{where}: some images are of COCO and some are not", "a file is of one data set")
    return found

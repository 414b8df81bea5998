"""Captions in the files of Karpathy's splits, of COCO and of nocaps; those of unseen pairs in ALBEF's list."""

from __future__ import annotations

from collections.abc import Sequence

from vlbench.world.blocks import Block, Picture
from vlbench.world.captions import AN_IMAGE
from vlbench.world.layout import path_of
from vlbench.world.output import Output
from vlbench.world.scenes import SIDE, Scene

_FLICKR, _COCO, _NOCAPS = "karpathy", "coco-captions", "nocaps"
_RESTVAL = 8
"""One training picture in so many is ``restval`` in COCO's list."""
_HIDDEN = 4
"""One picture in so many belongs to the part of nocaps that has no captions."""
_LICENSES = [{"url": "", "id": 1, "name": "made up"}]


def write_captions(block: Block, captions: Sequence[Sequence[str]], output: Output) -> None:
    """Write the captions of a block, ten a picture; the first five are those of Karpathy's and COCO's files."""
    for place, (picture, texts) in enumerate(zip(block.pictures, captions, strict=True)):
        if block.split == "unseen":
            _write_unseen(picture, texts[:AN_IMAGE], output)
        else:
            _write_karpathy(block.split, place, picture, texts[:AN_IMAGE], output)
        _write_coco(block, picture, texts[:AN_IMAGE], output)
        output.skill(_COCO, str(picture.number), crowd(picture.scene))
        if block.split in ("test", "unseen"):
            _write_nocaps(place, picture, texts, output)


def _write_karpathy(split: str, place: int, picture: Picture, texts: Sequence[str], output: Output) -> None:
    for name, dataset in ((_FLICKR, "flickr30k"), (_COCO, "coco")):
        image = output.number(f"{name} images")
        sentences = []
        for text in texts:
            sentence = output.number(f"{name} sentences")
            sentences.append({"tokens": bare(text), "raw": text, "imgid": image, "sentid": sentence})
        rest = name == _COCO and split == "train" and place % _RESTVAL == 0
        record: dict[str, object] = {
            "sentids": [sentence["sentid"] for sentence in sentences],
            "imgid": image,
            "sentences": sentences,
            "split": "restval" if rest else split,
            "filename": f"{picture.key}.png",
        }
        if name == _COCO:
            record |= {"filepath": "coco", "cocoid": picture.number}
        output.document(path_of(name, "", "captions"), {"dataset": dataset}, ("images",)).add(record, "images")
        # Of COCO, a training image is learned from once a caption, and any other is asked for one.
        output.tally(name, split, images=1, examples=len(texts) if name == _FLICKR or split == "train" else 1)


def _write_unseen(picture: Picture, texts: Sequence[str], output: Output) -> None:
    """List a picture as ALBEF does, since Karpathy's files know no such split; COCO's file of it is written for all."""
    entry = {"image": f"coco/{picture.key}.png", "caption": list(texts)}
    output.items(path_of(_FLICKR, "unseen", "annotations")).add(entry)
    output.tally(_FLICKR, "unseen", images=1, examples=len(texts))
    output.tally(_COCO, "unseen", images=1, examples=1)


def bare(text: str) -> list[str]:
    """Return the words of a caption in lower case, without punctuation."""
    return text.lower().replace(",", "").rstrip(".").split()


def _image(picture: Picture, number: int) -> dict[str, object]:
    return {
        "license": 1,
        "file_name": f"{picture.key}.png",
        "coco_url": "",
        "height": SIDE,
        "width": SIDE,
        "date_captured": "",
        "flickr_url": "",
        "id": number,
    }


def _write_coco(block: Block, picture: Picture, texts: Sequence[str], output: Output) -> None:
    head = {"info": {"description": "A made-up world in the layout of COCO captions"}, "licenses": _LICENSES}
    name = path_of(_COCO, block.split, "annotations")
    file = output.document(name, {**head, "type": "captions"}, ("images", "annotations"))
    file.add(_image(picture, picture.number), "images")
    for text in texts:
        number = output.number(f"{_COCO} annotations")
        file.add({"image_id": picture.number, "id": number, "caption": text}, "annotations")


def _write_nocaps(place: int, picture: Picture, texts: Sequence[str], output: Output) -> None:
    """Write a picture to the part with captions and domains, or, one in four, to the part without."""
    hidden = place % _HIDDEN == _HIDDEN - 1
    split = "test" if hidden else "val"
    number = output.number(f"{_NOCAPS} {split}")
    image = _image(picture, number) | {"open_images_id": picture.key}
    del image["flickr_url"]
    head = {"info": {"description": "A made-up world in the layout of nocaps", "year": 2018}, "licenses": _LICENSES}
    lists = ("images",) if hidden else ("images", "annotations")
    file = output.document(path_of(_NOCAPS, split, "annotations"), head, lists)
    if hidden:
        file.add(image, "images")
    else:
        near = domain(picture.scene)
        file.add(image | {"domain": near}, "images")
        output.tally(_NOCAPS, f"val-{near.removesuffix('-domain')}", images=1, examples=1)
        for text in texts:
            file.add({"image_id": number, "id": output.number(f"{_NOCAPS} captions"), "caption": text}, "annotations")
    output.tally(_NOCAPS, split, images=1, examples=1)


def crowd(scene: Scene) -> str:
    """Say how much there is to describe: a caption may be of any skill, so it is the picture that is labelled."""
    few = (len(scene.things) + 1) // 2 * 2
    return f"objects_{few - 1}_{few}"


def domain(scene: Scene) -> str:
    """Say how far a scene is from those of training: by how many of its things are of unseen pairs."""
    unseen = sum(thing.unseen for thing in scene.things)
    return "in-domain" if not unseen else "near-domain" if unseen < len(scene.things) else "out-domain"

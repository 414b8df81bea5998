"""Whose images and texts an answer file of retrieval scores: its ids against those of the annotations."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlbench.tasks.karpathy_files import PARTS, Pictured
from vlbench.tasks.reading import listed
from vlbench.tasks.retrieval_scores import AnswerFile
from vlbench.types import BadData

FIRST_THOUSAND = "test1k_ids.txt"
"""Beside the annotations, it names the images of COCO's 1K test split."""

Integers = NDArray[np.intp]


class Searched(NamedTuple):
    """What an answer file searches, in the order of the annotations."""

    rows: Integers
    """[images]: their rows in the answer file."""
    owner: Integers
    """[texts of the answer file]: the place of each text's image among the images."""
    whole: int
    """How many images the split has of which these are all, or some."""


def check_pool(
    said: AnswerFile, found: Sequence[Pictured], answers: Path, annotations: Path, *, pool: bool = False
) -> Searched:
    """Return which images are searched, and whose the texts are.

    An answer file may call images and texts by any of the names that the annotations have for them. Of annotations of
    several splits it is held against the one that most of its images are of. BadData where its ids are not exactly
    those of a split; with ``pool`` it may lack images, but then all of their texts.
    """
    whole = _split_of(said, found, annotations)
    split = _searched(said, whole) if pool else whole
    named = _named([one.names for one in split], set(said.images))
    captions = [(names, at) for at, one in enumerate(split) for names in one.caption_names]
    texts = _named([names for names, _ in captions], set(said.texts))
    faults = [*_faults(said.images, named, "images"), *_faults(said.texts, texts, "texts")]
    if faults:
        todo = f"an answer file holds every image and text of a split of {annotations} once, and no other"
        if len(_searched(said, whole)) == len(said.images) < len(whole):
            todo = "it holds every text of its images, and no other" if pool else f"{todo}; or say --pool: {_OWN}"
        raise BadData(f"{answers}: {'; '.join(faults)}", todo)
    rows = {name: row for row, name in enumerate(said.images)}
    image_of = {name: at for name, (_, at) in zip(texts, captions, strict=True)}
    owner = np.array([image_of[name] for name in said.texts], np.intp)
    return Searched(np.array([rows[name] for name in named], np.intp), owner, len(whole))


_OWN = "it is searched among its own images only, as ViLBERT's and METER's runs are"


def _searched(said: AnswerFile, split: Sequence[Pictured]) -> Sequence[Pictured]:
    """Return the images of a split that an answer file holds."""
    wanted = set(said.images)
    named = _named([one.names for one in split], wanted)
    return [one for one, name in zip(split, named, strict=True) if name in wanted]


def _split_of(said: AnswerFile, found: Sequence[Pictured], annotations: Path) -> Sequence[Pictured]:
    """Return the images of the split that most images of an answer file are of; of test, where they are of none."""
    if not any(one.part in PARTS for one in found):
        return found
    splits = {
        part: [one for one in found if one.part == part or (one.part, part) == ("restval", "train")]
        for part in ("test", "val", "train")
    }
    wanted = set(said.images)
    part = max(splits, key=lambda part: sum(one in wanted for one in _named([i.names for i in splits[part]], wanted)))
    return _first_thousand(said, splits[part], annotations) if part == "test" else splits[part]


def _first_thousand(said: AnswerFile, split: Sequence[Pictured], annotations: Path) -> Sequence[Pictured]:
    """Return COCO's 1K test split where it lies beside the annotations and an answer file holds so few images."""
    try:
        names = (annotations.parent / FIRST_THOUSAND).read_text(encoding="utf-8").split()[:1000]
    except (OSError, UnicodeDecodeError):
        return split
    return [one for one in split if one.id in set(names)] if len(said.images) == len(names) < len(split) else split


def _named(names: Sequence[Sequence[str]], wanted: Collection[str]) -> list[str]:
    """Return what an answer file would call each of the known, by the kind of name that it uses most."""
    kinds = [[one[kind] for one in names] for kind in range(min(map(len, names), default=0))]
    return max(kinds, key=lambda kind: sum(name in wanted for name in kind), default=[])


def _faults(said: Sequence[str], known: Sequence[str], what: str) -> list[str]:
    answered, wanted = set(said), set(known)
    missing = [name for name in known if name not in answered]
    surplus = [name for name in said if name not in wanted]
    return [f"{what} without scores: {listed(missing)}"] * bool(missing) + [
        f"scores of {what} that are not in the annotations: {listed(surplus)}"
    ] * bool(surplus)

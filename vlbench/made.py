"""The made-up world on disk: found where a user had it made, else made once into the cache."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar, cast

from filelock import FileLock

from vlbench.cards import CorpusCard, DatasetCard
from vlbench.paths import cache_root, make_folder
from vlbench.types import Progress, quiet
from vlbench.world.blocks import WORLD_VERSION
from vlbench.world.checking import read_manifest
from vlbench.world.layout import MANIFEST

FOLDER = "world"
_A_MINUTE = 8000
"""Pictures that are drawn, with all that is written of them, in about a minute of one thread that has other work."""


def time_to_make(size: str) -> str:
    """Say about how long a world of a size takes to be made."""
    from vlbench.world.making import SIZES

    minutes = round(SIZES[size].pictures / _A_MINUTE)
    return f"about {minutes} minutes" if minutes > 1 else "about a minute"


def made_folder(size: str, data: Path) -> Path:
    """Return where a world of a size is, or would be made: in the data folder if it is there, else in the cache.

    BadData where the one that is there was made by another version: its numbers would be of other data.
    """
    place = data / FOLDER / size
    if not (place / MANIFEST).is_file():
        place = cache_root() / FOLDER / f"{size}-{WORLD_VERSION}"
    if (place / MANIFEST).is_file():
        read_manifest(place)
    return place


OfWorld = TypeVar("OfWorld", DatasetCard, CorpusCard)


def open_made(card: OfWorld, data: Path, *, progress: Progress = quiet) -> OfWorld:
    """Return the card of made-up data with the folder it lies in; the world is made first where it is not there."""
    if not card.made:
        return card
    place = made_folder(card.made, data)
    if not (place / MANIFEST).is_file():
        from vlbench.world.making import Size, make_world

        with FileLock(make_folder(place.parent) / f".{place.name}.lock"):
            if not (place / MANIFEST).is_file():  # another process may have made it as we waited
                make_world(place, size=cast(Size, card.made), progress=progress)
    return placed(card, data)


def placed(card: OfWorld, data: Path) -> OfWorld:
    """Return a card with the folder its files lie in, made or not."""
    if not card.made:
        return card
    return card.model_copy(update={"folder": str((made_folder(card.made, data) / card.folder).absolute())})

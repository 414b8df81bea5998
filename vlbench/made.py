"""The made-up world on disk: found where a user had it made, else made once into the cache."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

from filelock import FileLock

from vlbench.cards import CorpusCard, DatasetCard
from vlbench.paths import cache_root, make_folder
from vlbench.types import BadData, Misuse, Progress, nearest, quiet
from vlbench.world.blocks import WORLD_VERSION
from vlbench.world.checking import STANDARD, Origin, origin_of, read_manifest
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


class Wanted(NamedTuple):
    """A world that is asked for by its seed and noise; None is the standard's, or that of the world to be made anew."""

    seed: int | None = None
    noise: float | None = None
    to: Path | None = None
    """The data folder it is put into, where that is not the usual one."""

    @property
    def options(self) -> str:
        """Name what was given."""
        return ", ".join(f"--{name}" for name, value in self._asdict().items() if value is not None)


USUAL = Wanted()


def get_made(size: str, data: Path, wanted: Wanted = USUAL, *, progress: Progress = quiet) -> list[str]:
    """Make a world in a data folder unless it is there; return what was done, a line each.

    Runs take the world of their data folder for the standard one, so one of another seed or noise is only put where
    the user said, never where another is or where runs look without being told.
    """
    from vlbench.world.making import SIZES, counts_of, make_world

    if size not in SIZES:
        raise Misuse(f"no size of the world is called '{size}'; {nearest(size, list(SIZES))}", ", ".join(SIZES))
    place = (wanted.to or data) / FOLDER / size
    known = origin_of(place)
    origin = _origin(wanted, known)
    counts = counts_of(dataclasses.replace(SIZES[size], wrong=origin.noise))
    if known and known != origin:
        raise Misuse(f"{place} is a world of {known}, not of {origin}", "put this one elsewhere: --to FOLDER")
    if _is_whole(place):
        return [f"{place}: here already" + (f", of {origin}" if origin != STANDARD else "")]
    if not known and origin != STANDARD and (wanted.to or data).resolve() == data.resolve():
        raise Misuse(
            f"a world of {origin} would be taken for the standard one in {data}",
            "give it a folder of its own, which is then the --data of other commands: --to FOLDER",
        )
    make_world(place, size=counts, seed=origin.seed, progress=progress)
    made = f"{place}: made; {sum(1 for _ in place.glob('images/*/*.png')):,} pictures"
    return [made, *([f"commands take it for the world with --data {wanted.to}"] if wanted.to else [])]


def _origin(wanted: Wanted, known: Origin | None) -> Origin:
    """Complete what was asked for: nothing at all means the world that is there already."""
    if not wanted.options:
        return known or STANDARD
    seed = STANDARD.seed if wanted.seed is None else wanted.seed
    return Origin(seed, STANDARD.noise if wanted.noise is None else float(wanted.noise))


def _is_whole(place: Path) -> bool:
    """Whether a world is there that need not be made anew, as one of another version must be."""
    try:
        read_manifest(place)
    except BadData:
        return False
    return True

"""Where the files that a data set's card names lie on this machine."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Literal

from vlbench.cards import DataFile, DatasetCard
from vlbench.tasks.pictures import holds_pictures
from vlbench.types import BadData


def located(folder: Path, name: str) -> Path:
    """Return where a file or folder of a card is: as it is named, or without the folders it officially lies in."""
    named, bare = folder / name, folder / PurePosixPath(name).name
    return bare if bare.exists() and not named.exists() else named


def file_of(card: DatasetCard, folder: Path, role: Literal["annotations", "images", "ids"], split: str) -> Path | None:
    """Return the file of a role for a split: of several, which are alternatives, the first that is here.

    Images that name no split are those of all; a folder without any (NLVR's dev/ holds dev.json too) is not where they
    are. None where the card names none.
    """
    splits = (split, "") if role == "images" else (split,)
    named = [located(folder, file.name) for file in card.file if file.role == role and file.split in splits]
    here = holds_pictures if role == "images" else Path.exists
    return next((path for path in named if here(path)), named[0] if named else None)


def alternatives(files: Iterable[DataFile]) -> list[list[DataFile]]:
    """Group the files of a card: one of each group is enough, the first of it that is here counts.

    Annotations of a split stand for each other, and so do a folder of images, a tar of it, and one of the same name
    that lies with another data set. A list of questions and answers stands for either file of its split. All else is
    wanted: what is one data set in parts, such as GQA's questions.
    """
    groups: dict[tuple[str, ...], dict[str, DataFile]] = {}
    for file in sorted(files, key=lambda one: one.alone):
        name = PurePosixPath(file.name).name.removesuffix(".tar").removesuffix("-images")
        one_of_split = file.role in ("annotations", "ids") and file.split
        key = (file.role, file.split) if one_of_split else (file.role, name)
        for group in _replaced(file, groups.values()) or [groups.setdefault(key, {})]:
            group[file.name] = file
    return [list(group.values()) for group in groups.values()]


def _replaced(file: DataFile, groups: Iterable[dict[str, DataFile]]) -> list[dict[str, DataFile]]:
    """Return the groups that a list of questions and answers stands for, be they of questions or of annotations."""
    papers = {(role, file.split) for role in ("questions", "annotations")}
    return [group for group in groups if file.alone and any((one.role, one.split) in papers for one in group.values())]


def wanted_files(card: DatasetCard) -> list[DataFile]:
    """List the files of a card without those that it is whole without: of optional splits, and lists of answers."""
    spare = {name for name, split in card.splits.items() if split.optional}
    return [file for file in card.file if file.split not in spare and file.role != "answers"]


def first_here(folder: Path, group: Iterable[DataFile]) -> Path | None:
    """Return where the first of some alternatives is; None where none of them is here."""
    named = ((file.role, located(folder, file.name)) for file in group)
    return next((p for role, p in named if (holds_pictures(p) if role == "images" else p.exists())), None)


def annotations_of(card: DatasetCard, folder: Path, split: str) -> Path:
    """Return the annotations of a split, be they here or not; BadData where the card names none."""
    path = file_of(card, folder, "annotations", split)
    if path is None:
        raise BadData(f"{card.path}: names no file of annotations for the split {split}")
    return path


def where_to_get(card: DatasetCard, folder: Path) -> str:
    """Say where the files of a card come from, and where they go."""
    return f"get it from {card.home} and put it into {folder}"

"""Data sets on disk: which are here, how to get them, and whether what is here is whole.

A check counts every split, joins every example with its images or features, compares checksums where they are known
and decodes every image; of a made-up world it compares every file with what was made. It changes nothing of the data;
a tar of images is unpacked into the cache, as a run does.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from vlbench.cards import DataFile, DatasetCard, Split, TaskCard
from vlbench.catalog import card_names, cards, find, find_dataset
from vlbench.data.features import FeatureFile
from vlbench.data.transforms import open_picture
from vlbench.made import FOLDER, USUAL, Wanted, get_made, made_folder, placed
from vlbench.paths import sha256
from vlbench.plugins import load_code
from vlbench.tasks.base import Task
from vlbench.tasks.places import alternatives, first_here, located, wanted_files
from vlbench.tasks.reading import listed
from vlbench.types import BadData, Fault, Misuse, Progress, quiet
from vlbench.world.checking import changed, command_for, count_files, read_manifest
from vlbench.world.layout import MANIFEST
from vlbench.world.making import Manifest


class Part(NamedTuple):
    """What was found of one split, as one task reads it."""

    task: str
    split: str
    examples: int
    expected: int
    """By the card; 0 where it does not say."""
    images: int
    """Images that examples ask of."""
    at_hand: int
    """Of them, those that are here as files or as stored features."""
    wrong: tuple[str, ...]
    """What is wrong, a line each, with the first ten ids."""
    lacks: tuple[str, ...] = ()
    """Of an optional split, what is not here, likewise: the data set is whole without it."""

    @property
    def state(self) -> str:
        """Say in a word or two how it is: wrong, whole, in part, or not here."""
        return "wrong" if self.wrong else "whole" if not self.lacks else "in part" if self.at_hand else "not here"


class Here(NamedTuple):
    """Whether a data set is here."""

    dataset: str
    name: str
    tasks: tuple[str, ...]
    state: str
    """here, in part, made when first used, of another version (a made-up world to be made anew), or not here."""
    get: str
    """What to type, or where to go, to have it."""


def tasks_of(dataset: str) -> list[str]:
    """Name the tasks that a data set serves."""
    return [card.id for card in cards(TaskCard) if dataset in card.datasets]


def list_here(data: Path) -> list[Here]:
    """Say of every data set that has a card whether it is here."""
    return [_here(find(DatasetCard, name), data) for name in card_names(DatasetCard)]


def _here(card: DatasetCard, data: Path) -> Here:
    tasks = tuple(tasks_of(card.id))
    if card.made:
        return Here(card.id, card.name, tasks, _made_state(card.made, data), command_for(card.made))
    if card.package:
        task = _open(card, tasks[0], data) if tasks else None
        whole = task is not None and all(_files_here(task, split) for split in card.splits)
        return Here(card.id, card.name, tasks, "here" if whole else "not here", f"pip install {card.id}")
    papers = alternatives(f for f in wanted_files(card) if f.role not in ("images", "features"))
    found = [group for group in papers if first_here(data / card.folder, group)]
    state = "not here" if not found else "here" if len(found) == len(papers) else "in part"
    return Here(card.id, card.name, tasks, state, card.home)


def _made_state(size: str, data: Path) -> str:
    try:
        return "here" if (made_folder(size, data) / MANIFEST).is_file() else "made when first used"
    except BadData:
        return "of another version"


def _files_here(task: Task, split: str) -> bool:
    try:
        return all(path.exists() for path in task.files(split).values())
    except Fault:
        return False


def get(name: str, data: Path, *, size: str = "", wanted: Wanted = USUAL, progress: Progress = quiet) -> list[str]:
    """Make or fetch a data set, or say where to ask for it; return what was done, a line each."""
    card = find(DatasetCard, name)
    if card.made:
        if name != FOLDER and size not in ("", card.made):
            raise Misuse(f"{name} is the world of size {card.made}, not {size}", command_for(size))
        return get_made(size or card.made, data, wanted, progress=progress)
    if wanted.options:
        raise Misuse(f"{name} is not made by vlbench, so it takes no {wanted.options}", "of the made-up world only")
    if card.package:
        return [f"{card.name} travels with a package: pip install {card.id}"]
    lines = [f"{card.name} is handed out by its authors only ({card.licence}): {card.home}"]
    needed = wanted_files(card)
    lines += [_put(group, data, card.folder) for group in alternatives(needed)]
    spare = [file for file in card.file if file not in needed]
    return lines + [f"if you like, {_put(group, data, card.folder)}" for group in alternatives(spare)]


def _put(group: Sequence[DataFile], data: Path, folder: str) -> str:
    """Say where a file goes, or any of several that stand for each other."""
    ways = []
    for file in group:
        inside, _, name = posixpath.normpath(f"{folder}/{file.name}").rpartition("/")
        about = "; ".join(part for part in (file.note, f"from {file.url}" if file.url else "") if part)
        ways.append(f"{name} into {data / inside}" + (f" [{about}]" if about else ""))
    first = group[0]
    return f"put {'; or instead '.join(ways)} ({first.role}{f' of {first.split}' if first.split else ''})"


def check(name: str, data: Path, *, progress: Progress = quiet) -> list[Part]:
    """Check every split of a data set for every task that reads it; nothing is changed."""
    card = find(DatasetCard, name)
    place = made_folder(card.made, data) if card.made else None
    stated = read_manifest(place) if place else None
    found = [part for task in tasks_of(name) for part in _check_task(card, task, data, stated, progress)]
    if place and stated:
        found.append(_check_made(place, stated, progress))
    return found


def _check_made(place: Path, stated: Manifest, progress: Progress) -> Part:
    """Compare every file of a made-up world with what was made."""
    wrong, total = changed(place, stated, progress), count_files(stated)
    lines = (f"not as they were made: {listed(chain(*wrong.values()))}",) if wrong else ()
    return Part("-", "files", total - len(wrong), total, 0, 0, lines)


def _open(card: DatasetCard, task: str, data: Path, stated: Manifest | None = None) -> Task:
    own = find_dataset(card.id, task)
    if stated:
        own = own.model_copy(update={"splits": {split: _counted(own, split, stated) for split in own.splits}})
    opened: Task = load_code(find(TaskCard, task).code, Task)(placed(own, data), data)
    return opened


def _counted(card: DatasetCard, split: str, stated: Manifest) -> Split:
    """Return what a made-up world's card says of a split, with the numbers that its manifest states."""
    whole = card.splits[split].of or split
    files = (f for f in card.file if f.role in ("questions", "annotations") and f.split in ("", split, whole))
    # Files lie in the folder of the data set that they are counted by: nocaps is trained on the captions of COCO.
    folders = (posixpath.normpath(f"{card.folder}/{file.name}").partition("/")[0] for file in files)
    counts = next((stated.tasks[folder] for folder in folders if folder in stated.tasks), {})
    return card.splits[split].model_copy(update=counts.get(split, {}))


def _check_task(
    card: DatasetCard, name: str, data: Path, stated: Manifest | None, progress: Progress
) -> Iterator[Part]:
    task = _open(card, name, data, stated)
    decoded: dict[Path, str] = {}
    for split in task.splits:
        yield _check_split(task, name, split, decoded, progress)


def _check_split(task: Task, name: str, split: str, decoded: dict[Path, str], progress: Progress) -> Part:
    expected, optional = task.card.splits[split].examples, task.card.splits[split].optional
    wrong = list(_checksums(task, split))
    try:
        examples = task.examples(split)
    except Fault as fault:
        if optional and not _files_here(task, split):
            return Part(name, split, 0, expected, 0, 0, tuple(wrong), (fault.wrong,))
        return Part(name, split, 0, expected, 0, 0, (*wrong, fault.wrong))
    count = task.count(split)
    if expected and count != expected:
        wrong.append(f"{count:,} examples, but the card says {expected:,}")
    keys = list(dict.fromkeys(key for example in examples for key in example.images))
    if len(keys) < task.card.splits[split].images:
        wrong.append(f"{len(keys):,} of {task.card.splits[split].images:,} images: the others are not asked of")
    files = _image_files(task, split, wrong)
    stored = _stored(task, split, wrong)
    lost = [key for key in keys if key not in files and key not in stored]
    lacks = [f"images neither as files nor as features: {listed(lost)}"] if lost else []
    # Features alone are enough for who has no image files; but who has some has lost the others.
    if any(key in files for key in keys) and (absent := [key for key in keys if key not in files and key in stored]):
        lacks.append(f"image files that are missing, of which only the features are here: {listed(absent)}")
    if not optional:
        wrong += lacks
    broken = list(_broken({key: files[key] for key in keys if key in files}, decoded, f"{name} {split}", progress))
    if broken:
        wrong.append(f"images that cannot be decoded: {listed(broken)}")
    here = len(keys) - len(lost)
    return Part(name, split, count, expected, len(keys), here, tuple(wrong), tuple(lacks) if optional else ())


def _image_files(task: Task, split: str, wrong: list[str]) -> Mapping[str, Path]:
    """Return the image files of a split; where they cannot be read, as in a tar that is cut, none but why."""
    try:
        return task.image_files(split)
    except BadData as fault:
        wrong.append(fault.wrong)
        return {}


def _checksums(task: Task, split: str) -> Iterator[str]:
    for file in task.card.file:
        path = located(task.folder, file.name)
        if file.sha256 and file.split in ("", split) and path.is_file() and sha256(path) != file.sha256:
            yield f"{path}: its sha256 is not the one the card states; it may be cut or of another version"


def _stored(task: Task, split: str, wrong: list[str]) -> set[str]:
    """Return the keys that have stored features in vlbench's own format."""
    keys: set[str] = set()
    for file in task.card.files_of("features", [split]):
        path = (task.folder / file.name).with_suffix(".h5")
        if path.is_file():
            try:
                keys |= set(FeatureFile(path).keys)
            except BadData as fault:
                wrong.append(fault.wrong)
    return keys


def _broken(files: dict[str, Path], decoded: dict[Path, str], what: str, progress: Progress) -> Iterator[str]:
    """Yield the keys of images that cannot be decoded; each file is opened once however many tasks show it."""
    for number, (key, path) in enumerate(files.items(), 1):
        if path not in decoded:
            try:
                open_picture(path, key)
                decoded[path] = ""
            except BadData as fault:
                decoded[path] = fault.wrong
        if decoded[path]:
            yield key
        if number % 500 == 0 or number == len(files):
            progress(number, len(files), what)


def as_rows(parts: Iterable[Part]) -> list[dict[str, Any]]:
    """Return parts as plain values for JSON."""
    return [{**part._asdict(), "wrong": list(part.wrong), "lacks": list(part.lacks)} for part in parts]

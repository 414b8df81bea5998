"""Corpora on disk: which are here, whether what is here is whole, and what of it evaluation sets show too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from vlbench.cards import CorpusCard, TaskCard
from vlbench.catalog import card_names, cards, find_corpus, find_dataset
from vlbench.corpora.corpus import Corpus
from vlbench.corpora.duplicates import Compared, near_duplicates, pictures_of
from vlbench.corpora.opening import open_corpus
from vlbench.corpora.sources import Readable
from vlbench.data.transforms import open_picture
from vlbench.made import made_folder, open_made, placed
from vlbench.plugins import load_code
from vlbench.tasks.base import Task
from vlbench.tasks.places import located
from vlbench.tasks.reading import listed
from vlbench.types import BadData, Misuse, Progress, quiet
from vlbench.world.checking import read_manifest
from vlbench.world.layout import FILES, MANIFEST


class CorpusHere(NamedTuple):
    """Whether a corpus is here."""

    corpus: str
    name: str
    layout: str
    examples: int | None
    """As published; None where no source of ours states it."""
    regions: bool
    """Whether it has region features, for the methods that see regions."""
    state: str
    """here, in part, made when first used, of another version (a made-up world to be made anew), or not here."""
    get: str
    """What to type, or where to go, to have it."""


class CorpusPart(NamedTuple):
    """What was found of a corpus."""

    corpus: str
    examples: int
    expected: int
    """By the card; 0 where it does not say."""
    images: int
    at_hand: int
    """Of them, those that are here and can be decoded."""
    wrong: tuple[str, ...]
    """What is wrong, a line each, with the first ten ids."""


def list_corpora(data: Path) -> list[CorpusHere]:
    """Say of every corpus that has a card whether it is here; nothing is read."""
    return [_here(find_corpus(name), data) for name in card_names(CorpusCard)]


def _here(card: CorpusCard, data: Path) -> CorpusHere:
    regions = any(file.role == "features" for file in card.file)
    return CorpusHere(card.id, card.name, card.layout, card.examples or None, regions, _state(card, data), card.home)


def _state(card: CorpusCard, data: Path) -> str:
    if card.made:
        try:
            return "here" if (made_folder(card.made, data) / MANIFEST).is_file() else "made when first used"
        except BadData:
            return "of another version"
    folder = data / placed(card, data).folder
    wanted = [file.name for file in card.file if file.role not in ("images", "features")]
    wanted = wanted or [file.name for file in card.file]  # images without texts
    found = [name for name in wanted if located(folder, name).exists() or any(folder.glob(name))]
    return "not here" if not found else "here" if len(found) == len(wanted) else "in part"


def check_corpus(name: str, data: Path, *, progress: Progress = quiet) -> CorpusPart:
    """Read every record of a corpus, count its examples, and decode each of its images; nothing is changed."""
    card = open_made(find_corpus(name), data, progress=progress)
    try:
        corpus = open_corpus(card, data, progress=progress)
    except BadData as fault:
        return CorpusPart(card.id, 0, card.examples, 0, 0, (fault.wrong,))
    wrong, expected = [] if len(corpus) else ["holds no example"], _expected(card, data)
    if expected and len(corpus) != expected:
        wrong.append(f"{len(corpus):,} examples, but the card says {expected:,}")
    looked = _look(corpus, card.id, progress)
    wrong += [f"{why}: {listed(keys)}" for why, keys in looked.lost.items() if keys]
    at_hand = looked.images - sum(map(len, looked.lost.values()))
    return CorpusPart(card.id, len(corpus), expected, looked.images, at_hand, tuple(wrong))


def _expected(card: CorpusCard, data: Path) -> int:
    """Return how many examples a corpus has by its card; a made-up one by the manifest of the world that is here."""
    if not card.made:
        return card.examples
    written = {name: f"{role}-{split}" if split else role for split, files in FILES["corpora"].items()
               for role, name in files.items()}  # fmt: skip
    names = (written.get(file.name, "") for file in card.file if file.role == "texts")
    stated = read_manifest(made_folder(card.made, data)).tasks.get("corpora", {})
    counts = [stated[name]["images" if card.layout == "pairs" else "examples"] for name in names if name in stated]
    return sum(counts) or card.examples


class _Looked(NamedTuple):
    images: int
    lost: dict[str, list[str]]
    """Why -> the images it is true of."""


def _look(corpus: Corpus, name: str, progress: Progress) -> _Looked:
    """Decode the pictures of a corpus, one after the other; those several examples in a row show, once."""
    lost: dict[str, list[str]] = {"images that are not here": [], "images that cannot be decoded": []}
    missing, broken = lost.values()
    images = 0
    for key, readable in pictures_of(corpus):
        images += 1
        if readable is None:
            missing.append(key)
        elif not _decodes(readable, key):
            broken.append(f"{key} ({readable})")
        progress(images, max(images, len(corpus)), f"images of {name}")
    return _Looked(images, lost)


def _decodes(readable: Readable, key: str) -> bool:
    try:
        open_picture(readable, key)
    except BadData:
        return False
    return True


def compare_pictures(corpus: str, dataset: str, data: Path, *, progress: Progress = quiet) -> Compared:
    """Find the pictures of a corpus that are nearly those a data set asks about, by perceptual hash."""
    card = open_made(find_corpus(corpus), data, progress=progress)
    if card.kind == "texts":
        raise Misuse(f"{corpus} holds texts alone, no pictures", "see: vlbench list corpora")
    return near_duplicates(
        pictures_of(open_corpus(card, data, progress=progress)), list(_asked(dataset, data, progress)), progress
    )


def _asked(dataset: str, data: Path, progress: Progress) -> Iterator[tuple[str, Readable | None]]:
    """Yield the pictures of the splits that are not trained on, of all tasks of a data set, each once."""
    tasks = [card for card in cards(TaskCard) if dataset in card.datasets]
    if not tasks:
        raise Misuse(f"no task is asked on '{dataset}'", "see: vlbench list datasets")
    seen: set[str] = set()
    for asked in tasks:
        card = open_made(find_dataset(dataset, asked.id), data, progress=progress)
        task: Task = load_code(asked.code, Task)(card, data)
        learned = card.recipe.get("train_splits", ["train"])
        for split in task.splits:
            if split in learned or card.splits[split].of in learned:
                continue
            for key, path in _pictures(task, split).items():
                if key not in seen:
                    seen.add(key)
                    yield key, path


def _pictures(task: Task, split: str) -> Mapping[str, Path]:
    """Return the picture files of a split; of an optional one that is not here, none."""
    try:
        return task.image_files(split)
    except BadData:
        if task.card.splits[split].optional:
            return {}
        raise

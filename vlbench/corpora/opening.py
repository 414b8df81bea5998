"""Open a corpus by its card."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from vlbench.cards import CorpusCard
from vlbench.corpora.corpus import Corpus, named_files
from vlbench.corpora.lines import Lines
from vlbench.corpora.lxmert import Sentences
from vlbench.corpora.pairs import Pairs
from vlbench.corpora.pictures import Pictures
from vlbench.corpora.shards import Shards
from vlbench.corpora.sources import known_sha256
from vlbench.corpora.table import Rows
from vlbench.tasks.pictures import holds_pictures
from vlbench.tasks.places import located
from vlbench.types import BadData, Misuse, Progress, quiet


class _Found(NamedTuple):
    """What is on disk of a corpus."""

    texts: list[Path]
    beside: list[Path]
    images: list[Path]
    todo: str


def open_corpus(card: CorpusCard, root: Path, *, progress: Progress = quiet) -> Corpus:
    """Open the corpus of a card, whose folder is below ``root``; indexes are made where the cache has none.

    BadData where a file is missing or faulty; images need not be here. The card of a made-up corpus is given with
    the folder it lies in.
    """
    if ":" in card.id or not card.id:
        raise Misuse(f"{card.path}: a corpus cannot be called '{card.id}'", "rename the card; ids are CORPUS:RECORD")
    return _OPENERS[card.layout](card, _find(card, root), progress)


def texts_of(card: CorpusCard, root: Path) -> dict[str, Path]:
    """Name the files that a corpus's examples are read from as ``Corpus.files`` does, without reading any."""
    if card.layout == "pictures":
        return {}
    found = _find(card, root)
    return named_files([*found.texts, *(found.beside if card.layout == "lxmert" else [])])


def image_folders(card: CorpusCard, data: Path) -> list[Path]:
    """Return where the images of a corpus are, the card given with its folder; BadData where none of them is here."""
    places = [located(data / card.folder, file.name) for file in card.file if file.role == "images"]
    if not any(holds_pictures(place) for place in places):
        named = ", ".join(map(str, places)) or f"{card.path} names no folder of images"
        raise BadData(f"{card.id} has no images here: {named}", f"get them from {card.home}, or choose another corpus")
    return places


def hashes_of(card: CorpusCard, root: Path) -> dict[str, str]:
    """Hash what a corpus's examples are read from as ``Corpus.hashes`` does, without reading any."""
    if card.layout == "pictures":
        return open_corpus(card, root).hashes()
    return {name: known_sha256(path) for name, path in texts_of(card, root).items()}


def _find(card: CorpusCard, root: Path) -> _Found:
    folder = root / card.folder
    found = _Found([], [], [], todo := _advice(card, folder))
    for file in card.file:
        path = located(folder, file.name)
        if file.role in ("texts", "shards"):
            found.texts.extend(_matching(folder, file.name, path, todo))
        elif file.role == "images":
            found.images.append(path)
        elif file.role == "answers":
            found.beside.append(path)
    if not found.texts and card.layout != "pictures":
        raise BadData(f"{card.path}: names no file with the role 'texts' or 'shards'")
    return found


def _advice(card: CorpusCard, folder: Path) -> str:
    """Say how to come by a corpus."""
    if card.made:
        return f"make the world anew: {card.home}"
    if not card.home:
        return f"{card.name} is not given out; put your own into {folder}, or take others: --set corpora=cc3m,sbu"
    return f"get it from {card.home} and put it into {folder}"


def _matching(folder: Path, name: str, path: Path, todo: str) -> list[Path]:
    """Return the files that a name with * and ? stands for, in order; else the one that is named."""
    if not any(mark in name for mark in "*?["):
        return [path]
    found = sorted(folder.glob(name))
    if not found:
        raise BadData(f"there is no file {folder / name}", todo)
    return found


def _pairs(card: CorpusCard, found: _Found, progress: Progress) -> Corpus:
    return Pairs(card.id, found.texts, found.images, todo=found.todo, progress=progress)


def _lxmert(card: CorpusCard, found: _Found, progress: Progress) -> Corpus:
    for path in found.beside:
        if not path.is_file():
            raise BadData(f"there is no file {path}", found.todo)
    return Sentences(card.id, found.texts, found.images, beside=found.beside, todo=found.todo, progress=progress)


def _table(card: CorpusCard, found: _Found, progress: Progress) -> Corpus:
    return Rows(card.id, found.texts, found.images, card.table, todo=found.todo, progress=progress)


def _shards(card: CorpusCard, found: _Found, progress: Progress) -> Corpus:
    return Shards(card.id, found.texts, todo=found.todo, progress=progress)


def _lines(card: CorpusCard, found: _Found, progress: Progress) -> Corpus:
    return Lines(card.id, found.texts, todo=found.todo, progress=progress)


def _pictures(card: CorpusCard, found: _Found, progress: Progress) -> Corpus:
    folder = next((path for path in found.images if path.is_dir()), None)
    if folder is None:
        named = f"there is no folder {found.images[0]}" if found.images else f"{card.path}: names no folder of images"
        raise BadData(named, found.todo)
    return Pictures(card.id, folder, progress=progress)


_OPENERS: dict[str, Callable[[CorpusCard, _Found, Progress], Corpus]] = {
    "pairs": _pairs,
    "lxmert": _lxmert,
    "table": _table,
    "shards": _shards,
    "lines": _lines,
    "pictures": _pictures,
}

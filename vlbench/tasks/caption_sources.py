"""Which captioned images a split has: the layout ``captions``, shared by retrieval and captioning.

The card names the files of annotations; one that names no split is of all of them (Karpathy's), and ``train`` takes
Karpathy's ``restval`` in. Where none of them is here, what authors hand out instead is looked for under its usual
names: ``*_SPLIT.json`` (ALBEF, BLIP), ``SPLIT_ann.jsonl`` (ViLBERT, VOLTA), or ``*.token`` (Flickr30k) with the list
``SPLIT.txt`` of a split's images. A split that is part of another is what its file of ids lists, as many as the card
says, or else a domain of nocaps (``val-near`` is the near-domain part of ``val``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from vlbench.cards import DatasetCard
from vlbench.tasks.karpathy_files import PARTS, Pictured, read_pictured
from vlbench.tasks.pictures import pictures_in
from vlbench.tasks.places import file_of, located, where_to_get
from vlbench.tasks.reading import refuse
from vlbench.tasks.records import check_once, read_bytes
from vlbench.types import BadData

LAYOUT = "captions"
_INSTEAD = ("*_{}.json", "{}_ann.jsonl", "*.token")


class CaptionFiles:
    """Reads each file once, and gives every split of it."""

    def __init__(self, card: DatasetCard, folder: Path) -> None:
        """Take the card and the folder of its files; nothing is read yet."""
        if card.layout != LAYOUT:
            raise BadData(f"{card.path}: no layout of captions is called '{card.layout}'", f"known: {LAYOUT}")
        self.card, self.folder = card, folder
        self._files: dict[Path, list[Pictured]] = {}
        self._splits: dict[str, Mapping[str, Pictured]] = {}

    def read(self, split: str) -> Mapping[str, Pictured]:
        """Return the images of a split by id, in the order of its file."""
        if split not in self._splits:
            whole = self.card.splits[split].of
            found = self._part(split, self.read(whole)) if whole else self._whole(split)
            self._splits[split] = {one.id: one for one in found}
        return self._splits[split]

    def files(self, split: str) -> dict[str, Path]:
        """Return the files that a split is read from, by name."""
        whole = self.card.splits[split].of or split
        annotations, ids = self._annotations(whole), file_of(self.card, self.folder, "ids", split)
        if annotations.suffix == ".token":
            ids = ids or self._list_of(whole)
        return {path.name: path for path in (annotations, ids) if path}

    def images(self, split: str) -> dict[str, Path]:
        """Return the image files of a split that are here, by key; COCO's 2017 release calls them by number alone."""
        here: dict[str, Path] = {}
        for file in self.card.file:
            place = located(self.folder, file.name)
            if file.role == "images" and place.exists():
                here = pictures_in(place) | here
        found = {
            one.key: here.get(one.key) or here.get(one.key.rpartition("_")[2]) for one in self.read(split).values()
        }
        return {key: path for key, path in sorted(found.items()) if path}

    @property
    def _todo(self) -> str:
        return where_to_get(self.card, self.folder)

    def _annotations(self, split: str) -> Path:
        """Return the file of a whole split: the card's, or what is here instead of it."""
        named = [
            located(self.folder, file.name)
            for file in self.card.file
            if file.role == "annotations" and file.split in (split, "")
        ]
        if not named:
            raise BadData(f"{self.card.path}: names no file of annotations for the split {split}")
        instead = [path for pattern in _INSTEAD for path in sorted(self.folder.glob(pattern.format(split)))]
        return next((path for path in (*named, *instead) if path.is_file()), named[0])

    def _list_of(self, split: str) -> Path:
        return self.folder / f"{split}.txt"

    def _whole(self, split: str) -> list[Pictured]:
        path = self._annotations(split)
        if path not in self._files:
            self._files[path] = read_pictured(path, self._todo)
        found = self._files[path]
        if path.suffix == ".token":
            return self._listed(self._list_of(split), found, str(path))
        if any(one.part in PARTS for one in found):
            found = [one for one in found if one.part == split or (one.part, split) == ("restval", "train")]
        if not found:
            raise BadData(f"{path}: holds no images of the split {split}", self._todo)
        if self.card.splits[split].public:
            refuse(str(path), "images without a caption", [one.id for one in found if not one.captions], self._todo)
        return found

    def _part(self, split: str, whole: Mapping[str, Pictured]) -> list[Pictured]:
        ids = file_of(self.card, self.folder, "ids", split)
        if ids:
            return self._listed(ids, list(whole.values()), self.card.splits[split].of, self.card.splits[split].images)
        domain = f"{split.removeprefix(f'{self.card.splits[split].of}-')}-domain"
        found = [one for one in whole.values() if one.part == domain]
        if not found:
            raise BadData(f"{self.card.path}: {self.card.splits[split].of} holds nothing of '{domain}'", self._todo)
        return found

    def _listed(self, path: Path, found: list[Pictured], of: str, most: int = 0) -> list[Pictured]:
        """Keep the images that a list names, a name a line, in the list's order; the first ``most`` of them."""
        try:
            names = read_bytes(path, self._todo).decode("utf-8").split()
        except UnicodeDecodeError as error:
            raise BadData(f"{path}: not UTF-8 text: byte {error.start}") from None
        names = [PurePosixPath(name).stem for name in names][: most or None]
        if not names:
            raise BadData(f"{path}: names no images", self._todo)
        check_once(names, str(path), "images that are named more than once")
        known = {name: one for one in found for name in (one.id, one.key)}
        refuse(str(path), f"images that {of} does not hold", [name for name in names if name not in known], self._todo)
        return [known[name] for name in names]

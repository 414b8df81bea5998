"""The layout ``vqa-v2``: official question and annotation files, asked of COCO images; or ALBEF's lists.

The card names the files of each split. A list counts where the official questions of its split are not here. Splits
that are part of val follow LXMERT's list: ``minival`` is what it holds, ``nominival`` the rest.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from vlbench.cards import DatasetCard
from vlbench.metrics.vqa_accuracy import Reference, soft_targets
from vlbench.tasks.pictures import pictures_in
from vlbench.tasks.reading import many_objects
from vlbench.tasks.vqa_files import (
    Annotation,
    Asked,
    Official,
    Question,
    local_file,
    read_local_ids,
    read_official,
)
from vlbench.tasks.vqa_lists import read_list
from vlbench.types import BadData, Example

_NAMED = re.compile(r"mscoco_([^_]+)_questions\.json$")
_HIDDEN = Annotation(Reference(()), "")


class OfficialVQA:
    """Reads official files once, and gives every split of them."""

    one_answer = False

    def __init__(self, card: DatasetCard, folder: Path) -> None:
        self.card, self.folder = card, folder
        self._read: dict[str, Mapping[str, Asked]] = {}
        self._kinds: dict[str, str] = {}
        for name, split in card.splits.items():
            if split.of and (split.of not in card.splits or card.splits[split.of].of):
                raise BadData(f"{card.path}: splits.{name}: '{split.of}' is no whole split of the card")

    def read(self, split: str) -> Mapping[str, Asked]:
        """Return the questions of a split by id, in the order of the official file."""
        if split not in self._read:
            whole = self.card.splits[split].of
            self._read[split] = self._part(split, self.read(whole)) if whole else self._whole(split)
        return self._read[split]

    def files(self, split: str) -> dict[str, Path]:
        """Return the question, annotation and local-split files of a split."""
        whole = self.card.splits[split].of
        listed = self._list(whole or split)
        paths = [listed] if listed else [self._questions(whole or split), self._annotations(whole or split)]
        paths += [self.answer_list] if listed else []
        paths += [local_file(self.folder)] if whole else []
        return {path.name: path for path in paths if path}

    @property
    def answer_list(self) -> Path | None:
        """The closed list that belongs to ALBEF's lists, where that is here and the answer list would be made of them.

        None too where official files are read: their answers are counted as before.
        """
        listed = [self._list(self.card.splits[split].of or split) for split in self.card.answer_splits]
        names = (file.name for file in self.card.file if file.role == "answers")
        here = (path for name in names if (path := self.folder / name).is_file())
        return next(here, None) if listed and all(listed) else None

    def images(self, split: str) -> dict[str, Path]:
        """Return the COCO images that are here, by key; none where their folder is not."""
        whole = self.card.splits[split].of or split
        named = (self._named("images", name) for name in (whole, whole.replace("test-dev", "test"), ""))
        folder = next((path for path in named if path), None)
        return pictures_in(folder) if folder else {}

    def kind(self, example: Example) -> str:
        """Return the official answer type, spelt as in the names of metrics; empty where not public."""
        return self._kinds.get(example.id, "")

    @property
    def _todo(self) -> str:
        return f"get it from {self.card.home} and put it into {self.folder}"

    def _named(self, role: str, split: str) -> Path | None:
        """Return the file of a role that the card names for a split."""
        named = (f.name for f in self.card.file if (f.role, f.split, f.alone) == (role, split, False))
        return next((self.folder / name for name in named), None)

    def _list(self, split: str) -> Path | None:
        """Return the list that a split is read from; None where it is read from its official files."""
        official = self._named("questions", split)
        names = (file.name for file in self.card.file if file.alone and file.split == split)
        paths = [self.folder / name for name in names]
        if official is None:
            return next(iter(paths), None)
        return None if official.is_file() else next((path for path in paths if path.is_file()), None)

    def _questions(self, split: str) -> Path:
        path = self._named("questions", split)
        if path is None:
            raise BadData(f"{self.card.path}: names no file of questions for the split {split}")
        return path

    def _annotations(self, split: str) -> Path | None:
        if not self.card.splits[split].public:
            return None
        path = self._named("annotations", split)
        if path is None:
            raise BadData(f"{self.card.path}: names no file of annotations for the split {split}")
        return path

    def _whole(self, split: str) -> dict[str, Asked]:
        if listed := self._list(split):
            return read_list(listed, self._todo, public=self.card.splits[split].public)
        questions = self._questions(split)
        official = read_official(questions, self._annotations(split), self._todo, _subtypes(questions))
        self._kinds |= {
            str(identity): annotation.reference.answer_type.replace("/", "_")
            for identity, annotation in official.annotations.items()
        }
        with many_objects():
            return _join(official)

    def _part(self, split: str, whole: Mapping[str, Asked]) -> dict[str, Asked]:
        """Return minival, or (any other name) what it leaves of the whole."""
        images = {identity: asked.example.images[0] for identity, asked in whole.items()}
        local = read_local_ids(self.folder, images, self._todo)
        return {i: asked for i, asked in whole.items() if (i in local) == (split == "minival")}


def _subtypes(questions: Path) -> tuple[str, ...]:
    """Return what a question file may call its split, by its official name; empty where it has another name."""
    named = _NAMED.search(questions.name)
    if not named:
        return ()
    # test-dev is a part of test; whether its file says so by its name or by that of the whole is not documented.
    return tuple(dict.fromkeys((named[1], named[1].replace("test-dev", "test"))))


def _join(official: Official) -> dict[str, Asked]:
    targets: dict[object, Mapping[str, float]] = {}
    return {
        str(identity): _ask(identity, question, official, targets) for identity, question in official.questions.items()
    }


def _ask(identity: int, question: Question, official: Official, targets: dict[object, Mapping[str, float]]) -> Asked:
    reference, majority, _ = official.annotations.get(identity, _HIDDEN)
    image = f"COCO_{official.coco}_{question.image:012d}"
    soft = None
    if reference.answers:
        # Many questions have the same answers; they share one mapping.
        key = frozenset(Counter(reference.answers).items())
        soft = targets.setdefault(key, soft_targets(reference.answers))
    return Asked(Example(str(identity), (image,), (question.text,), soft), reference, majority)

"""The layout ``easy-vqa``: questions on coloured shapes, inside the Python package easy-vqa (Zhou 2019)."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

from vlbench.cards import DatasetCard
from vlbench.metrics.vqa_accuracy import Reference
from vlbench.tasks.reading import describe, read_json
from vlbench.tasks.vqa_files import Asked
from vlbench.types import BadData, Example, Fault

ANNOTATORS = 10
"""One answer counts as if so many people had given it."""
SHAPES = ("circle", "rectangle", "triangle")


class EasyVQA:
    """Reads the package's files without importing it, as that would import what it draws with."""

    one_answer = True
    answer_list: Path | None = None

    def __init__(self, card: DatasetCard, folder: Path) -> None:
        self.card = card
        self._read: dict[str, dict[str, Asked]] = {}

    def read(self, split: str) -> Mapping[str, Asked]:
        """Return the questions of a split by id, which is their position in the file."""
        if split not in self._read:
            path = self._folder(split) / "questions.json"
            rows = read_json(path, f"install the package again: pip install {self.card.id}")
            if not isinstance(rows, list) or not rows:
                raise BadData(f"{path}: expected a list of questions, found {describe(rows)}")
            self._read[split] = {str(at): _take(row, at, split, path) for at, row in enumerate(rows)}
        return self._read[split]

    def files(self, split: str) -> dict[str, Path]:
        """Return the question file of a split."""
        return {f"{split}/questions.json": self._folder(split) / "questions.json"}

    def images(self, split: str) -> dict[str, Path]:
        """Return the image files of a split; keys name the split, as numbers begin again in each."""
        return {f"{split}/{path.stem}": path for path in (self._folder(split) / "images").glob("*.png")}

    def kind(self, example: Example) -> str:
        """Return the kind of an answer: yes_no, shape or color."""
        return _kind(str(example.answer))

    def _folder(self, split: str) -> Path:
        name = self.card.package or "easy_vqa"
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            spec = None
        places = spec.submodule_search_locations if spec else None
        if not places:
            raise Fault(f"{self.card.name} is not here", f"install it: pip install {self.card.id}")
        return Path(next(iter(places))) / "data" / split


def _take(row: object, at: int, split: str, path: Path) -> Asked:
    if not isinstance(row, list) or [type(part) for part in row] != [str, str, int]:
        raise BadData(f"{path}: [{at}]: expected [question, answer, image number], found {describe(row)}")
    text, answer, image = row
    reference = Reference((answer,) * ANNOTATORS, _kind(answer))
    return Asked(Example(str(at), (f"{split}/{image}",), (text,), answer), reference, answer)


def _kind(answer: str) -> str:
    if answer in ("yes", "no"):
        return "yes_no"
    return "shape" if answer in SHAPES else "color"

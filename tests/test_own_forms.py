"""A task of one's own, in one file, of every form of answer: what README says such a file gives and is given."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Command = Callable[..., Any]

HEAD = """
from vlbench.tasks.base import Task
from vlbench.types import Example

COLOURS = ("red", "blue", "green")


class Squares(Task):
    def image_files(self, split):
        return {path.stem: path for path in self.folder.glob(f"{split}*.png")}

    def keys(self, split):
        return sorted(self.image_files(split))

    def colour(self, key):
        return COLOURS[int(key[-2:]) % 3]
"""

FORMS = {
    "compare": """
    form = "compare"

    def examples(self, split):
        keys = self.keys(split)
        pairs = [*zip(keys, keys[1:]), *zip(keys, keys[3:])]
        return [
            Example(f"{a}-{b}", (a, b), ("both are alike",), str(self.colour(a) == self.colour(b))) for a, b in pairs
        ]

    def score(self, given, split, scorer=""):
        asked = self.answered(given, split)
        return self.tally(asked, [self.wording(given[e.id]) == e.answer for e in asked], "exact")
""",
    "choose": """
    form = "choose"

    def examples(self, split):
        texts = tuple(f"a {colour} square" for colour in COLOURS)
        return [Example(key, (key,), texts, COLOURS.index(self.colour(key))) for key in self.keys(split)]

    def score(self, given, split, scorer=""):
        asked = self.answered(given, split)
        return self.tally(asked, [given[e.id].best == e.answer for e in asked], "exact")
""",
    "point": """
    form = "point"

    def examples(self, split):
        return [Example(key, (key,), ("the square",), (0.1, 0.1, 0.5, 0.75)) for key in self.keys(split)]

    def score(self, given, split, scorer=""):
        asked = self.answered(given, split)
        near = [sum(abs(a - b) for a, b in zip(given[e.id], e.answer)) < 0.2 for e in asked]
        return self.tally(asked, near, "near")
""",
    "match": """
    form = "match"

    def examples(self, split):
        return [Example(key, (key,), (f"a {self.colour(key)} square, number {key[-2:]}",)) for key in self.keys(split)]

    def score(self, given, split, scorer=""):
        asked = self.answered(given, split)
        likes = [[given[a.id].image @ given[b.id].text for b in asked] for a in asked]
        return self.tally(asked, [row[at] == max(row) for at, row in enumerate(likes)], "first")
""",
    "write": """
    form = "write"

    def examples(self, split):
        return [Example(key, (key,), ("",), (f"a {self.colour(key)} square",)) for key in self.keys(split)]

    def score(self, given, split, scorer=""):
        asked = self.answered(given, split)
        return self.tally(asked, [given[e.id] in e.answer for e in asked], "exact")
""",
}
SHAPES: dict[str, Callable[[Any], bool]] = {
    "compare": lambda answer: answer in (0, 1),
    "choose": lambda answer: abs(sum(answer) - 1) < 1e-3 and len(answer) == 3,
    "point": lambda answer: len(answer) == 4,
    "match": lambda answer: len(answer["image"]) == len(answer["text"]) and answer["match"] is None,
    "write": lambda answer: isinstance(answer, str),
}
"""What an answer of every form looks like in the answer file."""
METHODS = {"compare": "mcan", "choose": "coca", "point": "lxmert", "match": "vlmo", "write": "blip"}


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    """Coloured squares of three colours as PNG files."""
    folder = tmp_path / "squares"
    folder.mkdir()
    for split in ("train", "val"):
        for number in range(12):
            picture = Image.new("RGB", (32, 32), "white")
            picture.paste(("red", "blue", "green")[number % 3], (4, 4, 16, 24))
            picture.save(folder / f"{split}{number:02}.png")
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_a_task_of_every_form(command: Command, squares: Path, tmp_path: Path, form: str) -> None:
    path = tmp_path / f"my_{form}.py"
    path.write_text(HEAD + FORMS[form])
    typed = ("--data", squares, "--set", "steps=3", "--set", "batch=6", "--no-mlflow", "--json")
    done = command("run", METHODS[form], path, *typed)
    assert done.code == 0, done.err
    (record,) = json.loads(done.out)["runs"]
    assert record["steps"] == 3
    (score,) = record["scores"]["val"].values()
    assert score["count"] == (20 if form == "compare" else 12)
    assert 0 <= score["value"] <= 100
    assert "image-shuffled" in record["controls"]
    answers = json.loads((Path(record["folder"]) / record["answers"]["val"]).read_text())
    assert len(answers) == score["count"]
    assert all(SHAPES[form](one["answer"]) for one in answers)

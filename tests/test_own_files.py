"""A model, a task and cards of one's own: from a file or a package beside vlbench, without a change in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vlbench.paths import card_folder

Command = Callable[..., Any]

MODEL = '''
"""The mean of the words beside the mean of the regions."""

import torch
from torch import nn

from vlbench.models.base import Model
from vlbench.types import States


class Means(Model):
    sees = "regions"

    def __init__(self, vocabulary: int, feature_dim: int, width: int = 16) -> None:
        super().__init__()
        self.width = width
        self.words, self.regions = nn.Embedding(vocabulary, width), nn.Linear(feature_dim, width)

    def encode(self, image, text):
        words, regions = self.words(text.tokens), self.regions(image.values)
        words = words if text.rows is None else words[text.rows]
        regions = regions if image.rows is None else regions[image.rows]
        return States(words, regions, torch.tanh(words.mean(1) * regions.mean(1)))

    def losses(self, batch):
        return {"size": self.encode(batch.image, batch.text).pooled.square().mean()}
'''

TASK = '''
"""What colour is the square?"""

import csv

from vlbench.record import Score
from vlbench.tasks.base import Task
from vlbench.types import Example


class Colours(Task):
    form = "classify"

    def examples(self, split):
        with (self.folder / f"{split}.csv").open() as file:
            rows = list(csv.reader(file))
        return [Example(f"{split}-{row}", (image,), (text,), answer) for row, (image, text, answer) in enumerate(rows)]

    def score(self, given, split, scorer=""):
        examples = self.answered(given, split)
        return self.tally(examples, [self.wording(given[e.id]) == e.answer for e in examples], "own")

    def image_files(self, split):
        return {path.stem: path for path in self.folder.glob("*.png")}
'''


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    """Coloured squares as PNG files, and questions on them as CSV."""
    folder = tmp_path / "squares"
    folder.mkdir()
    for split in ("train", "val"):
        rows = []
        for number in range(16):
            colour = ("red", "blue", "green")[number % 3]
            picture = Image.new("RGB", (32, 32), "white")
            picture.paste(colour, (4, 4, 10 + number, 24))
            picture.save(folder / f"{split}{number}.png")
            rows.append(f"{split}{number},which colour is it?,{colour}\n")
        (folder / f"{split}.csv").write_text("".join(rows))
    return folder


PIXEL_MODEL = (
    MODEL.replace('sees = "regions"', 'sees = "pixels"')
    .replace("vocabulary: int, feature_dim: int, width", "vocabulary: int, image_size: int, width")
    .replace("nn.Linear(feature_dim, width)", "nn.Conv2d(3, width, 8, 8)")
    .replace("self.regions(image.values)", "self.regions(image.values).flatten(2).transpose(1, 2)")
)


def test_a_model_that_sees_pixels(command: Command, squares: Path, tmp_path: Path) -> None:
    """It is given the image files, resized as asked and normalised."""
    model, task = tmp_path / "pixel_model.py", tmp_path / "colours.py"
    model.write_text(PIXEL_MODEL)
    task.write_text(TASK)
    typed = ("--data", squares, "--set", "steps=4", "--set", "batch=8", "--json", "--no-mlflow")
    for size in (16, 32):
        done = command("run", model, task, *typed, "--set", f"image_size={size}")
        assert done.code == 0, done.err
        (record,) = json.loads(done.out)["runs"]
        assert record["scores"]["val"]["accuracy"]["count"] == 16


def test_a_model_of_ones_own(command: Command, vqa_v2: Path, tmp_path: Path) -> None:
    path = tmp_path / "my_model.py"
    path.write_text(MODEL)
    typed = ("--dataset", "vqa-v2", "--data", vqa_v2, "--set", "steps=4", "--set", "batch=16", "--json", "--no-mlflow")
    done = command("run", path, "vqa", *typed)
    assert done.code == 0, done.err
    (record,) = json.loads(done.out)["runs"]
    assert record["method"] == "my-model"
    assert record["steps"] == 4
    assert record["scores"]["val"]["accuracy"]["count"] == 24
    assert "card:model" in record["inputs"]  # the file's hash
    again = command("evaluate", path, "vqa", *typed[:4], "--start", f"run:{record['id']}", "--json", "--no-mlflow")
    assert again.code == 0, again.err
    assert json.loads(again.out)["runs"][0]["scores"] == record["scores"]
    shown = command("run", path, "vqa", *[word for word in typed if word != "--json"])
    assert shown.code == 0, shown.err


def test_a_changed_file_is_a_new_run(command: Command, squares: Path, tmp_path: Path) -> None:
    """A finished run is shown again only while what it was made of is the same."""
    model, task = tmp_path / "my_model.py", tmp_path / "colours.py"
    model.write_text(MODEL)
    task.write_text(TASK)
    typed = ("run", model, task, "--data", squares, "--set", "steps=3", "--set", "batch=8", "--json", "--no-mlflow")

    def made() -> str:
        done = command(*typed)
        assert done.code == 0, done.err
        return str(json.loads(done.out)["runs"][0]["id"])

    first = made()
    assert made() == first
    model.write_text(MODEL.replace("width: int = 16", "width: int = 24"))
    second = made()
    assert second != first
    rows = (squares / "val.csv").read_text().replace("red", "green")
    (squares / "val.csv").write_text(rows)
    assert made() not in (first, second)


def test_a_task_of_ones_own(command: Command, squares: Path, tmp_path: Path) -> None:
    path = tmp_path / "my_task.py"
    path.write_text(TASK)
    typed = ("--data", squares, "--set", "steps=4", "--set", "batch=8", "--no-mlflow")
    done = command("run", "lxmert", path, *typed, "--json")
    assert done.code == 0, done.err
    (record,) = json.loads(done.out)["runs"]
    assert (record["task"], record["dataset"]) == ("my-task", "my-task")
    assert record["scores"]["val"]["accuracy"]["count"] == 16
    assert set(record["controls"]) == {"prior", "question-only", "image-shuffled"}
    answers = json.loads((Path(record["folder"]) / "answers-val.json").read_text())
    assert [one["id"] for one in answers] == [f"val-{row}" for row in range(16)]
    planned = command("run", "lxmert", path, *typed, "--dry-run", "--json")
    assert planned.code == 0, planned.err
    assert json.loads(planned.out)["plans"][0]["missing"] == []


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (", answer) for row", ", answer[7]) for row", ("my_task.py, line", "IndexError")),
        ("text,), answer)", "text,), 3)", ("train-0: the answer 3 is a place in a list, and this task has no list",)),
        ("== e.answer", "== e.answers", ("my_task.py, line", "AttributeError")),
    ],
    ids=["a part of a row that is not there", "an answer that is none", "a name that is wrong"],
)
def test_a_task_with_a_fault(
    command: Command, squares: Path, tmp_path: Path, before: str, after: str, words: tuple[str, ...]
) -> None:
    assert before in TASK
    path = tmp_path / "my_task.py"
    path.write_text(TASK.replace(before, after))
    done = command("run", "lxmert", path, "--data", squares, "--set", "steps=2", "--set", "batch=8", "--no-mlflow")
    assert done.code in (1, 3)
    assert len(done.complaints) == 1
    assert "fault of vlbench" not in done.err
    for word in words:
        assert word in done.complaints[0]


def test_a_model_and_a_task_of_ones_own(command: Command, squares: Path, tmp_path: Path) -> None:
    (tmp_path / "my_model.py").write_text(MODEL)
    (tmp_path / "my_task.py").write_text(TASK)
    typed = ("--data", squares, "--set", "steps=2", "--set", "batch=8", "--no-mlflow")
    done = command("run", tmp_path / "my_model.py", tmp_path / "my_task.py", *typed)
    assert done.code == 0, done.err
    assert len(list((tmp_path / "runs").rglob("record.json"))) == 1


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("def broken(:\n", 1, ("my_model.py, line 1", "SyntaxError")),
        ("import no_such_package\n", 1, ("my_model.py", "no_such_package")),
        ("x = 3\n", 2, ("0 subclasses of Model",)),
        (MODEL + "\n\nclass Other(Means):\n    pass\n", 2, ("2 subclasses of Model",)),
    ],
)
def test_a_file_that_holds_no_model(
    command: Command, vqa_v2: Path, tmp_path: Path, text: str, code: int, words: tuple[str, ...]
) -> None:
    (tmp_path / "my_model.py").write_text(text)
    typed = ("--dataset", "vqa-v2", "--data", vqa_v2, "--set", "steps=4", "--no-mlflow")
    done = command("run", tmp_path / "my_model.py", "vqa", *typed)
    assert done.code == code
    assert len(done.complaints) == 1
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.complaints[0]


def copied_card(folder: Path, name: str) -> Path:
    """Copy LXMERT's card under another name into a folder of cards."""
    path = folder / "registry" / "models" / f"{name}.toml"
    path.parent.mkdir(parents=True)
    path.write_text((card_folder("registry") / "models" / "lxmert.toml").read_text())
    return path


def methods(done: Any) -> list[str]:
    assert done.code == 0, done.err
    return [row["method"] for row in json.loads(done.out)]


def test_cards_in_folders_of_ones_own(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = methods(command("list", "methods", "--json"))
    copied_card(tmp_path / "a", "first-of-mine")
    copied_card(tmp_path / "b", "second-of-mine")
    monkeypatch.setenv("VLBENCH_CARDS", os.pathsep.join([str(tmp_path / "a"), str(tmp_path / "b")]))
    assert methods(command("list", "methods", "--json")) == sorted([*plain, "first-of-mine", "second-of-mine"])


def test_two_cards_of_one_name(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = copied_card(tmp_path, "lxmert")
    monkeypatch.setenv("VLBENCH_CARDS", str(tmp_path))
    done = command("list", "methods")
    assert done.code == 2
    assert str(own) in done.complaints[0]
    assert str(card_folder("registry") / "models" / "lxmert.toml") in done.complaints[0]


def list_methods_beside(place: Path) -> subprocess.CompletedProcess[str]:
    """List the methods in a process of its own that finds packages in ``place`` too."""
    env = {**os.environ, "PYTHONPATH": str(place), "OMP_NUM_THREADS": "1"}
    env.pop("VLBENCH_CARDS", None)
    return subprocess.run(
        [sys.executable, "-m", "vlbench", "list", "methods", "--json"],
        env=env, cwd=place, capture_output=True, text=True, check=False,
    )  # fmt: skip


def install(place: Path, package: str) -> None:
    """Put down what an installed plug-in leaves: its metadata with the entry point."""
    about = place / "vlbench_more-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: vlbench-more\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[vlbench.cards]\nmore = {package}\n")


def test_cards_of_an_installed_plug_in(tmp_path: Path) -> None:
    install(tmp_path, "vlbench_more")
    (tmp_path / "vlbench_more").mkdir()
    (tmp_path / "vlbench_more" / "__init__.py").write_text(
        "raise ImportError('listing imports no code of a plug-in')\n"
    )
    copied_card(tmp_path / "vlbench_more", "plugged-in")
    done = list_methods_beside(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "plugged-in" in [row["method"] for row in json.loads(done.stdout)]


def test_a_plug_in_whose_package_is_gone(tmp_path: Path) -> None:
    install(tmp_path, "vlbench_more.cards")
    done = list_methods_beside(tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "'more'" in done.stderr
    assert "vlbench_more" in done.stderr

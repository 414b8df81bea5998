"""The README is true: its commands exist, its file tree is the tree, its examples run, as CONTRIBUTING's does.

``python tests/test_readme.py`` writes the tree anew.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from vlbench.record import read_record

ROOT = Path(__file__).resolve().parents[1]
README, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"
BESIDE = {
    ".ci/run": "what CI does: style, types, leaderboards, all tests",
    "CHANGELOG.md": "what users can do that they could not before",
    "CONTRIBUTING.md": "the design in one page, and how we work",
    "LICENSE": "Apache-2.0",
    "Makefile": "check, test, report",
    "pyproject.toml": "build, dependencies, ruff, mypy, pytest",
    "registry/datasets/": "cards: files, splits, counts, licence",
    "registry/models/": "cards: identity, modules, sizes, recipes, checkpoints, departures",
    "registry/published/": "published results, costs and hyper-parameters with their sources",
    "registry/tasks/": "cards: form, metric, data sets",
    "registry/weights/": "official checkpoint names -> ours",
    "reports/capfilt/": "what CapFilt judged, by corpus",
    "reports/leaderboards/": "generated from the records",
    "reports/results/": "checked-in run records",
    "reports/templates/": "how tables become Markdown",
    "suites/": "what is run together, at which budget",
    "tests/": "mirrors vlbench/; official/ holds the evidence",
}


COLUMN = 39
"""Where what a file is for begins: behind the longest path."""


def tree() -> str:
    """Write the file tree, each module with the first line of its docstring."""
    lines = [f"{path:<{COLUMN}}{what}" for path, what in BESIDE.items()]
    for path in sorted((ROOT / "vlbench").rglob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        name = path.relative_to(ROOT).as_posix()
        if path.name == "__init__.py" and path.parent != ROOT / "vlbench":
            name = name.removesuffix("__init__.py")
        first = text.splitlines()[0].rstrip(".")
        lines.append(f"{name:<{COLUMN}}{first}")
    return "```\n" + "\n".join(lines) + "\n```"


def quick_table() -> str:
    """Take the table of own results at size mini from the overview."""
    page = (ROOT / "reports" / "leaderboards" / "README.md").read_text(encoding="utf-8").split("## Size mini\n\n")[1]
    scores = page.split("\n\nMinutes")[0].split("\n## ")[0]
    return scores.replace("](", "](reports/leaderboards/")


def between(mark: str) -> str:
    return README.read_text(encoding="utf-8").split(f"<!-- {mark}: begin -->\n")[1].split(f"\n<!-- {mark}: end -->")[0]


def example(name: str, page: Path = README) -> str:
    """The code block that follows ``<!-- file: name -->``."""
    found = re.search(rf"<!-- file: {re.escape(name)} -->\n```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    assert found, name
    return found[1]


def command(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "VLBENCH_CACHE": str(folder / "cache")}
    return subprocess.run(
        [sys.executable, "-m", "vlbench", *words, "--no-mlflow"],
        cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_the_tree_is_the_tree() -> None:
    assert between("tree") == tree(), "run: python tests/test_readme.py"
    assert all((ROOT / path).exists() for path in BESIDE)
    folders = {p.name for p in ROOT.iterdir() if p.is_dir() and not p.name.startswith((".", "__"))}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    if tracked:
        folders &= {line.split("/")[0] for line in tracked.splitlines()}
    assert folders <= {"vlbench", "registry", "suites", "reports", "tests"}


def test_the_quick_table_is_the_leaderboard() -> None:
    assert between("quick") == quick_table(), "run: python tests/test_readme.py"


def test_every_command_named_exists() -> None:
    from vlbench.cli import app

    verbs = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}
    named = set(re.findall(r"`(?:uv run )?vlbench ([a-z]+)", README.read_text(encoding="utf-8")))
    assert named == verbs | {group.name for group in app.registered_groups}


def test_the_two_lines_and_ci_agree() -> None:
    text = README.read_text(encoding="utf-8")
    assert "\npip install uv && uv run vlbench run lxmert vqa\npip install uv && uv run pytest -n 2\n" in text
    assert "uv run pytest -n 2" in (ROOT / ".ci/run").read_text(encoding="utf-8")


def test_the_result_shown_is_of_a_checked_in_record() -> None:
    shown = between("result")
    records = [read_record(path) for path in (ROOT / "reports/results").rglob("*.json")]
    assert any(record.id in shown for record in records)
    record = next(record for record in records if record.id in shown)
    assert f"{record.scores['test']['accuracy'].value:.2f}" in shown
    assert all(f"{score.value:.2f}" in shown for score in record.controls.values())


def test_the_example_method_runs(tmp_path: Path) -> None:
    (tmp_path / "my_model.py").write_text(example("my_model.py"), encoding="utf-8")
    words = ["run", "./my_model.py", "vqa", "--limit", "200", "--set", "steps=5", "--set", "batch=32", "--json"]
    done = command(words, tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)["runs"][0]
    assert record["method"] == "my-model"
    assert record["scores"]["test"]["accuracy"]["count"] == 200


def write_squares(data: Path, rows: dict[str, list[dict[str, object]]]) -> None:
    """Write a red or a blue square for each row in turn, and the rows, with the name of the image, as a split."""
    data.mkdir()
    generator = np.random.default_rng(0)
    for split, records in rows.items():
        for number, record in enumerate(records):
            pixels = np.full((32, 32, 3), 255, np.uint8)
            left, top = generator.integers(2, 16, 2)
            pixels[top : top + 10, left : left + 10] = [(255, 0, 0), (0, 0, 255)][number % 2]
            Picture.fromarray(pixels).save(data / f"{split}{number}.png")
            record["image"] = f"{split}{number}.png"
        (data / f"{split}.json").write_text(json.dumps(records), encoding="utf-8")


def run_task(name: str, folder: Path) -> dict[str, Any]:
    """Run LXMERT for a few steps on a file of one's own and the data beside it; return the record."""
    sizes = ["--set", "steps=4", "--set", "batch=6"]
    done = command(["run", "lxmert", f"./{name}", "--data", str(folder / "data"), *sizes, "--json"], folder)
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(done.stdout)["runs"][0]
    return record


def test_the_example_task_runs(tmp_path: Path) -> None:
    (tmp_path / "my_task.py").write_text(example("my_task.py"), encoding="utf-8")
    color = "what color is it?"
    write_squares(
        tmp_path / "data",
        {s: [{"question": color, "answer": ("red", "blue")[n % 2]} for n in range(12)] for s in ("train", "val")},
    )
    record = run_task("my_task.py", tmp_path)
    assert record["task"] == "my-task"
    assert record["scores"]["val"]["accuracy"]["count"] == 12
    assert set(record["controls"]) == {"prior", "question-only", "image-shuffled"}


def test_the_example_of_the_contributing_page_runs(tmp_path: Path) -> None:
    (tmp_path / "my_choice.py").write_text(example("my_choice.py", CONTRIBUTING), encoding="utf-8")
    captions = ["a red square", "a blue square"]
    write_squares(
        tmp_path / "data", {s: [{"captions": captions, "right": n % 2} for n in range(12)] for s in ("train", "val")}
    )
    record = run_task("my_choice.py", tmp_path)
    assert record["task"] == "my-choice"
    assert record["scores"]["val"]["accuracy"]["count"] == 12


@pytest.mark.parametrize("path", ["vlbench", "registry", "suites"])
def test_no_placeholders(path: str) -> None:
    """Nothing unfinished is left in what ships."""
    found = [p for p in (ROOT / path).rglob("*") if p.suffix in (".py", ".toml") and "TODO" in p.read_text("utf-8")]
    assert not found


if __name__ == "__main__":
    for mark, content in (("tree", tree()), ("quick", quick_table())):
        head, rest = README.read_text(encoding="utf-8").split(f"<!-- {mark}: begin -->\n")
        tail = rest.split(f"<!-- {mark}: end -->")[1]
        README.write_text(f"{head}<!-- {mark}: begin -->\n{content}\n<!-- {mark}: end -->{tail}", "utf-8")

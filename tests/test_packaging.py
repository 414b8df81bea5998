"""What is built from a clean copy: wheel, sdist, the wheel of the sdist, and an editable install all find the cards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EDITABLE = "import sys; from hatchling.build import build_editable; build_editable(sys.argv[1])"


def python(*words: object, cwd: Path, path: Path | None = None) -> str:
    """Run Python in a process of its own; return what it printed."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VLBENCH_CARDS")}
    env |= {"OMP_NUM_THREADS": "1"} | ({"PYTHONPATH": str(path)} if path else {})
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git would hold, as a fresh clone has it: no empty folder, nothing that is ignored."""
    place = tmp_path_factory.mktemp("clone") / "vlbench"
    listed = ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "-z"]
    names = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():  # deleted ones are listed too
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)
    return place


def build(source: Path, into: Path, *kinds: str) -> Path:
    python("-m", "build", "--no-isolation", "--outdir", into, *kinds, source, cwd=into.parent)
    return into


@pytest.fixture(scope="module")
def wheel(copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel built from the copy."""
    (found,) = build(copy, tmp_path_factory.mktemp("wheel"), "--wheel").glob("*.whl")
    return found


@pytest.fixture(scope="module")
def sdist(copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist built from the copy."""
    (found,) = build(copy, tmp_path_factory.mktemp("sdist"), "--sdist").glob("*.tar.gz")
    return found


@pytest.fixture(scope="module")
def wheel_of_sdist(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel built from the unpacked sdist."""
    place = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(place, filter="data")
    (source,) = place.iterdir()
    (found,) = build(source, tmp_path_factory.mktemp("again"), "--wheel").glob("*.whl")
    return found


def unpacked(wheel: Path, place: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    return place


def test_the_wheel_holds_the_cards_inside_the_package(wheel: Path, copy: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"vlbench"}
    for folder in ("registry", "suites", "reports/templates", "reports/results"):
        held = {path.relative_to(copy).as_posix() for path in (copy / folder).rglob("*") if path.is_file()}
        assert held, folder
        assert {f"vlbench/_data/{name}" for name in held} <= names
    code = {path.relative_to(copy).as_posix() for path in (copy / "vlbench").rglob("*.py")}
    assert code <= names


def test_the_wheel_names_the_command_and_the_plug_in(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
    text = archive.read(name).decode()
    assert "vlbench = vlbench.cli:main" in text
    assert "vlbench = vlbench.proof.pytest_option" in text


def test_the_sdist_gives_the_same_wheel(wheel: Path, wheel_of_sdist: Path) -> None:
    def content(path: Path) -> dict[str, bytes]:
        archive = zipfile.ZipFile(path)
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("RECORD")}

    assert content(wheel) == content(wheel_of_sdist)


def test_the_sdist_holds_the_tests(sdist: Path, copy: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "tests/conftest.py"} <= names
    assert {path.relative_to(copy).as_posix() for path in (copy / "tests").rglob("*.py")} <= names


def check_installed(path: Path, cards: Path, elsewhere: Path) -> None:
    """Check that a process which finds ``path`` first runs from there, with the cards of ``cards``."""
    where = "import vlbench, vlbench.paths as p; print(vlbench.__file__, p.card_folder('registry'), sep='\\n')"
    assert python("-c", where, cwd=elsewhere, path=path).splitlines() == [
        str(path / "vlbench" / "__init__.py"),
        str(cards / "registry"),
    ]
    for what, column in (("methods", "method"), ("tasks", "task"), ("datasets", "dataset"), ("suites", "suite")):
        rows = json.loads(python("-m", "vlbench", "list", what, "--json", cwd=elsewhere, path=path))
        kind = {"methods": "registry/models", "suites": "suites"}.get(what, f"registry/{what}")
        assert [row[column] for row in rows] == sorted(card.stem for card in (ROOT / kind).glob("*.toml"))
    assert json.loads(python("-m", "vlbench", "list", "published", "--json", cwd=elsewhere, path=path))
    recipe = python("-m", "vlbench", "show", "lxmert", "vqa", "--json", cwd=elsewhere, path=path)
    assert "registry/models/lxmert.toml" in recipe


@pytest.mark.parametrize("kind", ["wheel", "wheel_of_sdist"])
def test_an_installed_wheel_finds_its_cards(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    place = unpacked(request.getfixturevalue(kind), tmp_path / "site-packages")
    (tmp_path / "elsewhere").mkdir()
    check_installed(place, place / "vlbench" / "_data", tmp_path / "elsewhere")


def test_an_editable_install_finds_the_checkout(copy: Path, tmp_path: Path) -> None:
    python("-c", EDITABLE, tmp_path, cwd=copy)
    (made,) = tmp_path.glob("*.whl")
    archive = zipfile.ZipFile(made)
    (name,) = (name for name in archive.namelist() if name.endswith(".pth"))
    (place,) = archive.read(name).decode().split()
    assert Path(place) == copy
    check_installed(copy, copy, tmp_path)

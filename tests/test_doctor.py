"""vlbench doctor: what it finds, what it advises, and when it says that something is broken."""

from __future__ import annotations

import json
import os
import tomllib
from importlib.metadata import PackageNotFoundError
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from vlbench import doctor
from vlbench.cards import DatasetCard, ModelCard
from vlbench.catalog import find
from vlbench.doctor import Finding, examine, exit_code, show_doctor


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A data folder, and a runs folder that is not made yet; no cache and no hub of this machine."""
    monkeypatch.setenv("VLBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    data = tmp_path / "data"
    data.mkdir()
    return data, tmp_path / "runs"


def found(findings: list[Finding], area: str, name: str) -> Finding:
    return next(one for one in findings if (one.area, one.name) == (area, name))


def test_what_is_here_is_found_and_a_lack_says_what_to_do(places: tuple[Path, Path]) -> None:
    findings = examine(*places)
    assert exit_code(findings) == 0
    assert found(findings, "packages", "torch").state == "ok"
    assert found(findings, "data sets", "easy-vqa").what.startswith("train: 38,575 questions, 4,000 images")
    missing = found(findings, "data sets", "vqa-v2")
    assert missing.state == "lack"
    assert "v2_mscoco_train2014_annotations.json" in missing.what
    assert "https://visualqa.org" in missing.todo
    assert found(findings, "region features", "vqa-v2").what.startswith("0 of 3")
    assert found(findings, "checkpoints", "lxmert published").state == "lack"
    assert all(one.todo for one in findings if one.state in ("lack", "broken"))
    assert not places[1].exists()  # looked, not made
    assert json.loads(json.dumps([one._asdict() for one in findings], allow_nan=False))


def test_what_is_put_in_place_is_found(places: tuple[Path, Path]) -> None:
    data, runs = places
    card = find(DatasetCard, "vqa-v2")
    (data / card.folder).mkdir()
    for file in card.file:
        suffix = ".h5" if file.role == "features" else Path(file.name).suffix
        (data / card.folder / file.name).with_suffix(suffix).touch()
    checkpoint = data / find(ModelCard, "lxmert").checkpoint[0].file
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"x")
    words = data / "tokenisers" / "bert-base-uncased"
    words.mkdir(parents=True)
    (words / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red"]) + "\n")
    findings = examine(data, runs)
    assert found(findings, "data sets", "vqa-v2").state == "ok"
    assert found(findings, "region features", "vqa-v2").state == "ok"
    assert found(findings, "vocabularies", "bert-base-uncased").what == "6 word pieces"


def test_a_file_of_another_size_is_named(tmp_path: Path) -> None:
    card = find(DatasetCard, "vqa-v2")
    card = card.model_copy(update={"file": (card.file[0].model_copy(update={"bytes": 3}),)})
    path = tmp_path / card.file[0].name
    path.write_bytes(b"abcd")
    assert card.file[0].name in doctor._files(card, tmp_path).what
    path.write_bytes(b"abc")
    assert doctor._files(card, tmp_path).state == "ok"


def test_a_missing_or_old_package_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "missing":
            raise PackageNotFoundError(name)
        return "2.10.1+cu132"

    monkeypatch.setattr(doctor, "version", version)
    assert doctor._package("there>=2.9").state == "ok"
    assert doctor._package("old>=2.11,<3").state == "broken"
    gone = doctor._package("missing[extra]>=1")
    assert (gone.name, gone.state, gone.todo) == ("missing", "broken", 'pip install "missing[extra]>=1"')
    assert exit_code([gone]) == 1


def test_a_runs_folder_that_cannot_be_written_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: "locked" not in str(path))
    (tmp_path / "locked").mkdir()
    runs, data, _ = doctor._folders(tmp_path / "locked", tmp_path / "locked" / "runs")
    assert (runs.state, data.state) == ("broken", "note")
    assert "--out" in runs.todo
    assert exit_code([runs, data]) == 1
    assert doctor._store(f"sqlite:///{tmp_path / 'locked' / 'mlflow.db'}").state == "lack"


def test_a_file_in_place_of_the_runs_folder_is_broken(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("not a folder")
    assert next(iter(doctor._folders(tmp_path, tmp_path / "runs"))).state == "broken"


def test_what_meteor_needs_is_the_extra_of_the_package(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hint names the extra that the package has, as README does."""
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    findings = list(doctor._surroundings(places[1]))
    assert "Java" in found(findings, "tools", "java").todo
    root = Path(__file__).resolve().parents[1]
    extras = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    (extra,) = [name for name, wanted in extras.items() if any("pycocoevalcap" in one for one in wanted)]
    hint = f"pip install 'vlbench[{extra}]'"
    assert found(findings, "tools", "pycocoevalcap").todo == hint
    assert hint in (root / "README.md").read_text("utf-8")


def test_a_server_is_named_without_its_password() -> None:
    finding = doctor._store("https://me:secret@tracking.example.org/path")
    assert "tracking.example.org" in finding.what
    assert "secret" not in finding.what + finding.todo


def test_shown_by_area_with_advice() -> None:
    console = Console(file=StringIO(), width=100)
    findings = [
        Finding("packages", "torch", "ok", "2.5"),
        Finding("data sets", "vqa-v2", "lack", "0 of [10] files", "get them"),
    ]
    assert show_doctor(findings, console) == 0
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "0 of [10] files" in text
    assert "-> get them" in text
    assert "2 looked at, 1 lacking, 0 broken" in text
    assert show_doctor([Finding("packages", "torch", "broken", "gone", "pip install torch")], console) == 1

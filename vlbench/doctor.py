"""What is here and what is not (packages, devices, folders, data, checkpoints), and what to do about a lack.

Looks and changes nothing, downloads nothing. Each area is one function from places to findings.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from itertools import groupby
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from vlbench import __version__
from vlbench.cards import DatasetCard, ModelCard, TaskCard
from vlbench.catalog import cards
from vlbench.paths import cache_root
from vlbench.plugins import load_code
from vlbench.runfolder import this_code
from vlbench.tasks.places import alternatives, first_here, located, wanted_files
from vlbench.tracking import store_uri
from vlbench.types import Fault

State = Literal["ok", "note", "lack", "broken"]
GIGABYTE = 1e9


class Finding(NamedTuple):
    """One thing that was looked at."""

    area: str
    name: str
    state: State
    """``ok``; ``note``: worth knowing; ``lack``: something cannot be done; ``broken``: nothing can."""
    what: str
    todo: str = ""


def examine(data_root: Path, runs_root: Path) -> list[Finding]:
    """Look at everything; ``data_root`` and ``runs_root`` are where data lies and runs are written."""
    return [
        *_packages(),
        *_devices(),
        *_folders(data_root, runs_root),
        *_datasets(data_root),
        *_vocabularies(data_root),
        *_checkpoints(data_root),
        *_surroundings(runs_root),
    ]


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 1 where something essential is broken, else 0: a lack of data is no fault."""
    return int(any(finding.state == "broken" for finding in findings))


def show_doctor(findings: Sequence[Finding], console: Console) -> int:
    """Print the findings by area, each lack with what to do about it; return the exit code."""
    marks = {
        "ok": "[green]ok[/]",
        "note": "[dim]note[/]",
        "lack": "[yellow]lack[/]",
        "broken": "[red]broken[/]",
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for area, found in groupby(findings, key=lambda finding: finding.area):
        table.add_row(f"[bold]{area}[/]", "", "")
        for finding in found:
            todo = f"\n-> {finding.todo}" if finding.todo else ""
            table.add_row(marks[finding.state], _plain(finding.name), _plain(finding.what + todo))
    console.print(table)
    counts = {state: sum(f.state == state for f in findings) for state in ("lack", "broken")}
    console.print(f"{len(findings)} looked at, {counts['lack']} lacking, {counts['broken']} broken", style="bold")
    return exit_code(findings)


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


def _packages() -> Iterator[Finding]:
    """Compare what vlbench requires with what is installed, from metadata alone."""
    place = f"{sys.version.split()[0]} at {sys.executable}"
    old = sys.version_info < (3, 11)
    yield Finding("packages", "python", "broken" if old else "ok", place, "get Python 3.11 or newer" if old else "")
    try:
        wanted = requires("vlbench") or []
    except PackageNotFoundError:
        yield Finding("packages", "vlbench", "note", f"{__version__}, not installed", "pip install -e .")
        return
    yield Finding("packages", "vlbench", "ok", __version__)
    for line in sorted(line for line in wanted if "extra ==" not in line):
        yield _package(line)


def _package(requirement: str) -> Finding:
    """Look for one requirement such as ``torch>=2.5``."""
    name = re.split(r"[^A-Za-z0-9_.-]", requirement.strip(), maxsplit=1)[0]
    least = re.search(r">=\s*([0-9.]+)", requirement)
    todo = f'pip install "{requirement}"'
    try:
        found = version(name)
    except PackageNotFoundError:
        return Finding("packages", name, "broken", "not installed", todo)
    if least and _numbers(found) < _numbers(least[1]):
        return Finding("packages", name, "broken", f"{found}, too old", todo)
    return Finding("packages", name, "ok", found)


def _numbers(text: str) -> tuple[int, ...]:
    """Read a version's release numbers: ``2.15.0+cu132`` -> (2, 15, 0)."""
    release = re.match(r"[0-9.]*", text)
    return tuple(int(part) for part in release[0].split(".") if part) if release else ()


def _devices() -> Iterator[Finding]:
    """Ask torch, which is imported here."""
    try:
        import torch

        from vlbench.engine.devices import processor_count
    except (ImportError, OSError) as error:
        yield Finding(
            "devices",
            "torch",
            "broken",
            f"cannot be imported: {error}",
            "pip install --force-reinstall torch",
        )
        return
    cores = os.cpu_count() or 1
    yield Finding("devices", "cpu", "ok", f"{processor_count()} threads in use of {cores} cores")
    if not torch.cuda.is_available():
        built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built without CUDA"
        yield Finding("devices", "cuda", "note", f"no CUDA device here ({built}); runs use the CPU")
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        yield Finding("devices", f"cuda:{number}", "ok", f"{about.name}, {about.total_memory / GIGABYTE:.0f} GB")


def _folders(data_root: Path, runs_root: Path) -> Iterator[Finding]:
    """Look whether folders are there, can be written, and have room; data need only be read."""
    yield _folder("runs", runs_root, "broken", "choose another with --out or VLBENCH_RUNS")
    yield _folder("data", data_root, "note", "choose another with --data or VLBENCH_DATA")
    yield _folder("cache", cache_root(), "lack", "choose another with VLBENCH_CACHE")


def _folder(name: str, folder: Path, locked: State, advice: str) -> Finding:
    """Look at one folder; ``locked`` is how bad it is if it cannot be written."""
    lowest = _nearest_there(folder.absolute())
    free = shutil.disk_usage(lowest).free
    made = "" if folder.exists() else " (not made yet)"
    what = f"{folder.absolute()}{made}, {free / GIGABYTE:,.1f} GB free"
    if not (lowest.is_dir() and os.access(lowest, os.W_OK | os.X_OK)):
        return Finding("folders", name, locked, f"{what}; cannot be written", advice)
    if free < GIGABYTE:
        return Finding("folders", name, "lack", what, f"free some space, or {advice}")
    return Finding("folders", name, "ok", what)


def _nearest_there(path: Path) -> Path:
    """Return the path, or the lowest folder above it that is there."""
    return next(place for place in (path, *path.parents) if place.exists())


def _datasets(data_root: Path) -> Iterator[Finding]:
    """Look for the files of every data set, then for every data set's region features."""
    known = cards(DatasetCard)
    for card in known:
        yield _packaged(card, data_root) if card.package else _files(card, data_root / card.folder)
    for card in known:
        yield _features(card, data_root / card.folder)


def _packaged(card: DatasetCard, data_root: Path) -> Finding:
    """Read a data set that travels in a package, and compare its counts with the card's."""
    area, task = "data sets", next((task for task in cards(TaskCard) if card.id in task.datasets), None)
    if importlib.util.find_spec(card.package) is None or task is None:
        return Finding(area, card.id, "lack", f"no package {card.package} here", f"pip install {card.id}")
    try:
        opened = load_code(task.code)(card, data_root)
        counts = {name: (len(opened.examples(name)), len(opened.image_files(name))) for name in card.splits}
    except Fault as fault:
        return Finding(area, card.id, "lack", fault.wrong, fault.todo)
    what = "; ".join(f"{name}: {asked:,} questions, {images:,} images" for name, (asked, images) in counts.items())
    if counts != {name: (split.examples, split.images) for name, split in card.splits.items()}:
        return Finding(area, card.id, "lack", f"{what}; the card says otherwise", f"vlbench show {card.id}")
    return Finding(area, card.id, "ok", what)


def _files(card: DatasetCard, folder: Path) -> Finding:
    """Say which official files of a data set are here: all but features, which are looked at apart."""
    area, known = "data sets", [file for file in wanted_files(card) if file.role != "features"]
    wanted = alternatives(known)
    missing = [_any_of([file.name for file in group]) for group in wanted if not first_here(folder, group)]
    here = [(file, located(folder, file.name)) for file in known if file.bytes]
    if cut := [file.name for file, path in here if path.is_file() and path.stat().st_size != file.bytes]:
        what = f"of another size than published: {', '.join(cut)}"
        return Finding(area, card.id, "lack", what, f"get them again at {card.home}")
    if not missing:
        return Finding(area, card.id, "ok", f"all {len(wanted)} files in {folder}")
    what = f"{len(wanted) - len(missing)} of {len(wanted)} files in {folder}; missing: {', '.join(missing)}"
    return Finding(area, card.id, "lack", what, f"get them at {card.home}; see: vlbench show {card.id}")


def _any_of(names: Sequence[str]) -> str:
    """Name a file, and what may be there instead of it."""
    return names[0] + (f" (or {', or '.join(names[1:])})" if names[1:] else "")


def _features(card: DatasetCard, folder: Path) -> Finding:
    """Say which stored region features of a data set are here, as published or in vlbench's own format."""
    wanted = list(dict.fromkeys(folder / file.name for file in card.file if file.role == "features"))
    if not wanted:
        return Finding("region features", card.id, "note", "none published; regions are proposed on the images")
    here = [path for path in wanted if path.exists() or path.with_suffix(".h5").is_file()]
    what = f"{len(here)} of {len(wanted)} files in {folder}"
    if len(here) == len(wanted):
        return Finding("region features", card.id, "ok", what)
    missing = ", ".join(path.name for path in wanted if path not in here)
    return Finding("region features", card.id, "lack", f"{what}; missing: {missing}", f"see: vlbench show {card.id}")


def _vocabularies(data_root: Path) -> Iterator[Finding]:
    """Open the methods' published vocabularies just as a run would."""
    for name in sorted({card.tokeniser for card in cards(ModelCard)} - {"", "train", "whole-words"}):
        try:
            from vlbench.data.words import pretrained_words

            words = pretrained_words(name, data_root)
        except Fault as fault:
            yield Finding("vocabularies", name, "lack", fault.wrong, fault.todo)
        except ImportError as error:
            yield Finding("vocabularies", name, "lack", f"cannot be opened: {error}", "see packages above")
        else:
            yield Finding("vocabularies", name, "ok", f"{words.vocabulary:,} word pieces")


def _checkpoints(data_root: Path) -> Iterator[Finding]:
    """Look for the methods' published checkpoints."""
    for card in cards(ModelCard):
        for checkpoint in (*card.checkpoint, *card.part):
            path = data_root / checkpoint.file
            name = f"{card.id} {checkpoint.name}" + (f" ({checkpoint.size})" if checkpoint.size != "base" else "")
            if not path.is_file():
                yield Finding("checkpoints", name, "lack", f"{path} is not here", f"get {checkpoint.url}")
            elif checkpoint.bytes and path.stat().st_size != checkpoint.bytes:
                what = f"{path} has {path.stat().st_size:,} of {checkpoint.bytes:,} bytes"
                yield Finding("checkpoints", name, "lack", what, f"get {checkpoint.url} again")
            else:
                yield Finding("checkpoints", name, "ok", f"{path}, {path.stat().st_size / 1e6:,.0f} MB")


def _surroundings(runs_root: Path) -> Iterator[Finding]:
    """Look at the MLflow store, at what METEOR needs and at the code's own commit."""
    yield _store(store_uri(runs_root))
    only = "not here; only METEOR, of captioning, needs it"
    java = shutil.which("java")
    yield Finding("tools", "java", "note", java or only, "" if java else "install a Java runtime, version 8 or newer")
    package = importlib.util.find_spec("pycocoevalcap")
    todo = "" if package else "pip install 'vlbench[caption]'"
    yield Finding("tools", "pycocoevalcap", "note", version("pycocoevalcap") if package else only, todo)
    code = this_code()
    commit = f"{code.commit}{', with changes' if code.dirty else ''}" if code.commit else "not a git checkout"
    yield Finding("tools", "commit", "note", commit)


def _store(uri: str) -> Finding:
    """Say where runs are mirrored, and whether that can be written; a server is not called."""
    parts = urlsplit(uri)
    if parts.scheme not in ("sqlite", "file", ""):
        return Finding(
            "tools",
            "mlflow store",
            "note",
            f"the server {parts.hostname}; see whether it answers: vlbench sync",
        )
    path = Path(uri.removeprefix("sqlite:///").removeprefix("file://")).absolute()
    what = f"{path}{'' if path.exists() else ' (not made yet)'}"
    if os.access(_nearest_there(path), os.W_OK):
        return Finding("tools", "mlflow store", "ok", what)
    todo = "set MLFLOW_TRACKING_URI, or give --no-mlflow"
    return Finding("tools", "mlflow store", "lack", f"{what}; cannot be written", todo)

"""A run's folder: find the unfinished or finished one of a recipe, lock it, remember what it began with."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from vlbench import __version__
from vlbench.paths import make_folder, write_text
from vlbench.plan import Plan, recipe_text
from vlbench.record import Code, RunRecord, find_records, read_record
from vlbench.types import BadData, Fault, Misuse

RECORD, BEGUN, WEIGHTS, WORDS = (
    "record.json",
    "begun.json",
    "checkpoint/weights.safetensors",
    "vocabulary.txt",
)


class Begun(NamedTuple):
    """What a run began with; a resumed run must find the same."""

    started: str
    inputs: dict[str, str]
    code: Code


def folder_of(plan: Plan, out: Path, *, fresh: bool) -> Path:
    """Return the folder of a plan's run: the newest of the same recipe and seed, or a new one."""
    place = out / plan.folder_stem
    mark = f"-{plan.recipe.digest()}-s{plan.recipe.seed}"
    same = sorted(path for path in place.glob(f"*{mark}") if path.is_dir())
    if same and not fresh:
        return same[-1]
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = place / f"{stamp}{mark}"
    while folder.exists():  # begun anew within one second
        stamp += "a"
        folder = place / f"{stamp}{mark}"
    return folder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run's folder; Fault where another process does."""
    make_folder(folder)
    try:
        lock = FileLock(folder / ".lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise Fault(
            f"{folder} is being run by another process", "wait for it, or give --fresh for a run of its own"
        ) from None
    except OSError as error:
        raise Fault(f"cannot write in {folder}: {error.strerror}", "choose another folder with --out") from None
    for left in (*folder.glob(".*.part"), *folder.glob("checkpoint/.*.part")):  # of a run that was killed as it wrote
        left.unlink(missing_ok=True)
    try:
        yield
    finally:
        lock.release()


def begin(folder: Path, plan: Plan, inputs: Mapping[str, str]) -> Begun:
    """Write down what a run begins with, or check that a resumed one finds the same."""
    path = folder / BEGUN
    if not path.is_file():
        begun = Begun(datetime.now(UTC).isoformat(timespec="seconds"), dict(inputs), this_code())
        write_text(folder / "recipe.toml", recipe_text(plan.recipe, plan.origins))
        write_text(path, json.dumps({**begun._asdict(), "code": begun.code.model_dump()}, indent=1) + "\n")
        return begun
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        begun = Begun(found["started"], found["inputs"], Code.model_validate(found["code"]))
    except (ValueError, KeyError, TypeError):
        raise BadData(f"{path} cannot be read", "start over with --fresh") from None
    if changed := changes(begun.inputs, inputs):
        raise BadData(
            f"{folder.name} was begun with other data: {', '.join(changed[:5])} changed since",
            "put the data back, or start over with --fresh",
        )
    return begun


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Name the inputs whose content is no longer the same.

    Cards are left out: what they decide is in the recipe (part of the folder's name) and in the size.
    """
    both = {name for name in {*before, *now} if not name.startswith("card:")}
    return sorted(name for name in both if before.get(name) != now.get(name))


def finished(folder: Path) -> RunRecord | None:
    """Return the record of a finished run; None where there is none yet."""
    path = folder / RECORD
    return read_record(path) if path.is_file() else None


def find_run(name: str, out: Path) -> Path:
    """Find a run's folder by its id, or by the beginning or end of it; Misuse where none or several fit."""
    if (own := Path(name)).is_dir() and (own / RECORD).is_file():
        return own
    folders = [path.parent for path in find_records(out)]
    exact = [folder for folder in folders if folder.name == name]
    found = exact or [f for f in folders if f.name.startswith(name) or f.name.endswith(name)]
    if len(found) != 1:
        what = "no finished run" if not found else f"{len(found)} runs"
        raise Misuse(f"{what} below {out} fit 'run:{name}'", "see: vlbench list runs")
    return found[0]


@cache
def this_code() -> Code:
    """Say which vlbench this is: its version, and its commit in a checkout."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return Code(version=__version__)

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    try:
        dirty = bool(git("status", "--porcelain", "--", "vlbench", "registry", "suites"))
        return Code(version=__version__, commit=git("rev-parse", "--short=12", "HEAD"), dirty=dirty)
    except OSError:  # no git here
        return Code(version=__version__)

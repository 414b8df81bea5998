"""A run's folder: find the unfinished or finished one of a recipe, lock it, remember what it began with."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from vlbench import __version__
from vlbench.cards import VARIANT
from vlbench.paths import make_folder, write_text
from vlbench.plan import PRETRAINED, Plan, from_published, recipe_text
from vlbench.recipe import Layer, Recipe
from vlbench.record import Code, RunRecord, find_records, read_record
from vlbench.types import BadData, Fault, Misuse, WrongStart, nearest

RECORD, BEGUN, LOCK, LOG, WEIGHTS, WORDS = (
    "record.json",
    "begun.json",
    ".lock",
    "log.jsonl",
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
def locked(folder: Path, wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold a run's folder; where another process does, Fault, or ``wait`` is told of it and it is waited for.

    What stops before anything is written leaves no folder.
    """
    lock = _held(folder, wait)
    while not (folder / LOCK).exists():  # who held it before wrote nothing, and took the folder away
        lock.release()
        lock = _held(folder, wait)
    for left in (*folder.glob(".*.part"), *folder.glob("checkpoint/.*.part")):  # of a run that was killed as it wrote
        left.unlink(missing_ok=True)
    try:
        yield
    finally:
        with suppress(OSError):
            if [path.name for path in folder.iterdir()] == [LOCK]:
                (folder / LOCK).unlink()
                folder.rmdir()
        lock.release()


def _held(folder: Path, wait: Callable[[str], None] | None) -> FileLock:
    """Make a folder and lock it."""
    make_folder(folder)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        if wait is None:
            raise Fault(
                f"{folder} is being run by another process", "wait for it, or give --fresh for a run of its own"
            ) from None
        wait(f"waiting for {folder.name}, which another process is making")
        lock.acquire(timeout=-1)
    except OSError as error:
        raise Fault(f"cannot write in {folder}: {error.strerror}", "choose another folder with --out") from None
    return lock


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
    if not found:
        begun = [path.parent for path in out.glob(f"*/*/*/{BEGUN}")]
        if stopped := next((f for f in begun if f not in folders and name in f.name), None):
            raise Misuse(
                f"the run {stopped} was begun and has not ended",
                "wait for it, or give the command that began it again: it goes on where it stopped",
            )
        close = get_close_matches(name, [folder.name for folder in folders], n=1, cutoff=0.9)
        hint = f"; did you mean 'run:{close[0]}'?" if close else ""
        raise Misuse(f"no finished run below {out} fits 'run:{name}'{hint}", "see: vlbench list runs")
    if len(found) > 1:
        some = ", ".join(folder.name for folder in found[:3]) + (", ..." if len(found) > 3 else "")
        raise Misuse(f"{len(found)} runs below {out} fit 'run:{name}': {some}", "write more of its name, or all of it")
    return found[0]


def check_start(plan: Plan, out: Path) -> None:
    """Refuse, before anything is read, a start that is nothing, or a run whose weights are no start for this plan."""
    start = plan.recipe.start
    if start in ("scratch", PRETRAINED) or from_published(plan):
        return
    if start.startswith(VARIANT) and start.removeprefix(VARIANT) in plan.suite.variants:
        return
    if start.startswith("run:"):
        _check_earlier(plan, find_run(start.removeprefix("run:"), out))
    elif not Path(start).is_file():
        raise _no_start(plan, out)


def _check_earlier(plan: Plan, folder: Path) -> None:
    """Refuse a run of another method or size, and one that has left no weights."""
    earlier, size = read_record(folder / RECORD), plan.recipe.size
    if earlier.method != plan.model.id:
        raise WrongStart(
            f"{plan.model.id} cannot start from {folder}: that is a run of {earlier.method}",
            f"choose a run of {plan.model.id}: vlbench list runs; or name {earlier.method} instead of it",
        )
    if earlier.size != size:
        raise WrongStart(
            f"{plan.model.id} at size {size} cannot start from {folder}: that is a run at size {earlier.size}",
            f"type --size {earlier.size}, or choose a run at size {size}: vlbench list runs",
        )
    if (before := _built(earlier.recipe)) != _built(plan.recipe):
        now = ",".join(f"{name}:{json.dumps(value)}" for name, value in before.items())
        raise WrongStart(
            f"{plan.model.id} cannot start from {folder}: that run had other numbers in its size ({now or 'none'})",
            f"type --set changes={now}",
        )
    if (words := earlier.recipe.tokeniser) and words != plan.tokeniser:
        raise WrongStart(
            f"{plan.model.id} with the vocabulary {plan.tokeniser} cannot start from {folder}: that run had {words}",
            f"type --set tokeniser={words}",
        )
    if not earlier.checkpoint:
        raise WrongStart(
            f"{plan.model.id} cannot start from {folder}: nothing was trained in that run, so it has left no weights",
            f"start from what it started from: --start {earlier.recipe.start}",
        )
    if not (folder / WEIGHTS).is_file():
        raise BadData(f"{folder / WEIGHTS} is not here", "put it back, or choose another run: vlbench list runs")


def built_as(method: str, start: str, out: Path) -> Layer | None:
    """Return what a run that starts from another has of it: size, changes to that, words; None where it is no run's."""
    if not start.startswith("run:"):
        return None
    earlier = finished(find_run(start.removeprefix("run:"), out))
    if earlier is None or earlier.method != method:
        return None
    recipe = earlier.recipe
    taken = {"size": recipe.size, "tokeniser": recipe.tokeniser, "changes": _built(recipe)}
    return start, {name: value for name, value in taken.items() if value}


def _built(recipe: Recipe) -> dict[str, int | str]:
    """Return the changed numbers that build other layers: whole ones and words; the rest say how these learn."""
    return {name: value for name, value in recipe.changes.items() if not isinstance(value, bool | float)}


def _no_start(plan: Plan, out: Path) -> Fault:
    """Say that a start is no checkpoint of the method, no run and no file, and what it may be meant to be."""
    start, path = plan.recipe.start, Path(plan.recipe.start)
    if path.is_dir():
        todo = f"a run is named by run:ID, as in --start run:{path.name}; else name the file of the weights"
        return WrongStart(f"the start {start} is a folder", todo)
    if path.suffix or len(path.parts) > 1:
        beside = [one.name for one in path.parent.iterdir() if one.is_file()] if path.parent.is_dir() else []
        close = get_close_matches(path.name, beside, n=1)
        hint = f"; did you mean '{path.parent / close[0]}'?" if close else ""
        todo = f"put it there, or see what {plan.model.id} can start from: vlbench show {plan.model.id}"
        return BadData(f"there is no checkpoint {start}{hint}", todo)
    names = ["scratch", PRETRAINED, "published", *(checkpoint.name for checkpoint in plan.model.checkpoint)]
    hint = nearest(start, [*names, *(f"run:{record.parent.name}" for record in find_records(out))])
    if not hint.startswith("did you mean"):
        hint = nearest(start, list(dict.fromkeys(names)))  # runs are many, and their names all alike
    return WrongStart(
        f"the start '{start}' is no checkpoint of {plan.model.id}, no run and no file; {hint}",
        f"a run is named by run:ID (vlbench list runs), a checkpoint as in: vlbench show {plan.model.id}",
    )


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

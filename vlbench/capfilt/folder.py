"""The folder of a bootstrapped corpus: what it was made of, and how it comes to be there whole or not at all.

Until all is judged, everything lies in a folder of another name beside it, which a stopped command goes on with.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from vlbench.paths import make_folder, write_text
from vlbench.types import BadData, Fault

ABOUT, BEGUN = "capfilt.json", "begun.json"


class Place:
    """Where a bootstrapped corpus is, or will be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.work = self.folder.parent / f".{self.folder.name}.part"
        """Where it lies until it is whole."""

    def about(self) -> dict[str, Any] | None:
        """Return what the finished folder says of itself; None where there is no finished one.

        Fault where something else lies there, BadData where what it says cannot be read.
        """
        if self.folder.exists() and not (self.folder / ABOUT).is_file():
            if self.folder.is_dir() and not any(self.folder.iterdir()):
                return None
            raise Fault(f"{self.folder} holds something else than a corpus of CapFilt", "choose another with --into")
        return _read(self.folder / ABOUT)

    def check(self, made_of: Mapping[str, object]) -> None:
        """Refuse what is there, if neither what is finished nor what was begun is of these inputs (some or all)."""
        finished, begun = self.about(), _read(self.work / BEGUN)
        known = [one for one in (finished and finished["made_of"], begun) if one is not None]
        if known and not any(_same(one, made_of) for one in known):
            other = ", ".join(key for key, value in made_of.items() if known[0].get(key) != value)
            verb = "was made of" if finished else "was begun with"
            todo = "--fresh makes it anew; --into DIR writes elsewhere"
            raise Fault(f"{self.folder} {verb} other inputs: {other}", todo)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the place; Fault where another process does."""
        make_folder(self.folder.parent)
        lock = FileLock(self.folder.parent / f".{self.folder.name}.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise Fault(f"{self.folder} is being made by another process", "wait for it, or choose --into") from None
        except OSError as error:
            raise Fault(f"cannot write in {self.folder.parent}: {error.strerror}", "choose --into DIR") from None
        try:
            yield
        finally:
            lock.release()

    def begin(self, made_of: Mapping[str, object], *, fresh: bool) -> dict[str, Any] | None:
        """Open the folder of work, or return what the finished folder says where nothing is left to do."""
        finished = self.about()
        if fresh:
            shutil.rmtree(self.work, ignore_errors=True)
        else:
            self.check(made_of)
            if finished and _same(finished["made_of"], made_of):
                return finished
        make_folder(self.work)
        write_text(self.work / BEGUN, json.dumps(dict(made_of), indent=1) + "\n")
        return None

    def finish(self, about: Mapping[str, Any]) -> None:
        """Write what the corpus is, and put the folder of work where it belongs, in the place of an earlier one."""
        write_text(self.work / ABOUT, json.dumps(dict(about), indent=1, ensure_ascii=False) + "\n")
        old = self.folder.parent / f".{self.folder.name}.old"
        shutil.rmtree(old, ignore_errors=True)
        if self.folder.exists():
            os.replace(self.folder, old)
        os.replace(self.work, self.folder)
        (self.folder / BEGUN).unlink(missing_ok=True)
        shutil.rmtree(old, ignore_errors=True)


def _same(known: Mapping[str, object], made_of: Mapping[str, object]) -> bool:
    return all(known.get(key) == value for key, value in made_of.items())


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if path.name == ABOUT:
            dict(found["made_of"])
    except (OSError, ValueError, KeyError, TypeError):
        raise BadData(f"{path} cannot be read", f"take the folder {path.parent} away, or choose --into DIR") from None
    return found

"""Where things lie: card folders (checkout or wheel), the user's data, runs and cache."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vlbench.types import BadData, Fault


def card_folder(name: str) -> Path:
    """Find a shipped folder of cards: inside the installed package, or beside it in a checkout."""
    packaged = Path(__file__).resolve().parent / "_data" / name
    return packaged if packaged.is_dir() else Path(__file__).resolve().parents[1] / name


def user_cards() -> list[Path]:
    """List the user's own card folders, from ``VLBENCH_CARDS`` (separated as in PATH)."""
    return [Path(part) for part in os.environ.get("VLBENCH_CARDS", "").split(os.pathsep) if part]


def data_root(typed: Path | None = None) -> Path:
    """Where official data lies: ``--data``, else ``VLBENCH_DATA``, else ``data``."""
    return Path(typed or os.environ.get("VLBENCH_DATA") or "data")


def runs_root(typed: Path | None = None) -> Path:
    """Where runs are written: ``--out``, else ``VLBENCH_RUNS``, else ``runs``."""
    return Path(typed or os.environ.get("VLBENCH_RUNS") or "runs")


def cache_root() -> Path:
    """Where what can be made again is kept: ``VLBENCH_CACHE``, else the user's cache folder."""
    if own := os.environ.get("VLBENCH_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vlbench"


def make_folder(folder: Path) -> Path:
    """Make a folder; a clear line where that is not allowed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Fault(f"cannot make the folder {folder}: {error.strerror}", "choose another folder") from None
    return folder


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; rename it to ``path`` when the block ends well.

    Whatever happens inside (a crash, a full disk, a kill), ``path`` is either the old file or the whole
    new one. Works for a folder too, if the block makes a folder of that name.
    """
    part = make_folder(path.parent) / f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part"
    try:
        yield part
        if part.is_dir() and path.is_dir():
            old = part.with_suffix(".old")
            os.replace(path, old)
            os.replace(part, path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(part, path)
    except Exception as error:
        if not (reason := _failed_write(error)):
            raise
        raise Fault(
            f"cannot write {path}: {reason}",
            "nothing was lost; free some space or choose another folder, then give the same command again",
        ) from error
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


def _failed_write(error: Exception) -> str:
    """Say what the system said to a write; libraries in C++ and Rust wrap it in errors of their own. "" for others."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if found := re.search(r"(?:errno =|os error) (\d+)", str(error)):  # HDF5, safetensors
        return os.strerror(int(found[1]))
    if re.search("PytorchStreamWriter|inline_container", str(error)):
        return "the file system did not take all of it; it may be full"
    return ""


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def sha256(path: Path) -> str:
    """Hash a file's content; hex."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadData(f"cannot read {path}: {error.strerror}") from None

"""Files that are read a piece at a time, by many processes: opened once in each, and refused when they change."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from filelock import FileLock

from vlbench.paths import cache_root, make_folder, sha256, write_text
from vlbench.types import BadData

_MOST = max(64, min(os.sysconf("SC_OPEN_MAX") // 4, 4096))
"""Files a process keeps open: a quarter of what it may, as a corpus may have thousands of shards."""


_LARGE = 64 << 20
"""Bytes from which a file's hash is kept; less is hashed within a tenth of a second."""


class Readable(Protocol):
    """Whatever holds a picture: a file's path, or a member of a tar."""

    def open(self, mode: Literal["rb"], /) -> BinaryIO:
        """Open it to be read from its beginning."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file as it was when it was first looked at; may be sent to other processes."""

    path: Path
    size: int
    modified: int
    """In nanoseconds."""

    @classmethod
    def of(cls, path: Path, todo: str = "") -> Source:
        """Look at a file; BadData where there is none, ``todo`` says how to get it."""
        try:
            resolved = path.resolve()
            about = resolved.stat()
        except FileNotFoundError:
            raise BadData(f"there is no file {path}", todo) from None
        except (OSError, RuntimeError) as error:  # RuntimeError: a link that leads to itself
            raise BadData(f"{path}: cannot be read: {getattr(error, 'strerror', '') or error}", todo) from None
        if not resolved.is_file():
            raise BadData(f"{path}: is no file", todo)
        return cls(resolved, about.st_size, about.st_mtime_ns)

    def check(self) -> None:
        """Refuse the file if it is not what it was; BadData."""
        if Source.of(self.path) != self:
            raise self.changed()

    def changed(self) -> BadData:
        """Say that the file is not what it was."""
        return BadData(f"{self.path}: has changed while it was in use", "start again; what is kept of it is made anew")

    def read(self, begin: int, end: int) -> bytes:
        """Read the bytes from ``begin`` to before ``end``; BadData where the file has changed."""
        handle = _opened(self, os.getpid())
        try:
            about = os.fstat(handle.number)
            content = os.pread(handle.number, end - begin, begin)
            while content and len(content) < end - begin:  # a read may be cut short by the system
                more = os.pread(handle.number, end - begin - len(content), begin + len(content))
                if not more:
                    break
                content += more
        except OSError as error:
            raise BadData(f"{self.path}: cannot be read: {error.strerror or error}") from None
        if len(content) < end - begin or (about.st_size, about.st_mtime_ns) != (self.size, self.modified):
            raise self.changed()
        return content


def known_sha256(path: Path) -> str:
    """Hash a file's content; hex. That of a large file is kept in the cache until the file's size or time changes.

    A corpus's shards have hundreds of gigabytes, and every process of every start wants to know them. A small file may
    change twice within a tick of the clock, and is soon hashed.
    """
    source = Source.of(path)
    if source.size < _LARGE:
        return sha256(path)
    folder = make_folder(cache_root() / "hashes")
    kept = folder / hashlib.sha256(f"{source.path} {source.size} {source.modified}".encode()).hexdigest()[:32]
    with FileLock(f"{kept}.lock"):  # of several processes one reads the file
        with suppress(OSError, ValueError):  # not hashed yet, or what was kept is damaged
            if re.fullmatch("[0-9a-f]{64}", found := kept.read_text(encoding="utf-8")):
                return found
        found = sha256(path)
        source.check()
        write_text(kept, found)
    return found


class _Handle:
    """An open file, closed when nothing refers to it any longer."""

    def __init__(self, path: Path) -> None:
        self.number = -1
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


@lru_cache(maxsize=_MOST)
def _opened(source: Source, process: int) -> _Handle:
    """Open a file once in a process; one that was forked off opens its own."""
    try:
        return _Handle(source.path)
    except OSError as error:
        raise BadData(f"{source.path}: cannot be read: {error.strerror or error}") from None


@dataclass(frozen=True, slots=True)
class Member:
    """A part of a file that is a file by itself, such as a picture in a tar; may be sent to other processes."""

    source: Source
    begin: int
    end: int

    def open(self, mode: Literal["rb"] = "rb", /) -> BinaryIO:
        """Read it whole; the tar stays open for the next one."""
        return BytesIO(self.source.read(self.begin, self.end))

    def __str__(self) -> str:
        return f"{self.source.path} at byte {self.begin}"

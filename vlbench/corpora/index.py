"""Where the records of a file lie, so that any of them can be read without the others.

An index is made in one pass over the file and kept in the cache, under a name that is made of the file's place, size
and time of change: a changed file has no index yet. It is a folder of columns of numbers, one number a record, which
are read through memory maps. Several files have one index each, and one of them all.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from vlbench.corpora.index_writer import ABOUT, NAMES, IndexWriter
from vlbench.corpora.sources import Source
from vlbench.paths import cache_root, make_folder, replacing
from vlbench.types import BadData, Progress, quiet

_VERSION = 1
"""Counted up whenever another version would write other columns or refuse other records."""
_DAMAGE = (OSError, ValueError, LookupError, TypeError)
"""What json and numpy raise when a file is not what it was."""
Scan: TypeAlias = Callable[[Source, IndexWriter, Progress], None]
"""Reads a file once and writes a row for each record, ``begin`` and ``end`` first; BadData where it is faulty."""


class Index:
    """Where each record lies. Small to send to other processes: these open it again, from the cache."""

    def __init__(self, folder: Path, sources: Sequence[Source], starts: Sequence[int], columns: Sequence[str]) -> None:
        self.folder, self.sources = folder, tuple(sources)
        self.starts = tuple(starts)
        """Records before each of the files, and in all."""
        self.columns = tuple(columns)

    def __reduce__(self) -> tuple[object, ...]:
        return Index, (self.folder, self.sources, self.starts, self.columns)

    def __len__(self) -> int:
        return self.starts[-1]

    @cached_property
    def _arrays(self) -> dict[str, NDArray[np.int64]]:
        try:
            found = {name: _mapped(self.folder, name, np.int64) for name in self.columns}
        except _DAMAGE:
            raise BadData(f"the index {self.folder} is gone or damaged", "start again; it is made anew") from None
        return found

    @cached_property
    def names(self) -> NDArray[np.uint8]:
        """The bytes of all names, one after the other."""
        return _mapped(self.folder, NAMES, np.uint8)

    def column(self, name: str) -> NDArray[np.int64]:
        """Return a column, [records], through a memory map."""
        return self._arrays[name]

    def file(self, number: int) -> tuple[int, int]:
        """Return which of the files a record is in, and its number there."""
        at = bisect_right(self.starts, number) - 1
        return at, number - self.starts[at]

    def source(self, number: int) -> Source:
        """Return the file a record is in."""
        return self.sources[self.file(number)[0]]

    def read(self, number: int, begin: str = "begin", end: str = "end") -> bytes:
        """Read the bytes of a record, or what lies between two other columns of it."""
        return self.source(number).read(int(self.column(begin)[number]), int(self.column(end)[number]))

    def name(self, number: int) -> str:
        """Return the name of a record, of an index that has names."""
        ends = self.column("named")
        begin = int(ends[number - 1]) if number else 0
        return self.names[begin : int(ends[number])].tobytes().decode("utf-8", "surrogateescape")

    def place(self, number: int) -> str:
        """Say in a message where a record is."""
        file, row = self.file(number)
        return place_of(self.sources[file], row, int(self.column("begin")[number]))


def place_of(source: Source, row: int, begin: int) -> str:
    """Say in a message where a record is: the file, which record of it, and at which byte."""
    return f"{source.path}: [{row}], byte {begin}"


def open_index(
    paths: Sequence[Path], kind: str, columns: Sequence[str], scan: Scan, *, progress: Progress = quiet, todo: str = ""
) -> Index:
    """Open the index of files, which is made where it is not in the cache.

    ``kind`` says all that the columns depend on besides the files; ``todo`` where to get a file that is not here.
    """
    sources = [Source.of(path, todo) for path in paths]
    if len(sources) == 1:
        return _open_one(sources[0], kind, columns, scan, progress)

    def make(writer: IndexWriter) -> None:
        """Lay the indexes of all files together, so that a corpus of thousands of files has few maps."""
        starts = [0]
        for source in sources:
            part = _open_one(source, kind, columns, scan, progress)
            writer.append({name: part.column(name) for name in columns}, part.names)
            starts.append(starts[-1] + len(part))
        writer.close(sources, starts)

    return open_kept(_name_of("joined", kind, sources), columns, make)


def _open_one(source: Source, kind: str, columns: Sequence[str], scan: Scan, progress: Progress) -> Index:
    def make(writer: IndexWriter) -> None:
        scan(source, writer, progress)
        source.check()
        writer.close([source], [0, writer.count])

    return open_kept(_name_of(source.path.stem, kind, [source]), columns, make)


def _name_of(stem: str, kind: str, sources: Sequence[Source]) -> str:
    return kept_name(stem, [_VERSION, kind, [[str(one.path), one.size, one.modified] for one in sources]])


def kept_name(stem: str, about: object) -> str:
    """Name an index of the cache by all it depends on; any system takes the name."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", stem)[:80]
    return f"{plain}-{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]}"


def open_kept(
    name: str,
    columns: Sequence[str],
    make: Callable[[IndexWriter], None],
    fresh: Callable[[Mapping[str, Any]], bool] = lambda _: True,
) -> Index:
    """Open an index of the cache; of several processes that want it, one makes it.

    ``fresh``: whether an index is still right, by what was written about it; where its name does not say so.
    """
    kept = make_folder(cache_root() / "indexes") / name
    with FileLock(f"{kept}.lock"):  # freed by the system when its holder is killed
        if (found := _read(kept, columns, fresh)) is not None:  # one without records is one, too
            return found
        for leftover in kept.parent.glob(f".{name}.*.part"):  # of a process that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        with replacing(kept) as part:
            part.mkdir()
            with IndexWriter(part, columns) as writer:
                make(writer)
        made = _read(kept, columns, fresh)
    if made is None:
        raise BadData(f"the index {kept} cannot be read though it was just written", "look after the disk it is on")
    return made


def _read(kept: Path, columns: Sequence[str], fresh: Callable[[Mapping[str, Any]], bool]) -> Index | None:
    """Open an index that is whole; None where there is none, or what there is was damaged."""
    try:
        about = json.loads((kept / ABOUT).read_text(encoding="utf-8"))
        sources = [Source(Path(path), size, modified) for path, size, modified in about["sources"]]
        found = Index(kept, sources, about["starts"], columns)
        whole = all(len(_mapped(kept, name, np.int64)) == len(found) for name in columns)
        whole = whole and len(_mapped(kept, NAMES, np.uint8)) == about["names"]
        return found if whole and fresh(about) else None
    except _DAMAGE:
        return None


def _mapped(folder: Path, name: str, kind: type[np.int64] | type[np.uint8]) -> NDArray[Any]:
    """Map a column; a plain array over the map, whose elements are had faster than the map's own."""
    found = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    if found.dtype != kind or found.ndim != 1:
        raise ValueError(f"{folder / name}: not a column of {kind.__name__}")
    return np.asarray(found)

"""Files of a world as they are written: piece by piece, hashed on the way, so that memory does not grow with them."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import IO, Protocol

from vlbench.world.layout import SKILLS_FILE, split_of

_BLOCK = 1 << 20


class File(Protocol):
    """A file that records are added to."""

    def add(self, record: object, key: str = "") -> None:
        """Append a record; ``key`` is the member it stands under, or the list it belongs to."""

    def close(self) -> str:
        """Finish the file; returns its sha256."""


class _Hashed:
    """A file that knows the hash of what was written to it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file, self._hash = path.open("wb", buffering=_BLOCK), hashlib.sha256()

    def write(self, content: bytes) -> None:
        self._hash.update(content)
        self._file.write(content)

    def close(self) -> str:
        self._file.close()
        return self._hash.hexdigest()


def _json(record: object) -> bytes:
    return json.dumps(record).encode()


class Lines:
    """One JSON object a line."""

    def __init__(self, path: Path) -> None:
        self._file = _Hashed(path)

    def add(self, record: object, key: str = "") -> None:
        """Append a line."""
        self._file.write(_json(record) + b"\n")

    def close(self) -> str:
        """Finish the file; returns its sha256."""
        return self._file.close()


class Series:
    """A JSON list, or a JSON object of keys and records."""

    def __init__(self, path: Path, brackets: str) -> None:
        self._file, self._end = _Hashed(path), brackets[1].encode()
        self._file.write(brackets[0].encode())
        self._between = b""

    def add(self, record: object, key: str = "") -> None:
        """Append a record, under its key where the file is an object."""
        name = _json(key) + b": " if self._end == b"}" else b""
        self._file.write(self._between + name + _json(record))
        self._between = b",\n"

    def close(self) -> str:
        """Finish the file; returns its sha256."""
        self._file.write(self._end + b"\n")
        return self._file.close()


class Document:
    """A JSON object of fixed members and of lists, which grow beside each other in unnamed files until the end."""

    def __init__(self, path: Path, head: Mapping[str, object], lists: tuple[str, ...]) -> None:
        self._file, self._head = _Hashed(path), head
        self._lists: dict[str, IO[bytes]] = {}
        for name in lists:
            self._lists[name] = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 - closed by close()

    def add(self, record: object, key: str = "") -> None:
        """Append a record to the list called ``key``."""
        spool = self._lists[key]
        spool.write((b",\n" if spool.tell() else b"") + _json(record))

    def close(self) -> str:
        """Finish the file; returns its sha256."""
        opening = _json(self._head)[:-1]
        for name, spool in self._lists.items():
            comma = b"" if opening == b"{" else b",\n"
            self._file.write(opening + comma + _json(name) + b": [")
            spool.seek(0)
            while block := spool.read(_BLOCK):
                self._file.write(block)
            spool.close()
            opening = b"]"
        self._file.write(opening + b"}\n")
        return self._file.close()


class Pickled:
    """A pickled list of plain containers, as the refer toolkit ships it (protocol 2), never held as a whole."""

    def __init__(self, path: Path) -> None:
        self._file = _Hashed(path)
        self._file.write(pickle.PROTO + b"\x02" + pickle.EMPTY_LIST)

    def add(self, record: object, key: str = "") -> None:
        """Append an item: its opcodes without their head and end, and the one that appends."""
        buffer = io.BytesIO()
        pickler = pickle.Pickler(buffer, protocol=2)
        pickler.fast = True  # no memo, whose numbers would be those of a file of its own
        pickler.dump(record)
        self._file.write(buffer.getvalue()[2:-1] + pickle.APPEND)

    def close(self) -> str:
        """Finish the file; returns its sha256."""
        self._file.write(pickle.STOP)
        return self._file.close()


class Output:
    """The folder of a world while it is made: files by name, running numbers, and the count of every split.

    A context manager: files stay open until the block ends, and are hashed then (``hashes``).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hashes: dict[str, str] = {}
        self.folders: dict[str, int] = {}
        self.counts: dict[str, dict[str, dict[str, int]]] = {}
        self.guessed: dict[tuple[str, str], float] = defaultdict(float)
        """Sum over a split's examples of the chance to be exactly right without looking, by task and split: that of who
        knows the texts alone, and, where one of the known objects is to be picked, their shapes."""
        self._files: dict[str, File] = {}
        self._numbers: dict[str, Iterator[int]] = defaultdict(count)

    def __enter__(self) -> Output:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        with ExitStack() as stack:
            for name, file in self._files.items():
                stack.callback(self._close, name, file)

    def _close(self, name: str, file: File) -> None:
        self.hashes[name] = file.close()

    def lines(self, name: str) -> File:
        """Open a file of one JSON object a line; the same file when asked again."""
        return self._files.get(name) or self._open(name, Lines(self.folder / name))

    def items(self, name: str) -> File:
        """Open a file that is one JSON list."""
        return self._files.get(name) or self._open(name, Series(self.folder / name, "[]"))

    def members(self, name: str) -> File:
        """Open a file that is one JSON object of keys and records."""
        return self._files.get(name) or self._open(name, Series(self.folder / name, "{}"))

    def document(self, name: str, head: Mapping[str, object], lists: tuple[str, ...]) -> File:
        """Open a JSON object of fixed members and of lists."""
        if name not in self._files:
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            self._open(name, Document(self.folder / name, head, lists))
        return self._files[name]

    def pickled(self, name: str) -> File:
        """Open a pickled list."""
        return self._files.get(name) or self._open(name, Pickled(self.folder / name))

    def _open(self, name: str, file: File) -> File:
        self._files[name] = file
        return file

    def skill(self, dataset: str, identity: str, skill: str) -> None:
        """Note which skill an example asks for."""
        self.members(f"{dataset}/{SKILLS_FILE}").add(skill, identity)

    def number(self, name: str) -> int:
        """Return the next number of a series, from 0."""
        return next(self._numbers[name])

    def tally(self, task: str, split: str, *, images: int, examples: int, guessed: float = 0.0) -> None:
        """Count the images and examples of a block of a split."""
        split = split_of(task, split)
        counts = self.counts.setdefault(task, {}).setdefault(split, {"images": 0, "examples": 0})
        counts["images"] += images
        counts["examples"] += examples
        if guessed:
            self.guessed[task, split] += guessed

    def write(self, name: str, content: bytes) -> None:
        """Write one of the many small files of a folder, whole; the folder as a whole is hashed."""
        (self.folder / name).write_bytes(content)
        group = name.rpartition("/")[0]
        self.folders[group] = add_hash(self.folders.get(group, 0), name, content)


def add_hash(total: int, name: str, content: bytes) -> int:
    """Add a file to the hash of a folder: the sum, which no order changes, of the hashes of names with contents."""
    found = hashlib.sha256(name.encode() + b"\0" + content).digest()
    return (total + int.from_bytes(found, "big")) % (1 << 256)

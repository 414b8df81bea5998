"""Write an index (index.py) row by row: nothing but the latest rows is in memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from vlbench.corpora.sources import Source

ABOUT, NAMES = "about.json", "names"
CUMULATIVE = ("last", "named")
"""Columns that count on over all records: examples up to this record, and bytes of names."""
_ROWS = 1 << 15
"""Rows that are gathered before they are written."""


class IndexWriter:
    """Takes the rows of an index, and names where it has some."""

    def __init__(self, folder: Path, columns: Sequence[str]) -> None:
        self.folder, self.columns, self.count = folder, tuple(columns), 0
        self.named = 0
        """Bytes of names so far: what a row's column ``named`` holds, once its own name is written."""
        self._rows: list[tuple[int, ...]] = []
        self._files: dict[str, BinaryIO] = {name: self._raw(name).open("wb") for name in (*self.columns, NAMES)}
        self._before = dict.fromkeys(CUMULATIVE, 0)

    def _raw(self, name: str) -> Path:
        return self.folder / f"{name}.raw"

    def __enter__(self) -> IndexWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()

    def add(self, *row: int) -> None:
        """Take a record's numbers, in the order of the columns."""
        self._rows.append(row)
        self.count += 1
        if len(self._rows) == _ROWS:
            self._flush()

    def name(self, name: str) -> None:
        """Take the name of the record whose row comes next."""
        content = name.encode("utf-8", "surrogateescape")  # as file systems give those that are no UTF-8
        self._files[NAMES].write(content)
        self.named += len(content)

    def _flush(self) -> None:
        rows = np.array(self._rows, dtype=np.int64).reshape(-1, len(self.columns))
        for column, name in enumerate(self.columns):
            self._files[name].write(rows[:, column].tobytes())
        self._rows.clear()

    def append(self, columns: Mapping[str, NDArray[np.int64]], names: NDArray[np.uint8]) -> None:
        """Take the rows of another index; what counts on goes on from where it is."""
        length = len(columns["begin"])
        for start in range(0, length, _ROWS):
            for name, values in columns.items():
                part = values[start : start + _ROWS] + self._before.get(name, 0)
                self._files[name].write(part.tobytes())
        for name in CUMULATIVE:
            if name in columns and length:
                self._before[name] += int(columns[name][-1])
        for start in range(0, len(names), 8 * _ROWS):
            self._files[NAMES].write(names[start : start + 8 * _ROWS].tobytes())
        self.count += length
        self.named += len(names)

    def close(self, sources: Sequence[Source], starts: Sequence[int], **more: Any) -> None:
        """Write what is left, and what the index is of."""
        self._flush()
        for name, file in self._files.items():
            file.close()
            self._finish(name, self.named if name == NAMES else self.count)
        listed = [[str(one.path), one.size, one.modified] for one in sources]
        about = {"sources": listed, "starts": list(starts), "names": self.named, **more}
        (self.folder / ABOUT).write_text(json.dumps(about), encoding="utf-8")

    def _finish(self, name: str, count: int) -> None:
        """Put numpy's header before a column, whose length is known only now."""
        kind = np.dtype(np.uint8 if name == NAMES else np.int64)
        header = {"descr": npy.dtype_to_descr(kind), "fortran_order": False, "shape": (count,)}
        with (self.folder / f"{name}.npy").open("wb") as file, self._raw(name).open("rb") as raw:
            npy.write_array_header_1_0(file, header)
            shutil.copyfileobj(raw, file, 1 << 20)
        self._raw(name).unlink()

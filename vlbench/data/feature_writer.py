"""Writing a region-feature file (see features.py) image by image, in memory that does not grow with their number."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from array import array
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from vlbench.data.features import BOXES, FORMAT, LABELS, PROBABILITIES, VERSION, Regions
from vlbench.paths import make_folder, replacing
from vlbench.types import BadData, Fault

_FLUSH = 8 << 20  # bytes of a column gathered before they are hashed and written


class _Column:
    """Rows of one kind that grow in an unnamed file: HDF5 cannot grow a contiguous array."""

    def __init__(self, file: IO[bytes], kind: Any) -> None:
        self.kind = np.dtype(kind)
        self.bytes = 0
        self.shape: tuple[int, ...] = ()
        self._file = file
        self._waiting: list[NDArray[Any]] = []
        self._gathered = 0

    def add(self, rows: NDArray[Any]) -> NDArray[Any] | None:
        """Append rows; where enough have been gathered they are written, and returned."""
        self.shape = rows.shape[1:]
        self._waiting.append(rows)
        self._gathered += rows.nbytes
        return self.flush() if self._gathered >= _FLUSH else None

    def flush(self) -> NDArray[Any] | None:
        """Write what has been gathered, and return it; None where nothing has."""
        if not self._waiting:
            return None
        block = np.concatenate(self._waiting)
        self._waiting, self._gathered = [], 0
        self._file.write(block.data)
        self._file.flush()
        self.bytes += block.nbytes
        return block

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Read the rows back, in blocks."""
        self._file.seek(0)
        row = self.kind.itemsize * int(np.prod(self.shape, dtype=np.int64))
        while content := self._file.read(max(1, _FLUSH // row) * row):
            yield np.frombuffer(content, self.kind).reshape(-1, *self.shape)


class FeatureWriter:
    """Write a region-feature file image by image; of each only its key and sizes stay in memory.

    A context manager: when the block ends well the file appears whole under its name; when it does not,
    nothing appears. Until then the columns are in unnamed files beside.
    """

    def __init__(self, path: Path, *, extractor: str, settings: Mapping[str, Any] | None = None) -> None:
        self.path, self.extractor, self.settings = path, extractor, dict(settings or {})
        self.feature_dim = 0
        self._keys: dict[str, None] = {}
        self._columns: dict[str, _Column] = {}
        self._first = array("q", [0])
        self._sizes = array("i")
        self._labelled = False
        self._classes: int | None = None
        self._hash, self._sums = hashlib.sha256(), np.zeros(4)
        self._open = ExitStack()

    def __enter__(self) -> FeatureWriter:
        try:
            folder = make_folder(self.path.parent)
            kinds = {name: kind for name, (kind, _) in LABELS.items()}
            kinds |= {"features": np.float16, "boxes": np.float32, PROBABILITIES: np.float16}
            for name, kind in kinds.items():
                file = self._open.enter_context(tempfile.TemporaryFile(dir=folder))
                self._columns[name] = _Column(file, kind)
        except OSError as error:
            raise Fault(f"cannot write beside {self.path}: {error.strerror}", "choose another folder") from None
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            with self._open:
                if kind is None:
                    self._finish()
        except OSError as error:  # closing the unnamed file writes, once more, what is left of it
            if kind is None:
                raise self._no_room(error) from error

    def add(self, key: str, regions: Regions, *, width: int = 0, height: int = 0) -> None:
        """Append the regions of one image; ``width`` and ``height`` are its pixels, 0 where unknown."""
        features, boxes = self._checked(key, regions)
        self._keys[key] = None
        self._first.append(self._first[-1] + len(boxes))
        self._sizes.extend((width, height))
        self._labelled |= regions.labels is not None
        try:
            self._taken(self._columns["features"].add(features))
            self._columns["boxes"].add(boxes)
            for name, (kind, empty) in LABELS.items():
                values = getattr(regions.labels, name) if regions.labels else np.full(len(boxes), empty)
                self._columns[name].add(np.asarray(values, dtype=kind))
            if regions.labels and regions.labels.class_probabilities is not None:
                self._columns[PROBABILITIES].add(np.asarray(regions.labels.class_probabilities, dtype=np.float16))
        except OSError as error:
            raise self._no_room(error) from error

    def _checked(self, key: str, regions: Regions) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
        with np.errstate(over="ignore", invalid="ignore"):
            features = np.array(regions.features, dtype=np.float16, order="C")
        boxes = np.array(regions.boxes, dtype=np.float32)
        count = len(boxes)
        if key in self._keys:
            raise BadData(f"image '{key}' comes twice", "each image may stand in a region file once")
        if features.ndim != 2 or not features.shape[1] or boxes.shape != (count, 4) or len(features) != count:
            raise BadData(f"image '{key}': features {features.shape} and boxes {boxes.shape} do not fit")
        if not count:
            raise BadData(f"image '{key}' has no regions", "give it one box at least, for instance the whole image")
        self.feature_dim = self.feature_dim or features.shape[1]
        if features.shape[1] != self.feature_dim:
            raise BadData(f"image '{key}' has {features.shape[1]} values a region, those before {self.feature_dim}")
        if not np.isfinite(features).all():
            raise BadData(f"image '{key}': a feature is not finite, or too large for float16")
        if not (np.isfinite(boxes).all() and boxes.min() >= 0 and boxes.max() <= 1):
            raise BadData(f"image '{key}': its boxes are not fractions from 0 to 1")
        if regions.labels and any(np.shape(getattr(regions.labels, name)) != (count,) for name in LABELS):
            raise BadData(f"image '{key}': its labels are not one for each of {count} regions")
        self._check_classes(key, count, None if regions.labels is None else regions.labels.class_probabilities)
        return features, boxes

    def _check_classes(self, key: str, count: int, likely: NDArray[Any] | None) -> None:
        """Refuse probabilities that are none, and those of some images only or of other classes."""
        if likely is not None and (likely.ndim != 2 or len(likely) != count or not likely.size):
            raise BadData(f"image '{key}': class probabilities {likely.shape} do not fit {count} regions")
        rounded = 1.001  # a softmax's largest may be
        if likely is not None and not (np.isfinite(likely).all() and 0 <= likely.min() <= likely.max() <= rounded):
            raise BadData(f"image '{key}': its class probabilities are not all from 0 to 1")
        classes = 0 if likely is None else int(likely.shape[1])
        self._classes = classes if self._classes is None else self._classes
        if classes != self._classes:
            raise BadData(f"image '{key}' has probabilities of {classes} classes, those before of {self._classes}")

    def _taken(self, block: NDArray[Any] | None) -> None:
        """Take written features into the hash and the statistics of all."""
        if block is None:
            return
        exact = block.astype(np.float32)
        squares = np.square(exact).sum(dtype=np.float64)
        self._sums += (exact.size, exact.sum(dtype=np.float64), squares, (exact == 0).sum())
        self._hash.update(block.data)

    def _no_room(self, error: OSError) -> Fault:
        return Fault(f"cannot write beside {self.path}: {error.strerror}", "free some space there")

    def _finish(self) -> None:
        if not self._keys:
            raise BadData(f"there is no image to write to {self.path}", "an empty region file is of no use")
        self._taken(self._columns["features"].flush())
        for column in self._columns.values():
            column.flush()
        self._make_sure_of_room()
        with replacing(self.path) as part, h5py.File(part, "w") as file:
            labels = (*LABELS, PROBABILITIES) if self._classes else LABELS
            for name in ("boxes", *labels) if self._labelled else ("boxes",):
                for block in self._copied(file, name):
                    self._hash.update(block.data)
            for name, values in self._small().items():
                file.create_dataset(name, data=values)
                self._hash.update(values.data)
            file.create_dataset("keys", data=list(self._keys), dtype=h5py.string_dtype("utf-8"))
            self._hash.update("\n".join(self._keys).encode())
            for _ in self._copied(file, "features"):
                pass
            file.attrs.update(self._about())

    def _make_sure_of_room(self) -> None:
        """Refuse beforehand what would not fit: HDF5 itself leaves a trail of tracebacks on a full disk."""
        needed = sum(column.bytes for column in self._columns.values())
        free = shutil.disk_usage(self.path.parent).free
        if free < needed:
            wrong = f"cannot write {self.path}: it needs {needed / 1e6:,.1f} MB, {free / 1e6:,.1f} MB are free there"
            raise Fault(wrong, "free some space there, or choose another folder")

    def _small(self) -> dict[str, NDArray[Any]]:
        """Return what is known of every image, in the order in which it is hashed."""
        width, height = np.array(self._sizes, np.int32).reshape(-1, 2).T.copy()
        return {"width": width, "height": height, "first": np.array(self._first, np.int64)}

    def _copied(self, file: h5py.File, name: str) -> Iterator[NDArray[Any]]:
        """Copy a column into the file, and give it block by block."""
        column = self._columns[name]
        target, start = file.create_dataset(name, (self._first[-1], *column.shape), column.kind), 0
        for block in column.blocks():
            target[start : start + len(block)] = block
            start += len(block)
            yield block

    def _about(self) -> dict[str, str | int | float]:
        size, total, squares, zeros = (float(number) for number in self._sums)
        mean = total / size
        return {
            "format": FORMAT,
            "version": VERSION,
            "extractor": self.extractor,
            "settings": json.dumps(self.settings, sort_keys=True),
            "feature_dim": self.feature_dim,
            "box_convention": BOXES,
            "count": len(self._keys),
            "mean": mean,
            "std": max(0.0, squares / size - mean * mean) ** 0.5,
            "zeros": zeros / size,
            "sha256": self._hash.hexdigest(),
        }

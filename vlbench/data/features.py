"""The region-feature file: what a detector saw in every image, in one HDF5 file read through a memory map.

All regions of all images lie one after the other (``features`` [regions, F] float16, ``boxes`` [regions, 4]),
contiguous and uncompressed, and ``first`` [N + 1] says where an image begins. So a batch is one indexing of a
mapped array: nothing is decoded, nothing is copied per worker process, and memory does not grow. (A data set
an image reads about ten times slower, a chunk an image three times.)

The file carries the statistics of its values: files of two extractors look alike but differ there, and with
the wrong one the scores of a method fall without any error.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from vlbench.paths import make_folder, replacing
from vlbench.types import BadData, Fault

FORMAT, VERSION = "vlbench regions", 1
BOXES = "x1 y1 x2 y2 as fractions of width and height"
_FLUSH = 8 << 20  # bytes of features gathered before they are hashed and written
_SAMPLE = 64  # regions looked at when a file is opened
_DAMAGE = (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, MemoryError)
"""What h5py, numpy and json raise when a file is not what it says."""
_REMAKE = "delete it and give the same command again; a copy of your own: get it again"
_LABELS: dict[str, tuple[Any, float]] = {
    "objects": (np.int32, -1),
    "object_confidence": (np.float32, 0.0),
    "attributes": (np.int32, -1),
    "attribute_confidence": (np.float32, 0.0),
}
"""The four columns of labels: type, and what stands where the detector said nothing."""


class Labels(NamedTuple):
    """What a detector said of each region, each [R]; -1 where it said nothing."""

    objects: NDArray[Any]
    object_confidence: NDArray[Any]
    attributes: NDArray[Any]
    attribute_confidence: NDArray[Any]


class Regions(NamedTuple):
    """The regions of one image: features [R, F] float16, boxes [R, 4] from 0 to 1."""

    features: NDArray[Any]
    boxes: NDArray[Any]
    labels: Labels | None = None


class Gathered(NamedTuple):
    """The regions of n images, padded with zeros to the largest count R."""

    features: NDArray[Any]
    """[n, R, F] float16."""
    boxes: NDArray[Any]
    """[n, R, 4] float32."""
    mask: NDArray[Any]
    """[n, R], True where a region exists."""
    labels: Labels | None
    """Each [n, R]."""


class Fingerprint(NamedTuple):
    """The statistics of all values of a file, which tell extractors apart."""

    mean: float
    std: float
    zeros: float
    """Share of values that are exactly 0."""


class FeatureWriter:
    """Write a region-feature file image by image; memory stays bounded whatever the count.

    A context manager: when the block ends well the file appears whole under its name; when it does not,
    nothing appears. HDF5 cannot grow a contiguous array, so features first go to an unnamed file beside.
    """

    def __init__(self, path: Path, *, extractor: str, settings: Mapping[str, Any] | None = None) -> None:
        self.path, self.extractor, self.settings = path, extractor, dict(settings or {})
        self.feature_dim = 0
        self._keys: dict[str, None] = {}
        self._columns: dict[str, list[NDArray[Any]]] = {name: [] for name in ("boxes", *_LABELS)}
        self._counts: list[int] = []
        self._sizes: list[tuple[int, int]] = []
        self._waiting: list[NDArray[np.float16]] = []
        self._labelled, self._bytes = False, 0
        self._hash, self._sums = hashlib.sha256(), np.zeros(4)
        self._open = ExitStack()

    def __enter__(self) -> FeatureWriter:
        try:
            folder = make_folder(self.path.parent)
            self._spool: IO[bytes] = self._open.enter_context(tempfile.TemporaryFile(dir=folder))
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
        self._counts.append(len(boxes))
        self._sizes.append((width, height))
        self._columns["boxes"].append(boxes)
        self._labelled |= regions.labels is not None
        for name, (kind, empty) in _LABELS.items():
            values = getattr(regions.labels, name) if regions.labels else np.full(len(boxes), empty)
            self._columns[name].append(np.asarray(values, dtype=kind))
        self._waiting.append(features)
        self._bytes += features.nbytes
        if self._bytes >= _FLUSH:
            self._flush()

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
        if regions.labels and any(np.shape(column) != (count,) for column in regions.labels):
            raise BadData(f"image '{key}': its labels are not one for each of {count} regions")
        return features, boxes

    def _flush(self) -> None:
        if not self._waiting:
            return
        block = np.concatenate(self._waiting)
        self._waiting, self._bytes = [], 0
        exact = block.astype(np.float32)
        squares = np.square(exact).sum(dtype=np.float64)
        self._sums += (exact.size, exact.sum(dtype=np.float64), squares, (exact == 0).sum())
        self._hash.update(block.data)
        try:
            self._spool.write(block.data)
            self._spool.flush()
        except OSError as error:
            raise self._no_room(error) from error

    def _no_room(self, error: OSError) -> Fault:
        return Fault(f"cannot write beside {self.path}: {error.strerror}", "free some space there")

    def _finish(self) -> None:
        if not self._keys:
            raise BadData(f"there is no image to write to {self.path}", "an empty region file is of no use")
        self._flush()
        self._make_sure_of_room()
        with replacing(self.path) as part, h5py.File(part, "w") as file:
            columns = self._small()
            for name, column in columns.items():
                file.create_dataset(name, data=column)
                self._hash.update(column.data)
            file.create_dataset("keys", data=list(self._keys), dtype=h5py.string_dtype("utf-8"))
            self._hash.update("\n".join(self._keys).encode())
            self._copy(file.create_dataset("features", (columns["first"][-1], self.feature_dim), np.float16))
            file.attrs.update(self._about())

    def _make_sure_of_room(self) -> None:
        """Refuse beforehand what would not fit: HDF5 itself leaves a trail of tracebacks on a full disk."""
        needed, free = self._spool.tell(), shutil.disk_usage(self.path.parent).free
        if free < needed:
            wrong = f"cannot write {self.path}: it needs {needed / 1e6:,.1f} MB, {free / 1e6:,.1f} MB are free there"
            raise Fault(wrong, "free some space there, or choose another folder")

    def _small(self) -> dict[str, NDArray[Any]]:
        """Join all columns but the features, in the order in which they are hashed."""
        names = ("boxes", *_LABELS) if self._labelled else ("boxes",)
        columns: dict[str, NDArray[Any]] = {name: np.concatenate(self._columns[name]) for name in names}
        columns["width"], columns["height"] = np.array(self._sizes, dtype=np.int32).T.copy()
        columns["first"] = np.concatenate([[0], np.cumsum(self._counts)]).astype(np.int64)
        return columns

    def _copy(self, target: h5py.Dataset) -> None:
        self._spool.seek(0)
        step = max(1, _FLUSH // (2 * self.feature_dim))
        for start in range(0, len(target), step):
            count = min(step, len(target) - start)
            block = np.frombuffer(self._spool.read(count * self.feature_dim * 2), np.float16)
            target[start : start + count] = block.reshape(count, self.feature_dim)

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


class FeatureFile:
    """A region-feature file, checked when opened and read through a memory map.

    Safe to fork and to pickle (it is opened again from its path). ``keys`` are the images in order.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise BadData(f"there is no region-feature file {self.path}", _REMAKE)
        if not h5py.is_hdf5(self.path):
            raise self._bad("it is not an HDF5 file, or its beginning is lost")
        try:
            with h5py.File(self.path, "r", locking=False) as file:
                self._read(file)
            self.rows = {key: row for row, key in enumerate(self.keys)}
            self._check()
        except _DAMAGE as error:
            raise self._bad(f"it is cut or damaged: {error}") from None

    def _bad(self, wrong: str) -> BadData:
        return BadData(f"{self.path}: {wrong}", _REMAKE)

    def _read(self, file: h5py.File) -> None:
        about = dict(file.attrs)
        if about.get("format") != FORMAT or about.get("version") != VERSION:
            raise self._bad(f"HDF5, but not '{FORMAT}' version {VERSION}")
        self.extractor, self.sha256 = str(about["extractor"]), str(about["sha256"])
        self.settings: dict[str, Any] = json.loads(about["settings"])
        self.feature_dim = int(about["feature_dim"])
        self.fingerprint = Fingerprint(*(float(about[name]) for name in Fingerprint._fields))
        self.keys: tuple[str, ...] = tuple(file["keys"].asstr()[()].tolist())
        self.first, self.width, self.height = (file[name][()] for name in ("first", "width", "height"))
        self.features = self._mapped(file["features"], np.float16)
        self.boxes = self._mapped(file["boxes"], np.float32)
        self.labels = None
        if "objects" in file:
            self.labels = Labels(*(self._mapped(file[name], kind) for name, (kind, _) in _LABELS.items()))
        if len(self.keys) != int(about["count"]):
            raise self._bad(f"it holds {len(self.keys)} images but was written with {about['count']}")

    def _mapped(self, data: h5py.Dataset, kind: Any) -> NDArray[Any]:
        """Map an array of the file; h5py only says where it lies."""
        start = data.id.get_offset()
        if data.dtype != kind or data.chunks or start is None:
            raise self._bad(f"'{data.name[1:]}' must be {np.dtype(kind)} in one piece, not {data.dtype}")
        if start + data.nbytes > self.path.stat().st_size:
            raise self._bad(f"it is cut: '{data.name[1:]}' ends behind the end of the file")
        return np.asarray(np.memmap(self.path, data.dtype, "r", start, data.shape))

    def _check(self) -> None:
        count, total = len(self.keys), len(self.features)
        columns = (self.boxes, *(self.labels or ()))
        if self.features.shape != (total, self.feature_dim) or any(len(column) != total for column in columns):
            raise self._bad(f"its arrays do not have {total} rows each")
        if self.boxes.shape != (total, 4) or not len(self.rows) == len(self.width) == len(self.height) == count:
            raise self._bad(f"boxes, sizes or keys do not fit {count} images")
        steps = np.diff(self.first)
        if not count or len(steps) != count or self.first[0] or self.first[-1] != total or not (steps > 0).all():
            raise self._bad("'first' does not part the regions into images")
        rows = np.linspace(0, total - 1, min(total, _SAMPLE)).astype(np.int64)
        if not (np.isfinite(self.features[rows]).all() and np.isfinite(self.boxes[rows]).all()):
            raise self._bad("some of its values are not finite")

    def verify(self) -> None:
        """Read the whole file and compare it with its checksum; opening looks at a sample only."""
        found = hashlib.sha256()
        step = max(1, _FLUSH // (2 * self.feature_dim))
        for start in range(0, len(self.features), step):
            found.update(self.features[start : start + step].data)
        columns = (self.boxes, *(self.labels or ()), self.width, self.height, self.first)
        for column in columns:
            found.update(column.data)
        found.update("\n".join(self.keys).encode())
        if found.hexdigest() != self.sha256:
            raise self._bad("its content does not fit its checksum")

    def __reduce__(self) -> tuple[type[FeatureFile], tuple[Path]]:
        return FeatureFile, (self.path,)

    def __len__(self) -> int:
        return len(self.keys)

    def __contains__(self, key: object) -> bool:
        return key in self.rows

    def __getitem__(self, key: str) -> Regions:
        """Give the regions of one image, as views of the file."""
        if key not in self.rows:
            raise self.missing([key]) or KeyError(key)
        part = slice(*self.first[self.rows[key] : self.rows[key] + 2])
        labels = Labels(*(column[part] for column in self.labels)) if self.labels else None
        return Regions(self.features[part], self.boxes[part], labels)

    def missing(self, keys: Sequence[str]) -> BadData | None:
        """Name the images without features, in one line; None when all are there."""
        lost = [key for key in dict.fromkeys(keys) if key not in self.rows]
        if not lost:
            return None
        some = ", ".join(lost[:10]) + (", ..." if len(lost) > 10 else "")
        return BadData(
            f"{self.path} has no features of {len(lost):,} of {len(set(keys)):,} images: {some}",
            f"its ids look like '{self.keys[0]}'; it was made of other images",
        )

    def gather(self, keys: Sequence[str], most: int) -> Gathered:
        """Read a batch: the first ``most`` regions of each image, padded to the largest count."""
        try:
            rows = np.fromiter((self.rows[key] for key in keys), np.int64, len(keys))
        except KeyError as error:
            raise self.missing(keys) or error from None
        start = self.first[rows]
        count = np.minimum(self.first[rows + 1] - start, most)
        place = np.arange(count.max(initial=0))
        mask = place < count[:, None]
        index = np.where(mask, start[:, None] + place, start[:, None])
        features, boxes = self.features[index], self.boxes[index]
        labels = Labels(*(column[index] for column in self.labels)) if self.labels else None
        if not mask.all():
            features[~mask], boxes[~mask] = 0, 0
            for column, (_, empty) in zip(labels or (), _LABELS.values(), strict=False):
                column[~mask] = empty
        return Gathered(features, boxes, mask, labels)

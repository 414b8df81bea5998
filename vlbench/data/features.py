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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from vlbench.data.keys import ImageKeys
from vlbench.types import BadData

FORMAT, VERSION = "vlbench regions", 1
BOXES = "x1 y1 x2 y2 as fractions of width and height"
_BLOCK = 8 << 20  # bytes of features read at once
_SAMPLE = 64  # regions looked at when a file is opened
_KEYS = 1 << 14  # keys read at once
_DAMAGE = (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, MemoryError)
"""What h5py, numpy and json raise when a file is not what it says."""
_REMAKE = "delete it and give the same command again; a copy of your own: get it again"
LABELS: dict[str, tuple[Any, float]] = {
    "objects": (np.int32, -1),
    "object_confidence": (np.float32, 0.0),
    "attributes": (np.int32, -1),
    "attribute_confidence": (np.float32, 0.0),
}
"""The four columns of labels: type, and what stands where the detector said nothing."""
PROBABILITIES = "class_probabilities"
"""A fifth column, float16, where a release has it: nearly as large as the features, so it is never made up."""


class Labels(NamedTuple):
    """What a detector said of each region, each [R]; -1 where it said nothing."""

    objects: NDArray[Any]
    object_confidence: NDArray[Any]
    attributes: NDArray[Any]
    attribute_confidence: NDArray[Any]
    class_probabilities: NDArray[Any] | None = None
    """[R, classes] float16, the background first: how likely the detector held each class; None where not kept."""

    def columns(self) -> tuple[NDArray[Any], ...]:
        """Return those there are, in the order of the file."""
        return tuple(column for column in self if column is not None)

    def map(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Labels:
        """Return what ``change`` makes of each column there is."""
        return Labels(*map(change, self.columns()))


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
        keys = file["keys"].asstr()
        self.keys = ImageKeys(keys[start : start + _KEYS].tolist() for start in range(0, len(keys), _KEYS))
        self.first = self._mapped(file["first"], np.int64)
        self.width, self.height = (self._mapped(file[name], np.int32) for name in ("width", "height"))
        self.features = self._mapped(file["features"], np.float16)
        self.boxes = self._mapped(file["boxes"], np.float32)
        self.labels = None
        if "objects" in file:
            kinds = {name: kind for name, (kind, _) in LABELS.items()}
            if PROBABILITIES in file:
                kinds[PROBABILITIES] = np.float16
            self.labels = Labels(**{name: self._mapped(file[name], kind) for name, kind in kinds.items()})
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
        columns = (self.boxes, *(self.labels.columns() if self.labels else ()))
        if self.features.shape != (total, self.feature_dim) or any(len(column) != total for column in columns):
            raise self._bad(f"its arrays do not have {total} rows each")
        if self.boxes.shape != (total, 4) or not len(self.width) == len(self.height) == count:
            raise self._bad(f"boxes, sizes or keys do not fit {count} images")
        if (twice := self.keys.repeated()) is not None:
            raise self._bad(f"two images have the key '{twice}'")
        steps = np.diff(self.first)
        if not count or len(steps) != count or self.first[0] or self.first[-1] != total or not (steps > 0).all():
            raise self._bad("'first' does not part the regions into images")
        rows = np.linspace(0, total - 1, min(total, _SAMPLE)).astype(np.int64)
        if not (np.isfinite(self.features[rows]).all() and np.isfinite(self.boxes[rows]).all()):
            raise self._bad("some of its values are not finite")

    @property
    def classes(self) -> int:
        """How many classes it has probabilities of, the background among them; 0 where it has none."""
        likely = self.labels.class_probabilities if self.labels else None
        return 0 if likely is None else int(likely.shape[1])

    def verify(self) -> None:
        """Read the whole file and compare it with its checksum; opening looks at a sample only."""
        found = hashlib.sha256()
        step = max(1, _BLOCK // (2 * self.feature_dim))
        for start in range(0, len(self.features), step):
            found.update(self.features[start : start + step].data)
        columns = (self.boxes, *(self.labels.columns() if self.labels else ()), self.width, self.height, self.first)
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
        return key in self.keys

    def __getitem__(self, key: str) -> Regions:
        """Give the regions of one image, as views of the file."""
        row = int(self.rows([key])[0])
        part = slice(*self.first[row : row + 2])
        labels = self.labels.map(lambda column: column[part]) if self.labels else None
        return Regions(self.features[part], self.boxes[part], labels)

    def missing(self, keys: Sequence[str]) -> BadData | None:
        """Name the images without features, in one line; None when all are there."""
        wanted = list(dict.fromkeys(keys))
        lost = [wanted[at] for at in np.flatnonzero(self.keys.rows(wanted) < 0)]
        if not lost:
            return None
        some = ", ".join(lost[:10]) + (", ..." if len(lost) > 10 else "")
        return BadData(
            f"{self.path} has no features of {len(lost):,} of {len(set(keys)):,} images: {some}",
            f"its ids look like '{self.keys[0]}'; it was made of other images",
        )

    def rows(self, keys: Sequence[str]) -> NDArray[np.int64]:
        """Return the row of each image, [n]; BadData names those without features."""
        found = self.keys.rows(keys)
        if (found < 0).any() and (fault := self.missing(keys)):
            raise fault
        return found

    def gather(self, keys: Sequence[str], most: int) -> Gathered:
        """Read a batch: the first ``most`` regions of each image, padded to the largest count."""
        rows = self.rows(keys)
        start = self.first[rows]
        count = np.minimum(self.first[rows + 1] - start, most)
        place = np.arange(count.max(initial=0))
        mask = place < count[:, None]
        index = np.where(mask, start[:, None] + place, start[:, None])
        features, boxes = self.features[index], self.boxes[index]
        labels = self.labels.map(lambda column: column[index]) if self.labels else None
        if not mask.all():
            features[~mask], boxes[~mask] = 0, 0
            empty = (*(empty for _, empty in LABELS.values()), 0.0)
            for column, nothing in zip(labels.columns() if labels else (), empty, strict=False):
                column[~mask] = nothing
        return Gathered(features, boxes, mask, labels)

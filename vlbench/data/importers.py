"""Published region features, in the seven forms they are handed out in, to a region-feature file.

The form is told from the content. Files are read once, an image at a time; nothing that stands in a pickle
is ever run. Forms: the six-column TSV of bottom-up attention, the ten-column TSV of LXMERT, the HDF5 with
index of bottom-up-attention-vqa, npz (MCAN), npy with info (Pythia), an HDF5 group an image, LMDB (VOLTA).
"""

from __future__ import annotations

import binascii
import importlib
import io
import pickle
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from vlbench.data.feature_writer import FeatureWriter
from vlbench.data.features import FORMAT, FeatureFile, Labels, Regions
from vlbench.types import BadData, Fault, Misuse, Progress, quiet

ORIGINAL = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")
LXMERT = (
    *("img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf"),
    *("num_boxes", "boxes", "features"),
)
"""Height comes before width here, after it in the original."""
_TYPES = {"objects_id": np.int64, "attrs_id": np.int64}  # of base64 columns; the others are float32
_NAMES: dict[str, tuple[str, ...]] = {
    "features": ("features", "x"),
    "boxes": ("boxes", "bbox"),
    "count": ("num_boxes", "num_bbox"),
    "width": ("img_w", "image_w", "image_width", "width"),
    "height": ("img_h", "image_h", "image_height", "height"),
    "objects": ("objects_id", "obj_id", "objects"),
    "object_confidence": ("objects_conf", "obj_conf"),
    "attributes": ("attrs_id", "attr_id", "attributes"),
    "attribute_confidence": ("attrs_conf", "attr_conf"),
    "class_probabilities": ("cls_prob",),
}
"""What releases call the same thing."""
_OVER = 0.02  # detectors put boxes slightly beyond the edge; more means a wrong width or height
_AGAIN = "the file is cut or damaged: fetch it again and compare its size with the publisher's"


class Found(NamedTuple):
    """One image of a source, as it was found there."""

    key: str
    place: str
    """File, and line where it has lines."""
    values: Mapping[str, Any]
    """By the names of the source."""
    done: int
    total: int


def import_features(
    sources: Sequence[Path],
    target: Path,
    *,
    extractor: str = "bottom-up attention",
    name: str = "{}",
    progress: Progress = quiet,
) -> FeatureFile:
    """Convert published features to one region-feature file, whole or not at all.

    ``name`` makes our key of the source's id: with ``COCO_val2014_{:0>12}``, 9 is COCO_val2014_000000000009.
    """
    try:
        name.format("1")
    except (LookupError, ValueError):
        raise Misuse(f"'{name}' cannot be filled with an image id", "write it like COCO_val2014_{:0>12}") from None
    settings = {"sources": [source.name for source in sources], "name": name}
    with FeatureWriter(target, extractor=extractor, settings=settings) as writer:
        for source in sources:
            _import(source, writer, name, progress)
    return FeatureFile(target)


def _import(source: Path, writer: FeatureWriter, name: str, progress: Progress) -> None:
    try:
        for found in detect(source)(source):
            _add(writer, found, name)
            progress(found.done, found.total, f"import {source.name}")
    except OSError as error:
        raise BadData(f"cannot read {source}: {error.strerror or error}") from None


def _add(writer: FeatureWriter, found: Found, name: str) -> None:
    try:
        regions, width, height = _regions(found.values)
        writer.add(name.format(found.key), regions, width=width, height=height)
    except BadData as fault:
        # the image's name is part of most messages already, but not of all
        where = found.place if f"'{found.key}'" in fault.wrong else f"{found.place}, image '{found.key}'"
        raise BadData(f"{where}: {fault.wrong}", fault.todo or _AGAIN) from None


def _value(values: Mapping[str, Any], what: str) -> Any:
    return next((values[name] for name in _NAMES[what] if values.get(name) is not None), None)


def _number(values: Mapping[str, Any], what: str) -> int:
    found = _value(values, what)
    try:
        return 0 if found is None else int(found)
    except (ValueError, TypeError):
        raise BadData(f"its {what} is not a number: {found!r:.40}") from None


def _regions(values: Mapping[str, Any]) -> tuple[Regions, int, int]:
    """Bring what stands under any release's names into our form; boxes in pixels become fractions."""
    features, boxes = (_array(_value(values, what), np.float32) for what in ("features", "boxes"))
    width, height, count = (_number(values, what) for what in ("width", "height", "count"))
    boxes = boxes.reshape(-1, 4) if boxes.size % 4 == 0 else boxes
    count = count or len(boxes)
    if not count or features.size % count or boxes.shape != (count, 4):
        raise BadData(f"{features.size} feature values and {boxes.size} box values do not fit {count} boxes")
    if values.get("fractions") is None:
        if width <= 0 or height <= 0:
            raise BadData(f"a width of {width} and a height of {height} pixels cannot be")
        boxes = boxes / np.array([width, height, width, height], dtype=np.float32)
    if not (boxes.min() >= -_OVER and boxes.max() <= 1 + _OVER):
        raise BadData(f"its boxes leave the image ({width} x {height})", "are width and height swapped?")
    return Regions(features.reshape(count, -1), boxes.clip(0, 1), _labels(values, count)), width, height


def _labels(values: Mapping[str, Any], count: int) -> Labels | None:
    objects, attributes = _value(values, "objects"), _value(values, "attributes")
    likely, said = _probabilities(values, count), _value(values, "object_confidence")
    if likely is not None and objects is None:  # ViLBERT's release says nothing more; class 0 is the background
        objects, said = likely[:, 1:].argmax(1), likely[:, 1:].max(1)
    if objects is None and attributes is None:
        return None
    marked = _value(values, "attribute_confidence")
    return Labels(*_named(objects, said, count), *_named(attributes, marked, count), likely)


def _named(numbers: Any, sure: Any, count: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return what each region was called, and how surely: a class without confidence is sure."""
    known = np.full(count, 0.0 if numbers is None else 1.0) if sure is None else _array(sure, np.float32)
    return np.full(count, -1) if numbers is None else _array(numbers, np.int64), known


def _probabilities(values: Mapping[str, Any], count: int) -> NDArray[Any] | None:
    """Return [count, classes], the background first, where a release has them (ViLBERT, VOLTA)."""
    if (found := _value(values, "class_probabilities")) is None:
        return None
    likely = _array(found, np.float32)
    if not likely.size or likely.size % count or likely.size // count < 2:
        raise BadData(f"{likely.size} class probabilities do not fit {count} boxes")
    return likely.reshape(count, -1)


def _array(value: Any, kind: Any) -> NDArray[Any]:
    """Read an array, or base64 of one (in bytes or text)."""
    if value is None:
        raise BadData("it has no features or no boxes")
    if isinstance(value, bytes | str):
        try:
            raw = binascii.a2b_base64(value, strict_mode=True)
            return np.frombuffer(raw, np.dtype(kind).newbyteorder("<"))
        except ValueError as error:  # binascii.Error is one
            raise BadData(f"a base64 column is damaged: {error}") from None
    try:
        return np.asarray(value, dtype=kind)
    except (ValueError, TypeError) as error:
        raise BadData(f"an array is damaged: {error}") from None


# --- which form a source has -------------------------------------------------------------------------------

Reader = Callable[[Path], Iterator[Found]]


def detect(source: Path) -> Reader:
    """Tell from its content how a file or folder is read; BadData where it is none of the known forms."""
    if source.is_dir():
        readers: dict[str, Reader] = {"*.npz": _npz, "*_info.npy": _npy, "data.mdb": _lmdb}
        found = next((reader for form, reader in readers.items() if any(source.glob(form))), None)
    elif not source.is_file():
        raise BadData(f"there is no file or folder {source}")
    elif h5py.is_hdf5(source):
        found = _detect_hdf5(source)
    else:
        found = _detect_text(source)
    if found is None:
        raise BadData(
            f"{source}: not a known form of region features",
            "known: TSV of 6 or 10 columns, HDF5 with index, HDF5 groups, folders of npz, npy or LMDB",
        )
    return found


def _detect_text(source: Path) -> Reader | None:
    with source.open("rb") as file:
        columns = file.readline(1 << 26).count(b"\t") + 1
    return _tsv if columns in (len(ORIGINAL), len(LXMERT)) else None


def _detect_hdf5(source: Path) -> Reader | None:
    with _hdf5(source) as file:
        if file.attrs.get("format") == FORMAT:
            raise BadData(f"{source} is a region-feature file already", "use it as it is")
        if "image_features" in file:
            return _indexed
        return _groups if any(isinstance(file[name], h5py.Group) for name in list(file)[:1]) else None


def _hdf5(source: Path) -> h5py.File:
    try:
        return h5py.File(source, "r", locking=False)
    except (OSError, RuntimeError) as error:
        raise BadData(f"{source}: cannot be opened: {error}", _AGAIN) from None


# --- one reader a form -------------------------------------------------------------------------------------


def _tsv(source: Path) -> Iterator[Found]:
    """Read rows of tab-parted columns, arrays in base64."""
    total, done, columns = source.stat().st_size, 0, 0
    with source.open("rb") as file:
        for number, line in enumerate(file, 1):
            done += len(line)
            if not line.strip():  # some end with an empty line
                continue
            cells = line.rstrip(b"\r\n").split(b"\t")
            columns = columns or len(cells)
            key, place = cells[0][:80].decode("utf-8", "replace"), f"{source}, line {number}"
            if len(cells) != columns:
                raise BadData(f"{place}, image '{key}': {len(cells)} columns, not {columns}", _AGAIN)
            if number == 1 and not line.endswith(b"\n"):  # later rows must have as many values as the first
                raise BadData(f"{place}, image '{key}': the file ends inside its first row", _AGAIN)
            row = dict(zip(LXMERT if columns == len(LXMERT) else ORIGINAL, cells, strict=True))
            yield Found(key, place, _row(row, f"{place}, image '{key}'"), done, total)


def _row(row: Mapping[str, bytes], place: str) -> dict[str, Any]:
    """Decode a row's cells: sizes and the count of boxes are numbers, the rest base64 of arrays."""
    numbers = {name for name in row if name.endswith(("_h", "_w"))} | {"num_boxes"}
    arrays = row.keys() - numbers - {"img_id", "image_id"}
    try:
        values: dict[str, Any] = {name: int(row[name]) for name in numbers}
        return values | {name: _array(row[name], _TYPES.get(name, np.float32)) for name in arrays}
    except (ValueError, BadData) as error:
        raise BadData(f"{place}: {error}", _AGAIN) from None


def _indexed(source: Path) -> Iterator[Found]:
    """Read bottom-up-attention-vqa: arrays over all images, and a pickle with each image's row."""
    index_path = source.with_name(f"{source.stem}_imgid2idx.pkl")
    if not index_path.is_file():
        raise BadData(f"{source} needs its index beside it: there is no {index_path}")
    with index_path.open("rb") as stream:
        index = _plain(stream, index_path)
    if not isinstance(index, dict) or not all(isinstance(row, int) for row in index.values()):
        raise BadData(f"{index_path}: not an index from image ids to rows")
    with _hdf5(source) as file:
        for done, (key, row) in enumerate(index.items(), 1):
            place = f"{source}, row {row}"
            try:
                ends = tuple(file["pos_boxes"][row]) if "pos_boxes" in file else None
                part: Any = slice(*ends) if ends else row
                values = {
                    "features": file["image_features"][part],
                    "boxes": file["spatial_features"][part][:, :4],  # image_bb has pixels but no sizes
                    "fractions": True,
                }
            except (OSError, KeyError, ValueError, IndexError, RuntimeError) as error:
                raise BadData(f"{place}, image '{key}': {error}", _AGAIN) from None
            yield Found(str(key), place, values, done, len(index))


def _groups(source: Path) -> Iterator[Found]:
    """Read an HDF5 file with one group an image."""
    with _hdf5(source) as file:
        total = len(file)
        for done, key in enumerate(file, 1):
            try:
                values = {name: data[()] for name, data in file[key].items()}
            except (OSError, KeyError, ValueError, RuntimeError, AttributeError) as error:
                raise BadData(f"{source}, image '{key}': {error}", _AGAIN) from None
            yield Found(key, str(source), values, done, total)


def _npz(source: Path) -> Iterator[Found]:
    """Read MCAN's folder: one npz an image, ``x`` [F, R]."""
    paths = sorted(source.glob("*.npz"))
    for done, path in enumerate(paths, 1):
        try:
            with np.load(path, allow_pickle=False) as file:
                values = {name: file[name] for names in _NAMES.values() for name in names if name in file.files}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise BadData(f"{path}: {error}", _AGAIN) from None
        if "x" in values:
            values["x"] = values["x"].T
        key = path.name.removesuffix(".npz").removesuffix(".jpg").removesuffix(".png")
        yield Found(key, str(path), values, done, len(paths))


def _npy(source: Path) -> Iterator[Found]:
    """Read Pythia's folder: NAME.npy with features and NAME_info.npy with a pickled dict."""
    paths = sorted(source.glob("*_info.npy"))
    for done, path in enumerate(paths, 1):
        features = path.with_name(path.name.replace("_info.npy", ".npy"))
        try:
            values = {"features": np.load(features, allow_pickle=False)}
            with path.open("rb") as file:
                np.lib.format.read_magic(file)
                np.lib.format.read_array_header_1_0(file)
                info = _plain(file, path)
        except (OSError, ValueError, EOFError) as error:
            raise BadData(f"{features}: {error}", _AGAIN) from None
        info = info.item() if isinstance(info, np.ndarray) and info.ndim == 0 else info
        if not isinstance(info, dict):
            raise BadData(f"{path}: not a dict of sizes and boxes")
        yield Found(features.stem, str(features), {**info, **values}, done, len(paths))


def _lmdb(source: Path) -> Iterator[Found]:
    """Read ViLBERT's and VOLTA's LMDB: a pickled dict an image, and a list of ids under ``keys``."""
    try:
        lmdb = importlib.import_module("lmdb")
    except ImportError:
        raise Fault(f"reading {source} needs the package lmdb", "type: pip install lmdb") from None
    try:
        with lmdb.open(str(source), readonly=True, lock=False) as store, store.begin() as view:
            total = store.stat()["entries"] - 1
            pairs = ((key, value) for key, value in view.cursor() if key != b"keys")
            for done, (key, value) in enumerate(pairs, 1):
                name = key.decode("utf-8", "replace")
                values = _plain(value, source)
                if not isinstance(values, dict):
                    raise BadData(f"{source}, image '{name}': not a dict")
                yield Found(name, str(source), values, done, total)
    except lmdb.Error as error:
        raise BadData(f"{source}: {error}", _AGAIN) from None


# --- pickles without code ----------------------------------------------------------------------------------

_HARMLESS = {
    ("_codecs", "encode"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
}
"""What plain arrays and numbers are built with; anything else in a pickle could run code."""


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _HARMLESS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not data")
        return getattr(importlib.import_module(module.replace("numpy.core", "numpy._core")), name)


def _plain(stream: IO[bytes] | bytes, place: Path) -> Any:
    """Unpickle dicts, lists, numbers, texts and arrays; BadData for anything else."""
    try:
        source = io.BytesIO(stream) if isinstance(stream, bytes) else stream
        return _Restricted(source, encoding="latin1").load()  # the published ones are of Python 2
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise BadData(f"{place}: not a plain pickle: {error}", _AGAIN) from None
    except (MemoryError, OverflowError):
        raise BadData(f"{place}: its pickle is damaged", _AGAIN) from None

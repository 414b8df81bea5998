"""The seven forms in which region features are handed out: told apart by their content, read an image at a time.

Nothing that stands in a pickle is ever run. Forms: the six-column TSV of bottom-up attention, the ten-column TSV of
LXMERT, the HDF5 with index of bottom-up-attention-vqa, npz (MCAN), npy with info (Pythia), an HDF5 group an image, LMDB
(VOLTA).
"""

from __future__ import annotations

import binascii
import importlib
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from vlbench.data.array_pickle import AGAIN, read_plain
from vlbench.data.features import FORMAT
from vlbench.types import BadData, Fault

ORIGINAL = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")
LXMERT = (
    *("img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf"),
    *("num_boxes", "boxes", "features"),
)
"""Height comes before width here, after it in the original."""
_TYPES = {"objects_id": np.int64, "attrs_id": np.int64}  # of base64 columns; the others are float32
NAMES: dict[str, tuple[str, ...]] = {
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


class Found(NamedTuple):
    """One image of a source, as it was found there."""

    key: str
    place: str
    """File, and line where it has lines."""
    values: Mapping[str, Any]
    """By the names of the source."""
    done: int
    total: int


def array_of(value: Any, kind: Any) -> NDArray[Any]:
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
        raise BadData(f"{source}: cannot be opened: {error}", AGAIN) from None


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
                raise BadData(f"{place}, image '{key}': {len(cells)} columns, not {columns}", AGAIN)
            if number == 1 and not line.endswith(b"\n"):  # later rows must have as many values as the first
                raise BadData(f"{place}, image '{key}': the file ends inside its first row", AGAIN)
            row = dict(zip(LXMERT if columns == len(LXMERT) else ORIGINAL, cells, strict=True))
            yield Found(key, place, _row(row, f"{place}, image '{key}'"), done, total)


def _row(row: Mapping[str, bytes], place: str) -> dict[str, Any]:
    """Decode a row's cells: sizes and the count of boxes are numbers, the rest base64 of arrays."""
    numbers = {name for name in row if name.endswith(("_h", "_w"))} | {"num_boxes"}
    arrays = row.keys() - numbers - {"img_id", "image_id"}
    try:
        values: dict[str, Any] = {name: int(row[name]) for name in numbers}
        return values | {name: array_of(row[name], _TYPES.get(name, np.float32)) for name in arrays}
    except (ValueError, BadData) as error:
        raise BadData(f"{place}: {error}", AGAIN) from None


def _indexed(source: Path) -> Iterator[Found]:
    """Read bottom-up-attention-vqa: arrays over all images, and a pickle with each image's row."""
    index_path = source.with_name(f"{source.stem}_imgid2idx.pkl")
    if not index_path.is_file():
        raise BadData(f"{source} needs its index beside it: there is no {index_path}")
    with index_path.open("rb") as stream:
        index = read_plain(stream, index_path)
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
                raise BadData(f"{place}, image '{key}': {error}", AGAIN) from None
            yield Found(str(key), place, values, done, len(index))


def _groups(source: Path) -> Iterator[Found]:
    """Read an HDF5 file with one group an image."""
    with _hdf5(source) as file:
        total = len(file)
        for done, key in enumerate(file, 1):
            try:
                values = {name: data[()] for name, data in file[key].items()}
            except (OSError, KeyError, ValueError, RuntimeError, AttributeError) as error:
                raise BadData(f"{source}, image '{key}': {error}", AGAIN) from None
            yield Found(key, str(source), values, done, total)


def _npz(source: Path) -> Iterator[Found]:
    """Read MCAN's folder: one npz an image, ``x`` [F, R]."""
    paths = sorted(source.glob("*.npz"))
    for done, path in enumerate(paths, 1):
        try:
            with np.load(path, allow_pickle=False) as file:
                values = {name: file[name] for names in NAMES.values() for name in names if name in file.files}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise BadData(f"{path}: {error}", AGAIN) from None
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
                info = read_plain(file, path)
        except (OSError, ValueError, EOFError) as error:
            raise BadData(f"{features}: {error}", AGAIN) from None
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
                values = read_plain(value, source)
                if not isinstance(values, dict):
                    raise BadData(f"{source}, image '{name}': not a dict")
                yield Found(name, str(source), values, done, total)
    except lmdb.Error as error:
        raise BadData(f"{source}: {error}", AGAIN) from None

"""The image files of a data set that are here: in a folder however it is parted, or in a tar."""

from __future__ import annotations

import hashlib
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from filelock import FileLock

from vlbench.paths import cache_root, make_folder, replacing
from vlbench.types import BadData

KINDS = (".png", ".jpg", ".jpeg")


def pictures_in(place: Path) -> dict[str, Path]:
    """Return the image files below a folder, or in a tar, by their names without suffix; none where neither is here."""
    folder = unpacked(place) if place.is_file() else place
    return {path.stem: path for path in sorted(_files(folder), reverse=True)}


def names_in(place: Path) -> set[str]:
    """Return the names, without suffix, of the images in a folder or a tar, which is looked through, not unpacked."""
    if not place.is_file():
        return {path.stem for path in _files(place)}
    with _opened(place) as packed:
        return {PurePosixPath(name).stem for name in _named(place, packed)}


def holds_pictures(place: Path) -> bool:
    """Say whether a folder holds an image; a file is taken for a tar that does."""
    return place.is_file() or any(True for _ in _files(place))


def _files(folder: Path) -> Iterator[Path]:
    for inside, _, names in os.walk(folder):
        yield from (Path(inside, name) for name in names if _is_image(name))


def _is_image(name: str) -> bool:
    return name.lower().endswith(KINDS) and not name.startswith(".")  # some systems leave ._copies of files


def unpacked(archive: Path) -> Path:
    """Return the folder of a tar's images in the cache; they are unpacked there once, all into one folder."""
    about = archive.stat()
    name = hashlib.sha256(f"{archive.resolve()} {about.st_size} {about.st_mtime_ns}".encode()).hexdigest()[:16]
    kept = make_folder(cache_root() / "images") / f"{archive.stem}-{name}"
    with FileLock(f"{kept}.lock"):
        if not kept.is_dir():
            with replacing(kept) as part:
                part.mkdir()
                _unpack(archive, part)
    return kept


def _unpack(archive: Path, folder: Path) -> None:
    """Write the images under their bare names, whatever folders or links the tar holds."""
    with _opened(archive) as packed:
        for name, member in _named(archive, packed).items():
            content = packed.extractfile(member)
            assert content is not None  # only links and folders have none
            (folder / name).write_bytes(content.read())


def _named(archive: Path, packed: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    """Return the images of a tar by their bare names."""
    found: dict[str, tarfile.TarInfo] = {}
    for member in packed:
        name = PurePosixPath(member.name).name
        if not member.isfile() or not _is_image(name):
            continue
        if name in found:
            raise BadData(f"{archive}: holds two images called {name}")
        found[name] = member
    return found


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    """Open a tar; BadData where it is none, or is cut."""
    try:
        with tarfile.open(archive) as packed:
            yield packed
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise BadData(f"{archive}: not a whole tar: {error}", "it may be cut short: get it again") from None

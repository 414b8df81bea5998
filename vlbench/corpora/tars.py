"""Go through the members of a tar: where each lies in the file, so that any can be read without the others."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import NamedTuple

from vlbench.corpora.sources import Source
from vlbench.types import BadData, Progress

_PACKED = {b"\x1f\x8b": "gzip -d", b"BZh": "bzip2 -d", b"\xfd7zXZ": "xz -d", b"\x28\xb5\x2f\xfd": "zstd -d"}
"""How compressed files begin, and what unpacks them."""
_CUT = "it may be cut short or damaged: get it again"
_BLOCK = 1 << 20
_TOLD = 1000
"""Members after which progress is told."""


class TarMember(NamedTuple):
    """A file in a tar."""

    name: str
    begin: int
    end: int


def tar_members(source: Source, progress: Progress) -> Iterator[TarMember]:
    """Yield the files of a tar; BadData where it is compressed, cut or damaged, or holds links instead of files."""
    try:
        with tarfile.open(source.path, "r:", errorlevel=2) as packed:
            yield from _members(packed, source, progress)
    except (tarfile.TarError, ValueError, LookupError, EOFError, OverflowError, RecursionError) as error:
        _refuse_packed(source)
        raise BadData(f"{source.path}: not a whole tar: {error}", _CUT) from None
    except OSError as error:
        raise BadData(f"{source.path}: cannot be read: {error.strerror or error}") from None


def _refuse_packed(source: Source) -> None:
    """Say so where a file is compressed: what is in it could only be found from its beginning each time."""
    with source.path.open("rb") as file:
        start = file.read(8)
    for mark, command in _PACKED.items():
        if start.startswith(mark):
            raise BadData(
                f"{source.path}: a compressed tar, whose members cannot be read one by one", f"unpack it: {command}"
            )


def _members(packed: tarfile.TarFile, source: Source, progress: Progress) -> Iterator[TarMember]:
    at, count = -1, 0
    while (found := packed.next()) is not None:
        packed.members.clear()  # type: ignore[attr-defined]  # a list that would grow with the tar
        if found.offset <= at or found.size < 0 or found.offset_data + found.size > source.size:
            raise BadData(f"{source.path}: not a whole tar: byte {found.offset}: a member lies outside of it", _CUT)
        at, count = found.offset, count + 1
        if found.issparse() or not (found.isreg() or found.isdir()):
            wrong = f"{source.path}: byte {at}: {found.name!a} is no plain file but a link or a file with holes"
            raise BadData(wrong, "pack it again with the files themselves: tar --dereference")
        if found.isreg():
            yield TarMember(found.name, found.offset_data, found.offset_data + found.size)
        if count % _TOLD == 0:
            progress(at, source.size, f"index of {source.path.name}")
    _check_end(source, packed.offset)


def _check_end(source: Source, at: int) -> None:
    """Refuse a tar that does not end with zeros: reading stops at a damaged member as it does at the end."""
    if at + tarfile.BLOCKSIZE > source.size:
        raise BadData(f"{source.path}: not a whole tar: byte {source.size}: the mark of its end is missing", _CUT)
    with source.path.open("rb") as file:
        file.seek(at)
        while block := file.read(_BLOCK):
            if block.strip(b"\0"):
                at += len(block) - len(block.lstrip(b"\0"))
                raise BadData(f"{source.path}: not a whole tar: byte {at}: neither a member nor the end", _CUT)
            at += len(block)

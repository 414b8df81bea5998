"""The layout ``shards``: tars in which files of one name belong together, as WebDataset and img2dataset write them.

KEY.jpg, .jpeg or .png is the image and KEY.txt its caption, or "caption" of KEY.json; the key goes up to the first dot
of the file's name. Files of a key stand one after the other. What else a key has is left alone, and so are files
without a suffix. A shard is read where it lies: nothing is unpacked, and every process opens it once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from vlbench.corpora.corpus import Corpus, check_text, named_files
from vlbench.corpora.index import open_index
from vlbench.corpora.index_writer import IndexWriter
from vlbench.corpora.records import LONGEST, Faults
from vlbench.corpora.sources import Member, Readable, Source
from vlbench.corpora.tars import TarMember, tar_members
from vlbench.tasks.pictures import KINDS
from vlbench.tasks.reading import member
from vlbench.types import BadData, Example, Progress, quiet

_COLUMNS = ("begin", "end", "text", "over", "json", "named")
_ADVICE = "each key has one image (.jpg, .jpeg, .png) and a caption (.txt, or 'caption' in .json)"


class _Sample(NamedTuple):
    """What belongs to one key."""

    image: TarMember
    text: TarMember
    is_json: bool


def _keyed(name: str) -> tuple[str, str]:
    """Cut the name of a member into key and suffix; without suffix where it belongs to no key."""
    folder, slash, file = name.rpartition("/")
    stem, dot, suffix = file.partition(".")
    return (folder + slash + stem, dot + suffix.lower()) if stem and suffix else ("", "")


def _groups(source: Source, progress: Progress) -> Iterator[tuple[str, dict[str, list[TarMember]]]]:
    named = ((_keyed(found.name), found) for found in tar_members(source, progress))
    for key, members in groupby((one for one in named if one[0][0]), key=lambda one: one[0][0]):
        group: dict[str, list[TarMember]] = {}
        for (_, suffix), found in members:
            group.setdefault(suffix, []).append(found)
        yield key, group


def _sample(group: dict[str, list[TarMember]], place: str) -> _Sample:
    """Choose the image and the text of a key; BadData where they are not one each."""
    images = [found for kind in KINDS for found in group.get(kind, ())]
    texts = group.get(".txt") or group.get(".json") or []
    for what, found in (("image", images), ("caption", texts)):
        if len(found) != 1:
            raise BadData(f"{place}: {'several files are its' if found else 'it has no'} {what}")
    return _Sample(images[0], texts[0], ".txt" not in group)


def _caption(content: bytes, is_json: bool, place: str) -> str:
    """Return the caption that a file holds."""
    try:
        text = content.decode()
        return check_text(member(json.loads(text), "caption", str, place) if is_json else text.strip(), place)
    except UnicodeDecodeError as error:
        raise BadData(f"{place}: its caption is not UTF-8 text: byte {error.start}") from None
    except (ValueError, RecursionError):
        raise BadData(f"{place}: its .json is not JSON") from None


def _check_name(key: str, place: str) -> None:
    try:
        key.encode()
    except UnicodeEncodeError:
        raise BadData(f"{place}: its name is not UTF-8") from None


def _scan(source: Source, writer: IndexWriter, progress: Progress) -> None:
    faults = Faults(_ADVICE)
    for row, (key, group) in enumerate(_groups(source, progress)):
        first = min(found.begin for members in group.values() for found in members)
        place = f"{source.path}: [{row}], byte {first}: {key!a}"
        try:
            image, text, is_json = _sample(group, place)
            if text.end - text.begin > LONGEST:
                raise BadData(f"{place}: its caption has more than {LONGEST:,} bytes")
            _caption(source.read(text.begin, text.end), is_json, place)
            _check_name(key, place)
        except BadData as fault:
            faults.add(key, fault)
            continue
        writer.name(key)
        writer.add(image.begin, image.end, text.begin, text.end, is_json, writer.named)
    faults.refuse()


class Shards(Corpus):
    """A corpus of images and captions in tars, one example a key."""

    def __init__(self, name: str, files: Sequence[Path], *, todo: str = "", progress: Progress = quiet) -> None:
        super().__init__(name)
        self._files = tuple(files)
        self._index = open_index(files, "shards", _COLUMNS, _scan, progress=progress, todo=todo)

    def __len__(self) -> int:
        return len(self._index)

    def example(self, number: int, draw: int = 0) -> Example:
        """Return an image and its caption; the key of the image is CORPUS:RECORD/KEY. Nothing is drawn."""
        return Example(f"{self.name}:{number}", (f"{self.name}:{self._key(number)}",), tuple(self.told(number)))

    def _key(self, number: int) -> str:
        return f"{number}/{self._index.name(number)}"

    def told(self, number: int) -> Sequence[str]:
        """Return the one caption of a key."""
        self.check_number(number)
        content = self._index.read(number, "text", "over")
        return (_caption(content, bool(self._index.column("json")[number]), self._index.place(number)),)

    def picture(self, key: str) -> Readable | None:
        """Return an image, which is read out of its shard."""
        inside = self.inside(key)
        number = int(inside.partition("/")[0]) if inside.partition("/")[0].isdecimal() else -1
        if not 0 <= number < len(self) or self._key(number) != inside:
            raise KeyError(f"{key} is no image of {self.name}")
        begin, end = (int(self._index.column(name)[number]) for name in ("begin", "end"))
        return Member(self._index.source(number), begin, end)

    def files(self) -> dict[str, Path]:
        """Return the shards."""
        return named_files(self._files)

"""The layout ``pictures``: a folder of images without texts, however it is parted, an example an image.

The list of its images is kept as an index is; it is made anew when a folder has changed, which a changed image does
not make it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlbench.corpora.corpus import Corpus, find_picture
from vlbench.corpora.index import kept_name, open_kept
from vlbench.corpora.index_writer import IndexWriter
from vlbench.corpora.records import Faults
from vlbench.corpora.sources import Readable, Source
from vlbench.tasks.pictures import KINDS
from vlbench.types import BadData, Example, Progress, quiet

_ADVICE = "give it a name of plain characters"


def _folders(root: Path) -> Iterator[tuple[str, int, list[str]]]:
    """Yield each folder below a root in order, when it changed, and the files in it; links to folders are followed."""
    seen: set[tuple[int, int]] = set()
    for inside, folders, names in os.walk(root, followlinks=True, onerror=_refuse):
        about = os.stat(inside)
        if (about.st_dev, about.st_ino) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add((about.st_dev, about.st_ino))
        folders.sort()
        yield inside, about.st_mtime_ns, sorted(names)


def _refuse(error: OSError) -> None:
    raise BadData(f"{error.filename}: cannot be read: {error.strerror or error}")


def _unchanged(about: Mapping[str, Any]) -> bool:
    """Say whether the folders a list was made of are as they were."""
    return all(os.stat(folder).st_mtime_ns == changed for folder, changed in about["folders"])


class Pictures(Corpus):
    """A corpus of images."""

    def __init__(self, name: str, folder: Path, *, progress: Progress = quiet) -> None:
        super().__init__(name)
        self._folder = folder
        root = folder.resolve()

        def make(writer: IndexWriter) -> None:
            folders, faults = [], Faults(_ADVICE)
            for inside, changed, names in _folders(root):
                folders.append((inside, changed))
                for file in names:
                    _add(writer, faults, os.path.relpath(os.path.join(inside, file), root))
                progress(writer.count, writer.count, f"images in {folder}")
            faults.refuse()
            if not writer.count:
                raise BadData(f"{folder}: holds no image ({', '.join(KINDS)})")
            writer.close([Source(root, 0, 0)], [0, writer.count], folders=folders)

        kept = kept_name(root.name, ["pictures", str(root)])
        self._index = open_kept(kept, ("named",), make, _unchanged)

    def __len__(self) -> int:
        return len(self._index)

    def example(self, number: int, draw: int = 0) -> Example:
        """Return an image; nothing is drawn."""
        self.check_number(number)
        return Example(f"{self.name}:{number}", (f"{self.name}:{self._index.name(number)}",), ())

    def told(self, number: int) -> Sequence[str]:
        """Return nothing: there are no texts."""
        return ()

    def picture(self, key: str) -> Readable | None:
        """Return the file of an image; None where it is gone."""
        return find_picture([self._folder], self.inside(key))

    def files(self) -> dict[str, Path]:
        """Return nothing: the images are all there is."""
        return {}

    def hashes(self) -> dict[str, str]:
        """Hash the list of the images."""
        content = hashlib.sha256(self._index.column("named").tobytes())
        content.update(self._index.names.tobytes())
        return {"images": content.hexdigest()}


def _add(writer: IndexWriter, faults: Faults, path: str) -> None:
    """Take a file if it is an image."""
    name = os.path.basename(path)
    if not name.lower().endswith(KINDS) or name.startswith("."):  # some systems leave ._copies of files
        return
    try:
        path.encode()
    except UnicodeEncodeError:
        faults.add(path, BadData(f"{path!a}: the name of the file is not UTF-8"))
        return
    writer.name(path)
    writer.add(writer.named)

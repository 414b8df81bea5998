"""Which of the many small files of a world's folder are missing, are too many, or were written after it was made.

The manifest has one hash for such a folder, which tells that something is wrong. What it is, the region features and
VCR's annotations tell, which name the files that should be there, and the times at which files were written.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vlbench.data.features import FeatureFile
from vlbench.tasks.reading import member
from vlbench.tasks.records import json_lines, read_bytes
from vlbench.types import BadData
from vlbench.world.layout import COCO_IMAGES, FILES, MANIFEST, METADATA, NLVR_IMAGES, REGIONS
from vlbench.world.output import add_hash

_BOXES = f"vcr/{METADATA}"


def differences(folder: Path, name: str, known: str) -> list[str]:
    """List the files of a folder that are not as they were made; the folder itself where no file explains its hash."""
    place = folder / name
    here = {path.name: path for path in place.iterdir() if path.is_file()} if place.is_dir() else {}
    if _hash(name, here.values()) == known:
        return []
    wanted = _wanted(folder, name)
    kept = sorted(here.keys() & wanted)
    missing, more = sorted(wanted - here.keys()), sorted(here.keys() - wanted) if wanted else []
    made = (folder / MANIFEST).stat().st_mtime_ns
    later = [one for one in kept if here[one].stat().st_mtime_ns > made]
    if len(later) == len(kept):
        later = []  # copied as a whole, which says nothing of any of them
    found = [f"{name}/{one} (missing)" for one in missing]
    found += [f"{name}/{one} (not part of it)" for one in more]
    found += [f"{name}/{one} (written later)" for one in later]
    explained = missing or later or (more and _hash(name, (here[one] for one in kept)) == known)
    return found if explained else [*found, f"{name}/"]


def _hash(name: str, paths: Iterable[Path]) -> str:
    total = 0
    for path in paths:
        total = add_hash(total, f"{name}/{path.name}", path.read_bytes())
    return f"{total:064x}"


def _wanted(folder: Path, name: str) -> set[str]:
    """Return the names of the files that should be there; none where what tells them is spoilt too."""
    try:
        if name == _BOXES:
            return set().union(*(_boxes(folder / "vcr" / names["annotations"]) for names in FILES["vcr"].values()))
        keys = tuple(FeatureFile(folder / REGIONS).keys) if name in (COCO_IMAGES, NLVR_IMAGES) else ()
        return {f"{key}.png" for key in keys if key.startswith("COCO_") == (name == COCO_IMAGES)}
    except BadData:
        return set()


def _boxes(path: Path) -> set[str]:
    lines = json_lines(read_bytes(path).split(b"\n"), str(path))
    return {member(record, "metadata_fn", str, place) for place, record in lines}

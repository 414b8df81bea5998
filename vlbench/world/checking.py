"""Read what a world says of itself, and see whether its files are what they were when it was made."""

from __future__ import annotations

import dataclasses
import json
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from vlbench.data.features import FeatureFile
from vlbench.paths import sha256
from vlbench.types import BadData, Progress, quiet
from vlbench.world.blocks import WORLD_VERSION
from vlbench.world.folders import differences
from vlbench.world.layout import MANIFEST, REGIONS
from vlbench.world.making import SIZES, Counts, Manifest

_SHOWN = 10


class Origin(NamedTuple):
    """What worlds of one size and version may differ in."""

    seed: int = 0
    noise: float = Counts.wrong
    """Share of wrong captions in the web corpus."""

    def __str__(self) -> str:
        return f"seed {self.seed}, noise {self.noise}"


STANDARD = Origin()
"""Of the world that runs make where none is, and that results are published of."""


def origin_of(folder: Path) -> Origin | None:
    """Return the seed and noise that a manifest of whatever version states; None where there is none to be read."""
    try:
        values = json.loads((folder / MANIFEST).read_bytes())
        return Origin(int(values["seed"]), float(values["counts"]["wrong"]))
    except (OSError, ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return None


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a world; BadData where there is none, or where it is of another version."""
    path = folder / MANIFEST
    todo = _anew(folder.name.partition("-")[0])
    try:
        values = json.loads(path.read_bytes())
        version = values["version"]
        if type(version) is int and version != WORLD_VERSION:  # its other members may be of any kind
            how = f"world version {version}, and this program makes {WORLD_VERSION}"
            raise BadData(f"{folder}: the made-up world there was made by another version: {how}", todo)
        found = Manifest(**values)
    except FileNotFoundError:
        raise BadData(f"there is no world in {folder}: {path} is not here", todo) from None
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise BadData(f"{path}: not the manifest of a world: {error}", todo) from None
    held = vars(found).items()
    kinds = {field.name: str(field.type).partition("[")[0] for field in dataclasses.fields(Manifest)}
    wrong = [name for name, value in held if type(value).__name__ != kinds[name]]
    wrong += [] if _are_counts(found.tasks) else ["tasks"]
    if wrong:
        raise BadData(f"{path}: '{wrong[0]}' is not what it should be", todo)
    return found


def _are_counts(tasks: Any) -> bool:
    try:
        counts = [one for splits in tasks.values() for one in splits.values()]
        return all(type(number) is int for one in counts for number in (one["images"], one["examples"], *one.values()))
    except (AttributeError, LookupError, TypeError):
        return False


def _anew(size: str, origin: Origin = STANDARD) -> str:
    """Say how a world of a size is made anew."""
    return "vlbench data get world makes it anew" if size not in SIZES else f"make it anew: {command_for(size, origin)}"


def command_for(size: str, origin: Origin = STANDARD) -> str:
    """Return the command that makes a world of a size."""
    other = f" --seed {origin.seed} --noise {origin.noise} --to FOLDER" if origin != STANDARD else ""
    return f"vlbench data get world --size {size}{other}"


def changed(folder: Path, manifest: Manifest, progress: Progress = quiet) -> dict[str, list[str]]:
    """Return what of a world is missing or not as it was made: files, folders of many files, the region features.

    With each of them stands what to say of it: of a folder, the files that are at fault as far as they can be told.
    """
    total, wrong = count_files(manifest), dict[str, list[str]]()
    for done, (name, known) in enumerate(manifest.files.items(), 1):
        progress(done, total, "files")
        if _hash(folder / name) != known:
            wrong[name] = [name]
    for done, (name, known) in enumerate(manifest.folders.items(), len(manifest.files) + 1):
        progress(done, total, "files")
        if found := differences(folder, name, known):
            wrong[name] = found
    if not _regions_are(folder / REGIONS, manifest.regions):
        wrong[REGIONS] = [REGIONS]
    progress(total, total, "files")
    return wrong


def count_files(manifest: Manifest) -> int:
    """Count what ``changed`` looks at."""
    return len(manifest.files) + len(manifest.folders) + 1


def _regions_are(path: Path, known: str) -> bool:
    try:
        regions = FeatureFile(path)
        regions.verify()
    except BadData:
        return False
    return regions.sha256 == known


def check_world(folder: Path, progress: Progress = quiet) -> Manifest:
    """Compare every file of a world with its hash; BadData with the first ten that differ or are missing."""
    manifest = read_manifest(folder)
    if wrong := list(chain(*changed(folder, manifest, progress).values())):
        more = ", ..." if len(wrong) > _SHOWN else ""
        raise BadData(
            f"{folder}: not as they were made: {', '.join(wrong[:_SHOWN])}{more} ({len(wrong)} in all)",
            f"take the folder away, and {_anew(manifest.size, origin_of(folder) or STANDARD)}",
        )
    return manifest


def _hash(path: Path) -> str:
    return sha256(path) if path.is_file() else ""

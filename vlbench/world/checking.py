"""Read what a world says of itself, and see whether its files are what they were when it was made."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vlbench.data.features import FeatureFile
from vlbench.paths import sha256
from vlbench.types import BadData, Progress, quiet
from vlbench.world.blocks import WORLD_VERSION
from vlbench.world.layout import MANIFEST, REGIONS
from vlbench.world.making import SIZES, Manifest
from vlbench.world.output import add_hash

_SHOWN = 10


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


def _anew(size: str) -> str:
    """Say how a world of a size is made anew."""
    return "vlbench data get world makes it anew" if size not in SIZES else f"make it anew: {command_for(size)}"


def command_for(size: str) -> str:
    """Return the command that makes a world of a size."""
    return f"vlbench data get world --size {size}"


def changed(folder: Path, manifest: Manifest, progress: Progress = quiet) -> list[str]:
    """List what of a world is missing or not as it was made: files, folders of many files, the region features."""
    total, wrong = count_files(manifest), []
    for done, (name, known) in enumerate(manifest.files.items(), 1):
        progress(done, total, "files")
        if _hash(folder / name) != known:
            wrong.append(name)
    for done, (name, known) in enumerate(manifest.folders.items(), len(manifest.files) + 1):
        progress(done, total, "files")
        if f"{_folder_hash(folder, name):064x}" != known:
            wrong.append(f"{name}/")
    if not _regions_are(folder / REGIONS, manifest.regions):
        wrong.append(REGIONS)
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
    if wrong := changed(folder, manifest, progress):
        more = ", ..." if len(wrong) > _SHOWN else ""
        raise BadData(
            f"{folder}: not as they were made: {', '.join(wrong[:_SHOWN])}{more} ({len(wrong)} in all)",
            f"take the folder away, and {_anew(manifest.size)}",
        )
    return manifest


def _hash(path: Path) -> str:
    return sha256(path) if path.is_file() else ""


def _folder_hash(folder: Path, name: str) -> int:
    total = 0
    for path in _files(folder / name):
        total = add_hash(total, f"{name}/{path.name}", path.read_bytes())
    return total


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else iter(())

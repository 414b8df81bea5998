"""Open what a run needs of a data set: its images as a method sees them, and its words."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from filelock import FileLock
from torch import Tensor

from vlbench.cards import CorpusCard, DatasetCard
from vlbench.data.features import FeatureFile
from vlbench.data.images import GIGABYTE, ImageStore, PixelStore, RegionStore
from vlbench.data.importers import import_features
from vlbench.data.regions import cached_regions
from vlbench.data.transforms import Transform
from vlbench.data.words import TRAINERS, Words, pretrained_words, read_words
from vlbench.paths import cache_root, make_folder
from vlbench.types import BadData, Image, Progress, RegionLabels


def open_regions(
    card: DatasetCard,
    splits: Sequence[str],
    images: Mapping[str, Path],
    *,
    folder: Path,
    most: int,
    progress: Progress,
) -> ImageStore:
    """Open the region features of some splits: the stored ones of the card, else proposals on the images.

    ``folder``: where the data set's files lie. Official files are converted once and kept in the cache.
    """
    if files := card.files_of("features", splits):
        return open_stored(card, [folder / file.name for file in files], most, progress)
    if not images:
        raise BadData(
            f"{card.name}: neither region features nor images are in {folder}",
            f"see where to get them: vlbench show {card.id}",
        )
    made = cached_regions(
        images,
        most=most,
        side=16,
        folder=make_folder(cache_root() / "features"),
        progress=progress,
    )
    return RegionStore(made, most)


def open_stored(
    card: DatasetCard | CorpusCard, files: Sequence[Path], most: int, progress: Progress, *, memory: int = GIGABYTE
) -> ImageStore:
    """Open the stored region features of a card, which may lie in several files; see RegionStore for ``memory``."""
    stores = [RegionStore(_stored(path, card, progress), most, memory) for path in files]
    return stores[0] if len(stores) == 1 else JoinedStore(stores)


def _stored(path: Path, card: DatasetCard | CorpusCard, progress: Progress) -> FeatureFile:
    """Open stored features: in vlbench's own format beside the official file, else converted into the cache."""
    own = path.with_suffix(".h5")
    if own.is_file():
        return FeatureFile(own)
    if not path.exists():
        raise BadData(
            f"{card.name}: the region features {path} are not here (nor {own.name})",
            f"see where to get them: vlbench show {card.id}",
        )
    about = path.stat()
    name = hashlib.sha256(f"{path.resolve()} {about.st_size} {about.st_mtime_ns}".encode()).hexdigest()[:16]
    kept = make_folder(cache_root() / "features") / f"{path.stem}-{name}.h5"
    with FileLock(f"{kept}.lock"):
        if kept.is_file():
            return FeatureFile(kept)
        return import_features([path], kept, progress=progress)


def open_pixels(images: Mapping[str, Path], transform: Transform, *, seed: int, card: DatasetCard) -> ImageStore:
    """Open image files as pixels."""
    if not images:
        raise BadData(f"{card.name}: its images are not here", f"see where to get them: vlbench show {card.id}")
    return PixelStore(images, transform, seed=seed)


class JoinedStore:
    """Several region stores as one: train and validation features that lie in two files."""

    sees: Literal["regions", "pixels"] = "regions"

    def __init__(self, stores: Sequence[RegionStore]) -> None:
        self.stores = list(stores)
        widths = {store.feature_dim for store in stores}
        if len(widths) > 1:
            names = ", ".join(f"{store.file.path} ({store.feature_dim})" for store in stores)
            raise BadData(f"region features of different widths cannot be joined: {names}")
        self.feature_dim = self.stores[0].feature_dim
        self.sha256 = hashlib.sha256(" ".join(store.sha256 for store in stores).encode()).hexdigest()

    def _home(self, key: str) -> int | None:
        return next((number for number, store in enumerate(self.stores) if key in store), None)

    def __contains__(self, key: object) -> bool:
        return any(key in store for store in self.stores)

    def missing(self, keys: Sequence[str]) -> BadData | None:
        """Say which of these images have features in none of the files."""
        lost = [key for key in dict.fromkeys(keys) if key not in self]
        if not lost:
            return None
        names = ", ".join(str(store.file.path) for store in self.stores)
        return BadData(
            f"{len(lost):,} of {len(set(keys)):,} images have features in none of {names}: {', '.join(lost[:10])}",
            "the files may be cut, or of another data set",
        )

    def load(self, keys: Sequence[str], draw: int = 0) -> Image:
        """Read the regions of images, each from its file, padded to the largest count."""
        homes = [self._home(key) for key in keys]
        if None in homes:
            raise self.missing(keys) or KeyError(keys)
        rows = {home: [row for row, h in enumerate(homes) if h == home] for home in dict.fromkeys(homes)}
        loaded = [(self.stores[h or 0].load([keys[row] for row in rows[h]], draw), rows[h]) for h in rows]
        return loaded[0][0] if len(loaded) == 1 else laid_together(loaded, len(keys))


def laid_together(loaded: Sequence[tuple[Image, list[int]]], count: int) -> Image:
    """Put regions of several stores, each with its rows of the batch, into one batch of ``count`` images."""
    widest = max(image.values.shape[1] for image, _ in loaded)

    def lay(parts: Sequence[Tensor | None], empty: float | bool) -> Tensor:
        first = next(part for part in parts if part is not None)
        whole = torch.full((count, widest, *first.shape[2:]), empty, dtype=first.dtype)
        for part, (_, rows) in zip(parts, loaded, strict=True):
            if part is not None:
                whole[rows, : part.shape[1]] = part
        return whole

    images = [image for image, _ in loaded]
    labels = None
    found = [image.labels for image in images if image.labels is not None]
    if len(found) == len(images):
        # the shortest ends it: probabilities are kept where all stores have them, and of the same classes
        columns = zip(*(each.parts() for each in found), strict=False)
        alike = [parts for parts in columns if len({part.shape[2:] for part in parts}) == 1]
        labels = RegionLabels(*(lay(parts, 0.0 if parts[0].is_floating_point() else -1) for parts in alike))
    return Image(
        lay([image.values for image in images], 0.0),
        lay([image.boxes for image in images], 0.0),
        lay([image.mask for image in images], False),
        labels,
    )


def open_words(name: str, *, texts: Sequence[str], size: int, root: Path, kept: Path) -> Words:
    """Open a tokeniser: one of TRAINERS learns its vocabulary from ``texts`` once and keeps it at ``kept``."""
    if name not in TRAINERS:
        return pretrained_words(name, root)
    if kept.is_file():
        return read_words(kept)
    words = TRAINERS[name](texts, size)
    words.save(kept)
    return words

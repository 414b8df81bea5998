"""The images of corpora, read when they are asked for: pixels from files and archives, or stored regions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from vlbench.data.images import GIGABYTE, ImageStore
from vlbench.data.opening import laid_together
from vlbench.data.transforms import Readable, Transform, normalise, open_picture
from vlbench.types import BadData, Image


class BrokenImages(BadData):
    """Images that are not here or cannot be decoded."""

    def __init__(self, wrong: str, keys: frozenset[str]) -> None:
        super().__init__(wrong, "fetch them again, or leave their examples out")
        self.keys = keys

    def __reduce__(self) -> tuple[type[BrokenImages], tuple[str, frozenset[str]]]:
        return BrokenImages, (self.wrong, self.keys)


class Pictured(Protocol):
    """Where the pictures of corpora are, by key."""

    def picture(self, key: str) -> Readable | None:
        """Return what holds a picture; None where it is not here."""


class CorpusPixels:
    """Pictures as normalised pixels [n, 3, size, size] float32; what fits in ``memory`` is decoded once."""

    sees: Literal["regions", "pixels"] = "pixels"

    def __init__(self, corpora: Pictured, transform: Transform, *, seed: int = 0, memory: int = GIGABYTE) -> None:
        self.corpora, self.transform, self.seed = corpora, transform, seed
        self.size = transform.size
        self.memory = memory if transform.fixed else 0
        self._kept: dict[str, Tensor] = {}

    def __reduce__(self) -> tuple[Callable[..., CorpusPixels], tuple[object, ...]]:
        return _corpus_pixels, (self.corpora, self.transform, self.seed, self.memory)

    @property
    def sha256(self) -> str:
        """How pictures become pixels; what they are is not hashed, for there may be millions."""
        return hashlib.sha256(repr(self.transform).encode()).hexdigest()

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.corpora.picture(key) is not None

    def missing(self, keys: Sequence[str]) -> BadData | None:
        """Say which of these images are not here."""
        lost = [key for key in dict.fromkeys(keys) if key not in self]
        some = ", ".join(lost[:10]) + (", ..." if len(lost) > 10 else "")
        return BrokenImages(f"{len(lost):,} images are not here: {some}", frozenset(lost)) if lost else None

    def load(self, keys: Sequence[str], draw: int = 0) -> Image:
        """Decode, transform and normalise images; BrokenImages names all of them that cannot be read."""
        found: list[Tensor] = []
        broken: dict[str, str] = {}
        for key in keys:
            try:
                found.append(self._bytes(key, draw))
            except BadData as error:
                broken[key] = error.wrong
        if broken:
            raise BrokenImages(next(iter(broken.values())), frozenset(broken))
        return Image(normalise(torch.stack(found), self.transform.statistics))

    def _bytes(self, key: str, draw: int) -> Tensor:
        if (kept := self._kept.get(key)) is not None:
            return kept
        picture = self.corpora.picture(key)
        if picture is None:
            raise BadData(f"image '{key}' is not here")
        name = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
        generator = np.random.default_rng([self.seed, draw, name])
        made = self.transform(open_picture(picture, key), generator)
        pixels = torch.from_numpy(made.copy()).permute(2, 0, 1)
        if (len(self._kept) + 1) * pixels.numel() <= self.memory:
            self._kept[key] = pixels
        return pixels


def _corpus_pixels(corpora: Pictured, transform: Transform, seed: int, memory: int) -> CorpusPixels:
    return CorpusPixels(corpora, transform, seed=seed, memory=memory)


class CorpusRegions:
    """Stored regions of several corpora; an image's key is ``CORPUS:NAME``, its name that in the corpus's file."""

    sees: Literal["regions", "pixels"] = "regions"

    def __init__(self, stores: Mapping[str, ImageStore]) -> None:
        self.stores = dict(stores)
        widths = {int(getattr(store, "feature_dim", 0)) for store in self.stores.values()}
        if len(widths) > 1:
            raise BadData(f"region features of {len(widths)} widths cannot be read together: {sorted(widths)}")
        self.feature_dim = widths.pop()

    @property
    def sha256(self) -> str:
        """What the regions are, of all corpora."""
        return hashlib.sha256(" ".join(store.sha256 for store in self.stores.values()).encode()).hexdigest()

    def _name(self, key: str) -> str | None:
        """Return an image's name in its corpus's file: its key, or that without folders and suffix; None if neither."""
        corpus, _, name = key.partition(":")
        if corpus not in self.stores:
            return None
        return next((one for one in (name, PurePosixPath(name).stem) if one in self.stores[corpus]), None)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._name(key) is not None

    def missing(self, keys: Sequence[str]) -> BadData | None:
        """Say which of these images have no regions."""
        lost = [key for key in dict.fromkeys(keys) if key not in self]
        some = ", ".join(lost[:10]) + (", ..." if len(lost) > 10 else "")
        return BrokenImages(f"{len(lost):,} images have no regions: {some}", frozenset(lost)) if lost else None

    def load(self, keys: Sequence[str], draw: int = 0) -> Image:
        """Read the regions of images, each from its corpus, padded to the largest count."""
        names = [self._name(key) for key in keys]
        if fault := self.missing([key for key, name in zip(keys, names, strict=True) if name is None]):
            raise fault
        homes = [key.partition(":")[0] for key in keys]
        rows = {home: [row for row, own in enumerate(homes) if own == home] for home in dict.fromkeys(homes)}
        loaded = [(self.stores[home].load([str(names[row]) for row in own], draw), own) for home, own in rows.items()]
        return loaded[0][0] if len(loaded) == 1 else laid_together(loaded, len(keys))

"""The images of a batch by key: stored regions or pixels, behind one small protocol.

A store is told nothing of methods or tasks. Both kinds keep what they hold in memory when it is small, and
both can be used by many worker processes: what is kept is shared between them, not copied.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from vlbench.data.features import FeatureFile, Gathered
from vlbench.data.regions import hash_images
from vlbench.data.transforms import Transform, normalise, open_picture
from vlbench.types import BadData, Image, Progress, RegionLabels, quiet

GIGABYTE = 1 << 30


class ImageStore(Protocol):
    """Where the images of a data set come from."""

    @property
    def sees(self) -> Literal["regions", "pixels"]:
        """What ``load`` returns."""

    @property
    def sha256(self) -> str:
        """What the images are, for a run's record."""

    def __contains__(self, key: object) -> bool: ...

    def missing(self, keys: Sequence[str]) -> BadData | None:
        """Say which of these images are not here, in one line; None when all are."""

    def load(self, keys: Sequence[str], draw: int = 0) -> Image:
        """Read images for a batch; ``draw`` numbers the draws of random crops (the step, say)."""


class RegionStore:
    """Stored region features: values [n, R, F] float32, boxes, mask and the detector's labels.

    R is the largest count of regions in the batch, at most ``most``.
    """

    sees: Literal["regions", "pixels"] = "regions"

    def __init__(self, file: FeatureFile, most: int = 36, memory: int = GIGABYTE) -> None:
        self.file, self.most, self.memory = file, most, memory
        self.feature_dim, self.sha256 = file.feature_dim, file.sha256
        counts = np.minimum(np.diff(file.first), most)
        padded = len(file) * int(counts.max()) * (file.feature_dim + file.classes) * 2
        self._kept = _tensors(file.gather(file.keys, most)) if padded <= memory else None
        self._count = torch.from_numpy(counts) if self._kept else None

    def __reduce__(self) -> tuple[type[RegionStore], tuple[FeatureFile, int, int]]:
        return RegionStore, (self.file, self.most, self.memory)

    def __contains__(self, key: object) -> bool:
        return key in self.file

    def missing(self, keys: Sequence[str]) -> BadData | None:
        """Say which of these images have no features."""
        return self.file.missing(keys)

    def load(self, keys: Sequence[str], draw: int = 0) -> Image:
        """Read the regions of images; nothing is random here, so ``draw`` changes nothing."""
        if self._kept is None or self._count is None:
            found = _tensors(self.file.gather(keys, self.most))
            return found._replace(values=found.values.float())
        rows = torch.from_numpy(self.file.rows(keys))
        widest = int(self._count[rows].max()) if len(keys) else 0

        def pick(kept: Tensor) -> Tensor:
            return kept[:, :widest].index_select(0, rows)

        whole = self._kept
        assert whole.boxes is not None  # _tensors sets both
        assert whole.mask is not None
        labels = whole.labels.map(pick) if whole.labels else None
        return Image(pick(whole.values).float(), pick(whole.boxes), pick(whole.mask), labels)


def _tensors(found: Gathered) -> Image:
    """Hand over arrays as tensors, without copying; class numbers as torch wants them."""
    labels = None
    if found.labels:
        objects, sure, attributes, certain, *likely = map(torch.from_numpy, found.labels.columns())
        labels = RegionLabels(objects.long(), sure, attributes.long(), certain, *likely)
    values, boxes, mask = map(torch.from_numpy, found[:3])
    return Image(values, boxes, mask, labels)


class PixelStore:
    """Image files as normalised pixels [n, 3, size, size] float32."""

    sees: Literal["regions", "pixels"] = "pixels"

    def __init__(
        self, images: Mapping[str, Path], transform: Transform, *, seed: int = 0, memory: int = GIGABYTE
    ) -> None:
        self.images, self.transform, self.seed, self.memory = dict(images), transform, seed, memory
        self.size = transform.size
        self._rows = {key: row for row, key in enumerate(self.images)}
        self._kept = self._reserve() if transform.fixed else None

    def _reserve(self) -> tuple[Tensor, Tensor] | None:
        """Reserve room for all images and for a flag each, filled as they are asked for.

        Anonymous mapped memory: processes that are forked off share what any of them decodes.
        """
        count, each = len(self.images), 3 * self.size**2
        if not 0 < count * (each + 1) <= self.memory:
            return None
        room = torch.frombuffer(mmap.mmap(-1, count * (each + 1)), dtype=torch.uint8)
        return room[: count * each].view(count, 3, self.size, self.size), room[count * each :]

    def __reduce__(self) -> tuple[Callable[..., PixelStore], tuple[object, ...]]:
        return _pixel_store, (self.images, self.transform, self.seed, self.memory)

    @cached_property
    def sha256(self) -> str:
        """What the images are: a hash of their keys, contents and transform."""
        return hash_images(self.images, repr(self.transform))

    def __contains__(self, key: object) -> bool:
        return key in self.images

    def missing(self, keys: Sequence[str]) -> BadData | None:
        """Say which of these images have no file."""
        lost = [key for key in dict.fromkeys(keys) if key not in self.images]
        if not lost:
            return None
        some = ", ".join(lost[:10]) + (", ..." if len(lost) > 10 else "")
        return BadData(
            f"{len(lost):,} of {len(set(keys)):,} images have no file: {some}",
            "put the missing files beside the others",
        )

    def prepare(self, progress: Progress = quiet) -> None:
        """Decode all images that will be kept, so that a broken one is found before training."""
        for done, key in enumerate(self.images):
            self._bytes(key, 0)
            progress(done + 1, len(self.images), "images")

    def load(self, keys: Sequence[str], draw: int = 0) -> Image:
        """Decode, transform and normalise images; the same seed, draw and key give the same crop."""
        if fault := self.missing(keys):
            raise fault
        pixels = torch.stack([self._bytes(key, draw) for key in keys])
        return Image(normalise(pixels, self.transform.statistics))

    def _bytes(self, key: str, draw: int) -> Tensor:
        """Give the transformed bytes [3, size, size] of an image, from memory where it is kept."""
        row = self._rows[key]
        if self._kept and self._kept[1][row]:
            return self._kept[0][row]
        # seeded by the key, not by its row or place in the batch: neither workers nor order matter
        name = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
        generator = np.random.default_rng([self.seed, draw, name])
        made = self.transform(open_picture(self.images[key], key), generator)
        pixels = torch.from_numpy(made.copy()).permute(2, 0, 1)
        if self._kept:
            self._kept[0][row], self._kept[1][row] = pixels, 1
        return pixels


def _pixel_store(images: Mapping[str, Path], transform: Transform, seed: int, memory: int) -> PixelStore:
    return PixelStore(images, transform, seed=seed, memory=memory)

"""From an image file to the pixels a method sees: open, resize, crop, flip, normalise.

Geometry is done by Pillow on whole images in 8 bits, normalising by torch on a batch. What is drawn at
random comes from a numpy Generator, so the same seed gives the same crops in every process.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pictures
from PIL.Image import Image as Picture
from torch import Tensor

from vlbench.data.augment import rand_augment
from vlbench.types import BadData, Misuse, nearest

_SMOOTH = Pictures.Resampling.BICUBIC


class Statistics(NamedTuple):
    """Mean and deviation of red, green and blue, by which pixels are normalised."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


STATISTICS = {
    "imagenet": Statistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "clip": Statistics((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "half": Statistics((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


class Readable(Protocol):
    """Whatever holds a picture: a file's path, or a part of an archive."""

    def open(self, mode: Literal["rb"], /) -> BinaryIO:
        """Open it to be read from its beginning."""


def open_picture(path: Readable, key: str) -> Picture:
    """Read an image file as RGB; BadData with its path and key where that cannot be done."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual but readable files
            with path.open("rb") as content, Pictures.open(content) as file:
                return file.convert("RGB")
    except FileNotFoundError:
        raise BadData(f"image '{key}': there is no file {path}") from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, Pictures.DecompressionBombError) as error:
        raise BadData(
            f"image '{key}' cannot be decoded: {path}: {error}", "fetch the file again; it is cut or damaged"
        ) from None


def resize(picture: Picture, size: int) -> Picture:
    """Bring the shorter side to ``size``, keeping the shape; the longer one is rounded down, as torchvision does."""
    shorter = min(picture.size)
    width, height = (int(size * side / shorter) for side in picture.size)
    return picture.resize((width, height), _SMOOTH)


def squash(picture: Picture, size: int) -> Picture:
    """Bring both sides to ``size``: nothing is cut off, the shape changes."""
    return picture.resize((size, size), _SMOOTH)


def centre_crop(picture: Picture, size: int) -> Picture:
    """Cut ``size`` x ``size`` out of the middle; half pixels are rounded to even, as torchvision does."""
    left, top = (round((side - size) / 2) for side in picture.size)
    return picture.crop((left, top, left + size, top + size))


def random_crop(picture: Picture, size: int, generator: np.random.Generator, smallest: float = 0.5) -> Picture:
    """Cut out a part of ``smallest`` to all of the area, of aspect 3:4 to 4:3, as ``size`` x ``size``.

    Cut first, so that nothing beyond the part shows at its edges.
    """
    left, top, wide, high = random_part(picture.width, picture.height, generator, smallest)
    return picture.crop((left, top, left + wide, top + high)).resize((size, size), _SMOOTH)


def random_part(width: int, height: int, generator: np.random.Generator, smallest: float) -> tuple[int, int, int, int]:
    """Draw left, top, width and height of a part by the rule of "random resized crop".

    Ten tries, then the largest part of the middle that is allowed.
    """
    for _ in range(10):
        area = width * height * generator.uniform(smallest, 1.0)
        aspect = math.exp(generator.uniform(math.log(3 / 4), math.log(4 / 3)))
        wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width and 0 < high <= height:
            left = int(generator.integers(width - wide + 1))
            top = int(generator.integers(height - high + 1))
            return left, top, wide, high
    wide, high = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    return (width - wide) // 2, (height - high) // 2, wide, high


def flip(picture: Picture, generator: np.random.Generator) -> Picture:
    """Mirror left and right, every other time; wrong for texts that say left or right."""
    return picture.transpose(Pictures.Transpose.FLIP_LEFT_RIGHT) if generator.random() < 0.5 else picture


def normalise(pixels: Tensor, name: str) -> Tensor:
    """Turn bytes [n, 3, H, W] into float32 of about mean 0 and deviation 1."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in STATISTICS[name])
    return pixels.float().div_(255).sub_(mean).div_(std)


@dataclass(frozen=True)
class Transform:
    """How pictures become [size, size, 3] bytes, and by which statistics these are normalised."""

    size: int
    statistics: str = "half"
    crop: Literal["squash", "centre", "random"] = "squash"
    mirror: bool = False
    smallest: float = 0.5
    """Smallest share of the area a random crop keeps."""
    augment: int = 0
    """Operations of RandAugment (augment.py) that are tried."""
    strength: int = 7
    """How strong they are, of 10."""

    def __post_init__(self) -> None:
        if self.statistics not in STATISTICS:
            raise Misuse(f"no statistics are called '{self.statistics}'; {nearest(self.statistics, list(STATISTICS))}")

    @property
    def fixed(self) -> bool:
        """Whether nothing is drawn at random, so that a result can be kept."""
        return self.crop != "random" and not self.mirror and not self.augment

    def __call__(self, picture: Picture, generator: np.random.Generator) -> NDArray[Any]:
        """Return the bytes [size, size, 3] of a picture."""
        if self.crop == "random":
            picture = random_crop(picture, self.size, generator, self.smallest)
        elif self.crop == "centre":
            picture = centre_crop(resize(picture, self.size), self.size)
        else:
            picture = squash(picture, self.size)
        if self.mirror:
            picture = flip(picture, generator)
        if self.augment:
            picture = rand_augment(picture, generator, operations=self.augment, strength=self.strength)
        return np.asarray(picture)

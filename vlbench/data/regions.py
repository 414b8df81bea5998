"""Regions without a detector: what stands out from the ground of a plain image, for methods that see regions.

The papers' features come from a detector trained on photographs. Where none are published (easy-VQA, the
made-up world) this finds what a detector would: the whole image, then the largest connected parts that differ
from the background; where nothing stands out, a grid of cells. A region's feature is its own pixels, resized
to one size. Nothing is learned here, so nothing can leak from the answers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image as Pictures
from PIL.Image import Image as Picture

from vlbench.data.feature_writer import FeatureWriter
from vlbench.data.features import FeatureFile, Regions
from vlbench.data.transforms import open_picture
from vlbench.paths import make_folder
from vlbench.types import BadData, Progress, quiet

EXTRACTOR = "vlbench plain regions 1"
"""Counted up whenever another version would find other regions or features."""
_CONTRAST = 12  # of 255, in any colour; fainter things belong to the background
_SMALLEST = 0.001  # share of the image a part must cover
_GRID = 4
_EIGHT = np.ones((3, 3), dtype=np.int8)  # corners join, so that a thin slanted line stays one part


def _stands_out(image: NDArray[Any]) -> NDArray[Any]:
    """Mark the pixels [H, W] that differ from the most frequent colour of an image [H, W, 3]."""
    colours = image.reshape(-1, 3)
    coarse = (colours >> 4).astype(np.int64) @ np.array([256, 16, 1])
    ground = colours[coarse == np.bincount(coarse).argmax()]
    far = np.abs(image.astype(np.int16) - np.median(ground, axis=0).astype(np.int16))
    marked: NDArray[Any] = far.max(axis=2) > _CONTRAST
    return marked


def _parts(image: NDArray[Any]) -> list[tuple[int, int, int, int]]:
    """Box the connected parts that stand out, largest first, in pixels."""
    from scipy.ndimage import find_objects, label

    height, width = image.shape[:2]
    numbered, _ = label(_stands_out(image), structure=_EIGHT)
    areas = np.bincount(numbered.ravel())[1:]
    boxes = []
    places = find_objects(numbered)
    for part in np.argsort(-areas, kind="stable"):
        down, along = places[part]
        box = (along.start, down.start, along.stop, down.stop)
        # a part as large as the image is its texture, not a thing in it
        if areas[part] >= max(2, _SMALLEST * width * height) and box != (0, 0, width, height):
            boxes.append(box)
    return boxes


def propose(image: NDArray[Any], most: int) -> NDArray[np.float32]:
    """Propose boxes [R, 4] (fractions, R <= most) for an image [H, W, 3] of bytes; the first is the whole."""
    height, width = image.shape[:2]
    size = np.array([width, height, width, height], dtype=np.float32)
    parts = np.array(_parts(image), dtype=np.float32).reshape(-1, 4) / size
    if not len(parts):
        cells = np.arange(_GRID, dtype=np.float32)
        corner = np.stack([np.tile(cells, _GRID), np.repeat(cells, _GRID)], axis=1)
        parts = np.concatenate([corner, corner + 1], axis=1) / _GRID
    whole = np.array([[0, 0, 1, 1]], dtype=np.float32)
    return np.concatenate([whole, parts])[:most].astype(np.float32)


def describe(picture: Picture, boxes: NDArray[np.float32], side: int) -> NDArray[np.float16]:
    """Turn the pixels of each box into features [R, side * side * 3] from -1 to 1."""
    size = np.array([*picture.size, *picture.size], dtype=np.float64)
    # boxes of parts lie on whole pixels; the float32 fractions they come as must not cost one
    cuts = [_cut(picture, box, side) for box in (boxes * size).round(3).tolist()]
    pixels = np.stack([np.asarray(cut, dtype=np.float32) for cut in cuts])
    return (pixels.reshape(len(boxes), -1) / 127.5 - 1).astype(np.float16)


def _cut(picture: Picture, box: list[float], side: int) -> Picture:
    """Resize one box to ``side`` x ``side``; cells of a grid may begin and end inside a pixel."""
    left, top = math.floor(box[0]), math.floor(box[1])
    # cropped first: when only told the box, Pillow smooths pixels from outside into its edge
    part = picture.crop((left, top, math.ceil(box[2]), math.ceil(box[3])))
    inside = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
    return part.resize((side, side), Pictures.Resampling.BICUBIC, box=inside)


def write_region_file(
    images: Mapping[str, Path], path: Path, *, most: int = 36, side: int = 16, progress: Progress = quiet
) -> FeatureFile:
    """Propose and describe the regions of all images; write them as a region-feature file."""
    settings = {"most": most, "side": side}
    with FeatureWriter(path, extractor=EXTRACTOR, settings=settings) as writer:
        for done, (key, place) in enumerate(images.items()):
            picture = open_picture(place, key)
            boxes = propose(np.asarray(picture), most)
            found = Regions(describe(picture, boxes, side), boxes)
            writer.add(key, found, width=picture.width, height=picture.height)
            progress(done + 1, len(images), "regions")
    return FeatureFile(path)


def hash_images(images: Mapping[str, Path], settings: str = "") -> str:
    """Hash the keys and contents of image files, and the settings they are used with; hex."""
    whole = hashlib.sha256(settings.encode())
    for key, path in sorted(images.items()):
        try:
            content = hashlib.sha256(path.read_bytes()).digest()
        except OSError as error:
            raise BadData(f"image '{key}': cannot read {path}: {error.strerror}") from None
        whole.update(hashlib.sha256(key.encode()).digest() + content)
    return whole.hexdigest()


def cached_regions(
    images: Mapping[str, Path], *, most: int = 36, side: int = 16, folder: Path, progress: Progress = quiet
) -> FeatureFile:
    """Open the regions of these images, made before or now; of several runs at once one makes them.

    The name of the cached file is a hash of the images, the settings and the version of this extractor, so
    it is never out of date. One that was damaged is made again.
    """
    name = hash_images(images, f"{EXTRACTOR} most={most} side={side}")[:32]
    path = make_folder(folder) / f"{name}.h5"
    with FileLock(folder / f"{name}.lock"):  # freed by the system when its holder is killed
        try:
            found = FeatureFile(path)
            found.verify()
        except BadData:
            for leftover in folder.glob(f".{path.name}.*.part"):  # of a run that was killed
                leftover.unlink(missing_ok=True)
            return write_region_file(images, path, most=most, side=side, progress=progress)
    return found

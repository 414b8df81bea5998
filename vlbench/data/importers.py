"""Published region features, in the forms they are handed out in, to a region-feature file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlbench.data.array_pickle import AGAIN
from vlbench.data.feature_writer import FeatureWriter
from vlbench.data.features import FeatureFile, Labels, Regions
from vlbench.data.releases import NAMES, Found, array_of, detect
from vlbench.types import BadData, Misuse, Progress, quiet

_OVER = 0.02  # detectors put boxes slightly beyond the edge; more means a wrong width or height


def import_features(
    sources: Sequence[Path],
    target: Path,
    *,
    extractor: str = "bottom-up attention",
    name: str = "{}",
    progress: Progress = quiet,
) -> FeatureFile:
    """Convert published features to one region-feature file, whole or not at all.

    ``name`` makes our key of the source's id: with ``COCO_val2014_{:0>12}``, 9 is COCO_val2014_000000000009.
    """
    try:
        name.format("1")
    except (LookupError, ValueError):
        raise Misuse(f"'{name}' cannot be filled with an image id", "write it like COCO_val2014_{:0>12}") from None
    settings = {"sources": [source.name for source in sources], "name": name}
    with FeatureWriter(target, extractor=extractor, settings=settings) as writer:
        for source in sources:
            _import(source, writer, name, progress)
    return FeatureFile(target)


def _import(source: Path, writer: FeatureWriter, name: str, progress: Progress) -> None:
    try:
        for found in detect(source)(source):
            _add(writer, found, name)
            progress(found.done, found.total, f"import {source.name}")
    except OSError as error:
        raise BadData(f"cannot read {source}: {error.strerror or error}") from None


def _add(writer: FeatureWriter, found: Found, name: str) -> None:
    try:
        regions, width, height = _regions(found.values)
        writer.add(name.format(found.key), regions, width=width, height=height)
    except BadData as fault:
        # the image's name is part of most messages already, but not of all
        where = found.place if f"'{found.key}'" in fault.wrong else f"{found.place}, image '{found.key}'"
        raise BadData(f"{where}: {fault.wrong}", fault.todo or AGAIN) from None


def _value(values: Mapping[str, Any], what: str) -> Any:
    return next((values[name] for name in NAMES[what] if values.get(name) is not None), None)


def _number(values: Mapping[str, Any], what: str) -> int:
    found = _value(values, what)
    try:
        return 0 if found is None else int(found)
    except (ValueError, TypeError):
        raise BadData(f"its {what} is not a number: {found!r:.40}") from None


def _regions(values: Mapping[str, Any]) -> tuple[Regions, int, int]:
    """Bring what stands under any release's names into our form; boxes in pixels become fractions."""
    features, boxes = (array_of(_value(values, what), np.float32) for what in ("features", "boxes"))
    width, height, count = (_number(values, what) for what in ("width", "height", "count"))
    boxes = boxes.reshape(-1, 4) if boxes.size % 4 == 0 else boxes
    count = count or len(boxes)
    if not count or features.size % count or boxes.shape != (count, 4):
        raise BadData(f"{features.size} feature values and {boxes.size} box values do not fit {count} boxes")
    if values.get("fractions") is None:
        if width <= 0 or height <= 0:
            raise BadData(f"a width of {width} and a height of {height} pixels cannot be")
        boxes = boxes / np.array([width, height, width, height], dtype=np.float32)
    if not (boxes.min() >= -_OVER and boxes.max() <= 1 + _OVER):
        raise BadData(f"its boxes leave the image ({width} x {height})", "are width and height swapped?")
    return Regions(features.reshape(count, -1), boxes.clip(0, 1), _labels(values, count)), width, height


def _labels(values: Mapping[str, Any], count: int) -> Labels | None:
    objects, attributes = _value(values, "objects"), _value(values, "attributes")
    likely, said = _probabilities(values, count), _value(values, "object_confidence")
    if likely is not None and objects is None:  # ViLBERT's release says nothing more; class 0 is the background
        objects, said = likely[:, 1:].argmax(1), likely[:, 1:].max(1)
    if objects is None and attributes is None:
        return None
    marked = _value(values, "attribute_confidence")
    return Labels(*_named(objects, said, count), *_named(attributes, marked, count), likely)


def _named(numbers: Any, sure: Any, count: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return what each region was called, and how surely: a class without confidence is sure."""
    known = np.full(count, 0.0 if numbers is None else 1.0) if sure is None else array_of(sure, np.float32)
    return np.full(count, -1) if numbers is None else array_of(numbers, np.int64), known


def _probabilities(values: Mapping[str, Any], count: int) -> NDArray[Any] | None:
    """Return [count, classes], the background first, where a release has them (ViLBERT, VOLTA)."""
    if (found := _value(values, "class_probabilities")) is None:
        return None
    likely = array_of(found, np.float32)
    if not likely.size or likely.size % count or likely.size // count < 2:
        raise BadData(f"{likely.size} class probabilities do not fit {count} boxes")
    return likely.reshape(count, -1)

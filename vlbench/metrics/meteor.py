"""METEOR, by the authors' own Java program (Denkowski and Lavie 2014, version 1.5), where it is here.

It comes with the Python package pycocoevalcap. Its tables take ten seconds to load, so one program is started and
asked again and again. Where the package or Java is missing there is no number, and the reason is told.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple


class Meteor(NamedTuple):
    """What METEOR is, from 0 to 1; or why it is not known."""

    value: float | None
    each: tuple[float, ...]
    """Of each image; the value is not their mean, as the program sums its counts over the set."""
    missing: str = ""


def missing() -> str:
    """Say what METEOR lacks here; nothing where it can be computed."""
    if shutil.which("java") is None:
        return "METEOR needs Java, which is not here"
    if find_spec("pycocoevalcap") is None:
        return "METEOR needs the package pycocoevalcap: pip install 'vlbench[caption]'"
    return ""


def meteor(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Meteor:
    """Score tokenised captions, one an image, against the references of each."""
    if reason := missing():
        return Meteor(None, (), reason)
    said = {at: [text] for at, text in enumerate(hypotheses)}
    wanted = {at: list(texts) for at, texts in enumerate(references)}
    try:
        value, each = _program().compute_score(wanted, said)
    except (OSError, ValueError, AssertionError) as error:
        _program.cache_clear()
        return Meteor(None, (), f"METEOR's program failed: {type(error).__name__}: {error}".splitlines()[0])
    return Meteor(float(value), tuple(map(float, each)))


@cache
def _program() -> Any:
    return import_module("pycocoevalcap.meteor.meteor").Meteor()

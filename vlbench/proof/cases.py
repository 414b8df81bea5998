"""What a proof yields: one check a case, with the largest difference from the original."""

from __future__ import annotations

from typing import NamedTuple


class Check(NamedTuple):
    """One case held against its original."""

    name: str
    """Such as ``vqa_v2/datasets/main``."""
    error: float
    """The largest difference; for strings, how many differ."""
    tolerance: float
    passed: bool
    note: str = ""
    """What is wrong, in one line; empty where nothing is."""


def compare(name: str, error: float, tolerance: float, note: str = "") -> Check:
    """Make a check that passes where the error is within the tolerance (so NaN fails)."""
    return Check(name, error, tolerance, error <= tolerance, "" if error <= tolerance else note)


def failure(name: str, note: str) -> Check:
    """Make a check that failed before anything could be compared."""
    return Check(name, float("inf"), 0.0, False, note)

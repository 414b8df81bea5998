"""How official files' ids and values are named in messages."""

from __future__ import annotations

from vlbench.tasks.reading import describe, listed


def test_ids_stand_whole_in_a_message() -> None:
    """VCR's image keys have 49 letters, of which the last tell one from the other."""
    key = "1054_Harry_Potter_and_the_prisoner_00.12.29.210-0"
    assert listed([key, "a" * 200]) == f"{key}, {'a' * 200} (2 in all)"
    assert len(listed(["a" * 5000])) < 250
    assert describe("a" * 50) == f"'{'a' * 36}..."

"""What all cards have."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class AnyCard(BaseModel):
    """What all cards have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = ""
    """The file's name without .toml."""
    path: str = ""
    """Where the card was read."""


class Paper(BaseModel):
    """Where a method or data set is published."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    title: str
    authors: str
    year: int
    url: str

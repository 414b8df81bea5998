"""Cards: what is known beforehand of methods, tasks, data sets, corpora and suites, as typed values."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from vlbench.cards.base import AnyCard, Paper
from vlbench.cards.data import CorpusCard, DataFile, DatasetCard, Split, Table, TaskCard
from vlbench.cards.model import Checkpoint, Departure, ModelCard
from vlbench.cards.suite import VARIANT, Place, SuiteCard, Variant
from vlbench.types import nearest

__all__ = [
    "FOLDERS",
    "VARIANT",
    "AnyCard",
    "Card",
    "Checkpoint",
    "CorpusCard",
    "DataFile",
    "DatasetCard",
    "Departure",
    "ModelCard",
    "Paper",
    "Place",
    "Split",
    "SuiteCard",
    "Table",
    "TaskCard",
    "Variant",
    "card_fault",
]

Card = TypeVar("Card", bound=AnyCard)
FOLDERS: dict[type[AnyCard], tuple[str, str, str]] = {
    ModelCard: ("registry/models", "method", "methods"),
    TaskCard: ("registry/tasks", "task", "tasks"),
    DatasetCard: ("registry/datasets", "data set", "datasets"),
    CorpusCard: ("registry/corpora", "corpus", "corpora"),
    SuiteCard: ("suites", "suite", "suites"),
}
"""Kind of card -> its folder, and what one and many of them are called."""


def card_fault(kind: type[AnyCard], error: ValidationError) -> str:
    """Say in one line what is wrong with a card, with the nearest key where one is mistyped."""
    # a mistyped key also makes the right one missing: the former says more
    first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _keys_beside(kind, first["loc"])
        return f"'{place}' is not a key of a {FOLDERS[kind][1]} card; {nearest(str(first['loc'][-1]), known)}"
    missing = [".".join(map(str, one["loc"])) for one in error.errors() if one["type"] == "missing"]
    if first["type"] == "missing" and len(missing) > 1:
        return f"these keys are required and missing: {', '.join(missing)}"
    return f"{place}: {first['msg'].lower()}"


def _keys_beside(kind: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """List the keys that could have stood where an unknown one stands."""
    model: Any = kind
    for part in place[:-1]:
        if isinstance(part, int) or not hasattr(model, "model_fields") or part not in model.model_fields:
            continue
        inside = str(model.model_fields[part].annotation)
        named = {c.__name__: c for c in (Paper, Checkpoint, Departure, DataFile, Split, Table, Variant)}
        model = next((c for name, c in named.items() if f".{name}" in inside or name == inside), model)
    return list(getattr(model, "model_fields", {}))

"""What every method can answer, and how large it is, found by asking the methods: ``python -m vlbench.abilities``.

What is written (registry/forms.json, registry/parameters.json) can be read without torch; a test holds it against the
methods themselves.
"""

from __future__ import annotations

import json

import torch

from vlbench.cards import ModelCard
from vlbench.catalog import cards
from vlbench.learner import build_model
from vlbench.models.base import Model, forms_of
from vlbench.paths import card_folder, write_text
from vlbench.plugins import load_code
from vlbench.types import Form

SMALL = {"vocabulary": 32, "feature_dim": 8, "image_size": 64, "text_length": 8, "dropout": 0.0}
"""Facts of made-up data, just large enough to build a method."""


def answers_forms(card: ModelCard, size: str = "mini") -> list[Form]:
    """List the forms a method answers at a size, by building it and asking for a head of each."""
    size = size if size in card.sizes else next(iter(card.sizes))
    facts = {**SMALL, "image_size": int(card.sizes[size].get("image_size", SMALL["image_size"]))}
    return forms_of(build_model(load_code(card.code, Model), card.constructor_sizes(size), facts))


def _by_kind(card: ModelCard) -> dict[str, list[Form]]:
    """List the forms of each kind of size; all of a kind answer alike, so the smallest is asked (mini-regions)."""
    small = [size for size in card.sizes if size.startswith("mini")] or ["mini"]
    return {size.partition("-")[2]: answers_forms(card, size) for size in small}


REAL = {"vocabulary": 30522, "feature_dim": 2048, "text_length": 40, "dropout": 0.0}
"""Facts of real data: BERT's vocabulary, a detector's features."""


def parameters(card: ModelCard, size: str) -> int:
    """Count a method's parameters at a size, without a head and without holding them."""
    facts = {**REAL, "image_size": int(card.sizes[size].get("image_size", 224))}
    with torch.device("meta"):
        model = build_model(load_code(card.code, Model), card.constructor_sizes(size), facts)
    return sum(parameter.numel() for parameter in model.parameters())


def write_abilities() -> None:
    """Ask every method that ships with vlbench, and write what it answers and how large its published sizes are."""
    known = cards(ModelCard)
    forms = {card.id: _by_kind(card) for card in known}
    counts = {c.id: {size: parameters(c, size) for size in c.sizes if not size.startswith("mini")} for c in known}
    for name, found in (("forms", forms), ("parameters", counts)):
        write_text(card_folder("registry") / f"{name}.json", json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    write_abilities()

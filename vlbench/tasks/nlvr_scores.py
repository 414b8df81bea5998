"""Consistency with its interval, as NLVR and NLVR2 report it beside accuracy; and who may be scored how."""

from __future__ import annotations

from collections.abc import Mapping

from vlbench.cards import DatasetCard
from vlbench.metrics.intervals import mean_interval
from vlbench.record import Score
from vlbench.types import Fault, Misuse, nearest

SCORER = "official"
CONTRAST = "contrast-set definition"
"""What the contrast sets' script is described to compute; as published it takes every prediction for true."""


def consistency(right: Mapping[str, float], units: Mapping[str, str], sets: Mapping[str, str], scorer: str) -> Score:
    """Return the share of units whose examples are all right, in percent.

    ``right``: example -> 0 or 1; ``units``, ``sets``: example -> its unit, and what its unit shares images with.
    """
    whole: dict[str, float] = {}
    belongs: dict[str, str] = {}
    for name, value in right.items():
        whole[units[name]] = min(value, whole.get(units[name], 1.0))
        belongs[units[name]] = sets[name]
    found = mean_interval(list(whole.values()), [belongs[unit] for unit in whole])
    assert found.low is not None  # only estimates over seeds lack bounds
    assert found.high is not None
    return Score(value=100 * found.value, low=100 * found.low, high=100 * found.high, count=len(whole), scorer=scorer)


def known_scorer(name: str, card: DatasetCard) -> str:
    """Return the scorer to use; Misuse where there is none of that name."""
    if name not in ("", SCORER):
        raise Misuse(f"{card.name} has no scorer '{name}'; {nearest(name, [SCORER])}")
    return SCORER


def refuse_hidden(card: DatasetCard, split: str) -> None:
    """Raise Fault where the labels of a split are not public."""
    if not card.splits[split].public:
        todo = "the answer file in the run's folder is what the authors take"
        raise Fault(f"the answers of {card.name} {split} are not public", todo)

"""Cards of suites: what is run together at which budget, and which variants are compared."""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from vlbench.cards.base import AnyCard

VARIANT = "variant:"
"""The start of a run that goes on from another variant's, before its name."""


class Place(NamedTuple):
    """Where a variant stands in a row of them that differ in one recipe value."""

    row: str
    key: str
    value: float


class Variant(BaseModel):
    """One of the things a suite compares: what is other in its runs."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    about: str
    run: dict[str, Any] = {}
    """Recipe values of its runs. ``start = "variant:NAME"``: from that variant's run of the same pair and seed; with
    ``steps = 0`` its weights are only asked again."""
    over: dict[str, tuple[float, ...]] = {}
    """A recipe value and a row of them: instead of this variant there is one for each, called NAME-VALUE."""
    place: Place | None = None
    """Of such a one, where it stands; no card says it."""
    against: str = ""
    """The variant it is set against, where that is not the suite's; of a row of them, the one of the same value."""

    @property
    def begins_from(self) -> str:
        """The variant whose runs its own begin from; empty where it is none."""
        start = str(self.run.get("start", ""))
        return start.removeprefix(VARIANT) if start.startswith(VARIANT) else ""

    pretrain: dict[str, Any] = {}
    """Recipe values of the pre-training that its runs begin from, where these begin from one."""


class SuiteCard(AnyCard):
    """What is run together, at which budget."""

    about: str
    expect: str = ""
    """What to expect: time and scores."""
    like: str = ""
    """Another suite whose data sets and recipe values hold where this one says nothing; that one is like no other."""
    all_methods: tuple[str, ...] = ()
    """What ``all`` means for methods; empty = all there are."""
    all_tasks: tuple[str, ...] = ()
    """Likewise for tasks."""
    seeds: tuple[int, ...] = ()
    """The seeds of its runs, where none are typed."""
    variants: dict[str, Variant] = {}
    """What it compares: every method, task and seed is run once for each."""
    against: str = ""
    """The variant that the others are set against."""
    claims: tuple[str, ...] = ()
    """What its runs were made to find out, a sentence each; its report puts them beside the outcome."""
    found: tuple[str, ...] = ()
    """What came out of its checked-in runs, a sentence each: which claims hold, and why one does not."""
    datasets: dict[str, str] = {}
    """Task -> data set."""
    without: tuple[str, ...] = ()
    """Tasks that ``all`` leaves out, as the suite has no data for them."""
    unclear: dict[str, str] = {}
    """``method/task`` -> why its checked-in result is not clearly ahead of its best control."""
    all: dict[str, Any] = {}
    tasks: dict[str, dict[str, Any]] = {}
    methods: dict[str, dict[str, Any]] = {}
    pairs: dict[str, dict[str, Any]] = Field(default={})
    """``method/task`` -> recipe values. Of these four the later wins; a data set may stand for the task."""
    pretrain: dict[str, dict[str, Any]] = {}
    """``all``, ``method``, ``method/stage`` -> recipe values of pre-training; the later wins."""

    def reference(self, variant: str) -> str:
        """Name the variant that one is set against; empty where there is none, and for that one itself."""
        other = self.variants[variant].against or self.against
        return "" if other == variant else other

    @field_validator("variants", mode="after")
    @classmethod
    def _one_for_each_value(cls, variants: dict[str, Variant]) -> dict[str, Variant]:
        return {name: one for row, variant in variants.items() for name, one in _spread_out(row, variant).items()}

    @model_validator(mode="after")
    def _compares_with_one_of_its_own(self) -> SuiteCard:
        if self.against and self.against not in self.variants:
            raise ValueError(f"against: there is no variant '{self.against}'")
        for name, variant in self.variants.items():
            if variant.against and variant.against not in self.variants:
                raise ValueError(f"variants.{name}.against: there is no variant '{variant.against}'")
            other = variant.begins_from
            if other and (other not in self.variants or self.variants[other].begins_from):
                raise ValueError(f"variants.{name}: there is no variant '{other}' that it could begin from")
        return self


def _spread_out(row: str, variant: Variant) -> dict[str, Variant]:
    """Return a variant under its name, or one for each of the values it goes over."""
    if not variant.over:
        return {row: variant}
    if len(variant.over) > 1:
        raise ValueError(f"{row}.over: one recipe value at a time, not {', '.join(variant.over)}")
    ((key, values),) = variant.over.items()
    return {
        f"{row}-{value:g}": variant.model_copy(
            update={
                "about": f"{variant.about}, {key} {value:g}",
                "run": {**variant.run, key: value},
                "over": {},
                "place": Place(row, key, value),
                "against": f"{variant.against}-{value:g}" if variant.against else "",
            }
        )
        for value in values
    }

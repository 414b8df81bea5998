"""What a suite that compares variants found out: its runs by method and variant, over seeds. Nothing here prints.

Every difference is taken between runs of one method, task and seed, which differ in nothing but the variant: a run with
another budget, say, is left out. Its interval is that of the mean of such differences over the seeds (Student's t).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import NamedTuple

from vlbench.cards import SuiteCard
from vlbench.metrics.intervals import Estimate, seeds_interval
from vlbench.record import RunRecord

_OF_RUNS = {"variant", "seed", "start", "log_every", "save_every", "workers", "evaluate_batch"}
"""Recipe values in which runs that are compared may differ."""


class Subject(NamedTuple):
    """What was asked: numbers of two subjects are never compared."""

    task: str
    dataset: str
    split: str
    metric: str
    trained: bool
    """Whether it was trained on the task, or answers as it was pre-trained (zero-shot)."""

    @property
    def title(self) -> str:
        """Name it for people."""
        return f"{self.task}{'' if self.trained else ', zero-shot'}"


class Outcome(NamedTuple):
    """One variant of one method on one subject."""

    method: str
    variant: str
    value: Estimate
    """Over the seeds, in percent."""
    ahead: Estimate | None
    """Of the variant that it is set against, the same seeds on both sides; None for that one itself."""
    seeds: tuple[int, ...]
    minutes: float
    runs: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """Say whether it is ahead or behind without doubt."""
        if self.ahead is None or self.ahead.low is None or self.ahead.high is None:
            return "-"
        return "ahead" if self.ahead.low > 0 else "behind" if self.ahead.high < 0 else "unclear"


class Study(NamedTuple):
    """All that a suite's runs found out."""

    suite: SuiteCard
    outcomes: dict[Subject, list[Outcome]]
    pretraining: list[RunRecord]
    """What its runs begin from."""
    left_out: tuple[str, ...] = ()
    """The runs whose recipes differ from those of the others in more than the variant."""

    @property
    def compares(self) -> bool:
        """Say whether any variant is set against another."""
        return any(self.suite.reference(name) for name in self.suite.variants)

    def tally(self) -> dict[str, int]:
        """Count the verdicts."""
        found = [one.verdict for some in self.outcomes.values() for one in some if one.ahead]
        return {verdict: found.count(verdict) for verdict in ("ahead", "unclear", "behind", "-")}


def study(suite: SuiteCard, records: Iterable[RunRecord], *, smoke: bool = False) -> Study:
    """Gather a suite's runs by subject, method and variant; of several runs of one seed the last counts.

    Of runs of one method and subject whose recipes differ otherwise, those count that are most, the last if equally
    many. ``smoke``: those on a few examples count too.
    """
    every = sorted(records, key=lambda one: (one.started, one.id))
    own = [one for one in every if one.suite == suite.id]
    found: dict[tuple[Subject, str, bool], dict[str, dict[tuple[str, int], RunRecord]]] = {}
    for record in own:
        if (
            record.main is None
            or record.recipe.variant not in suite.variants
            or (record.basis == "smoke" and not smoke)
        ):
            continue
        split, metric, _ = record.main
        trained = record.kind == "finetune" or bool(suite.variants[record.recipe.variant].begins_from)
        subject = Subject(record.task, record.dataset, split, metric, trained)
        # runs that only ask another's weights again have no training in common with those that trained
        again = bool(suite.variants[record.recipe.variant].begins_from)
        alike = found.setdefault((subject, record.method, again), {})
        cell = (record.recipe.variant, record.seed)
        kind = _kind(suite, record)
        alike[kind] = {**alike.pop(kind, {}), cell: record}
    runs: dict[Subject, dict[str, dict[str, dict[int, RunRecord]]]] = {}
    left_out: list[str] = []
    for (subject, method, _), kinds in found.items():
        counted = max(reversed(kinds), key=lambda kind: len(kinds[kind]))
        left_out += [record.id for kind in kinds if kind != counted for record in kinds[kind].values()]
        for (variant, seed), record in kinds[counted].items():
            runs.setdefault(subject, {}).setdefault(method, {}).setdefault(variant, {})[seed] = record
    outcomes = {
        subject: [one for method in sorted(methods) for one in _outcomes(suite, method, methods[method])]
        for subject, methods in sorted(runs.items())
    }
    begun = {one.recipe.start.removeprefix("run:") for one in own}
    return Study(suite, outcomes, _begun_from(every, begun), tuple(sorted(left_out)))


def _kind(suite: SuiteCard, record: RunRecord) -> str:
    """Write down all of a recipe that variants and seeds have in common."""
    own = {key for one in suite.variants.values() for key in one.run}
    values = {key: value for key, value in record.recipe.named().items() if key not in {*_OF_RUNS, *own}}
    return json.dumps(values, sort_keys=True)


def _begun_from(records: Sequence[RunRecord], begun: set[str]) -> list[RunRecord]:
    """List the pre-trainings that some run begins from, those these begin from in turn among them, of any suite."""
    known = {one.id: one for one in records if one.kind == "pretrain"}
    found, left = list[RunRecord](), list(begun)
    while left:
        if one := known.pop(left.pop(), None):
            found.append(one)
            left.append(one.recipe.start.removeprefix("run:"))
    return sorted(found, key=lambda one: (one.method, one.recipe.stage, one.id))


def _outcomes(suite: SuiteCard, method: str, variants: dict[str, dict[int, RunRecord]]) -> list[Outcome]:
    return [
        _outcome(method, name, variants[name], variants.get(suite.reference(name), {}))
        for name in suite.variants
        if name in variants
    ]


def _outcome(method: str, variant: str, runs: dict[int, RunRecord], against: dict[int, RunRecord]) -> Outcome:
    values = {seed: _value(record) for seed, record in sorted(runs.items())}
    pairs = [values[seed] - _value(against[seed]) for seed in values if seed in against]
    return Outcome(
        method,
        variant,
        seeds_interval(list(values.values())),
        seeds_interval(pairs) if pairs else None,
        tuple(values),
        fmean(record.seconds for record in runs.values()) / 60,
        tuple(record.id for record in runs.values()),
    )


def _value(record: RunRecord) -> float:
    assert record.main is not None  # study() leaves out those without
    return record.main[2].value

"""Leaderboards as data: records and published numbers in, tables out. Nothing here prints.

One table is of one task, one data set, one split, one metric and one scorer; a run on the first N examples
of a split is on another split. A difference to a published number exists only where all of these and the
method agree and someone has seen the number in a source; else a verdict says why there is none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, NamedTuple

from vlbench.cards import DatasetCard, ModelCard, Split, TaskCard
from vlbench.catalog import card_names, find, find_dataset
from vlbench.record import RunRecord, Score
from vlbench.report.published import Published

Verdict = Literal[
    "within CI", "above", "below", "no interval",
    "other split", "part of split", "other scorer", "other set", "from memory", "-",
]  # fmt: skip


SERVER = "evaluation server"
"""The scorer of a number that an evaluation server told: the official one, whatever its version."""
NOT_STATED = "not-stated"
"""The split of published numbers whose source names none."""


class Board(NamedTuple):
    """What cards know of a task on a data set: names, main metric, scorer, splits, methods."""

    task: str
    dataset: str
    name: str
    metric: str
    published_metric: str
    scorer: str
    splits: Mapping[str, Split]
    published_task: str
    published_dataset: str
    methods: Mapping[str, str]
    """Method -> its name in registry/published."""

    def published_split(self, split: str) -> str:
        """Return a split's published name; empty where nobody publishes on it."""
        return self.splits[split].published if split in self.splits else ""


def published_names() -> dict[str, str]:
    """Map every method's card to its name in registry/published."""
    named = {name: find(ModelCard, name).published for name in card_names(ModelCard)}
    return {name: published for name, published in named.items() if published}


def boards(task: str, dataset: str, records: Iterable[RunRecord] = ()) -> list[Board]:
    """Gather what is known of a task on a data set, once for each metric that has a table of its own."""
    known = list(records)
    tables = find(TaskCard, task).tables if task in card_names(TaskCard) else {}
    first = board(task, dataset, known)
    return [first._replace(metric=own, published_metric=name) for own, name in tables.items()] or [first]


def board(task: str, dataset: str, records: Iterable[RunRecord] = ()) -> Board:
    """Gather what is known of a task on a data set, for its main metric; records speak for what has no card."""
    asked = find(TaskCard, task) if task in card_names(TaskCard) else None
    data = find_dataset(dataset, task) if dataset in card_names(DatasetCard) else None
    mains = (record.main for record in records if (record.task, record.dataset) == (task, dataset))
    first = next((main for main in mains if main), None)
    metric = asked.metric if asked else first[1] if first else ""
    return Board(
        task,
        dataset,
        name=data.name if data else dataset,
        metric=metric,
        published_metric=asked.tables.get(metric, metric) if asked else metric,
        scorer=data.scorer if data else first[2].scorer if first else "",
        splits=data.splits if data else {},
        published_task=asked.published if asked else "",
        published_dataset=data.published if data else "",
        methods=published_names(),
    )


class Control(NamedTuple):
    """The best of what a result must beat to have come from looking: see ``vlbench/controls.py``."""

    name: str
    value: float
    high: float | None
    """The upper end of its interval."""


@dataclass(frozen=True, slots=True)
class Row:
    """One recipe's result, over its seeds, beside the method's published one."""

    method: str
    size: str
    basis: str
    seeds: tuple[int, ...]
    value: float
    low: float | None
    high: float | None
    count: int
    published: Published | None
    difference: float | None
    verdict: Verdict
    elsewhere: tuple[Published, ...]
    """The method's published numbers that are not of this table: other splits, scorers or sets."""
    parameters: int
    train_per_second: float | None
    evaluate_per_second: float | None
    peak_memory_bytes: int | None
    train_minutes: float | None
    runs: tuple[str, ...]
    control: Control | None = None
    """None where the table is not of the run's main metric and split."""

    @property
    def clear(self) -> bool:
        """Whether the intervals leave no doubt that it is ahead of its best control; True where it has none."""
        if self.control is None:
            return True
        least = self.value if self.low is None else self.low
        return least > (self.control.value if self.control.high is None else self.control.high)


@dataclass(frozen=True, slots=True)
class Table:
    """Own runs and published numbers that may stand in one column."""

    task: str
    dataset: str
    name: str
    split: str
    published_split: str
    metric: str
    scorer: str
    part: int
    """Number of examples, where it is only the first so many of the split; else 0."""
    rows: tuple[Row, ...]
    published: tuple[Published, ...]


class _Place(NamedTuple):
    """What two results must share to stand in one table."""

    split: str
    scorer: str
    part: int


def leaderboard(
    records: Iterable[RunRecord], published: Iterable[Published], board: Board, *, every_split: bool = False
) -> list[Table]:
    """Make the tables of a task on a data set: first the splits with own runs, by the card's order.

    Splits on which only others published follow where there is no own run, or with ``every_split``.
    """
    rows = [p for p in published if _belongs(p, board)]
    groups = _grouped(records, board)
    tables = []
    for place, recipes in groups.items():
        own = [_row(runs, place, board, rows) for runs in recipes.values()]
        tables.append(_table(place, board.published_split(place.split), own, board, rows))
    tables.sort(key=lambda table: (_order(table.split, board), table.part > 0, table.scorer, table.part))
    wanted = {p.split for p in rows}
    if tables and not every_split:
        wanted &= {table.published_split for table in tables}
    missing = wanted - {p.split for table in tables for p in table.published}
    for split in sorted(missing, key=lambda split: (*_order(_own_split(split, board), board), split)):
        tables.append(_table(_Place(_own_split(split, board), board.scorer, 0), split, [], board, rows))
    return tables


def _belongs(row: Published, board: Board) -> bool:
    wanted = (board.published_task, board.published_dataset, board.published_metric)
    return (row.task, row.dataset, row.metric) == wanted and not row.is_ablation


def _own_split(published: str, board: Board) -> str:
    own = (name for name, split in board.splits.items() if split.published == published)
    return next(own, published)


def _order(split: str, board: Board) -> tuple[int, str]:
    names = list(board.splits)
    return (names.index(split) if split in names else len(names) + (split == NOT_STATED), split)


def _grouped(records: Iterable[RunRecord], board: Board) -> dict[_Place, dict[str, list[RunRecord]]]:
    """Sort runs by place, then by recipe without its seed, whatever order they come in."""
    groups: dict[_Place, dict[str, list[RunRecord]]] = {}
    records = list(records)
    whole = _largest(records, board)
    scored = {(record.weights, split) for record in records if record.weights for split in record.scores}
    for record in sorted(records, key=lambda record: (record.started, record.id)):
        if (record.task, record.dataset) != (board.task, board.dataset):
            continue
        for split, scores in record.scores.items():
            if record.kind == "evaluate" and (record.inputs.get("start", ""), split) in scored:
                continue  # the same weights on the same split as the run they are of: no second result
            if score := scores.get(board.metric):
                place = _Place(split, score.scorer, part_of(score, record, split, board, whole.get(split, 0)))
                groups.setdefault(place, {}).setdefault(_recipe_key(record), []).append(record)
    return groups


def _largest(records: Iterable[RunRecord], board: Board) -> dict[str, int]:
    """Return how many examples of each split any record has scored."""
    found: dict[str, int] = {}
    for record in records:
        if (record.task, record.dataset) == (board.task, board.dataset):
            for split, scores in record.scores.items():
                count = scores[board.metric].count if board.metric in scores else 0
                found[split] = max(found.get(split, 0), count)
    return found


def part_of(score: Score, record: RunRecord, split: str, board: Board, largest: int = 0) -> int:
    """Return how many examples were scored where that is not the whole split, else 0.

    ``largest``: what any record has scored of it, which stands for the whole where the card does not say: methods that
    fuse all pairs search a smaller pool, and their recall is not that of the others.
    """
    whole = board.splits[split].examples if split in board.splits else 0
    whole = whole or largest
    limited = record.recipe.limit > 0 and (not whole or record.recipe.limit < whole)
    return score.count if limited or score.count < whole else 0


def _recipe_key(record: RunRecord) -> str:
    loose = {"seed", "log_every", "save_every", "workers"}
    recipe = record.recipe.model_dump(mode="json", exclude=loose)
    return json.dumps([record.method, record.kind, record.size, record.basis, recipe], sort_keys=True)


def _table(place: _Place, named: str, rows: list[Row], board: Board, published: Sequence[Published]) -> Table:
    comparable = not place.part and place.scorer in (board.scorer, SERVER)
    beside = [p for p in published if named and p.split == named and comparable]
    return Table(
        board.task, board.dataset, board.name, place.split, named, board.metric, place.scorer, place.part,
        rows=tuple(sorted(rows, key=lambda row: (-row.value, row.method, row.runs))),
        published=tuple(sorted(beside, key=lambda p: (-p.value, p.label, p.source))),
    )  # fmt: skip


def _row(runs: list[RunRecord], place: _Place, board: Board, published: Sequence[Published]) -> Row:
    latest = [record for _, record in sorted({record.seed: record for record in runs}.items())]
    scores = [record.scores[place.split][board.metric] for record in latest]
    value, low, high = _over_seeds(scores, math.inf if max(s.value for s in scores) > 100 else 100)
    one, speeds = latest[-1], [record.throughput for record in latest]
    mine = [p for p in published if p.method == board.methods.get(one.method)]
    here, verdict, elsewhere = _beside(mine, one, place, board)
    comparable = here is not None and verdict == "-"
    if here is not None and comparable:
        verdict = judge(here.value, value, low, high)
    minutes = _mean(speed.train_seconds for speed in speeds)
    return Row(
        one.method, one.size, one.basis, tuple(record.seed for record in latest), value, low, high,
        count=scores[-1].count,
        published=here,
        difference=value - here.value if here is not None and comparable else None,
        verdict=verdict,
        elsewhere=elsewhere,
        parameters=one.parameters,
        train_per_second=_mean(speed.train_samples_per_second for speed in speeds),
        evaluate_per_second=_mean(speed.evaluate_samples_per_second for speed in speeds),
        peak_memory_bytes=max((s.peak_memory_bytes for s in speeds if s.peak_memory_bytes), default=None),
        train_minutes=None if minutes is None else minutes / 60,
        runs=tuple(record.id for record in latest),
        control=_best_control(latest, place, board),
    )  # fmt: skip


def _best_control(runs: Sequence[RunRecord], place: _Place, board: Board) -> Control | None:
    """Return the best control of several seeds: each by its mean, with the highest of their upper ends."""
    if any(run.main is None or run.main[:2] != (place.split, board.metric) for run in runs):
        return None
    found = []
    for name in runs[0].controls:
        scores = [run.controls[name] for run in runs if name in run.controls]
        highs = [score.high for score in scores if score.high is not None]
        found.append(Control(name, fmean(score.value for score in scores), max(highs, default=None)))
    return max(found, key=lambda one: (one.value if one.high is None else one.high, one.name), default=None)


def _over_seeds(scores: Sequence[Score], most: float) -> tuple[float, float | None, float | None]:
    """Average over seeds, with the interval over seeds; over examples where it is one seed or all agree."""
    if len(scores) > 1:
        from vlbench.metrics.intervals import seeds_interval  # numpy: most tables need none

        found = seeds_interval([score.value for score in scores])
        if found.low is not None:
            # Student's t knows no bounds; a percentage has some.
            return found.value, max(found.low, 0), min(found.high or most, most)
    return scores[0].value, scores[0].low, scores[0].high


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _beside(
    mine: Sequence[Published], run: RunRecord, place: _Place, board: Board
) -> tuple[Published | None, Verdict, tuple[Published, ...]]:
    """Choose the published number that may stand beside a run; else say why none may, and where it is."""
    rest = _one_a_split(mine, run)
    here = [p for p in mine if p.split == board.published_split(place.split)]
    if not here:
        return None, "other split" if rest else "-", rest
    best = min(here, key=lambda p: _preference(p, run))
    if place.part:
        return None, "part of split", rest
    if place.scorer not in (board.scorer, SERVER):
        return None, "other scorer", rest
    if best.of_another_set:
        return None, "other set", rest
    rest = tuple(p for p in rest if p.split != best.split)
    return best, "from memory" if best.from_memory else "-", rest


def _one_a_split(mine: Sequence[Published], run: RunRecord) -> tuple[Published, ...]:
    best: dict[str, Published] = {}
    for row in sorted(mine, key=lambda p: _preference(p, run)):
        best.setdefault(row.split, row)
    return tuple(row for split, row in best.items() if split != NOT_STATED)


def _preference(row: Published, run: RunRecord) -> tuple[bool, bool, bool, bool, bool]:
    """Order a method's published numbers: seen, on the same set, first-hand, of this size, of this start."""
    setting = "from-scratch" if run.recipe.start == "scratch" else "finetuned"
    return (
        row.from_memory or row.of_another_set,
        row.verified == "secondary",
        not row.variant.casefold().startswith(run.size.casefold()),
        "(" in row.variant,  # another release or run of the method
        row.setting != setting,
    )


def judge(published: float, value: float, low: float | None, high: float | None) -> Verdict:
    """Say where a published value lies as seen from an interval of our own."""
    if low is None or high is None:
        return "no interval"
    if low <= published <= high:
        return "within CI"
    return "above" if value > published else "below"

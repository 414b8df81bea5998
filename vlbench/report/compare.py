"""Leaderboards from run folders: own records, those that ship with vlbench, and published numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from vlbench.cards import DatasetCard, ModelCard, TaskCard
from vlbench.catalog import card_names, find
from vlbench.paths import card_folder, write_text
from vlbench.record import RunRecord, find_records, read_record
from vlbench.report.published import Published, find_published
from vlbench.report.render import markdown
from vlbench.report.summary import NAME, overview_page
from vlbench.report.tables import Row, Table, boards, leaderboard, published_names
from vlbench.types import Fault, Misuse, nearest


class Collected(NamedTuple):
    """Records that were found, and a line for each file that is none."""

    records: list[RunRecord]
    warnings: list[str]


class Comparison(NamedTuple):
    """Tables, and a line for each record that could not be read."""

    tables: list[Table]
    warnings: list[str]


class Limit(NamedTuple):
    """A value that a method, or every method, must reach."""

    method: str
    """Empty for all."""
    value: float


class Under(NamedTuple):
    """What does not reach its limit: a row, or a method without any."""

    limit: Limit
    table: Table | None
    row: Row | None

    def __str__(self) -> str:
        if self.table is None or self.row is None:
            return f"{self.limit.method or 'no method'} has no result that could reach {self.limit.value:g}"
        place = f"{self.table.dataset} {self.table.split}"
        return f"{self.row.method} on {place}: {self.row.value:.2f} is under {self.limit.value:g}"


def collect(runs_root: Path) -> Collected:
    """Read all records below the runs folder and those that ship; a broken file is named, not fatal."""
    shipped = card_folder("reports/results")
    files = find_records(runs_root) + (sorted(shipped.rglob("*.json")) if shipped.is_dir() else [])
    records: dict[str, RunRecord] = {}
    warnings = []
    for path in files:
        try:
            record = read_record(path)
        except Fault as error:
            warnings.append(f"left out: {error.wrong}")
        else:
            records.setdefault(record.id, record)
    return Collected(list(records.values()), warnings)


def leading(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Choose the records that leaderboards are of.

    Pre-training answers nothing, variants stand in their study, and answers under attack are of other questions.
    """
    own = [record for record in records if record.kind != "pretrain"]
    return [record for record in own if not record.recipe.variant and not record.recipe.attack]


def compare(
    tasks: Sequence[str] = (),
    methods: Sequence[str] = (),
    dataset: str = "",
    split: str = "",
    runs_root: Path = Path("runs"),
) -> Comparison:
    """Make the leaderboards asked for; everything that has own runs where nothing is named.

    Methods are named by card or as published; splits by the card's name or the published one.
    """
    records, broken = collect(runs_root)
    records = leading(records)
    _check_names(tasks, methods, dataset, records)
    known = published_names()
    wanted = {name.casefold() for name in methods}
    wanted |= {known[name].casefold() for name in methods if name in known}
    wanted |= {name for name, published in known.items() if published.casefold() in wanted}
    records = [r for r in records if not wanted or r.method.casefold() in wanted]
    published = [p for p in find_published(ablations=False) if not wanted or p.method.casefold() in wanted]
    pairs = [pair for pair in _pairs(records) if (not tasks or pair[0] in tasks) and dataset in ("", pair[1])]
    with_runs = {(record.task, record.dataset) for record in records if record.scores}
    if not dataset and (own := [pair for pair in pairs if pair in with_runs]):
        pairs = own
    tables = _tables(pairs, records, published, every_split=bool(split))
    shown = [t for t in tables if split in ("", t.split, t.published_split)]
    if split and not shown:
        raise Misuse(f"no split is called '{split}'; {nearest(split, sorted({t.split for t in tables}))}")
    return Comparison(shown, broken)


def _check_names(tasks: Sequence[str], methods: Sequence[str], dataset: str, records: Sequence[RunRecord]) -> None:
    """Refuse a name that neither a card, a record nor a published number knows."""
    known_methods = {*card_names(ModelCard), *(r.method for r in records)}
    known_methods |= {p.method for p in find_published()}
    datasets = {*card_names(DatasetCard), *(r.dataset for r in records)}
    asked = [("task", name, {*card_names(TaskCard), *(r.task for r in records)}) for name in tasks]
    asked += [("method", name, known_methods | {m.casefold() for m in known_methods}) for name in methods]
    asked += [("data set", dataset, datasets)] if dataset else []
    for what, name, known in asked:
        if name not in known and name.casefold() not in known:
            many = "datasets" if what == "data set" else f"{what}s"
            raise Misuse(f"no {what} is called '{name}'; {nearest(name, sorted(known))}", f"see: vlbench list {many}")


def _pairs(records: Iterable[RunRecord]) -> list[tuple[str, str]]:
    """List every task with every data set that cards or records join."""
    carded = {(name, data) for name in card_names(TaskCard) for data in find(TaskCard, name).datasets}
    return sorted(carded | {(record.task, record.dataset) for record in records})


def _tables(
    pairs: Iterable[tuple[str, str]],
    records: Sequence[RunRecord],
    published: Sequence[Published],
    *,
    every_split: bool,
) -> list[Table]:
    tables = []
    for task, dataset in pairs:
        for known in boards(task, dataset, records):
            tables += leaderboard(records, published, known, every_split=every_split)
    return tables


def parse_limit(text: str) -> Limit:
    """Read one ``--fail-under METHOD=VALUE`` or ``VALUE``."""
    method, _, value = text.rpartition("=")
    try:
        limit = Limit(method.strip(), float(value))
    except ValueError:
        limit = Limit("", float("nan"))
    if limit.value != limit.value:  # not a number
        raise Misuse(f"--fail-under wants METHOD=VALUE or VALUE, not '{text}'", "e.g. --fail-under lxmert=99.0")
    return limit


def under(tables: Iterable[Table], limits: Iterable[Limit]) -> list[Under]:
    """List own results that do not reach their limit; a limit that no result is held to is not met either."""
    own = [(table, row) for table in tables for row in table.rows]
    found = []
    for limit in limits:
        held = [(table, row) for table, row in own if limit.method in ("", row.method)]
        found += [Under(limit, table, row) for table, row in held if row.value < limit.value]
        found += [] if held else [Under(limit, None, None)]
    return found


def write_leaderboards(records: Iterable[RunRecord], folder: Path) -> list[Path]:
    """Write ``<task>-<dataset>.md`` for all that is run or published, and an overview; same input, same bytes.

    Runs on a few examples say nothing of a method and are left out.
    """
    known, written = [record for record in leading(records) if record.basis != "smoke"], []
    every: list[Table] = []
    published = find_published(ablations=False)
    for task, dataset in _pairs(known):
        tables = _tables([(task, dataset)], known, published, every_split=True)
        if tables:
            path = folder / f"{task}-{dataset}.md"
            write_text(path, markdown(tables, f"{task} on {tables[0].name}", _departures(tables)))
            written.append(path)
            every += tables
    write_text(folder / NAME, overview_page(every))
    return [*written, folder / NAME]


def _departures(tables: Iterable[Table]) -> list[tuple[str, str, str]]:
    methods = sorted({row.method for table in tables for row in table.rows} & set(card_names(ModelCard)))
    cards = [find(ModelCard, method) for method in methods]
    return [(card.name, d.what, d.why) for card in cards for d in card.departure]

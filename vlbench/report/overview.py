"""What there is: methods, tasks, data sets, suites, published numbers and runs, one line each.

Every list is data with a title and column names; the command line prints it as a table or as JSON.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vlbench.cards import CorpusCard, DatasetCard, ModelCard, SuiteCard, TaskCard
from vlbench.catalog import card_names, cards, find, find_suite, known_forms
from vlbench.recipe import Recipe
from vlbench.record import RunRecord, find_records
from vlbench.report.columns import MARK, Column, filled
from vlbench.report.compare import collect
from vlbench.report.published import Published, find_published
from vlbench.report.render import grid
from vlbench.types import FORMS, Misuse, nearest

if TYPE_CHECKING:
    from rich.table import Table as Grid


_FEW = 5
SOME = "*"
"""Marks what holds in part: a form that only some sizes answer, a number of some splits; a note says which."""


class Listing(NamedTuple):
    """A titled list: rows by column name, values as JSON has them."""

    title: str
    columns: tuple[str, ...]
    rows: list[dict[str, Any]]
    warnings: tuple[str, ...] = ()
    """Files that should have been part of it and could not be read."""
    notes: tuple[str, ...] = ()
    """What its marks mean, a line each, to stand below it."""


def list_methods() -> Listing:
    """List the methods that have a card."""
    columns = ("method", "year", "sees", "answers", "sizes", "about")
    rows = [_method(card) for card in cards(ModelCard)]
    some = [row["method"] for row in rows if any(form.endswith(SOME) for form in row["answers"])]
    more = [row["method"] for row in rows if "+" in _cell("sizes", row)]
    notes = [f"{SOME} at some sizes only; which: vlbench show {' or '.join(some)}"] if some else []
    notes += [f"+N: so many more sizes; which: vlbench show {' or '.join(more)}"] if more else []
    return Listing("methods", columns, rows, notes=tuple(notes))


def _method(card: ModelCard) -> dict[str, Any]:
    return {
        "method": card.id,
        "name": card.name,
        "year": card.paper.year,
        "sees": card.sees,
        "sizes": list(card.sizes),
        "answers": _forms(card),
        "tasks": sorted({re.split("[/@]", name)[0] for name in card.finetune}),
        "about": card.about,
    }


def _forms(card: ModelCard) -> list[str]:
    """List the forms a method answers; with a star those that only some of its sizes do."""
    usual = known_forms(card.id)
    some = {form for size in card.sizes for form in known_forms(card.id, size)}
    return [form if form in usual else f"{form}{SOME}" for form in FORMS if form in some]


def list_tasks() -> Listing:
    """List the tasks: what is asked, how it is answered and scored, on which data sets."""
    columns = ("task", "form", "metric", "datasets", "about")
    rows = [
        {
            "task": card.id,
            "form": card.form,
            "metric": card.metric,
            "datasets": list(card.datasets),
            "about": card.about,
        }
        for card in cards(TaskCard)
    ]
    return Listing("tasks", columns, rows)


def list_datasets() -> Listing:
    """List the data sets, their size, and whether they must be fetched."""
    columns = ("dataset", "name", "examples", "comes", "splits", "about")
    rows = [_dataset(card) for card in cards(DatasetCard)]
    part = any(row["examples"] and row["unstated"] for row in rows)
    note = f"{SOME} without the splits whose number is not stated; which: vlbench show NAME"
    return Listing("datasets", columns, rows, notes=(note,) * part)


def _dataset(card: DatasetCard) -> dict[str, Any]:
    whole = {name: split for name, split in card.splits.items() if not split.of}
    return {
        "dataset": card.id,
        "name": card.name,
        "splits": list(card.splits),
        "examples": sum(split.examples for split in whole.values()) or None,
        "unstated": [name for name, split in whole.items() if not split.examples],
        "comes": f"with {card.package}" if card.package else "--data" if card.folder else "made up",
        "licence": card.licence,
        "about": card.about,
    }


def list_corpora() -> Listing:
    """List the corpora for pre-training, their size as published, and whether they have region features."""
    columns = ("corpus", "name", "images", "examples", "regions", "licence", "about")
    rows: list[dict[str, Any]] = [
        {
            "corpus": card.id,
            "name": card.name,
            "layout": card.layout,
            "images": card.images or None,
            "examples": card.examples or None,
            "unstated": [],
            "regions": any(file.role == "features" for file in card.file),
            "licence": card.licence,
            "about": card.about,
        }
        for card in cards(CorpusCard)
    ]
    return Listing("corpora", columns, rows)


def list_suites() -> Listing:
    """List the suites and what to expect of them."""
    columns = ("suite", "datasets", "about", "expect")
    rows = [
        {
            "suite": card.id,
            "datasets": [f"{task}: {dataset}" for task, dataset in find_suite(card.id).datasets.items()],
            "about": card.about,
            "expect": card.expect,
        }
        for card in cards(SuiteCard)
    ]
    return Listing("suites", columns, rows)


def list_published(
    method: str | None = None,
    task: str | None = None,
    dataset: str | None = None,
    split: str | None = None,
    metric: str | None = None,
) -> Listing:
    """List published numbers, filtered by our names (vqa-v2) or the published ones (VQA v2).

    Raises Misuse for a name that no published number has, with the nearest.
    """
    method = published_name(ModelCard, method)
    task, dataset = published_name(TaskCard, task), published_name(DatasetCard, dataset)
    columns = ("method", "variant", "dataset", "split", "metric", "value", "setting", "source")
    asked = {"method": method, "task": task, "dataset": dataset, "split": split, "metric": metric}
    for what, name in asked.items():
        known = sorted({str(getattr(row, what)) for row in find_published()})
        if name and name.casefold() not in {one.casefold() for one in known}:
            raise Misuse(f"no published number is of the {what} '{name}'; {nearest(name, known)}")
    rows = [_published(row) for row in find_published(method, task, dataset, split, metric)]
    return Listing("published numbers", columns, rows)


def published_name(kind: type[ModelCard | TaskCard | DatasetCard], name: str | None) -> str | None:
    """Return what a card's subject is called in registry/published; another name as it is."""
    return find(kind, name).published or name if name and name in card_names(kind) else name


def _published(row: Published) -> dict[str, Any]:
    return {**row.model_dump(exclude={"pretrain_data", "params_millions"}), "source": row.source}


def list_runs(runs_root: Path) -> Listing:
    """List the runs of a folder, the newest first, with their main score."""
    records, warnings = collect(runs_root)
    newest = sorted(records, key=lambda record: (record.started, record.id), reverse=True)
    own = {path.parent.name for path in find_records(runs_root)}
    columns = ("run", "method", "task", "dataset", "kind", "basis", "split", "metric", "value", "minutes", "from")
    rows = [_run(record, "here" if record.id in own else "vlbench") for record in newest]
    return Listing("runs", columns, rows, tuple(warnings), _unfinished(runs_root))


def _unfinished(runs_root: Path) -> tuple[str, ...]:
    """Say which runs were begun and not ended, the newest first."""
    begun = [path.parent for path in runs_root.glob("*/*/*/begun.json") if not (path.parent / "record.json").is_file()]
    newest = sorted(begun, key=lambda folder: folder.name, reverse=True)
    if not newest:
        return ()
    some = ", ".join(str(folder.relative_to(runs_root)) for folder in newest[:_FEW])
    more = f" and {len(newest) - _FEW} more" if len(newest) > _FEW else ""
    return (f"begun and not finished: {some}{more}; the command that began a run goes on with it",)


def _run(record: RunRecord, source: str) -> dict[str, Any]:
    split, metric, score = record.main or ("", "", None)
    return {
        "run": record.id,
        "kind": record.kind,
        "method": record.method,
        "task": record.task,
        "dataset": record.dataset,
        "suite": record.suite,
        "size": record.size,
        "seed": record.seed,
        "basis": record.basis,
        "split": split,
        "metric": metric,
        "value": score.value if score else None,
        "low": score.low if score else None,
        "high": score.high if score else None,
        "started": record.started,
        "minutes": round(record.seconds / 60, 1),
        "from": source,
    }


_LISTS: Mapping[str, Callable[[Path], Listing]] = {
    "methods": lambda runs: list_methods(),
    "tasks": lambda runs: list_tasks(),
    "datasets": lambda runs: list_datasets(),
    "corpora": lambda runs: list_corpora(),
    "suites": lambda runs: list_suites(),
    "published": lambda runs: list_published(),
    "runs": list_runs,
}
LISTS = tuple(_LISTS)


def overview(what: str, runs_root: Path) -> Listing:
    """Make the list of that name; Misuse with the nearest where there is none."""
    if what not in _LISTS:
        raise Misuse(f"there is no list of '{what}'; {nearest(what, LISTS)}", f"known: {', '.join(LISTS)}")
    return _LISTS[what](runs_root)


def list_recipe(recipe: Recipe, origins: Mapping[str, str]) -> Listing:
    """List every value of a resolved recipe with where it came from and what it means."""
    values = recipe.model_dump(mode="json")
    rows = [
        {
            "key": key,
            "value": values[key],
            "origin": origins.get(key, "default"),
            "meaning": field.description,
        }
        for key, field in Recipe.model_fields.items()
    ]
    name = f"{recipe.model} on {recipe.task} ({recipe.dataset}, suite {recipe.suite})"
    return Listing(name, ("key", "value", "origin", "meaning"), rows)


def listing_grid(found: Listing) -> Grid:
    """Lay a list out for a terminal; a column that says nothing in any row disappears."""
    columns = [
        Column(
            name,
            partial(_cell, name),
            all(isinstance(row.get(name), int | float | None) for row in found.rows),
        )
        for name in found.columns
    ]
    return grid(*filled(columns, found.rows))


def _cell(name: str, row: Mapping[str, Any]) -> str:
    if name == "examples":
        return f"{row[name]:,}{SOME if row['unstated'] else ''}" if row[name] else "-"
    if name == "value" and isinstance(row[name], float) and "key" not in row:
        return f"{row[name]:.2f}{MARK if row.get('verified') == 'memory' else ''}"
    if name == "sizes":  # a framework has many; all of them are in: vlbench show METHOD
        usual = [size for size in row[name] if "-" not in size]
        more = len(row[name]) - len(usual)
        return " ".join([*usual, *([f"+{more}"] if more else [])])
    if name == "value" and "key" in row:  # a long list would squeeze what the values mean
        return textwrap.fill(words(row[name]), 40, break_long_words=False, break_on_hyphens=False)
    if name == "answers":
        return " ".join(row[name])
    return words(row.get(name))


def words(value: object) -> str:
    """Write a value of a list for people: 5e-5, a, b."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if value.is_integer():
            return f"{int(value):,}"
        digits, _, power = f"{value:.6e}".partition("e")
        return f"{value:.6g}" if abs(value) >= 1e-3 else f"{digits.rstrip('0').rstrip('.')}e{int(power)}"
    if isinstance(value, list | tuple):
        return ", ".join(words(part) for part in value) or "-"
    if isinstance(value, int):
        return str(value)
    return "-" if value in (None, "") else str(value)

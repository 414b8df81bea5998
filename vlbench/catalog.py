"""Find and check cards (cards.py).

Cards are TOML files in ``registry/`` and ``suites/``, in the folders of ``VLBENCH_CARDS``, and in installed
packages that name themselves under the entry point ``vlbench.cards``. All come through this one door; two
cards of one name are an error. Code is imported only when a card's ``code`` is asked for (plugins.py).
"""

from __future__ import annotations

import importlib.util
import json
import tomllib
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vlbench.cards import FOLDERS, AnyCard, Card, CorpusCard, DatasetCard, ModelCard, SuiteCard, TaskCard, card_fault
from vlbench.paths import card_folder, user_cards
from vlbench.recipe import fault_of
from vlbench.types import BadData, Fault, Form, Misuse, nearest


def known_forms(method: str, size: str = "") -> list[Form]:
    """List the forms a method of ours answers, as it said itself (abilities.py); empty for one of somebody else's.

    ``size``: base-regions answers as mini-regions does; where a kind of size is not known, as the usual one.
    """
    kinds: dict[str, list[Form]] = _asked("forms").get(method, {})
    return kinds.get(size.partition("-")[2], kinds.get("", []))


def known_parameters(method: str, size: str) -> int:
    """Return about how many parameters a method of ours has at a published size (abilities.py); 0 where not known."""
    return int(_asked("parameters").get(method, {}).get(size, 0))


def _asked(name: str) -> dict[str, Any]:
    path = card_folder("registry") / f"{name}.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Fault(f"cannot read {path}: {error}", "make it anew: python -m vlbench.abilities") from None
    return found


def _roots() -> list[Path]:
    roots = [card_folder("registry").parent, *user_cards()]
    for entry in entry_points(group="vlbench.cards"):
        try:
            spec = importlib.util.find_spec(entry.value)
        except (ImportError, ValueError) as error:
            raise Fault(f"the plug-in '{entry.name}' names a package that is not here: {error}") from error
        roots += [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    return roots


@cache
def _card_files(kind: type[AnyCard]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for root in _roots():
        for path in sorted((root / FOLDERS[kind][0]).glob("*.toml")):
            if path.stem in found:
                raise Misuse(
                    f"two {FOLDERS[kind][1]} cards are called '{path.stem}': {found[path.stem]} and {path}",
                    "rename one of the two files",
                )
            found[path.stem] = path
    return found


def card_names(kind: type[AnyCard]) -> list[str]:
    """List the names of all cards of a kind, in order."""
    return sorted(_card_files(kind))


def read_card(kind: type[Card], path: Path) -> Card:
    """Read and check one card file; BadData with the key that is wrong."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        if kind is DatasetCard and values.get("like"):
            values = {**tomllib.loads((path.parent / f"{values['like']}.toml").read_text(encoding="utf-8")), **values}
        card = kind.model_validate({**values, "id": path.stem, "path": str(path)})
    except OSError as error:
        raise BadData(f"cannot read {path}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise BadData(f"{path}: not TOML: {error}") from None
    except ValidationError as error:
        raise BadData(f"{path}: {card_fault(kind, error)}") from None
    if isinstance(card, SuiteCard):
        of_stages = {f"pretrain.{name}": entry for name, entry in card.pretrain.items()}
        compared = {f"variants.{name}.{part}": getattr(one, part)
                    for name, one in card.variants.items() for part in ("run", "pretrain")}  # fmt: skip
        _check_keys(path, [("all", card.all)], card.tasks, card.methods, card.pairs, of_stages, compared)
    if isinstance(card, DatasetCard):
        parts: list[DatasetCard] = [card, *(card.for_task(task) for task in card.task)]
        _check_keys(path, [("recipe", part.recipe) for part in parts])
    if isinstance(card, ModelCard):
        stages = {*card.stages(), *(str(stage["name"]) for stage in card.pretrain.get("stage", ()))}
        of_stages = {f"pretrain {stage}".strip(): card.pretraining(stage) for stage in stages} if card.pretrain else {}
        _check_keys(path, [], of_stages, {f"finetune.{name}": entry for name, entry in card.finetune.items()})
    return card


def _check_keys(path: Path, entries: list[tuple[str, dict[str, Any]]], *groups: dict[str, dict[str, Any]]) -> None:
    for name, entry in [*entries, *(item for group in groups for item in group.items())]:
        if wrong := fault_of(entry):
            raise BadData(f"{path}: [{name}] {wrong}")


def find(kind: type[Card], name: str) -> Card:
    """Find a card by name; Misuse with the nearest name where there is none."""
    card: Card = _find(kind, name)
    return card


@cache
def _find(kind: type[Card], name: str) -> Card:
    files = _card_files(kind)
    if name not in files:
        what, many = FOLDERS[kind][1:]
        raise Misuse(f"no {what} is called '{name}'; {nearest(name, list(files))}", f"see: vlbench list {many}")
    return read_card(kind, files[name])


def find_dataset(name: str, task: str) -> DatasetCard:
    """Find a data set's card as a task sees it; Misuse with the nearest name where there is none."""
    return find(DatasetCard, name).for_task(task)


def check_suite(card: SuiteCard) -> SuiteCard:
    """Refuse a name in a suite that is nearly, but not quite, that of a card: its values would be lost silently."""
    methods, subjects = card_names(ModelCard), [*card_names(TaskCard), *card_names(DatasetCard)]
    named = [(name, methods) for name in card.methods]
    named += [(name.partition("/")[0], [*methods, "all"]) for name in card.pretrain]
    named += [(name, subjects) for name in (*card.tasks, *card.datasets, *card.datasets.values())]
    named += [(name, methods) for name in card.all_methods] + [(name, subjects) for name in card.all_tasks]
    named += [(p, k) for pair in card.pairs for p, k in zip(pair.split("/"), (methods, subjects), strict=False)]
    for name, known in named:
        if name not in known and (close := nearest(name, known)).startswith("did you mean"):
            raise BadData(f"{card.path}: '{name}' is not known; {close}")
    return card


def find_suite(name: str) -> SuiteCard:
    """Find a suite by name or by the path of its file; it has the data sets of the suite it is like, too."""
    card = _find_suite(name)
    if not card.like:
        return card
    other = _find_suite(card.like)
    if other.like:
        raise BadData(f"{card.path}: like: {other.id} is itself like {other.like}", f'write like = "{other.like}"')
    return card.model_copy(update={"datasets": {**other.datasets, **card.datasets}})


def lineage(card: SuiteCard) -> list[SuiteCard]:
    """List the suites whose recipe values hold in a suite, the last wins: the one it is like, and itself."""
    return [*([_find_suite(card.like)] if card.like else []), card]


def _find_suite(name: str) -> SuiteCard:
    if not name.endswith(".toml"):
        return check_suite(find(SuiteCard, name))
    if not Path(name).is_file():
        raise Misuse(f"there is no file {name}", "see: vlbench list suites")
    return check_suite(read_card(SuiteCard, Path(name)))


MADE_CORPORA = "capfilt"
"""The folder, below the data folder, of the corpora that ``vlbench capfilt`` made, each in one of its own."""


def find_corpus(name: str, data: Path | None = None) -> CorpusCard:
    """Find a corpus by name or by the path of its card, which may lead from the data folder too."""
    if not name.endswith(".toml"):
        return find(CorpusCard, name)
    path = Path(name)
    if not path.is_file() and data:
        path = data / name
    if not path.is_file():
        made = Path(name).parent
        noisy = made.name if made.parent.name == MADE_CORPORA else ""
        where = f"{name} (nor {path})" if data and path != Path(name) else name
        raise Misuse(
            f"there is no file {where}",
            f"make it: vlbench capfilt {noisy} --start run:ID" if noisy else "see: vlbench list corpora",
        )
    return read_card(CorpusCard, path).model_copy(
        update={"id": corpus_name(name), "folder": str(path.absolute().parent)}
    )


def corpus_name(name: str) -> str:
    """Say what a corpus is called: by its name, or by the folder and the file of its card; ``*2`` stays."""
    card, times, count = name.partition("*")
    if not card.endswith(".toml"):
        return name
    path = Path(card).absolute()
    return (path.stem if path.stem == path.parent.name else f"{path.parent.name}-{path.stem}") + times + count


def cards(kind: type[Card]) -> list[Card]:
    """Read all cards of a kind."""
    return [find(kind, name) for name in card_names(kind)]

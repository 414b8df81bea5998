"""What CapFilt will do: its start, its two stages, the corpora it reads and where it writes. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vlbench.cards import CorpusCard, ModelCard
from vlbench.catalog import MADE_CORPORA, card_names, find, find_corpus
from vlbench.plan import PRETRAINED, Plan, find_model, from_published, published_checkpoint
from vlbench.recipe import resolve
from vlbench.record import RunRecord, read_record
from vlbench.runfolder import RECORD, check_start, find_run
from vlbench.stages import plan_stage
from vlbench.tasks.places import located
from vlbench.types import Misuse, WrongStart

EVEN = 0.5
"""The authors' filter keeps what belongs to its image more probably than not (section 3.3)."""
COMMAND = "capfilt"
"""What marks the stages of a method's card that this command trains: its captioner, then its filter."""
_WITH_IMAGES = ("pairs", "table", "pictures")
"""Layouts whose images are files, so that a list of pairs can name them."""
_WITH_CAPTIONS = ("pairs", "table", "shards")


class Wish(NamedTuple):
    """What was typed."""

    noisy: str
    start: str
    clean: tuple[str, ...] = ()
    """What captioner and filter learn from; empty = as the suite says."""
    into: Path | None = None
    suite: str = "quick"
    typed: Mapping[str, Any] = {}
    keep_above: float = EVEN
    """How probably a text that is kept belongs to its image, by the filter."""


def able() -> list[str]:
    """List the methods whose cards have a captioner and a filter."""
    return [name for name in card_names(ModelCard) if find(ModelCard, name).stages_of_command(COMMAND)]


def method_of(start: str, out: Path) -> tuple[str, RunRecord | None]:
    """Return the method of a start and, of a run of ours, its record; refuse what is no pre-trained method that can."""
    if not start.startswith("run:"):
        return able()[0], None
    folder = find_run(start.removeprefix("run:"), out)
    record = read_record(folder / RECORD)
    stages = find_model(record.method).stages_of_command(COMMAND)
    if not stages:
        raise WrongStart(
            f"{start} is a run of {record.method}, which has no captioner and filter for CapFilt to train",
            f"choose a pre-training of {' or '.join(able())}: vlbench list runs",
        )
    if record.kind != "pretrain" or record.recipe.stage in stages:
        what = f"the {record.recipe.stage} of an earlier CapFilt" if record.kind == "pretrain" else f"of {record.task}"
        raise WrongStart(
            f"captioner and filter begin from a pre-training, but the run {record.id} is {what}",
            f"choose a pre-training: vlbench list runs; or make one: vlbench pretrain {record.method}",
        )
    return record.method, record


def plan_stages(wish: Wish, start: str, out: Path) -> list[Plan]:
    """Plan captioner and filter, both from one start; refuse a start that is none, and a clean corpus without pairs."""
    method, record = method_of(start, out)
    typed = {key: value for key, value in wish.typed.items() if key not in ("variant", "evaluate_batch")}
    if wish.clean:
        typed["corpora"] = wish.clean
    if record:
        typed = {"size": record.size, "changes": record.recipe.changes, **typed}
    plans = [
        plan_stage(method, stage, suite=wish.suite, typed={**typed, "start": start})
        for stage in find_model(method).stages_of_command(COMMAND)
    ]
    for planned in plans:
        if start != PRETRAINED:
            _check_start(planned, out)
    return plans


def _check_start(planned: Plan, out: Path) -> None:
    check_start(planned, out)
    if planned.recipe.start.startswith("run:"):
        return
    if not from_published(planned):
        raise WrongStart(
            f"captioner and filter begin from a pre-training, and '{planned.recipe.start}' is none",
            "type --start run:ID (vlbench list runs), or --start pretrained for the suite's own",
        )
    found = published_checkpoint(planned)
    if found is None or found.task:
        raise WrongStart(
            f"{planned.model.id} has no published pre-training '{planned.recipe.start}' of size {planned.recipe.size}",
            f"see: vlbench show {planned.model.id}; or go on from a run of yours: --start run:ID",
        )


def batch_of(wish: Wish, planned: Plan) -> int:
    """Return how many images are judged at a time; it changes no result, so that no run is of another name for it."""
    typed = {"evaluate_batch": wish.typed.get("evaluate_batch", planned.recipe.evaluate_batch)}
    return resolve([("typed", {"model": planned.model.id, "task": planned.task.id, **typed})])[0].evaluate_batch


def check_clean(names: Sequence[str], data: Path) -> None:
    """Refuse corpora to learn from that have no captions, or no images."""
    for name in names:
        card = find_corpus(name.partition("*")[0], data)
        if card.layout not in _WITH_CAPTIONS:
            raise Misuse(
                f"captioner and filter learn from captions of images: {card.id} has none (layout '{card.layout}')",
                "choose a corpus that people captioned: --clean NAME",
            )


def find_noisy(name: str, data: Path) -> CorpusCard:
    """Find the corpus whose texts are judged; refuse one that can have no images here."""
    card = find_corpus(name, data)
    if card.layout not in _WITH_IMAGES:
        raise Misuse(
            f"{card.id} has no image files, one or more texts each (its layout is '{card.layout}')",
            f"CapFilt takes the layouts {', '.join(_WITH_IMAGES)}; images in tars are to be unpacked first",
        )
    return card


def truth_of(card: CorpusCard, data: Path) -> Path | None:
    """Return the file that says which texts of a corpus are right, where its card names one."""
    return next((located(data / card.folder, file.name) for file in card.file if file.role == "truth"), None)


def folder_of(wish: Wish, card: CorpusCard, data: Path) -> Path:
    """Return where the corpus is written: as typed, else below the data folder under the noisy one's name."""
    return wish.into or data / MADE_CORPORA / card.id

"""What a run's weights begin from: a run of ours, a published checkpoint, a file, and GloVe's vectors of words."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING

from vlbench.cards import Checkpoint
from vlbench.data.glove import find_glove
from vlbench.engine.weightfile import read_weights
from vlbench.models.base import Model
from vlbench.plan import Plan, from_published, published_checkpoint, where_to_get
from vlbench.plugins import load_code
from vlbench.runfolder import WEIGHTS, find_run
from vlbench.types import BadData, Fault

if TYPE_CHECKING:
    from vlbench.prepare import Options


def starting_point(plan: Plan, options: Options) -> tuple[Path, str] | None:
    """Find the checkpoint a run starts from and its rename table ("" for our own names); None for scratch."""
    start = plan.recipe.start
    if start == "scratch":
        return None
    if start.startswith("run:"):
        return find_run(start.removeprefix("run:"), options.out) / WEIGHTS, ""
    if from_published(plan):
        return published_weights(plan, options)
    path = Path(start)
    names = plan.model.checkpoint[0].names if plan.model.checkpoint else ""
    own = any(key.startswith("model.") for key in read_weights(path))
    return path, "" if own else names


def checkpoint_of(plan: Plan) -> Checkpoint:
    """Return the published checkpoint a run begins from; Fault where there is none of its size."""
    found = published_checkpoint(plan)
    if found is None:
        raise Fault(
            f"{plan.model.id} has no published checkpoint of size {plan.recipe.size}",
            "train from scratch with --start scratch, or choose --size base",
        )
    return found


def published_weights(plan: Plan, options: Options) -> tuple[Path, str]:
    """Find the file of the published checkpoint and the name of its rename table; BadData where it is not here."""
    published = checkpoint_of(plan)
    path = options.data / published.file
    if not path.is_file():
        place = where_to_get(published, options.data, plan.model.id)
        raise BadData(
            f"the published checkpoint of {plan.model.id} is not here: {place}",
            "fetch it and put it there, or train with --start scratch",
        )
    return path, published.names


def word_vectors(plan: Plan, options: Options) -> Path | None:
    """Find the file of word vectors a method begins from, if it has any and begins from scratch."""
    code = load_code(plan.model.code, Model)
    if not hasattr(code, "giveword_vectors") or plan.recipe.start != "scratch":
        return None
    usual = signature(code).parameters["word_width"].default
    return find_glove(options.data, int(plan.model.sizes[plan.recipe.size].get("word_width", usual)))

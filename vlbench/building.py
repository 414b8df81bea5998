"""Building a learner: the model at its size, the head for its task, and the weights both begin from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from vlbench.data.batches import Collator
from vlbench.data.glove import FOLDER, read_glove
from vlbench.data.images import ImageStore
from vlbench.data.words import Words
from vlbench.engine import checkpoint
from vlbench.learner import Learner, build_model
from vlbench.models.base import Model
from vlbench.plan import ANSWER_LIST, Plan, answer_list_of, from_published, trains
from vlbench.plugins import load_code
from vlbench.runfolder import finished
from vlbench.start import checkpoint_of, published_weights, starting_point, word_vectors
from vlbench.tasks.reading import read_json
from vlbench.types import BadData, Form

if TYPE_CHECKING:
    from vlbench.prepare import Opened, Options


def model_facts(plan: Plan, images: ImageStore, words: Words, form: Form) -> dict[str, Any]:
    """Gather what the constructor of a method may ask for by name: what the run and its data decide."""
    recipe = plan.recipe
    return {
        "vocabulary": words.vocabulary,
        "feature_dim": getattr(images, "feature_dim", 0),
        "image_size": getattr(images, "size", 0),
        "text_length": recipe.text_length,
        "dropout": recipe.dropout,
        "drop_path": recipe.drop_path,
        "prompt": tuple(words.encode([plan.model.prompt], recipe.text_length)[0][1:-1]),
        "form": form,
        "pretraining": False,
        "mask_token": words.mask,
        "special_tokens": (words.padding, words.cls, words.sep),
    }


def build_learner(plan: Plan, opened: Opened, options: Options) -> Learner:
    """Build the model at its size, with the head for the task's form, from its starting point."""
    recipe, words = plan.recipe, opened.words
    facts = model_facts(plan, opened.images, words, opened.task.form)
    model = build_model(load_code(plan.model.code, Model), plan.model.constructor_sizes(recipe.size), facts)
    told = opened.task.answers if opened.task.told else ()
    # not by the run's own collator: questions and captions are cleaned, closed answers never are
    answers = Collator(opened.images, words, length=recipe.text_length).lay_out(told) if told else None
    learner = Learner(model, model.head(opened.task.form, len(opened.task.answers), answers))
    _giveword_vectors(plan, learner, words, options)
    if start := starting_point(plan, options):
        path, table = start
        found = checkpoint.load(
            learner, path, checkpoint.read_table(table) if table else None, leftover=_was_pretrained(path)
        )
        lost = [name for name in found.new if not name.startswith(("model.momentum.", "model.queue."))]
        if lost and not trains(plan) and not (learner.head and learner.head.untrained):
            raise BadData(
                f"{path} has no head for {plan.task.id}, so it cannot answer it ({lost[0]} is missing)",
                f"fine-tune first: vlbench run {plan.model.id} {plan.task.id} --start {recipe.start}",
            )
        known = _adopt_answers(plan, opened, learner, options) if lost and from_published(plan) else 0
        if table:
            _check_order(plan, found.used, len(opened.task.answers), options)
        options.say(
            f"{path.name}: {len(found.used)} tensors used, {len(found.not_needed)} not needed for {plan.task.id}, "
            f"{len(found.new)} begin anew" + (f", from {known:,} answers of pre-training" if known else "")
        )
    return learner


def _was_pretrained(path: Path) -> bool:
    """Say whether weights are of a run of ours that pre-trained, and so hold heads of its objectives."""
    record = finished(path.parent.parent)
    return record is not None and record.kind == "pretrain"


def _giveword_vectors(plan: Plan, learner: Learner, words: Words, options: Options) -> None:
    """Begin the words of a method that has word vectors (MCAN) from GloVe's file where it is, and say which it is."""
    give = getattr(learner.model, "give_word_vectors", None)
    if give is None or plan.recipe.start != "scratch":
        return
    width = int(learner.model.words.weight.shape[1])  # type: ignore[union-attr,index]
    path = word_vectors(plan, options)
    if path is None:
        options.say(f"word vectors begin at random: no glove.*.{width}d.txt in {options.data / FOLDER}")
        return
    found = read_glove(path, words.pieces, width)
    give(found.vectors, found.known)
    options.say(f"{path.name}: vectors of {int(found.known.sum()):,} of {words.vocabulary:,} words")


def _check_order(plan: Plan, used: Mapping[str, Tensor], answers: int, options: Options) -> None:
    """Refuse a foreign classifier whose rows may stand for other answers than ours; the numbers would mean nothing."""
    listed = answer_list_of(plan, options.data)
    rows = [name for name, tensor in used.items() if name.startswith("head.") and len(tensor) == answers > 1]
    if rows and listed and not listed.is_file():
        raise BadData(
            f"the checkpoint's {answers:,} answers have an order of their own, and their list {listed} is not here",
            f"put there {ANSWER_LIST}",
        )


def _adopt_answers(plan: Plan, opened: Opened, learner: Learner, options: Options) -> int:
    """Begin the answer head from pre-training's where its answer list is at hand; return how many answers it knew."""
    published = checkpoint_of(plan)
    listed = options.data / published.answers
    if not published.answers or not listed.is_file():
        return 0
    rows = read_json(listed)
    if not isinstance(rows, list) or not all(isinstance(row, dict) and isinstance(row.get("ans"), str) for row in rows):
        raise BadData(f'{listed}: not a list of {{"ans": text}}', "get the file again, or take it away")
    path, table = published_weights(plan, options)
    names = checkpoint.read_table(table)
    return checkpoint.adopt_answers(learner, path, names, [row["ans"] for row in rows], opened.task.answers)

"""What a run needs before it begins: its examples, images and words, its learner, and their hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from vlbench.cards import DatasetCard
from vlbench.data.batches import Collator
from vlbench.data.images import ImageStore
from vlbench.data.opening import open_pixels, open_regions, open_words
from vlbench.data.transforms import Transform
from vlbench.data.words import CLEANING, TRAINERS, WORLD, Words
from vlbench.made import open_made
from vlbench.models.base import Model
from vlbench.paths import sha256, write_text
from vlbench.plan import Plan, answer_list_of, trains
from vlbench.plugins import load_code, own_code
from vlbench.runfolder import WORDS, find_run, finished
from vlbench.start import starting_point, word_vectors
from vlbench.tasks.base import Task
from vlbench.tasks.reading import read_answers
from vlbench.types import BadData, Example, Misuse, Progress, quiet
from vlbench.world_texts import world_texts

PIXELS = 224
"""The side of an image for a method whose card names none."""


class Options(NamedTuple):
    """How a run is made, as far as it does not decide the outcome."""

    out: Path
    data: Path
    device: str = "auto"
    fresh: bool = False
    waits: bool = False
    """Whether it is waited for, where another process makes it now."""
    mirror: bool = True
    progress: Progress = quiet
    say: Callable[[str], None] = lambda line: None


class Opened(NamedTuple):
    """What a run works on."""

    task: Task
    examples: dict[str, list[Example]]
    """Split -> examples."""
    images: ImageStore
    varied: ImageStore
    """The images as they are trained on: cut and changed at random where the recipe says so."""
    words: Words
    collate: Collator
    learning: Collator
    """As ``collate``, with the images as they are trained on."""
    note: str = ""
    """What the record is to say of the data."""


def open_task(plan: Plan, options: Options) -> Task:
    """Open a plan's task; nothing is read yet, but a made-up world that is not here is made."""
    card = open_made(_dataset(plan, options), options.data, progress=options.progress)
    task: Task = load_code(plan.task.code, Task)(card, options.data)
    return task


def open_data(plan: Plan, options: Options, folder: Path) -> Opened:
    """Open a plan's task, its examples, its images as the method sees them, and its words."""
    recipe = plan.recipe
    task = open_task(plan, options)
    task.version(recipe.scorer)  # a mistyped one shows now, not after hours of training
    needed = list(dict.fromkeys([*(recipe.train_splits if trains(plan) else ()), *recipe.evaluate_splits]))
    with own_code(plan.task.path):
        examples = {split: list(task.examples(split))[: recipe.limit or None] for split in needed}
    empty = [split for split, found in examples.items() if not found]
    if empty:
        raise BadData(f"{plan.dataset.name}: the split {empty[0]} holds no example")
    if plan.task.path.endswith(".py"):  # a wrong answer shows now, not after hours of training
        with own_code(plan.task.path):
            for found in examples.values():
                for example in found:
                    task.weights(example)
    if note := _other_counts(plan, task, needed):
        options.say(f"{note}: vlbench data check {plan.dataset.id}")
    images, varied = _open_images(plan, task, needed, options)
    shown = [key for found in examples.values() for example in found for key in example.images]
    if fault := images.missing(shown):
        raise fault
    words = _open_words(plan, task, options, folder)
    if (listed := answer_list_of(plan, options.data)) and listed.is_file():
        task.use_answers(read_answers(listed))
    learns = load_code(plan.model.code, Model).learns
    target = task.target if learns == "scores" else task.shares
    laid = partial(
        Collator,
        words=words,
        length=recipe.text_length,
        answers=len(task.answers),
        target=target,
        points=task.form == "point",
        clean=cleaning(plan),
    )
    collate = laid(images)
    learning = collate if varied is images else laid(varied)
    return Opened(task, examples, images, varied, words, collate, learning, note)


def _other_counts(plan: Plan, task: Task, splits: Sequence[str]) -> str:
    """Say which splits are not as large as their card states: a file that is cut between two records looks whole."""
    if plan.recipe.limit:
        return ""
    stated = {split: plan.dataset.splits[split].examples for split in splits if split in plan.dataset.splits}
    counted = {split: task.count(split) for split, count in stated.items() if count}
    other = [f"{split} {count:,} of {stated[split]:,}" for split, count in counted.items() if count != stated[split]]
    return f"not the number of examples that the card states: {', '.join(other)}" if other else ""


def _dataset(plan: Plan, options: Options) -> DatasetCard:
    """Return the card with the recipe's answer count, or else that of the run we go on from: its head fits no other."""
    count, start = plan.recipe.answer_count, plan.recipe.start
    if not count and start.startswith("run:"):
        earlier = finished(find_run(start.removeprefix("run:"), options.out))
        if earlier and (earlier.task, earlier.dataset) == (plan.task.id, plan.dataset.id):
            count = earlier.recipe.answer_count
    return plan.dataset.model_copy(update={"answer_count": count}) if count else plan.dataset


def _open_images(plan: Plan, task: Task, splits: Sequence[str], options: Options) -> tuple[ImageStore, ImageStore]:
    """Open the images as they are answered on, and as they are trained on: one store where that is the same."""
    # of data that ships, the regions of all splits are made in one go, so that runs on other splits find them
    shipped = [name for name, split in plan.dataset.splits.items() if not split.of] if plan.dataset.package else []
    seen_by = load_code(plan.model.code, Model).sees_at(plan.model.sizes[plan.recipe.size])
    named = list(dict.fromkeys([*splits, *(shipped if seen_by == "regions" else [])]))
    images = {key: path for split in named for key, path in task.image_files(split).items()}
    if seen_by == "pixels":
        size = plan.recipe.image_size or int(plan.model.sizes[plan.recipe.size].get("image_size", PIXELS))
        stores = [
            open_pixels(images, transform, seed=plan.recipe.seed, card=plan.dataset)
            for transform in dict.fromkeys(transforms(plan, size))
        ]
        return stores[0], stores[-1]
    regions = open_regions(
        plan.dataset,
        splits,
        images,
        folder=task.folder,
        most=plan.recipe.regions,
        progress=options.progress,
    )
    return regions, regions


def transforms(plan: Plan, size: int) -> tuple[Transform, Transform]:
    """Say how a plan's pictures become pixels: to be answered on, and to be trained on."""
    recipe, card = plan.recipe, plan.model
    fixed = Transform(size, card.statistics, card.evaluate_crop)
    varied = Transform(
        size,
        card.statistics,
        recipe.crop,
        recipe.mirror,
        recipe.smallest_crop,
        recipe.augment,
        recipe.augment_strength if recipe.augment else fixed.strength,
    )
    return fixed, varied


def cleaning(plan: Plan) -> Callable[[str], str] | None:
    """Say how the authors clean a plan's texts; None for nothing, as for a vocabulary that is learned here."""
    kind = plan.task.texts or ("questions" if plan.task.form in ("classify", "choose") else "captions")
    return CLEANING[plan.model.cleaning][kind] if plan.model.cleaning and plan.tokeniser not in TRAINERS else None


def _open_words(plan: Plan, task: Task, options: Options, folder: Path) -> Words:
    """Open the words: a trained vocabulary is learned from all training texts, or taken from the run we go on from."""
    recipe = plan.recipe
    name = plan.tokeniser
    kept = folder / WORDS
    if name in TRAINERS and recipe.start.startswith("run:") and not kept.is_file():
        earlier = find_run(recipe.start.removeprefix("run:"), options.out) / WORDS
        if earlier.is_file():
            write_text(kept, earlier.read_text(encoding="utf-8"))
    texts: list[str] = []
    if name == WORLD and not kept.is_file():
        texts = texts_of_world([plan.dataset.made], options)
    elif name in TRAINERS and not kept.is_file():
        texts = [text for split in recipe.train_splits for e in task.examples(split) for text in e.texts]
    return open_words(name, texts=texts, size=recipe.vocabulary, root=options.data, kept=kept)


def texts_of_world(sizes: Sequence[str], options: Options) -> list[str]:
    """List the texts of made-up worlds that a vocabulary is learned from; Misuse where there is none of them."""
    if not any(sizes):
        raise Misuse("the tokeniser 'world' is learned from the made-up world", "type --set tokeniser=train")
    return [text for size in dict.fromkeys(sizes) if size
            for text in world_texts(size, options.data, progress=options.progress)]  # fmt: skip


def files_of(plan: Plan, task: Task, options: Options) -> dict[str, str]:
    """Hash the files that decide a run, as far as that needs no image: annotations, code of one's own, the start.

    The splits the answers and the controls are made from count too, and the sizes of the model.
    """
    recipe = plan.recipe
    splits = [*recipe.evaluate_splits, *(recipe.train_splits if trains(plan) or recipe.controls else ())]
    splits += plan.dataset.answer_splits if task.answers else ()
    files = {name: path for split in dict.fromkeys(splits) for name, path in task.files(split).items()}
    found = {name: sha256(path) for name, path in files.items()}
    sizes = json.dumps(plan.model.sizes[recipe.size], sort_keys=True)
    found[f"size:{recipe.size}"] = hashlib.sha256(sizes.encode()).hexdigest()
    for kind, path in (("method", plan.model.path), ("task", plan.task.path)):
        if path.endswith(".py"):
            found[f"code:{kind}"] = sha256(Path(path))
    if start := starting_point(plan, options):
        found["start"] = sha256(start[0])
    if (listed := answer_list_of(plan, options.data)) and listed.is_file():
        found["answers of the start"] = sha256(listed)
    if vectors := word_vectors(plan, options):
        found["word vectors"] = sha256(vectors)
    return found


def inputs_of(plan: Plan, opened: Opened, options: Options) -> dict[str, str]:
    """Hash everything a run reads: files, images, words, cards."""
    cards = {f"card:{kind}": getattr(plan, kind).path for kind in ("model", "task", "dataset", "suite")}
    found = {name: sha256(Path(path)) for name, path in cards.items() if path}
    seen = {"images": opened.images.sha256, "words": opened.words.identity}
    if opened.varied is not opened.images:
        seen["training images"] = opened.varied.sha256
    return {**found, **files_of(plan, opened.task, options), **seen}

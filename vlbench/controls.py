"""What a score must be compared with: answers that need no image, and the model's own to exchanged images or texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import torch

from vlbench.answering import Asking, in_words
from vlbench.recipe import Recipe
from vlbench.record import Scores
from vlbench.tasks.base import Task
from vlbench.types import Answer, Example

IMAGES_SHUFFLED, TEXTS_SHUFFLED = "image-shuffled", "text-shuffled"


def score_controls(recipe: Recipe, asking: Asking, scores: Mapping[str, Scores], given: Mapping[str, Answer]) -> Scores:
    """Score the recipe's controls, as far as the task has them, by the main metric on the main split.

    ``given``: the model's answers there. Controls are of the same examples: of the first only where a run is limited to
    these, of a smaller pool where the model's answers are ranked among fewer. They are never attacked: what is left
    under an attack is set against what the model answers without looking.
    """
    if not scores:
        return {}
    opened = asking.opened
    task, (split, metrics) = opened.task, next(iter(scores.items()))
    shuffles = shuffled(task, opened.examples[split])
    found: dict[str, Mapping[str, Answer]] = {}
    if set(recipe.controls) - shuffles.keys():
        same = task.counted(given, split)
        found = {
            name: {one: answer for one, answer in answers.items() if one in same}
            for name, answers in task.controls(split, recipe.train_splits).items()
            if name in recipe.controls
        }
    for name in [name for name in shuffles if name in recipe.controls]:
        found[name] = in_words(replace(asking, attack=None).ask(split, shuffles[name]), opened.words)
    metric = next(iter(metrics))
    return {name: task.score(answers, split, recipe.scorer)[metric] for name, answers in found.items()}


def shuffled(task: Task, examples: Sequence[Example]) -> dict[str, Callable[[Example], Example]]:
    """Return by name what to ask in place of an example: its images, or its text, belong to another one; seeded.

    Texts are exchanged only where any may be asked of any image: a sentence to be judged, an expression to be found.
    A question among others has answers of its own kind, so that a wrong one would be no baseline.
    """
    images = _exchanged([example.images for example in examples])
    found: dict[str, Callable[[Example], Example]] = {
        IMAGES_SHUFFLED: lambda example: replace(example, images=images[example.images])
    }
    if task.form in ("compare", "point") or (task.form == "classify" and not task.told):
        texts = _exchanged([example.texts for example in examples])
        found[TEXTS_SHUFFLED] = lambda example: replace(example, texts=texts[example.texts])
    return found


def _exchanged(values: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Choose for each of some values another one, for all that share it the same; seeded."""
    known = list(dict.fromkeys(values))
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(0)).tolist()
    return {known[here]: known[there] for here, there in zip(order, [*order[1:], order[0]], strict=True)}

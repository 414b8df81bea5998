"""All that is said in a made-up world: what a vocabulary for its corpora and all of its tasks is learned from."""

from __future__ import annotations

from pathlib import Path

from vlbench.cards import DatasetCard, TaskCard
from vlbench.catalog import cards, find_dataset
from vlbench.made import open_made
from vlbench.plugins import load_code
from vlbench.tasks.base import Task
from vlbench.types import Progress, quiet


def world_texts(size: str, data: Path, *, progress: Progress = quiet) -> list[str]:
    """List the texts and the closed answers of the training splits of all tasks on the world of a size.

    As a published method's vocabulary is of no one task, so runs on different tasks, and what they begin from, can
    read alike.
    """
    found: list[str] = []
    for name in sorted(card.id for card in cards(DatasetCard) if card.made == size):
        for asked in sorted((card for card in cards(TaskCard) if name in card.datasets), key=lambda card: card.id):
            card = open_made(find_dataset(name, asked.id), data, progress=progress)
            task: Task = load_code(asked.code, Task)(card, data)
            learned = [split for split in card.recipe.get("train_splits", ["train"]) if split in task.splits]
            found += [text for split in learned for example in task.examples(split) for text in example.texts]
            found += task.answers if asked.form in ("classify", "compare") else ()
    return found

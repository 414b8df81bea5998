"""A learner's answers to whole splits, in every round that a task asks, and the files they are written to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from vlbench.data.batches import Share, in_order
from vlbench.data.words import Words
from vlbench.engine.attack import Attack, attack_of
from vlbench.engine.evaluate import Asked, ask
from vlbench.learner import Learner
from vlbench.paths import replacing
from vlbench.prepare import Opened
from vlbench.recipe import Recipe
from vlbench.types import Answer, Example, Given, Progress, Tokens, Vectors


@dataclass(frozen=True)
class Asking:
    """A learner with all that it takes to ask it."""

    opened: Opened
    learner: Learner
    accelerator: Accelerator
    batch: int
    """Examples a forward pass answers."""
    progress: Progress
    attack: Attack | None = None
    """How what is asked is perturbed first."""

    @classmethod
    def of(
        cls, recipe: Recipe, opened: Opened, learner: Learner, accelerator: Accelerator, progress: Progress
    ) -> Asking:
        """Ask as a recipe says; an attack takes the memory of training, so its batches are no larger than those."""
        attack = attack_of(recipe)
        batch = min(recipe.batch, recipe.evaluate_batch) if attack else recipe.evaluate_batch
        return cls(opened, learner, accelerator, batch, progress, attack)

    def ask(self, split: str, instead: Callable[[Example], Example] | None = None) -> Asked:
        """Ask every example of a split, then what the task asks on the strength of the answers: the best pairs.

        ``instead`` says what to ask in place of an example.
        """
        first = self._put(self.opened.examples[split], split, instead)
        more = self.opened.task.follow_up(in_words(first, self.opened.words))
        if not more:
            return first
        second = self._put(more, f"{split}, second round", instead)
        # the embeddings of round one are what is ranked by; those of millions of pairs would fill the memory
        fused = {name: given._replace(answer=Vectors(None, None)) for name, given in second.given.items()}
        seconds = first.seconds + second.seconds
        return Asked(first.given | fused, seconds, (len(first.given) + len(fused)) / max(seconds, 1e-9))

    def _put(self, examples: Sequence[Example], what: str, instead: Callable[[Example], Example] | None) -> Asked:
        shown = examples if instead is None else [instead(example) for example in examples]
        share = Share(self.accelerator.process_index, self.accelerator.num_processes)
        batches = in_order(shown, self.opened.collate, self.batch, share=share)
        return ask(
            self.learner,
            batches,
            total=len(shown),
            accelerator=self.accelerator,
            progress=self.progress,
            what=what,
            attack=self.attack,
        )


def in_words(asked: Asked, words: Words) -> dict[str, Answer]:
    """Return the answers as a task takes them: written word pieces as a text, matching with how sure it is."""
    return {name: _in_words(given, words) for name, given in asked.given.items()}


def _in_words(given: Given, words: Words) -> Answer:
    if isinstance(given.answer, Tokens):
        return words.decode(given.answer.ids)
    if isinstance(given.answer, Vectors):
        return given.answer._replace(match=given.probability)
    return given.answer


def write_answers(
    opened: Opened, asked: Asked, given: Mapping[str, Answer], split: str, folder: Path, scorer: str
) -> str:
    """Write the official answer file and the samples table; return the former's name."""
    task = opened.task
    name = f"answers-{split}.{task.answers_suffix}"
    with replacing(folder / name) as part:
        part.write_bytes(task.answers_content(given, split))
    scores = task.each(given, split, scorer) if task.split(split).public else {}
    rows = [
        {
            "id": example.id,
            "text": " | ".join(example.texts),
            "images": " ".join(example.images),
            "answer": task.shown(given[example.id]),
            "expected": task.shown(task.weights(example) or example.answer),
            "score": scores.get(example.id),
            "probability": asked.given[example.id].probability,
        }
        for example in opened.examples[split]
    ]
    write_samples(rows, folder / f"samples-{split}.parquet")
    return name


def write_samples(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write one row an example, for looking at errors."""
    import pyarrow
    from pyarrow import parquet

    with replacing(path) as part:
        parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows]), part)

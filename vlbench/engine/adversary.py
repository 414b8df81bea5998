"""Adversarial training in the space of embeddings: VILLA (Gan et al. 2020, arXiv 2006.06195, section 3).

A step's objective is the loss of the batch as it is, plus the mean over K perturbed passes of the loss under a
perturbation and of how far the predictions move, the symmetric KL divergence (section 3.4); image features and word
embeddings are perturbed one at a time, so both are counted. It is "free" (section 3.3): every pass gives the
parameters their gradient and the perturbation its next ascent, by the normalised gradient, after which it is brought
back into a ball of the Frobenius norm. A step costs 1 + 2 K passes.

Decided here: perturbations begin at zero, where the clean pass gives the first ascent, not at a random point, so that
nothing is drawn; sizes are relative to the features of an image or a text (perturb.py), and the recipe's usual ones
are ours; the clean predictions are held fixed in the divergence, as their graph is gone by then. Whatever the loss
draws (dropout, hidden words, negatives) is drawn alike in all passes of a step, and slow twins and queues advance by
the clean pass alone: perturbed passes begin from them as the clean one did. Where nothing tells predictions
(embeddings, captions) there is no divergence. It is of the softmax over the answers, over the next words where answers
are told by a decoder; in pre-training over hidden words and codes, and over whether a true pair matches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor

from vlbench.engine.devices import random_state, restore_random_state
from vlbench.engine.perturb import (
    Kept,
    Modality,
    Part,
    Perturbable,
    frobenius,
    nothing_to_perturb,
    parts_of,
    perturbed,
    within_norm,
)
from vlbench.recipe import Recipe
from vlbench.types import Batch, Misuse

MODALITIES: tuple[Modality, ...] = ("image", "text")


class Learns(Perturbable, Protocol):
    """A learner as adversarial training sees it."""

    def predictions(self) -> AbstractContextManager[list[Tensor]]:
        """Collect the scores that losses are made of meanwhile."""


class Passed(NamedTuple):
    """What a pass found."""

    losses: dict[str, Tensor]
    """By name, not weighted."""
    total: Tensor
    """Their weighted sum."""


class Pass(Protocol):
    """A forward and a backward pass."""

    def __call__(
        self, batch: Batch, *, last: bool, scale: float = 1.0, more: Callable[[], Tensor] | None = None
    ) -> Passed:
        """Add the gradients of ``scale`` times the objective and what is ``more`` in it.

        ``last``: no other pass of the step follows.
        """


class Villa:
    """Trains on parts of batches as they are, and perturbed. Misuse where the model is to be compiled."""

    def __init__(self, recipe: Recipe, learner: Learns, accelerator: Accelerator) -> None:
        if recipe.compile == "on":
            raise Misuse(
                f"adversary={recipe.adversary} goes with no compile=on: compiled code sees no perturbation of words",
                "leave compile as it is",
            )
        self.recipe, self.learner, self.accelerator = recipe, learner, accelerator

    def learn(self, batch: Batch, go: Pass, *, last: bool) -> dict[str, Tensor]:
        """Make all passes on a part of a batch; return its losses, the clean ones by their names.

        ``adversarial_image`` and ``adversarial_text`` are the objective under a perturbation, ``smoothing`` is the
        weighted divergence of both: means over the ascents.
        """
        recipe, kept = self.recipe, Kept(self.learner)
        before, drawn = kept.copy(), random_state(self.accelerator)
        parts = parts_of(batch, self.learner.word_tables(), MODALITIES)
        with perturbed(batch, parts) as seen, self.learner.predictions() as clean:
            found = {name: loss.detach() for name, loss in go(seen, last=False).losses.items()}
        after, advanced = kept.copy(), random_state(self.accelerator)
        clean = [scores.detach() for scores in clean]
        reached = [part for part in parts if part.added.grad is not None]
        modalities = [name for name in MODALITIES if any(part.modality == name for part in reached)]
        if not modalities:
            raise nothing_to_perturb()
        tries = [(step, name) for step in range(recipe.adversary_steps) for name in modalities]
        for number, (_, modality) in enumerate(tries):
            own = [part for part in reached if part.modality == modality]
            for part in own:
                ascend(part, rate=recipe.adversary_rate, size=recipe.adversary_size)
            kept.restore(before)
            restore_random_state(drawn)
            heard = _Divergence(clean, recipe.adversary_smoothing)
            with perturbed(batch, own) as seen, self.learner.predictions() as heard.scores:
                ended = last and number == len(tries) - 1
                total = go(seen, last=ended, scale=1 / recipe.adversary_steps, more=heard).total
            _count(found, f"adversarial_{modality}", total / recipe.adversary_steps)
            if heard.value is not None:
                _count(found, "smoothing", heard.value / recipe.adversary_steps)
        kept.restore(after)
        restore_random_state(advanced)
        return found


def _count(found: dict[str, Tensor], name: str, loss: Tensor) -> None:
    found[name] = found[name] + loss.detach() if name in found else loss.detach()


class _Divergence:
    """How far the predictions of a perturbed pass are from the clean ones, as a part of its objective."""

    def __init__(self, clean: Sequence[Tensor], weight: float) -> None:
        self.clean, self.weight = clean, weight
        self.scores: list[Tensor] = []
        self.value: Tensor | None = None

    def __call__(self) -> Tensor:
        """Return it times its weight; 0 where nothing was predicted."""
        found = [symmetric_divergence(*pair) for pair in zip(self.clean, self.scores, strict=True)]
        if not found or not self.weight:
            return torch.zeros(())
        self.value = self.weight * torch.stack(found).mean()
        return self.value


def symmetric_divergence(scores: Tensor, others: Tensor) -> Tensor:
    """Return KL(p || q) + KL(q || p) of the softmax of scores [..., answers]; a mean over the rows."""
    one, other = scores.float().log_softmax(-1), others.float().log_softmax(-1)
    return ((one.exp() - other.exp()) * (one - other)).sum(-1).mean()


def ascend(part: Part, *, rate: float, size: float) -> None:
    """Move each row up along its gradient by ``rate`` times its features' norm, not out of ``size`` times that norm."""
    gradient, norm = part.added.grad, part.norm()
    assert gradient is not None  # only what the loss depends on is perturbed
    gradient = gradient.float() * part.exists
    length = frobenius(gradient)
    # half precision may overflow, and what no loss depends on stays where it is
    direction = torch.where(torch.isfinite(length) & (length > 0), gradient / length, 0.0)
    part.put(within_norm(part.added.detach() + rate * norm * direction, size * norm))

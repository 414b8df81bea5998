"""Attacks on an evaluation: what is asked is changed a little, in the direction that does the answers most harm.

FGSM (Goodfellow et al. 2015, arXiv 1412.6572, section 4) takes one step by the sign of the gradient; PGD (Madry et al.
2018, arXiv 1706.06083, section 2.1) several, each brought back into the ball of the largest element, from a random
point of it if so wanted. Both follow the gradient of the task's own training loss, of the right answers, so that these
must be known. The sizes are ours: see perturb.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vlbench.engine.perturb import (
    Kept,
    Modality,
    Part,
    Perturbable,
    nothing_to_perturb,
    parts_of,
    perturbed,
    within_box,
)
from vlbench.recipe import Recipe
from vlbench.types import Batch, Misuse

REACH = 2.5
"""All steps of PGD together, as a multiple of the size: any point of the ball can be reached from any other (ours)."""


class Attack(NamedTuple):
    """How an evaluation is attacked; each example for itself, whatever others are in its batch."""

    size: float
    """Largest change of an element, as a share of the root mean square of its image's, or its text's, elements."""
    steps: int = 1
    random: bool = False
    """Whether it begins anywhere in the ball, and not at zero."""
    on: Sequence[Modality] = ("image", "text")
    seed: int = 0

    @contextmanager
    def on_batch(self, learner: Perturbable, batch: Batch) -> Iterator[Batch]:
        """Attack a batch; yield what to ask the learner meanwhile. Misuse where no right answer is known.

        No parameter gets a gradient, and slow twins and queues are left as they were.
        """
        if batch.target is None:
            raise Misuse(
                "an attack needs the right answers, and they are not known here",
                "choose a split whose answers are public: --split",
            )
        batch = apart(batch)
        with perturbed(batch, self.found(learner, batch)) as asked:
            yield asked

    def found(self, learner: Perturbable, batch: Batch) -> list[Part]:
        """Find the perturbations of a batch whose examples are each by themselves."""
        parts, kept = parts_of(batch, learner.word_tables(), self.on), Kept(learner)
        radius = [self.size * part.scale() for part in parts]
        if self.random:
            for part, most in zip(parts, radius, strict=True):
                part.put(anywhere(part, self.seed, batch.ids) * most)
        step = 1.0 if self.steps == 1 and not self.random else REACH / self.steps
        before = kept.copy()
        # no backward pass goes through cuDNN's recurrent layers in evaluation
        recurrent = any(isinstance(part, nn.RNNBase) for part in learner.modules())
        for _ in range(self.steps):
            with torch.enable_grad(), torch.backends.cudnn.flags(enabled=not recurrent), self._draws(batch):
                with perturbed(batch, parts) as seen:
                    loss = torch.stack(list(learner(seen).values())).sum()
                gradients = torch.autograd.grad(loss, [part.added for part in parts], allow_unused=True)
            kept.restore(before)
            if all(gradient is None for gradient in gradients):
                raise nothing_to_perturb()
            for part, most, gradient in zip(parts, radius, gradients, strict=True):
                if gradient is not None:
                    part.put(within_box(part.added.detach() + step * most * gradient.sign(), most))
        return parts

    @contextmanager
    def _draws(self, batch: Batch) -> Iterator[None]:
        """Let what a loss draws be the same in every step, and nothing else depend on it."""
        device = batch.text.tokens.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            yield


def attack_of(recipe: Recipe) -> Attack | None:
    """Return the attack a recipe asks for; None where there is none, or one of size 0."""
    if not recipe.attack or not recipe.attack_size:
        return None
    on: Sequence[Modality] = ("image", "text") if recipe.attack_on == "both" else (recipe.attack_on,)
    if recipe.attack == "fgsm":
        return Attack(recipe.attack_size, on=on, seed=recipe.seed)
    return Attack(recipe.attack_size, recipe.attack_steps, recipe.attack_random, on, recipe.seed)


def apart(batch: Batch) -> Batch:
    """Give every example images and texts of its own, where some are held once for several of them."""
    images, texts = batch.fold
    count = len(batch.ids)
    image, text = batch.image, batch.text
    device = text.tokens.device
    pairs = torch.arange(count * images * texts, device=device).view(count, images, texts)
    shown = pairs[:, :, 0].flatten() if image.rows is None else image.rows[pairs[:, :, 0].flatten()]
    said = pairs[:, 0].flatten() if text.rows is None else text.rows[pairs[:, 0].flatten()]
    example = torch.arange(count, device=device)[:, None, None]
    image_rows = (example * images + torch.arange(images, device=device)[:, None]).expand_as(pairs).flatten()
    text_rows = (example * texts + torch.arange(texts, device=device)).expand_as(pairs).flatten()
    return batch._replace(
        image=image._replace(
            values=image.values[shown],
            rows=image_rows if texts > 1 else None,
            **{name: _held(getattr(image, name), shown) for name in ("boxes", "mask", "ids", "codes")},
            labels=None if image.labels is None else image.labels.map(lambda part: part[shown]),
        ),
        text=text._replace(
            tokens=text.tokens[said],
            mask=text.mask[said],
            rows=text_rows if images > 1 else None,
            segments=_held(text.segments, said),
        ),
    )


def _held(part: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if part is None else part[rows]


def anywhere(part: Part, seed: int, ids: Sequence[str]) -> Tensor:
    """Draw from -1 to 1 for each element, by seed and example: the same on every machine and in every batch."""
    each = len(part.clean) // len(ids)
    drawn = []
    for row in range(len(part.clean)):
        name = f"{seed} {part.modality} {ids[row // each]} {row % each}"
        number = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest())
        generator = torch.Generator().manual_seed(number)
        drawn.append(2 * torch.rand(part.clean.shape[1:], generator=generator) - 1)
    return torch.stack(drawn).to(part.clean.device)

"""Perturbations of what a learner reads: the values of images, and what a text's words are embedded as.

Pixels are perturbed as they are after normalisation (they may leave the range of a picture), regions by their features.
Words are perturbed where they are looked up, by a hook on the model's tables. Every look-up of the batch's own texts
in a forward pass is perturbed alike: each text read once, or once a pair, or once an example of several images, whole
or with words hidden, and also with more behind it. A text that a method puts in another's place, as a wrong one, takes
what was added there. Texts that are not the batch's, such as answers, are read as they are, and so is padding.

Sizes are relative to the features' own scale, row by row (a row is an image or a text), so that one number means the
same of pixels, of regions and of word embeddings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlbench.types import Batch, Fault

Modality = Literal["image", "text"]


class Perturbable(Protocol):
    """A learner as perturbations see it."""

    def word_tables(self) -> Sequence[nn.Embedding]:
        """List the tables that embed the words of a batch's texts."""

    def modules(self) -> Iterator[nn.Module]:
        """Yield every part of it."""

    def buffers(self) -> Iterator[Tensor]:
        """Yield what is no parameter."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters."""

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of a batch by name."""


@dataclass
class Part:
    """Features of a batch that are perturbed: N rows, each an image or a text."""

    modality: Modality
    clean: Tensor
    """[N, ...] as they are: pixels [N, 3, H, W], regions [N, R, F] or embedded words [N, L, D]."""
    exists: Tensor
    """[N, ...] of as many axes, True where there is something: not for padding, which is never perturbed."""
    added: Tensor
    """[N, ...] the perturbation; a leaf whose gradient is asked for."""
    table: nn.Embedding | None = None
    """The table that embeds the words."""

    def scale(self) -> Tensor:
        """Return the root mean square of each row's elements that exist, [N, 1, ...]."""
        there = self.exists.expand_as(self.clean)
        axes = tuple(range(1, self.clean.dim()))
        squares = (self.clean.square() * there).sum(axes, keepdim=True)
        return (squares / there.sum(axes, keepdim=True).clamp(min=1)).sqrt()

    def norm(self) -> Tensor:
        """Return the Frobenius norm of each row as far as it exists, [N, 1, ...]."""
        return frobenius(self.clean * self.exists)

    def put(self, added: Tensor) -> None:
        """Take another perturbation; what does not exist is left alone."""
        self.added = (added * self.exists).detach().requires_grad_()


def frobenius(rows: Tensor) -> Tensor:
    """Return the norm of each row over all its elements: [N, ...] -> [N, 1, ...]."""
    norm: Tensor = rows.float().square().sum(tuple(range(1, rows.dim())), keepdim=True).sqrt()
    return norm


def within_norm(added: Tensor, radius: Tensor) -> Tensor:
    """Bring rows [N, ...] into the balls of a Frobenius norm [N, 1, ...]: what is too long becomes shorter."""
    return added * (radius / frobenius(added).clamp(min=1e-30)).clamp(max=1)


def within_box(added: Tensor, radius: Tensor) -> Tensor:
    """Bring rows [N, ...] into the balls of the largest element [N, 1, ...]: what is too large is cut."""
    return torch.minimum(torch.maximum(added, -radius), radius)


@torch.no_grad()
def parts_of(batch: Batch, tables: Sequence[nn.Embedding], wanted: Iterable[Modality]) -> list[Part]:
    """Return what of a batch can be perturbed, as far as it is wanted, each with a perturbation of zero."""
    found = []
    for modality in wanted:
        if modality == "image":
            found += _image_part(batch)
        else:
            found += [_text_part(batch, table) for table in tables]
    for part in found:
        part.put(torch.zeros_like(part.clean))
    return found


def _image_part(batch: Batch) -> list[Part]:
    image = batch.image
    if not image.values.numel():  # a stage of pre-training that looks at no image
        return []
    clean = image.values.float()
    last = [1] * (clean.dim() - 1)
    exists = clean.new_ones(len(clean), *last, dtype=torch.bool) if image.mask is None else image.mask[..., None]
    return [Part("image", clean, exists, clean)]


def _text_part(batch: Batch, table: nn.Embedding) -> Part:
    clean = functional.embedding(batch.text.tokens, table.weight).float()
    return Part("text", clean, batch.text.mask[..., None], clean, table)


@contextmanager
def perturbed(batch: Batch, parts: Sequence[Part]) -> Iterator[Batch]:
    """Let a learner read a batch with perturbations: yield the batch to give it; words are perturbed meanwhile."""
    with ExitStack() as hooks:
        for part in parts:
            if part.table is None:
                batch = batch._replace(image=batch.image._replace(values=part.clean + part.added))
        for part in parts:
            if part.table is not None:
                hooks.enter_context(part.table.register_forward_hook(partial(_look_up, batch=batch, added=part.added)))
        yield batch


def _look_up(table: nn.Module, given: tuple[Any, ...], found: Tensor, *, batch: Batch, added: Tensor) -> Tensor | None:
    """Add what is to be added to embedded words [N, L, D]; None leaves them as they are."""
    rows = text_rows(given[0], batch)
    if rows is None:
        return None
    own = added.index_select(0, rows)
    return found + functional.pad(own, (0, 0, 0, found.shape[1] - own.shape[1])).to(found.dtype)


def text_rows(tokens: Tensor, batch: Batch) -> Tensor | None:
    """Say which of the batch's texts each row of word pieces [N, L] is, by how many there are: [N].

    None where they are not the batch's texts, or are cut.
    """
    held, length = batch.text.tokens.shape
    rows = torch.arange(held, device=tokens.device) if batch.text.rows is None else batch.text.rows
    if tokens.dim() != 2 or tokens.shape[1] < length:
        return None
    if len(tokens) == held:
        return torch.arange(held, device=tokens.device)
    if len(tokens) == len(rows):
        return rows
    images = batch.fold[0]
    return rows[::images] if images > 1 and len(tokens) * images == len(rows) else None


class Kept:
    """What a forward pass changes by itself: slow twins, queues of past features. To be put back after a trial.

    Everything that no gradient reaches is copied: twice the memory of a slow twin while a step lasts.
    """

    def __init__(self, learner: Perturbable) -> None:
        fixed = [parameter for parameter in learner.parameters() if not parameter.requires_grad]
        self.tensors: list[Tensor] = [*learner.buffers(), *fixed]

    @torch.no_grad()
    def copy(self) -> list[Tensor]:
        """Return it as it is now."""
        return [tensor.detach().clone() for tensor in self.tensors]

    @torch.no_grad()
    def restore(self, before: Sequence[Tensor]) -> None:
        """Put it back as it was."""
        for tensor, value in zip(self.tensors, before, strict=True):
            tensor.copy_(value)


def nothing_to_perturb() -> Fault:
    """Say that no gradient reaches what was to be perturbed."""
    return Fault(
        "there is nothing to perturb: the loss depends on no image value and on no table of words",
        "a model of your own names its tables: Model.word_tables",
    )

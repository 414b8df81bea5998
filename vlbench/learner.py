"""A model with (or without) a head, as the two loops see it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from vlbench.models.base import Model
from vlbench.nn import objectives
from vlbench.nn.heads import Head
from vlbench.types import Batch, Fault, Given


class Learner(nn.Module):
    """A model alone (pre-training) or with a head (fine-tuning)."""

    def __init__(self, model: Model, head: Head | None = None) -> None:
        super().__init__()
        self.model, self.head = model, head

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of a batch by name, each a scalar."""
        if self.head is None:
            return self.model.losses(batch)
        return self.head.losses(self.model, batch)

    def answers(self, batch: Batch) -> list[Given]:
        """Answer each example of a batch."""
        if self.head is None:
            raise Fault("a model without a head cannot answer")
        return self.head.answers(self.model, batch)

    def word_tables(self) -> list[nn.Embedding]:
        """List the tables that embed the words of a batch's texts; those of a head's own decoder read answers."""
        return self.model.word_tables()

    @contextmanager
    def predictions(self) -> Iterator[list[Tensor]]:
        """Collect the scores [..., answers] that losses are made of meanwhile; in pre-training what classes are
        predicted by.
        """
        if self.head is None:
            with objectives.predictions() as told:
                yield told
            return
        heard: list[Tensor] = []
        self.head.listener = heard.append
        try:
            yield heard
        finally:
            self.head.listener = None

    def begin(self, epoch: float) -> None:
        """Say how many passes over the training data were made, before each step."""
        self.model.epoch = epoch

    def begin_anew(self, new: Sequence[str], used: Mapping[str, Tensor]) -> None:
        """Let what a loaded checkpoint did not hold (``new``, by name) begin from what it held (``used``)."""
        self.model.begin_anew(
            [name.removeprefix("model.") for name in new if name.startswith("model.")],
            {name.removeprefix("model."): part for name, part in used.items() if name.startswith("model.")},
        )
        lost = [name for name in new if name.startswith("head.")]
        if self.head is not None and lost:
            if all(name.startswith("head.momentum.") for name in lost):
                self.head.restart_momentum()
            else:
                self.head.begin_anew(self.model)

    def compile_encoder(self) -> None:
        """Let torch compile how the model reads pairs, once for all lengths of text."""
        import torch

        self.model.encode = torch.compile(self.model.encode, dynamic=True)  # type: ignore[method-assign]

    def size(self) -> int:
        """Count the parameters that are trained."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)


def build_model(code: type[Model], sizes: dict[str, Any], facts: dict[str, Any]) -> Model:
    """Build a model from its card's sizes and from those facts of the data its constructor asks for by name."""
    from inspect import signature

    wanted = signature(code).parameters
    unknown = [name for name in sizes if name not in wanted]
    if unknown:
        raise Fault(
            f"{code.__name__} has no size called '{unknown[0]}'; it has: {', '.join(wanted)}",
            "put it right on the card, or in --set changes=...",
        )
    return code(**{**{name: value for name, value in facts.items() if name in wanted}, **sizes})

"""Heads: from a model's states to answers of one form.

A form is what is asked: classify (one image, one text, a label), compare (two images, one text, a label).
A method whose paper answers in another way overrides ``Model.head``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from torch import Tensor, nn

from vlbench.nn.objectives import label_loss, soft_label_loss
from vlbench.types import Batch, Form, Given, Image, Misuse, States, Text


class Encodes(Protocol):
    """A model as a head sees it."""

    width: int

    def encode(self, image: Image, text: Text) -> States:
        """Read the pairs."""


class Head(nn.Module, ABC):
    """Turns a model's states into answers of one form."""

    @abstractmethod
    def scores(self, model: Encodes, batch: Batch) -> Tensor:
        """Score the possible answers of each example."""

    @abstractmethod
    def loss(self, scores: Tensor, batch: Batch) -> Tensor:
        """Say how far the scores are from the targets."""

    @abstractmethod
    def answers(self, scores: Tensor, batch: Batch) -> list[Given]:
        """Choose an answer for each example."""


class Classifier(nn.Sequential):
    """Linear, GELU, norm, linear: the answer head of LXMERT (src/tasks/vqa_model.py), twice as wide inside."""

    def __init__(self, width: int, answers: int, *, inner: int, epsilon: float = 1e-12) -> None:
        super().__init__(
            nn.Linear(width, inner), nn.GELU(), nn.LayerNorm(inner, eps=epsilon), nn.Linear(inner, answers)
        )


class LabelHead(Head):
    """Scores a closed list of labels from the pooled states of an example's images, side by side.

    Targets that are soft scores [B, C] are learned by binary cross-entropy, labels [B] by cross-entropy.
    """

    def __init__(self, width: int, answers: int, *, images: int = 1) -> None:
        super().__init__()
        self.images = images
        self.classifier = Classifier(images * width, answers, inner=2 * width)

    def scores(self, model: Encodes, batch: Batch) -> Tensor:
        """[B, answers]."""
        pooled = model.encode(batch.image, batch.text).pooled
        scores: Tensor = self.classifier(pooled.reshape(-1, self.images * pooled.shape[-1]))
        return scores

    def loss(self, scores: Tensor, batch: Batch) -> Tensor:
        """Return a scalar."""
        assert batch.target is not None  # the loop trains only on splits with public answers
        if batch.target.is_floating_point():
            return soft_label_loss(scores, batch.target)
        return label_loss(scores, batch.target)

    def answers(self, scores: Tensor, batch: Batch) -> list[Given]:
        """Return the best label of each example and its softmax probability."""
        best = scores.float().softmax(-1).max(-1)
        return [Given(int(i), float(p)) for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)]


def standard(form: Form, width: int, answers: int) -> Head:
    """Build the usual head of a form; Misuse where a fusing encoder alone has no way to answer it."""
    if form == "classify":
        return LabelHead(width, answers)
    if form == "compare":
        return LabelHead(width, answers, images=2)
    raise Misuse(f"no standard head answers the form '{form}'; it can: classify, compare")

"""The contract of a method: it reads image-text pairs, and it names its pre-training losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

from torch import Tensor, nn

from vlbench.nn.heads import Head, standard
from vlbench.types import Batch, Form, Image, States, Text


class Model(nn.Module, ABC):
    """A published method: how it reads, fuses, and is pre-trained.

    Write ``encode`` and ``losses``. The constructor takes plain numbers: those of the card's sizes, and by name
    what the data decides: ``vocabulary``, ``feature_dim``, ``image_size``, ``text_length``, ``dropout``.
    """

    sees: ClassVar[Literal["regions", "pixels"]]
    width: int
    """D of States."""

    @abstractmethod
    def encode(self, image: Image, text: Text) -> States:
        """Read P pairs."""

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the paper's pre-training objectives, by name; the loop adds them with the card's weights."""

    def head(self, form: Form, answers: int) -> Head:
        """Say how this method answers a form. Override only where the paper does."""
        return standard(form, self.width, answers)

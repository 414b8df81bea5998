"""The contract of a method: it reads image-text pairs, and it names its pre-training losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from torch import Tensor, nn

from vlbench.nn.heads import Head, standard
from vlbench.types import FORMS, Batch, Form, Image, Misuse, States, Text


class Model(nn.Module, ABC):
    """A published method: how it reads, fuses, and is pre-trained.

    Write ``encode`` and ``losses``. The constructor takes plain numbers: those of the card's sizes, and by name
    what the run decides: ``vocabulary``, ``feature_dim``, ``image_size``, ``text_length``, ``dropout``,
    ``drop_path``, ``mask_token``, ``special_tokens``, ``form`` (what it will be asked), and ``pretraining``,
    True where it will be asked for its pre-training losses.
    """

    sees: ClassVar[Literal["regions", "pixels"]]
    learns: ClassVar[Literal["scores", "shares"]] = "scores"
    """What a classified answer's target is: its score, or the share of the people who gave it."""
    width: int
    """D of States."""
    texts_alone: bool = False
    """Whether its present stage of pre-training looks at no image, so that none need be read."""
    epoch: float = 0.0
    """Passes over the training data made so far; the loop says it, for what is ramped over the first of them."""

    @classmethod
    def sees_at(cls, sizes: Mapping[str, object]) -> Literal["regions", "pixels"]:
        """Say what a size of the card looks at: ``sees``, unless the vision encoder is one of the size's choices."""
        return cls.sees

    @abstractmethod
    def encode(self, image: Image, text: Text) -> States:
        """Read P pairs."""

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the paper's pre-training objectives, by name; the loop adds them with the card's weights."""

    def enter(self, stage: str) -> None:
        """Get ready for a stage of pre-training, by its name on the card; most have only one."""

    def head(self, form: Form, answers: int, texts: Text | None = None) -> Head:
        """Say how this method answers a form; Misuse where it cannot. Override only where the paper does.

        ``answers``: how many closed answers there are; ``texts``: these as word pieces [answers, L].
        """
        return standard(form, self.width, answers, regions=self.sees == "regions")

    def decays(self, name: str, parameter: Tensor) -> bool:
        """Say whether weight decay applies to a parameter of this model, by the name it has here."""
        return parameter.dim() > 1

    def part_of(self, name: str) -> Literal["tower", "fusion"]:
        """Say whether a parameter is of the fusion, which some papers train at another rate."""
        return "tower"

    def distance(self, name: str) -> int:
        """Count the layers between a parameter and the output: its rate is that often multiplied by layer_decay."""
        return 0

    def may_be_new(self, name: str) -> bool:
        """Say whether a tensor of this model, by its name here, may be one that a loaded checkpoint does not hold."""
        return name.startswith("momentum.")

    def begin_anew(self, new: Sequence[str], used: Mapping[str, Tensor]) -> None:
        """Let what a loaded checkpoint did not hold (``new``, by name) begin from what it held (``used``)."""
        if any(name.startswith("momentum.") for name in new):
            self.restart_momentum()

    def restart_momentum(self) -> None:
        """Let slow twins follow from here on: weights were loaded that held none."""

    def resized(self, name: str, stored: Tensor, wanted: Tensor) -> Tensor | None:
        """Bring a stored tensor to the shape this size wants, as the authors do; None where it does not fit.

        For learned positions, and for tables of relative ones, at another image size or text length. ``wanted``
        itself, the same object, where what is stored is of no use and ours is to begin anew.
        """
        return None


def forms_of(model: Model) -> list[Form]:
    """List the forms a method has a head for, by asking it."""
    found: list[Form] = []
    for form in FORMS:
        try:
            model.head(form, 2)
        except Misuse:
            continue
        found.append(form)
    return found

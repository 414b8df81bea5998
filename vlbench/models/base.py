"""The contract of a method: it reads image-text pairs, and it names its pre-training losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple

from torch import Tensor, nn

from vlbench.nn.heads import Head, standard
from vlbench.nn.momentum import Momentum
from vlbench.types import FORMS, Batch, Form, Image, Kind, Misuse, States, Text


class Need(NamedTuple):
    """A part that a stage of pre-training takes as it is, and that the model does not have yet."""

    name: str
    """What the card calls it: the stage that trains it, and a published one (``[[part]]``)."""
    below: str
    """What the names of its tensors begin with here."""
    objectives: Sequence[str]
    """The losses that ask for it."""


class Model(nn.Module, ABC):
    """A published method: how it reads, fuses, and is pre-trained.

    Write ``encode`` and ``losses``. The constructor takes plain numbers: those of the card's sizes, and by name
    what the run decides: ``vocabulary``, ``feature_dim``, ``image_size``, ``text_length``, ``dropout``,
    ``drop_path``, ``mask_token``, ``special_tokens``, ``form`` (what it will be asked), ``pretraining``, True where
    it will be asked for its pre-training losses, and ``wanted_losses``, the names of those.
    """

    sees: ClassVar[Literal["regions", "pixels"]]
    learns: ClassVar[Literal["scores", "shares"]] = "scores"
    """What a classified answer's target is: its score, or the share of the people who gave it."""
    width: int
    """D of States."""
    learns_from: tuple[Kind, ...] = ("pairs",)
    """What its present stage of pre-training learns from, a kind a batch; of a pair only a part, where that is all."""
    stage: str = ""
    """Its present stage of pre-training, by the name on the card; "" where it has one only."""
    tells_answers: bool = False
    """Whether a part of it called ``text_decoder`` reads answers, and not the text that is asked."""
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
        self.stage = stage

    def needs(self, stage: str) -> Sequence[Need]:
        """List what a stage of pre-training takes ready-made and this model lacks, its start being loaded."""
        return ()

    def remark(self) -> str:
        """Say what a record of pre-training is to tell beside its losses."""
        return ""

    def head(self, form: Form, answers: int, texts: Text | None = None) -> Head:
        """Say how this method answers a form; Misuse where it cannot. Override only where the paper does.

        ``answers``: how many closed answers there are; ``texts``: these as word pieces [answers, L].
        """
        return standard(form, self.width, answers, regions=self.sees == "regions")

    def word_tables(self) -> list[nn.Embedding]:
        """List the tables that embed the words of the texts it is given; what they return may be perturbed.

        All that are called ``words`` (or ``word_embeddings``, as in transformers), each once however many parts share
        it; not those of slow twins, which are to teach, nor of a decoder that reads answers. An output of words that is
        tied to a table is not one of its look-ups, and stays as it is. Override where a method names them otherwise.
        """
        others = {id(part) for twin in self.modules() if isinstance(twin, Momentum) for part in twin.modules()}
        if self.tells_answers:
            others |= {id(part) for name, part in self.named_modules() if name.startswith("text_decoder.")}
        named = (
            part
            for name, part in self.named_modules()
            if isinstance(part, nn.Embedding) and name.rpartition(".")[2] in ("words", "word_embeddings")
        )
        return [part for part in named if id(part) not in others]

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

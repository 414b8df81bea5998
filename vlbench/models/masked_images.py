"""Masked image modelling: what the methods share whose patches are hidden and told by an image tokeniser's codes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from vlbench.models.base import Model, Need
from vlbench.nn.image_tokeniser import ImageTokeniser
from vlbench.nn.masked_data import cover, hidden_loss
from vlbench.nn.positions import fitted_positions
from vlbench.types import Image, Kind

TOKENISER = "image-tokeniser"
"""What cards call the image tokeniser, and the stage of pre-training that trains it."""
BELOW = "image_tokeniser."
"""What the names of its tensors begin with."""


class MaskedImageModel(Model):
    """A method that predicts what an image tokeniser calls hidden patches (Bao et al. 2022, BEiT, section 2).

    The tokeniser has a stage of its own, before those that ask for codes; in these it stays as it is, and where none
    are asked for it is not built.
    """

    asks_for_codes: ClassVar[tuple[str, ...]] = ("image_codes",)
    """Its objectives that need the tokeniser."""
    taught_by: ClassVar[Mapping[str, tuple[Kind, ...]]]
    """What a stage, but the tokeniser's, learns from, where that is not pairs."""
    image_tokeniser: ImageTokeniser | None
    code_output: nn.Linear | None
    """From a patch's state to the codes; None where the model will not be pre-trained with them."""

    def tokeniser_for(
        self,
        wanted_losses: Sequence[str],
        image_size: int,
        patch: int,
        *,
        codes: int,
        width: int,
        heads: int,
        layers: int,
    ) -> ImageTokeniser | None:
        """Build the image tokeniser where some of these losses need it: whole to be trained, else without a decoder."""
        learned = "reconstruction" in wanted_losses
        if not learned and not {*self.asks_for_codes} & {*wanted_losses}:
            return None
        return ImageTokeniser(
            image_size, patch, codes=codes, width=width, heads=heads, layers=layers, decodes=learned
        )  # fmt: skip

    @abstractmethod
    def read_image(self, image: Image, hidden: Tensor | None = None) -> Tensor:
        """Read images by themselves, [I, 1 + N, D], the class token first; a mask covers hidden patches [I, N]."""

    def trains(self, stage: str, name: str) -> bool:
        """Say whether a stage, which is not the tokeniser's, trains a parameter that is not the tokeniser's."""
        return True

    def enter(self, stage: str) -> None:
        """Train the image tokeniser alone, on images; or all of the rest that the stage trains."""
        super().enter(stage)
        own = stage == TOKENISER
        self.learns_from = ("images",) if own else self.taught_by.get(stage, Model.learns_from)
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(own if name.startswith(BELOW) else not own and self.trains(stage, name))

    def needs(self, stage: str) -> list[Need]:
        """Ask for a trained image tokeniser where codes are predicted, if there is none yet."""
        if stage == TOKENISER or self.image_tokeniser is None or self.image_tokeniser.quantiser.begun:
            return []
        return [Need(TOKENISER, BELOW, self.asks_for_codes)]

    def remark(self) -> str:
        """Say how much of the codebook is in use where it was trained."""
        return self.image_tokeniser.told() if self.stage == TOKENISER and self.image_tokeniser else ""

    def named(self, image: Image) -> Image:
        """Give images the codes of their patches where there is an image tokeniser; else return them as they are."""
        return image if self.image_tokeniser is None else image._replace(codes=self.image_tokeniser.codes(image.values))

    def tokeniser_losses(self, image: Image) -> dict[str, Tensor]:
        """Train the tokeniser on images."""
        assert self.image_tokeniser is not None  # built where these losses are wanted
        return self.image_tokeniser.losses(image.values)

    def image_losses(self, image: Image) -> dict[str, Tensor]:
        """Hide 40 % of the patches of images read alone, in blocks, and ask for their codes, where they have some."""
        if image.codes is None:
            return {}
        covered, codes = cover(image.codes)
        return {"image_codes": hidden_loss(self.code_output, self.read_image(image, covered)[:, 1:], codes)}

    def decays(self, name: str, parameter: Tensor) -> bool:
        """All of the tokeniser but vectors and positions (beit2/modeling_vqkd.py)."""
        return super().decays(name, parameter) and not name.endswith(".positions")

    def may_be_new(self, name: str) -> bool:
        """Let the tokeniser and the output of codes be new: no file of a method's own has them."""
        return name.startswith((BELOW, "code_output.")) or super().may_be_new(name)

    def resized(self, name: str, stored: Tensor, wanted: Tensor) -> Tensor | None:
        """Bring the tokeniser's positions to another image size; its published file has an axis more."""
        own = BELOW in name and name.endswith(".positions")
        return fitted_positions(stored.squeeze(0), wanted) if own else None

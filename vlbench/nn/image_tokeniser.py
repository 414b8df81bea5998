"""An image tokeniser: what each patch of an image is called, for masked image modelling (BEiT v2's VQ-KD)."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlbench.nn.attention import KeyUnbiasedAttention
from vlbench.nn.initial import draw_normal, draw_vision
from vlbench.nn.quantiser import Quantiser
from vlbench.nn.towers import VisionTransformer

FLAT = 1e-4
"""Added to the variance of a patch's pixels (from -1 to 1), so that the noise of a plain patch is not made large."""


class ImageTokeniser(nn.Module):
    """Reads an image by a vision transformer, and gives each patch one of a list of codes.

    Peng et al. 2022 (BEiT v2, arXiv 2208.06366, section 2.1; beit2/modeling_vqkd.py): states of patches are mapped
    to few dimensions, quantised, and decoded by a shallow transformer. There the decoder is to find what CLIP makes of
    the patches; here no teacher is at hand, and it is to find their pixels, normalised in each patch (He et al. 2022,
    MAE, section 4). ``decodes``: whether it will be trained; without a decoder it can only be asked for codes.
    """

    def __init__(
        self,
        image_size: int,
        patch: int,
        *,
        codes: int = 8192,
        code_width: int = 32,
        width: int = 768,
        heads: int = 12,
        layers: int = 12,
        decoder_layers: int = 3,
        decodes: bool = True,
    ) -> None:
        super().__init__()
        self.patch = patch
        tower = partial(VisionTransformer, image_size, patch, width, heads=heads, attention=KeyUnbiasedAttention)
        self.encoder = drawn_vision(tower(layers=layers))
        self.projection = _mapped(width, code_width)
        self.quantiser = Quantiser(codes, code_width)
        if decodes:
            self.decoder = drawn_vision(tower(layers=decoder_layers, patches=nn.Linear(code_width, width)))
            self.output = _mapped(width, 3 * patch**2)

    def latents(self, pixels: Tensor) -> Tensor:
        """Read images [I, 3, H, W] up to what is quantised, [I * patches, C]; the map to it is in full precision."""
        states = self.encoder(pixels)[:, 1:].flatten(0, 1)
        with torch.autocast(states.device.type, enabled=False):
            latents: Tensor = self.projection(states.float())
        return latents

    @torch.no_grad()
    def codes(self, pixels: Tensor) -> Tensor:
        """Name the patches of images [I, 3, H, W], row by row: [I, patches]; no image depends on the others."""
        latents = self.latents(pixels)
        with torch.autocast(latents.device.type, enabled=False):
            return self.quantiser.find(latents).view(len(pixels), -1)

    def losses(self, pixels: Tensor) -> dict[str, Tensor]:
        """Learn to tell images [I, 3, H, W] from their codes; each loss is a mean of squares over patches."""
        latents = self.latents(pixels)
        with torch.autocast(latents.device.type, enabled=False):
            quantised = self.quantiser(latents)
        states = self.decoder(quantised.vectors.unflatten(0, (len(pixels), -1)))[:, 1:]
        told = self.output(states).float()
        reconstruction = functional.mse_loss(told, normalised_patches(pixels.float(), self.patch))
        return {"reconstruction": reconstruction, "commitment": quantised.commitment}

    def train(self, mode: bool = True) -> ImageTokeniser:
        """Learn or not, as ever; but where all is frozen, only answer, whatever the model around it does."""
        return super().train(mode and any(parameter.requires_grad for parameter in self.parameters()))

    def told(self) -> str:
        """Say how much of the list of codes is in use."""
        return f"{self.quantiser.perplexity():,.1f} of {len(self.quantiser.codebook):,} codes in use (perplexity)"


def normalised_patches(pixels: Tensor, patch: int) -> Tensor:
    """Cut images [I, 3, H, W] into square patches, each brought to mean 0 and deviation 1: [I, patches, 3 * patch**2].

    The colours of a patch are normalised together, so that a plain one is still told by its colour.
    """
    cut = functional.unfold(pixels, patch, stride=patch).transpose(1, 2)
    return functional.layer_norm(cut, cut.shape[-1:], eps=FLAT)


def _mapped(width: int, output: int) -> nn.Sequential:
    made = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, output))
    return made.apply(partial(draw_normal, width=width))


def drawn_vision(vision: VisionTransformer) -> VisionTransformer:
    """Draw a vision transformer as BEiT does, the last map of each part smaller the later its layer; return it.

    beit2/modeling_finetune.py: divided by the root of twice the layer's number. What makes the patches stays as torch
    drew it.
    """
    made = {name: part.clone() for name, part in vision.patches.state_dict().items()}
    draw_vision(vision).patches.load_state_dict(made)
    with torch.no_grad():
        for name, parameter in vision.layers.named_parameters():
            if name.endswith(("output.weight", "contract.weight")):
                parameter.div_(math.sqrt(2 * (1 + int(name.partition(".")[0]))))
    return vision

"""Whole encoders: vision transformers, and BERT with cross-attention in some of its layers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlbench.nn.attention import FusedAttention
from vlbench.nn.embed import PatchEmbedding, TextEmbedding
from vlbench.nn.layers import CrossLayer, FeedForward, Layer, Sublayer, Transform
from vlbench.types import Misuse


class VisionLayer(nn.Module):
    """Self-attention, then feed-forward, each normed before: one layer of a vision transformer."""

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        inner: int | None = None,
        activation: Callable[[Tensor], Tensor] = functional.gelu,
        attention: type[FusedAttention] = FusedAttention,
        epsilon: float = 1e-6,
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()

        def sublayer(part: nn.Module) -> Sublayer:
            return Sublayer(part, width, norm="pre", epsilon=epsilon, dropout=dropout, drop_path=drop_path)

        self.attention = sublayer(attention(width, heads, dropout=dropout))
        self.feed_forward = sublayer(FeedForward(width, inner, activation=activation, dropout=dropout))

    def forward(self, states: Tensor, mask: Tensor | None = None) -> Tensor:
        """[B, L, D], mask [B, L] or [B, L, L] -> [B, L, D]."""
        changed: Tensor = self.feed_forward(self.attention(states, None, mask))
        return changed


class VisionTransformer(nn.Module):
    """ViT: patches and a class token in front, positions added, layers, a last norm over all tokens.

    Dosovitskiy et al. 2021, section 3.1. ``drop_path`` rises from 0 in the first layer to its value in the last.
    ``patches``: what makes the states of patches [I, patches, D], where they are not cut from pixels.
    """

    def __init__(
        self,
        image_size: int,
        patch: int,
        width: int,
        *,
        layers: int,
        heads: int,
        inner: int | None = None,
        patches: nn.Module | None = None,
        attention: type[FusedAttention] = FusedAttention,
        epsilon: float = 1e-6,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.patches = patches or PatchEmbedding(patch, width)
        self.first_token = nn.Parameter(torch.zeros(width))
        self.positions = nn.Parameter(torch.zeros(patch_count(image_size, patch) + 1, width))
        self.layers = nn.ModuleList(
            VisionLayer(
                width,
                heads,
                inner=inner,
                attention=attention,
                epsilon=epsilon,
                drop_path=drop_path * number / max(1, layers - 1),
            )
            for number in range(layers)
        )
        self.norm = nn.LayerNorm(width, eps=epsilon)

    def forward(self, pixels: Tensor) -> Tensor:
        """[I, 3, H, W] -> [I, 1 + patches, D], the class token first."""
        states = with_first(self.patches(pixels), self.first_token) + self.positions
        for layer in self.layers:
            states = layer(states)
        normed: Tensor = self.norm(states)
        return normed


class ContrastiveVision(nn.Module):
    """CLIP's vision transformer: as ViT, but patches without bias and a norm before the first layer.

    Radford et al. 2021, section 2.4. The last norm is over all tokens, or left out; there is no projection.
    """

    def __init__(
        self,
        image_size: int,
        patch: int,
        width: int,
        *,
        layers: int,
        heads: int,
        inner: int | None = None,
        activation: Callable[[Tensor], Tensor] = functional.gelu,
        epsilon: float = 1e-5,
        last_norm: bool = True,
    ) -> None:
        super().__init__()
        self.patches = PatchEmbedding(patch, width, bias=False)
        self.first_token = nn.Parameter(torch.zeros(width))
        self.positions = nn.Parameter(torch.zeros(patch_count(image_size, patch) + 1, width))
        self.norm_before = nn.LayerNorm(width, eps=epsilon)
        self.layers = nn.ModuleList(
            VisionLayer(width, heads, inner=inner, activation=activation, epsilon=epsilon) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width, eps=epsilon) if last_norm else nn.Identity()

    def forward(self, pixels: Tensor) -> Tensor:
        """[I, 3, H, W] -> [I, 1 + patches, D], the class token first; the last norm applied, if there is one."""
        normed: Tensor = self.norm(self.states(pixels))
        return normed

    def states(self, pixels: Tensor) -> Tensor:
        """[I, 3, H, W] -> [I, 1 + patches, D], before the last norm."""
        states: Tensor = self.norm_before(with_first(self.patches(pixels), self.first_token) + self.positions)
        for layer in self.layers:
            states = layer(states)
        return states


def patch_count(image_size: int, patch: int) -> int:
    """Count the patches of a square image; Misuse where they do not fill it.

    The code of CLIP and of VLMo drops what is left at the right and below; here nothing is lost unseen.
    """
    if image_size % patch or not image_size:
        raise Misuse(f"an image of {image_size} pixels cannot be cut into patches of {patch}", "see --set image_size")
    return (image_size // patch) ** 2


def with_first(states: Tensor, token: Tensor) -> Tensor:
    """Put a learned token [D] before every sequence: [B, L, D] -> [B, 1 + L, D]."""
    return torch.cat([token.expand(len(states), 1, -1), states], dim=1)


class TextTower(nn.Module):
    """BERT whose layers from ``cross_from`` on also look at a source (an image, or a question).

    Used whole, or in part: the first layers alone for a text by itself, the last alone for the fusion of a text
    that was already read (ALBEF), all of them without a source (BLIP's text encoder), or causally (a decoder).
    """

    def __init__(
        self,
        embedding: TextEmbedding,
        width: int,
        heads: int,
        *,
        layers: int,
        cross_from: int = 0,
        source_width: int | None = None,
        inner: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        plain: list[nn.Module] = [Layer(width, heads, inner=inner, dropout=dropout) for _ in range(cross_from)]
        cross = [
            CrossLayer(width, heads, source_width=source_width, inner=inner, dropout=dropout)
            for _ in range(layers - cross_from)
        ]
        self.layers = nn.ModuleList([*plain, *cross])
        self.cross_from = cross_from

    def forward(
        self,
        states: Tensor,
        mask: Tensor | None,
        source: Tensor | None = None,
        source_mask: Tensor | None = None,
        rows: Tensor | None = None,
        *,
        layers: slice = slice(None),
    ) -> Tensor:
        """Run some of the layers on states [P, L, D] (of ``embedding``, or read before) -> [P, L, D].

        mask [P, L] or [P, L, L]; source [I, K, S] with mask [P, K]; rows [P]: which source each text looks at.
        """
        for number in range(len(self.layers))[layers]:
            looks = (source, source_mask, rows) if number >= self.cross_from else ()
            states = self.layers[number](states, mask, *looks)
        return states


class WordPrediction(nn.Module):
    """BERT's output of words: a transform, then the words' own embeddings and a bias (Devlin et al. 2019)."""

    def __init__(self, width: int, vocabulary: int, *, epsilon: float = 1e-12) -> None:
        super().__init__()
        self.transform = Transform(width, epsilon=epsilon)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, states: Tensor, words: nn.Embedding) -> Tensor:
        """States [..., D] and the embedding they are tied to -> [..., vocabulary]."""
        logits: Tensor = functional.linear(self.transform(states), words.weight, self.bias)
        return logits

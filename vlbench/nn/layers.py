"""Transformer layers: a feed-forward part, residual sub-layers (norm before or after), and stacks of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from vlbench.nn.attention import Attention

Norm = Literal["post", "pre"]


class FeedForward(nn.Module):
    """Two linear maps with a GELU (exact, by erf) between them; ``inner`` is four widths by default."""

    def __init__(self, width: int, inner: int | None = None) -> None:
        super().__init__()
        self.expand = nn.Linear(width, inner or 4 * width)
        self.contract = nn.Linear(inner or 4 * width, width)

    def forward(self, states: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        contracted: Tensor = self.contract(functional.gelu(self.expand(states)))
        return contracted


class Sublayer(nn.Module):
    """A part of a layer with its residual path, dropout and normalisation.

    ``post``: norm(x + dropout(part(x))), as BERT; ``pre``: x + dropout(part(norm(x))), as ViT.
    """

    def __init__(
        self,
        part: nn.Module,
        width: int,
        *,
        norm: Norm = "post",
        epsilon: float = 1e-12,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.part, self.order = part, norm
        self.norm = nn.LayerNorm(width, eps=epsilon)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, *context: Tensor | None) -> Tensor:
        """[B, L, D] -> [B, L, D]; ``context`` goes to the part (what it looks at, and its mask)."""
        if self.order == "post":
            normed: Tensor = self.norm(states + self.dropout(self.part(states, *context)))
            return normed
        changed: Tensor = states + self.dropout(self.part(self.norm(states), *context))
        return changed


class Layer(nn.Module):
    """Self-attention, then feed-forward: one layer of a transformer encoder."""

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        inner: int | None = None,
        norm: Norm = "post",
        epsilon: float = 1e-12,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        attention = Attention(width, heads, dropout=dropout)
        self.attention = Sublayer(attention, width, norm=norm, epsilon=epsilon, dropout=dropout)
        self.feed_forward = Sublayer(FeedForward(width, inner), width, norm=norm, epsilon=epsilon, dropout=dropout)

    def forward(self, states: Tensor, mask: Tensor | None = None) -> Tensor:
        """[B, L, D], mask [B, L] or [B, L, L] -> [B, L, D]."""
        changed: Tensor = self.feed_forward(self.attention(states, None, mask))
        return changed


class Stack(nn.Module):
    """Layers one after another, all with the same mask."""

    def __init__(self, layers: list[Layer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, states: Tensor, mask: Tensor | None = None) -> Tensor:
        """[B, L, D], mask [B, L] or [B, L, L] -> [B, L, D]."""
        for layer in self.layers:
            states = layer(states, mask)
        return states

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self.layers)

"""Attention: self, cross, causal; one mask convention (True = may look)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Multi-head scaled dot-product attention with its four projections.

    Vaswani et al. 2017, section 3.2. ``width`` is that of the asking states and of the result;
    ``source_width`` that of the states looked at, where it differs.
    """

    def __init__(self, width: int, heads: int, *, source_width: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} cannot be split into {heads} heads")
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(source_width or width, width)
        self.value = nn.Linear(source_width or width, width)
        self.output = nn.Linear(width, width)

    def forward(self, states: Tensor, source: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Let ``states`` [B, Q, D] look at ``source`` [B, K, S] (at themselves if None).

        ``mask`` is [B, K] (which of the source exist) or [B, Q, K] (which of it each state may look at).
        """
        source = states if source is None else source
        query, key, value = (self._split(part) for part in self._project(states, source))
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=broadcast(mask), dropout_p=self.dropout if self.training else 0.0
        )
        joined = mixed.transpose(1, 2).flatten(2)
        output: Tensor = self.output(joined)
        return output

    def _project(self, states: Tensor, source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.query(states), self.key(source), self.value(source)

    def _split(self, states: Tensor) -> Tensor:
        cut = states.reshape(*states.shape[:-1], self.heads, states.shape[-1] // self.heads)
        return cut.transpose(1, 2)  # [B, heads, L, D / heads]


def broadcast(mask: Tensor | None) -> Tensor | None:
    """Give a mask [B, K] or [B, Q, K] the axis of the heads: [B, 1, 1 or Q, K]."""
    if mask is None:
        return None
    return mask[:, None, None, :] if mask.dim() == 2 else mask[:, None]


def causal(mask: Tensor) -> Tensor:
    """Let every word look at itself and those before it: mask [B, L] -> [B, L, L]."""
    length = mask.shape[-1]
    before = torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    return before & mask[:, None, :]

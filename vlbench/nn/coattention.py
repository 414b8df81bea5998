"""Layers in which two modalities look at each other."""

from __future__ import annotations

from torch import Tensor, nn

from vlbench.nn.attention import Attention
from vlbench.nn.layers import FeedForward, Sublayer


class SharedCrossAttentionLayer(nn.Module):
    """LXMERT's cross-modality layer (Tan & Bansal 2019, section 2.2).

    One cross-attention, its norm included, serves both directions, and both read the layer's input;
    then each modality has a self-attention and a feed-forward part of its own.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        inner: int | None = None,
        epsilon: float = 1e-12,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()

        def attention() -> Sublayer:
            return Sublayer(Attention(width, heads, dropout=dropout), width, epsilon=epsilon, dropout=dropout)

        def feed_forward() -> Sublayer:
            return Sublayer(FeedForward(width, inner), width, epsilon=epsilon, dropout=dropout)

        self.cross = attention()
        self.text_attention, self.image_attention = attention(), attention()
        self.text_feed_forward, self.image_feed_forward = feed_forward(), feed_forward()

    def forward(
        self, words: Tensor, regions: Tensor, word_mask: Tensor | None, region_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """words [P, L, D] and regions [P, R, D] with masks [P, L] and [P, R] -> both, changed."""
        seen_words = self.cross(words, regions, region_mask)
        seen_regions = self.cross(regions, words, word_mask)
        words = self.text_feed_forward(self.text_attention(seen_words, None, word_mask))
        regions = self.image_feed_forward(self.image_attention(seen_regions, None, region_mask))
        return words, regions

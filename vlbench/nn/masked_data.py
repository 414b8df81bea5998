"""Masked data modelling (BEiT-3, section 2.2): patches are covered in blocks, and what is hidden is predicted."""

from __future__ import annotations

import math

from torch import Tensor, nn

from vlbench.nn.masking import IGNORED, mask_blocks
from vlbench.nn.objectives import label_loss


def cover(codes: Tensor, share: float = 0.4) -> tuple[Tensor, Tensor]:
    """Draw which patches of square images a mask covers, block by block, and keep the codes of these; both [I, N].

    ``codes`` [I, N]: what an image tokeniser calls each patch. Those of patches that are seen become IGNORED.
    """
    covered = mask_blocks(len(codes), math.isqrt(codes.shape[1]), share=share).to(codes.device)
    return covered, codes.masked_fill(~covered, IGNORED)


def hidden_loss(output: nn.Linear | None, states: Tensor, hidden: Tensor) -> Tensor:
    """Predict hidden words or codes [P, L], IGNORED where none is, from states [P, L, D]: a mean over them."""
    assert output is not None  # built for pre-training
    asked = hidden != IGNORED
    return label_loss(output(states[asked]), hidden[asked])

"""From a sequence of states to one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FirstToken(nn.Module):
    """BERT's pooler: tanh of a linear map of the first word's state."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)

    def forward(self, states: Tensor) -> Tensor:
        """[P, L, D] -> [P, D]."""
        return torch.tanh(self.dense(states[:, 0]))

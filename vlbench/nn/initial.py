"""Initial weights that several methods draw alike."""

from __future__ import annotations

import math
from functools import partial

from torch import nn

from vlbench.nn.towers import VisionTransformer


def spread(width: int, narrowest: int = 768) -> float:
    """Return the deviation of initial weights: 0.02 from ``narrowest`` on, the least width a method is published at.

    A narrower part draws wider, so that sums keep the spread they have at a width of 768.
    """
    return 0.02 if width >= narrowest else 0.02 * math.sqrt(768 / width)


LEFT_BY_THE_CUT = 0.54
"""What cutting a normal distribution at one deviation leaves of its deviation."""


def draw_cut(module: nn.Module, *, width: int, scale: float = 1.0) -> None:
    """Draw linear weights from normal(0, 0.02 scale) cut at one deviation; biases 0, norms and patches as torch does.

    0.02 is for the published width of 768; a narrower model draws wider, so that sums keep their spread. BEiT-3.
    """
    if isinstance(module, nn.Linear):
        deviation = 0.02 * scale * math.sqrt(768 / min(width, 768))
        nn.init.trunc_normal_(module.weight, std=deviation, a=-deviation, b=deviation)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def draw_normal(module: nn.Module, *, width: int, narrowest: int = 768) -> None:
    """Draw linear maps and tables from normal(0, ``spread``), tables' first rows included; biases are 0.

    Convolutions, norms and all else stay as torch made them. For ``apply``.
    """
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=spread(width, narrowest))
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def draw_vision(vision: VisionTransformer) -> VisionTransformer:
    """Draw a vision transformer by ``draw_normal``, its positions and its first token like any table; return it."""
    width = vision.first_token.shape[-1]
    vision.apply(partial(draw_normal, width=width))
    for table in (vision.positions, vision.first_token):
        nn.init.normal_(table, std=spread(width))
    return vision

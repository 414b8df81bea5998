"""Attention against a slow plain version, and what must not matter."""

import math

import pytest
import torch

from vlbench.nn.attention import Attention, causal


def plain(part: Attention, states: torch.Tensor, source: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """One query, one head at a time."""
    query, key, value = part.query(states), part.key(source), part.value(source)
    size = query.shape[-1] // part.heads
    made = torch.zeros_like(query)
    for b in range(query.shape[0]):
        for q in range(query.shape[1]):
            for h in range(part.heads):
                cut = slice(h * size, (h + 1) * size)
                scores = torch.stack([query[b, q, cut] @ key[b, k, cut] for k in range(key.shape[1])])
                scores = scores / math.sqrt(size)
                if mask is not None:
                    seen = mask[b] if mask.dim() == 2 else mask[b, q]
                    scores = scores.masked_fill(~seen, -torch.inf)
                made[b, q, cut] = scores.softmax(0) @ value[b, :, cut]
    return part.output(made)


@pytest.mark.parametrize(("width", "heads", "other"), [(8, 1, None), (12, 3, None), (12, 2, 7)])
@pytest.mark.parametrize("kind", ["none", "keys", "full"])
def test_equals_the_plain_version(width: int, heads: int, other: int | None, kind: str) -> None:
    torch.manual_seed(width + heads)
    part = Attention(width, heads, source_width=other)
    states, source = torch.randn(2, 4, width), torch.randn(2, 5, other or width)
    mask = {"none": None, "keys": torch.rand(2, 5) < 0.7, "full": torch.rand(2, 4, 5) < 0.7}[kind]
    if mask is not None:
        mask[..., 0] = True
    torch.testing.assert_close(part(states, source, mask), plain(part, states, source, mask))


def test_causal_states_do_not_see_later_words() -> None:
    torch.manual_seed(0)
    part = Attention(8, 2)
    states = torch.randn(1, 6, 8)
    changed = states.clone()
    changed[:, 4:] += 1
    mask = causal(torch.ones(1, 6, dtype=torch.bool))
    before, after = part(states, None, mask), part(changed, None, mask)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


def test_width_must_divide_into_heads() -> None:
    with pytest.raises(ValueError, match="heads"):
        Attention(10, 3)

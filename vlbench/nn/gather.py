"""Features of all processes side by side; on one process, one's own. Parts may be of different length."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, distributed
from torch.nn import functional

_ALONE: ContextVar[bool] = ContextVar("alone", default=False)


@contextmanager
def alone() -> Iterator[None]:
    """Gather nothing meanwhile: for what the other processes do not do at the same time."""
    before = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(before)


def own_places(part: Tensor) -> Tensor:
    """Number the rows of one's own part [N, ...] among those of all processes: [N]."""
    first = 0 if _processes() == 1 else sum(_lengths(part)[: distributed.get_rank()])
    return torch.arange(first, first + len(part), device=part.device)


def is_shared() -> bool:
    """Say whether other processes have a part, too."""
    return _processes() > 1


def _processes() -> int:
    if _ALONE.get() or not distributed.is_available() or not distributed.is_initialized():
        return 1
    return distributed.get_world_size()


def _lengths(part: Tensor) -> list[int]:
    """Return how long the part of each process is."""
    lengths = torch.zeros(distributed.get_world_size(), dtype=torch.long, device=part.device)
    lengths[distributed.get_rank()] = len(part)
    distributed.all_reduce(lengths)
    return list(map(int, lengths.tolist()))


class _Gather(torch.autograd.Function):
    """All-gather along the first axis; the gradient of one's own part is summed over all processes."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, part: Tensor, lengths: list[int]) -> Tensor:
        rank = distributed.get_rank()
        ctx.own = slice(sum(lengths[:rank]), sum(lengths[: rank + 1]))  # type: ignore[attr-defined]
        padded = part.new_zeros(max(lengths), *part.shape[1:])
        padded[: len(part)] = part
        parts = [torch.empty_like(padded) for _ in lengths]
        distributed.all_gather(parts, padded)
        return torch.cat([each[:length] for each, length in zip(parts, lengths, strict=True)])

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        whole = gradients[0].contiguous()
        distributed.all_reduce(whole)
        return whole[ctx.own], None  # type: ignore[attr-defined]


def gather(part: Tensor, *, gradient: bool = False) -> Tensor:
    """Return the parts [N, ...] of all processes in their order; ``gradient`` lets gradients flow to all of it."""
    part = part if gradient else part.detach()
    if _processes() == 1:
        return part
    gathered: Tensor = _Gather.apply(part, _lengths(part))
    return gathered


def own_first(part: Tensor) -> Tensor:
    """Return the parts [N, ...] of all processes, one's own first; no gradient flows to any."""
    if _processes() == 1:
        return part.detach()
    lengths, rank = _lengths(part), distributed.get_rank()
    gathered: Tensor = _Gather.apply(part.detach(), lengths)
    parts = torch.split(gathered, lengths)
    return torch.cat([parts[rank], *parts[:rank], *parts[rank + 1 :]])


def gather_texts(part: Tensor) -> Tensor:
    """Return the texts [N, L] of all processes, whose padded length may differ; zeros fill them up."""
    if _processes() == 1:
        return part
    longest = torch.tensor(part.shape[1], device=part.device)
    distributed.all_reduce(longest, op=distributed.ReduceOp.MAX)
    return gather(functional.pad(part.long(), (0, int(longest) - part.shape[1]))).to(part.dtype)


def gather_blocks(block: Tensor) -> Tensor:
    """Return the squares [N, N] of all processes along the diagonal of one, in their order; zeros elsewhere."""
    if _processes() == 1:
        return block
    rows = gather_texts(block)
    blocks = [part[:, : len(part)] for part in torch.split(rows, _lengths(block))]
    whole: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
    return whole

"""How fast and how heavy: samples a second, the share spent waiting for data, peak memory, FLOPs a sample."""

from __future__ import annotations

import resource
import sys
import time

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vlbench.types import Batch


class Meter:
    """A stop-watch over a loop: what share of its time it waited for data, how many examples a second."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.waited = 0.0
        self.examples = 0
        self._mark = self.began

    def waiting(self) -> None:
        """Say that waiting for data begins."""
        self._mark = time.perf_counter()

    def arrived(self, examples: int) -> None:
        """Say that the data of so many examples is there."""
        self.waited += time.perf_counter() - self._mark
        self.examples += examples

    @property
    def seconds(self) -> float:
        """Seconds since the loop began."""
        return time.perf_counter() - self.began

    @property
    def rate(self) -> float:
        """Examples a second."""
        return self.examples / max(self.seconds, 1e-9)

    @property
    def wait_share(self) -> float:
        """Share of the time spent waiting for data."""
        return self.waited / max(self.seconds, 1e-9)


def peak_memory(device: torch.device) -> int:
    """Return the most bytes held so far: on the GPU if there is one, else by this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most if sys.platform == "darwin" else most * 1024)


def flops_per_sample(learner: nn.Module, batch: Batch) -> float:
    """Count the FLOPs of one training step (forward and backward), divided by the examples of the batch.

    Counted, not estimated; attention included. Weights and random state are as before afterwards.
    """
    state = torch.get_rng_state()
    with FlopCounterMode(display=False) as counter:
        losses = learner(batch)
        torch.autograd.backward(torch.stack(list(losses.values())).sum())
    learner.zero_grad(set_to_none=True)
    torch.set_rng_state(state)
    return float(counter.get_total_flops()) / max(1, len(batch.ids))

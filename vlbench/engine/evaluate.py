"""The evaluation loop: ask a learner every example, in any order, and collect its answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device
from torch import nn

from vlbench.engine.meter import Meter
from vlbench.types import Batch, Given, Progress, quiet


class Asked(NamedTuple):
    """A learner's answers by example, and how fast they came."""

    given: dict[str, Given]
    seconds: float
    samples_per_second: float


@torch.inference_mode()
def ask(
    learner: nn.Module,
    batches: Iterable[Batch],
    *,
    total: int,
    accelerator: Accelerator,
    progress: Progress = quiet,
    what: str = "answering",
) -> Asked:
    """Let a learner answer every example of the batches (this process's share; all shares are brought together)."""
    answers = accelerator.unwrap_model(learner).eval().answers
    given: dict[str, Given] = {}
    meter = Meter()
    meter.waiting()
    for batch in batches:
        meter.arrived(len(batch.ids) * accelerator.num_processes)
        batch = send_to_device(batch, accelerator.device, non_blocking=True)
        with accelerator.autocast():
            given.update(zip(batch.ids, answers(batch), strict=True))
        progress(min(meter.examples, total), total, what)
        meter.waiting()
    if accelerator.num_processes > 1:
        given = dict(gather_object(list(given.items())))
    return Asked(given, meter.seconds, meter.rate)

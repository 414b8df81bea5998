"""The evaluation loop: ask a learner every example, in any order, and collect its answers."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device
from torch import nn

from vlbench.engine.attack import Attack
from vlbench.engine.meter import Meter
from vlbench.types import Batch, Given, Progress, quiet


class Asked(NamedTuple):
    """A learner's answers by example, and how fast they came."""

    given: dict[str, Given]
    seconds: float
    samples_per_second: float


def ask(
    learner: nn.Module,
    batches: Iterable[Batch],
    *,
    total: int,
    accelerator: Accelerator,
    progress: Progress = quiet,
    what: str = "answering",
    attack: Attack | None = None,
) -> Asked:
    """Let a learner answer every example of the batches (this process's share; all shares are brought together).

    ``attack``: how each batch is perturbed before it is asked.
    """
    own = accelerator.unwrap_model(learner).eval()
    # what was made in inference mode can take no part in a gradient, which an attack follows
    with torch.no_grad() if attack else torch.inference_mode():
        return _ask(own, batches, total, accelerator, progress, what, attack)


def _ask(
    learner: Any,
    batches: Iterable[Batch],
    total: int,
    accelerator: Accelerator,
    progress: Progress,
    what: str,
    attack: Attack | None,
) -> Asked:
    given: dict[str, Given] = {}
    meter = Meter()
    meter.waiting()
    for batch in batches:
        meter.arrived(len(batch.ids) * accelerator.num_processes)
        batch = send_to_device(batch, accelerator.device, non_blocking=True)
        with accelerator.autocast(), attack.on_batch(learner, batch) if attack else nullcontext(batch) as asked:
            given.update(zip(batch.ids, learner.answers(asked), strict=True))
        progress(min(meter.examples, total), total, what)
        meter.waiting()
    if accelerator.num_processes > 1:
        given = dict(gather_object(list(given.items())))
    return Asked(given, meter.seconds, meter.rate)

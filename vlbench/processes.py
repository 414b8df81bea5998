"""The processes of one command that torchrun, ``accelerate launch`` or Slurm started: who speaks, and how they agree.

Process 0 makes what there is once, and the others wait for it. What they tell each other goes over gloo, beside what
is trained, so that no GPU waits. A fault is told by the process that has it first; the others end without a word.
Torch is loaded only where there are several.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from vlbench.types import Fault, as_fault

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Thing = TypeVar("Thing")
_FAULT = "vlbench/fault"
_GRACE = 30.0
"""Seconds; more than a run's mirror is waited for when it fails."""
_PATIENCE = timedelta(days=7)
"""So long the others wait, as for corpora that process 0 reads for the first time."""


class ToldElsewhere(Fault):
    """A fault of which another process has told the user, or does so now."""

    def __init__(self, wrong: str, code: int) -> None:
        super().__init__(wrong)
        self.code = code


def several() -> bool:
    """Say whether this is one of several processes."""
    return int(os.environ.get("WORLD_SIZE") or 1) > 1


def is_first() -> bool:
    """Say whether this process writes and speaks."""
    return not several() or int(os.environ.get("RANK") or 0) == 0


def refuse_several() -> None:
    """Fault where a command of one process was started as several."""
    if several():
        raise Fault(
            "this command is one process; only pretrain is shared by several",
            "start it without torchrun or accelerate launch",
        )


def from_first(make: Callable[[], Thing]) -> Thing:
    """Return in every process what process 0 makes; where it cannot, all fail alike."""
    if not several():
        return make()
    from torch.distributed import broadcast_object_list

    told: list[Any] = [None, None]
    if not is_first():
        broadcast_object_list(told, src=0, group=_group())
        if told[1] is not None:
            raise told[1]
        made: Thing = told[0]
        return made
    try:
        told[0] = made = make()
    except BaseException as error:
        told[1] = as_fault(error) if isinstance(error, Exception) else stopped()
        raise
    finally:
        broadcast_object_list(told, src=0, group=_group())
    return made


def first_before_others(make: Callable[[], Thing]) -> Thing:
    """Let every process make its own, after process 0: the others then find what it left on the disk."""
    own: list[Thing] = []
    from_first(lambda: own.append(make()))
    return own[0] if own else make()


def exchange(own: Thing) -> list[Thing]:
    """Return what each process gives, in their order."""
    if not several():
        return [own]
    from torch import distributed

    found: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, own, group=_group())
    return found


def stopped() -> Fault:
    """Say that the user stopped the command."""
    return Fault("stopped", "the same command goes on where it stopped")


def first_fault(error: Exception) -> Fault:
    """Return the fault to be told of an error: one's own, or ToldElsewhere where another process was first."""
    own = as_fault(error)
    if not several() or isinstance(own, ToldElsewhere):
        return own
    from torch import distributed

    rank = os.environ.get("RANK", "0")
    if not distributed.is_initialized():  # nothing has begun: all find the same wrong, and process 0 says so
        if not is_first():
            give_way()
        return own
    try:
        store = distributed.distributed_c10d._get_default_store()
        found = json.loads(store.compare_set(_FAULT, "", json.dumps([rank, own.wrong, own.code])))
    except RuntimeError:  # the process that held the store has ended, and has told why
        return ToldElsewhere(own.wrong, own.code)
    return own if found[0] == rank else ToldElsewhere(found[1], found[2])


def give_way() -> None:
    """Let the process that tells of a fault do so and end, whereupon the launcher ends the others."""
    time.sleep(_GRACE)


@cache
def _group() -> ProcessGroup:
    """Return the processes as they talk to each other over gloo."""
    from torch import distributed

    return cast("ProcessGroup", distributed.new_group(backend="gloo", timeout=_PATIENCE))

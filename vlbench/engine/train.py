"""The training loop: one for every method, task and objective."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device
from torch import Tensor, nn

from vlbench.engine.adversary import Passed, Villa
from vlbench.engine.checkpoint import load_state, save_state
from vlbench.engine.devices import random_state, restore_random_state
from vlbench.engine.meter import Meter
from vlbench.engine.optimise import make_optimiser, set_rate
from vlbench.nn.gather import alone
from vlbench.processes import exchange
from vlbench.recipe import Recipe
from vlbench.types import Batch, Fault, Log, Misuse, Progress, quiet

STATE = "state.pt"
SKIPPED = "skipped"
"""Of an event: the steps in which no weight was changed."""


class Trained(NamedTuple):
    """What training cost."""

    steps: int
    examples: int
    """As often as they were seen."""
    seconds: float
    samples_per_second: float
    data_wait_share: float
    losses: Mapping[str, float] = {}
    """Each objective's mean over the last steps."""


class Feeds(Protocol):
    """Batches by step, so that any step can be the next."""

    per_epoch: int
    """Steps of a pass over the examples."""

    def steps(self, first: int, last: int) -> Iterable[Sequence[Batch]]:
        """Yield the parts of each step's batch, from step ``first`` to before ``last``."""


class Training:
    """The state of a training run: weights, optimiser, step, random numbers; saved whole, resumed exactly."""

    def __init__(self, learner: nn.Module, recipe: Recipe, accelerator: Accelerator, folder: Path) -> None:
        self.recipe, self.accelerator, self.path = recipe, accelerator, folder / STATE
        optimiser = make_optimiser(learner.to(accelerator.device), recipe, accelerator.device)
        self.learner, self.optimiser = accelerator.prepare(learner, optimiser)
        self.step, self.seconds, self.examples = 0, 0.0, 0
        self.losses = Losses(self)
        own = accelerator.unwrap_model(self.learner)
        self.adversary = Villa(recipe, own, accelerator) if recipe.adversary else None

    def save(self, seconds: float) -> None:
        """Write the state under its name in one move."""
        generators = gather_object([random_state(self.accelerator)])
        examples, losses = gather_object([self.examples]), gather_object([self.losses.state()])
        if not self.accelerator.is_main_process:
            return
        state = {
            "step": self.step,
            "seconds": seconds,
            "examples": examples,
            "learner": self.accelerator.unwrap_model(self.learner).state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generators": generators,
            "losses": losses,
        }
        if self.accelerator.scaler is not None:
            state["scaler"] = self.accelerator.scaler.state_dict()
        save_state(self.path, state)

    def resume(self) -> bool:
        """Go back to the saved state, if there is one."""
        if not self.path.is_file():
            return False
        state = load_state(self.path)
        self.accelerator.unwrap_model(self.learner).load_state_dict(state["learner"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.accelerator.scaler is not None and "scaler" in state:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        rank = self.accelerator.process_index
        if rank < len(state["generators"]):
            restore_random_state(state["generators"][rank])
            self.losses.restore(state["losses"][rank])
        self.examples = sum(state["examples"]) if rank == 0 else 0
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
        return True

    def update(
        self, parts: Sequence[Batch], weights: Mapping[str, float], steps: int, fair: float = 1.0
    ) -> dict[str, Tensor]:
        """Take one optimiser step over the parts of a batch; return each loss, a mean over the parts that have it.

        The step is of all parts, each by its share of the examples; parts of other kinds may have other losses.
        ``fair``: how many examples this process has in the step, as a multiple of the mean over all processes, which
        is what their gradients are brought together by.
        """
        examples = sum(len(part.ids) for part in parts)
        summed: dict[str, Tensor] = {}
        shares: dict[str, float] = {}
        for number, part in enumerate(parts):
            part = send_to_device(part, self.accelerator.device, non_blocking=True)
            last, share = number == len(parts) - 1, len(part.ids) / max(1, examples)
            go = partial(self._pass, weights=weights, share=share * fair)
            losses = self.adversary.learn(part, go, last=last) if self.adversary else go(part, last=last).losses
            for name, loss in losses.items():
                summed[name] = summed.get(name, torch.zeros((), device=loss.device)) + loss.detach() * share
                shares[name] = shares.get(name, 0.0) + share
        if self.recipe.clip:
            self.accelerator.clip_grad_norm_(self.learner.parameters(), self.recipe.clip)
        set_rate(self.optimiser, self.step, steps, self.recipe)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.examples += examples
        return {name: loss if shares[name] > 0.999 else loss / shares[name] for name, loss in summed.items()}

    def _pass(
        self,
        batch: Batch,
        *,
        weights: Mapping[str, float],
        share: float,
        last: bool,
        scale: float = 1.0,
        more: Callable[[], Tensor] | None = None,
    ) -> Passed:
        """Add the gradients of a batch, which is a ``share`` of its step's.

        ``last``: of the step, when the processes bring their gradients together; ``more`` is asked for what else is in
        the objective when the losses are known.
        """
        with nullcontext() if last else self.accelerator.no_sync(self.learner):
            found: dict[str, Tensor] = self.learner(batch)
            losses = {name: loss for name, loss in found.items() if not weights or weights.get(name)}
            if not losses:
                asked = ", ".join(name for name, weight in weights.items() if weight)
                raise Misuse(
                    f"nothing is learned of '{batch.ids[0]}' by {asked}: it has what {', '.join(found)} ask for",
                    "choose other objectives or other corpora: --set losses=..., --set corpora=...",
                )
            weighted = [weights.get(name, 1.0) * loss for name, loss in losses.items()]
            total = torch.stack(weighted).sum()
            whole = total if more is None else total + more().to(total.device)
            self.accelerator.backward(whole * scale * share)
        return Passed(losses, total.detach())


def train(
    learner: nn.Module,
    feed: Feeds,
    recipe: Recipe,
    *,
    steps: int,
    accelerator: Accelerator,
    log: Log,
    folder: Path,
    weights: Mapping[str, float] | None = None,
    progress: Progress = quiet,
    keep_going: Callable[[], bool] = lambda: True,
) -> Trained:
    """Train a learner for ``steps`` optimiser steps, going on from a saved state in ``folder`` if there is one.

    ``weights``: the loss weights by name, where the losses are not simply added. Raises Fault for a loss that is not
    finite, with the step, the examples and the last good state; KeyboardInterrupt after saving, when ``keep_going``
    says no.
    """
    training = Training(learner, recipe, accelerator, folder)
    training.resume()
    learner.train()
    meter, before = Meter(), training.seconds
    save_every = recipe.save_every or max(1, math.ceil(steps / 20))
    meter.waiting()
    begin = getattr(accelerator.unwrap_model(training.learner), "begin", lambda epoch: None)
    for parts in feed.steps(training.step, steps):
        begin(training.step / feed.per_epoch)
        shares = exchange(tuple((part.kind, len(part.ids)) for part in parts))
        counts = [sum(count for _, count in share) for share in shares]
        meter.arrived(sum(counts))
        alike = len({tuple(kind for kind, _ in share) for share in shares}) == 1
        if all(counts):
            fair = counts[accelerator.process_index] * len(counts) / sum(counts)
            with nullcontext() if alike else alone():  # else one would wait for what another has none of
                losses = training.update(parts, weights or {}, steps, fair)
            training.losses.add(training.step, losses, parts)
        elif any(counts):
            text = f"step {training.step + 1} was left out: a process could read nothing of its share"
            log({"event": "note", "text": text, SKIPPED: [training.step + 1]})
        training.step += 1
        last = training.step == steps
        if training.step % recipe.log_every == 0 or last:
            values = training.losses.means()
            first = training.optimiser.param_groups[0]
            rate = float(first["lr"]) / float(first["multiple"])
            log({"event": "step", "step": training.step, "values": {**values, "rate": rate, **_speed(meter)}})
            progress(training.step, steps, f"loss {sum(values.values()):.4f}")
        stops = not all(exchange(keep_going()))
        if training.step % save_every == 0 or last or stops:
            training.losses.check()  # a state with a bad loss behind it is never saved
            training.save(before + meter.seconds)
        if stops and not last:
            raise KeyboardInterrupt
        meter.waiting()
    learner.eval()
    seconds = before + meter.seconds
    seen: int = sum(gather_object([training.examples]))
    return Trained(training.step, seen, seconds, meter.rate, meter.wait_share, training.losses.last)


def _speed(meter: Meter) -> dict[str, float]:
    return {"samples_per_second": round(meter.rate, 2), "data_wait_share": round(meter.wait_share, 4)}


class Losses:
    """Sums the losses up, and looks at them when it is asked to, not at each step, so that a GPU need not wait."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.pending: list[tuple[int, dict[str, Tensor], tuple[str, ...]]] = []
        self.often = training.accelerator.device.type == "cpu"
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.last: dict[str, float] = {}
        """Of each loss the mean that was asked for last."""

    def add(self, step: int, losses: dict[str, Tensor], parts: Sequence[Batch]) -> None:
        """Remember the losses of a step; on a CPU, look at them at once."""
        self.pending.append((step, losses, tuple(name for part in parts for name in part.ids)))
        if self.often:
            self.check()

    def check(self) -> None:
        """Take in what is remembered; Fault if a loss was not finite."""
        self._look(self.pending)
        for _, losses, _ in self.pending:
            for name, loss in losses.items():
                self.sums[name] = self.sums.get(name, 0.0) + float(loss)
                self.counts[name] = self.counts.get(name, 0) + 1
        self.pending.clear()

    def means(self) -> dict[str, float]:
        """Return the mean of each loss since the last call, over all processes; Fault if one was not finite."""
        self.check()
        heard = exchange((self.sums, self.counts))
        sums, counts = _sum([one for one, _ in heard]), _sum([one for _, one in heard])
        means = {name: total / counts[name] for name, total in sums.items()}
        self.last |= means
        self.sums, self.counts = {}, {}
        return means

    def state(self) -> dict[str, dict[str, float]]:
        """Return what a run that goes on needs to tell the same means."""
        return {"sums": dict(self.sums), "counts": dict(self.counts), "last": dict(self.last)}

    def restore(self, state: Mapping[str, Mapping[str, float]]) -> None:
        """Take back what ``state`` returned."""
        self.sums, self.last = dict(state["sums"]), dict(state["last"])
        self.counts = {name: int(count) for name, count in state["counts"].items()}

    def _look(self, pending: Sequence[tuple[int, dict[str, Tensor], tuple[str, ...]]]) -> None:
        for step, losses, ids in pending:
            bad = {name: float(loss) for name, loss in losses.items() if not bool(torch.isfinite(loss))}
            if bad:
                self._stop(step, bad, ids)

    def _stop(self, step: int, bad: Mapping[str, float], ids: Sequence[str]) -> None:
        shown = ", ".join(ids[:10]) + (f" and {len(ids) - 10} more" if len(ids) > 10 else "")
        named = ", ".join(f"{name} = {value}" for name, value in bad.items())
        good = (
            f"the last good state is {self.training.path}" if self.training.path.is_file() else "no state was saved yet"
        )
        raise Fault(
            f"the loss is not finite at step {step + 1}: {named}; examples {shown}",
            f"{good}; try a smaller rate (--set rate=...) or fp32 (--set precision=fp32) with --fresh",
        )


def _sum(given: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Add numbers of the same name."""
    return {name: sum(one.get(name, 0) for one in given) for name in dict.fromkeys(chain.from_iterable(given))}


def planned_steps(recipe: Recipe, examples: int) -> int:
    """Say how many optimiser steps a recipe asks for, given the training examples of an epoch."""
    if recipe.steps:
        return recipe.steps
    return math.ceil(recipe.epochs * math.ceil(examples / recipe.batch)) if recipe.epochs else 0

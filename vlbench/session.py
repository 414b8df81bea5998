"""A run while it lasts: trained so that it can be stopped, logged as it goes, mirrored."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from operator import mul
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device

from vlbench.engine import checkpoint
from vlbench.engine.devices import (
    describe,
    draw_apart,
    open_device,
    seed_everything,
    use_threads,
    worth_compiling,
)
from vlbench.engine.evaluate import Asked
from vlbench.engine.meter import flops_per_sample, peak_memory
from vlbench.engine.train import STATE, Feeds, Trained, train
from vlbench.learner import Learner
from vlbench.nn.gather import alone
from vlbench.paths import make_folder
from vlbench.plan import PRETRAINING, Plan, trains
from vlbench.prepare import Options
from vlbench.processes import first_before_others, first_fault, from_first, is_first, several, stopped
from vlbench.record import RunRecord, Throughput
from vlbench.runfolder import RECORD, Begun, begin, finished, folder_of, locked, this_code
from vlbench.tracking import RunLog, start_mirror, store_uri
from vlbench.types import Batch, Fault, Log


class Work(NamedTuple):
    """What is ready to be carried out: what it begins with, the learner, and how a record comes of it."""

    inputs: dict[str, str]
    learner: Learner
    carry_out: Callable[[Begun, Log], RunRecord]


class Made(NamedTuple):
    """What a run leaves: its record and folder, and whether it was there already."""

    record: RunRecord
    folder: Path
    new: bool


def once(
    plan: Plan,
    options: Options,
    changed: Callable[[RunRecord], list[str]],
    prepare: Callable[[Path, Accelerator], Work],
    *,
    together: bool = False,
) -> Made:
    """Carry a plan out in its folder, going on where an earlier run of it stopped; what is finished is looked up.

    ``changed`` names what a finished run read that is no longer the same: then a new run begins. ``together``: several
    processes may share it; the first finds the folder and writes in it.
    """
    accelerator = open_device(options.device, plan.recipe.precision, together=together)
    with ExitStack() as held:
        folder, record = from_first(lambda: _take(plan, options, changed, held))
        if record:
            return Made(record, folder, False)
        seed_everything(plan.recipe.seed)
        work = first_before_others(lambda: prepare(folder, accelerator))
        draw_apart(plan.recipe.seed)
        begun = from_first(lambda: begin(folder, plan, work.inputs))
        use_threads(work.learner.size())
        with logged(folder, plan, begun, work.learner, options) if is_first() else unlogged() as log:
            made = work.carry_out(begun, log)
            from_first(lambda: _keep(made, folder))  # the next stage reads it in all processes
    return Made(made, folder, True)


def _take(
    plan: Plan, options: Options, changed: Callable[[RunRecord], list[str]], held: ExitStack
) -> tuple[Path, RunRecord | None]:
    """Find a plan's folder and hold it; return the record, too, where the run is finished."""
    folder = folder_of(plan, options.out, fresh=options.fresh)
    if (record := finished(folder)) and (other := changed(record)):
        options.say(f"{folder.name} was made of other files ({', '.join(other[:5])} changed since): a new run begins")
        folder = folder_of(plan, options.out, fresh=True)
    held.enter_context(locked(folder, options.say if options.waits else None))
    return folder, finished(folder)


def _keep(record: RunRecord, folder: Path) -> None:
    """Write the record of what is done, for which no state is needed any more."""
    record.write(folder / RECORD)
    (folder / "checkpoint" / STATE).unlink(missing_ok=True)


def train_on(
    feed: Feeds,
    steps: int,
    plan: Plan,
    learner: Learner,
    accelerator: Accelerator,
    folder: Path,
    options: Options,
    log: Log,
    weights: Mapping[str, float] | None = None,
) -> tuple[Trained, float | None]:
    """Train a learner on a feed, stopped by Ctrl-C between two steps; return what it cost, and FLOPs an example."""
    recipe = plan.recipe
    if not recipe.adversary and worth_compiling(recipe.compile, accelerator, learner.size()):
        learner.compile_encoder()
    with interruptible() as keep_going:
        trained = train(
            learner,
            feed,
            recipe,
            steps=steps,
            accelerator=accelerator,
            log=log,
            folder=make_folder(folder / "checkpoint"),
            weights=weights,
            progress=options.progress,
            keep_going=keep_going,
        )
    parts = next(iter(feed.steps(0, 1)))
    return trained, _flops(learner, parts, accelerator) if is_first() else None


def _flops(learner: Learner, parts: Sequence[Batch], accelerator: Accelerator) -> float | None:
    """Count FLOPs in the precision of training; None where what training left of the memory is too little for it."""
    try:
        with accelerator.autocast(), alone():
            counts = [flops_per_sample(learner, send_to_device(part, accelerator.device)) for part in parts]
    except torch.OutOfMemoryError:
        return None
    examples = [len(part.ids) for part in parts]
    return sum(map(mul, counts, examples)) / sum(examples) if parts else None


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a wish to stop at the end of the step; a second one stops at once.

    So does SIGTERM, with which schedulers end what has had its time, and launchers all processes of which one failed.
    """
    wishes: list[int] = []

    def wish(number: int, frame: Any) -> None:
        again = bool(wishes)
        wishes.append(number)
        if number == signal.SIGTERM and (again or several()):
            return  # schedulers and launchers send it more than once, and a launcher after a fault that is told, too
        if again:
            raise KeyboardInterrupt
        if is_first():
            print("stopping when this step is done and saved; Ctrl-C again stops at once", file=sys.stderr)

    try:
        before = {number: signal.signal(number, wish) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: whoever runs us there stops us in their own way
        yield lambda: True
        return
    try:
        yield lambda: not wishes
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def throughput(trained: Trained, asked: Sequence[Asked], flops: float | None, accelerator: Accelerator) -> Throughput:
    """Gather how fast and how heavy a run was."""
    seconds = sum(one.seconds for one in asked)
    answered = sum(len(one.given) for one in asked)
    return Throughput(
        train_samples_per_second=round(trained.samples_per_second, 2) if trained.steps else None,
        evaluate_samples_per_second=round(answered / max(seconds, 1e-9), 2) if asked else None,
        data_wait_share=round(trained.data_wait_share, 4) if trained.steps else None,
        peak_memory_bytes=peak_memory(accelerator.device),
        flops_per_sample=flops,
        train_seconds=round(trained.seconds, 3) if trained.steps else None,
        evaluate_seconds=round(seconds, 3) if asked else None,
    )


def facts(
    plan: Plan, folder: Path, begun: Begun, learner: Learner, trained: Trained, accelerator: Accelerator
) -> dict[str, Any]:
    """Return what every record tells of what was asked for, of where it was made, and of the training."""
    recipe = plan.recipe
    return {
        "id": folder.name,
        "method": plan.model.id,
        "task": plan.task.id,
        "dataset": plan.dataset.id,
        "suite": plan.suite.id,
        "size": recipe.size,
        "seed": recipe.seed,
        "recipe": recipe,
        "origins": plan.origins,
        "inputs": begun.inputs,
        "code": begun.code,
        "machine": describe(accelerator),
        "started": begun.started,
        "steps": trained.steps,
        "examples_seen": trained.examples,
        "parameters": learner.size(),
    }


def note(begun: Begun) -> str:
    """Say so where a run was begun by one version of the code and ended by another."""
    now = this_code()
    return "" if now == begun.code else f"begun by another state of the code; ended by {now.commit or now.version}"


@contextmanager
def logged(folder: Path, plan: Plan, begun: Begun, learner: Learner, options: Options) -> Iterator[Log]:
    """Keep the run's log and its mirror; say how it ended, whichever way it does."""
    state = folder / "checkpoint" / STATE
    step = int(checkpoint.load_state(state)["step"]) if state.is_file() else 0
    log = RunLog(folder, after_step=step)
    mirror = start_mirror(folder, store_uri(options.out)) if options.mirror else None
    if step:
        options.say(f"going on after step {step} of {folder.name}")
    log(_start_event(plan, begun, learner, folder))
    ended = {"status": "failed", "message": ""}
    try:
        yield log
        ended = {"status": "finished", "message": ""}
    except KeyboardInterrupt:
        ended = {"status": "stopped", "message": "stopped by Ctrl-C or the system"}
        raise stopped() from None
    except Exception as error:
        ended["message"] = first_fault(error).wrong
        raise
    finally:
        with suppress(Fault):  # a disk too full for this line has made itself known already
            log({"event": "end", **ended})
        if mirror:
            options.say("writing to MLflow")
            options.say(mirror.finish(60 if ended["status"] == "finished" else 5))


@contextmanager
def unlogged() -> Iterator[Log]:
    """Log nothing, in a process whose run another one logs."""
    try:
        yield lambda event: None
    except KeyboardInterrupt:
        raise stopped() from None


def _start_event(plan: Plan, begun: Begun, learner: Learner, folder: Path) -> dict[str, object]:
    return {
        "event": "start",
        "kind": "pretrain" if plan.task.id == PRETRAINING else "finetune" if trains(plan) else "evaluate",
        "run": folder.name,
        "method": plan.model.id,
        "task": plan.task.id,
        "dataset": plan.dataset.id,
        "suite": plan.suite.id,
        "seed": plan.recipe.seed,
        "recipe": plan.recipe.model_dump(mode="json"),
        "origins": plan.origins,
        "inputs": begun.inputs,
        "parameters": learner.size(),
    }

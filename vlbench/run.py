"""One run, from names to record: the only place where all parts meet."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device

from vlbench.answering import Asking, in_words, write_answers
from vlbench.controls import score_controls
from vlbench.data.batches import Feed, Share
from vlbench.engine import checkpoint
from vlbench.engine.devices import describe, open_device, seed_everything, use_threads, worth_compiling
from vlbench.engine.evaluate import Asked
from vlbench.engine.meter import flops_per_sample, peak_memory
from vlbench.engine.train import STATE, Trained, planned_steps, train
from vlbench.learner import Learner
from vlbench.paths import make_folder
from vlbench.plan import Plan, finetuning, from_published, trains
from vlbench.plugins import own_code
from vlbench.prepare import Opened, Options, build_learner, files_of, inputs_of, open_data, open_task
from vlbench.recipe import resolve
from vlbench.record import Basis, RunRecord, Scores, Throughput
from vlbench.runfolder import (
    RECORD,
    WEIGHTS,
    Begun,
    begin,
    changes,
    find_run,
    finished,
    folder_of,
    locked,
    this_code,
)
from vlbench.tracking import RunLog, start_mirror, store_uri
from vlbench.types import Answer, Batch, Example, Fault, as_fault


class Made(NamedTuple):
    """What a run leaves: its record and folder, and whether it was there already."""

    record: RunRecord
    folder: Path
    new: bool


def run(plan: Plan, options: Options) -> Made:
    """Train (if the recipe says so) and evaluate one method on one task; go on where an earlier run stopped."""
    accelerator = open_device(options.device, plan.recipe.precision)
    folder = folder_of(plan, options.out, fresh=options.fresh)
    if (record := finished(folder)) and (changed := _changed(record, plan, options)):
        options.say(f"{folder.name} was made of other files ({', '.join(changed[:5])} changed since): a new run begins")
        folder = folder_of(plan, options.out, fresh=True)
    with locked(folder):
        if record := finished(folder):
            return Made(record, folder, False)
        seed_everything(plan.recipe.seed)
        opened = open_data(plan, options, folder)
        begun = begin(folder, plan, inputs_of(plan, opened, options))
        learner = build_learner(plan, opened, options)
        use_threads(learner.size())
        with _logged(folder, plan, begun, learner, options) as log:
            record = _carry_out(plan, opened, learner, accelerator, begun, folder, options, log)
            record.write(folder / RECORD)
            (folder / "checkpoint" / STATE).unlink(missing_ok=True)
    return Made(record, folder, True)


def _changed(record: RunRecord, plan: Plan, options: Options) -> list[str]:
    """Name what a finished run read that is no longer the same, as far as that is seen without opening images."""
    now = files_of(plan, open_task(plan, options), options)
    return changes({name: content for name, content in record.inputs.items() if name in now}, now)


def _carry_out(
    plan: Plan,
    opened: Opened,
    learner: Learner,
    accelerator: Accelerator,
    begun: Begun,
    folder: Path,
    options: Options,
    log: RunLog,
) -> RunRecord:
    """Train, answer, score, and put it all down."""
    recipe = plan.recipe
    trained, flops = _train(plan, opened, learner, accelerator, folder, options, log)
    hashed = checkpoint.save_weights(learner, folder / WEIGHTS) if trained.steps else ""
    scores: dict[str, Scores] = {}
    answers: dict[str, str] = {}
    asked: list[Asked] = []
    of_main: Mapping[str, Answer] = {}
    asking = Asking(opened, learner, accelerator, recipe.evaluate_batch, options.progress)
    for split in recipe.evaluate_splits:
        asked.append(asking.ask(split))
        given = in_words(asked[-1], opened.words)
        answers[split] = write_answers(opened, asked[-1], given, split, folder, recipe.scorer)
        if opened.task.split(split).public:
            of_main = of_main or given
            with own_code(plan.task.path):
                scores[split] = opened.task.score(given, split, recipe.scorer)
        log({"event": "note", "text": f"{split}: {len(asked[-1].given)} examples answered"})
    return RunRecord(
        id=folder.name,
        kind="finetune" if trained.steps else "evaluate",
        method=plan.model.id,
        task=plan.task.id,
        dataset=plan.dataset.id,
        suite=plan.suite.id,
        size=recipe.size,
        seed=recipe.seed,
        basis=basis_of(plan, trained, len(_training_examples(plan, opened)), options),
        recipe=recipe,
        origins=plan.origins,
        inputs=begun.inputs,
        code=begun.code,
        note="; ".join(filter(None, (_note(begun), opened.note))),
        machine=describe(accelerator),
        started=begun.started,
        seconds=round(trained.seconds + sum(one.seconds for one in asked), 3),
        steps=trained.steps,
        examples_seen=trained.examples,
        parameters=learner.size(),
        throughput=_throughput(trained, asked, flops, accelerator),
        scores=scores,
        controls=score_controls(recipe, asking, scores, of_main),
        answers=answers,
        checkpoint=WEIGHTS if trained.steps else "",
        weights=hashed,
    ).sealed()


def _training_examples(plan: Plan, opened: Opened) -> list[Example]:
    return [e for split in plan.recipe.train_splits for e in opened.examples.get(split, [])]


def _train(
    plan: Plan,
    opened: Opened,
    learner: Learner,
    accelerator: Accelerator,
    folder: Path,
    options: Options,
    log: RunLog,
) -> tuple[Trained, float | None]:
    recipe, examples = plan.recipe, _training_examples(plan, opened) if trains(plan) else []
    steps = planned_steps(recipe, len(examples))
    if not steps:
        learner.to(accelerator.device)
        return Trained(0, 0, 0.0, 0.0, 0.0), None
    if opened.task.form in ("classify", "compare") and not opened.task.answers:
        raise Fault(f"{plan.task.id} on {plan.dataset.id} has no answer list to train on")
    share = Share(accelerator.process_index, accelerator.num_processes)
    feed = Feed(examples, opened.learning, recipe, share=share)
    if worth_compiling(recipe.compile, accelerator, learner.size()):
        learner.compile_encoder()
    with _interruptible() as keep_going:
        trained = train(
            learner,
            feed,
            recipe,
            steps=steps,
            accelerator=accelerator,
            log=log,
            folder=make_folder(folder / "checkpoint"),
            progress=options.progress,
            keep_going=keep_going,
        )
    part = feed.parts(0)[0]
    return trained, _flops(learner, send_to_device(part, accelerator.device), accelerator)


def _flops(learner: Learner, batch: Batch, accelerator: Accelerator) -> float | None:
    """Count FLOPs in the precision of training; None where what training left of the memory is too little for it."""
    try:
        with accelerator.autocast():
            return flops_per_sample(learner, batch)
    except torch.OutOfMemoryError:
        return None


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a wish to stop at the end of the step; a second one stops at once."""
    wishes: list[int] = []

    def wish(number: int, frame: Any) -> None:
        wishes.append(number)
        if len(wishes) > 1:
            raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGINT, wish)
    except ValueError:  # not in the main thread: whoever runs us there stops us in their own way
        yield lambda: True
        return
    try:
        yield lambda: not wishes
    finally:
        signal.signal(signal.SIGINT, before)


def _throughput(trained: Trained, asked: Sequence[Asked], flops: float | None, accelerator: Accelerator) -> Throughput:
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


def _note(begun: Begun) -> str:
    """Say so where a run was begun by one version of the code and ended by another."""
    now = this_code()
    return "" if now == begun.code else f"begun by another state of the code; ended by {now.commit or now.version}"


def basis_of(plan: Plan, trained: Trained, examples: int, options: Options) -> Basis:
    """Say what a number rests on, computed from start, steps and data share against the card."""
    recipe, start = plan.recipe, plan.recipe.start
    if recipe.limit:
        return "smoke"
    if not trained.steps:
        if start.startswith("run:") and (earlier := finished(find_run(start.removeprefix("run:"), options.out))):
            return earlier.basis
        return "published weights" if from_published(plan) else "reduced"
    if trained.examples < examples:
        return "smoke"
    layers = finetuning(plan.model, plan.task, plan.dataset.id, recipe.size)
    asked = resolve([("card", layer) for layer in [*layers, {"model": recipe.model, "task": recipe.task}]])
    values, wanted = recipe.model_dump(mode="json"), asked[0].model_dump(mode="json")
    own = f"{plan.task.id}/{plan.dataset.id}" in plan.model.finetune
    as_published = own and all(values[key] == wanted[key] for key, where in asked[1].items() if where == "card")
    return "paper recipe" if as_published and from_published(plan) else "reduced"


@contextmanager
def _logged(folder: Path, plan: Plan, begun: Begun, learner: Learner, options: Options) -> Iterator[RunLog]:
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
        ended = {"status": "stopped", "message": "stopped by Ctrl-C"}
        raise Fault("stopped", "the same command goes on where it stopped") from None
    except Exception as error:
        ended["message"] = as_fault(error).wrong
        raise
    finally:
        with suppress(Fault):  # a disk too full for this line has made itself known already
            log({"event": "end", **ended})
        if mirror:
            options.say(mirror.finish(60))


def _start_event(plan: Plan, begun: Begun, learner: Learner, folder: Path) -> dict[str, object]:
    return {
        "event": "start",
        "kind": "finetune" if trains(plan) else "evaluate",
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

"""One run, from names to record: the only place where all parts meet."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device

from vlbench.data.batches import Feed, Share, in_order
from vlbench.data.words import Words
from vlbench.engine import checkpoint
from vlbench.engine.devices import describe, open_device, seed_everything, use_threads, worth_compiling
from vlbench.engine.evaluate import Asked, ask
from vlbench.engine.meter import flops_per_sample, peak_memory
from vlbench.engine.train import STATE, Trained, planned_steps, train
from vlbench.learner import Learner
from vlbench.paths import make_folder, replacing
from vlbench.plan import Plan, finetuning, from_published, trains
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
from vlbench.tasks.base import Task
from vlbench.tracking import RunLog, start_mirror, store_uri
from vlbench.types import Answer, Batch, Example, Fault, Given, Progress, Tokens, Vectors, as_fault

IMAGES_SHUFFLED, TEXTS_SHUFFLED = "image-shuffled", "text-shuffled"


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
    for split in recipe.evaluate_splits:
        asked.append(_ask(opened, learner, split, accelerator, recipe.evaluate_batch, options.progress))
        given = in_words(asked[-1], opened.words)
        answers[split] = _write_answers(opened, asked[-1], given, split, folder, recipe.scorer)
        if opened.task.split(split).public:
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
        note=_note(begun),
        machine=describe(accelerator),
        started=begun.started,
        seconds=round(trained.seconds + sum(one.seconds for one in asked), 3),
        steps=trained.steps,
        examples_seen=trained.examples,
        parameters=learner.size(),
        throughput=_throughput(trained, asked, flops, accelerator),
        scores=scores,
        controls=_controls(plan, opened, learner, accelerator, options, scores),
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


def _ask(
    opened: Opened,
    learner: Learner,
    split: str,
    accelerator: Accelerator,
    size: int,
    progress: Progress,
    instead: Callable[[Example], Example] | None = None,
) -> Asked:
    """Ask every example of a split, then what the task asks on the strength of the answers (retrieval's best pairs).

    ``instead`` says what to ask in place of an example.
    """
    share = Share(accelerator.process_index, accelerator.num_processes)

    def put(examples: Sequence[Example], what: str) -> Asked:
        shown = examples if instead is None else [instead(example) for example in examples]
        batches = in_order(shown, opened.collate, size, share=share)
        return ask(learner, batches, total=len(shown), accelerator=accelerator, progress=progress, what=what)

    first = put(opened.examples[split], split)
    more = opened.task.follow_up(in_words(first, opened.words))
    if not more:
        return first
    second = put(more, f"{split}, second round")
    # the embeddings of round one are what is ranked by; those of millions of pairs would fill the memory
    fused = {name: given._replace(answer=Vectors(None, None)) for name, given in second.given.items()}
    seconds = first.seconds + second.seconds
    return Asked(first.given | fused, seconds, (len(first.given) + len(fused)) / max(seconds, 1e-9))


def in_words(asked: Asked, words: Words) -> dict[str, Answer]:
    """Return the answers as a task takes them: written word pieces as a text, matching with how sure it is."""
    return {name: _in_words(given, words) for name, given in asked.given.items()}


def _in_words(given: Given, words: Words) -> Answer:
    if isinstance(given.answer, Tokens):
        return words.decode(given.answer.ids)
    if isinstance(given.answer, Vectors):
        return given.answer._replace(match=given.probability)
    return given.answer


def _write_answers(
    opened: Opened, asked: Asked, given: Mapping[str, Answer], split: str, folder: Path, scorer: str
) -> str:
    """Write the official answer file and the samples table; return the former's name."""
    task = opened.task
    name = f"answers-{split}.{task.answers_suffix}"
    with replacing(folder / name) as part:
        part.write_bytes(task.answers_content(given, split))
    scores = task.each(given, split, scorer) if task.split(split).public else {}
    rows = [
        {
            "id": example.id,
            "text": " | ".join(example.texts),
            "images": " ".join(example.images),
            "answer": task.shown(given[example.id]),
            "expected": task.shown(task.weights(example) or example.answer),
            "score": scores.get(example.id),
            "probability": asked.given[example.id].probability,
        }
        for example in opened.examples[split]
    ]
    write_samples(rows, folder / f"samples-{split}.parquet")
    return name


def write_samples(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write one row an example, for looking at errors."""
    import pyarrow
    from pyarrow import parquet

    with replacing(path) as part:
        parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows]), part)


def _controls(
    plan: Plan,
    opened: Opened,
    learner: Learner,
    accelerator: Accelerator,
    options: Options,
    scores: Mapping[str, Scores],
) -> Scores:
    """Score what needs no image, and the model with images or texts of other examples: the main metric."""
    if not scores:
        return {}
    split, wanted = next(iter(scores)), plan.recipe.controls
    examples = {example.id for example in opened.examples[split]}
    shuffles = shuffled(opened.task, opened.examples[split])
    counted = opened.task.controls(split, plan.recipe.train_splits) if set(wanted) - shuffles.keys() else {}
    given: dict[str, Mapping[str, Answer]] = {
        name: {i: a for i, a in answers.items() if i in examples} for name, answers in counted.items() if name in wanted
    }
    for name in [name for name in shuffles if name in wanted]:
        asked = _ask(opened, learner, split, accelerator, plan.recipe.evaluate_batch, options.progress, shuffles[name])
        given[name] = in_words(asked, opened.words)
    metric = next(iter(scores[split]))
    return {name: opened.task.score(found, split, plan.recipe.scorer)[metric] for name, found in given.items()}


def shuffled(task: Task, examples: Sequence[Example]) -> dict[str, Callable[[Example], Example]]:
    """Return by name what to ask in place of an example: its images, or its text, belong to another one; seeded.

    Texts are exchanged only where any may be asked of any image: a sentence to be judged, an expression to be found.
    A question among others has answers of its own kind, so that a wrong one would be no baseline.
    """
    images = _exchanged([example.images for example in examples])
    found: dict[str, Callable[[Example], Example]] = {
        IMAGES_SHUFFLED: lambda example: replace(example, images=images[example.images])
    }
    if task.form in ("compare", "point") or (task.form == "classify" and not task.told):
        texts = _exchanged([example.texts for example in examples])
        found[TEXTS_SHUFFLED] = lambda example: replace(example, texts=texts[example.texts])
    return found


def _exchanged(values: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Choose for each of some values another one, for all that share it the same; seeded."""
    known = list(dict.fromkeys(values))
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(0)).tolist()
    return {known[here]: known[there] for here, there in zip(order, [*order[1:], order[0]], strict=True)}


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

"""One run, from names to record: the only place where all parts meet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from accelerate import Accelerator

from vlbench.answering import Asking, in_words, write_answers
from vlbench.building import build_learner
from vlbench.controls import score_controls
from vlbench.data.batches import Feed, Share
from vlbench.engine import checkpoint
from vlbench.engine.evaluate import Asked
from vlbench.engine.train import Trained, planned_steps
from vlbench.learner import Learner
from vlbench.plan import Plan, finetuning, from_published, trains
from vlbench.plugins import own_code
from vlbench.prepare import Opened, Options, files_of, inputs_of, open_data, open_task
from vlbench.recipe import resolve
from vlbench.record import Basis, RunRecord, Scores
from vlbench.runfolder import WEIGHTS, Begun, changes, find_run, finished
from vlbench.session import Made, Work, facts, note, once, throughput, train_on
from vlbench.types import Answer, Example, Fault, Log


def run(plan: Plan, options: Options) -> Made:
    """Train (if the recipe says so) and evaluate one method on one task; go on where an earlier run stopped."""

    def prepare(folder: Path, accelerator: Accelerator) -> Work:
        opened = open_data(plan, options, folder)
        inputs = inputs_of(plan, opened, options)
        learner = build_learner(plan, opened, options)
        parts = (plan, opened, learner, accelerator)
        return Work(inputs, learner, lambda begun, log: _carry_out(*parts, begun, folder, options, log))

    return once(plan, options, lambda record: _changed(record, plan, options), prepare)


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
    log: Log,
) -> RunRecord:
    """Train, answer, score, and put it all down."""
    recipe = plan.recipe
    trained, flops = _train(plan, opened, learner, accelerator, folder, options, log)
    hashed = checkpoint.save_weights(learner, folder / WEIGHTS) if trained.steps else ""
    scores: dict[str, Scores] = {}
    answers: dict[str, str] = {}
    asked: list[Asked] = []
    of_main: Mapping[str, Answer] = {}
    asking = Asking.of(recipe, opened, learner, accelerator, options.progress)
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
        **facts(plan, folder, begun, learner, trained, accelerator),
        kind="finetune" if trained.steps else "evaluate",
        basis=basis_of(plan, trained, len(_training_examples(plan, opened)), options),
        note="; ".join(filter(None, (note(begun), opened.note))),
        seconds=round(trained.seconds + sum(one.seconds for one in asked), 3),
        throughput=throughput(trained, asked, flops, accelerator),
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
    log: Log,
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
    return train_on(feed, steps, plan, learner, accelerator, folder, options, log)


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
    own = f"{plan.task.id}/{plan.dataset.id}" in plan.model.finetune and not recipe.adversary
    as_published = own and all(values[key] == wanted[key] for key, where in asked[1].items() if where == "card")
    return "paper recipe" if as_published and from_published(plan) else "reduced"

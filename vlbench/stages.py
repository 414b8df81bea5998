"""What pre-training will do: a method's stages, each on corpora, as its card and a suite say. No torch here.

A stage is planned as any run is, with a task that asks nothing and a data set that is its corpora, so that recipes,
folders, records and starts are those of all runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlbench.cards import DatasetCard, ModelCard, TaskCard
from vlbench.catalog import corpus_name, find, find_suite, lineage
from vlbench.plan import PRETRAINING, Plan, find_model, origin
from vlbench.recipe import Layer, resolve
from vlbench.types import Misuse, nearest

_NONE = "from the first step it is trained on the task"


def plan_stage(
    method: str,
    stage: str,
    *,
    suite: str = "quick",
    typed: Mapping[str, Any] | None = None,
    usual: Mapping[str, Any] | None = None,
) -> Plan:
    """Resolve one stage of a method's pre-training; Misuse for a wrong name, or where there is no such stage.

    ``usual``: values that hold where the suite says nothing else, such as the seed of the run that begins from it.
    """
    typed = dict(typed or {})
    model, suite_card = find_model(method), find_suite(suite)
    values = _stage(model, stage)
    variant = suite_card.variants.get(str(typed.pop("variant", "")))
    names = {"model": method, "task": PRETRAINING, "suite": suite_card.id, "stage": stage}
    here, there = origin(model.path), origin(suite_card.path)
    layers: list[Layer] = [
        ("pre-training", {"start": "scratch", "evaluate_splits": (), "controls": ()}),
        (here, values),
    ]
    layers += [("the run", usual or {})]
    layers += [
        (origin(card.path), card.pretrain.get(name, {}))
        for name in _groups(model.id, stage)
        for card in lineage(suite_card)
    ]
    layers += [(there, variant.pretrain)] if variant else []
    recipe, origins = resolve([*layers, ("typed", {**typed, **names})])
    if recipe.size not in model.sizes:
        known = nearest(recipe.size, list(model.sizes))
        raise Misuse(f"{model.id} has no size '{recipe.size}'; {known}", f"see: vlbench show {model.id}")
    if not recipe.corpora:
        raise Misuse(f"no corpus is named to pre-train {model.id} on", "name some: --set corpora=world")
    objectives = sorted(values.get("losses", ()))
    for name in recipe.losses:
        if objectives and name not in objectives:
            what = f"the stage {stage} of {model.id}" if stage else model.id
            others = [one for one in model.stages() if one and name in model.pretraining(one).get("losses", ())]
            todo = f"it is one of another stage: --stage {others[0]}" if others else "as in: --set losses=a:1,b:0.5"
            raise Misuse(f"{what} has no objective '{name}'; {nearest(name, objectives)}", todo)
    recipe = recipe.model_copy(update={"dataset": "+".join(map(corpus_name, recipe.corpora))})
    changed = model.with_changes(recipe.size, recipe.changes)
    return Plan(changed, _task(model, stage), _dataset(recipe.dataset), suite_card, recipe, origins)


def stages_of(method: str, typed: Sequence[str] = ()) -> list[str]:
    """List the stages of a method's pre-training in order; those that are typed, where some are."""
    model = find_model(method)
    if not typed:
        return model.stages()
    for name in typed:
        _stage(model, name)
    return list(typed)


def unpublished(model: ModelCard, stages: Sequence[str], size: str, data: Path) -> list[str]:
    """Leave out stages that make a part whose published file is here, as the next takes that (an image tokeniser)."""
    there = {part.name for part in model.part if part.size == size and (data / part.file).is_file()}
    return [stage for stage in stages if stage not in there]


def _groups(method: str, stage: str) -> list[str]:
    return ["all", method, *([f"{method}/{stage}"] if stage else [])]


def _stage(model: ModelCard, stage: str) -> dict[str, Any]:
    if not model.pretrain and not model.path.endswith(".py"):
        raise Misuse(f"{model.id} has no image-text pre-training: {_NONE}", f"see: vlbench show {model.id}")
    try:
        return model.pretraining(stage)
    except KeyError:
        known = [str(one["name"]) for one in model.pretrain.get("stage", ())]
        if not known:
            raise Misuse(f"the pre-training of {model.id} has one stage, without a name", "leave --stage out") from None
        close = nearest(stage, known)
        raise Misuse(f"{model.id} has no stage '{stage}'; {close}", f"see: vlbench show {model.id}") from None


def _task(model: ModelCard, stage: str) -> TaskCard:
    """Make the card of a task that asks nothing; what the model is built for is that of the stage's one task."""
    only = next((one.get("only_for", "") for one in model.pretrain.get("stage", ()) if one["name"] == stage), "")
    form = find(TaskCard, only).form if only else "match"
    return TaskCard(
        id=PRETRAINING, name="pre-training", code="", form=form, metric="", about="", datasets=(), texts="captions"
    )  # fmt: skip


def _dataset(name: str) -> DatasetCard:
    return DatasetCard(id=name, name=name, about="corpora", home="", licence="", layout="", scorer="", splits={})

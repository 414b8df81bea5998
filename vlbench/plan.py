"""From what was typed to what will be done: names to cards, cards to a recipe, a recipe to its folder.

Nothing here imports torch: ``show``, ``--dry-run`` and the check of names answer at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vlbench.cards import Checkpoint, DatasetCard, ModelCard, Paper, Split, SuiteCard, TaskCard
from vlbench.catalog import card_names, cards, find, find_dataset, find_suite, known_parameters, lineage
from vlbench.paths import card_folder
from vlbench.recipe import Layer, Recipe, resolve
from vlbench.types import Misuse, WrongStart, nearest


class Plan(NamedTuple):
    """One run: its cards, its recipe, and where each value of the recipe came from."""

    model: ModelCard
    task: TaskCard
    dataset: DatasetCard
    suite: SuiteCard
    recipe: Recipe
    origins: dict[str, str]

    @property
    def title(self) -> str:
        """Name the run for people."""
        data = self.dataset.name
        of_several = len(self.task.datasets) > 1 or data.casefold() != self.task.name.casefold()
        asked = f"{self.task.id} ({data})" if of_several else self.task.id
        which = f", {self.recipe.variant}" if self.recipe.variant else ""
        return f"{self.model.name} on {asked}{which}, seed {self.recipe.seed}"

    @property
    def tokeniser(self) -> str:
        """Name the vocabulary: the one asked for, else the method's if that is learned, else the data set's or its.

        The method's is that of its size where the size has one of its own, as METER's other text encoders do.

        ``train`` and ``whole-words`` learn one from the training texts.
        """
        own = _own_tokeniser(self.model, self.recipe.size)
        return self.recipe.tokeniser or (own if own == "whole-words" else self.dataset.tokeniser or own or "train")

    @property
    def folder_stem(self) -> Path:
        """Return data set / method: where runs of this pair lie below the runs folder."""
        return Path(self.dataset.id) / self.model.id


def _own_tokeniser(model: ModelCard, size: str) -> str:
    return str(model.sizes.get(size, {}).get("tokeniser", model.tokeniser))


def trains(plan: Plan) -> bool:
    """Say whether a plan trains, or only evaluates."""
    return bool(plan.recipe.steps or plan.recipe.epochs)


def finetuning(model: ModelCard, task: TaskCard, dataset: str, size: str) -> list[dict[str, Any]]:
    """List a method's recipes for a task, later wins: of a task it is like, its own, the data set's; each by size.

    ``[finetune.TASK]``, ``[finetune."TASK@SIZE"]``, ``[finetune."TASK/DATASET"]``, ``[finetune."TASK/DATASET@SIZE"]``.
    """
    names = [*([task.like] if task.like else []), task.id, f"{task.id}/{dataset}"]
    return [model.finetune[key] for name in names for key in (name, f"{name}@{size}") if key in model.finetune]


def from_published(plan: Plan) -> bool:
    """Say whether a plan begins from an official checkpoint: ``published``, or one by its name on the card."""
    return _is_published(plan.model, plan.recipe.start)


def published_checkpoint(plan: Plan) -> Checkpoint | None:
    """Choose the official checkpoint a run starts from; None where there is none of this size.

    Training begins from the pre-trained one, or from that of a stage meant for the task; answers without training
    come from the one that was fine-tuned for the task, on this data set if there is one for it.
    """
    known = [c for c in plan.model.checkpoint if c.size == plan.recipe.size]
    if plan.recipe.start != "published":
        return next((c for c in known if c.name == plan.recipe.start), None)
    tasks = [plan.task.id, *([plan.task.like] if plan.task.like else [])]
    pretrained = [c for c in known if not c.task]
    stages = [c for c in known if c.task in tasks and c.begins]
    tuned = sorted(
        (c for c in known if c.task in tasks and not c.begins),
        key=lambda c: (c.dataset != plan.dataset.id, c.dataset != ""),
    )
    ordered = [*stages, *pretrained, *tuned] if trains(plan) else [*tuned, *stages, *pretrained]
    return next(iter(ordered), None)


PRETRAINED = "pretrained"
"""The start of a run that goes on from the suite's own pre-training of its method."""
PRETRAINING = "pretraining"
"""The task that asks nothing: of the stages of pre-training."""


def answer_list_of(plan: Plan, data: Path) -> Path | None:
    """Name the file of the closed answers a starting checkpoint was fine-tuned on; None where it was on none.

    The card's, or else beside the checkpoint under its name with ``.answers.json``.
    """
    start = plan.recipe.start
    if start == "scratch" or start.startswith("run:"):
        return None
    if not from_published(plan):
        return Path(f"{start}.answers.json")
    found = published_checkpoint(plan)
    if found is None or found.task != plan.task.id:
        return None
    return data / (found.answers or f"{found.file}.answers.json")


ANSWER_LIST = (
    "the checkpoint's answers in the order of its numbers, from its authors' preparation of the data: a JSON list, "
    "an object answer -> number, or lines of answer and label"
)


def where_to_get(checkpoint: Checkpoint, data: Path, method: str) -> str:
    """Say where an official checkpoint belongs, where it is from, and how large it is, as far as that is known."""
    count = known_parameters(method, checkpoint.size)
    size = "size not stated by its authors"
    if checkpoint.bytes:
        size = f"{checkpoint.bytes / 1e6:,.0f} MB"
    elif count:
        size += f": {4 * count / 1e6:,.0f} MB of weights, or a multiple with what training left"
    return f"{data / checkpoint.file} (from {checkpoint.url}, {size})"


def find_model(name: str) -> ModelCard:
    """Find a method's card, or make one for a .py file that holds a Model."""
    if not name.endswith(".py"):
        return find(ModelCard, name)
    path = Path(name)
    if not path.is_file():
        raise Misuse(f"there is no file {name}", "write it, or see how: README, Add a method")
    unpublished = Paper(title="unpublished", authors="", year=0, url="")
    return ModelCard(
        id=path.stem.replace("_", "-"), path=name, name=path.stem, code=name, paper=unpublished,
        about="a model of your own", sees="regions", tokeniser="", sizes={"mini": {}, "base": {}},
    )  # fmt: skip


def find_task(name: str) -> TaskCard:
    """Find a task's card, or make one for a .py file that holds a Task."""
    if not name.endswith(".py"):
        return find(TaskCard, name)
    path = Path(name)
    if not path.is_file():
        raise Misuse(f"there is no file {name}", "write it, or see how: README, Add a task")
    stem = path.stem.replace("_", "-")
    return TaskCard(
        id=stem, path=name, name=path.stem, code=name, form="classify", metric="accuracy",
        about="a task of your own", datasets=(stem,),
    )  # fmt: skip


def _find_dataset(task: TaskCard, typed: str, suite: SuiteCard) -> DatasetCard:
    name = typed or suite.datasets.get(task.id, "") or task.datasets[0]
    if task.code.endswith(".py") and name not in card_names(DatasetCard):
        return _own_dataset(name, task)
    if name not in task.datasets and not task.code.endswith(".py"):
        raise Misuse(f"{task.id} has no data set '{name}'; {nearest(name, task.datasets)}")
    return find_dataset(name, task.id)


def _own_dataset(name: str, task: TaskCard) -> DatasetCard:
    """Make a card for the data of a task that is one file: it lies in the data folder itself."""
    return DatasetCard(
        id=name, path=task.path, name=name, about="data of your own", home=task.path, licence="your own",
        layout="", scorer="own", tokeniser="train", splits={s: Split() for s in ("train", "val", "test")},
    )  # fmt: skip


def plan(
    method: str,
    task: str,
    *,
    suite: str = "quick",
    typed: Mapping[str, Any] | None = None,
    earlier: Layer | None = None,
) -> Plan:
    """Resolve one run; ``typed`` are recipe values from the command line. Raises Misuse for a wrong name.

    ``earlier``: what a run that this one starts from says of it where nothing is typed (``built_as``).
    """
    typed = dict(typed or {})
    task, typed = _task_of(task, typed)
    model_card, task_card, suite_card = find_model(method), find_task(task), find_suite(suite)
    dataset_card = _find_dataset(task_card, str(typed.get("dataset", "")), suite_card)
    names = {"model": method, "task": task, "dataset": dataset_card.id, "suite": suite_card.id}
    asked, model_file = [task_card.id, dataset_card.id], origin(model_card.path)
    layers: list[Layer] = [(origin(dataset_card.path), dataset_card.recipe)]
    budget = _budget(suite_card, model_card.id, asked)
    if variant := suite_card.variants.get(str(typed.get("variant", ""))):
        budget.append((origin(suite_card.path), variant.run))
        if variant.run.get("steps") == 0:  # it only asks; what is typed is the budget of the run that it asks
            typed = {key: value for key, value in typed.items() if key not in ("steps", "epochs")}
    budget += _size_of_start(model_card, typed, _last("size", budget))
    budget += [earlier] if earlier else []
    size, start = (_last(key, [*budget, ("typed", typed)]) for key in ("size", "start"))
    budget += _words_of_start(model_card, dataset_card, start, size)
    budget.append(("typed", {**typed, **names}))
    layers += [(model_file, layer) for layer in finetuning(model_card, task_card, dataset_card.id, size)]
    recipe, origins = resolve([*layers, *budget])
    if recipe.size not in model_card.sizes:
        known = nearest(recipe.size, list(model_card.sizes))
        raise Misuse(f"{model_card.id} has no size '{recipe.size}'; {known}", f"see: vlbench show {model_card.id}")
    model_card = model_card.with_changes(recipe.size, recipe.changes)
    return Plan(model_card, task_card, dataset_card, suite_card, recipe, origins)


def _budget(suite: SuiteCard, method: str, asked: Sequence[str]) -> list[Layer]:
    """List what a suite, after the one it is like, says of a pair: of all, the task, the method, the pair itself."""
    groups: list[Callable[[SuiteCard], list[Mapping[str, Any]]]] = [
        lambda card: [card.all],
        lambda card: [card.tasks.get(name, {}) for name in asked],
        lambda card: [card.methods.get(method, {})],
        lambda card: [card.pairs.get(f"{method}/{name}", {}) for name in asked],
    ]
    return [(origin(card.path), values) for group in groups for card in lineage(suite) for values in group(card)]


def _last(key: str, layers: Sequence[Layer]) -> str:
    """Return what the last of some layers says of a key; the default where none does."""
    return next((str(layer[key]) for _, layer in reversed(layers) if key in layer), Recipe.model_fields[key].default)


def _size_of_start(model: ModelCard, typed: Mapping[str, Any], usual: str) -> list[Layer]:
    """Take the size of the checkpoint that was named as the start, where no size was typed; refuse another one."""
    start, asked = str(typed.get("start", "")), str(typed.get("size", ""))
    sizes = [c.size for c in model.checkpoint if c.name == start]
    if not sizes or (asked or usual) in sizes:
        return []
    if not asked:
        return [(f"the checkpoint {start}", {"size": "base" if "base" in sizes else sizes[0]})]
    if start == "published":  # a word for all of the published weights, whatever they are called
        return []
    raise WrongStart(
        f"the checkpoint '{start}' of {model.id} is of size {' or '.join(sizes)}, but --size {asked} was typed",
        f"leave --size out, or type --size {sizes[0]}",
    )


def _words_of_start(model: ModelCard, dataset: DatasetCard, start: str, size: str) -> list[Layer]:
    """Take the method's own vocabulary for published weights: of one learned from a data set they know no word."""
    own = _own_tokeniser(model, size)
    if not dataset.tokeniser or own in ("", "whole-words") or not _is_published(model, start):
        return []
    return [(f"the checkpoint {start}", {"tokeniser": own})]


def _is_published(model: ModelCard, start: str) -> bool:
    return start == "published" or any(start == checkpoint.name for checkpoint in model.checkpoint)


def means_published(start: str, methods: str) -> bool:
    """Say whether a start is published weights of one of the methods, by that word or by a checkpoint's name."""
    return any(_is_published(find_model(name), start) for name in names_of(methods, card_names(ModelCard)))


def _task_of(name: str, typed: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Take a data set's name for its task, where it is of one only: ``vqa-v2`` is ``vqa --dataset vqa-v2``."""
    if name in card_names(TaskCard) or name not in card_names(DatasetCard):
        return name, typed
    tasks = [card.id for card in cards(TaskCard) if name in card.datasets]
    if len(tasks) != 1:
        raise Misuse(f"'{name}' is a data set of {len(tasks)} tasks", f"name the task: {', '.join(tasks)}")
    return tasks[0], {**typed, "dataset": name}


def origin(path: str) -> str:
    """Name a card's file as in the repository, wherever it is installed."""
    root = card_folder("registry").parent
    place = Path(path)
    return place.relative_to(root).as_posix() if place.is_relative_to(root) else place.name


def names_of(typed: str, known: Sequence[str]) -> list[str]:
    """Read METHODS or TASKS: a name, a comma list, or ``all``."""
    names = list(known) if typed == "all" else [part.strip() for part in typed.split(",") if part.strip()]
    if not names:
        raise Misuse(f"'{typed}' names nothing", f"write all, or one or several of: {', '.join(known)}")
    return names


def recipe_text(recipe: Recipe, origins: Mapping[str, str]) -> str:
    """Write a recipe as TOML, the origin of each value behind it."""
    lines = []
    for key, value in recipe.model_dump(mode="json").items():
        lines.append(f"{key} = {json.dumps(value)}  # {origins.get(key, 'default')}")
    return "\n".join(lines) + "\n"

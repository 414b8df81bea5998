"""Whether a plan can be: pairs, starts and attacks that cannot are refused before anything is read."""

from __future__ import annotations

from vlbench.catalog import known_forms
from vlbench.plan import PRETRAINED, Plan, finetuning, from_published, published_checkpoint, trains
from vlbench.types import Impossible, Misuse

_NEEDS_TUNING = ("classify", "compare", "choose", "point")
"""The forms whose heads no pre-training makes; matching and writing can be done without fine-tuning (zero-shot)."""


def check_form(plan: Plan) -> None:
    """Refuse a task whose form of answer the method has no head for at this size."""
    method, task, size = plan.model.id, plan.task, plan.recipe.size
    forms = known_forms(method, size)
    if forms and task.form not in forms:
        others = [name for name in plan.model.sizes if task.form in known_forms(method, name)]
        raise Impossible(
            f"{method} at size {size} has no head of the form '{task.form}', so it cannot answer {task.id}; "
            f"it can: {', '.join(forms)}",
            f"another size can: --size {others[0]}" if others else "see: vlbench list methods",
        )


def check_possible(plan: Plan) -> None:
    """Refuse, before anything is read, a form the method has no head for and a start that cannot answer or begin it."""
    method, task, size = plan.model.id, plan.task, plan.recipe.size
    check_form(plan)
    check_attack(plan)
    if plan.recipe.start == PRETRAINED and not plan.model.pretrain:
        raise Impossible(
            f"{method} has no image-text pre-training: from the first step it is trained on the task",
            f"train from scratch: vlbench run {method} {task.id} --start scratch",
        )
    if not from_published(plan):
        return
    found = published_checkpoint(plan)
    if found is None:
        raise _unpublished(plan)
    if found.unfit:
        raise Impossible(
            f"no run can begin from the published weights of {method}: {found.unfit}",
            f"train from scratch: vlbench run {method} {task.id} --start scratch",
        )
    if not trains(plan) and found.task and found.task not in (task.id, task.like):
        raise Impossible(
            f"the checkpoint '{found.name}' of {method} was fine-tuned for {found.task}: it has no head for {task.id}",
            f"see: vlbench show {method}",
        )
    if not trains(plan) and not found.task and task.form in _NEEDS_TUNING:
        raise Impossible(
            f"the published weights of {method} at size {size} are pre-trained only: they have no head for {task.id}",
            f"fine-tune first: vlbench run {method} {task.id} --suite paper",
        )


def check_attack(plan: Plan) -> None:
    """Refuse an attack on training, on answers that have no loss of a right one, and on a split without any."""
    if not plan.recipe.attack:
        return
    if trains(plan):
        raise Misuse(
            f"attack={plan.recipe.attack} is of an evaluation, and this run trains",
            "train first, then: vlbench evaluate METHOD TASK --start run:ID --set attack=...; "
            "to train against one: --set adversary=villa",
        )
    if plan.task.form in ("match", "write"):
        raise Impossible(
            f"{plan.task.id} cannot be attacked: what is asked of an example there has no loss of one right answer",
            "tasks whose answer is a label, a choice or a region can: vlbench list tasks",
        )
    hidden = [name for name in plan.recipe.evaluate_splits
              if name in plan.dataset.splits and not plan.dataset.splits[name].public]  # fmt: skip
    if hidden:
        raise Misuse(
            f"{plan.dataset.name} {hidden[0]} cannot be attacked: its answers are not public",
            "choose a split whose answers are: --split",
        )


def _unpublished(plan: Plan) -> Impossible:
    """Say that a method has no published weights of a size, and which sizes have some."""
    sizes = dict.fromkeys(c.size for c in plan.model.checkpoint if plan.recipe.start in ("published", c.name))
    others = [size for size in sizes if size != plan.recipe.size]
    of = f"of size {plan.recipe.size}" + (f" for {plan.task.id}" if plan.recipe.size in sizes else "")
    todo = "train from scratch with --start scratch"
    return Impossible(
        f"{plan.model.id} has no published checkpoint {of}",
        f"{todo}, or choose a size that has one: --size {', '.join(others)}" if others else todo,
    )


def trained_on(plan: Plan) -> list[str]:
    """Name the splits to answer that the method's own fine-tuning trained on: published weights have seen them."""
    found = published_checkpoint(plan) if from_published(plan) and not trains(plan) else None
    if found is None or not found.task:
        return []
    learned = plan.dataset.recipe.get("train_splits", [])
    for own in finetuning(plan.model, plan.task, plan.dataset.id, plan.recipe.size):
        learned = own.get("train_splits", learned)
    whole = {plan.dataset.splits[name].of or name for name in learned if name in plan.dataset.splits}
    return [s for s in plan.recipe.evaluate_splits if s in learned or (s in whole and s not in ("test", "test-dev"))]


def other_data(plan: Plan) -> str:
    """Name the data set a published checkpoint was fine-tuned on, where that is not the one it is asked on."""
    found = published_checkpoint(plan) if from_published(plan) and not trains(plan) else None
    return found.dataset if found and found.dataset not in ("", plan.dataset.id) else ""

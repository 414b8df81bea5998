"""What a stage of pre-training would do (``--dry-run``): budget, time, memory, missing files; changes nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlbench.cards import CorpusCard
from vlbench.catalog import find_corpus
from vlbench.corpora.opening import image_folders, texts_of
from vlbench.made import made_folder, placed, time_to_make
from vlbench.plan import Plan
from vlbench.preview import missing_checkpoint, missing_words, recorded, size_in_words
from vlbench.record import RunRecord
from vlbench.report.overview import words
from vlbench.stages import unpublished
from vlbench.tasks.places import located
from vlbench.types import BadData
from vlbench.world.layout import MANIFEST


def preview_stage(plan: Plan, data: Path, out: Path, before: str = "") -> dict[str, Any]:
    """Describe a stage before it is made; ``missing`` lists what has to be put in place first.

    ``before``: the stage it will begin from, made by the same command.
    """
    recipe = plan.recipe
    cards = [find_corpus(name.partition("*")[0], data) for name in recipe.corpora]
    times = [int(name.partition("*")[2] or 1) for name in recipe.corpora]
    stages = plan.model.stages()
    first = recipe.start == "scratch" and not before and recipe.stage in stages  # others are of a task or a command
    earlier = stages[: stages.index(recipe.stage)] if first else []
    skipped = unpublished(plan.model, earlier, recipe.size, data)
    taken = [stage for stage in earlier if stage not in skipped]
    missing = [line for card in cards for line in _missing_corpus(plan, card, data)]
    if not any(card.made for card in cards):
        missing += missing_words(plan, data)
    sizes = dict.fromkeys(card.made for card in cards if card.made and not _is_made(card.made, data))
    unmade = [f"the made-up world is made (size {size}, {time_to_make(size)})" for size in sizes]
    examples = 0
    if all(card.examples for card in cards):
        whole = sum(c.examples * n for c, n in zip(cards, times, strict=True))
        examples = min(math.ceil(whole * (recipe.corpus_share or 1.0)), recipe.limit or whole)
    steps = recipe.steps or math.ceil(recipe.epochs * math.ceil(examples / recipe.batch))
    if not (recipe.steps or recipe.epochs):
        missing.append(f"a budget, which the suite {plan.suite.id} does not say: --set epochs=...")
    like = _like(plan, out)
    values = recipe.model_dump(mode="json")
    keys = ("corpora", "losses", "steps", "epochs", "batch", "rate", "size")
    return {
        "method": plan.model.id,
        "stage": recipe.stage,
        "seed": recipe.seed,
        **{key: values[key] for key in keys},
        "steps": steps,
        **({"changes": values["changes"]} if recipe.changes else {}),
        "start": f"the stage {before}" if before else recipe.start,
        **({"takes": f"the published {', '.join(taken)}"} if taken else {}),
        **({"without": f"the stages before it ({', '.join(skipped)}), as --stage leaves them out"} if skipped else {}),
        "examples": f"{examples:,}" if examples else "counted when the corpora are opened",
        "time": _time(like, steps * recipe.batch),
        "memory": size_in_words(like.throughput.peak_memory_bytes if like else None),
        "folder": str(out / plan.folder_stem),
        **({"first": ", ".join(unmade)} if unmade else {}),
        "missing": [*dict.fromkeys([*missing, *missing_checkpoint(plan, data, out)])],
    }


def shown(stage: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Write what ``preview_stage`` says for people: a name and a text a line, what is not said left out."""
    left_out = {"epochs"} if not stage["epochs"] else set()
    left_out |= {"steps"} if not stage["steps"] else set()
    lines: list[tuple[str, str]] = []
    for key, value in stage.items():
        if key == "changes":
            lines.append((key, ", ".join(f"{name} {words(number)}" for name, number in value.items())))
        elif isinstance(value, Mapping):
            lines.append((key, ", ".join(name if w == 1 else f"{name} x {words(w)}" for name, w in value.items())))
        elif key == "missing":
            lines += [(key, line) for line in value or ["nothing"]]
        elif key not in left_out and value != "":
            lines.append((key, f"{value:,}" if isinstance(value, int) else words(value)))
    return lines


def _is_made(size: str, data: Path) -> bool:
    return (made_folder(size, data) / MANIFEST).is_file()


def _missing_corpus(plan: Plan, card: CorpusCard, data: Path) -> list[str]:
    """List what a stage needs of a corpus and is not here: texts, and images or the features of their regions."""
    if card.made:
        if not _is_made(card.made, data):
            return []  # it is made first
        card = placed(card, data)
    try:
        lost = [str(path) for path in texts_of(card, data).values() if not path.exists()]
    except BadData as fault:
        lost = [fault.wrong]
    if card.layout in ("lines", "shards"):  # without images, or with the images in the same files
        return lost
    if plan.model.sees_at(plan.recipe.size) == "pixels":
        try:
            image_folders(card, data)
        except BadData as fault:
            lost.append(fault.wrong)
        return lost
    features = [located(data / card.folder, file.name) for file in card.file if file.role == "features"]
    if not features:
        lost.append(f"region features of {card.id}, whose card names none; {plan.model.id} sees regions")
    return lost + [
        str(path) if path.suffix == ".h5" else f"{path} (or {path.stem}.h5)"
        for path in features
        if not path.exists() and not path.with_suffix(".h5").exists()
    ]


def _like(plan: Plan, out: Path) -> RunRecord | None:
    """Find the newest recorded run of the same method, stage and size: its speed is a guess of ours."""
    wanted = (plan.model.id, plan.recipe.stage, plan.recipe.size)
    for record in recorded(plan, out):
        if record.kind == "pretrain" and (record.method, record.recipe.stage, record.size) == wanted:
            return record
    return None


def _time(like: RunRecord | None, examples: int) -> str:
    speed = like.throughput.train_samples_per_second if like else None
    if like is None or not speed:
        return "unknown: no run of this stage at this size is recorded yet"
    if not examples:
        return f"unknown before the examples are counted; {speed:,.0f} examples/s as {like.id}"
    machine = like.machine.cpu or like.machine.device
    return f"about {examples / speed / 60:.1f} minutes, as fast as {like.id} on {machine}"

"""What a run would do (``--dry-run``): steps, time, memory, disk and missing files; changes nothing, needs no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vlbench.cards import VARIANT, Checkpoint
from vlbench.made import placed, time_to_make
from vlbench.paths import card_folder
from vlbench.plan import (
    ANSWER_LIST,
    PRETRAINED,
    Plan,
    answer_list_of,
    from_published,
    published_checkpoint,
    trains,
    where_to_get,
)
from vlbench.plugins import load_code
from vlbench.recipe import Recipe
from vlbench.record import RunRecord, find_records, read_record
from vlbench.runfolder import find_run
from vlbench.tasks.base import Task
from vlbench.tasks.pictures import names_in
from vlbench.tasks.places import alternatives, first_here
from vlbench.tasks.reading import listed
from vlbench.types import BadData, Fault


def preview(plan: Plan, data: Path, out: Path) -> dict[str, Any]:
    """Describe a run before it is made; ``missing`` lists what has to be put in place first."""
    missing: list[str] = []
    plan = plan._replace(dataset=placed(plan.dataset, data))
    task: Task = load_code(plan.task.code, Task)(plan.dataset, data)
    training = sum(_count(task, split, missing) for split in plan.recipe.train_splits) if trains(plan) else 0
    asked = sum(_count(task, split, missing) for split in plan.recipe.evaluate_splits)
    missing = _missing_files(plan, task) or missing  # all that is not here, else what is wrong with what is
    size = plan.dataset.made
    unmade = bool(size) and not (data / plan.dataset.folder).is_dir()
    if unmade:
        missing = []
    limit = plan.recipe.limit
    training, asked = (min(n, limit) if limit else n for n in (training, asked))
    steps = plan.recipe.steps or math.ceil(plan.recipe.epochs * math.ceil(training / plan.recipe.batch))
    missing += [*missing_checkpoint(plan, data, out), *missing_words(plan, data)]
    missing += [] if unmade else _missing_images(plan, task)
    like = _like(plan, out, trains=trains(plan))
    return {
        "run": plan.title,
        "recipe": plan.recipe.digest(),
        "steps": steps if training or plan.recipe.steps or not trains(plan) else "unknown: nothing to train on is here",
        "examples": f"{training:,} to train on, {asked:,} to answer",
        "time": _time(like, steps * plan.recipe.batch, asked, plan.recipe),
        "memory": size_in_words(like.throughput.peak_memory_bytes if like else None),
        "disk": size_in_words(like.parameters * 16 if like else None),
        "folder": str(out / plan.folder_stem),
        **({"first": f"the made-up world is made (size {size}, {time_to_make(size)})"} if unmade else {}),
        "missing": missing,
    }


def _count(task: Task, split: str, missing: list[str]) -> int:
    try:
        return len(task.examples(split))
    except BadData as fault:
        missing.append(fault.wrong)
        return task.split(split).examples


def _missing_files(plan: Plan, task: Task) -> list[str]:
    """List annotation files; those the answer list and the controls are made from are needed to evaluate, too."""
    splits = [*plan.recipe.evaluate_splits, *plan.recipe.train_splits, *plan.dataset.answer_splits]
    paths = [path for split in dict.fromkeys(splits) for path in task.files(split).values()]
    return [str(path) for path in dict.fromkeys(paths) if not path.exists()]


def missing_checkpoint(plan: Plan, data: Path, out: Path) -> list[str]:
    """List what a run is to begin from and is not here."""
    start = plan.recipe.start
    if start in ("scratch", PRETRAINED) or start.startswith(VARIANT):
        return []
    if start.startswith("run:"):
        find_run(start.removeprefix("run:"), out)  # says so itself where there is none
        return []
    if not from_published(plan):
        return [] if Path(start).is_file() else [f"the checkpoint {start}"]
    found = published_checkpoint(plan)
    if found is None:
        return [f"{plan.model.id} has no published checkpoint of size {plan.recipe.size}; --start scratch"]
    lost = [] if (data / found.file).is_file() else [where_to_get(found, data, plan.model.id)]
    return [*lost, *_missing_answers(plan, found, data)]


def _missing_answers(plan: Plan, checkpoint: Checkpoint, data: Path) -> list[str]:
    """Name the answer list that a classifier of 3,129 rows is read by; decoders tell answers in words and need none."""
    listed = answer_list_of(plan, data)
    if listed is None or listed.is_file() or not checkpoint.ordered:
        return []
    return [f"{listed} ({ANSWER_LIST})"]


def missing_words(plan: Plan, data: Path) -> list[str]:
    """List what the tokeniser needs and is not here."""
    from vlbench.data.words import TRAINERS, pretrained_words

    if plan.tokeniser in TRAINERS:
        return []

    try:
        pretrained_words(plan.tokeniser, data)
    except Fault as fault:
        return [f"{fault.wrong}: {fault.todo}"]
    return []


def _missing_images(plan: Plan, task: Task) -> list[str]:
    """List what the planned size looks at and is not here: files of region features, or images."""
    splits = [*(plan.recipe.train_splits if trains(plan) else ()), *plan.recipe.evaluate_splits]
    features = plan.dataset.files_of("features", splits) if plan.model.sees_at(plan.recipe.size) == "regions" else []
    if not features:  # pixels, or regions that are made from the images
        lines = [line for split in splits for line in _missing_pictures(task, split, plan.recipe.limit)]
        return list(dict.fromkeys(lines))
    paths = [task.folder / file.name for file in features]
    return [
        f"{path} (or {path.stem}.h5)" for path in paths if not path.exists() and not path.with_suffix(".h5").exists()
    ]


def _missing_pictures(task: Task, split: str, limit: int) -> list[str]:
    """List the folders, or tars, of a split's images that are not here; or the images that are in none of them."""
    absent, faulty, places, names = [], [], [], set[str]()
    for group in alternatives(task.card.files_of("images", [split])):
        if place := first_here(task.folder, group):
            places.append(str(place))
            try:
                names |= names_in(place)
            except BadData as fault:
                faulty.append(fault.wrong)
        else:
            first, *others = (str(task.folder / file.name) for file in group)
            absent.append(f"{first} (its images; or {', '.join(others)})" if others else f"{first} (its images)")
    keys = _keys(task, split, limit) if places or absent else []
    # COCO's release of 2017 calls an image by its number alone
    lost = [key for key in keys if key not in names and key.rpartition("_")[2] not in names]
    if faulty or absent:
        return [*faulty, *(absent if lost or not keys else [])]
    return [f"images of {split} in {', '.join(places)}: {listed(lost)}"] if lost else []


def _keys(task: Task, split: str, limit: int) -> list[str]:
    """List the images that a split asks of; none where what it asks is not here."""
    try:
        examples = list(task.examples(split))[: limit or None]
    except BadData:
        return []
    return list(dict.fromkeys(key for example in examples for key in example.images))


def _like(plan: Plan, out: Path, *, trains: bool) -> RunRecord | None:
    """Find the newest recorded run of the same method, size, task and data set: its speed is a guess of ours."""
    wanted = (plan.model.id, plan.recipe.size, plan.task.id, plan.dataset.id)
    for record in recorded(plan, out):
        if trains and not record.throughput.train_samples_per_second:
            continue  # an evaluation says nothing of the time of training
        if (record.method, record.size, record.task, record.dataset) == wanted:
            return record
    return None


def recorded(plan: Plan, out: Path) -> Iterator[RunRecord]:
    """Yield what is recorded beside a plan's runs, then what is checked in, the newest first; no attacked runs."""
    found = [*sorted(card_folder("reports/results").rglob("*.json")), *find_records(out / plan.folder_stem)]
    for path in reversed(found):
        try:
            record = read_record(path)
        except Fault:
            continue
        if not (record.recipe.adversary or record.recipe.attack):  # slower than what is not
            yield record


def _time(like: RunRecord | None, examples: int, asked: int, recipe: Recipe) -> str:
    speed = like.throughput if like else None
    if like is None or speed is None or not speed.evaluate_samples_per_second:
        return "unknown: no run of this method, size, task and data set is recorded yet"
    # a step of an attack is a forward and a backward pass, three times an answer; VILLA trains on every modality
    attacks = {"": 0, "fgsm": 1, "pgd": recipe.attack_steps}[recipe.attack]
    seconds = asked / speed.evaluate_samples_per_second * (1 + 3 * attacks)
    if examples:
        if not speed.train_samples_per_second:
            return "unknown: no training of this method, size, task and data set is recorded yet"
        passes = 1 + 2 * recipe.adversary_steps if recipe.adversary else 1
        seconds += examples / speed.train_samples_per_second * passes
    return f"about {seconds / 60:.1f} minutes, as fast as {like.id} on {like.machine.cpu or like.machine.device}"


def size_in_words(count: int | None) -> str:
    """Write a number of bytes, or that it is not known."""
    return "unknown" if count is None else f"about {count / 2**20:,.0f} MiB"

"""What a user sees when a run has ended: its score, whether it looks at the image, what others report.

Numbers of other methods are shown with their source and without a difference; one of the same method has a
difference where split, metric, scorer and set agree (tables.py decides).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vlbench.paths import runs_root
from vlbench.record import RunRecord, Score
from vlbench.report.columns import (
    Column,
    Sources,
    filled,
    gibibytes,
    interval,
    millions,
    number,
    rate,
    signed,
)
from vlbench.report.published import Published
from vlbench.report.render import grid, remarks
from vlbench.report.tables import Row, board, judge, leaderboard

if TYPE_CHECKING:
    from rich.console import Console

MOST_PUBLISHED = 8
"""More published numbers than this are left to ``vlbench compare``."""


class Line(NamedTuple):
    """A score with its name, and how far the model is ahead of it (controls only)."""

    name: str
    score: Score
    ahead: float | None = None


class Beside(NamedTuple):
    """A published number, and what it says of the run."""

    published: Published
    difference: float | None
    verdict: str


SCORES = (
    Column("%", lambda line: number(line.score.value)),
    Column("95 % interval", lambda line: interval(line.score.low, line.score.high)),
    Column("answers", lambda line: f"{line.score.count:,}"),
    Column("scorer", lambda line: line.score.scorer, False),
)
CONTROLS = (
    Column("without looking", lambda line: line.name, False),
    Column("%", lambda line: number(line.score.value)),
    Column("95 % interval", lambda line: interval(line.score.low, line.score.high)),
    Column("the model is ahead by", lambda line: signed(line.ahead)),
)


def heading(record: RunRecord) -> str:
    """Name a run by all that decides what it may be compared with."""
    seed = f"seed {record.seed}"
    stage = (record.recipe.stage,) if record.recipe.stage else ()
    return " · ".join((record.method, record.size, record.task, *stage, record.dataset, record.basis, seed))


def control_lines(record: RunRecord) -> list[Line]:
    """List the controls, each with the model's lead; they are of the main metric on the main split."""
    if not record.main:
        return []
    value = record.main[2].value
    return [Line(name, score, value - score.value) for name, score in record.controls.items()]


def warnings(record: RunRecord) -> list[str]:
    """Name the controls that the model is not clearly ahead of, and what that leaves in doubt: one line a doubt."""
    if not record.main:
        return []
    main = record.main[2]
    least = main.value if main.low is None else main.low
    most = {name: s.value if s.high is None else s.high for name, s in record.controls.items()}
    near = [name for name, high in most.items() if least <= high]
    doubts: dict[str, list[str]] = {}
    for name in near:
        doubts.setdefault(_DOUBTS.get(name, _DOUBTS["image-shuffled"]), []).append(name)
    return [f"not clearly ahead of {', '.join(names)}: {doubt}" for doubt, names in doubts.items()]


_DOUBTS = {
    "prior": "no sign that it has learned",
    "question-only": "it may know no more than the words tell",
    "image-shuffled": "no sign that it uses the image",
    "text-shuffled": "no sign that it uses the text",
}


def published_beside(record: RunRecord, published: Iterable[Published]) -> list[Beside]:
    """Choose the published numbers to show: this split's and this method's, the method's first."""
    if not record.main or record.recipe.attack:
        return []
    split, _, score = record.main
    known = board(record.task, record.dataset, [record])
    rows = [p for p in published if p.dataset == known.published_dataset]
    tables = leaderboard([record], rows, known, every_split=True)
    own = next((row for table in tables for row in table.rows if table.split == split), None)
    everyone = [p for table in tables for p in table.published]
    mine, named = known.methods.get(record.method), known.published_split(split)
    chosen = [p for p in everyone if p.method == mine or p.split == named]
    chosen.sort(key=lambda p: (p.method != mine, p.split != named, p.of_another_set, p.from_memory))
    return [
        Beside(p, None, why)
        if (why := _why_none(p, own, named, mine))
        else Beside(p, score.value - p.value, judge(p.value, score.value, score.low, score.high))
        for p in chosen
    ]


def _why_none(p: Published, own: Row | None, named: str, mine: str | None) -> str:
    """Say why a published number has no difference to the run; nothing where it has one."""
    if p.split != named:
        return "other split"
    if own is None or own.verdict in ("part of split", "other scorer"):
        return own.verdict if own else "not compared"
    if p.of_another_set:
        return "another set"
    if p.method != mine:
        return "other method"
    return "from memory" if p.from_memory else ""


def published_columns(sources: Sources) -> list[Column]:
    """Return the columns of published numbers beside a run."""
    return [
        Column("published", lambda b: b.published.method, False),
        Column("variant", lambda b: b.published.variant or "-", False),
        Column("split", lambda b: b.published.split, False),
        Column("setting", lambda b: b.published.setting, False),
        Column("%", lambda b: sources.value(b.published)),
        Column("Δ", lambda b: signed(b.difference)),
        Column("", lambda b: b.verdict, False),
    ]


def size_line(record: RunRecord) -> str:
    """Say how large the run was."""
    peak = gibibytes(record.throughput.peak_memory_bytes)
    parts = [f"{millions(record.parameters)} parameters", "" if peak == "-" else f"{peak} GiB at peak"]
    return ", ".join(part for part in (*parts, record.machine.device) if part)


def speed_line(record: RunRecord) -> str:
    """Say how fast the run was; what was not measured is left out."""
    speed = record.throughput
    parts = {
        "samples/s in training": rate(speed.train_samples_per_second),
        "samples/s in evaluation": rate(speed.evaluate_samples_per_second),
        "min training": number(speed.train_seconds and speed.train_seconds / 60, 1),
        "min in all": number(record.seconds / 60, 1),
    }
    return ", ".join(f"{value} {what}" for what, value in parts.items() if value != "-")


class Section(NamedTuple):
    """One table of a result."""

    columns: list[Column]
    cells: list[list[str]]


def sections(record: RunRecord, published: Iterable[Published], sources: Sources) -> list[Section]:
    """Lay a result out: scores of each split, controls, published numbers."""
    found = []
    for split, scores in record.scores.items():
        columns = [Column(f"on {split}", lambda line: line.name, False), *SCORES]
        found.append(Section(*filled(columns, [Line(name, score) for name, score in scores.items()])))
    if controls := control_lines(record):
        found.append(Section(*filled(CONTROLS, controls)))
    if beside := published_beside(record, published):
        shown = filled(published_columns(sources), beside[:MOST_PUBLISHED])
        found.append(Section(*shown))
        if len(beside) > MOST_PUBLISHED:
            more = len(beside) - MOST_PUBLISHED
            sources.remarks.append(f"{more} more: vlbench compare {record.task} --dataset {record.dataset}")
    return found


def no_score(record: RunRecord) -> list[str]:
    """Say what a run without a score has done instead."""
    if record.scores:
        return []
    if record.kind == "pretrain":
        return [
            f"pre-trained {record.steps:,} steps; go on with: vlbench run {record.method} TASK --start run:{record.id}"
        ]
    return ["no public answers to score by; its answers-<split>.json is what the evaluation server takes"]


def untrained(record: RunRecord) -> list[str]:
    """Say so where nothing was ever trained: the basis names how much a training was, and there was none."""
    if record.steps or record.recipe.start != "scratch":
        return []
    return [f"the weights are untrained (--start scratch): this is what chance gives, not what {record.method} can do"]


def attacked(record: RunRecord) -> list[str]:
    """Say so where what was asked was perturbed first: such a score stands beside no other."""
    recipe = record.recipe
    if not recipe.attack:
        return []
    how = recipe.attack if recipe.attack == "fgsm" else f"{recipe.attack} in {recipe.attack_steps} steps"
    what = {"both": "images and texts", "image": "images", "text": "texts"}[recipe.attack_on]
    told = f"under attack: {how} on {what}, size {recipe.attack_size:g}"
    return [f"{told}: in no leaderboard, beside no published number"]


def places(folder: Path, *, mirrored: bool = True) -> list[str]:
    """Say where the run is, and how to look at it in MLflow or to bring it there."""
    root = folder.parent.parent.parent  # runs/<dataset>/<method>/<run>
    usual = root.resolve() == runs_root().resolve()
    verb = "vlbench ui" if mirrored else "not written (--no-mlflow); to bring it there: vlbench sync"
    return [f"run     {folder}", f"mlflow  {verb}" + ("" if usual else f" --out {shlex.quote(str(root))}")]


def show_result(
    record: RunRecord, published: Iterable[Published], folder: Path, console: Console, *, mirrored: bool = True
) -> None:
    """Print what came out of a run."""
    from rich.text import Text

    sources = Sources()
    console.print(Text(heading(record), style="bold"), Text(), sep="\n")
    for section in sections(record, published, sources):
        console.print(grid(*section), Text(), sep="\n")
    for line in (*attacked(record), *no_score(record), *untrained(record), *warnings(record)):
        console.print(Text(line, style="yellow"), soft_wrap=True)  # a command must stay on one line
    if sources.lines:
        console.print(remarks(sources.lines), Text(), sep="\n")
    if record.note:
        console.print(Text(f"note    {record.note}"))
    for line in (f"size    {size_line(record)}", f"speed   {speed_line(record)}", *places(folder, mirrored=mirrored)):
        console.print(Text(line), soft_wrap=True)

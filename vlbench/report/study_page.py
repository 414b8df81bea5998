"""The page of a study, and its table for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vlbench.cards import SuiteCard
from vlbench.catalog import cards
from vlbench.metrics.intervals import Estimate
from vlbench.paths import write_text
from vlbench.record import RunRecord
from vlbench.report.bootstraps import COLUMNS as JUDGED
from vlbench.report.bootstraps import Bootstrap, of_study
from vlbench.report.columns import Column, interval, number, signed
from vlbench.report.curves import curve_columns, curves, picture
from vlbench.report.render import escape, from_template, grid, markdown_grid
from vlbench.report.studies import Outcome, Study, Subject, study

if TYPE_CHECKING:
    from rich.table import Table as Grid

_TOLD = {"ahead": "clearly ahead", "unclear": "not clear", "behind": "clearly behind", "-": "of one seed only"}
Line = tuple[str, str, dict[Subject, Outcome]]
"""A method, a variant, and how it did on each subject."""


def write_studies(
    records: Iterable[RunRecord],
    folder: Path,
    own: Sequence[SuiteCard] = (),
    judged: Sequence[Bootstrap] = (),
) -> list[Path]:
    """Write ``SUITE.md`` for every suite that compares variants and has runs, and a picture for each of its curves.

    ``own``: suites beside those of the registry; ``judged``: corpora that CapFilt made. Same input, same bytes.
    """
    known, written = list(records), []
    for suite in [*cards(SuiteCard), *own]:
        if suite.variants and (found := study(suite, known)).outcomes:
            write_text(folder / f"{suite.id}.md", study_page(found, judged))
            written.append(folder / f"{suite.id}.md")
            for subject in found.outcomes:
                if some := curves(found, subject):
                    title = f"{suite.id}: {subject.title} ({subject.dataset}, {subject.split})"
                    write_text(folder / _picture(found, subject), picture(some, title, subject.metric))
                    written.append(folder / _picture(found, subject))
    return written


def _picture(found: Study, subject: Subject) -> str:
    """Name the picture of a subject's curves, which lies beside the page."""
    asked = "-".join((subject.task, subject.dataset, subject.split))
    return f"{found.suite.id}-{asked}{'' if subject.trained else '-zero-shot'}.svg"


def _curves(found: Study, subject: Subject) -> tuple[str, str, str] | None:
    """Return a subject's curves for the page: what they go over, the table, the picture's name; None without any."""
    some = curves(found, subject)
    if not some:
        return None
    return some[0].key, _markdown(curve_columns(some), some), _picture(found, subject)


def study_page(found: Study, judged: Sequence[Bootstrap] = ()) -> str:
    """Write a study as a page of Markdown."""
    suite, tally = found.suite, found.tally()
    told = {
        "ahead": "clearly ahead",
        "unclear": "not clear",
        "behind": "clearly behind",
        "-": "of one seed, no interval",
    }
    counted = [f"{count} {told[verdict]}" for verdict, count in tally.items() if count]
    return from_template(
        "study.md.j2",
        {
            "title": escape(suite.about),
            "suite": suite.id,
            "claims": [escape(claim) for claim in suite.claims],
            "found": [escape(sentence) for sentence in suite.found],
            "variants": [(name, escape(one.about)) for name, one in suite.variants.items()],
            "against": suite.against,
            "compares": found.compares,
            "zero_shot": ",".join(dict.fromkeys(one.task for one in found.outcomes if not one.trained)),
            "left_out": found.left_out,
            "tally": ", ".join(counted),
            "summary": _markdown(_summary_columns(found), [one for one in _lines(found) if not _on_curve(found, one)]),
            "details": [
                (_heading(subject), _markdown(_columns(found), some), _curves(found, subject))
                for subject, some in found.outcomes.items()
            ],
            "judged": _markdown(JUDGED, some) if (some := of_study(found, judged)) else "",
            "pretraining": _markdown(_PRETRAINING, found.pretraining) if found.pretraining else "",
        },
    )


def study_grid(found: Study) -> Grid:
    """Lay the differences out for a terminal, a line a method and variant."""
    columns, lines = _summary_columns(found), _lines(found)
    return grid(columns, [[column.cell(line) for column in columns] for line in lines])


def _on_curve(found: Study, line: Line) -> bool:
    return found.suite.variants[line[1]].place is not None


def _markdown(columns: Sequence[Column], rows: Iterable[object]) -> str:
    return markdown_grid(columns, [[column.cell(row) for column in columns] for row in rows])


def _heading(subject: Subject) -> str:
    return escape(f"{subject.title} ({subject.dataset}, {subject.split}, {subject.metric})")


def _lines(found: Study) -> list[Line]:
    """Gather what stands beside each other, in the suite's order; what all are set against has no line then."""
    lines: dict[tuple[str, str], dict[Subject, Outcome]] = {}
    for subject, some in found.outcomes.items():
        for one in some:
            if one.ahead or not found.compares:
                lines.setdefault((one.method, one.variant), {})[subject] = one
    order = list(found.suite.variants)
    names = sorted(lines, key=lambda name: (name[0], order.index(name[1])))
    return [(method, variant, lines[method, variant]) for method, variant in names]


def _summary_columns(found: Study) -> list[Column]:
    tallied = [Column("clearly ahead", _tallied)] if found.compares else []
    return [
        Column("method", lambda line: line[0], False),
        Column("variant", lambda line: line[1], False),
        *(Column(subject.title, partial(_cell, subject)) for subject in found.outcomes),
        *tallied,
    ]


def _tallied(line: Line) -> str:
    """Say on how many subjects a variant is clearly ahead."""
    return f"{sum(one.verdict == 'ahead' for one in line[2].values())} of {len(line[2])}"


def _cell(subject: Subject, line: Line) -> str:
    one = line[2].get(subject)
    if one is None:
        return "-"
    return _ahead(one.ahead) if one.ahead else number(one.value.value, 1)


def _ahead(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:+.1f}"
    return f"{estimate.value:+.1f} ({estimate.low:+.1f} to {estimate.high:+.1f})"


def _columns(found: Study) -> list[Column]:
    suite = found.suite
    several = len({suite.reference(name) for name in suite.variants} - {""}) > 1
    others = [Column("set against", lambda one: suite.reference(one.variant) or "-", False)] if several else []
    ahead = "ahead by" if several else f"ahead of {suite.against} by"
    compared = [
        *others,
        Column(ahead, lambda one: signed(one.ahead.value) if one.ahead else "-"),
        Column("95 % interval", lambda one: interval(one.ahead.low, one.ahead.high) if one.ahead else "-"),
        Column("verdict", lambda one: one.verdict, False),
    ]
    return [
        Column("method", lambda one: one.method, False),
        Column("variant", lambda one: one.variant, False),
        Column("%", lambda one: number(one.value.value)),
        Column("over seeds", lambda one: interval(one.value.low, one.value.high)),
        *(compared if found.compares else []),
        Column("seeds", lambda one: ",".join(map(str, one.seeds))),
        Column("minutes", lambda one: number(one.minutes, 1)),
    ]


def _teraflops(record: RunRecord) -> str:
    """Say what a pre-training cost in operations, as counted on one of its steps."""
    each = record.throughput.flops_per_sample
    return f"{each * record.examples_seen / 1e12:.1f}" if each else "-"


_PRETRAINING: list[Column] = [
    Column("run", lambda one: one.id, False),
    Column("method", lambda one: one.method, False),
    Column("stage", lambda one: one.recipe.stage or "-", False),
    Column("corpora", lambda one: one.dataset, False),
    Column("steps", lambda one: f"{one.steps:,}"),
    Column("examples", lambda one: f"{one.examples_seen:,}"),
    Column("TFLOP", lambda one: _teraflops(one)),
    Column("minutes", lambda one: number(one.seconds / 60, 1)),
    Column("losses at the end", lambda one: ", ".join(f"{n} {v:.3f}" for n, v in one.losses.items()), False),
    Column("note", lambda one: one.note or "-", False),
]

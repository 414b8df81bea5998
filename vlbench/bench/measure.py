"""Measure methods side by side in one run, and beside other people's code where there is any.

Every subject (vlbench's own, or a method's reference) is measured in a fresh process, on the same batches,
with the same weights, through the same loops (trial.py). Subjects are timed in turn, A B A B, and ratios are
taken within a turn, so that noise of the machine hits both (contest.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from vlbench.bench.contest import contest
from vlbench.bench.report import Agreement, BenchReport, Row
from vlbench.bench.trial import SHARING, Ready, Trial
from vlbench.plan import find_model
from vlbench.record import Machine
from vlbench.runfolder import this_code
from vlbench.types import Misuse, Progress, nearest, quiet


def bench(
    methods: Sequence[str],
    *,
    size: str = "mini",
    batch: int = 32,
    steps: int = 10,
    repeats: int = 5,
    regions: int = 36,
    text_length: int = 20,
    device: str = "auto",
    progress: Progress = quiet,
) -> BenchReport:
    """Measure methods by their cards, each beside its reference if it has one, on both settings.

    Misuse for an unknown name or size; BadData where a method and its reference do not compute the same.
    """
    check_names(methods, size)
    rows: list[Row] = []
    agreements: list[Agreement] = []
    ready: Ready | None = None
    pairs = [(method, setting) for method in methods for setting in SHARING]
    for number, (method, setting) in enumerate(pairs):
        trial = Trial(method, False, setting, size, batch, steps, regions, text_length, device, "")
        with contest(trial) as running:
            ready = running.subjects[0].ready
            if agreement := running.agreement():
                agreements.append(agreement)
            for done in running.race(repeats):
                progress(number * repeats + done, len(pairs) * repeats, "measuring")
            rows += running.rows()
    assert ready is not None  # check_names saw a method, and its contest waited
    return BenchReport(
        size=size,
        batch=batch,
        steps=steps,
        repeats=repeats,
        regions=regions,
        text_length=text_length,
        machine=Machine.model_validate(ready.machine),
        code=this_code(),
        rows=tuple(rows),
        agreements=tuple(agreements),
    )


def check_names(methods: Sequence[str], size: str) -> None:
    """Misuse where there is no such method, or it has no such size."""
    if not methods:
        raise Misuse("no method is named", "see: vlbench list methods")
    for method in methods:
        sizes = list(find_model(method).sizes)
        if size not in sizes:
            raise Misuse(f"{method} has no size '{size}'; {nearest(size, sizes)}")

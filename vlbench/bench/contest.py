"""The subjects of a benchmark at work: each in its own process, timed in turn, compared before they are."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from vlbench.bench.report import Agreement, Row
from vlbench.bench.trial import Ready, Timed, Trial, Weighed, serve
from vlbench.plan import find_model
from vlbench.proof.references import REFERENCES
from vlbench.types import BadData, Fault

TOLERANCE = 1e-4
"""Largest difference of logits between a method and its reference; beyond it a ratio would mean nothing."""


class Running:
    """A subject in its own process."""

    def __init__(self, name: str, trial: Trial) -> None:
        self.name, self.trial = name, trial
        context = multiprocessing.get_context("spawn")  # a fork would bring our memory along
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(trial, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.train: list[Timed] = []
        self.evaluate: list[Timed] = []
        self.ready: Ready | None = None

    def do(self, order: str) -> Any:
        """Give an order and wait for what comes of it."""
        with suppress(BrokenPipeError):  # the answer says why
            self.connection.send(order)
        return self.answer()

    def answer(self) -> Any:
        """Take the subject's next answer; Fault where it failed or its process died."""
        try:
            answer = self.connection.recv()
        except (EOFError, OSError):
            wrong = f"the process of {self.name} died, perhaps for want of memory"
            raise Fault(wrong, "try a smaller --batch or --size") from None
        if isinstance(answer, Fault):
            raise answer
        return answer

    def end(self) -> None:
        """Let the process end; stop it where it does not."""
        with suppress(OSError):
            self.connection.send("end")
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
        self.connection.close()


class Contest(NamedTuple):
    """The subjects of one method on one setting."""

    trial: Trial
    subjects: list[Running]
    """vlbench's own, then its reference, if it has one."""

    def agreement(self) -> Agreement | None:
        """Compare what both compute; BadData where they differ, None where there is but one."""
        if len(self.subjects) < 2:
            return None
        error = largest_difference(*(s.ready.logits for s in self.subjects if s.ready))
        theirs = self.subjects[1].name
        if not error <= TOLERANCE:
            raise BadData(
                f"{self.trial.method} and {theirs} differ by {error:.1e} in logits: nothing to compare",
                "see which of them departs from the authors' code with: vlbench verify",
            )
        return Agreement(
            method=self.trial.method,
            reference=theirs,
            setting=self.trial.setting,
            error=error,
            tolerance=TOLERANCE,
        )

    def race(self, repeats: int) -> Iterator[int]:
        """Time all subjects in turn, ``repeats`` times; yield how often so far."""
        for number in range(repeats):
            for subject in self.subjects:
                subject.train.append(subject.do("train"))
            for subject in self.subjects:
                subject.evaluate.append(subject.do("evaluate"))
            yield number + 1

    def rows(self) -> list[Row]:
        """Weigh the subjects and lay out what was measured; the first row holds the ratios."""
        rows = [_row(subject, subject.do("weigh")) for subject in self.subjects]
        if len(rows) > 1:
            ours, theirs = self.subjects
            memory = rows[0].peak_memory_bytes / max(1, rows[1].peak_memory_bytes)
            ratios = {
                "train_ratio": ratio(ours.train, theirs.train),
                "evaluate_ratio": ratio(ours.evaluate, theirs.evaluate),
                "memory_ratio": round(memory, 3),
            }
            rows[0] = rows[0].model_copy(update=ratios)
        return rows


def largest_difference(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> float:
    """Return the largest difference between two tables of numbers; NaN where one holds a NaN."""
    pairs = [p for a, b in zip(ours, theirs, strict=True) for p in zip(a, b, strict=True)]
    differences = [abs(mine - other) for mine, other in pairs]
    return next((d for d in differences if d != d), max(differences))


def ratio(ours: Sequence[Timed], theirs: Sequence[Timed]) -> float:
    """Return how many times as fast ours is: the median over turns, so that drift of the machine cancels."""
    pairs = zip(ours, theirs, strict=True)
    return round(median(a.samples_per_second / b.samples_per_second for a, b in pairs), 3)


def _row(subject: Running, weighed: Weighed) -> Row:
    assert subject.ready is not None  # contest() waited for it
    trained = [timed.samples_per_second for timed in subject.train]
    evaluated = [timed.samples_per_second for timed in subject.evaluate]
    return Row(
        subject=subject.name,
        method=subject.trial.method,
        reference=subject.trial.reference,
        setting=subject.trial.setting,
        train_samples_per_second=round(median(trained), 2),
        train_range=(round(min(trained), 2), round(max(trained), 2)),
        evaluate_samples_per_second=round(median(evaluated), 2),
        evaluate_range=(round(min(evaluated), 2), round(max(evaluated), 2)),
        data_wait_share=round(median(timed.data_wait_share for timed in subject.train), 4),
        peak_memory_bytes=weighed.peak_memory_bytes,
        flops_per_sample=weighed.flops_per_sample,
        flops_per_second=round(weighed.flops_per_sample * median(trained)),
        parameters=subject.ready.parameters,
    )


@contextmanager
def contest(trial: Trial) -> Iterator[Contest]:
    """Start the subjects of a trial, one after the other: the reference takes the weights ours leaves."""
    names = {False: f"vlbench {find_model(trial.method).name}"}
    if reference := REFERENCES.get(trial.method):
        names[True] = reference.name
    subjects: list[Running] = []
    with tempfile.TemporaryDirectory() as folder:
        trial = trial._replace(weights=str(Path(folder) / "weights.safetensors"))
        try:
            for is_reference, name in names.items():
                subjects.append(Running(name, trial._replace(reference=is_reference)))
                subjects[-1].ready = subjects[-1].answer()
            yield Contest(trial, subjects)
        finally:
            for subject in subjects:
                subject.end()

"""What a benchmark of speed found: its document and its table."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from vlbench.bench.trial import Setting
from vlbench.record import Code, Machine

ABOUT: dict[Setting, str] = {
    "own": "each example has an image and a text of its own",
    "shared": "as easy-VQA, the questions of an image together: 9.6 an image, 107 distinct ones; "
    "vlbench encodes each distinct image and text of a batch once, a reference every pair",
}
_COLUMNS = ("train/s", "evaluate/s", "data wait", "peak memory", "FLOPs/example", "parameters")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Row(_Part):
    """One subject on one setting; speeds are medians over the repeats."""

    subject: str
    method: str
    reference: bool
    setting: Setting
    train_samples_per_second: float
    train_range: tuple[float, float]
    """Slowest and fastest repeat."""
    evaluate_samples_per_second: float
    evaluate_range: tuple[float, float]
    data_wait_share: float
    """Of training."""
    peak_memory_bytes: int
    """Of training and evaluation, above what was held before the model was built."""
    flops_per_sample: float
    """Forward and backward, counted."""
    flops_per_second: float
    """Reached in training."""
    parameters: int
    train_ratio: float | None = None
    """vlbench's speed over its reference's: the median of the ratios within a turn."""
    evaluate_ratio: float | None = None
    memory_ratio: float | None = None


class Agreement(_Part):
    """How nearly a method and its reference compute the same, seen before anything was timed."""

    method: str
    reference: str
    setting: Setting
    error: float
    """Largest difference of logits on the first batch, in fp32 without dropout."""
    tolerance: float


class BenchReport(_Part):
    """What was measured, on what."""

    size: str
    batch: int
    steps: int
    repeats: int
    regions: int
    text_length: int
    machine: Machine
    code: Code
    settings: dict[Setting, str] = ABOUT
    rows: tuple[Row, ...]
    agreements: tuple[Agreement, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the report as one JSON document."""
        return self.model_dump(mode="json")


def show_bench(report: BenchReport, console: Console) -> None:
    """Print a table of all subjects, the ratios below them, and what the numbers rest on."""
    table = Table(title=f"size {report.size}, {report.batch} examples a batch", title_justify="left")
    table.add_column("data")
    table.add_column("subject")
    for name in _COLUMNS:
        table.add_column(name, justify="right")
    for place in dict.fromkeys((row.method, row.setting) for row in report.rows):
        rows = [row for row in report.rows if (row.method, row.setting) == place]
        for row in rows:
            table.add_row(*_cells(row))
        if rows[0].train_ratio is not None:
            table.add_row(*_ratios(rows[0]), style="bold")
        table.add_section()
    console.print(table)
    for line in _notes(report):
        console.print(line, highlight=False, soft_wrap=True)


def _cells(row: Row) -> list[str]:
    def speed(middle: float, ends: tuple[float, float]) -> str:
        return f"{middle:,.1f} ({ends[0]:,.1f}-{ends[1]:,.1f})"

    return [
        row.setting,
        row.subject,
        speed(row.train_samples_per_second, row.train_range),
        speed(row.evaluate_samples_per_second, row.evaluate_range),
        f"{row.data_wait_share:.1%}",
        f"{row.peak_memory_bytes / 1e6:,.0f} MB",
        f"{row.flops_per_sample / 1e9:,.3f} G",
        f"{row.parameters / 1e6:,.2f} M",
    ]


def _ratios(row: Row) -> list[str]:
    def times(ratio: float | None) -> str:
        return "" if ratio is None else f"{ratio:.2f} x"

    ratios = times(row.train_ratio), times(row.evaluate_ratio), "", times(row.memory_ratio)
    return ["", "vlbench / reference", *ratios]


def _notes(report: BenchReport) -> list[str]:
    machine = report.machine
    return [
        *(
            f"{a.method} and {a.reference} have the same weights; their logits differ by at most "
            f"{a.error:.1e} ({a.setting}; tolerance {a.tolerance:.0e})"
            for a in report.agreements
        ),
        *(f"{setting}: {about}" for setting, about in report.settings.items()),
        f"median (slowest-fastest) of {report.repeats} repeats of {report.steps} steps, subjects in turn; "
        f"{report.regions} regions, up to {report.text_length} word pieces; nothing compiled",
        f"{machine.device}, {machine.cpu}, {machine.threads} threads, torch {machine.torch}, {machine.precision}",
    ]

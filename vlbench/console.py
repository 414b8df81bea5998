"""What a user sees while work is going on: one line with rate and time left, and notes above it."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class RateColumn(ProgressColumn):
    """Steps, images or examples a second."""

    def render(self, task: Task) -> Text:
        """Write the rate."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.1f}/s" if speed else "", style="dim")


class LiveProgress:
    """Progress bars on a terminal, one for each kind of work; a line now and then where there is none."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bars = Progress(
            TextColumn("{task.fields[name]:<10}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            RateColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=console,
            refresh_per_second=4,
            disable=not console.is_terminal,
        )
        self.known: dict[str, TaskID] = {}
        self.tenths: dict[str, int] = {}

    def __enter__(self) -> LiveProgress:
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        self.bars.console.print(line, style="dim", highlight=False)

    def progress(self, done: int, total: int, what: str) -> None:
        """Move a bar; ``what`` is its name, or ``loss ...`` for training."""
        name, note = ("training", what) if what.startswith("loss") else (what, "")
        if not self.console.is_terminal:
            self._tell(name, done, total, note)
            return
        if name not in self.known:
            self.known[name] = self.bars.add_task("", total=total, name=name, note=note)
        self.bars.update(self.known[name], completed=done, total=total, note=note)

    def _tell(self, name: str, done: int, total: int, note: str) -> None:
        """Where the output is a file: a line at each tenth of the way."""
        tenth = 10 * done // max(total, 1)
        if tenth > self.tenths.get(name, 0 if total > 20 else -1):
            self.tenths[name] = tenth
            self.console.print(f"{name} {done:,} of {total:,} {note}".rstrip(), highlight=False)

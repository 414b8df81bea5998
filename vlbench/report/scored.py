"""What ``vlbench score`` prints: the overall accuracy, and by kind of answer and question."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table


def show_scored(found: Mapping[str, Any], console: Console) -> None:
    """Print scores of an answer file; the scorer's version stands beside them."""
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("accuracy", justify="right")
    table.add_row("overall", f"{found['overall']:.2f}", style="bold")
    for group in ("per_answer_type", "per_question_type"):
        for name, value in sorted(found[group].items(), key=lambda item: item[0]):
            table.add_row(f"  {name}", f"{value:.2f}")
    console.print(table)
    console.print(f"{found['count']:,} questions, scorer {found['scorer']}", style="dim", highlight=False)

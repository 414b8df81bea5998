"""What all verbs share: the application they belong to, their common options, and how they print.

Only typer is imported here; every verb imports what it needs when it is used, so that ``--help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    name="vlbench",
    help="An honest, fast, comparable answer for vision-language pre-training methods: vlbench run lxmert vqa",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    add_completion=False,
)

Suite = Annotated[str, typer.Option("--suite", help="suite name or file", envvar="VLBENCH_SUITE")]
Dataset = Annotated[str, typer.Option("--dataset", help="data set, where a task has several")]
Size = Annotated[str, typer.Option("--size", help="mini, base or large, as on the method's card")]
Start = Annotated[
    str, typer.Option("--start", help="scratch, published, a checkpoint's name on the card, run:ID or a file")
]
Seeds = Annotated[str, typer.Option("--seed", help="one seed, or several as 0,1,2")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="recipe value as key=value; may be repeated")]
Limit = Annotated[int, typer.Option("--limit", min=0, help="use only the first N examples of each split")]
Data = Annotated[Path | None, typer.Option("--data", help="root of official data", envvar="VLBENCH_DATA")]
Out = Annotated[Path | None, typer.Option("--out", help="where runs are written", envvar="VLBENCH_RUNS")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="say what would be done; change nothing")]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON document on standard output")]
Fresh = Annotated[bool, typer.Option("--fresh", help="start over instead of going on")]
Debug = Annotated[bool, typer.Option("--debug", help="show the traceback of a failure")]
NoMirror = Annotated[bool, typer.Option("--no-mlflow", help="write run folders only; vlbench sync can do it later")]


def say(wrong: str, todo: str = "") -> None:
    """Say on standard error what is wrong, and what to do about it."""
    print(f"vlbench: {wrong}", file=sys.stderr)
    if todo:
        print(f"  -> {todo}", file=sys.stderr)


def finish(code: int) -> NoReturn:
    """End the command with an exit code."""
    raise typer.Exit(code)


def print_json(document: Any) -> None:
    """Print the one JSON document of a command."""
    import json

    print(json.dumps(document, indent=1))


def terminal() -> Console:
    """Return the terminal; where the output is a file or a pipe, lines may be as long as they are."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=int(os.environ.get("COLUMNS", "140")))


def listed(typed: str) -> list[str]:
    """Read names as a,b; none for ``all``."""
    return [] if typed == "all" else [part.strip() for part in typed.split(",") if part.strip()]


def typed_values(*, settings: Sequence[str] | None, **options: Any) -> dict[str, Any]:
    """Gather recipe values that were typed; --set wins over the named options."""
    from vlbench.recipe import parse_setting

    return {name: value for name, value in options.items() if value} | dict(map(parse_setting, settings or ()))

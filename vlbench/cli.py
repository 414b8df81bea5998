"""The verbs. Each reads what was typed, calls the part that does it, and turns faults into one clear line.

Only typer is imported here; every verb imports what it needs when it is used, so that ``--help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

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
Start = Annotated[str, typer.Option("--start", help="scratch, published, run:ID or a checkpoint file")]
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
Official = Annotated[Path | None, typer.Option("--official", help="folder of recorded cases")]


def main() -> None:
    """Run the command line; every failure becomes one line, an exit code and, with --debug, a traceback."""
    debug = "--debug" in sys.argv or bool(os.environ.get("VLBENCH_DEBUG"))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        app(standalone_mode=False)
    except Exception as error:  # the border to the user: no traceback passes it unasked
        if debug:
            raise
        raise SystemExit(_report(error)) from None
    except KeyboardInterrupt:
        _say("stopped", "the same command goes on where it stopped")
        raise SystemExit(1) from None


def _report(error: Exception) -> int:
    """Say what went wrong in one line and what to do in another; return the exit code."""
    import click

    from vlbench.types import Fault

    if isinstance(error, Fault):
        _say(error.wrong, error.todo)
        return error.code
    if isinstance(error, click.exceptions.Exit):
        return int(error.exit_code)
    if isinstance(error, click.ClickException):
        _say(error.format_message(), "see: vlbench --help")
        return 2
    if isinstance(error, click.exceptions.Abort):
        _say("stopped")
        return 1
    if isinstance(error, OSError):
        _say(f"{error.filename or 'the system'}: {error.strerror or error}", "nothing already written is lost")
        return 1
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        _say("out of memory", "try --set accumulate=2 (the same result in less memory) or a smaller --size")
        return 1
    _say(
        f"unexpected {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
        "this is a fault of vlbench: please report it with the output of the same command and --debug",
    )
    return 1


def _say(wrong: str, todo: str = "") -> None:
    print(f"vlbench: {wrong}", file=sys.stderr)
    if todo:
        print(f"  -> {todo}", file=sys.stderr)


def _finish(code: int) -> NoReturn:
    raise typer.Exit(code)


@app.command()
def run(
    methods: Annotated[str, typer.Argument(help="a method, several as a,b, all, or a .py file")],
    tasks: Annotated[str, typer.Argument(help="a task, several as a,b, all, or a .py file")],
    suite: Suite = "quick",
    dataset: Dataset = "",
    size: Size = "",
    start: Start = "",
    seed: Seeds = "",
    settings: Settings = None,
    limit: Limit = 0,
    data: Data = None,
    out: Out = None,
    device: Device = "auto",
    fresh: Fresh = False,
    no_mlflow: NoMirror = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Train, evaluate and record METHODS on TASKS, and print the result beside the published one."""
    from vlbench.session import Session

    typed = _typed(dataset=dataset, size=size, start=start, limit=limit, settings=settings)
    session = Session(suite, typed, data, out, device, fresh=fresh, mirror=not no_mlflow, as_json=as_json)
    session.add(methods, tasks, seed)
    _finish(session.preview() if dry_run else session.carry_out())


@app.command()
def evaluate(
    methods: Annotated[str, typer.Argument(help="a method, several as a,b, or all")],
    tasks: Annotated[str, typer.Argument(help="a task, several as a,b, or all")],
    start: Start = "published",
    suite: Suite = "quick",
    split: Annotated[str, typer.Option("--split", help="split to answer; several as a,b")] = "",
    dataset: Dataset = "",
    size: Size = "",
    seed: Seeds = "",
    settings: Settings = None,
    limit: Limit = 0,
    data: Data = None,
    out: Out = None,
    device: Device = "auto",
    fresh: Fresh = False,
    no_mlflow: NoMirror = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Evaluate a checkpoint without training: a published one, an own run, or a file."""
    from vlbench.session import Session

    typed = _typed(dataset=dataset, size=size, start=start, limit=limit, settings=settings)
    typed |= {"steps": 0, "epochs": 0.0}
    if split:
        typed["evaluate_splits"] = tuple(split.split(","))
    session = Session(suite, typed, data, out, device, fresh=fresh, mirror=not no_mlflow, as_json=as_json)
    session.add(methods, tasks, seed)
    _finish(session.preview() if dry_run else session.carry_out())


def _typed(*, settings: Sequence[str] | None, **options: Any) -> dict[str, Any]:
    """Gather recipe values that were typed; --set wins over the named options."""
    from vlbench.recipe import parse_setting

    return {name: value for name, value in options.items() if value} | dict(map(parse_setting, settings or ()))


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="methods, tasks, datasets, suites, published or runs")],
    out: Out = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List what there is, one line each."""
    from vlbench.paths import runs_root
    from vlbench.report.overview import listing

    _print_listing(listing(what, runs_root(out)), as_json)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="a method, task, data set or suite")],
    task: Annotated[str, typer.Argument(help="with a method: show the resolved recipe of the pair")] = "",
    suite: Suite = "quick",
    dataset: Dataset = "",
    size: Size = "",
    start: Start = "",
    settings: Settings = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show a card; or, for METHOD TASK, the recipe with the origin of every value."""
    from vlbench.report.overview import show_card, show_recipe

    if task:
        from vlbench.plan import plan

        made = plan(name, task, suite=suite, typed=_typed(dataset=dataset, size=size, start=start, settings=settings))
        _print_shown(show_recipe(made.recipe, made.origins), as_json)
    else:
        _print_shown(show_card(name), as_json)


def _print_listing(listing: Any, as_json: bool) -> None:
    raise SystemExit(1)


def _print_shown(shown: Any, as_json: bool) -> None:
    raise SystemExit(1)


Callable_ = Callable

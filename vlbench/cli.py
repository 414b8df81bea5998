"""The verbs. Each reads what was typed, calls the part that does it, and turns faults into one clear line.

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

    from vlbench.report.overview import Listing

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


def main() -> None:
    """Run the command line; every failure becomes one line, an exit code and, with --debug, a traceback."""
    debug = "--debug" in sys.argv or bool(os.environ.get("VLBENCH_DEBUG"))
    # Threads that wait by spinning bring training to a halt where another program wants a core (measured: over 500 ms
    # a step instead of 37 with one core taken); it must be said before torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        code = app(standalone_mode=False)
    except KeyboardInterrupt:
        _say("stopped", "the same command goes on where it stopped")
        raise SystemExit(1) from None
    except Exception as error:  # the border to the user: no traceback passes it unasked
        if debug:
            raise
        raise SystemExit(_report(error)) from None
    raise SystemExit(code if isinstance(code, int) else 0)


def _report(error: Exception) -> int:
    """Say what went wrong in one line and what to do in another; return the exit code."""
    from vlbench.types import as_fault, nearest

    if isinstance(error, BrokenPipeError):  # the reader of our output, say head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if hasattr(error, "format_message"):  # typer's own word on a command line it cannot read
        message = error.format_message()
        mistyped = message.partition("No such command '")[2].partition("'")[0]
        wrong = f"there is no command '{mistyped}'; {nearest(mistyped, _verbs())}" if mistyped else message
        _say(wrong or "no command was given", "see: vlbench --help")
        return 2
    fault = as_fault(error)
    _say(fault.wrong, fault.todo)
    return fault.code


def _verbs() -> list[str]:
    names = [command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands]
    return [name for name in names if name]


def _say(wrong: str, todo: str = "") -> None:
    print(f"vlbench: {wrong}", file=sys.stderr)
    if todo:
        print(f"  -> {todo}", file=sys.stderr)


def _finish(code: int) -> NoReturn:
    raise typer.Exit(code)


def _print_json(document: Any) -> None:
    import json

    print(json.dumps(document, indent=1))


def _terminal() -> Console:
    """Return the terminal; where the output is a file or a pipe, lines may be as long as they are."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=int(os.environ.get("COLUMNS", "140")))


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
    from vlbench.matrix import Matrix

    typed = _typed(dataset=dataset, size=size, start=start, limit=limit, settings=settings)
    matrix = Matrix(suite, typed, data, out, device, fresh=fresh, mirror=not no_mlflow, as_json=as_json, debug=debug)
    matrix.add(methods, tasks, seed)
    _finish(matrix.preview() if dry_run else matrix.carry_out())


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
    from vlbench.matrix import Matrix

    typed = _typed(dataset=dataset, size=size, start=start, limit=limit, settings=settings)
    typed |= {"steps": 0, "epochs": 0.0}
    if split:
        typed["evaluate_splits"] = tuple(split.split(","))
    matrix = Matrix(suite, typed, data, out, device, fresh=fresh, mirror=not no_mlflow, as_json=as_json, debug=debug)
    matrix.add(methods, tasks, seed)
    _finish(matrix.preview() if dry_run else matrix.carry_out())


def _typed(*, settings: Sequence[str] | None, **options: Any) -> dict[str, Any]:
    """Gather recipe values that were typed; --set wins over the named options."""
    from vlbench.recipe import parse_setting

    return {name: value for name, value in options.items() if value} | dict(map(parse_setting, settings or ()))


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="methods, tasks, datasets, suites, published or runs")],
    method: Annotated[str, typer.Option("--method", help="published numbers of one method")] = "",
    task: Annotated[str, typer.Option("--task", help="published numbers of one task")] = "",
    dataset: Dataset = "",
    split: Annotated[str, typer.Option("--split", help="published numbers of one split")] = "",
    out: Out = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List what there is, one line each."""
    from vlbench.paths import runs_root
    from vlbench.report.overview import list_published, overview
    from vlbench.types import Misuse

    if what == "published":
        _print_listing(list_published(method or None, task or None, dataset or None, split or None), as_json)
        return
    if method or task or dataset or split:
        raise Misuse("--method, --task, --dataset and --split choose among published numbers only")
    _print_listing(overview(what, runs_root(out)), as_json)


def _print_listing(found: Listing, as_json: bool) -> None:
    from vlbench.report.overview import listing_grid

    if as_json:
        _print_json(found.rows)
        return
    for line in found.warnings:
        print(f"vlbench: {line}", file=sys.stderr)
    console = _terminal()
    console.print(found.title, style="bold", highlight=False)
    console.print(listing_grid(found))


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
    if task:
        from vlbench.plan import plan
        from vlbench.report.overview import list_recipe

        typed = _typed(dataset=dataset, size=size, start=start, settings=settings)
        made = plan(name, task, suite=suite, typed=typed)
        _print_listing(list_recipe(made.recipe, made.origins), as_json)
        return
    from vlbench.report.show import card_data, card_text

    if as_json:
        _print_json(card_data(name))
    else:
        print(card_text(name))


@app.command()
def compare(
    tasks: Annotated[str, typer.Argument(help="a task, several as a,b, or nothing for all that was run")] = "",
    methods: Annotated[str, typer.Option("--methods", help="several as a,b")] = "",
    dataset: Dataset = "",
    split: Annotated[str, typer.Option("--split", help="one split only")] = "",
    out: Out = None,
    fail_under: Annotated[
        list[str] | None, typer.Option("--fail-under", help="VALUE or METHOD=VALUE; exit code 4 if not met")
    ] = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="as Markdown, to paste")] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show own runs beside published numbers; a difference only where data set, split and metric are the same."""
    from vlbench.paths import runs_root
    from vlbench.report.compare import compare as make
    from vlbench.report.compare import parse_limit, under

    limits = [parse_limit(text) for text in fail_under or ()]
    found = make(_names(tasks), _names(methods), dataset, split, runs_root(out))
    for line in found.warnings:
        print(f"vlbench: {line}", file=sys.stderr)
    missed = under(found.tables, limits)
    if as_json:
        from vlbench.report.export import plain_table

        _print_json({"tables": [plain_table(table) for table in found.tables], "under": [str(one) for one in missed]})
    elif as_markdown:
        from vlbench.report.render import markdown

        print(markdown(found.tables))
    else:
        from vlbench.report.render import terminal

        console = _terminal()
        for table in found.tables:
            console.print(terminal(table))
        if not found.tables:
            console.print("nothing to compare yet; make a run with: vlbench run lxmert vqa")
    for one in missed:
        print(f"vlbench: {one}", file=sys.stderr)
    _finish(4 if missed else 0)


def _names(typed: str) -> list[str]:
    return [] if typed == "all" else [part.strip() for part in typed.split(",") if part.strip()]


@app.command()
def score(
    task: Annotated[str, typer.Argument(help="vqa")],
    answers: Annotated[Path, typer.Option("--answers", help="answer file in the official format")],
    questions: Annotated[Path | None, typer.Option("--questions", help="official question file")] = None,
    annotations: Annotated[Path | None, typer.Option("--annotations", help="official annotation file")] = None,
    scorer: Annotated[
        str, typer.Option("--scorer", help="official-2021, official-2015, always-normalise or soft")
    ] = "official-2021",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Score anyone's answer file against the official files; needs no model and no GPU."""
    from vlbench.types import Misuse, nearest

    if task != "vqa":
        raise Misuse(f"no scorer for '{task}' yet; {nearest(task, ['vqa'])}")
    if questions is None or annotations is None:
        lacking = "--questions" if questions is None else "--annotations"
        raise Misuse(f"{lacking} is missing", "vlbench score vqa --answers A --questions Q --annotations N")
    from vlbench.tasks.vqa import score_files

    found = score_files(questions, annotations, answers, scorer)
    if as_json:
        _print_json(found)
        return
    from vlbench.report.scored import show_scored

    show_scored(found, _terminal())


@app.command()
def verify(
    names: Annotated[str, typer.Argument(help="methods or metrics as a,b; nothing for all")] = "",
    official: Annotated[Path | None, typer.Option("--official", help="folder of recorded cases")] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Prove this installation: parity with the authors' code and conformance of every scorer."""
    from vlbench.verify import as_json as checks_document
    from vlbench.verify import exit_code, show_checks
    from vlbench.verify import verify as checks

    if as_json:
        found = list(checks(_names(names), official))
        _print_json(checks_document(found))
        _finish(exit_code(found))
    _finish(show_checks(checks(_names(names), official), _terminal()))


@app.command()
def bench(
    methods: Annotated[str, typer.Argument(help="methods as a,b, or all")] = "lxmert",
    size: Size = "mini",
    batch: Annotated[int, typer.Option("--batch", min=1, help="examples a step")] = 64,
    steps: Annotated[int, typer.Option("--steps", min=1, help="timed steps a repeat")] = 10,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="repeats, taken in turns")] = 3,
    regions: Annotated[int, typer.Option("--regions", min=1, help="regions an image")] = 36,
    text_length: Annotated[int, typer.Option("--text-length", min=3, help="word pieces a text")] = 20,
    device: Device = "auto",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Measure samples/s, data wait, memory and FLOPs, beside a known implementation in the same run."""
    from rich.console import Console

    from vlbench.bench import bench as measure
    from vlbench.bench import show_bench
    from vlbench.catalog import ModelCard, card_names
    from vlbench.console import LiveProgress
    from vlbench.plan import names_of

    with LiveProgress(Console(stderr=True)) as live:
        report = measure(
            names_of(methods, card_names(ModelCard)), size=size or "mini", batch=batch, steps=steps, repeats=repeats,
            regions=regions, text_length=text_length, device=device, progress=live.progress,
        )  # fmt: skip
    if as_json:
        _print_json(report.as_json())
    else:
        show_bench(report, _terminal())


@app.command()
def report(
    out: Out = None,
    into: Annotated[Path, typer.Option("--into", help="folder of the leaderboards")] = Path("reports/leaderboards"),
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write a leaderboard for each task and data set, from the records that ship with vlbench and own runs."""
    from vlbench.paths import runs_root
    from vlbench.report.compare import collect, write_leaderboards

    # own runs only where asked for: a checked-in leaderboard holds what the checked-in records say
    found = collect(runs_root(out) if out else Path(os.devnull))
    for line in found.warnings:
        print(f"vlbench: {line}", file=sys.stderr)
    written = [str(path) for path in write_leaderboards(found.records, into)]
    if as_json:
        _print_json({"leaderboards": written})
    else:
        print("\n".join(written) or "no record to make a leaderboard of")


@app.command()
def ui(
    out: Out = None,
    port: Annotated[int, typer.Option("--port", help="port; 0 takes a free one")] = 0,
    debug: Debug = False,
) -> None:
    """Open MLflow's page on the right store."""
    from vlbench.paths import runs_root
    from vlbench.tracking import store_uri
    from vlbench.tracking import ui as open_page

    open_page(store_uri(runs_root(out)), port)


@app.command()
def sync(
    runs: Annotated[list[str] | None, typer.Argument(help="run ids; nothing for all")] = None,
    to: Annotated[str, typer.Option("--to", help="MLflow uri", envvar="MLFLOW_TRACKING_URI")] = "",
    out: Out = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Replay run folders into any MLflow server; what is there already is not doubled."""
    from vlbench.paths import runs_root
    from vlbench.runfolder import find_run
    from vlbench.tracking import store_uri
    from vlbench.tracking import sync as replay

    root = runs_root(out)
    logs = sorted(root.glob("*/*/*/log.jsonl"))
    folders = [find_run(name, root) for name in runs] if runs else [path.parent for path in logs]
    done = replay(folders, to or store_uri(root))
    if as_json:
        _print_json([{"folder": str(one.folder), "run": one.run, "outcome": one.outcome} for one in done])
    else:
        for one in done:
            print(f"{one.folder.name}  {one.outcome}")
        if not done:
            print(f"there is no run below {root}")
    _finish(0 if all(one.outcome in ("new", "updated", "already there") for one in done) else 1)


@app.command()
def doctor(data: Data = None, out: Out = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """Say what is installed and found, and what to do about each lack."""
    from vlbench.doctor import examine, show_doctor
    from vlbench.paths import data_root, runs_root

    findings = examine(data_root(data), runs_root(out))
    if as_json:
        _print_json([finding._asdict() for finding in findings])
    else:
        show_doctor(findings, _terminal())
    _finish(1 if any(finding.state == "broken" for finding in findings) else 0)

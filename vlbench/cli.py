"""The verbs that run, list and compare; and the border where faults become one clear line and an exit code.

The verbs about the installation are in workshop.py. Every verb imports what it needs when it is used.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlbench.options import (
    AsJson,
    Data,
    Dataset,
    Debug,
    Device,
    DryRun,
    Fresh,
    Limit,
    NoMirror,
    Out,
    Seeds,
    Settings,
    Size,
    Start,
    Suite,
    app,
    finish,
    listed,
    print_json,
    say,
    terminal,
    typed_values,
)

if TYPE_CHECKING:
    from vlbench.report.overview import Listing
    from vlbench.tasks.base import OfficialFiles, Task


def main() -> None:
    """Run the command line; every failure becomes one line, an exit code and, with --debug, a traceback."""
    from vlbench.processes import several, stopped

    debug = "--debug" in sys.argv or bool(os.environ.get("VLBENCH_DEBUG"))
    # Threads that wait by spinning without end bring training to a halt where another program wants a core (measured:
    # over 500 ms a step instead of 60). It must be said before torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    if several():  # each process would tell that all parameters were used, or that its group was left open
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        code = app(standalone_mode=False)
    except KeyboardInterrupt:
        raise SystemExit(_report(stopped())) from None
    except Exception as error:  # the border to the user: no traceback passes it unasked
        if debug:
            raise
        raise SystemExit(_report(error)) from None
    if code == 130:  # typer's word for Ctrl-C
        raise SystemExit(_report(stopped()))
    raise SystemExit(code if isinstance(code, int) else 0)


def _report(error: Exception) -> int:
    """Say what went wrong in one line and what to do in another; return the exit code."""
    from vlbench.processes import ToldElsewhere, first_fault, give_way
    from vlbench.types import BadData, Misuse, nearest

    if isinstance(error, BrokenPipeError):  # the reader of our output, say head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if hasattr(error, "format_message"):  # typer's own word on a command line it cannot read
        message = error.format_message()
        mistyped = message.partition("No such command '")[2].partition("'")[0]
        wrong = f"there is no command '{mistyped}'; {nearest(mistyped, _verbs())}" if mistyped else message
        error = Misuse(wrong or "no command was given", "see: vlbench --help")
    fault = first_fault(error)
    if isinstance(fault, ToldElsewhere):
        give_way()
        return fault.code
    say(fault.wrong, fault.todo or ("mend the file, or get it again" if isinstance(fault, BadData) else ""))
    return fault.code


def _verbs() -> list[str]:
    names = [command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands]
    return [name for name in names if name]


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
    from vlbench.several import Setting

    typed = typed_values(dataset=dataset, size=size, start=start, limit=limit, settings=settings)
    matrix = Matrix(Setting(suite, typed, data, out, device, fresh, not no_mlflow, as_json, debug))
    matrix.add(methods, tasks, seed)
    finish(matrix.preview() if dry_run else matrix.carry_out())


@app.command()
def evaluate(
    methods: Annotated[str, typer.Argument(help="a method, several as a,b, or all")],
    tasks: Annotated[str, typer.Argument(help="a task, several as a,b, or all")],
    start: Start = "",
    suite: Suite = "",
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
    """Evaluate without training: published weights (the usual start), an own run, a file, or what a suite's variants
    begin from.
    """
    from vlbench.catalog import find_suite
    from vlbench.matrix import Matrix
    from vlbench.plan import means_published
    from vlbench.several import Setting

    typed = typed_values(dataset=dataset, size=size, start=start, limit=limit, settings=settings)
    typed |= {"steps": 0, "epochs": 0.0}
    if "start" not in typed and not (suite and find_suite(suite).variants):
        typed["start"] = "published"
    suite = suite or ("paper" if means_published(str(typed["start"]), methods) else "quick")
    if split:
        typed["evaluate_splits"] = tuple(split.split(","))
    setting = Setting(suite, typed, data, out, device, fresh, not no_mlflow, as_json, debug)
    matrix = Matrix(setting, trains=False)
    matrix.add(methods, tasks, seed)
    finish(matrix.preview() if dry_run else matrix.carry_out())


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="methods, tasks, datasets, corpora, suites, published or runs")],
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
    from vlbench.report.columns import MARK_NOTE
    from vlbench.report.overview import listing_grid

    if as_json:
        print_json(found.rows)
        return
    for line in found.warnings:
        print(f"vlbench: {line}", file=sys.stderr)
    console = terminal()
    console.print(found.title, style="bold", highlight=False)
    console.print(listing_grid(found))
    for line in (*found.notes, *([MARK_NOTE] if any(row.get("verified") == "memory" for row in found.rows) else [])):
        console.print(line, style="dim", highlight=False)


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
        from vlbench.possible import check_form
        from vlbench.report.overview import list_recipe

        typed = typed_values(dataset=dataset, size=size, start=start, settings=settings)
        made = plan(name, task, suite=suite, typed=typed)
        check_form(made)
        _print_listing(list_recipe(made.recipe, made.origins), as_json)
        return
    from vlbench.report.show import card_data, card_text

    if as_json:
        print_json(card_data(name))
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
    found = make(listed(tasks), listed(methods), dataset, split, runs_root(out))
    for line in found.warnings:
        print(f"vlbench: {line}", file=sys.stderr)
    missed = under(found.tables, limits)
    if as_json:
        from vlbench.report.export import plain_table

        print_json({"tables": [plain_table(table) for table in found.tables], "under": [str(one) for one in missed]})
    elif as_markdown:
        from vlbench.report.render import markdown

        print(markdown(found.tables))
    else:
        from vlbench.report.render import terminal as laid_out

        console = terminal()
        for table in found.tables:
            console.print(laid_out(table))
        if not found.tables:
            console.print("nothing to compare yet; make a run with: vlbench run lxmert vqa")
    for one in missed:
        print(f"vlbench: {one}", file=sys.stderr)
    finish(4 if missed else 0)


@app.command()
def score(
    task: Annotated[str, typer.Argument(help="a task, as in: vlbench list tasks")],
    answers: Annotated[Path, typer.Option("--answers", help="answer file in the official format")],
    questions: Annotated[Path | None, typer.Option("--questions", help="official question file (vqa, gqa)")] = None,
    annotations: Annotated[Path | None, typer.Option("--annotations", help="official annotation file")] = None,
    choices: Annotated[Path | None, typer.Option("--choices", help="gqa: valid and plausible answers")] = None,
    scenes: Annotated[Path | None, typer.Option("--scenes", help="gqa: scene graphs")] = None,
    consistency: Annotated[bool, typer.Option("--consistency", help="gqa: score entailed questions too")] = False,
    pool: Annotated[bool, typer.Option("--pool", help="retrieval: search only the images of the answer file")] = False,
    scorer: Annotated[str, typer.Option("--scorer", help="version of the scorer; the official one if not given")] = "",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Score anyone's answer file against the official files; needs no model and no GPU."""
    from vlbench.cards import TaskCard
    from vlbench.catalog import find
    from vlbench.plugins import load_code
    from vlbench.tasks.base import OfficialFiles, Task

    code, files = load_code(find(TaskCard, task).code, Task), OfficialFiles(answers, questions, annotations, choices)
    files = files._replace(scenes=scenes, consistency=consistency, scorer=scorer, pool=pool)
    _only_its_options(code, files, task)
    found = code.score_files(files)
    if as_json:
        print_json(found)
        return
    from vlbench.report.scored import show_scored

    show_scored(found, terminal())


def _only_its_options(code: type[Task], files: OfficialFiles, task: str) -> None:
    """Refuse an option that a task does not use: who gives it would take the scores for others than they are."""
    from vlbench.types import Misuse

    taken = getattr(code, "score_options", None)  # a task of one's own need not say what it takes
    options = ("questions", "annotations", "choices", "scenes", "consistency", "pool")
    given = [name for name in options if getattr(files, name)]
    for name in given:
        if taken is not None and name not in taken:
            takes = ", ".join(f"--{one}" for one in ("answers", *taken, "scorer"))
            raise Misuse(f"score {task} has no use for --{name}", f"it takes {takes}: leave --{name} out")


from vlbench import dataverbs, trainverbs, workshop  # noqa: E402  (after the verbs above: the order of --help)

__all__ = ["app", "dataverbs", "main", "trainverbs", "workshop"]

"""The verbs about the installation and its store: verify, bench, report, ui, sync, doctor."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from vlbench.options import (
    AsJson,
    Data,
    Debug,
    Device,
    NoMirror,
    Out,
    Size,
    app,
    finish,
    listed,
    print_json,
    terminal,
)


@app.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="methods or metrics; nothing for all")] = None,
    official: Annotated[Path | None, typer.Option("--official", help="folder of recorded cases")] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Prove this installation: parity with the authors' code and conformance of every scorer."""
    from vlbench.verify import as_json as checks_document
    from vlbench.verify import exit_code, show_checks
    from vlbench.verify import verify as checks

    wanted = [name for typed in names or () for name in listed(typed)]
    if as_json:
        found = list(checks(wanted, official))
        print_json(checks_document(found))
        finish(exit_code(found))
    finish(show_checks(checks(wanted, official), terminal()))


@app.command()
def submit(
    run: Annotated[str, typer.Argument(help="a run's id, or the beginning or end of it")],
    split: Annotated[str, typer.Option("--split", help="splits as a,b; by default those without public answers")] = "",
    data: Data = None,
    out: Out = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write the evaluation server's upload file of a run, checked as the server checks it."""
    from vlbench.paths import data_root, runs_root
    from vlbench.submission import submit as write

    found = write(run, runs_root(out), data_root(data), tuple(listed(split)))
    if as_json:
        print_json([{**one._asdict(), "path": str(one.path)} for one in found])
        return
    for one in found:
        print(f"{one.split}: {one.path} ({one.bytes:,} bytes; checked; {one.server})")


@app.command()
def record(
    run: Annotated[str, typer.Argument(help="a run's id, or the beginning or end of it")],
    server: Annotated[Path, typer.Option("--server", help="the evaluation server's reply, a JSON file")],
    out: Out = None,
    no_mlflow: NoMirror = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Take an evaluation server's reply into a run's record, and into MLflow."""
    from vlbench.paths import runs_root
    from vlbench.runfolder import find_run
    from vlbench.submission import take_reply

    root = runs_root(out)
    done = take_reply(run, root, server)
    mirrored = ""
    if not no_mlflow:
        from vlbench.tracking import store_uri, sync

        mirrored = sync([find_run(done.id, root)], store_uri(root))[0].outcome
    if as_json:
        print_json(done.model_dump(mode="json"))
        return
    for name, scores in done.scores.items():
        print(f"{name}: " + ", ".join(f"{metric} {score.value:.2f}" for metric, score in scores.items()))
    if mirrored:
        print(f"mlflow: {mirrored}")


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
    from vlbench.cards import ModelCard
    from vlbench.catalog import card_names
    from vlbench.console import LiveProgress
    from vlbench.plan import names_of

    with LiveProgress(Console(stderr=True)) as live:
        report = measure(
            names_of(methods, card_names(ModelCard)), size=size or "mini", batch=batch, steps=steps, repeats=repeats,
            regions=regions, text_length=text_length, device=device, progress=live.progress,
        )  # fmt: skip
    if as_json:
        print_json(report.as_json())
    else:
        show_bench(report, terminal())


@app.command()
def report(
    out: Out = None,
    into: Annotated[Path, typer.Option("--into", help="folder of the leaderboards")] = Path("reports/leaderboards"),
    studies: Annotated[Path, typer.Option("--studies", help="folder of the studies")] = Path("reports/studies"),
    suite: Annotated[
        list[str] | None, typer.Option("--suite", help="file of a suite of your own, whose study is written, too")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="where corpora lie that CapFilt made: what it judged is written, too")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write a leaderboard for each task and data set, and what suites that compare variants found out.

    From the records that ship with vlbench, and with --out those of own runs, but for those on a few examples.
    """
    from vlbench.cards import SuiteCard
    from vlbench.catalog import MADE_CORPORA, card_names, find_suite
    from vlbench.paths import card_folder, runs_root
    from vlbench.report.bootstraps import CHECKED_IN, read_bootstrap
    from vlbench.report.compare import collect, write_leaderboards
    from vlbench.report.study_page import write_studies

    # own runs only where asked for: a checked-in leaderboard holds what the checked-in records say
    found = collect(runs_root(out) if out else Path(os.devnull))
    own = [find_suite(name) for name in suite or ()]
    known = {*card_names(SuiteCard), *(one.id for one in own)}
    lost = {record.suite for record in found.records if record.recipe.variant} - known
    few = sum(record.basis == "smoke" and record.kind != "pretrain" for record in found.records)
    told = [f"no study of {name}, which is no suite of vlbench: give its file with --suite" for name in sorted(lost)]
    told += [f"left out: {few} runs on a few examples (--limit, or the suite smoke)"] if few else []
    for line in [*found.warnings, *told]:
        print(f"vlbench: {line}", file=sys.stderr)
    written = [str(path) for path in write_leaderboards(found.records, into)]
    places = [*card_folder(CHECKED_IN).glob("*.json"), *(data.glob(f"{MADE_CORPORA}/*/capfilt.json") if data else ())]
    judged = [read_bootstrap(path) for path in sorted(places)]
    compared = [str(path) for path in write_studies(found.records, studies, own, judged)]
    if as_json:
        print_json({"leaderboards": written, "studies": compared})
    else:
        print("\n".join([*written, *compared]) or "no record to make a leaderboard of")


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
        print_json([{"folder": str(one.folder), "run": one.run, "outcome": one.outcome} for one in done])
    else:
        for one in done:
            print(f"{one.folder.name}  {one.outcome}")
        if not done:
            print(f"there is no run below {root}")
    finish(0 if all(one.outcome in ("new", "updated", "already there") for one in done) else 1)


@app.command()
def doctor(data: Data = None, out: Out = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """Say what is installed and found, and what to do about each lack."""
    from vlbench.doctor import examine, show_doctor
    from vlbench.paths import data_root, runs_root

    findings = examine(data_root(data), runs_root(out))
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        show_doctor(findings, terminal())
    finish(1 if any(finding.state == "broken" for finding in findings) else 0)

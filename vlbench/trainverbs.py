"""The verbs of pre-training, and of making a corpus by what was pre-trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlbench.options import (
    AsJson,
    Data,
    Debug,
    Device,
    DryRun,
    Fresh,
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
    typed_values,
)

FirstOnly = Annotated[int, typer.Option("--limit", min=0, help="use only the first N examples of the corpora together")]


@app.command()
def pretrain(
    methods: Annotated[str, typer.Argument(help="a method, several as a,b, or all")],
    suite: Suite = "quick",
    stage: Annotated[str, typer.Option("--stage", help="only these stages of the method's card, as a,b")] = "",
    size: Size = "",
    start: Start = "",
    seed: Seeds = "",
    limit: FirstOnly = 0,
    settings: Settings = None,
    data: Data = None,
    out: Out = None,
    device: Device = "auto",
    fresh: Fresh = False,
    no_mlflow: NoMirror = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Pre-train METHODS as the suite says; go on with: vlbench run METHOD TASK --start run:ID."""
    from vlbench.chain import Chains
    from vlbench.several import Setting

    typed = typed_values(size=size, start=start, limit=limit, settings=settings)
    chains = Chains(Setting(suite, typed, data, out, device, fresh, not no_mlflow, as_json, debug))
    chains.add(methods, listed(stage) if stage else [], seed)
    finish(chains.preview() if dry_run else chains.carry_out())


@app.command()
def capfilt(
    corpus: Annotated[str, typer.Argument(help="the noisy corpus: a name, or the path of its card")],
    start: Annotated[
        str, typer.Option("--start", help="a pre-training: run:ID, published, or pretrained (the suite's own)")
    ] = "pretrained",
    clean: Annotated[str, typer.Option("--clean", help="corpora of human captions to learn from, as a,b")] = "",
    suite: Suite = "quick",
    keep_above: Annotated[
        float,
        typer.Option("--keep-above", min=0.001, max=0.999, help="keep texts that belong to their image this probably"),
    ] = 0.5,
    into: Annotated[Path | None, typer.Option("--into", help="folder to write (DATA/capfilt/CORPUS)")] = None,
    limit: FirstOnly = 0,
    settings: Settings = None,
    data: Data = None,
    out: Out = None,
    device: Device = "auto",
    fresh: Annotated[bool, typer.Option("--fresh", help="judge the corpus anew, and replace what is there")] = False,
    no_mlflow: NoMirror = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Bootstrap CORPUS by a pre-trained BLIP: wrong captions are dropped, new ones written and judged (CapFilt)."""
    from vlbench.capfilt.command import CapFilt
    from vlbench.capfilt.planning import Wish
    from vlbench.several import Setting

    typed = typed_values(limit=limit, settings=settings)
    setting = Setting(suite, typed, data, out, device, fresh, not no_mlflow, as_json, debug)
    wish = Wish(corpus, start, tuple(listed(clean)) if clean else (), into, suite, typed, keep_above)
    command = CapFilt(setting, wish)
    finish(command.preview() if dry_run else command.carry_out())

"""The verbs of pre-training."""

from __future__ import annotations

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


@app.command()
def pretrain(
    methods: Annotated[str, typer.Argument(help="a method, several as a,b, or all")],
    suite: Suite = "quick",
    stage: Annotated[str, typer.Option("--stage", help="only these stages of the method's card, as a,b")] = "",
    size: Size = "",
    start: Start = "",
    seed: Seeds = "",
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

    typed = typed_values(size=size, start=start, settings=settings)
    chains = Chains(Setting(suite, typed, data, out, device, fresh, not no_mlflow, as_json, debug))
    chains.add(methods, listed(stage) if stage else [], seed)
    finish(chains.preview() if dry_run else chains.carry_out())

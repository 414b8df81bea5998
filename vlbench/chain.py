"""Pre-training of several methods and seeds as one command: each a chain of stages that begin from one another."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from vlbench.cards import ModelCard
from vlbench.catalog import card_names, find
from vlbench.console import LiveProgress
from vlbench.matrix import DEVICES, seeds_of
from vlbench.paths import data_root, runs_root
from vlbench.plan import Plan, names_of
from vlbench.stages import plan_stage, stages_of
from vlbench.types import Fault, Misuse, as_fault


class Chain(NamedTuple):
    """The stages of a method with one seed, in order."""

    method: str
    typed: Mapping[str, Any]
    stages: Sequence[str]

    def plan(self, place: int, suite: str, start: str = "") -> Plan:
        """Plan a stage; ``start``: what it begins from, where that is not for the recipe to say."""
        begun = {"start": start} if start else {}
        return plan_stage(self.method, self.stages[place], suite=suite, typed={**self.typed, **begun})


class Chains:
    """The pre-trainings of one command."""

    def __init__(
        self,
        suite: str,
        typed: Mapping[str, Any],
        data: Path | None,
        out: Path | None,
        device: str,
        *,
        fresh: bool,
        mirror: bool,
        as_json: bool,
        debug: bool,
    ) -> None:
        if device not in DEVICES:
            raise Misuse(f"--device is {', '.join(DEVICES)}, not '{device}'", "auto takes a GPU where there is one")
        self.suite, self.typed, self.device = suite, typed, device
        self.data, self.out = data_root(data), runs_root(out)
        self.fresh, self.mirror, self.as_json, self.debug = fresh, mirror, as_json, debug
        self.chains: list[Chain] = []
        self.failed: list[tuple[str, Fault]] = []
        self.console = Console(stderr=as_json, width=None if sys.stdout.isatty() else 104)
        self.messages = Console(stderr=True, width=None if sys.stderr.isatty() else 400)

    def add(self, methods: str, stages: Sequence[str], seeds: str) -> None:
        """Plan every method and seed; a wrong name is an error at once."""
        able = [name for name in card_names(ModelCard) if find(ModelCard, name).pretrain]
        for method in names_of(methods, able):
            for seed in seeds_of(seeds):
                chain = Chain(method, {**self.typed, **seed}, stages_of(method, stages))
                for place in range(len(chain.stages)):
                    planned = chain.plan(place, self.suite)
                    if not (planned.recipe.steps or planned.recipe.epochs):
                        raise Misuse(
                            f"the suite {self.suite} has no budget to pre-train {method}", "say one: --set epochs=4"
                        )
                self.chains.append(chain)

    def carry_out(self) -> int:
        """Carry all out, a failure of one not stopping the others; return the exit code."""
        made = [one for chain in self.chains for one in self._carry_out(chain)]
        if self.as_json:
            records = [{**one.record.model_dump(mode="json"), "folder": str(one.folder)} for one in made]
            failed = [{"title": title, "wrong": fault.wrong, "todo": fault.todo} for title, fault in self.failed]
            print(json.dumps({"runs": records, "failed": failed}, indent=1))
        return max((fault.code for _, fault in self.failed), default=0)

    def _carry_out(self, chain: Chain) -> list[Any]:
        from vlbench.prepare import Options
        from vlbench.pretrain import pretrain

        made: list[Any] = []
        for place in range(len(chain.stages)):
            planned = chain.plan(place, self.suite, f"run:{made[-1].folder}" if made else "")
            with LiveProgress(self.messages) as live:
                options = Options(self.out, self.data, self.device, self.fresh, self.mirror, live.progress, live.say)
                self._announce(planned)
                try:
                    made.append(pretrain(planned, options))
                except BrokenPipeError:
                    raise
                except Exception as error:  # whatever stops one chain, the others are made
                    if self.debug:
                        raise
                    self._fail(planned, as_fault(error))
                    break
            self._show(made[-1])
        return made

    def _announce(self, planned: Plan) -> None:
        stage = f", stage {planned.recipe.stage}" if planned.recipe.stage else ""
        self.messages.print(
            f"[bold]{planned.model.name} on {planned.dataset.name}[/]{stage}, seed {planned.recipe.seed} "
            f"(size {planned.recipe.size}, from {planned.recipe.start}; suite {planned.suite.id})",
            highlight=False,
        )

    def _fail(self, planned: Plan, fault: Fault) -> None:
        self.failed.append((planned.title, fault))
        print(f"vlbench: {fault.wrong}", file=sys.stderr)
        if fault.todo:
            print(f"  -> {fault.todo}", file=sys.stderr)
        if fault.wrong == "stopped":
            raise SystemExit(fault.code)

    def _show(self, made: Any) -> None:
        from vlbench.report.result import show_result

        if not made.new:
            self.messages.print("this stage was finished before; --fresh runs it again", style="dim")
        if not self.as_json:
            show_result(made.record, [], made.folder, self.console, mirrored=self.mirror)

    def preview(self) -> int:
        """Say what would be done, stage by stage; change nothing."""
        found = []
        for chain in self.chains:
            for place in range(len(chain.stages)):
                planned = chain.plan(place, self.suite)
                about = {"method": planned.model.id, "stage": planned.recipe.stage, "seed": planned.recipe.seed}
                keys = ("corpora", "losses", "steps", "epochs", "batch", "rate", "size")
                values = planned.recipe.model_dump(mode="json")
                found.append({**about, **{key: values[key] for key in keys}})
        if self.as_json:
            print(json.dumps({"plans": found}, indent=1))
        else:
            for one in found:
                for key, value in one.items():
                    self.console.print(f"{key:>10}  {value}", highlight=False, markup=False, soft_wrap=True)
                self.console.print()
        return 0

"""Pre-training of several methods and seeds as one command: each a chain of stages that begin from one another."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from rich.markup import escape

from vlbench.cards import ModelCard
from vlbench.catalog import card_names, find
from vlbench.plan import PRETRAINED, Plan, names_of
from vlbench.processes import is_first, several
from vlbench.several import Setting, Several
from vlbench.stages import plan_stage, stages_of, unpublished
from vlbench.types import Fault, Impossible


class Chain(NamedTuple):
    """The stages of a method with one seed, in order."""

    method: str
    typed: Mapping[str, Any]
    stages: Sequence[str]
    usual: Mapping[str, Any] = {}
    """What holds where the suite says nothing else."""

    @classmethod
    def of_run(cls, planned: Plan, data: Path) -> Chain:
        """Return what a run begins from: its size and numbers, the pre-training of its variant, for its task.

        ``data``: where published parts lie, which are not trained again.
        """
        recipe = planned.recipe
        own: dict[str, Any] = {"size": recipe.size, "variant": recipe.variant}
        own |= {"changes": recipe.changes} if recipe.changes else {}
        stages = unpublished(planned.model, planned.model.stages_for(planned.task.id), recipe.size, data)
        return cls(planned.model.id, own, stages, {"seed": recipe.seed})

    def plan(self, place: int, suite: str, start: str = "") -> Plan:
        """Plan a stage; ``start``: what it begins from, where that is not for the recipe to say."""
        begun = {"start": start} if start else {}
        return plan_stage(self.method, self.stages[place], suite=suite, typed={**self.typed, **begun}, usual=self.usual)

    def check(self, suite: str) -> None:
        """Refuse, before anything is made, stages that the suite has no budget for."""
        for place in range(len(self.stages)):
            recipe = self.plan(place, suite).recipe
            if not (recipe.steps or recipe.epochs):
                stage = self.stages[place]
                raise Impossible(
                    f"the suite {suite} has no budget to pre-train {self.method}{f', stage {stage}' if stage else ''}",
                    f"say one: {f'--stage {stage} ' if stage else ''}--set epochs=4",
                )

    def preview(self, command: Several) -> list[dict[str, Any]]:
        """Say what would be done, stage by stage."""
        from vlbench.stage_preview import preview_stage

        before = ["", *self.stages]
        plans = [self.plan(place, command.suite) for place in range(len(self.stages))]
        return [preview_stage(one, command.data, command.out, name) for one, name in zip(plans, before, strict=False)]

    def carry_out(
        self, command: Several, shown: Callable[[Any], None] = lambda made: None, *, before: bool = False
    ) -> list[Any]:
        """Make the stages, each from the one before; what is made already is only looked up.

        ``before``: they are what the command's runs begin from.
        """
        from vlbench.pretrain import pretrain

        made: list[Any] = []
        for place in range(len(self.stages)):
            planned = self.plan(place, command.suite, f"run:{made[-1].record.id}" if made else "")
            with command.live(before=before) as options:
                announce(planned, command)
                made.append(pretrain(planned, options))
            shown(made[-1])
        return made


def show_stages(found: Sequence[Mapping[str, Any]], command: Several) -> None:
    """Print what would be done by stages."""
    from vlbench.stage_preview import shown

    for stage in found:
        for key, line in shown(stage):
            command.console.print(f"{key:>14}  {line}", highlight=False, markup=False, soft_wrap=True)
        command.console.print()


def announce(planned: Plan, command: Several) -> None:
    """Say which stage is made now."""
    stage = f", stage {planned.recipe.stage}" if planned.recipe.stage else ""
    command.messages.print(
        f"[bold]{escape(planned.model.name)} pre-trained on {escape(planned.dataset.name)}[/]{stage}, seed "
        f"{planned.recipe.seed} (size {planned.recipe.size}, from {planned.recipe.start}; suite {planned.suite.id})",
        highlight=False,
    )


class Chains(Several):
    """The pre-trainings of one command."""

    together = True

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.chains: list[Chain] = []
        self.failed: list[tuple[str, Fault]] = []

    def add(self, methods: str, stages: Sequence[str], seeds: str) -> None:
        """Plan every method and seed; a wrong name is an error at once."""
        able = [name for name in self.card.all_methods or card_names(ModelCard) if find(ModelCard, name).pretrain]
        for method in names_of(methods, able):
            for variant, seed in product(self.variants(), self.seeds(seeds)):
                if self._begins_elsewhere(variant):
                    continue
                asked = {**self._built(variant), **self.typed, **variant, **(seed if seeds else {})}
                chain = Chain(method, asked, stages_of(method, stages), seed)
                if not stages:
                    made = chain.plan(0, self.suite)
                    left = unpublished(made.model, chain.stages, made.recipe.size, self.data)
                    chain = chain._replace(stages=left)
                if all(chain.plan(0, self.suite).recipe != one.plan(0, self.suite).recipe for one in self.chains):
                    self.chains.append(chain)  # variants and seeds may share what they begin from

    def _built(self, variant: Mapping[str, str]) -> dict[str, Any]:
        """Return the size and the numbers that a variant's runs have, which what they begin from has, too."""
        name = variant.get("variant", "")
        run = self.card.variants[name].run if name else {}
        return {key: run[key] for key in ("size", "changes") if key in run}

    def _begins_elsewhere(self, variant: Mapping[str, str]) -> bool:
        """Say whether a variant's runs begin from no pre-training of the suite's."""
        name = variant.get("variant", "")
        return bool(name) and self.card.variants[name].run.get("start", PRETRAINED) != PRETRAINED

    def carry_out(self) -> int:
        """Carry all out, a failure of one not stopping the others; return the exit code."""
        made: list[Any] = []
        for chain in self.chains:
            try:
                chain.check(self.suite)
                made += chain.carry_out(self, self._show)
            except Exception as error:  # whatever stops one chain, the others are made
                fault = self.fault_of(error)
                self.failed.append((chain.plan(0, self.suite).title, fault))
                self.tell(fault)
                if fault.wrong == "stopped" or several():  # after a fault the processes are not where they were
                    break
        if self.as_json and is_first():
            records = [{**one.record.model_dump(mode="json"), "folder": str(one.folder)} for one in made]
            failed = [{"title": title, "wrong": fault.wrong, "todo": fault.todo} for title, fault in self.failed]
            print(json.dumps({"runs": records, "failed": failed}, indent=1))
        return max((fault.code for _, fault in self.failed), default=0)

    def _show(self, made: Any) -> None:
        from vlbench.report.result import show_result

        if not made.new:
            self.messages.print("this stage was finished before; --fresh runs it again", style="dim")
        if not self.as_json:
            show_result(made.record, [], made.folder, self.console, mirrored=self.mirror)

    def preview(self) -> int:
        """Say what would be done, stage by stage; change nothing."""
        found = [stage for chain in self.chains for stage in chain.preview(self)]
        if self.as_json and is_first():
            print(json.dumps({"plans": found}, indent=1))
        else:
            show_stages(found, self)
        return 3 if any(stage["missing"] for stage in found) else 0

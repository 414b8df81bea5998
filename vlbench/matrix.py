"""Several runs as one command: methods x tasks x seeds, each on its own, one failure not stopping the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from rich.markup import escape

from vlbench.cards import VARIANT, DatasetCard, ModelCard, TaskCard
from vlbench.catalog import card_names, cards, find_corpus
from vlbench.chain import Chain, show_stages
from vlbench.plan import PRETRAINED, Plan, find_model, names_of, plan
from vlbench.possible import check_possible, other_data, trained_on
from vlbench.runfolder import built_as, check_start, find_run, finished
from vlbench.several import Setting, Several
from vlbench.types import BadData, Fault, Impossible, Misuse, WrongStart


class Skipped(NamedTuple):
    """A pair that was not run, and why."""

    title: str
    wrong: str
    todo: str
    code: int


class Matrix(Several):
    """The runs of one command."""

    def __init__(self, setting: Setting, *, trains: bool = True) -> None:
        super().__init__(setting)
        self.trains = trains
        self.plans: list[Plan] = []
        self.skipped: list[Skipped] = []
        self.impossible: list[Skipped] = []
        self.moved: dict[tuple[str, str], str] = {}
        """What is said of pairs that are asked on other data than the suite's, as their start fits no other."""
        self.made: dict[tuple[str, ...], Any] = {}
        """What was made already, by what it is a run of: a run, or the fault that stopped it."""

    def add(self, methods: str, tasks: str, seeds: str) -> None:
        """Plan every pair and seed; a wrong name is an error at once."""
        suite = self.card
        own = [name for name, one in suite.variants.items() if "start" in one.run]
        if own and "start" in self.typed and "variant" not in self.typed:
            raise Misuse(
                f"--start and the variants of {self.suite} ({', '.join(own)}) both say what runs begin from",
                f"leave --start out, or choose one: --set variant={own[0]}",
            )
        able = suite.all_methods or card_names(ModelCard)
        known = [task for task in suite.all_tasks or card_names(TaskCard) if task not in suite.without]
        faults: list[Impossible] = []
        for method, task in product(names_of(methods, able), names_of(tasks, known)):
            try:
                made = [
                    self._plan(method, task, {**variant, **seed})
                    for variant, seed in product(self.variants(), self.seeds(seeds))
                ]
                for one in made:
                    check_possible(one)
                check_start(made[0], self.out)
            except Impossible as fault:
                faults.append(fault)
                title = f"{find_model(method).name} on {task}"
                self.impossible.append(Skipped(title, fault.wrong, fault.todo, 0))
            else:
                self.plans += made
        if not self.plans:
            if len(faults) == 1 or all(isinstance(fault, WrongStart) for fault in faults):
                raise faults[0]
            raise Impossible("none of these pairs can be", f"{self.impossible[0].title}: {self.impossible[0].wrong}")

    def _plan(self, method: str, task: str, which: Mapping[str, Any]) -> Plan:
        earlier = built_as(find_model(method).id, str(self.typed.get("start", "")), self.out)
        made = plan(method, task, suite=self.suite, typed={**self.typed, **which}, earlier=earlier)
        if dataset := self._of_its_regions(made):
            self.moved[made.model.id, task] = (
                f"{made.model.id} is asked {task} on {dataset}, whose regions it was pre-trained on; "
                f"{made.dataset.name}'s are of another detector"
            )
            moved = {**self.typed, **which, "dataset": dataset}
            made = plan(method, task, suite=self.suite, typed=moved, earlier=earlier)
        asks = made.recipe.start.startswith(VARIANT)
        if self.trains and not (made.recipe.steps or made.recipe.epochs or asks):
            raise Misuse(
                f"the suite {self.suite} has no training budget for {made.model.id} on {made.dataset.id}",
                "say one with --set epochs=4, or answer without training: vlbench evaluate",
            )
        return made

    def _of_its_regions(self, made: Plan) -> str:
        """Name the made-up world that a run should be asked on, where none is typed: its regions are of one detector.

        A method that sees regions and was pre-trained on the made-up world alone has learned what the detector of that
        sees; regions of another are of another width.
        """
        start, size = made.recipe.start, made.recipe.size
        if "dataset" in self.typed or made.dataset.made or made.model.sees_at(size) == "pixels":
            return ""
        corpora: Sequence[str] = ()
        if start == PRETRAINED and made.model.pretrain:
            corpora = Chain.of_run(made, self.data).plan(0, self.suite).recipe.corpora
        elif start.startswith("run:"):
            earlier = finished(find_run(start.removeprefix("run:"), self.out))
            corpora = earlier.recipe.corpora if earlier and earlier.kind == "pretrain" else ()
        worlds = {find_corpus(name.partition("*")[0], self.data).made for name in corpora}
        known = [
            one.id for one in cards(DatasetCard) if {one.made} == worlds and one.made and one.id in made.task.datasets
        ]
        return known[0] if known else ""

    def carry_out(self) -> int:
        """Run all; print each result as it comes, and a table of all at the end; return the exit code."""
        from vlbench.session import Made

        self._leave_out()
        made: list[Made] = []
        for number, planned in enumerate(self.plans, 1):
            if len(self.plans) > 1:
                head = f"── {number} of {len(self.plans)}: {planned.title}"
                self.messages.print(head, style="dim", markup=False, highlight=False)
            try:
                made.append(self._run(planned))
            except Exception as error:  # whatever stops one run, the others are made
                fault = self.fault_of(error)
                self._skip(planned, fault)
                if fault.wrong == "stopped":
                    break
                continue
            self._show(made[-1])
        return self._close(made)

    def _run(self, planned: Plan) -> Any:
        """Make a run once, and what it begins from before it; a fault of it stops those that begin from it, too."""
        recipe = planned.recipe
        name = (planned.model.id, planned.task.id, planned.dataset.id, recipe.variant, str(recipe.seed))
        if name not in self.made:
            try:
                self.made[name] = self._run_anew(planned)
            except Fault as fault:
                self.made[name] = fault
        if isinstance(self.made[name], Fault):
            raise self.made[name]
        return self.made[name]

    def _run_anew(self, planned: Plan) -> Any:
        from vlbench.run import run

        if planned.recipe.start.startswith(VARIANT):
            planned = self._of_variant(planned)
        if planned.recipe.start == PRETRAINED:
            planned = self._pretrained(planned)
        with self.live() as options:
            self._announce(planned)
            return run(planned, options)

    def _of_variant(self, planned: Plan) -> Plan:
        """Make the other variant's run that a run begins from, where it is not there; return the run that does."""
        recipe = planned.recipe
        which = {**self.typed, "seed": recipe.seed}
        which |= self._moved(planned)
        other = {**which, "variant": recipe.start.removeprefix(VARIANT)}
        earlier = self._run(plan(recipe.model, recipe.task, suite=self.suite, typed=other))
        begun = {**which, "variant": recipe.variant, "start": f"run:{earlier.record.id}"}
        return plan(recipe.model, recipe.task, suite=self.suite, typed=begun)

    def _pretrained(self, planned: Plan) -> Plan:
        """Make the pre-training a run begins from, where it is not there; return the run that does."""
        recipe = planned.recipe
        chain = Chain.of_run(planned, self.data)
        made = chain.carry_out(self, before=True)
        typed = {**self.typed, "seed": recipe.seed, "start": f"run:{made[-1].record.id}"}
        typed |= {"variant": recipe.variant} if recipe.variant else {}
        typed |= self._moved(planned)
        return plan(planned.model.id, planned.task.id, suite=self.suite, typed=typed)

    def _moved(self, planned: Plan) -> dict[str, str]:
        """Return the data set of a run that is asked on other data than the suite's."""
        moved = (planned.model.id, planned.task.id) in self.moved
        return {"dataset": planned.dataset.id} if moved else {}

    def _leave_out(self) -> None:
        for line in self.moved.values():
            self.messages.print(line, markup=False, highlight=False)
        for left in self.impossible:
            self.messages.print(f"[yellow]left out: {escape(left.title)}: {escape(left.wrong)}[/]", highlight=False)

    def _announce(self, planned: Plan) -> None:
        size = f"size {planned.recipe.size}, from {planned.recipe.start}"
        self.messages.print(f"[bold]{escape(planned.title)}[/] ({size}; suite {planned.suite.id})", highlight=False)
        if seen := trained_on(planned):
            self.messages.print(
                f"[yellow]{planned.model.name}'s fine-tuning trained on {', '.join(seen)} (by its card): "
                "what comes out is no estimate of how it does on new data[/]",
                highlight=False,
            )
        if told := other_data(planned):
            self.messages.print(f"[yellow]the published weights were fine-tuned on {escape(told)}[/]", highlight=False)
        usual = all(planned.origins[key] != "typed" for key in ("steps", "epochs", "size", "limit"))
        usual = usual and planned.suite.datasets.get(planned.task.id) == planned.dataset.id
        if self.trains and usual and planned is self.plans[0]:
            self.messages.print(f"[dim]to expect: {escape(planned.suite.expect)}[/]", highlight=False)

    def _skip(self, planned: Plan, fault: Fault) -> None:
        todo = fault.todo
        if isinstance(fault, BadData) and ("not here" in fault.wrong or "there is no file" in fault.wrong):
            todo = f"{todo}{'; ' if todo else ''}all that is missing: the same command with --dry-run"
        self.skipped.append(Skipped(planned.title, fault.wrong, todo, fault.code))
        self.tell(fault, todo)

    def _show(self, made: Any) -> None:
        from vlbench.report.published import find_published
        from vlbench.report.result import show_result

        if not made.new:
            self.messages.print("this run was finished before; --fresh runs it again", style="dim")
        if not self.as_json:
            show_result(made.record, find_published(), made.folder, self.console, mirrored=self.mirror)

    def _close(self, made: Sequence[Any]) -> int:
        if self.as_json:
            records = [{**one.record.model_dump(mode="json"), "folder": str(one.folder)} for one in made]
            failed = [skipped._asdict() for skipped in self.skipped]
            cannot = [skipped._asdict() for skipped in self.impossible]
            found = {"runs": records, "failed": failed, "impossible": cannot, "summary": self._summary(made)}
            print(json.dumps(found, indent=1))
        elif len(self.plans) > 1 and made:
            self._compare(made)
        return max((skipped.code for skipped in self.skipped), default=0)

    def _summary(self, made: Sequence[Any]) -> list[dict[str, Any]]:
        """Return a row a recipe, several seeds as their mean with an interval."""
        from vlbench.report.export import plain_table
        from vlbench.report.tables import boards, leaderboard

        records = [one.record for one in made if one.record.scores and not one.record.recipe.attack]
        pairs = dict.fromkeys((record.task, record.dataset) for record in records)
        known = [board for task, dataset in pairs for board in boards(task, dataset, records)]
        return [plain_table(table) for board in known for table in leaderboard(records, [], board)]

    def _compare(self, made: Sequence[Any]) -> None:
        """Print a leaderboard of what was just run, and a line for each run that failed."""
        from vlbench.report.compare import compare
        from vlbench.report.render import terminal

        records = [one.record for one in made]
        if self.card.variants:
            from vlbench.report.studies import study
            from vlbench.report.study_page import study_grid

            self.console.print(study_grid(study(self.card, records, smoke=True)))
            records = []
        methods = list(dict.fromkeys(record.method for record in records))
        for dataset in dict.fromkeys(record.dataset for record in records):
            tasks = [record.task for record in records if record.dataset == dataset]
            for table in compare(list(dict.fromkeys(tasks)), methods, dataset, runs_root=self.out).tables:
                self.console.print(terminal(table))
        for skipped in self.skipped:
            self.console.print(f"not run: {skipped.title}: {skipped.wrong}", style="yellow", highlight=False)

    def preview(self) -> int:
        """Say what would be done: steps, time, memory, disk, missing files; change nothing."""
        from vlbench.preview import preview

        self._leave_out()
        first = self._preview_stages()
        plans = [preview(planned, self.data, self.out) for planned in self.plans]
        if self.as_json:
            print(json.dumps({"before": first, "plans": plans}, indent=1))
        else:
            show_stages(first, self)
            for one in plans:
                for key, value in one.items():
                    lines = (value or ["nothing"]) if key == "missing" else [value]
                    for number, line in enumerate(lines):
                        shown = f"{line:,}" if isinstance(line, int) else line
                        head = "" if number else key
                        self.console.print(f"{head:>14}  {shown}", highlight=False, markup=False, soft_wrap=True)
                self.console.print()
        return 3 if any(one["missing"] for one in [*first, *plans]) else 0

    def _preview_stages(self) -> list[dict[str, Any]]:
        """Say which stages of pre-training come before the runs, each once however many runs begin from it."""
        chains = [Chain.of_run(planned, self.data) for planned in self.plans if planned.recipe.start == PRETRAINED]
        found: list[dict[str, Any]] = []
        for chain in chains:
            found += [stage for stage in chain.preview(self) if stage not in found]
        return found

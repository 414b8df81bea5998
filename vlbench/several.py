"""What commands of several runs have in common: where they read and write, what they say, how one run may fail."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console

from vlbench.cards import SuiteCard
from vlbench.catalog import find_suite
from vlbench.console import LiveProgress
from vlbench.paths import data_root, runs_root
from vlbench.processes import ToldElsewhere, first_fault, give_way, is_first, refuse_several
from vlbench.types import Fault, Misuse, nearest

if TYPE_CHECKING:
    from vlbench.prepare import Options

DEVICES = ("auto", "cpu", "cuda")


class Setting(NamedTuple):
    """Of a command of several runs: what was typed, where it reads and writes, and how it speaks."""

    suite: str
    typed: Mapping[str, Any]
    data: Path | None = None
    out: Path | None = None
    device: str = "auto"
    fresh: bool = False
    mirror: bool = True
    as_json: bool = False
    debug: bool = False


class Several:
    """Several runs as one command; one that fails does not stop the others."""

    together = False
    """Whether several processes may share a run."""

    def __init__(self, setting: Setting) -> None:
        if not self.together:
            refuse_several()
        device = setting.device
        if device not in DEVICES:
            raise Misuse(f"--device is {', '.join(DEVICES)}, not '{device}'", "auto takes a GPU where there is one")
        self.suite, self.typed, self.device = setting.suite, setting.typed, device
        self.data, self.out = data_root(setting.data), runs_root(setting.out)
        self.fresh, self.mirror, self.as_json, self.debug = (
            setting.fresh,
            setting.mirror,
            setting.as_json,
            setting.debug,
        )
        # where the output is a file or a pipe, a table may be as wide as it is, and a line stays one line
        quiet = not is_first()
        self.console = Console(stderr=self.as_json, width=None if sys.stdout.isatty() else 104, quiet=quiet)
        self.messages = Console(stderr=True, width=None if sys.stderr.isatty() else 400, quiet=quiet)
        if setting.data and not setting.data.exists():
            self.messages.print(f"there is no folder {setting.data} (--data)", style="yellow", markup=False)

    @property
    def card(self) -> SuiteCard:
        """The suite's card."""
        return find_suite(self.suite)

    @contextmanager
    def live(self, *, before: bool = False) -> Iterator[Options]:
        """Show progress while one run is made, with the options it is made with.

        ``before``: it is what the runs begin from, which is not made afresh with them, and may be another command's.
        """
        from vlbench.prepare import Options

        with LiveProgress(self.messages) as live:
            fresh = self.fresh and not before
            yield Options(self.out, self.data, self.device, fresh, before, self.mirror, live.progress, live.say)

    def fault_of(self, error: Exception) -> Fault:
        """Say on standard error why a run failed; raise what is not for us to catch."""
        if self.debug or isinstance(error, BrokenPipeError):  # nobody reads our output any more
            raise error
        return first_fault(error)

    def tell(self, fault: Fault, todo: str = "") -> None:
        """Print what is wrong with one run, and what to do."""
        if isinstance(fault, ToldElsewhere):
            give_way()
            return
        print(f"vlbench: {fault.wrong}", file=sys.stderr)
        if todo or fault.todo:
            print(f"  -> {todo or fault.todo}", file=sys.stderr)

    def variants(self) -> list[dict[str, Any]]:
        """List the suite's variants as recipe values: those that were typed, else all; one plain one without any."""
        known = self.card.variants
        named = str(self.typed.get("variant", ""))
        if named and named not in known:
            raise Misuse(
                f"the suite {self.suite} has no variant '{named}'; {nearest(named, list(known))}"
                if known
                else f"the suite {self.suite} compares no variants",
                f"see: vlbench show {self.suite}",
            )
        return [{"variant": name} for name in ([named] if named else known)] or [{}]

    def seeds(self, typed: str) -> list[dict[str, int]]:
        """Read --seed: nothing (the suite's), a number, or several as 0,1,2; Misuse where it is none of these."""
        if not typed:
            return [{"seed": seed} for seed in self.card.seeds] or [{}]
        parts = [part.strip() for part in typed.split(",") if part.strip()]
        if not all(part.isdigit() for part in parts):
            raise Misuse(f"--seed wants whole numbers from 0 on, not '{typed}'", "one, or several as --seed 0,1,2")
        return [{"seed": int(part)} for part in parts]

"""Prove this installation: parity with the authors' code, and every scorer against the official ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from vlbench.proof.cases import Check, failure
from vlbench.types import BadData, Fault, Misuse, nearest

KINDS = ("parity", "metric")


class Item(NamedTuple):
    """One folder of recorded evidence."""

    kind: str
    """parity or metric."""
    name: str
    """Method or metric."""
    folder: Path

    @property
    def names(self) -> tuple[str, ...]:
        """What it may be called: ``lxmert`` or ``lxmert/hf``; ``vqa_v2`` or ``vqa-v2``."""
        own = f"{self.name}/{self.folder.name}" if self.kind == "parity" else self.name.replace("_", "-")
        return self.name, own


def verify(names: Sequence[str], official: Path | None = None) -> Iterator[Check]:
    """Check recorded cases one by one, all of them or those named.

    ``names``: methods (``lxmert``), their cases (``lxmert/hf``) and metrics (``vqa_v2``). After the word
    ``parity`` or ``metric`` only such ones; the word alone means all of the kind.
    """
    chosen = choose(names, find_evidence(official))
    return (check for item in chosen for check in _check(item))


def find_evidence(official: Path | None) -> list[Item]:
    """List all evidence below a folder, by default the checkout's; Fault where there is none.

    Every folder counts, whatever is in it: what we do not know must fail, not be passed over.
    """
    folder = official or Path(__file__).resolve().parents[1] / "tests" / "official"
    cases = [Item("parity", path.parent.name, path) for path in sorted(folder.glob("parity/*/*/"))]
    metrics = [Item("metric", path.name, path) for path in sorted(folder.glob("metrics/*/"))]
    found = [item for item in [*cases, *metrics] if item.folder.is_dir()]
    if found:
        return found
    if official:
        wrong = f"{folder} holds neither parity/METHOD/CASE/ nor metrics/METRIC/"
        raise Fault(wrong, "name another folder with --official")
    raise Fault(
        "recorded cases are no part of an installed vlbench",
        "give their folder: vlbench verify --official DIR (tests/official of a checkout)",
    )


def choose(names: Sequence[str], found: Sequence[Item]) -> list[Item]:
    """Keep the evidence that is named, in its own order; Misuse for a name that fits none."""
    wanted: set[Item] = set()
    for kind, named in _grouped(names):
        here = [item for item in found if kind in ("", item.kind)]
        wanted.update(here if not named else [item for name in named for item in _fitting(name, kind, here)])
    return [item for item in found if item in wanted]


def _grouped(names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Put names behind the kind they follow; before the first kind word, any kind ("") is meant."""
    groups: list[tuple[str, list[str]]] = [("", [])]
    for name in names:
        if name in KINDS:
            groups.append((name, []))
        else:
            groups[-1][1].append(name.lower())
    return groups[1:] if len(groups) > 1 and not groups[0][1] else groups


def _fitting(name: str, kind: str, here: Sequence[Item]) -> list[Item]:
    fitting = [item for item in here if name in item.names]
    if not fitting:
        known = list(dict.fromkeys(word for item in here for word in item.names)) + [*KINDS] * (not kind)
        raise Misuse(f"there is no {kind or 'recorded'} case of '{name}'; {nearest(name, known)}")
    return fitting


def _check(item: Item) -> Iterator[Check]:
    if item.kind == "metric":
        from vlbench.proof.metrics import check_metric

        for check in check_metric(item.folder):
            yield check._replace(name=f"metric {check.name}")
    else:
        yield _check_case(item)


def _check_case(item: Item) -> Check:
    """Rerun a case on one thread, as it was recorded; evidence that cannot be read or run is a failure."""
    import torch
    from safetensors import SafetensorError

    from vlbench.proof.parity import check_case

    name = f"parity {item.name}/{item.folder.name}"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return check_case(item.folder.parents[2], item.name, item.folder.name)
    except BadData as fault:
        return failure(name, fault.wrong)
    except SafetensorError as error:
        return failure(name, f"its tensors cannot be read: {error}".splitlines()[0])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        return failure(name, f"not laid out as expected: {type(error).__name__}: {error}".splitlines()[0])
    finally:
        torch.set_num_threads(threads)


def show_checks(checks: Iterable[Check], console: Console) -> int:
    """Print a line a case as it comes, and a sum; return the exit code, 3 where one failed."""
    done: list[Check] = []
    for check in checks:
        done.append(check)
        mark = "[green]ok[/]    " if check.passed else "[bold red]FAILED[/]"
        console.print(f"{mark} {_numbers(check)}  {check.name}", highlight=False, soft_wrap=True)
        if check.note:
            console.print(f"       {check.note}", style="dim", markup=False, highlight=False, soft_wrap=True)
    failed = sum(not check.passed for check in done)
    total = f"{len(done)} cases: {len(done) - failed} ok, {failed} failed"
    console.print(total, style="bold red" if failed else "bold", highlight=False)
    return exit_code(done)


def _numbers(check: Check) -> str:
    error = f"{check.error:.1e}" if math.isfinite(check.error) else "none"
    return f"error {error:>7} of {check.tolerance:.0e}"


def exit_code(checks: Iterable[Check]) -> int:
    """Return 3 where a check failed, else 0."""
    return 0 if all(check.passed for check in checks) else 3


def as_json(checks: Sequence[Check]) -> dict[str, Any]:
    """Return the checks as one JSON document; an error that is no number is null."""
    rows = [{**c._asdict(), "error": c.error if math.isfinite(c.error) else None} for c in checks]
    failed = sum(not check.passed for check in checks)
    return {"checks": rows, "passed": len(checks) - failed, "failed": failed}

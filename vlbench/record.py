"""The record of a run: the one file leaderboards are made from.

A record says what was asked, of which data (by hash), with which code and machine, and what came out.
``fingerprint`` hashes all of it but clocks and memory, so two runs that should agree can be compared by it.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from vlbench.paths import write_text
from vlbench.recipe import Recipe
from vlbench.types import BadData

Basis = Literal["published weights", "paper recipe", "reduced", "smoke"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Score(_Part):
    """One metric on one split, in percent unless its name says otherwise, with a 95 % interval."""

    value: float
    low: float | None = None
    high: float | None = None
    count: int
    scorer: str


Scores = dict[str, Score]
"""Metric -> score; the first is the main one."""


class Code(_Part):
    """Which vlbench made the run."""

    version: str
    commit: str = ""
    dirty: bool = False


class Machine(_Part):
    """What the run was made on."""

    device: str
    cpu: str
    torch: str
    precision: str
    processes: int = 1
    threads: int = 1


class Throughput(_Part):
    """How fast and how heavy; None where it was not measured."""

    train_samples_per_second: float | None = None
    evaluate_samples_per_second: float | None = None
    data_wait_share: float | None = None
    peak_memory_bytes: int | None = None
    flops_per_sample: float | None = None
    train_seconds: float | None = None
    evaluate_seconds: float | None = None


class RunRecord(_Part):
    """Everything worth knowing of a finished run; ``record.json``."""

    format: int = 1
    id: str
    kind: Literal["pretrain", "finetune", "evaluate"]
    method: str
    task: str
    dataset: str
    suite: str
    size: str
    seed: int
    basis: Basis
    note: str = ""
    recipe: Recipe
    origins: dict[str, str]
    inputs: dict[str, str]
    code: Code
    machine: Machine
    started: str
    seconds: float
    steps: int
    examples_seen: int
    parameters: int
    throughput: Throughput
    scores: dict[str, Scores]
    losses: dict[str, float] = {}
    """Of pre-training: each objective's mean over its last steps."""
    controls: Scores = {}
    """Control (prior, question-only, image-shuffled, text-shuffled) -> the main metric on the main split."""
    answers: dict[str, str] = {}
    checkpoint: str = ""
    weights: str = ""
    """sha256 over the final weights."""
    fingerprint: str = ""

    def outcome(self) -> dict[str, Any]:
        """Return what the recipe, data and code decide: the record less id, clocks, speed and memory."""
        loose = {"id", "started", "seconds", "throughput", "fingerprint"}
        found = self.model_dump(mode="json", exclude=loose)
        if not self.losses:  # records from before there were any keep their fingerprints
            found.pop("losses")
        return {**found, "recipe": self.recipe.named()}

    def sealed(self) -> RunRecord:
        """Return the record with its fingerprint filled in."""
        text = json.dumps(self.outcome(), sort_keys=True, allow_nan=False)
        return self.model_copy(update={"fingerprint": hashlib.sha256(text.encode()).hexdigest()})

    def write(self, path: Path) -> None:
        """Write the record whole or not at all."""
        write_text(path, json.dumps(self.model_dump(mode="json"), indent=1, allow_nan=False) + "\n")

    @property
    def main(self) -> tuple[str, str, Score] | None:
        """Split, metric and score a table shows first; None where nothing was scored."""
        for split, scores in self.scores.items():
            for metric, score in scores.items():
                return split, metric, score
        return None


def read_record(path: Path) -> RunRecord:
    """Read one record; BadData with the place of the fault where it is not one."""
    try:
        return RunRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadData(f"cannot read {path}: {error.strerror}") from None
    except (ValidationError, ValueError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        place = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise BadData(f"{path}: not a run record: {place}: {first['msg']}") from None


def find_records(folder: Path) -> list[Path]:
    """List the records below a folder, oldest name first; folders of unfinished runs have none."""
    return sorted(folder.rglob("record.json")) if folder.is_dir() else []


def finite(value: float) -> float:
    """Return the value if a record can hold it; NaN and infinity cannot stand in a result."""
    if not math.isfinite(value):
        raise BadData(f"a score came out as {value}")
    return value

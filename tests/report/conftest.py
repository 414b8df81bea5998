"""A small factory of full, valid run records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vlbench.recipe import Recipe
from vlbench.record import Code, Machine, RunRecord, Score, Throughput

MakeRecord = Callable[..., RunRecord]


def _record(
    value: float = 97.0,
    *,
    method: str = "lxmert",
    task: str = "vqa",
    dataset: str = "easy-vqa",
    split: str = "test",
    metric: str = "accuracy",
    scorer: str = "",
    half: float | None = 0.5,
    count: int = 0,
    seed: int = 0,
    size: str = "mini",
    basis: str = "reduced",
    recipe: dict[str, Any] | None = None,
    **changes: Any,
) -> RunRecord:
    whole = {"test": 9673, "minival": 25994, "val": 214354}
    scorer = scorer or ("exact-match" if dataset == "easy-vqa" else "official-2021")
    low, high = (None, None) if half is None else (value - half, value + half)
    score = Score(value=value, low=low, high=high, count=count or whole.get(split, 100), scorer=scorer)
    resolved = Recipe(model=method, task=task, dataset=dataset, size=size, seed=seed, **(recipe or {}))
    values: dict[str, Any] = {
        "id": f"20260101-000000-{resolved.digest()}-s{seed}",
        "kind": "finetune",
        "method": method,
        "task": task,
        "dataset": dataset,
        "suite": "quick",
        "size": size,
        "seed": seed,
        "basis": basis,
        "recipe": resolved,
        "origins": {"rate": "default"},
        "inputs": {"questions.json": "0" * 64},
        "code": Code(version="0.1.0", commit="abcdef0"),
        "machine": Machine(device="cpu", cpu="a cpu", torch="2.5", precision="fp32"),
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 120.0,
        "steps": 100,
        "examples_seen": 6400,
        "parameters": 412_345,
        "throughput": Throughput(
            train_samples_per_second=812.4,
            evaluate_samples_per_second=3001.0,
            peak_memory_bytes=2**30,
            train_seconds=90.0,
        ),
        "scores": {split: {metric: score}},
    }
    return RunRecord(**{**values, **changes}).sealed()


@pytest.fixture(autouse=True)
def shipped(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in for reports/results, which grows: what these tests find there is what they put there."""
    folder = tmp_path_factory.mktemp("results")
    monkeypatch.setattr("vlbench.report.compare.card_folder", lambda name: folder)
    return folder


@pytest.fixture
def make_record() -> MakeRecord:
    return _record

"""Recorded cases that are spoilt on purpose, so that every check is known to be able to fail."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vlbench.proof.metrics import check_metric

HERE = Path(__file__).parent / "metrics"
Spoil = Callable[[dict[str, Any]], object]


@pytest.fixture
def failing(tmp_path: Path) -> Callable[[str, Spoil], list[str]]:
    """Names the checks of a metric that fail once its recorded cases are changed."""

    def check(metric: str, spoil: Spoil) -> list[str]:
        folder = tmp_path / metric
        shutil.copytree(HERE / metric, folder)
        cases = json.loads((folder / "cases.json").read_text())
        spoil(cases)
        (folder / "cases.json").write_text(json.dumps(cases))
        return [one.name.removeprefix(f"{metric}/") for one in check_metric(folder) if not one.passed]

    return check

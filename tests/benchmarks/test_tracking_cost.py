"""What a mirror costs a run: a fixed piece of work on every processor, with and without one beside it."""

from __future__ import annotations

import hashlib
import os
import statistics
import threading
import time
from pathlib import Path

import psutil
import pytest

from vlbench.recipe import Recipe
from vlbench.tracking import RunLog, start_mirror

STEPS = 150
ROUNDS = 4
DATA = bytes(1 << 22)


def work() -> None:
    """Keep two processors busy for a step; hashing lets other threads run."""

    def hash_some() -> None:
        for _ in range(10):
            hashlib.sha256(DATA).digest()

    threads = [threading.Thread(target=hash_some) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def seconds(folder: Path, uri: str) -> float:
    """Time a run; an empty address is a run without a mirror."""
    recipe = Recipe(model="lxmert", task="vqa").model_dump(mode="json")
    with RunLog(folder) as log:
        mirror = start_mirror(folder, uri) if uri else None
        log({"event": "start", "run": folder.name, "method": "m", "task": "vqa", "seed": 0, "recipe": recipe})
        began = time.perf_counter()
        for step in range(1, STEPS + 1):
            work()
            log({"event": "step", "step": step, "values": {"loss": 1.0 / step, "rate": 1e-4}})
        took = time.perf_counter() - began
        if mirror is not None and mirror.process is not None:
            used = sum(psutil.Process(mirror.process.pid).cpu_times()[:2])
            print(f"\nthe mirror used {used:.2f} processor seconds in {took:.1f} s of two busy threads")
        log({"event": "end", "status": "finished", "message": ""})
        began = time.perf_counter()
        if mirror is not None:
            print(f"{mirror.finish(120)} after {time.perf_counter() - began:.1f} s more")
    return took


@pytest.mark.slow
def test_a_mirror_costs_the_run_nothing(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    work()
    ratios = []
    for number in range(ROUNDS):  # side by side, so that a machine that warms up counts for both
        without = seconds(tmp_path / f"without{number}", "")
        ratios.append(seconds(tmp_path / f"with{number}", uri) / without)
    median, spread = statistics.median(ratios), " ".join(f"{ratio:.3f}" for ratio in ratios)
    print(f"time with / without a mirror, {os.cpu_count()} processors: {median:.3f} ({spread})")
    assert len(list(tmp_path.glob("with*/log.jsonl"))) == 2 * ROUNDS

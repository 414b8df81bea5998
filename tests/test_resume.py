"""Kill a run or a pre-training at random moments: the same command goes on and ends as if never stopped, to the bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vlbench.record import read_record

OFTEN = ["--no-mlflow", "--set", "save_every=4", "--set", "log_every=1", "--set", "dropout=0.1"]
SPEED = ("samples_per_second", "data_wait_share")
LINES = {
    "run": ["run", "lxmert", "vqa", "--suite", "smoke", "--set", "steps=60", "--set", "batch=32", "--limit", "300"],
    # with a momentum twin and a queue of its features
    "pretrain": ["pretrain", "albef", "--set", "steps=60", "--set", "batch=16", "--set", "image_size=0"],
}


BOTH = pytest.mark.parametrize("line", LINES, indirect=True)
RUN = pytest.mark.parametrize("line", ["run"], indirect=True)


@pytest.fixture(scope="module")
def line(request: pytest.FixtureRequest, made: Path) -> list[str]:
    """The command that is killed."""
    return [sys.executable, "-m", "vlbench", *LINES[request.param], *OFTEN, "--data", str(made)]


def start(line: list[str], out: Path) -> subprocess.Popen[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*line, "--out", str(out)], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def folder(out: Path) -> Path:
    found = list(out.glob("*/*/*"))
    assert len(found) == 1, found
    return found[0]


def outcome(out: Path) -> dict[str, Any]:
    """Everything a run leaves that its recipe decides."""
    place = folder(out)
    record = read_record(place / "record.json")
    steps = [
        (e["step"], {name: value for name, value in e["values"].items() if name not in SPEED})
        for e in map(json.loads, (place / "log.jsonl").read_text().splitlines())
        if e["event"] == "step"
    ]
    return {
        "record": record.outcome(),
        "fingerprint": record.fingerprint,
        "weights": (place / "checkpoint/weights.safetensors").read_bytes(),
        "answers": [path.read_bytes() for path in sorted(place.glob("answers-*.json"))],
        "steps": steps,
        "files": sorted(path.name for path in place.rglob("*") if path.is_file()),
    }


@pytest.fixture(scope="module")
def whole(line: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an uninterrupted run leaves."""
    out = tmp_path_factory.mktemp("whole")
    done = start(line, out)
    _, errors = done.communicate(timeout=300)
    assert done.returncode == 0, errors
    return outcome(out)


def steps_logged(out: Path) -> int:
    logs = list(out.glob("*/*/*/log.jsonl"))
    return logs[0].read_text().count('"event": "step"') if logs else 0


def kill_when(run: subprocess.Popen[str], ready: Callable[[], bool]) -> bool:
    """Kill a run as soon as something is so; say whether it was still running."""
    while run.poll() is None and not ready():
        time.sleep(0.002)
    running = run.poll() is None
    run.send_signal(signal.SIGKILL)
    run.communicate()
    return running


@BOTH
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_killed_at_random_moments(line: list[str], tmp_path: Path, whole: dict[str, Any], seed: int) -> None:
    moments = random.Random(seed)
    first = moments.randint(1, 25)
    for reached in (first, moments.randint(first + 5, 59)):  # a restart may fall back by four steps
        assert kill_when(start(line, tmp_path), lambda reached=reached: steps_logged(tmp_path) >= reached)
        time.sleep(0.01 * moments.random())
    weights = "*/*/*/checkpoint/weights.safetensors"
    # trained, and not yet recorded; a pre-training, which has nothing to evaluate, may just have been
    assert kill_when(start(line, tmp_path), lambda: bool(list(tmp_path.glob(weights)))) or "pretrain" in line
    run = start(line, tmp_path)
    _, errors = run.communicate(timeout=300)
    assert run.returncode == 0, errors
    found = outcome(tmp_path)
    assert found["steps"] == whole["steps"]
    assert found["weights"] == whole["weights"]
    assert found["answers"] == whole["answers"]
    assert found["record"] == whole["record"]
    assert found["fingerprint"] == whole["fingerprint"]
    assert found["files"] == whole["files"]


@RUN
def test_killed_in_the_middle_of_training_and_told_so(line: list[str], tmp_path: Path, whole: dict[str, Any]) -> None:
    """Wait for a saved state, kill, go on: the steps before it are not taken again."""
    run = start(line, tmp_path)
    state = None
    for _ in range(3000):
        state = next(iter(tmp_path.glob("*/*/*/checkpoint/state.pt")), None)
        if state or run.poll() is not None:
            break
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert state is not None
    again = start(line, tmp_path)
    _, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    assert "going on after step" in errors
    assert outcome(tmp_path)["weights"] == whole["weights"]


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
@RUN
def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(
    line: list[str], tmp_path: Path, whole: dict[str, Any], told: signal.Signals
) -> None:
    run = start(line, tmp_path)
    for _ in range(3000):
        if list(tmp_path.glob("*/*/*/checkpoint/state.pt")) or run.poll() is not None:
            break
        time.sleep(0.02)
    run.send_signal(told)
    _, errors = run.communicate(timeout=120)
    assert run.returncode == 1
    assert "Traceback" not in errors
    assert "the same command goes on where it stopped" in errors
    events = [json.loads(line) for line in (folder(tmp_path) / "log.jsonl").read_text().splitlines()]
    assert events[-1]["event"] == "end"
    assert events[-1]["status"] == "stopped"
    again = start(line, tmp_path)
    assert again.wait(timeout=300) == 0
    again.communicate()
    assert outcome(tmp_path)["weights"] == whole["weights"]


def test_a_scheduler_that_ends_all_processes_twice_loses_nothing(made: Path, tmp_path: Path) -> None:
    """Workers that build batches hear of it, too, and the second signal comes before the step's end."""
    line = [sys.executable, "-m", "vlbench", *LINES["pretrain"], "--set", "workers=2", "--set", "log_every=1"]
    line += ["--no-mlflow", "--data", str(made), "--set", "save_every=1000", "--out", str(tmp_path)]
    run = subprocess.Popen(line, text=True, stderr=subprocess.PIPE, start_new_session=True)
    for _ in range(3000):
        if run.poll() is not None or any('"step": 2' in log.read_text() for log in tmp_path.glob("*/*/*/log.jsonl")):
            break
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGTERM)
    os.killpg(run.pid, signal.SIGTERM)
    _, errors = run.communicate(timeout=120)
    assert run.returncode == 1, errors
    assert errors.count("stopping when this step is done and saved") == 1
    assert "the same command goes on where it stopped" in errors
    assert json.loads((folder(tmp_path) / "log.jsonl").read_text().splitlines()[-1])["status"] == "stopped"
    assert (folder(tmp_path) / "checkpoint" / "state.pt").is_file()
    again = subprocess.run(line, text=True, capture_output=True, timeout=300)
    assert again.returncode == 0, again.stderr
    assert "going on after step" in again.stderr


@RUN
def test_the_same_command_after_the_end_runs_nothing(line: list[str], tmp_path: Path) -> None:
    first = start(line, tmp_path)
    assert first.wait(timeout=300) == 0
    first.communicate()
    before = {path: path.stat().st_mtime_ns for path in folder(tmp_path).rglob("*") if path.name != ".lock"}
    second = start(line, tmp_path)
    _, errors = second.communicate(timeout=300)
    assert second.returncode == 0
    assert "finished before" in errors
    assert before == {path: path.stat().st_mtime_ns for path in folder(tmp_path).rglob("*") if path.name != ".lock"}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lxmert", "vilbert", "vlmo", "blip", "coca", "beit3", "meter"])
def test_every_methods_stages_go_on_after_kill_9(method: str, made: Path, tmp_path: Path) -> None:
    """Killed in each of its stages and between them; the last weights and all losses are those of one that was not."""
    typed = ["pretrain", method, "--set", "steps=12", "--set", "batch=8", "--set", "image_size=0", *OFTEN]
    line = [sys.executable, "-m", "vlbench", *typed, "--data", str(made)]

    def logged_in(out: Path) -> int:
        return sum(log.read_text().count('"event": "step"') for log in out.glob("*/*/*/log.jsonl"))

    def left(out: Path) -> list[tuple[str, str, dict[str, float]]]:
        records = [read_record(path) for path in sorted(out.glob("*/*/*/record.json"))]
        return sorted((one.recipe.stage, one.weights, one.losses) for one in records)

    whole = tmp_path / "whole"
    _, errors = (run := start(line, whole)).communicate(timeout=600)
    assert run.returncode == 0, errors
    moments = random.Random(method)
    killed = tmp_path / "killed"
    for stage in range(len(left(whole))):
        reached = 12 * stage + moments.randint(0 if stage else 1, 11)
        kill_when(start(line, killed), lambda reached=reached: logged_in(killed) >= reached)
    _, errors = (run := start(line, killed)).communicate(timeout=600)
    assert run.returncode == 0, errors
    assert left(killed) == left(whole)
    assert len(list(killed.glob("*/*/*"))) == len(left(whole))  # no stage was begun twice

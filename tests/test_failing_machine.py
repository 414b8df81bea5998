"""Full disks, folders nobody may write in, servers that are down: one clear line, and nothing is lost."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from vlbench.engine import checkpoint
from vlbench.types import Fault

Command = Callable[..., Any]
RUN = ("run", "lxmert", "vqa", "--dataset", "vqa-v2", "--size", "mini", "--set", "batch=16", "--set", "steps=6",
       "--set", "save_every=2", "--no-mlflow")  # fmt: skip
TRAIN_QUESTIONS = "v2_OpenEnded_mscoco_train2014_questions.json"


def records(out: Path) -> list[Path]:
    return sorted(out.rglob("record.json"))


def outcome(out: Path) -> dict[str, Any]:
    """What a finished run's recipe decides."""
    (path,) = records(out)
    record = json.loads(path.read_text())
    return {
        "fingerprint": record["fingerprint"],
        "scores": record["scores"],
        "weights": (path.parent / "checkpoint" / "weights.safetensors").read_bytes(),
        "answers": (path.parent / "answers-minival.json").read_bytes(),
    }


@pytest.fixture
def expected(command: Command, vqa_v2: Path, tmp_path: Path) -> dict[str, Any]:
    """The outcome of a run that nothing disturbed."""
    done = command(*RUN, "--data", vqa_v2, "--out", tmp_path / "undisturbed")
    assert done.code == 0, done.err
    return outcome(tmp_path / "undisturbed")


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_fills_up_at_a_checkpoint(
    command: Command, vqa_v2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: dict[str, Any]
) -> None:
    save, saved = torch.save, []

    def fills_up(state: dict[str, Any], path: Path) -> None:
        if saved:
            Path(path).write_bytes(b"half")
            full()
        saved.append(state["step"])
        save(state, path)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", fills_up)
        done = command(*RUN, "--data", vqa_v2)
    done.refused(1, "state.pt", "No space left on device")
    assert not records(tmp_path / "runs")
    (state,) = (tmp_path / "runs").rglob("state.pt")
    assert checkpoint.load_state(state)["step"] == saved[0] == 2
    assert [path.name for path in state.parent.iterdir()] == ["state.pt"]
    again = command(*RUN, "--data", vqa_v2)
    assert again.code == 0, again.err
    assert "going on after step 2" in again.err
    assert outcome(tmp_path / "runs") == expected


@pytest.mark.parametrize("name", ["record.json", "answers-minival.json", "samples-minival.parquet", "begun.json"])
def test_a_disk_that_fills_up_at_any_other_file(
    command: Command,
    vqa_v2: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    expected: dict[str, Any],
    name: str,
) -> None:
    replace = os.replace

    def fills_up(source: Path, target: Path) -> None:
        if Path(target).name == name:
            full()
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fills_up)
        done = command(*RUN, "--data", vqa_v2)
    done.refused(1, name, "No space left on device")
    assert not list((tmp_path / "runs").rglob("*.part"))
    again = command(*RUN, "--data", vqa_v2)
    assert again.code == 0, again.err
    assert outcome(tmp_path / "runs") == expected


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Let the system refuse to write more than so many bytes into a file, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(("size", "name"), [(3_000_000, "state.pt"), (4000, "train2014_obj36")])
def test_what_libraries_say_of_a_failed_write_is_understood(
    command: Command, vqa_v2: Path, tmp_path: Path, expected: dict[str, Any], size: int, name: str
) -> None:
    if name != "state.pt":
        shutil.rmtree(tmp_path / "cache")  # so that features are converted again
    with files_no_larger_than(size):
        done = command(*RUN, "--data", vqa_v2)
    done.refused(1, "cannot write", name)
    again = command(*RUN, "--data", vqa_v2)
    assert again.code == 0, again.err
    assert outcome(tmp_path / "runs") == expected


def test_features_that_will_not_fit(
    command: Command, vqa_v2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=100))
    command(*RUN, "--data", vqa_v2).refused(1, "cannot write", "train2014_obj36", "are free there")
    assert not list((tmp_path / "cache").rglob("*.h5"))


def test_weights_that_cannot_be_written(tmp_path: Path) -> None:
    """safetensors has an error of its own for a full disk."""
    module = torch.nn.Linear(100, 100)
    path = tmp_path / "weights.safetensors"
    with files_no_larger_than(1000), pytest.raises(Fault, match="cannot write"):
        checkpoint.save_weights(module, path)
    assert not path.exists()


def test_a_file_where_the_runs_should_be(command: Command, vqa_v2: Path, tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("mine")
    command(*RUN, "--data", vqa_v2, "--out", tmp_path / "occupied").refused(1, tmp_path / "occupied")
    assert (tmp_path / "occupied").read_text() == "mine"


def test_a_folder_nobody_may_write_in(
    command: Command, vqa_v2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def refuse(path: Any, *others: Any, **more: Any) -> int:
        if str(path).endswith(".lock") and "runs" in Path(path).parts:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, *others, **more)

    monkeypatch.setattr(os, "open", refuse)
    command(*RUN, "--data", vqa_v2).refused(1, tmp_path / "runs", "Permission denied")


def test_a_cache_that_cannot_be_written(command: Command, vqa_v2: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    command(*RUN, "--data", vqa_v2).refused(1, tmp_path / "cache")


def test_data_that_changed_under_an_unfinished_run(
    command: Command, vqa_v2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        assert command(*RUN, "--data", vqa_v2).code == 1
    path = vqa_v2 / "vqa-v2" / TRAIN_QUESTIONS
    path.write_text(path.read_text().replace("is thing 0 of 1 here?", "is it another one?", 1))
    command(*RUN, "--data", vqa_v2).refused(3, "begun with other data", TRAIN_QUESTIONS)
    done = command(*RUN, "--data", vqa_v2, "--fresh")
    assert done.code == 0, done.err


def test_one_failing_run_does_not_stop_the_others(
    command: Command, vqa_v2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []
    before = checkpoint.save_weights

    def out_of_memory(learner: torch.nn.Module, path: Path) -> str:
        seeds.append(len(seeds))
        if len(seeds) == 1:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return before(learner, path)

    monkeypatch.setattr(checkpoint, "save_weights", out_of_memory)
    done = command(*RUN, "--data", vqa_v2, "--seed", "0,1", "--json")
    done.refused(1, "out of memory")
    found = json.loads(done.out)
    assert [record["seed"] for record in found["runs"]] == [1]
    assert [failed["wrong"] for failed in found["failed"]] == ["out of memory"]


def test_an_mlflow_server_that_is_down(
    command: Command, vqa_v2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr("vlbench.tracking.NICENESS", 0)
    done = command(*[word for word in RUN if word != "--no-mlflow"], "--data", vqa_v2)
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    said = " ".join(done.err.split())
    assert "not fully mirrored to http://127.0.0.1:9" in said
    assert "vlbench sync" in said
    assert len(records(tmp_path / "runs")) == 1


def test_the_same_command_twice_at_once(command: Command, vqa_v2: Path, tmp_path: Path) -> None:
    long = [word if word != "steps=6" else "steps=1000000" for word in RUN]
    first = subprocess.Popen(
        [sys.executable, "-m", "vlbench", *long, "--data", str(vqa_v2)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until = time.monotonic() + 120
        while not list((tmp_path / "runs").rglob("state.pt")) and first.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        command(*long, "--data", vqa_v2).refused(1, "is being run by another process")
        assert first.poll() is None
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()

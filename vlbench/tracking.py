"""A run's log, and its mirror in MLflow.

A run emits events, plain mappings, one JSON line each in ``log.jsonl``: start, step, note, end. The files of
the run's folder are the truth. MLflow gets a copy from a process of its own (mirror.py), so this module never
imports mlflow in a run.
"""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from vlbench.mirror import LOCK, Mirroring, write_state
from vlbench.paths import make_folder, replacing, runs_root
from vlbench.store import CALM, LostError, Store, artifact_root, check_uri, database, shown
from vlbench.types import Fault, Log, Progress, quiet

NICENESS = 19
"""The lowest priority: a run shares its processors with its mirror and must not feel it."""


class RunLog:
    """Writes a run's events to ``log.jsonl`` and hands them to listeners.

    ``after_step`` is the step of the checkpoint a resumed run goes on from: what the log says of later steps
    and of an end is dropped, since it will happen again.
    """

    def __init__(self, folder: Path, listeners: Sequence[Log] = (), after_step: int | None = None) -> None:
        self.path, self.listeners = make_folder(folder) / "log.jsonl", tuple(listeners)
        if self.path.is_file():
            self._cut(after_step)
        try:
            self.file = self.path.open("ab", buffering=0)  # one write a line: a crash tears the last at most
        except OSError as error:
            raise self._fault(error) from None

    def _cut(self, after_step: int | None) -> None:
        lines = self.path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if line.endswith(b"\n") and keeps(line, after_step)]
        if len(kept) < len(lines):
            with replacing(self.path) as part:
                part.write_bytes(b"".join(kept))

    def __call__(self, event: Mapping[str, object]) -> None:
        """Write one event; its time is filled in."""
        event = {"event": event["event"], "time": round(time.time(), 3), **event}
        line = (json.dumps(plain(event), ensure_ascii=False) + "\n").encode()
        try:
            if self.file.write(line) < len(line):
                raise OSError(28, "No space left on device")
        except OSError as error:
            raise self._fault(error) from None
        for listener in self.listeners:
            listener(event)

    def _fault(self, error: OSError) -> Fault:
        todo = "free some space or choose another folder with --out, then give the same command again"
        return Fault(f"cannot write the run's log {self.path}: {error.strerror or error}", todo)

    def close(self) -> None:
        """Close the file; the log can be opened again."""
        self.file.close()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def keeps(line: bytes, after_step: int | None) -> bool:
    """Tell whether a line of an old log still holds when the run goes on after a step."""
    try:
        event = json.loads(line)
        if after_step is None:
            return True
        return not (event["event"] == "end" or (event["event"] == "step" and event["step"] > after_step))
    except (ValueError, KeyError, TypeError):  # torn by a crash
        return False


def plain(value: object) -> Any:
    """Turn a value into what JSON can hold; NaN and infinity become words."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if value is None or isinstance(value, str | int):
        return value
    item = getattr(value, "item", None)  # a number of numpy or torch
    return plain(item()) if callable(item) else str(value)


def store_uri(out: Path | None = None) -> str:
    """Where runs are mirrored: ``MLFLOW_TRACKING_URI``, else one database beside the runs."""
    own = os.environ.get("MLFLOW_TRACKING_URI")
    return own or f"sqlite:///{runs_root(out).absolute() / 'mlflow.db'}"


class Mirror:
    """The process that mirrors a run, as the run sees it."""

    def __init__(self, folder: Path, uri: str, process: subprocess.Popen[bytes] | None, reason: str = "") -> None:
        self.folder, self.uri, self.process, self.reason = folder, uri, process, reason

    def finish(self, timeout: float = 60.0) -> str:
        """Wait for the mirror, after the run's end was logged; return one line for the user."""
        if self.process is not None:
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.reason = f"it was not done after {timeout:.0f} s"
            finally:  # also when the user has pressed Ctrl-C meanwhile
                stop_process(self.process)
        state = self.state()
        if state.get("state") == "complete" and not self.reason:
            return f"mirrored to {shown(self.uri)} (run {state['run']}); see it with: vlbench ui"
        reason = self.reason or state.get("reason") or f"it stopped; see {self.folder / 'mirror.log'}"
        return f"not fully mirrored to {shown(self.uri)}: {reason}; later: vlbench sync {self.folder}"

    def state(self) -> dict[str, Any]:
        """Read how far the mirror is."""
        with suppress(OSError, ValueError):
            return dict(json.loads((self.folder / "mirror.json").read_text(encoding="utf-8")))
        return {}


def start_mirror(folder: Path, uri: str) -> Mirror:
    """Start mirroring a run; never fails: what goes wrong is told by ``Mirror.finish``."""
    try:
        uri = check_uri(uri)
        write_state(folder, None, uri, "starting")
        command = [sys.executable, "-m", "vlbench.mirror", str(folder), str(os.getpid())]
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        environment = {**os.environ, **threads, "MLFLOW_TRACKING_URI": uri}  # a password stays out of `ps`
        with (folder / "mirror.log").open("wb") as output:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,  # Ctrl-C is for the run; a new session would undo `nice` (autogroups)
            )
    except (OSError, Fault) as error:
        return Mirror(folder, uri, None, " ".join(str(error).split()))
    give_way(process.pid)
    return Mirror(folder, uri, process)


def give_way(process: int) -> None:
    """Let a process run only where nothing else wants to."""
    with suppress(OSError, AttributeError):  # gone already, or no such thing on this system
        os.setpriority(os.PRIO_PROCESS, process, NICENESS)
        if NICENESS == 19:  # nice alone still takes whole slices from threads that sleep now and then
            os.sched_setscheduler(process, os.SCHED_IDLE, os.sched_param(0))


def stop_process(process: subprocess.Popen[bytes]) -> None:
    """End a process politely, then not; does nothing to one that has ended."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Synced(NamedTuple):
    """What became of one run's folder."""

    folder: Path
    run: str
    outcome: str
    """new, updated, already there, or why not."""


def sync(folders: Iterable[Path], uri: str | None = None, progress: Progress = quiet) -> list[Synced]:
    """Replay runs into an MLflow store; what is there already is not doubled."""
    todo = list(folders)
    uri = uri or store_uri()
    try:
        store = Store(uri)
    except LostError as error:
        raise Fault(f"cannot reach MLflow at {shown(uri)}: {error}", "check MLFLOW_TRACKING_URI") from None
    done = []
    for number, folder in enumerate(todo):
        progress(number, len(todo), folder.name)
        done.append(sync_one(folder, store))
    progress(len(todo), len(todo), "")
    return done


def sync_one(folder: Path, store: Store) -> Synced:
    """Replay one run."""
    mirroring = Mirroring(folder, store)
    try:
        with FileLock(folder / LOCK, timeout=0):
            mirroring.take()
            if not mirroring.run:
                return Synced(folder, "", "no run: its log has no start")
            if mirroring.up_to_date():
                return Synced(folder, mirroring.run, "already there")
            mirroring.complete()
            write_state(folder, mirroring, store.uri, "complete")
    except Timeout:
        return Synced(folder, mirroring.run, "is being mirrored at this moment")
    except (LostError, Fault, OSError) as error:
        return Synced(folder, mirroring.run, " ".join(str(error).split()))
    except (KeyError, TypeError) as error:
        return Synced(folder, mirroring.run, f"the log is not one of vlbench: {error!r}")
    return Synced(folder, mirroring.run, "updated" if mirroring.had else "new")


class Interface(NamedTuple):
    """How MLflow's web page is started, and where it is then."""

    command: list[str]
    env: dict[str, str]
    url: str


def ui_command(uri: str, port: int = 0) -> Interface:
    """Say how to start ``mlflow ui`` on a store; port 0 takes a free one.

    One worker and no job runner: it answers after 11 s instead of 69. A server needs no second one.
    """
    uri = check_uri(uri)
    if uri.startswith(("http://", "https://")):
        return Interface([], {}, shown(uri))
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise Fault(f"port {port} is taken", "choose another with --port, or none") from None
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    if root := artifact_root(uri):
        command += ["--default-artifact-root", root.as_uri()]
    env = {**CALM, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return Interface(command, {**env, **os.environ}, f"http://127.0.0.1:{port}")


def ui(uri: str, port: int = 0, say: Callable[[str], None] = print, patience: float = 180.0) -> None:
    """Show a store in the browser until Ctrl-C."""
    page = ui_command(uri, port)
    if not page.command:
        say(page.url)
        return
    if (file := database(check_uri(uri))) is not None and not file.exists():
        raise Fault(f"there is no MLflow database yet at {file}", "make a run first, or: vlbench sync")
    say("starting MLflow's page (about ten seconds; Ctrl-C ends it)")
    with tempfile.TemporaryFile() as output:  # a pipe nobody reads would fill up and halt the server
        process = subprocess.Popen(page.command, env=page.env, stdout=output, stderr=output, process_group=0)
        try:
            if not is_healthy(process, page.url, patience):
                output.seek(0)
                words = output.read().decode(errors="replace").split("\n")
                last = next((line for line in reversed(words) if line.strip()), "no answer")
                raise Fault(f"MLflow's page did not start: {last.strip()}", "try another --port")
            say(page.url)
            process.wait()
        except KeyboardInterrupt:
            say("stopped")
        finally:
            stop_process(process)


def is_healthy(process: subprocess.Popen[bytes], url: str, patience: float) -> bool:
    """Wait until a server answers; False where it ends or stays silent."""
    until = time.monotonic() + patience
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=2):
            return True
        time.sleep(0.3)
    return False

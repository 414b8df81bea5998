"""The mirror of a run in MLflow: reads a run's folder, writes what it finds to a store.

The folder is the truth and can be mirrored again at any time: what a store already holds is not written
twice. ``python -m vlbench.mirror`` follows a run as it goes, in a process of its own, so that nothing MLflow
does can slow or fail the run.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from vlbench.paths import write_text
from vlbench.record import RunRecord, read_record
from vlbench.store import (
    LostError,
    Names,
    Point,
    Store,
    final_metrics,
    flat_parameters,
    record_tags,
    results_table,
    shown,
    start_tags,
)
from vlbench.types import Fault

if TYPE_CHECKING:
    from mlflow.entities import Run

MOST_STEP_NAMES = 40
"""Distinct metrics of the steps; the rest of a run's hundred is left to the results."""
SPEED = ("samples_per_second", "seconds", "share", "bytes", "flops", "mfu", "watt", "energy")
"""Step values whose name ends so are about speed, not about learning."""
ENDINGS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
ARTIFACTS = ("log.jsonl", "record.json", "recipe.toml", "answers-*", "samples-*.parquet")
LOCK = ".mirror.lock"


class Tail:
    """Reads the whole lines a file gained since it was last asked."""

    def __init__(self, path: Path) -> None:
        self.path, self.offset, self.lines = path, 0, 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                block = file.read()
        except FileNotFoundError:
            return
        whole = block[: block.rfind(b"\n") + 1]
        self.offset += len(whole)
        for line in whole.splitlines():
            self.lines += 1
            with suppress(ValueError):  # a line torn by a crash is no event
                event = json.loads(line)
                if isinstance(event, dict):
                    yield event


class Mirroring:
    """Carries one run's folder into a store, and only what the store does not have yet."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder, self.store = folder, store
        self.log, self.system, self.names = Tail(folder / "log.jsonl"), Tail(folder / "system.jsonl"), Names()
        self.run = ""
        self.began = 0.0
        self.end: dict[str, Any] | None = None
        self.had: Run | None = None
        self.reached: dict[str, int] = {}
        self.points: list[Point] = []

    def take(self) -> None:
        """Carry over what the run has written since the last call."""
        for event in self.log:
            self._take_event(event)
        if self.run:
            for sample in self.system:
                step = int(sample["time"] - self.began)
                for name, value in sample["values"].items():
                    self._add(Point(f"system/{name}", float(value), sample["time"], step))
        self._send()

    def _take_event(self, event: dict[str, Any]) -> None:
        kind = event.get("event")
        self.end = event if kind == "end" else None  # an end that something follows was not the end
        if kind == "start":
            self._attach(event)
        elif kind == "step" and self.run:
            for raw, value in event["values"].items():
                group = "perf" if raw.endswith(SPEED) else "train"
                name = self.names.name(f"{group}/{raw}", MOST_STEP_NAMES)
                with suppress(TypeError, ValueError):  # a word is no metric; "nan" and "inf" are
                    if name is not None:
                        self._add(Point(name, float(value), event["time"], event["step"]))

    def _attach(self, event: dict[str, Any]) -> None:
        """Find the run's mirror, or make it, and write down what the run is."""
        tags = start_tags(event)
        if not self.run:
            self.began = event["time"]
            name = f"{Path(event['method']).stem}-s{event['seed']}"
            run, was_there = self.store.find_or_create(
                event.get("task", ""), event["run"], name=name, began=self.began, tags=tags
            )
            self.run, self.had = run.info.run_id, run if was_there else None
        if not self.up_to_date():
            self.store.log_texts(self.run, flat_parameters(event), tags)
            if event.get("inputs"):
                self.store.log_dataset(self.run, event.get("dataset", ""), event["inputs"], self.folder)

    def _add(self, point: Point) -> None:
        if point.name not in self.reached:
            self.reached[point.name] = self.store.last_step(self.run, point.name) if self.had else -1
        if point.step > self.reached[point.name]:  # a resumed run goes through some steps a second time
            self.points.append(point)
            self.reached[point.name] = point.step

    def _send(self) -> None:
        if self.points:
            self.store.log_points(self.run, self.points)
            self.points.clear()

    def complete(self) -> None:
        """Carry over what the run leaves behind, and close its mirror."""
        end = self.end or {"status": "stopped", "time": time.time(), "message": "the process was killed"}
        path = self.folder / "record.json"
        tags = {"vlbench.message": str(end.get("message") or "")}
        if path.is_file():
            record = read_record(path)
            tags |= record_tags(record)
            self._add_final(record, end["time"])
            self.store.log_table(self.run, results_table(record), "results.json")
            if record.inputs:
                self.store.log_dataset(self.run, record.dataset, record.inputs, self.folder)
        for file in sorted(file for pattern in ARTIFACTS for file in self.folder.glob(pattern)):
            self.store.log_file(self.run, file)
        tags["vlbench.mirrored"] = content_digest(self.folder)
        self.store.log_texts(self.run, {}, {key: value for key, value in tags.items() if value})
        self.store.close(self.run, ENDINGS.get(str(end.get("status")), "FAILED"), end["time"])

    def _add_final(self, record: RunRecord, when: float) -> None:
        had = self.store.run(self.run).data.metrics
        for raw, value in final_metrics(record).items():
            name = self.names.name(raw)
            if name is not None and had.get(name) != value:
                self.points.append(Point(name, value, when, record.steps))
        self._send()

    def up_to_date(self) -> bool:
        """Tell whether the store already holds all that the folder has."""
        found = self.had.data.tags.get("vlbench.mirrored") if self.had is not None else None
        return found == content_digest(self.folder)


def content_digest(folder: Path) -> str:
    """Hash what a mirror is made from, to see whether it is up to date."""
    found = hashlib.sha256()
    for file in (folder / "log.jsonl", folder / "record.json"):
        found.update(file.read_bytes() if file.is_file() else b"")
    return found.hexdigest()


def write_state(folder: Path, mirroring: Mirroring | None, uri: str, state: str, reason: str = "") -> None:
    """Leave in ``mirror.json`` how far the mirror is."""
    run, lines = (mirroring.run, mirroring.log.lines) if mirroring else ("", 0)
    found = {"state": state, "run": run, "uri": shown(uri), "lines": lines, "reason": reason}
    write_text(folder / "mirror.json", json.dumps(found, indent=1) + "\n")


def sample_system(folder: Path, stop: threading.Event) -> None:
    """Write down every few seconds how busy the machine is, in ``system.jsonl``.

    MLflow's own monitor starts after the import of mlflow, which at lowest priority may outlast a short run.
    """
    import psutil

    began, read_cards = time.monotonic(), graphics_cards()
    fixed = os.environ.get("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL")
    wait = 1.0
    psutil.cpu_percent()  # the first call only sets the mark the next one measures from
    while not stop.wait(wait):
        memory = psutil.virtual_memory()
        values = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": round(memory.used / 1e6, 1),
            "system_memory_usage_percentage": memory.percent,
            "disk_available_megabytes": round(psutil.disk_usage(str(folder)).free / 1e6, 1),
            **read_cards(),
        }
        line = json.dumps({"time": time.time(), "values": values}) + "\n"
        with suppress(OSError), (folder / "system.jsonl").open("a") as file:  # samples are no result
            file.write(line)
        wait = float(fixed) if fixed else 5.0 if time.monotonic() - began < 300 else 30.0


def graphics_cards() -> Callable[[], dict[str, float]]:
    """Return what reads the graphics cards; it reads nothing where the library or a card is missing."""
    try:
        import pynvml

        pynvml.nvmlInit()
        cards = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
    except Exception:  # no library, no driver or no card; the error's class exists only with the library
        return dict

    def read() -> dict[str, float]:
        values: dict[str, float] = {}
        for number, handle in enumerate(cards):
            with suppress(pynvml.NVMLError):  # not every card tells everything
                name = f"gpu_{number}"
                values[f"{name}_memory_usage_megabytes"] = pynvml.nvmlDeviceGetMemoryInfo(handle).used / 1e6
                values[f"{name}_utilization_percentage"] = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu
                values[f"{name}_power_usage_watts"] = pynvml.nvmlDeviceGetPowerUsage(handle) / 1000
        return values

    return read


def follow(folder: Path, uri: str, parent: int) -> str:
    """Mirror a run until it ends, its process is gone or the store is lost; return the last state."""
    stop, mirroring, reason = threading.Event(), None, ""
    if os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true").lower() in ("true", "1"):
        threading.Thread(target=sample_system, args=(folder, stop), daemon=True).start()
    try:
        with FileLock(folder / LOCK, timeout=60):  # the mirror of a killed run may not be gone yet
            mirroring = Mirroring(folder, Store(uri))
            follow_log(mirroring, parent)
            state = "complete" if mirroring.end else "the run was killed"
    except (LostError, Fault, Timeout) as error:
        state, reason = "gave up", " ".join(str(error).split())
    finally:
        stop.set()
    write_state(folder, mirroring, uri, state, reason)
    return state


def follow_log(mirroring: Mirroring, parent: int) -> None:
    """Carry the log over once a second, to its end or until the process that writes it is gone."""
    running, lines = False, 0
    while True:
        gone = os.getppid() != parent  # asked before reading, so that the last lines are read
        mirroring.take()
        if mirroring.end or gone:
            break
        if mirroring.run and not running:  # a run that was closed goes on
            running = True
            mirroring.store.set_running(mirroring.run)
        if mirroring.log.lines > lines:
            lines = mirroring.log.lines
            write_state(mirroring.folder, mirroring, mirroring.store.uri, "following")
        time.sleep(1.0)
    if not mirroring.run:
        raise LostError("the run's log has no start")
    mirroring.complete()


if __name__ == "__main__":
    sys.exit(follow(Path(sys.argv[1]), os.environ["MLFLOW_TRACKING_URI"], int(sys.argv[2])) == "gave up")

"""A run's log, its mirror in MLflow, and each trap measured in MLflow 3.17."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vlbench.mirror import Mirroring, sample_system
from vlbench.recipe import Recipe
from vlbench.record import Code, Machine, RunRecord, Score, Throughput
from vlbench.store import (
    MOST_NAMES,
    LostError,
    Names,
    Store,
    check_uri,
    dataset_source,
    final_metrics,
    flat_parameters,
    metric_name,
    shown,
    trying,
)
from vlbench.tracking import Mirror, RunLog, start_mirror, store_uri, sync, ui, ui_command
from vlbench.types import Fault

RECIPE = Recipe(model="lxmert", task="vqa", dataset="easy-vqa", steps=20)
START = {
    "event": "start",
    "run": "easy-vqa/lxmert/20250101-000000-abcdef01-s0",
    "method": "lxmert",
    "task": "vqa",
    "dataset": "easy-vqa",
    "suite": "quick",
    "seed": 0,
    "recipe": RECIPE.model_dump(mode="json"),
    "inputs": {"easy-vqa/questions.json": "ab" * 32},
    "parameters": 1234,
}
END = {"event": "end", "status": "finished", "message": ""}


@pytest.fixture(autouse=True)
def _own_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlbench.tracking.NICENESS", 0)  # on a busy machine the real one waits for minutes
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_ALLOW_FILE_STORE", "VLBENCH_RUNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty, migrated database: making one takes four seconds."""
    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    Store(f"sqlite:///{path}")
    return path


@pytest.fixture
def uri(template: Path, tmp_path: Path) -> str:
    """A new store; the blank in its path is meant."""
    folder = tmp_path / "my runs"
    folder.mkdir()
    shutil.copy(template, folder / "mlflow.db")
    return f"sqlite:///{folder / 'mlflow.db'}"


def make_record(**changes: Any) -> RunRecord:
    score = Score(value=61.5, low=60.25, high=62.75, count=400, scorer="official-2021")
    values: dict[str, Any] = {
        "id": START["run"],
        "kind": "finetune",
        **{key: START[key] for key in ("method", "task", "dataset", "suite", "seed", "inputs", "parameters")},
        "size": "mini",
        "basis": "reduced",
        "recipe": RECIPE,
        "origins": {},
        "code": Code(version="1.0", commit="0123abc", dirty=True),
        "machine": Machine(device="cpu", cpu="some", torch="2", precision="fp32"),
        "started": "2025-01-01T00:00:00Z",
        "seconds": 12.0,
        "steps": 20,
        "examples_seen": 640,
        "throughput": Throughput(train_samples_per_second=50.0),
        "scores": {"val": {"accuracy": score, "R@1": score.model_copy(update={"low": None, "high": None})}},
        "controls": {"prior": score.model_copy(update={"value": 30.0})},
        "checkpoint": "checkpoint/model.safetensors",
    }
    return RunRecord.model_validate({**values, **changes}).sealed()


def write_run(folder: Path, steps: range = range(1, 6), after: int | None = None, end: bool = True) -> Path:
    """Write what a run writes."""
    with RunLog(folder, after_step=after) as log:
        if after is None:
            log(START)
        for step in steps:
            log({"event": "step", "step": step, "values": {"loss": 2.0 / step, "samples_per_second": 50.0}})
        if end:
            make_record().write(folder / "record.json")
            (folder / "recipe.toml").write_text('model = "lxmert"\n')
            (folder / "answers-val.json").write_text("[]")
            (folder / "samples-val.parquet").write_bytes(b"PAR1")
            (folder / "checkpoint").mkdir(exist_ok=True)
            (folder / "checkpoint" / "model.safetensors").write_bytes(b"heavy")
            log(END)
    return folder


def mirror_here(folder: Path, uri: str, finish: bool = True) -> Mirroring:
    """Mirror in this process, which has mlflow loaded already."""
    mirroring = Mirroring(folder, Store(uri))
    mirroring.take()
    if finish:
        mirroring.complete()
    return mirroring


def contents(uri: str) -> list[dict[str, Any]]:
    """All a store holds of its runs, in a form that can be compared."""
    client = Store(uri).client
    found = []
    for experiment in client.search_experiments(filter_string="name LIKE 'vlbench/%'"):
        for run in client.search_runs([experiment.experiment_id]):
            points = {
                name: [(p.step, p.value, p.timestamp) for p in client.get_metric_history(run.info.run_id, name)]
                for name in sorted(run.data.metrics)
                if not name.startswith("system/")
            }
            found.append(
                {
                    "experiment": experiment.name,
                    "name": run.info.run_name,
                    "status": run.info.status,
                    "params": run.data.params,
                    "tags": {k: v for k, v in run.data.tags.items() if "vlbench" in k or "note" in k},
                    "points": points,
                    "files": sorted(file.path for file in client.list_artifacts(run.info.run_id)),
                    "data": [(e.dataset.name, e.dataset.digest) for e in run.inputs.dataset_inputs],
                }
            )
    return found


def until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait for something another process does."""
    stop = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < stop, "it did not happen"
        time.sleep(0.05)


def table_rows(uri: str, run: str) -> list[Any]:
    client = Store(uri).client
    path = client.download_artifacts(run, "results.json")
    return list(json.loads(Path(path).read_text())["data"])


# The log


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_an_event_is_one_line_at_once(tmp_path: Path) -> None:
    heard: list[Any] = []
    log = RunLog(tmp_path, [heard.append])
    log({"event": "note", "text": "two\nlines"})
    assert [line["text"] for line in lines(tmp_path)] == ["two\nlines"]  # before it is closed
    assert heard[0]["text"] == "two\nlines"
    assert abs(heard[0]["time"] - time.time()) < 5
    log.close()


def test_what_json_cannot_hold_becomes_words(tmp_path: Path) -> None:
    values = {
        "a": math.nan,
        "b": math.inf,
        "c": -math.inf,
        "d": np.float32(0.5),
        "e": np.int64(3),
        "f": [np.nan],
    }
    with RunLog(tmp_path) as log:
        log({"event": "step", "step": 1, "values": values})
    text = (tmp_path / "log.jsonl").read_text()
    found = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))["values"]
    assert found == {"a": "nan", "b": "inf", "c": "-inf", "d": 0.5, "e": 3, "f": ["nan"]}


def test_resume_drops_later_steps_the_end_and_a_torn_line(tmp_path: Path) -> None:
    write_run(tmp_path, range(1, 9))
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"event": "step", "st')
    with RunLog(tmp_path, after_step=4) as log:
        log({"event": "step", "step": 5, "values": {}})
    assert [line.get("step", line["event"]) for line in lines(tmp_path)] == ["start", 1, 2, 3, 4, 5]
    assert not list(tmp_path.glob(".log*")), "the temporary name stayed"


def test_a_torn_line_is_not_glued_to_the_next(tmp_path: Path) -> None:
    write_run(tmp_path, range(1, 3), end=False)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"event": "st')
    with RunLog(tmp_path) as log:
        log({"event": "note", "text": "on"})
    assert [line["event"] for line in lines(tmp_path)] == ["start", "step", "step", "note"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_a_clear_fault(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    with RunLog(tmp_path) as log, pytest.raises(Fault, match="cannot write the run's log") as fault:
        log({"event": "note", "text": "x"})
    assert "No space left" in fault.value.wrong
    assert "same command again" in fault.value.todo


# Names and texts


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("vqa/R@1", "vqa/r_at_1"),
        ("accuracy (%)", "accuracy_percent"),
        ("q→a", "q_to_a"),
        ("Q->AR", "q_to_ar"),
        ("a//b/", "a/b"),
        ("../a/./b", "a/b"),
        ("per[type]", "per_type"),
        ("café", "cafe"),
        ("数", "unnamed"),
        ("x" * 400, "x" * 240),
    ],
)
def test_metric_names(raw: str, clean: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    assert metric_name(raw) == clean
    _validate_metric_name(clean)


def test_names_do_not_collide_and_stay() -> None:
    names = Names()
    given = [names.name(raw) for raw in ("R@1", "r_at_1", "R@1", "r at 1")]
    assert given == ["r_at_1", "r_at_1_2", "r_at_1", "r_at_1_3"]
    assert names.name("new", most=3) is None
    assert names.name("R@1", most=3) == "r_at_1"


def test_a_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "https://me:secret@host:5000/path"
    assert shown(uri) == "https://me:***@host:5000/path"
    assert shown("sqlite:////a/b.db") == "sqlite:////a/b.db"

    def fail() -> None:
        raise ValueError(f"{uri} is broken")

    monkeypatch.setattr("vlbench.store.WAITS", ())
    with pytest.raises(LostError) as error:
        trying(fail, uri)
    assert "secret" not in str(error.value)


def test_the_store_is_one_absolute_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert store_uri() == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert store_uri(Path("out")) == f"sqlite:///{tmp_path}/out/mlflow.db"
    assert check_uri("sqlite:///own.db") == f"sqlite:///{tmp_path}/own.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert store_uri(Path("out")) == "http://127.0.0.1:1"


def test_long_parameters_are_cut_by_us(tmp_path: Path, uri: str) -> None:
    long = flat_parameters({"recipe": {"model": "x" * 7000, "splits": ["a", "b"]}})
    assert len(long["model"]) == 6000
    assert long["model"].endswith("(cut; whole in recipe.toml)")
    assert long["splits"] == "a,b"
    many = {f"key{number}": "v" for number in range(230)}  # of another version; MLflow takes 100 in a call
    with RunLog(tmp_path / "run") as log:
        log({**START, "recipe": {**many, "model": "x" * 7000}})
    mirror_here(tmp_path / "run", uri)
    (found,) = contents(uri)
    assert found["params"]["model"] == long["model"]
    assert len(found["params"]) == 232
    assert "vlbench.config_hash" not in found["tags"], "a recipe of another version has no digest here"


# What is in the store


def test_everything_worth_knowing_is_mirrored(tmp_path: Path, uri: str) -> None:
    folder = write_run(tmp_path / "run")
    run = mirror_here(folder, uri).run
    (found,) = contents(uri)
    assert (found["experiment"], found["name"], found["status"]) == ("vlbench/vqa", "lxmert-s0", "FINISHED")
    expected = {
        "run": START["run"],
        "model": "lxmert",
        "task": "vqa",
        "dataset": "easy-vqa",
        "suite": "quick",
    }
    expected |= {"seed": "0", "stage": "finetune", "config_hash": RECIPE.digest(), "git": "0123abc+changes"}
    expected |= {"scorer": "official-2021", "basis": "reduced", "checkpoint": "checkpoint/model.safetensors"}
    assert {f"vlbench.{key}": value for key, value in expected.items()}.items() <= found["tags"].items()
    assert "**61.50** accuracy" in found["tags"]["mlflow.note.content"]
    assert "| prior | 30.00 |" in found["tags"]["mlflow.note.content"]
    assert found["params"]["rate"] == "5e-05"
    assert found["params"]["parameters"] == "1234"
    values = {name: [point[:2] for point in points] for name, points in found["points"].items()}
    assert values["train/loss"] == [(step, 2.0 / step) for step in range(1, 6)]
    assert values["perf/samples_per_second"][0] == (1, 50.0)
    final = {"vqa/accuracy": 61.5, "vqa/accuracy_ci_low": 60.25, "vqa/accuracy_ci_high": 62.75}
    final |= {
        "vqa/accuracy_n": 400,
        "vqa/r_at_1": 61.5,
        "control/prior": 30,
        "perf/train_samples_per_second": 50,
    }
    assert {name: points[0][1] for name, points in values.items()}.items() >= final.items()
    names = [
        "answers-val.json",
        "log.jsonl",
        "recipe.toml",
        "record.json",
        "results.json",
        "samples-val.parquet",
    ]
    assert found["files"] == names
    client = Store(uri).client
    experiment = client.get_experiment_by_name("vlbench/vqa")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert Path(client.get_run(run).info.artifact_uri.replace("file://", "").replace("%20", " ")).is_relative_to(
        tmp_path / "my runs" / "mlartifacts"
    )


def test_the_page_finds_runs_by_tag(tmp_path: Path, uri: str) -> None:
    mirror_here(write_run(tmp_path / "run"), uri)
    client = Store(uri).client
    experiment = client.get_experiment_by_name("vlbench/vqa").experiment_id
    assert len(client.search_runs([experiment], "tags.`vlbench.task`='vqa'")) == 1
    assert not client.search_runs([experiment], "tags.`vlbench.task`='gqa'")


def test_not_a_number_reaches_the_store(tmp_path: Path, uri: str) -> None:
    with RunLog(tmp_path / "run") as log:
        log(START)
        log({"event": "step", "step": 1, "values": {"loss": math.nan, "rate": math.inf, "word": "fast"}})
        log(END)
    mirror_here(tmp_path / "run", uri)
    points = contents(uri)[0]["points"]
    assert math.isnan(points["train/loss"][0][1])
    assert points["train/rate"][0][1] > 1e300
    assert "train/word" not in points


def test_a_table_is_not_doubled(tmp_path: Path, uri: str) -> None:
    folder = write_run(tmp_path / "run")
    run = mirror_here(folder, uri).run
    before = table_rows(uri, run)
    assert [row[1] for row in before] == ["accuracy", "R@1", "prior"]
    make_record(note="the server's reply came").write(folder / "record.json")
    assert sync([folder], uri)[0].outcome == "updated"
    assert table_rows(uri, run) == before
    import mlflow

    mlflow.set_tracking_uri(uri)  # MLflow must know it as a table
    client = Store(uri).client
    experiment = client.get_experiment_by_name("vlbench/vqa").experiment_id
    table = client.load_table(experiment, "results.json", run_ids=[run])
    assert list(table["metric"]) == ["accuracy", "R@1", "prior"]


@pytest.mark.parametrize("name", ["world://mini/3", "https://example.org/a.zip", "data/questions.json"])
def test_any_source_of_data_can_be_read_back(tmp_path: Path, uri: str, name: str) -> None:
    import mlflow.data
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException):  # the trap
        mlflow.data.dataset_source_registry.resolve_dataset_source("world://mini/3")
    with RunLog(tmp_path / "run") as log:
        log({**START, "inputs": {name: "00"}})
    run = mirror_here(tmp_path / "run", uri).run
    (entry,) = Store(uri).run(run).inputs.dataset_inputs
    source = mlflow.data.get_source(entry)
    text = source.url if hasattr(source, "url") else source.uri
    wanted = {"world": str(tmp_path / "run"), "https": name, "data": os.path.abspath(name)}
    assert text == wanted[name.replace("/", ":").partition(":")[0]]
    assert len(entry.dataset.digest) == 32


def test_the_source_of_many_files_is_their_folder(tmp_path: Path) -> None:
    files = [str(tmp_path / "a" / "x.json"), str(tmp_path / "b" / "y.json")]
    assert json.loads(dataset_source(files, tmp_path)[1]) == {"uri": str(tmp_path)}


def test_no_more_names_than_a_page_can_show(tmp_path: Path, uri: str) -> None:
    score = Score(value=1.0, low=0.5, high=1.5, count=4, scorer="s")
    folder = tmp_path / "run"
    with RunLog(folder) as log:
        log(START)
        log({"event": "step", "step": 1, "values": {f"part{number}": 1.0 for number in range(90)}})
        scores = {"accuracy": score, **{f"type/{number}": score for number in range(80)}}
        make_record(scores={"val": scores}).write(folder / "record.json")
        log(END)
    run = mirror_here(folder, uri).run
    points = contents(uri)[0]["points"]
    assert len(points) == MOST_NAMES
    assert {"vqa/accuracy", "vqa/accuracy_n", "control/prior", "perf/train_samples_per_second"} <= set(points)
    assert len(table_rows(uri, run)) == 82, "the table has them all"


def test_a_second_split_has_names_of_its_own() -> None:
    one, two = (Score(value=value, count=4, scorer="s") for value in (1.0, 2.0))
    found = final_metrics(make_record(scores={"val": {"accuracy": one}, "test": {"accuracy": two}}))
    assert (found["vqa/accuracy"], found["vqa/test/accuracy"]) == (1.0, 2.0)
    assert "vqa/accuracy_ci_low" not in found


# Again and again


def test_a_resumed_run_goes_on_in_the_same_place(tmp_path: Path, uri: str) -> None:
    folder = write_run(tmp_path / "run", range(1, 11), end=False)
    first = mirror_here(folder, uri, finish=False).run
    write_run(folder, range(6, 16), after=5)  # went back to the checkpoint of step 5
    assert mirror_here(folder, uri).run == first
    (found,) = contents(uri)
    assert [point[0] for point in found["points"]["train/loss"]] == list(range(1, 16))
    assert found["status"] == "FINISHED"


def test_an_end_that_was_not_the_end(tmp_path: Path, uri: str) -> None:
    folder = write_run(tmp_path / "run", range(1, 3))
    with RunLog(folder) as log:
        log({"event": "step", "step": 3, "values": {"loss": 1.0}})
    assert mirror_here(folder, uri, finish=False).end is None


def test_sync_is_idempotent_and_equal_everywhere(tmp_path: Path, uri: str, template: Path) -> None:
    folders = [write_run(tmp_path / "one")]
    shown_to_user: list[tuple[int, int, str]] = []
    assert sync(folders, uri, lambda *args: shown_to_user.append(args))[0].outcome == "new"
    assert shown_to_user == [(0, 1, "one"), (1, 1, "")]
    before = contents(uri)
    assert sync(folders, uri)[0].outcome == "already there"
    (folders[0] / "mirror.json").unlink()
    assert sync(folders, uri)[0].outcome == "already there"
    assert contents(uri) == before
    other = tmp_path / "other.db"
    shutil.copy(template, other)
    assert sync(folders, f"sqlite:///{other}")[0].outcome == "new"
    assert contents(f"sqlite:///{other}") == before


def test_sync_of_an_unfinished_run_and_of_none(tmp_path: Path, uri: str) -> None:
    (tmp_path / "empty").mkdir()
    torn = write_run(tmp_path / "torn", end=False)
    results = sync([tmp_path / "empty", torn], uri)
    assert results[0].outcome.startswith("no run")
    assert results[1].outcome == "new"
    assert contents(uri)[0]["status"] == "KILLED"
    write_run(torn, range(6, 8), after=5)
    assert sync([torn], uri)[0].outcome == "updated"
    (found,) = contents(uri)
    assert found["status"] == "FINISHED"
    assert [point[0] for point in found["points"]["train/loss"]] == list(range(1, 8))


def test_a_deleted_experiment_comes_back(tmp_path: Path, uri: str) -> None:
    client = Store(uri).client
    place = (tmp_path / "artifacts").as_uri()  # MLflow's own default is the folder pytest was started in
    client.delete_experiment(client.create_experiment("vlbench/vqa", place))
    assert sync([write_run(tmp_path / "run")], uri)[0].outcome == "new"
    assert contents(uri)[0]["status"] == "FINISHED"


def test_a_database_of_an_older_mlflow_is_migrated(tmp_path: Path) -> None:
    from alembic import command
    from mlflow.exceptions import MlflowException
    from mlflow.store.db.utils import _get_alembic_config, _verify_schema, create_sqlalchemy_engine
    from mlflow.store.tracking.dbmodels.initial_models import Base

    uri = f"sqlite:///{tmp_path / 'old.db'}"
    engine = create_sqlalchemy_engine(uri)
    Base.metadata.create_all(engine)
    command.upgrade(_get_alembic_config(uri), "2d6e25af4d3e")  # as mlflow 2 had it
    with pytest.raises(MlflowException, match="out-of-date"):
        _verify_schema(engine)
    assert [experiment.name for experiment in Store(uri).client.search_experiments()] == ["Default"]


# The process

RUN = """
import sys, time
from pathlib import Path
import vlbench.tracking
from vlbench.tracking import RunLog, start_mirror
vlbench.tracking.NICENESS = 0
folder, uri, start, last = Path(sys.argv[1]), sys.argv[2], eval(sys.argv[3]), int(sys.argv[4])
with RunLog(folder) as log:
    mirror = start_mirror(folder, uri)
    log(start)
    for step in range(1, last + 1):
        log({"event": "step", "step": step, "values": {"loss": 1.0 / step}})
    if "wait" in sys.argv:
        time.sleep(120)
    log({"event": "end", "status": "finished", "message": ""})
    print(mirror.finish(120))
assert "mlflow" not in sys.modules, "the run itself must not load mlflow"
"""


def start_run(folder: Path, uri: str, last: int = 3, *words: str) -> subprocess.Popen[str]:
    start = {**START, "run": folder.name}
    command = [sys.executable, "-c", RUN, str(folder), uri, repr(start), str(last), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def state(folder: Path) -> dict[str, Any]:
    path = folder / "mirror.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def test_a_mirror_gives_way(tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlbench.tracking.NICENESS", 19)
    mirror = start_mirror(tmp_path, uri)
    assert mirror.process is not None
    assert os.getpriority(os.PRIO_PROCESS, mirror.process.pid) == 19
    if hasattr(os, "SCHED_IDLE"):
        assert os.sched_getscheduler(mirror.process.pid) == os.SCHED_IDLE
    assert os.getsid(mirror.process.pid) == os.getsid(0), "a new session has a share of the processor of its own"
    assert os.getpgid(mirror.process.pid) != os.getpgid(0), "Ctrl-C would reach it"
    assert "it was not done after 0 s" in mirror.finish(0.0)


def test_a_live_mirror_equals_a_replay(tmp_path: Path, uri: str, template: Path) -> None:
    folder = tmp_path / "run"
    with RunLog(folder) as log:
        mirror = start_mirror(folder, uri)
        log(START)
        log({"event": "step", "step": 1, "values": {"loss": 1.0}})
        until(lambda: (folder / "system.jsonl").exists())
    write_run(folder, range(2, 6), after=1)
    line = mirror.finish(120)
    assert line.startswith(f"mirrored to {uri} (run "), line
    live = contents(uri)
    client = Store(uri).client
    assert client.get_metric_history(state(folder)["run"], "system/cpu_utilization_percentage")
    assert sync([folder], uri)[0].outcome == "already there"
    other = tmp_path / "other.db"
    shutil.copy(template, other)
    sync([folder], f"sqlite:///{other}")
    assert contents(f"sqlite:///{other}") == live


def test_four_runs_at_once_on_a_new_store(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    runs = [start_run(tmp_path / f"run{number}", uri) for number in range(4)]
    for run in runs:
        out, error = run.communicate(timeout=150)
        assert run.returncode == 0, error
        assert out.startswith("mirrored to"), out
    found = contents(uri)
    assert sorted(run["tags"]["vlbench.run"] for run in found) == [f"run{number}" for number in range(4)]
    assert {run["status"] for run in found} == {"FINISHED"}


def test_a_killed_run_and_its_resumption(tmp_path: Path, uri: str) -> None:
    folder = tmp_path / "run"
    run = start_run(folder, uri, 6, "wait")
    until(lambda: state(folder).get("lines") == 7)
    run.kill()
    run.communicate()
    until(lambda: state(folder).get("state") == "the run was killed")
    (found,) = contents(uri)
    assert found["status"] == "KILLED"
    with RunLog(folder, after_step=3) as log:
        mirror = start_mirror(folder, uri)
        for step in range(4, 9):
            log({"event": "step", "step": step, "values": {"loss": 1.0}})
        log(END)
    assert mirror.finish(120).startswith("mirrored to")
    (found,) = contents(uri)
    assert [point[0] for point in found["points"]["train/loss"]] == list(range(1, 9))
    assert found["status"] == "FINISHED"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end_of(folder: Path, uri: str, timeout: float) -> tuple[Mirror, str]:
    mirror = start_mirror(folder, uri)
    write_run(folder)
    return mirror, mirror.finish(timeout)


def test_a_server_that_is_down(tmp_path: Path) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    folder = tmp_path / "run"
    folder.mkdir()
    mirror, line = end_of(folder, uri, 120)
    assert line.startswith(f"not fully mirrored to {uri}: ")
    assert line.endswith(f"later: vlbench sync {folder}")
    assert "\n" not in line
    assert state(folder)["state"] == "gave up"
    assert "not done after" not in line, "it should have given up by itself"
    assert mirror.process is not None
    assert mirror.process.poll() is not None


def test_a_server_that_never_answers_holds_nobody_up(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        began = time.monotonic()
        mirror, line = end_of(folder, f"http://127.0.0.1:{deaf.getsockname()[1]}", 1.0)
    assert "it was not done after 1 s" in line
    assert time.monotonic() - began < 15
    assert mirror.process is not None
    assert mirror.process.poll() is not None, "the process stayed behind"


class Dying(BaseHTTPRequestHandler):
    """A tracking server that takes one batch of metrics and then is ill."""

    metrics = 0

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        verb = self.path.partition("/mlflow/")[2].partition("?")[0]
        if verb == "runs/log-batch" and json.loads(body).get("metrics"):
            type(self).metrics += 1
        experiment = {"experiment_id": "1", "name": "vlbench/vqa", "lifecycle_stage": "active"}
        info = {
            "run_id": "r1",
            "run_uuid": "r1",
            "experiment_id": "1",
            "status": "RUNNING",
            "artifact_uri": "x",
        }
        run = {"info": {**info, "lifecycle_stage": "active", "start_time": 1}, "data": {}, "inputs": {}}
        replies: dict[str, Any] = {
            "experiments/get-by-name": {"experiment": experiment},
            "runs/update": {"run_info": info},
        }
        replies |= {name: {"run": run} for name in ("runs/create", "runs/get")}
        text = json.dumps(replies.get(verb, {})).encode()
        self.send_response(200 if self.metrics <= 1 else 500)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = answer  # noqa: N815

    def log_message(self, *args: object) -> None:
        """Be silent."""


@pytest.fixture
def dying() -> Iterator[str]:
    Dying.metrics = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Dying)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_server_that_dies_midway(tmp_path: Path, dying: str, uri: str) -> None:
    folder = tmp_path / "run"
    with RunLog(folder) as log:
        mirror = start_mirror(folder, dying)
        log(START)
        log({"event": "step", "step": 1, "values": {"loss": 1.0}})
        until(lambda: state(folder).get("lines") == 2)
        assert state(folder)["state"] == "following"
    write_run(folder, range(2, 6), after=1)
    line = mirror.finish(120)
    assert "not fully mirrored" in line
    assert "500" in line
    assert state(folder)["run"] == "r1"
    assert sync([folder], uri)[0].outcome == "new", "the folder has it all"
    assert len(contents(uri)[0]["points"]["train/loss"]) == 5


@pytest.mark.parametrize("address", ["file:///some/where", "/some/where", "mlruns"])
def test_a_folder_of_files_is_refused_with_advice(tmp_path: Path, address: str) -> None:
    mirror, line = end_of(write_run(tmp_path / "run"), address, 10)
    assert mirror.process is None
    assert "no longer writes to a folder" in line
    assert "sqlite:///" in line
    with pytest.raises(Fault, match="folder of files"):
        sync([tmp_path / "run"], address)
    with pytest.raises(Fault, match="folder of files"):
        ui_command(address)


def test_sync_to_a_server_that_is_down(tmp_path: Path) -> None:
    with pytest.raises(Fault, match="cannot reach MLflow"):
        sync([write_run(tmp_path / "run")], f"http://127.0.0.1:{free_port()}")


def test_system_samples_need_no_graphics_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    stop = threading.Event()
    thread = threading.Thread(target=sample_system, args=(tmp_path, stop))
    thread.start()
    until(lambda: (tmp_path / "system.jsonl").exists() and (tmp_path / "system.jsonl").read_text().count("\n") > 1)
    stop.set()
    thread.join(5)
    values = json.loads((tmp_path / "system.jsonl").read_text().splitlines()[0])["values"]
    assert values["system_memory_usage_megabytes"] > 10
    assert not [name for name in values if name.startswith("gpu")]


# The page


def test_the_page_is_started_lean(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"):
        monkeypatch.delenv(name, raising=False)
    command, env, url = ui_command(uri)
    words = " ".join(command)
    assert "--workers 1 " in words
    assert f"--backend-store-uri {uri}" in words
    assert "--host 127.0.0.1" in words
    assert env["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert env["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert url.rpartition(":")[2] == command[command.index("--port") + 1]
    assert ui_command(uri, 5123).url == "http://127.0.0.1:5123"
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    assert ui_command(uri).env["MLFLOW_DISABLE_TELEMETRY"] == "false", "the user's own setting stays"
    assert ui_command("http://127.0.0.1:7") == ([], {}, "http://127.0.0.1:7")


def test_no_page_without_a_store(tmp_path: Path) -> None:
    with pytest.raises(Fault, match="no MLflow database yet"):
        ui(f"sqlite:///{tmp_path / 'none.db'}")


def test_a_port_that_is_taken(uri: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(Fault, match=f"port {taken.getsockname()[1]} is taken"):
            ui(uri, taken.getsockname()[1], say=lambda line: None)


def test_a_page_that_cannot_start_says_why(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-c", "print('the database is torn'); raise SystemExit(1)"]
    broken = ui_command(uri)._replace(command=command)
    monkeypatch.setattr("vlbench.tracking.ui_command", lambda uri, port: broken)
    with pytest.raises(Fault, match="did not start: the database is torn"):
        ui(uri, say=lambda line: None)


def test_the_page_opens_takes_runs_and_ends_on_ctrl_c(tmp_path: Path, uri: str) -> None:
    code = "import sys, vlbench.tracking as t; t.ui(sys.argv[1], say=lambda line: print(line, flush=True))"
    command = [sys.executable, "-c", code, uri]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("starting")
    url = process.stdout.readline().strip()
    folder = write_run(tmp_path / "run")
    assert [sync([folder], url)[0].outcome for _ in range(2)] == ["new", "already there"]
    assert contents(url) == contents(uri)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=20)
    assert (process.returncode, out, error) == (0, "stopped\n", "")
    with (
        pytest.raises(ConnectionRefusedError),
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))),
    ):
        pass

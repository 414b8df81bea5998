"""An MLflow store: reaching it, and what the parts of a run are called there.

The only module that imports mlflow, and only inside ``Store``: the import takes four seconds and 170 MB.
Everything else here is a pure function from events and records to names and texts.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit, urlunsplit

from filelock import FileLock, Timeout

from vlbench.recipe import Recipe
from vlbench.record import RunRecord
from vlbench.types import Fault

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Result = TypeVar("Result")

MOST_NAMES = 100
"""Distinct metrics of a run; MLflow's page crawls beyond that, and the table of results holds the rest."""
BATCH = 500
PARAMETER_LENGTH = 6000
WAITS = (0.5, 1.0, 2.0)
"""Seconds between tries of a store that does not answer; after the last one ``vlbench sync`` is left."""
HOPELESS = ("INVALID_PARAMETER_VALUE", "PERMISSION_DENIED", "UNAUTHENTICATED")
CALM = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # its own seven take four minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
WORDS = {"@": "_at_", "%": "_percent_", "→": "_to_", "->": "_to_", "+": "_plus_", "&": "_and_"}


class LostError(Exception):
    """The store did not answer or refused; the message is one line."""


class Point(NamedTuple):
    """One value of one metric."""

    name: str
    value: float
    when: float
    """Seconds since 1970."""
    step: int


def metric_name(raw: str) -> str:
    """Turn any name into one MLflow takes: ``R@1`` becomes ``r_at_1``."""
    for mark, word in WORDS.items():
        raw = raw.replace(mark, word)
    plain = unicodedata.normalize("NFKD", raw).encode("ascii", "ignore").decode().lower()
    parts = [re.sub(r"_+", "_", re.sub(r"[^a-z0-9_.-]", "_", part)).strip("_.") for part in plain.split("/")]
    return "/".join(part for part in parts if part)[:240].rstrip("/") or "unnamed"


class Names:
    """Gives every metric of a run a name of its own, up to as many as a page can show."""

    def __init__(self) -> None:
        self.given: dict[str, str] = {}

    def name(self, raw: str, most: int = MOST_NAMES) -> str | None:
        """Return the metric's name; None where the run has ``most`` already."""
        if raw not in self.given:
            if len(self.given) >= most:
                return None
            taken, clean = set(self.given.values()), metric_name(raw)
            numbered = (f"{clean}_{number}" for number in range(2, most + 2))
            self.given[raw] = clean if clean not in taken else next(n for n in numbered if n not in taken)
        return self.given[raw]


def shown(uri: str) -> str:
    """Return a store's address without the password it may hold."""
    parts = urlsplit(uri)
    if not parts.password:
        return uri
    return urlunsplit(parts._replace(netloc=f"{parts.username}:***@{parts.netloc.rpartition('@')[2]}"))


def database(uri: str) -> Path | None:
    """Return the file of an SQLite store; None for any other store."""
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]) if uri.startswith("sqlite:///") else None


def check_uri(uri: str) -> str:
    """Return the store's full address, or say why MLflow will not write there."""
    allowed = os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() in ("true", "1")
    if urlsplit(uri).scheme in ("", "file") and not allowed:
        raise Fault(
            f"MLflow no longer writes to a folder of files ({uri})",
            "set MLFLOW_TRACKING_URI to a database, such as sqlite:////absolute/path/mlflow.db, or unset it",
        )
    file = database(uri)
    return f"sqlite:///{file.absolute()}" if file and not file.is_absolute() else uri


def artifact_root(uri: str) -> Path | None:
    """Return where the artifacts of an SQLite store lie: beside the database, wherever one stands."""
    file = database(uri)
    return file.absolute().parent / "mlartifacts" if file else None


def trying(action: Callable[[], Result], uri: str = "") -> Result:
    """Do it, again after a short wait if it fails; LostError with one line if it fails to the end."""
    for wait in (*WAITS, None):
        try:
            return action()
        except Exception as error:  # mlflow, SQLAlchemy, requests and artifact stores share no base class
            if wait is None or getattr(error, "error_code", "") in HOPELESS:
                line = " ".join(str(error).replace(uri or "\0", shown(uri)).split())
                raise LostError(f"{type(error).__name__}: {line[:300]}") from error
            time.sleep(wait)
    raise AssertionError("the last wait is None")


def calm_mlflow() -> None:
    """Switch off what MLflow would send home, print or retry for minutes; the user's own settings stay."""
    for name, value in CALM.items():
        os.environ.setdefault(name, value)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)


class Store:
    """An MLflow store that is there, migrated and answers; every call is tried a few times."""

    def __init__(self, uri: str) -> None:
        self.uri = check_uri(uri)
        calm_mlflow()
        file = database(self.uri)
        if file is None:
            self.client = self._try(self._open)
            return
        try:  # two processes that create one database at once break it
            with FileLock(f"{file}.lock", timeout=600):
                self.client = self._try(self._open)
        except (Timeout, OSError) as error:
            raise LostError(f"cannot lock {file}: {error}") from None

    def _try(self, action: Callable[[], Result]) -> Result:
        return trying(action, self.uri)

    def _open(self) -> MlflowClient:
        """Reach the store: creates a new database, migrates one of an older MLflow."""
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        def reach() -> MlflowClient:
            client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
            client.search_experiments(max_results=1)
            return client

        if (file := database(self.uri)) and not file.exists():
            # whoever makes it may be stopped, and half of a database can neither be used nor mended
            part = file.with_name(f".{file.name}.part")
            part.unlink(missing_ok=True)
            MlflowClient(tracking_uri=f"sqlite:///{part}").search_experiments(max_results=1)
            part.replace(file)
        try:
            return reach()
        except MlflowException as error:
            if "out-of-date" not in str(error) or database(self.uri) is None:
                raise
            upgrade = [sys.executable, "-m", "mlflow", "db", "upgrade", self.uri]
            subprocess.run(upgrade, check=True, capture_output=True)
            return reach()

    def find_or_create(
        self, task: str, run: str, *, name: str, began: float, tags: Mapping[str, str]
    ) -> tuple[Run, bool]:
        """Return a run's mirror, found by its tag or made, and whether it was there."""

        def action() -> tuple[Run, bool]:
            experiment = self._experiment(f"vlbench/{task or 'pretrain'}")
            found = self.client.search_runs([experiment], f"tags.`vlbench.run` = '{run}'", max_results=1)
            if found:
                return found[0], True
            return self.client.create_run(experiment, int(began * 1000), dict(tags), run_name=name), False

        return self._try(action)

    def _experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is None:
            root = artifact_root(self.uri)
            location = (root / name).as_uri() if root else None
            tags = {"mlflow.experimentKind": "custom_model_development"}
            try:
                self.client.create_experiment(name, artifact_location=location, tags=tags)
            except Exception:  # another run may have been quicker; every kind of store says that differently
                if self.client.get_experiment_by_name(name) is None:
                    raise
            found = self.client.get_experiment_by_name(name)
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def run(self, run: str) -> Run:
        """Return what the store holds of a run."""
        return self._try(lambda: self.client.get_run(run))

    def last_step(self, run: str, name: str) -> int:
        """Return the last step a metric was logged at; -1 where it was not."""
        history = self._try(lambda: self.client.get_metric_history(run, name))
        return max((point.step for point in history), default=-1)

    def log_points(self, run: str, points: Sequence[Point]) -> None:
        """Write values, many in one call: one by one SQLite takes 93 a second, so 5,600."""
        from mlflow.entities import Metric

        metrics = [Metric(point.name, point.value, int(point.when * 1000), point.step) for point in points]
        for first in range(0, len(metrics), BATCH):
            part = metrics[first : first + BATCH]
            self._try(lambda part=part: self.client.log_batch(run, metrics=part))  # type: ignore[misc]

    def log_texts(self, run: str, parameters: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Write parameters the run does not have (MLflow never lets one change), and tags."""
        from mlflow.entities import Param, RunTag

        marks = [RunTag(key, value) for key, value in tags.items()]
        self._try(lambda: self.client.log_batch(run, tags=marks))
        known = self.run(run).data.params if parameters else {}
        new = [Param(key, value) for key, value in parameters.items() if key not in known]
        for first in range(0, len(new), 100):  # the most MLflow takes in one call
            part = new[first : first + 100]
            self._try(lambda part=part: self.client.log_batch(run, params=part))  # type: ignore[misc]

    def log_dataset(self, run: str, name: str, inputs: Mapping[str, str], folder: Path) -> None:
        """Write which files, by hash, a run was made from."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        digest = hashlib.sha256(json.dumps(dict(inputs), sort_keys=True).encode()).hexdigest()[:32]
        kind, source = dataset_source(sorted(inputs), folder)
        data = Dataset(name or "data", digest, kind, source, profile=json.dumps({"files": len(inputs)}))
        entry = DatasetInput(data, tags=[InputTag("mlflow.data.context", "evaluation")])
        self._try(lambda: self.client.log_inputs(run, [entry]))

    def log_table(self, run: str, table: Mapping[str, Any], name: str) -> None:
        """Write a table as MLflow's ``log_table`` does, but over an old one: that appends to it."""
        self._try(lambda: self.client.log_dict(run, dict(table), name))
        self.log_texts(run, {}, {"mlflow.loggedArtifacts": json.dumps([{"path": name, "type": "table"}])})

    def log_file(self, run: str, file: Path) -> None:
        """Copy a file to the run's artifacts."""
        self._try(lambda: self.client.log_artifact(run, str(file)))

    def set_running(self, run: str) -> None:
        """Say that a run goes on."""
        self._try(lambda: self.client.update_run(run, status="RUNNING"))

    def close(self, run: str, status: str, when: float) -> None:
        """Say how and when a run ended."""
        self._try(lambda: self.client.set_terminated(run, status, int(when * 1000)))


def dataset_source(files: Sequence[str], folder: Path) -> tuple[str, str]:
    """Name where data came from in a way MLflow can read back: a path or a web address, nothing else."""
    if files and urlsplit(files[0]).scheme in ("http", "https"):
        return "http", json.dumps({"url": files[0]})
    paths = [os.path.abspath(name) for name in files if "://" not in name]
    return "local", json.dumps({"uri": os.path.commonpath(paths) if paths else str(folder.absolute())})


def flat_parameters(event: Mapping[str, Any]) -> dict[str, str]:
    """Lay a start event's recipe out as MLflow parameters."""
    values = {**event.get("recipe", {}), "parameters": event.get("parameters", "")}
    texts = {k: ",".join(map(str, v)) if isinstance(v, list | tuple) else str(v) for k, v in values.items()}
    note = " ... (cut; whole in recipe.toml)"
    cut = PARAMETER_LENGTH - len(note)
    return {k: v if len(v) <= PARAMETER_LENGTH else v[:cut] + note for k, v in texts.items()}


def start_tags(event: Mapping[str, Any]) -> dict[str, str]:
    """Say what a run is, from its first event."""
    names = {"run": "run", "model": "method", "stage": "kind"}
    names |= {name: name for name in ("task", "dataset", "suite", "seed")}
    tags = {tag: str(event.get(key, "")) for tag, key in names.items()}
    with suppress(ValueError):  # the recipe of another version of vlbench
        recipe = event.get("recipe")
        tags["config_hash"] = Recipe.model_validate(recipe).digest()
    return {f"vlbench.{tag}": value for tag, value in tags.items() if value}


def record_tags(record: RunRecord) -> dict[str, str]:
    """Say how a finished run was made and what came out."""
    tags = {
        "stage": record.kind,
        "git": record.code.commit + ("+changes" if record.code.dirty else ""),
        "scorer": record.main[2].scorer if record.main else "",
        "basis": record.basis,
        "checkpoint": record.checkpoint,
        "fingerprint": record.fingerprint,
    }
    found = {f"vlbench.{tag}": value for tag, value in tags.items() if value}
    return {**found, "mlflow.note.content": run_card(record)[:8000]}


def run_card(record: RunRecord) -> str:
    """Write the Markdown MLflow shows on top of a run: result, controls, how it was made."""
    lines = [f"# {record.method} on {record.task}", ""]
    if record.main:
        split, metric, score = record.main
        known = score.low is not None and score.high is not None
        interval = f" (95 % interval {score.low:.2f} to {score.high:.2f})" if known else ""
        result = f"**{score.value:.2f}** {metric}{interval}"
        lines += [f"{result}: {record.dataset} {split}, {score.count} examples", ""]
    if record.controls:
        rows = [f"| {name} | {score.value:.2f} |" for name, score in record.controls.items()]
        lines += ["| control | value |", "|---|---|", *rows, ""]
    code, machine = record.code, record.machine
    lines += [
        f"Made by vlbench {code.version} {code.commit}: {record.kind}, suite {record.suite}, "
        f"size {record.size}, seed {record.seed}, basis: {record.basis}; {record.steps} steps, "
        f"{record.examples_seen} examples, {record.seconds:.0f} s on {machine.device} {machine.precision}."
    ]
    return "\n".join([*lines, "", record.note]) if record.note else "\n".join(lines)


def final_metrics(record: RunRecord) -> dict[str, float]:
    """Name a record's numbers for MLflow, the most important first."""
    task = record.task or "pretrain"
    extra = {f"control/{name}": control.value for name, control in record.controls.items()}
    extra |= {f"perf/{k}": float(v) for k, v in record.throughput.model_dump(exclude_none=True).items()}
    groups: list[dict[str, float]] = []
    for split, scores in record.scores.items():
        place = task if not groups or split == next(iter(record.scores)) else f"{task}/{split}"
        for metric, score in scores.items():
            parts = {"": score.value, "_ci_low": score.low, "_ci_high": score.high, "_n": score.count}
            groups.append({f"{place}/{metric}{p}": float(v) for p, v in parts.items() if v is not None})
    found: dict[str, float] = {}
    for group in [*groups[:1], extra, *groups[1:]]:
        found |= group
    return found


def results_table(record: RunRecord) -> dict[str, Any]:
    """Lay all scores out in the form of MLflow's tables."""
    columns = ["split", "metric", "value", "low", "high", "count", "scorer"]
    rows = [(split, name, score) for split, part in record.scores.items() for name, score in part.items()]
    rows += [("control", name, score) for name, score in record.controls.items()]
    data = [[split, name, s.value, s.low, s.high, s.count, s.scorer] for split, name, s in rows]
    return {"columns": columns, "data": data}

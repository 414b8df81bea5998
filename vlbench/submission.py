"""The evaluation server's upload file, written and checked as the server checks it; and the server's reply."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from vlbench.cards import DatasetCard, SuiteCard
from vlbench.catalog import card_names, find_dataset
from vlbench.made import placed
from vlbench.paths import replacing
from vlbench.plan import find_task
from vlbench.plugins import load_code
from vlbench.record import RunRecord, Score, read_record
from vlbench.report.tables import SERVER
from vlbench.runfolder import RECORD, find_run
from vlbench.tasks.base import Task
from vlbench.tasks.reading import describe, read_json
from vlbench.types import BadData, Misuse, nearest

_OVERALL = ("overall", "accuracy")
_NO_SERVER = "the made-up world has no evaluation server: vlbench evaluate scores its splits whose answers are public"
_SYNONYMS = {"test-standard": "test-std", "test_standard": "test-std"}


class Upload(NamedTuple):
    """A file that an evaluation server takes."""

    path: Path
    split: str
    bytes: int
    home: str
    """The page of the data set, which names the server; empty where there is none."""

    @property
    def server(self) -> str:
        """Say where the file goes."""
        return f"the server is named at {self.home}" if self.home else _NO_SERVER


def submit(name: str, out: Path, data: Path, splits: tuple[str, ...] = ()) -> list[Upload]:
    """Write and check the upload files of a run; by default those of the splits whose answers are not public.

    Raises BadData with what the server would refuse; nothing is written then.
    """
    folder = find_run(name, out)
    record = read_record(folder / RECORD)
    card, task = _open(record, data)
    wanted = splits or tuple(split for split in record.answers if not card.splits[split].public)
    for split in wanted:
        if split not in record.answers:
            todo = _how(record, split) if split in card.splits else f"its splits: {', '.join(card.splits)}"
            raise Misuse(f"{record.id} has not answered {split}; {nearest(split, list(record.answers))}", todo)
    if not wanted:
        raise _nothing(record, card)
    return [_upload(folder, record, card, task, split) for split in wanted]


def _nothing(record: RunRecord, card: DatasetCard) -> Misuse:
    """Say that a run has answered nothing that a server is needed for, and what would."""
    if card.made:
        public = [name for name, split in card.splits.items() if split.public]
        return Misuse(_NO_SERVER, _how(record, ",".join(card.recipe.get("evaluate_splits", public))))
    hidden = [name for name, split in card.splits.items() if not split.public]
    here = f"{card.name} has no such split: its splits are scored by vlbench evaluate"
    wrong = f"{record.id} has answered no split whose answers only a server knows"
    return Misuse(wrong, _how(record, ",".join(hidden)) if hidden else here)


def _how(record: RunRecord, split: str) -> str:
    """Return the command that answers a split with a run's weights: its own, or those it began from."""
    start = f"run:{record.id}" if record.checkpoint else record.recipe.start
    options = {"dataset": record.dataset, "size": record.size, "start": start, "split": split}
    if record.suite in card_names(SuiteCard):  # of a suite that was a file, a record keeps the name only
        options["suite"] = record.suite
    typed = " ".join(f"--{name} {shlex.quote(value)}" for name, value in options.items())
    return f"vlbench evaluate {shlex.quote(record.recipe.model)} {shlex.quote(record.recipe.task)} {typed}"


def _open(record: RunRecord, data: Path) -> tuple[DatasetCard, Task]:
    card = placed(find_dataset(record.dataset, record.task), data)
    task: Task = load_code(find_task(record.task).code, Task)(card, data)
    return card, task


def _upload(folder: Path, record: RunRecord, card: DatasetCard, task: Task, split: str) -> Upload:
    answers = folder / record.answers[split]
    try:
        content = answers.read_bytes()
    except OSError as error:
        raise BadData(f"cannot read {answers}: {error.strerror}", "evaluate the run again") from None
    if wrong := task.check_upload(content, split):
        more = f" (and {len(wrong) - 1} more faults)" if len(wrong) > 1 else ""
        raise BadData(
            f"the server would refuse {answers.name}: {wrong[0]}{more}",
            f"answer the whole split: {_how(record, split)}",
        )
    path = folder / task.upload_name(split, record.method)
    with replacing(path) as part:
        part.write_bytes(content)
    return Upload(path, split, len(content), "" if card.made else card.home)


def take_reply(name: str, out: Path, reply: Path) -> RunRecord:
    """Put a server's reply into a run's record: ``[{SPLIT: {"overall": 71.83, "yes/no": 87.28, ...}}, ...]``.

    A reply that is one object, or of one split, is taken too. Scores of other splits stay. Returns the new record.
    """
    folder = find_run(name, out)
    record = read_record(folder / RECORD)
    card, metric = find_dataset(record.dataset, record.task), find_task(record.task).metric
    scores = dict(record.scores)
    for said, numbers in _replies(read_json(reply), str(reply)):
        split = _split_of(said, card, str(reply))
        if any(score.scorer != SERVER for score in scores.get(split, {}).values()):
            raise Misuse(f"{record.id} has scored {split} itself; a server's reply is for splits it cannot score")
        count = card.splits[split].examples
        scores[split] = {
            _metric(key, metric): Score(value=value, count=count, scorer=SERVER)
            for key, value in sorted(numbers.items(), key=lambda item: item[0].lower() not in _OVERALL)
        }
    done = record.model_copy(update={"scores": scores}).sealed()
    done.write(folder / RECORD)
    return done


def _replies(found: Any, where: str) -> Iterator[tuple[str, dict[str, float]]]:
    parts = found if isinstance(found, list) else [found]
    if not parts:
        raise BadData(f"{where}: an empty reply")
    for at, part in enumerate(parts):
        if not isinstance(part, dict) or not part:
            raise BadData(f"{where}: [{at}]: expected an object split -> scores, found {describe(part)}")
        for split, numbers in part.items():
            if not isinstance(numbers, dict) or not numbers:
                raise BadData(f"{where}: [{at}]: {split}: expected an object of scores, found {describe(numbers)}")
            for key, value in numbers.items():
                if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1000:
                    raise BadData(f"{where}: [{at}]: {split}: {key}: expected a number, found {describe(value)}")
            yield split, {key: float(value) for key, value in numbers.items()}


def _split_of(said: str, card: DatasetCard, where: str) -> str:
    name = _SYNONYMS.get(said, said)
    for own, split in card.splits.items():
        if name in (own, split.published):
            return own
    raise BadData(f"{where}: {card.name} has no split '{said}'; {nearest(said, list(card.splits))}")


def _metric(key: str, main: str) -> str:
    """Name a server's metric as our own are: ``overall`` is the main one, ``yes/no`` a part of it."""
    plain = key.lower().replace("/", "_").replace(" ", "_").replace("-", "_")
    return main if plain in _OVERALL else f"{main}_{plain}"

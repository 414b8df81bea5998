"""The evaluation server's upload file, written and checked as the server checks it; and the server's reply."""

from __future__ import annotations

import json
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
from vlbench.record import RunRecord, Score, Scores, read_record
from vlbench.report.tables import SERVER
from vlbench.runfolder import RECORD, find_run
from vlbench.tasks.base import Task
from vlbench.tasks.reading import describe, parse_json
from vlbench.tasks.records import check_once, read_bytes
from vlbench.tasks.servers import Server, server_of
from vlbench.types import BadData, Misuse, nearest

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
    whole = _whole(card, type(task))
    hidden = tuple(split for split in record.answers if not card.splits[split].public)
    wanted = splits or ((whole,) if whole in hidden else hidden)
    for split in wanted:
        if whole and split in card.splits and split != whole:
            wrong = f"the evaluation server of {card.name} wants the answers to all of {whole}, not to {split}"
            raise Misuse(wrong, f"vlbench submit {record.id}" if whole in record.answers else _how(record, whole))
        if split not in record.answers:
            todo = _how(record, split) if split in card.splits else f"its splits: {', '.join(card.splits)}"
            raise Misuse(f"{record.id} has not answered {split}; {nearest(split, list(record.answers))}", todo)
    if not wanted:
        raise _nothing(record, card, whole)
    checked = {split: _checked(folder, record, card, task, split) for split in wanted}  # nothing is written before all
    return [_upload(folder / task.upload_name(split, record.method), checked[split], card, split) for split in wanted]


def _whole(card: DatasetCard, task: type[Task]) -> str:
    """Return the one split that the server takes the answers to; empty where it takes any, or where there is none."""
    wants = server_of(task).wants
    return "" if card.made or wants not in card.splits else wants


def _nothing(record: RunRecord, card: DatasetCard, whole: str = "") -> Misuse:
    """Say that a run has answered nothing that a server is needed for, and what would."""
    if card.made:
        public = [name for name, split in card.splits.items() if split.public]
        return Misuse(_NO_SERVER, _how(record, ",".join(card.recipe.get("evaluate_splits", public))))
    hidden = [whole] if whole else [name for name, split in card.splits.items() if not split.public]
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


def _checked(folder: Path, record: RunRecord, card: DatasetCard, task: Task, split: str) -> bytes:
    """Return the answer file of a split; BadData where the server would refuse it."""
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
    here, whole = task.count(split), card.splits[split].examples
    if here < whole:  # the answers are those of the files here, but those are not all there is
        raise BadData(
            f"{answers.name} is of {here:,} of {whole:,} examples: the server refuses a part",
            f"get the whole files of {split} ({card.home}), then: {_how(record, split)}",
        )
    return content


def _upload(path: Path, content: bytes, card: DatasetCard, split: str) -> Upload:
    with replacing(path) as part:
        part.write_bytes(content)
    return Upload(path, split, len(content), "" if card.made else card.home)


def take_reply(name: str, out: Path, reply: Path) -> RunRecord:
    """Put a server's reply into a run's record: ``[{SPLIT: {"overall": 71.83, "yes/no": 87.28, ...}}, ...]``.

    A reply that is one object, or of one split, is taken too. Scores of other splits stay. Returns the new record.
    """
    folder = find_run(name, out)
    record = read_record(folder / RECORD)
    card, about = find_dataset(record.dataset, record.task), find_task(record.task)
    if card.made:
        raise _nothing(record, card)
    server = server_of(load_code(about.code, Task))
    form = _form(card, server, about.metric)
    found: dict[str, Scores] = {}
    seen: set[tuple[str, str]] = set()
    for said, numbers in _replies(_read(reply, form), str(reply), form):
        split, ending = _split_of(said, card, server, str(reply), form)
        _check_answered(record, split, server)
        if (split, ending) in seen:
            raise BadData(f"{reply}: '{said}': scores of {split} came before", "leave one of the two out")
        seen.add((split, ending))
        scores, count = found.setdefault(split, {}), card.splits[split].examples
        for key, value in numbers.items():
            if (metric := server.name(key, about.metric) + ending) in scores:
                raise BadData(f"{reply}: {said}: '{key}': {metric} came before", "leave one of the two out")
            scores[metric] = Score(value=value, count=count, scorer=SERVER)
    for split, scores in found.items():
        if about.metric not in scores:
            raise BadData(f"{reply}: {split}: {about.metric}, the main score, is not in it", form)
    new = {split: {about.metric: scores[about.metric]} | scores for split, scores in found.items()}
    done = record.model_copy(update={"scores": record.scores | new}).sealed()
    done.write(folder / RECORD)
    return done


def _form(card: DatasetCard, server: Server, main: str) -> str:
    """Show how a reply looks."""
    split = next((about.published or name for name, about in card.splits.items() if not about.public), "SPLIT")
    example = json.dumps([{split: {next(iter(server.names), main): 71.83}}])
    return f"a server's reply is a JSON list of splits with their scores in percent, such as {example}"


def _read(reply: Path, form: str) -> Any:
    """Read a reply; BadData where it is no JSON, or names a split or a score twice, of which JSON keeps the last."""
    content = read_bytes(reply, form)
    found = parse_json(content, str(reply))
    todo = "leave one of the two out"
    json.loads(
        content, object_pairs_hook=lambda pairs: check_once([key for key, _ in pairs], str(reply), "given twice", todo)
    )
    return found


def _replies(found: Any, where: str, form: str) -> Iterator[tuple[str, dict[str, float]]]:
    parts = found if isinstance(found, list) else [found]
    if not parts:
        raise BadData(f"{where}: an empty reply", form)
    for at, part in enumerate(parts):
        if not isinstance(part, dict) or not part:
            raise BadData(f"{where}: [{at}]: expected an object split -> scores, found {describe(part)}", form)
        for split, numbers in part.items():
            place = f"{where}: [{at}]: {split}"
            if not isinstance(numbers, dict) or not numbers:
                raise BadData(f"{place}: expected an object of scores, found {describe(numbers)}", form)
            for key, value in numbers.items():
                if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1000:
                    wanted = "a number from 0 to 1000"
                    raise BadData(f"{place}: {key}: expected {wanted}, found {describe(value)}", form)
            yield split, {key: float(value) for key, value in numbers.items()}


def _split_of(said: str, card: DatasetCard, server: Server, where: str, form: str) -> tuple[str, str]:
    """Return the split that a server names, and how the names of its scores end where it names a part of one."""
    name = _SYNONYMS.get(said, said)
    for own, split in card.splits.items():
        if name in (own, split.published):
            return own, ""
    hidden = [own for own, split in card.splits.items() if not split.public]
    if said in server.parts and len(hidden) == 1:
        return hidden[0], server.parts[said]
    raise BadData(f"{where}: {card.name} has no split '{said}'; {nearest(said, list(card.splits))}", form)


def _check_answered(record: RunRecord, split: str, server: Server) -> None:
    """Raise Misuse where no server can have scored a run's answers to a split."""
    if any(score.scorer != SERVER for score in record.scores.get(split, {}).values()):
        wrong = f"{record.id} has scored {split} itself; a server's reply is for splits it cannot score"
        raise Misuse(wrong, f"leave {split} out of the reply")
    if not any(split == answered or split in server.tells.get(answered, ()) for answered in record.answers):
        wrong = f"{record.id} has not answered {split}, so that no reply can be of it"
        raise Misuse(wrong, f"answer it and hand it in first: {_how(record, server.wants or split)}")

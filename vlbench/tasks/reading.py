"""Read official files that may be anything: a fault is one clear line that names the file and the place."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from vlbench.types import BadData

Value = TypeVar("Value")
_LONGEST_ID = 202
"""With its quotation marks; an id must be whole to be found, and those of VCR's images have 49 letters."""
_NAMES = {dict: "an object", list: "a list", str: "a text", int: "a whole number"}


@contextmanager
def many_objects() -> Iterator[None]:
    """Hold the cycle collector while millions of small objects are made; it would find nothing, slowly."""
    held = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if held:
            gc.enable()


def read_json(path: Path, todo: str = "", each: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Read a JSON file; BadData with line and column where it is none, ``todo`` where there is no file.

    ``each`` is given every object as soon as it is read, and returns what stands in its place.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise BadData(f"there is no file {path}", todo) from None
    except OSError as error:
        raise BadData(f"{path}: {_fault(error)}") from None
    return parse_json(content, str(path), each)


def parse_json(content: bytes, where: str, each: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Read JSON that was read already, as ``read_json``."""
    try:
        with many_objects():
            return json.loads(content.decode("utf-8"), object_hook=each)
    except (ValueError, RecursionError) as error:
        raise BadData(f"{where}: {_fault(error)}", _advice(error)) from None


def _fault(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: line {error.lineno}, column {error.colno}: {error.msg}"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}"
    if isinstance(error, RecursionError):
        return "not readable JSON: nested too deeply"
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}"
    return f"not readable JSON: {error}"


def _advice(error: Exception) -> str:
    return "" if isinstance(error, OSError) else "if it was downloaded, it may be cut short: get it again"


def member(record: object, key: str, kind: type[Value], place: str) -> Value:
    """Return a key of a JSON object, checked; ``place`` says where the object stands."""
    if not isinstance(record, dict):
        raise BadData(f"{place}: expected an object with '{key}', found {describe(record)}")
    if key not in record:
        raise BadData(f"{place}: the key '{key}' is missing")
    value = record[key]
    if type(value) is not kind:  # a bool is an int to isinstance, but never an id
        raise BadData(f"{place}: '{key}' should be {_NAMES[kind]}, found {describe(value)}")
    return value


def describe(value: object, most: int = 40) -> str:
    """Name a JSON value in a message, short however long it is."""
    if isinstance(value, dict | list):
        return _NAMES[type(value)]
    text = ascii(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def listed(ids: Iterable[object]) -> str:
    """Write the first ten ids, whole as far as they are any, and how many there are in all."""
    names = [describe(each, _LONGEST_ID).strip("'\"") for each in ids]
    more = ", ..." if len(names) > 10 else ""
    return f"{', '.join(names[:10])}{more} ({len(names)} in all)"


def refuse(place: str, what: str, ids: Collection[object], todo: str = "") -> None:
    """Raise BadData that lists the ids, if there is any."""
    if ids:
        raise BadData(f"{place}: {what}: {listed(ids)}", todo)


def refuse_records(data: list[Any], wrong: list[int], where: str, keys: tuple[str, str], form: str) -> None:
    """Say what is wrong with the first of some records of a number and a text; list all by the number.

    ``wrong``: their positions, by which those are listed whose number is bad. ``keys``: of the number and the text.
    """
    try:
        place = f"{where}: [{wrong[0]}]"
        member(data[wrong[0]], keys[0], int, place)
        member(data[wrong[0]], keys[1], str, place)
    except BadData as fault:
        ids = [data[at].get(keys[0]) if isinstance(data[at], dict) else None for at in wrong]
        names = [i if type(i) is int else f"[{at}]" for i, at in zip(ids, wrong, strict=True)]
        raise BadData(f"{fault.wrong}; faulty records: {listed(names)}", form) from None


def read_answers(path: Path) -> list[str]:
    """Read a closed answer list in the order of its numbers, in any of the forms that authors hand out.

    A JSON list of texts (ALBEF, BLIP) or of ``{"ans": text}`` (LXMERT), a JSON object answer -> number (LXMERT), a
    JSON list of such an object and its inverse (MCAN), or a line ``{"answer": text, "label": number}`` each (BEiT-3).
    """
    todo = "get the list again from where the checkpoint is from"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(f"cannot read the answers {path}: {error}", todo) from None
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise BadData(f"{path}: {_fault(error)}", todo) from None
    except ValueError:
        try:
            found = {row["answer"]: row["label"] for row in map(json.loads, filter(str.strip, text.splitlines()))}
        except (ValueError, KeyError, TypeError, RecursionError):
            raise BadData(f"{path}: not a list of answers", todo) from None
    if isinstance(found, list) and len(found) == 2 and all(isinstance(one, dict) for one in found):
        found = found[0] if all(isinstance(value, int) for value in found[0].values()) else found
    if isinstance(found, dict):
        numbers = sorted(found.values()) if all(type(value) is int for value in found.values()) else []
        if not numbers or numbers != list(range(len(found))):
            raise BadData(f"{path}: its numbers are not 0 to {len(found) - 1}, each once", todo)
        return sorted(found, key=lambda answer: int(found[answer]))
    rows = [row.get("ans") if isinstance(row, dict) else row for row in found] if isinstance(found, list) else []
    answers = [row for row in rows if isinstance(row, str)]
    if not answers or len(set(answers)) < len(rows):
        raise BadData(f"{path}: not a list of answers, each once", todo)
    return answers

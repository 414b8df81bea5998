"""The code that a card names, or that a file of one's own holds."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb
from typing import Any

from vlbench.types import Fault, Misuse


def load_code(code: str, base: type[Any] | None = None) -> type[Any]:
    """Turn ``module:Class``, or the path of a .py file that holds one subclass of ``base``, into the class."""
    if code.endswith(".py"):
        return _class_in_file(Path(code), base)
    module, _, name = code.partition(":")
    try:
        found: type[Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise Fault(f"the card's code '{code}' cannot be loaded: {error}") from error
    return found


@contextmanager
def own_code(path: str) -> Iterator[None]:
    """Let what goes wrong in a .py file of one's own be said of that file and its line; nothing else is changed."""
    try:
        yield
    except Fault:
        raise
    except Exception as error:
        frames = [frame for frame in extract_tb(error.__traceback__) if Path(frame.filename) == Path(path).absolute()]
        frames += [frame for frame in extract_tb(error.__traceback__) if frame.filename == path]
        if not path.endswith(".py") or not frames:
            raise
        said = f"{path}, line {frames[-1].lineno}: {type(error).__name__}: {error}"
        raise Fault(said, "mend the file, or the data it reads; --debug shows how it came there") from error


def _class_in_file(path: Path, base: type[Any] | None) -> type[Any]:
    if not path.is_file():
        raise Misuse(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem.replace("-", "_"), path)
    assert spec is not None  # a .py file always has a loader
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        line = getattr(error, "lineno", None)
        place = f"{path}, line {line}" if line else str(path)
        raise Fault(f"{place}: {type(error).__name__}: {error}", "the file must import without errors") from error
    found = [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and value.__module__ == module.__name__
        and (base is None or (issubclass(value, base) and value is not base))
    ]
    if len(found) != 1:
        wanted = base.__name__ if base else "a class"
        raise Misuse(f"{path} holds {len(found)} subclasses of {wanted}; it must hold one")
    if lacks := sorted(getattr(found[0], "__abstractmethods__", ())):
        raise Fault(f"{path}: {found[0].__name__} has no {' and no '.join(lacks)}", "write it, or see: README, Adding")
    return found[0]

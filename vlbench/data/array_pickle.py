"""Pickles of arrays and plain data, as region features come in, read without running anything that stands in them."""

from __future__ import annotations

import importlib
import io
import pickle
from pathlib import Path
from typing import IO, Any

from vlbench.types import BadData

AGAIN = "the file is cut or damaged: fetch it again and compare its size with the publisher's"
_HARMLESS = {
    ("_codecs", "encode"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
}
"""What plain arrays and numbers are built with; anything else in a pickle could run code."""


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _HARMLESS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not data")
        return getattr(importlib.import_module(module.replace("numpy.core", "numpy._core")), name)


def read_plain(stream: IO[bytes] | bytes, place: Path) -> Any:
    """Unpickle dicts, lists, numbers, texts and arrays; BadData for anything else."""
    try:
        source = io.BytesIO(stream) if isinstance(stream, bytes) else stream
        return _Restricted(source, encoding="latin1").load()  # the published ones are of Python 2
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise BadData(f"{place}: not a plain pickle: {error}", AGAIN) from None
    except (MemoryError, OverflowError):
        raise BadData(f"{place}: its pickle is damaged", AGAIN) from None

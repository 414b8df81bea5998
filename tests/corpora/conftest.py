"""Corpora written for a test, and the cache their indexes lie in."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from vlbench.cards import CorpusCard
from vlbench.corpora.corpus import Corpus
from vlbench.corpora.opening import open_corpus
from vlbench.types import BadData

Open = Callable[..., Corpus]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VLBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    """Open a corpus called ``mine`` of files that are written first: texts, bytes, or values as JSON; images beside.

    Every call has a folder of its own: files that are written anew within a few milliseconds may look unchanged.
    """
    numbers = count()

    def make(layout: str, files: dict[str, Any], *, role: str = "texts", identity: str = "mine", **card: Any) -> Corpus:
        folder = tmp_path / f"data{next(numbers)}"
        for name, content in files.items():
            raw = content if isinstance(content, bytes | str) else json.dumps(content)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(raw.encode() if isinstance(raw, str) else raw)
        listed = [{"name": name, "role": role} for name in files] + [{"name": "images", "role": "images"}]
        about = {"name": identity, "about": "", "home": "example.org", "licence": "", "folder": folder.name}
        values = {**about, "id": identity, "layout": layout, "file": listed, **card}
        return open_corpus(CorpusCard.model_validate(values), tmp_path)

    return make


Tried = Callable[..., Corpus | BadData]


@pytest.fixture
def tried(opened: Open) -> Tried:
    """Open a corpus, or return why it was refused: one line that names the file, and one that says what to do."""

    def attempt(layout: str, files: dict[str, Any], **card: Any) -> Corpus | BadData:
        try:
            return opened(layout, files, **card)
        except BadData as fault:
            named = any(name in fault.wrong for name in files)
            return fault if named and fault.todo and "\n" not in fault.wrong else BadData(f"no clear line: {fault}")

    return attempt

"""What CapFilt made of a corpus (``capfilt.json``), for the page of the study whose runs began from it.

In the made-up world it is known which captions of the web are right, so the filter has a precision and a recall.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from vlbench.report.columns import Column, number
from vlbench.report.studies import Study
from vlbench.types import BadData

CHECKED_IN = "reports/capfilt"
"""Where those lie that ship with vlbench, one file a corpus."""


class Bootstrap(NamedTuple):
    """One corpus that was judged."""

    corpus: str
    runs: dict[str, str]
    """What judged it: the pre-training begun from, the captioner's run and the filter's."""
    web: dict[str, float | None]
    """Its captions: how many, how many kept; where it is known which are right, the filter's precision and recall."""
    synthetic: dict[str, float | None]
    keep_above: float
    """How probably a caption that was kept belongs to its image, by the filter."""

    @property
    def start(self) -> str:
        """The run it began from."""
        return self.runs["start"].removeprefix("run:")


def read_bootstrap(path: Path) -> Bootstrap:
    """Read a ``capfilt.json``; BadData where it is none."""
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
        read = Bootstrap(found["corpus"], dict(found["runs"]), dict(found["web"]), dict(found["synthetic"]),
                         float(found["made_of"]["keep above"]))  # fmt: skip
        if not {"start", "captioner", "filter"} <= read.runs.keys() or not {"texts", "kept"} <= read.web.keys():
            raise KeyError
    except (OSError, ValueError, KeyError, TypeError):
        raise BadData(
            f"{path}: not what vlbench capfilt writes of a corpus", "make it again: vlbench capfilt"
        ) from None
    return read


def of_study(found: Study, bootstraps: Iterable[Bootstrap]) -> list[Bootstrap]:
    """Choose those that were judged from a pre-training which runs of the study begin from."""
    begun = {record.id for record in found.pretraining}
    return [one for one in bootstraps if one.start in begun]


def _of(part: str, key: str, digits: int = 0) -> Column:
    """Return a column of a number of the web's captions or of the synthetic ones."""

    def cell(one: Bootstrap) -> str:
        value = getattr(one, part).get(key)
        return "-" if value is None else number(value, digits) if digits else f"{value:,}"

    titles = {"texts": "captions", "share_right": "right, %", "share_kept": "kept, %"}
    return Column(f"{part} {titles.get(key, key if not digits else f'{key}, %')}", cell)


COLUMNS: list[Column] = [
    Column("corpus", lambda one: one.corpus, False),
    Column("kept above", lambda one: f"{one.keep_above:.2f}"),
    *(_of("web", key, digits) for key, digits in (
        ("texts", 0), ("share_right", 1), ("share_kept", 1), ("precision", 1), ("recall", 1),
    )),
    *(_of("synthetic", key, digits) for key, digits in (("texts", 0), ("share_kept", 1))),
    Column("captioner", lambda one: one.runs["captioner"], False),
    Column("filter", lambda one: one.runs["filter"], False),
]  # fmt: skip

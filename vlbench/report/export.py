"""Tables for programs: JSON-able values, and CSV. Nothing is rounded or left out."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from vlbench.report.published import Published
from vlbench.report.tables import Row, Table


def plain_table(table: Table) -> dict[str, Any]:
    """Return a table as plain values for JSON."""
    return {
        **{key: value for key, value in asdict(table).items() if key not in ("rows", "published")},
        "rows": [_plain_row(row) for row in table.rows],
        "published": [row.model_dump() for row in table.published],
    }


def _plain_row(row: Row) -> dict[str, Any]:
    return {
        **{key: list(value) if isinstance(value, tuple) else value for key, value in asdict(row).items()},
        "published": row.published.model_dump() if row.published else None,
        "elsewhere": [p.model_dump() for p in row.elsewhere],
    }


_CSV = (
    *("task", "dataset", "split", "published_split", "metric", "scorer", "part"),
    *("origin", "method", "size", "variant", "basis", "seeds", "value", "low", "high", "count"),
    *("published", "difference", "verdict", "setting", "source", "verified"),
    *("parameters", "train_per_second", "evaluate_per_second", "peak_memory_bytes", "train_minutes", "runs"),
)


def comma_separated(tables: Iterable[Table]) -> str:
    """Write tables as one CSV: a line a result, own or published, with all that says where it belongs."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _CSV, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for table in tables:
        place = {key: getattr(table, key) for key in _CSV[:7]}
        writer.writerows({**place, **_own_line(row)} for row in table.rows)
        writer.writerows({**place, **_published_line(row)} for row in table.published)
    return text.getvalue()


def _own_line(row: Row) -> dict[str, Any]:
    beside = row.published
    values = {
        **asdict(row),
        "origin": "own",
        "seeds": " ".join(map(str, row.seeds)),
        "runs": " ".join(row.runs),
        "published": beside.value if beside else None,
    }
    if beside:
        values |= {"setting": beside.setting, "source": beside.source, "verified": beside.verified}
    return {key: "" if value is None else value for key, value in values.items()}


def _published_line(row: Published) -> dict[str, Any]:
    return {**row.model_dump(include={"method", "variant", "value", "setting", "verified"}),
            "basis": "published", "origin": "published", "source": row.source}  # fmt: skip

"""Scores against one recipe value, as a suite's variants go over it: a table's rows, and a picture (SVG).

Accuracy against the size of an attack is such a curve; its first point, at 0, is the run that is attacked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from vlbench.metrics.intervals import Estimate
from vlbench.report.columns import Column, number
from vlbench.report.studies import Outcome, Study, Subject

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
"""Told apart by people who see few colours, too (Okabe and Ito 2008)."""
DASHES = ("", "6 3", "2 2")
ACROSS = 3
"""Panels side by side."""
WIDE, HIGH, LEFT, TOP, RIGHT, BELOW = 300, 220, 44, 30, 12, 40
"""Pixels of a panel, and of its margins."""


class Curve(NamedTuple):
    """One row of variants of one method on one subject."""

    method: str
    row: str
    key: str
    """The recipe value that it goes over."""
    points: tuple[tuple[float, Estimate], ...]
    """The value, and the score in percent over the seeds; by the value."""

    def at(self, value: float) -> Estimate | None:
        """Return the score at a value; None where there is none."""
        return dict(self.points).get(value)


def curves(found: Study, subject: Subject) -> list[Curve]:
    """List the curves of a subject, by method and then as the suite has its rows."""
    variants = found.suite.variants
    outcomes = {(one.method, one.variant): one for one in found.outcomes[subject]}
    rows = dict.fromkeys(
        (one.place.row, one.place.key, one.begins_from) for one in variants.values() if one.place is not None
    )
    curves = [
        _curve(found, outcomes, method, *row)
        for method in dict.fromkeys(method for method, _ in outcomes)
        for row in rows
    ]
    return [curve for curve in curves if curve.points]


def _curve(
    found: Study, outcomes: dict[tuple[str, str], Outcome], method: str, row: str, key: str, begins_from: str
) -> Curve:
    points = {
        one.place.value: outcomes[method, name].value
        for name, one in found.suite.variants.items()
        if one.place is not None and one.place.row == row and (method, name) in outcomes
    }
    if points and key == "attack_size" and (method, begins_from) in outcomes:
        points.setdefault(0.0, outcomes[method, begins_from].value)
    return Curve(method, row, key, tuple(sorted(points.items())))


def curve_columns(some: Sequence[Curve]) -> list[Column]:
    """Return the columns of curves as a table: a column a value."""

    def cell(value: float) -> Column:
        def shown(curve: Curve) -> str:
            estimate = curve.at(value)
            return "-" if estimate is None else number(estimate.value, 1)

        return Column(f"{value:g}", shown)

    return [
        Column("method", lambda curve: curve.method, False),
        Column("variant", lambda curve: curve.row, False),
        *(cell(value) for value in values_of(some)),
    ]


def values_of(some: Sequence[Curve]) -> list[float]:
    """List every value that one of some curves has a point at, in order."""
    return sorted({value for curve in some for value, _ in curve.points})


def picture(some: Sequence[Curve], title: str, metric: str) -> str:
    """Draw curves as an SVG, a panel a method; values stand at equal distances, as a geometric row on a log scale.

    Every point says its numbers when it is pointed at, and has a bar where there is an interval.
    """
    methods = list(dict.fromkeys(curve.method for curve in some))
    rows = list(dict.fromkeys(curve.row for curve in some))
    values = values_of(some)
    across = min(ACROSS, len(methods))
    legend = 30 + 18 * len(rows)
    wide, high = max(across * WIDE, 420), legend + math.ceil(len(methods) / across) * HIGH
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" viewBox="0 0 {wide} {high}" '
        'font-family="sans-serif" font-size="11" fill="#222">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{wide}" height="{high}" fill="#fff"/>',
        f'<text x="10" y="18" font-size="13" font-weight="bold">{escape(title)}</text>',
    ]
    for number_of, row in enumerate(rows):
        y = 32 + 18 * number_of
        lines.append(f'<line x1="10" y1="{y}" x2="38" y2="{y}" {_stroke(number_of)}/>')
        lines.append(f'<text x="44" y="{y + 4}">{escape(row)}</text>')
    for place, method in enumerate(methods):
        left, top = place % across * WIDE, legend + place // across * HIGH
        lines += _panel(method, some[0].key, metric, values, left, top)
        for curve in some:
            if curve.method == method:
                lines += _line(curve, rows.index(curve.row), values, left, top)
    return "\n".join([*lines, "</svg>"]) + "\n"


def across_at(place: int, count: int, left: int) -> float:
    """Return where the value of that place among so many stands in a panel that begins at ``left``."""
    inside = WIDE - LEFT - RIGHT
    return left + LEFT + inside * (place / (count - 1) if count > 1 else 0.5)


def down_at(percent: float, top: int) -> float:
    """Return where a score stands in a panel that begins at ``top``."""
    return top + TOP + (HIGH - TOP - BELOW) * (1 - min(max(percent, 0.0), 100.0) / 100)


def _panel(method: str, key: str, metric: str, values: Sequence[float], left: int, top: int) -> list[str]:
    """Draw the axes of a method, with their numbers."""
    right, bottom = left + WIDE - RIGHT, down_at(0, top)
    lines = [f'<text x="{left + LEFT}" y="{top + 18}" font-weight="bold">{escape(method)}</text>']
    for percent in (0, 25, 50, 75, 100):
        y = down_at(percent, top)
        lines.append(f'<line x1="{left + LEFT}" y1="{y:g}" x2="{right}" y2="{y:g}" stroke="#ddd"/>')
        lines.append(f'<text x="{left + LEFT - 6}" y="{y + 4:g}" text-anchor="end">{percent}</text>')
    for place, value in enumerate(values):
        x = across_at(place, len(values), left)
        lines.append(f'<text x="{x:.1f}" y="{bottom + 15:g}" text-anchor="middle">{value:g}</text>')
    middle = (left + LEFT + right) / 2
    return [
        *lines,
        f'<text x="{middle:g}" y="{bottom + 30:g}" text-anchor="middle">{escape(key)} ({escape(metric)} in %)</text>',
    ]


def _line(curve: Curve, row: int, values: Sequence[float], left: int, top: int) -> list[str]:
    """Draw a curve: a line, and at each point a dot and a bar."""
    xs = [across_at(values.index(value), len(values), left) for value, _ in curve.points]
    ys = [down_at(estimate.value, top) for _, estimate in curve.points]
    path = " ".join(f"{x:.1f},{y:.2f}" for x, y in zip(xs, ys, strict=True))
    lines = [f'<polyline points="{path}" fill="none" {_stroke(row)}/>']
    for x, y, (value, estimate) in zip(xs, ys, curve.points, strict=True):
        if estimate.low is not None and estimate.high is not None:
            low, high = down_at(estimate.low, top), down_at(estimate.high, top)
            lines.append(f'<line x1="{x:.1f}" y1="{low:.2f}" x2="{x:.1f}" y2="{high:.2f}" {_stroke(row, thin=True)}/>')
        told = escape(f"{curve.method}, {curve.row}, {value:g}: {number(estimate.value, 1)} %")
        lines.append(f'<circle cx="{x:.1f}" cy="{y:.2f}" r="3" fill="{_colour(row)}"><title>{told}</title></circle>')
    return lines


def _colour(row: int) -> str:
    return COLOURS[row % len(COLOURS)]


def _stroke(row: int, *, thin: bool = False) -> str:
    dash = "" if thin else DASHES[row // len(COLOURS) % len(DASHES)]
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'stroke="{_colour(row)}" stroke-width="{1 if thin else 2}"{dashed}'

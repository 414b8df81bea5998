"""What ``vlbench score`` prints for people."""

from __future__ import annotations

from rich.console import Console

from vlbench.report.scored import show_scored


def shown(found: dict[str, object]) -> list[str]:
    console = Console(width=100, record=True, file=None, color_system=None)
    with console.capture() as said:
        show_scored(found, console)
    return said.get().splitlines()


def test_counts_are_no_percentages_and_tables_are_tables() -> None:
    lines = shown(
        {
            "accuracy": 62.5,
            "per_class": {"entailment": 75.0, "neutral": None},
            "confusion": {"entailment": {"entailment": 3, "neutral": 1}, "neutral": {"entailment": 0, "neutral": 1234}},
            "count": 1238,
            "without_gold_label": 12,
            "scorer": "accuracy",
        }
    )
    assert not any("{" in line for line in lines)
    assert "confusion: how often each label was answered" in lines
    cells = [line.split() for line in lines]
    assert ["accuracy", "62.50"] in cells
    assert ["neutral", "-"] in cells
    assert ["right", "label", "entailment", "neutral"] in cells
    assert ["neutral", "0", "1,234"] in cells
    assert lines[-1].strip() == "1,238 scored, 12 without gold label, scorer accuracy"


def test_square_brackets_are_printed() -> None:
    note = "SPICE is left out: pip install 'vlbench[caption]'"
    rows = {"[bold]": {"[bold]": 3, ":cat:": 1}}
    lines = shown({"per_class": {"[red]": 75.0}, "confusion": rows, "notes": [note], "count": 4, "scorer": "[dim]"})
    assert note in [line.rstrip() for line in lines]
    cells = [line.split() for line in lines]
    assert ["[red]", "75.00"] in cells
    assert ["right", "label", "[bold]", ":cat:"] in cells
    assert ["[bold]", "3", "1"] in cells
    assert cells[-1][-2:] == ["scorer", "[dim]"]

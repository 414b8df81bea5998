"""Lists and cards: all there is, in data that prints as a table or as JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from vlbench.recipe import Recipe
from vlbench.record import RunRecord
from vlbench.report.overview import LISTS, list_published, list_recipe, listing_grid, overview, words
from vlbench.report.show import card_data, card_text
from vlbench.types import Misuse

MakeRecord = Callable[..., RunRecord]


@pytest.mark.parametrize("what", LISTS)
def test_every_list_prints_within_the_terminal_and_as_json(what: str, tmp_path: Path, make_record: MakeRecord) -> None:
    make_record().write(tmp_path / "easy-vqa" / "lxmert" / "one" / "record.json")
    found = overview(what, tmp_path)
    assert found.rows
    assert all(set(found.columns) <= row.keys() for row in found.rows)
    json.dumps(found.rows, allow_nan=False)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(listing_grid(found._replace(rows=found.rows[:20])))
    lines = console.export_text().splitlines()
    assert len(lines) == 2 + len(found.rows[:20])  # header, rule, one line a row
    assert max(map(len, lines)) <= 100


def test_lists_name_what_is_there(tmp_path: Path, make_record: MakeRecord) -> None:
    run = make_record(97.4)
    run.write(tmp_path / "easy-vqa" / "lxmert" / "one" / "record.json")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "record.json").write_text("{", encoding="utf-8")
    assert "lxmert" in [row["method"] for row in overview("methods", tmp_path).rows]
    assert {"vqa-v2", "easy-vqa"} <= {row["dataset"] for row in overview("datasets", tmp_path).rows}
    runs = overview("runs", tmp_path)
    assert (runs.rows[0]["run"], runs.rows[0]["value"], runs.rows[0]["basis"]) == (run.id, 97.4, "reduced")
    assert "broken" in runs.warnings[0]


def test_marks_are_explained_below_their_list(tmp_path: Path) -> None:
    methods = overview("methods", tmp_path)
    marked = [row["method"] for row in methods.rows if any("*" in form for form in row["answers"])]
    assert marked == ["meter"]
    assert methods.notes[0] == "* at some sizes only; which: vlbench show meter"
    datasets = overview("datasets", tmp_path)
    rows = {row["dataset"]: row for row in datasets.rows}
    assert rows["world"]["examples"] is None  # of a world that is not made, nothing is counted
    assert rows["nlvr1"]["unstated"] == ["train"]
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(listing_grid(datasets))
    lines = {line.split()[0]: line for line in console.export_text().splitlines() if line.strip()}
    assert lines["world"].partition("made-up world")[2].split()[0] == "-"
    assert "2,964*" in lines["nlvr1"]
    assert "48,248 " in lines["easy-vqa"]
    assert datasets.notes == ("* without the splits whose number is not stated; which: vlbench show NAME",)


def test_an_unknown_list_is_misuse_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="did you mean 'methods'"):
        overview("method", tmp_path)


def test_published_is_filtered_by_our_names_or_theirs() -> None:
    ours = list_published("lxmert", "vqa", "vqa-v2", "local-val").rows
    theirs = list_published("LXMERT", "vqa", "VQA v2", "local-val").rows
    assert ours == theirs
    assert 69.9 in [row["value"] for row in ours]


def test_a_recipe_shows_every_value_with_its_origin() -> None:
    recipe = Recipe(model="lxmert", task="vqa", rate=5e-5)
    found = list_recipe(recipe, {"rate": "registry/models/lxmert.toml"})
    assert [row["key"] for row in found.rows] == list(Recipe.model_fields)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(listing_grid(found))
    (line,) = [line for line in console.export_text().splitlines() if line.startswith("rate ")]
    assert line.split()[:4] == ["rate", "5e-5", "registry/models/lxmert.toml", "peak"]


def test_a_method_card_tells_what_one_needs_to_know() -> None:
    text = card_text("lxmert")
    for part in (
        "fusion",
        "base  width 768",
        "checkpoints/lxmert/model_LXRT.pth",
        "arxiv.org/abs/1908.07490",
    ):
        assert part in text
    assert "where it knowingly differs" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("vqa", ("metric", "accuracy", "easy-vqa")),
        ("vqa-v2", ("214,354 examples", "answers not public", "minival.json")),
        ("smoke", ("expect", "steps 3")),
        ("controlled", ("to find out", "the others are set against it", "runs: start scratch", "steps 1500")),
        ("lxmert-objectives", ("like controlled", "0, 1, 2", "gqa world", "losses (masked_lm 1,", "rate 5e-4")),
        ("cc3m", ("corpus", "cc3m_train.json", "blip")),
        ("align", ("not given out",)),
    ],
)
def test_other_cards(name: str, parts: tuple[str, ...]) -> None:
    text = " ".join(card_text(name).split())  # lines are wrapped
    assert all(part in text for part in parts)
    assert card_data(name)


def test_files_of_corpora_and_suites_are_shown(tmp_path: Path) -> None:
    corpus = tmp_path / "birds.toml"
    corpus.write_text(
        'name = "birds"\nabout = "a"\nhome = "b"\nlicence = "c"\nlayout = "lines"\n'
        '[[file]]\nname = "x.txt"\nrole = "texts"\n'
    )
    assert "x.txt" in card_text(str(corpus))
    suite = tmp_path / "mine.toml"
    suite.write_text('about = "mine"\nlike = "controlled"\n')
    assert "mine" in card_text(str(suite))
    with pytest.raises(Misuse, match="there is no file"):
        card_text(str(tmp_path / "none.toml"))


def test_an_unknown_card_is_misuse_with_the_nearest_of_all() -> None:
    with pytest.raises(Misuse, match="did you mean 'easy-vqa'"):
        card_text("easyvqa")


@pytest.mark.parametrize(
    ("value", "text"),
    [(5e-5, "5e-5"), (1.5e-4, "1.5e-4"), (0.1, "0.1"), (4.0, "4"), (670000.0, "670,000"), (True, "yes"),
     (["a", "b"], "a, b"), ("", "-"), (None, "-"), (1024, "1024")],
)  # fmt: skip
def test_words(value: object, text: str) -> None:
    assert words(value) == text


def test_notes_are_printed_and_stay_out_of_the_document(command: Callable[..., Any]) -> None:
    assert "\n* at some sizes only; which: vlbench show meter\n" in command("list", "methods").out
    assert "some sizes only" not in command("list", "methods", "--json").out


def test_runs_that_were_not_finished_are_told(tmp_path: Path) -> None:
    assert overview("runs", tmp_path).notes == ()
    for number in range(7):
        folder = tmp_path / "world" / "lxmert" / f"2026010{number}-000000-abcdef01-s0"
        folder.mkdir(parents=True)
        (folder / "begun.json").write_text("{}")
    (folder / "record.json").write_text("{}")
    (note,) = overview("runs", tmp_path).notes
    assert note.count("world/lxmert/") == 5
    assert "20260105-000000" in note
    assert "20260106-000000" not in note
    assert "and 1 more" in note

"""Cards of corpora: each can be opened where its files are, and says nothing that no source states."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlbench.cards import CorpusCard
from vlbench.catalog import card_names, cards, find, read_card
from vlbench.corpora import opening
from vlbench.corpora.opening import open_corpus
from vlbench.types import BadData, Misuse


@pytest.mark.parametrize("card", cards(CorpusCard), ids=lambda card: card.id)
def test_corpus_cards(card: CorpusCard, tmp_path: Path) -> None:
    assert card.layout in opening._OPENERS
    assert {file.role for file in card.file} <= {"texts", "shards", "images", "features", "answers", "truth"}
    assert card.licence
    assert card.examples == card.images == 0 or card.made  # no source at hand counts the published ones
    with pytest.raises(BadData, match=r"there is no (file|folder)") as fault:
        open_corpus(card, tmp_path)
    assert (card.home or "is not given out") in fault.value.todo


def test_the_papers_corpora_have_cards() -> None:
    albef = {"coco-captions", "visual-genome", "sbu", "cc3m", "cc12m"}
    assert albef | {"conceptual-captions", "lxmert", "world", "world-web", "world-lxmert"} <= set(
        card_names(CorpusCard)
    )
    with pytest.raises(Misuse, match="no corpus is called 'cc3'; did you mean 'cc3m'"):
        find(CorpusCard, "cc3")


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ('layout = "pears"', "layout: input should be 'pairs', 'lxmert', "),
        ('layout = "pairs"\nimage = 3', "'image' is not a key of a corpus card; did you mean 'images'?"),
        ('layout = "table"\n[table]\ncolumn = ["a"]', "'table.column' is not a key of a corpus card; did you mean"),
        ('layout = "table"\n[table]\ncolumns = ["a"]', "table: value error, no column is called 'caption'"),
    ],
)  # fmt: skip
def test_wrong_cards_say_what_is_wrong(tmp_path: Path, line: str, wrong: str) -> None:
    (tmp_path / "my.toml").write_text(f'name = ""\nabout = ""\nhome = ""\nlicence = ""\n{line}\n', encoding="utf-8")
    with pytest.raises(BadData) as fault:
        read_card(CorpusCard, tmp_path / "my.toml")
    assert f"my.toml: {wrong}" in fault.value.wrong

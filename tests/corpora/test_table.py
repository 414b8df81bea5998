"""Tables: with and without quotes, with and without a line of names, images by a column or by the row's number."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from vlbench.cards import CorpusCard, Table
from vlbench.catalog import find
from vlbench.corpora.corpus import Corpus
from vlbench.types import BadData

Open = Callable[..., Corpus]
LOOSE = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
QUOTED = {"delimiter": ",", "quotes": True}


def all_of(corpus: Corpus) -> list[tuple[str, str]]:
    """Image and caption of every row."""
    found = [corpus.example(number) for number in range(len(corpus))]
    assert [example.id for example in found] == [f"mine:{number}" for number in range(len(found))]
    return [(example.images[0].partition(":")[2], example.texts[0]) for example in found]


def test_conceptual_captions_as_its_card_says(opened: Open, tmp_path: Path) -> None:
    table = find(CorpusCard, "conceptual-captions").table
    rows = ['a "quoted" word\thttp://x/1.jpg', "", "it's\thttp://x/2.jpg\r", "last\thttp://x/3"]
    corpus = opened("table", {"a.tsv": "\n".join(rows)}, table=table)
    names = [f"00000/{row:09d}" for row in range(3)]
    assert all_of(corpus) == list(zip(names, ['a "quoted" word', "it's", "last"], strict=True))
    assert corpus.picture("mine:00000/000000001") is None
    image = tmp_path / "data0" / "images" / "00000" / "000000001.jpg"
    image.parent.mkdir(parents=True)
    image.touch()
    assert corpus.picture("mine:00000/000000001") == image
    assert table.image_of(3_318_332) == "00331/003318332"


VALUE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
ROWS = st.lists(st.tuples(VALUE.filter(bool), VALUE, VALUE), max_size=6)


@given(ROWS, st.sampled_from([",", "\t", ";"]), st.sampled_from(["\n", "\r\n"]), st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))  # noqa: E501  # fmt: skip
@LOOSE
def test_quoted_rows_hold_anything(opened: Open, rows: list[Any], delimiter: str, end: str, quoting: Any) -> None:
    if quoting == csv.QUOTE_MINIMAL:  # by which a carriage return may stand without quotes, as if it ended a line
        rows = [tuple(value.replace("\r", "") or "x" for value in row) for row in rows]
    written = StringIO(newline="")
    writer = csv.writer(written, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerow(["filepath", "more", "title"])
    writer.writerows(rows)
    table = {"delimiter": delimiter, "quotes": True, "caption": "title", "image": "filepath"}
    corpus = opened("table", {"a.csv": written.getvalue()}, table=table)
    assert all_of(corpus) == [(image, caption) for image, _, caption in rows]


PLAIN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\t\n\r"), max_size=8)


@given(st.lists(st.tuples(PLAIN, PLAIN.filter(bool)), max_size=6), st.sampled_from(["\n", "\r\n", "\n\n"]))
@LOOSE
def test_plain_rows_hold_quotes(opened: Open, rows: list[Any], end: str) -> None:
    content = end.join("\t".join(row) for row in rows)
    corpus = opened("table", {"a.tsv": content}, table={"columns": ["caption", "image"]})
    assert all_of(corpus) == [(image, caption) for caption, image in rows]


def test_every_file_has_names_of_its_own(opened: Open) -> None:
    files = {"a.csv": "image,caption\n1.jpg,one\n", "b.csv": 'caption,"image"\ntwo,2.jpg'}
    assert all_of(opened("table", files, table=QUOTED)) == [("1.jpg", "one"), ("2.jpg", "two")]
    assert len(opened("table", {"a.csv": "image,caption"}, table=QUOTED)) == 0


@pytest.mark.parametrize(
    ("content", "table", "wrong"),
    [
        ("a\tb\nc\n", {"columns": ["caption", "image"]}, r"\[1\], byte 4: 1 values in 2 columns; faulty records: 1 "),
        ("a\t\n", {"columns": ["caption", "image"]}, r"\[0\], byte 0: 'image' is no path: ''"),
        ("a\tb\0\n", {"columns": ["caption", "image"]}, r"'image' is no path"),
        ("url\tcaption\n", {}, r"no column is called 'image'; its first line names 'url', 'caption'"),
        ("", {}, r"no column is called 'caption'; its first line names nothing"),
        ('image,caption\na,"b\n\nc', QUOTED, r"byte 14: a quote opens in this row and does not close"),
        ('image,caption\na,b"\nc,d"', QUOTED, r"\[0\], byte 14: a quote stands within a value"),
        ('image,caption\na,"b"c\n', QUOTED, r"\[0\], byte 14: ',' expected after '\"'"),
        (b"a\t\xff\n", {"columns": ["caption", "image"]}, r"not UTF-8 text: byte 2 is 0xff"),
        (f"a\t{'b' * 140_000}", {"columns": ["caption", "image"], "quotes": True}, r"field larger than field limit"),
    ],
    ids=map(str, range(10)),
)
def test_faulty_tables_are_refused(opened: Open, content: Any, table: dict[str, Any], wrong: str) -> None:
    with pytest.raises(BadData, match=wrong) as fault:
        opened("table", {"a.tsv": content}, table=table)
    assert "a.tsv" in fault.value.wrong
    assert fault.value.todo


def test_images_by_number_need_one_file(opened: Open) -> None:
    with pytest.raises(BadData, match="rows of 2 files have the same numbers"):
        opened("table", {"a": "", "b": ""}, table={"columns": ["caption"], "image_name": "{row}"})


@pytest.mark.parametrize(
    ("table", "wrong"),
    [
        ({"columns": ["image"]}, "no column is called 'caption'"),
        ({"columns": ["caption"]}, "no column is called 'image'"),
        ({"image_name": "{place}"}, r"only \{row\} and \{folder\} are known"),
        ({"image_name": "{row:q}"}, r"only \{row\} and \{folder\} are known"),
        ({"delimiter": '"'}, "it cannot be a quote"),
        ({"delimiter": "::"}, "at most 1 character"),
    ],
)
def test_wrong_cards_are_refused(table: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ValidationError, match=wrong):
        Table.model_validate(table)


@given(st.binary(max_size=6), st.integers(0, 10**6), st.integers(0, 6), st.booleans())
@settings(LOOSE, max_examples=150)
def test_a_changed_table_is_refused_or_read_as_it_says(
    tried: Open, put: bytes, at: int, lost: int, plain: bool
) -> None:
    content = "".join(f"{n}.jpg,{'plain' if plain else chr(34) + 'a, b' + chr(34)}\n" for n in range(5)).encode()
    at %= len(content) + 1
    spoilt = content[:at] + put + content[at + lost :]
    corpus = tried("table", {"a.csv": spoilt}, table={"columns": ["image", "caption"], **QUOTED})
    if isinstance(corpus, BadData):
        assert re.search(r"a\.csv", corpus.wrong)
    else:
        rows = [row for row in csv.reader(StringIO(spoilt.decode(), newline=""), strict=True) if row]
        assert all_of(corpus) == [(image, caption) for image, caption in rows]

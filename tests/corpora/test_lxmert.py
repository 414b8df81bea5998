"""LXMERT's mixture: every caption and every question is an example, in the order of the file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlbench.corpora.corpus import Corpus
from vlbench.types import BadData, Example

Open = Callable[..., Corpus]
SAMPLES = Path(__file__).parent / "samples" / "lxmert"
LOOSE = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def flat(records: list[dict[str, Any]]) -> list[Example]:
    """Cut a mixture into sentences as the authors' code does."""
    found = []
    for number, record in enumerate(records):
        labels = record["labelf"]
        said = chain.from_iterable(
            zip(texts, labels.get(source, [None] * len(texts)), strict=True)
            for source, texts in record["sentf"].items()
        )
        for at, (text, answers) in enumerate(said):
            found.append(Example(f"mine:{number}#{at}", (f"mine:{record['img_id']}",), (text,), answers))
    return found


def all_of(corpus: Corpus) -> list[Example]:
    return [corpus.example(number, draw=number) for number in range(len(corpus))]


def test_files_of_the_authors_layout(opened: Open) -> None:
    names = ("mscoco_minival.json", "vgnococo.json")
    written = [record for name in names for record in json.loads((SAMPLES / name).read_bytes())]
    corpus = opened("lxmert", {name: (SAMPLES / name).read_bytes() for name in names})
    assert all_of(corpus) == flat(written)
    questions = [example for example in all_of(corpus) if example.answer is not None]
    assert questions[1] == Example(
        "mine:0#6", ("mine:COCO_train2014_000000132417",), ("What color is the wall?",), {"blue": 1.0, "white": 0.3}
    )
    assert [e.answer for e in all_of(corpus)][-1] is None  # vgcaption, a source that asks nothing


def test_an_answer_that_is_not_in_the_list_is_no_caption(opened: Open) -> None:
    record = {"img_id": "1", "sentf": {"vqa": ["a?", "b?"], "mscoco": ["c."]}, "labelf": {"vqa": [{}, {"x": 0}]}}
    assert [example.answer for example in all_of(opened("lxmert", {"x.json": [record]}))] == [{}, {"x": 0.0}, None]


def test_images_are_looked_for_by_their_names(opened: Open, tmp_path: Path) -> None:
    record = {"img_id": "COCO_1", "sentf": {"mscoco": ["c."]}, "labelf": {}}
    corpus = opened("lxmert", {"x.json": [record], "answers.json": []}, file=[
        {"name": "x.json", "role": "texts"}, {"name": "answers.json", "role": "answers"},
        {"name": "train", "role": "images"}, {"name": "val", "role": "images"}, {"name": "x.tsv", "role": "features"},
    ])  # fmt: skip
    assert set(corpus.files()) == {"x.json", "answers.json"}
    assert corpus.picture("mine:COCO_1") is None
    (tmp_path / "data0" / "val").mkdir()
    (tmp_path / "data0" / "val" / "COCO_1.png").touch()
    assert corpus.picture("mine:COCO_1") == tmp_path / "data0" / "val" / "COCO_1.png"
    with pytest.raises(BadData, match=r"there is no file .*answers\.json"):
        opened(
            "lxmert",
            {"x.json": []},
            file=[{"name": "answers.json", "role": "answers"}, {"name": "x.json", "role": "texts"}],
        )


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SOURCES = st.dictionaries(
    TEXT, st.lists(st.tuples(TEXT, st.dictionaries(TEXT, st.integers(0, 9) | st.floats(0, 1)))), max_size=4
)


@given(st.lists(st.tuples(SOURCES, st.booleans()), max_size=6), st.sampled_from([None, 0, 2]), st.booleans())
@LOOSE
def test_no_sentence_is_lost_or_doubled(opened: Open, told: list[Any], indent: int | None, plain: bool) -> None:
    records = [
        {
            "img_id": f"é{number}",
            "sentf": {source: [text for text, _ in said] for source, said in sources.items()},
            "labelf": {
                source: [answers for _, answers in said]
                for at, (source, said) in enumerate(sources.items())
                if at % 2 == asks
            },
        }
        for number, (sources, asks) in enumerate(told)
    ]
    corpus = opened("lxmert", {"x.json": json.dumps(records, indent=indent, ensure_ascii=plain)})
    assert all_of(corpus) == flat(records)


GOOD = {"img_id": "1", "sentf": {"vqa": ["a?"], "mscoco": ["c."]}, "labelf": {"vqa": [{"x": 1}]}}


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"img_id": None}, "'img_id' should be a text, found None"),
        ({"img_id": ""}, "'img_id' is no name"),
        ({"sentf": []}, "'sentf' should be an object, found a list"),
        ({"sentf": {"vqa": "a?"}}, "'sentf' of 'vqa' should be a list of texts"),
        ({"sentf": {"vqa": [1]}}, "'sentf' of 'vqa' should be a list of texts"),
        ({"sentf": {"vqa": ["\udc00"]}}, "half a character"),
        ({"sentf": {}}, "'labelf' has answers of 'vqa', of which 'sentf' has no questions"),
        ({"labelf": None}, "'labelf' should be an object, found None"),
        ({"labelf": {"vqa": []}}, "'labelf' of 'vqa' should have answers to 1 questions, not 0"),
        ({"labelf": {"vqa": 1}}, "'labelf' of 'vqa' should have answers to 1 questions, not 1"),
        ({"labelf": {"vqa": ["x"]}}, "expected {answer: score}, found 'x'"),
        ({"labelf": {"vqa": [{"x": "1"}]}}, "the score of 'x' should be a number from 0, found '1'"),
        ({"labelf": {"vqa": [{"x": True}]}}, "found True"),
        ({"labelf": {"vqa": [{"x": -1}]}}, "found -1"),
        ({"labelf": {"vqa": [{"x": float("nan")}]}}, "found nan"),
        ({"labelf": {"vqa": [{"\ud800": 1}]}}, "half a character"),
    ],
)
def test_faulty_records_are_named(opened: Open, change: dict[str, Any], wrong: str) -> None:
    with pytest.raises(BadData, match=re.escape(wrong)) as fault:
        opened("lxmert", {"x.json": [GOOD, GOOD | change, GOOD]})
    assert re.search(r"x\.json: \[1\], byte \d+: .*; faulty records: 1 \(1 in all\)$", fault.value.wrong)
    assert fault.value.todo
    for key in change:
        with pytest.raises(BadData, match=f"the key '{key}' is missing"):
            opened("lxmert", {"x.json": [{name: value for name, value in GOOD.items() if name != key}]})


@given(st.binary(max_size=6), st.integers(0, 10**6), st.integers(0, 6))
@settings(LOOSE, max_examples=150)
def test_a_changed_file_is_refused_or_read_as_it_says(tried: Open, put: bytes, at: int, lost: int) -> None:
    content = json.dumps([GOOD] * 3).encode()
    at %= len(content) + 1
    spoilt = content[:at] + put + content[at + lost :]
    corpus = tried("lxmert", {"x.json": spoilt})
    if isinstance(corpus, BadData):
        assert "byte" in corpus.wrong
    else:
        assert all_of(corpus) == flat(json.loads(spoilt))

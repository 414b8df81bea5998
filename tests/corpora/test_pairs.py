"""ALBEF's and BLIP's lists: every record is found again whatever the spacing, and nothing faulty passes."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlbench.corpora import json_records, records
from vlbench.corpora.corpus import Corpus
from vlbench.types import BadData, Misuse

Open = Callable[..., Corpus]
SAMPLES = Path(__file__).parents[1] / "official" / "samples" / "coco_captions"
PAIRS = [{"image": f"a/{n}.jpg", "caption": f"caption {n}" if n % 2 else [f"one {n}", f"two é {n}"]} for n in range(7)]
LOOSE = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def all_of(corpus: Corpus) -> list[tuple[str, tuple[str, ...]]]:
    """What was written, as it is read: the image and all captions of each record."""
    rows = range(len(corpus))
    return [(corpus.example(row).images[0].partition(":")[2], tuple(corpus.told(row))) for row in rows]


def as_written(pairs: list[dict[str, Any]]) -> list[tuple[str, tuple[str, ...]]]:
    return [(p["image"], (p["caption"],) if isinstance(p["caption"], str) else tuple(p["caption"])) for p in pairs]


@pytest.mark.parametrize("name", ["blip_coco_karpathy_train.json", "albef_coco_test.json"])
def test_lists_of_the_authors(opened: Open, name: str) -> None:
    content = (SAMPLES / name).read_bytes()
    corpus = opened("pairs", {name: content})
    assert all_of(corpus) == as_written(json.loads(content))
    assert list(corpus.files()) == [name]
    assert corpus.example(3).answer is None


def test_one_example_a_record_with_one_of_its_captions(opened: Open) -> None:
    corpus = opened("pairs", {"a.json": PAIRS})
    assert len(corpus) == 7
    assert [corpus.example(row).id for row in range(7)] == [f"mine:{row}" for row in range(7)]
    assert {corpus.example(1, draw).texts for draw in range(20)} == {("caption 1",)}
    drawn = Counter(corpus.example(0, draw).texts for draw in range(400))
    assert set(drawn) == {("one 0",), ("two é 0",)}
    assert min(drawn.values()) > 150
    assert [corpus.example(0, draw) for draw in range(9)] == [corpus.example(0, draw) for draw in range(9)]
    for number in (-1, 7):
        with pytest.raises(IndexError):
            corpus.example(number)


def test_several_files_are_one_corpus(opened: Open) -> None:
    files = {"a.json": PAIRS[:3], "empty.json": [], "b.jsonl": "\n\n".join(map(json.dumps, PAIRS[3:]))}
    corpus = opened("pairs", files)
    assert all_of(corpus) == as_written(PAIRS)
    assert [corpus.example(row).id for row in range(7)] == [f"mine:{row}" for row in range(7)]
    assert set(corpus.files()) == set(files)
    assert len(opened("pairs", {"none.json": "[]"})) == 0


def test_pictures_lie_below_any_of_the_folders(opened: Open, tmp_path: Path) -> None:
    corpus = opened("pairs", {"x.json": PAIRS})
    key = corpus.example(0).images[0]
    assert key == "mine:a/0.jpg"
    assert corpus.picture(key) is None
    (tmp_path / "data0" / "images" / "a").mkdir(parents=True)
    (tmp_path / "data0" / "images" / "a" / "0.jpg").write_bytes(b"jpeg")
    found = corpus.picture(key)
    assert found is not None
    with found.open("rb") as file:
        assert file.read() == b"jpeg"
    with pytest.raises(KeyError, match="no image of mine"):
        corpus.picture("other:a/0.jpg")


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PATH = TEXT.filter(lambda path: path and "\0" not in path)
RECORD = st.fixed_dictionaries(
    {"image": PATH, "caption": TEXT | st.lists(TEXT, min_size=1, max_size=3)},
    optional={"image_id": st.integers() | TEXT, "more": st.recursive(TEXT | st.none() | st.floats(), st.lists)},
)  # fmt: skip
BLANK = st.text(" \t\n\r", max_size=5)


@given(data=st.data(), pairs=st.lists(RECORD, max_size=8), plain=st.booleans(), block=st.integers(1, 200))
@LOOSE
def test_no_record_is_lost_or_doubled(
    opened: Open, monkeypatch: pytest.MonkeyPatch, data: st.DataObject, pairs: list[Any], plain: bool, block: int
) -> None:
    """Any spacing, any character, escaped or not; blocks of any size."""
    monkeypatch.setattr(json_records, "BLOCK", block)
    written = [json.dumps(pair, ensure_ascii=plain, indent=data.draw(st.sampled_from([None, 1]))) for pair in pairs]
    blanks = [data.draw(BLANK) for _ in range(2 * len(pairs) + 3)]
    spaced = [blanks[2 * row] + text + blanks[2 * row + 1] for row, text in enumerate(written)]
    corpus = opened("pairs", {"x.json": blanks[-1] + "[" + ",".join(spaced) + blanks[-2] + "]" + blanks[-3]})
    assert all_of(corpus) == as_written(pairs)


@given(data=st.data(), pairs=st.lists(RECORD, min_size=1, max_size=8), plain=st.booleans())
@LOOSE
def test_no_line_is_lost_or_doubled(opened: Open, data: st.DataObject, pairs: list[Any], plain: bool) -> None:
    ends = [data.draw(st.sampled_from(["\n", "\r\n", " \n\n", "\n \t\n"])) for _ in pairs]
    lines = "".join(json.dumps(p, ensure_ascii=plain) + end for p, end in zip(pairs, ends, strict=True))
    assert all_of(opened("pairs", {"x.json": data.draw(st.sampled_from([lines, lines.rstrip()]))})) == as_written(pairs)


def fits(content: bytes) -> bool:
    """Say whether bytes are a list of records, by another route than the reader's."""
    try:
        value = json.loads(content.decode())
    except ValueError:
        return False
    return isinstance(value, list) and all(map(fits_one, value))


def fits_one(record: Any) -> bool:
    if not isinstance(record, dict) or not isinstance(record.get("image"), str) or not record["image"]:
        return False
    told = record.get("caption")
    if not isinstance(told, str) and not (isinstance(told, list) and told and all(type(text) is str for text in told)):
        return False
    half = re.search(r"\\u0000|\\ud[89a-f]", json.dumps([record["image"], told]))
    return isinstance(record.get("image_id", 0), int | str) and not half


@given(st.binary(max_size=12), st.integers(0, 10**6), st.integers(0, 12), st.sampled_from(["list", "lines"]))
@settings(LOOSE, max_examples=200)
def test_a_changed_file_is_refused_or_read_as_it_says(tried: Open, put: bytes, at: int, lost: int, form: str) -> None:
    """Bytes are put in anywhere, and some are lost: no traceback, and nothing but what JSON itself reads."""
    whole = json.dumps(PAIRS, ensure_ascii=False) if form == "list" else "\n".join(map(json.dumps, PAIRS))
    content = whole.encode()
    at %= len(content) + 1
    spoilt = content[:at] + put + content[at + lost :]
    corpus = tried("pairs", {"x.json": spoilt})
    if isinstance(corpus, BadData):
        assert "byte" in corpus.wrong
        assert form == "lines" or not fits(spoilt)
    else:
        lines = [line for line in spoilt.decode().split("\n") if line.strip(" \t\r")]
        value = json.loads(spoilt) if spoilt.lstrip()[:1] == b"[" else [json.loads(line) for line in lines]
        assert all_of(corpus) == as_written(value)


@pytest.mark.parametrize(
    ("record", "wrong"),
    [
        ({"caption": "x"}, "the key 'image' is missing"),
        ({"image": 7, "caption": "x"}, "'image' should be a text, found 7"),
        ({"image": "", "caption": "x"}, "'image' is no path"),
        ({"image": "a\0", "caption": "x"}, "'image' is no path"),
        ({"image": "a"}, "the key 'caption' is missing"),
        ({"image": "a", "caption": None}, "'caption' should be a text or a list of texts, found None"),
        ({"image": "a", "caption": []}, "found an empty list"),
        ({"image": "a", "caption": ["x", 1]}, "found a list of other things"),
        ({"image": "a", "caption": "x", "image_id": []}, "'image_id' should be a text or a number, found a list"),
        ({"image": "a", "caption": "x\ud800"}, r"half a character: \ud800"),
    ],
)
def test_faulty_records_are_named(opened: Open, record: dict[str, Any], wrong: str) -> None:
    for files in (
        {"x.json": [*PAIRS, record, *PAIRS, record]},
        {"x.json": "\n".join(map(json.dumps, [*PAIRS, record, *PAIRS, record]))},
    ):
        with pytest.raises(BadData) as fault:
            opened("pairs", files)
        found = re.search(r"x\.json: \[7\], byte (\d+): ", fault.value.wrong)
        assert found
        text = files["x.json"] if isinstance(files["x.json"], str) else json.dumps(files["x.json"])
        assert text[int(found[1]) :].startswith(json.dumps(record))
        assert wrong in fault.value.wrong
        assert fault.value.wrong.endswith("; faulty records: 7, 15 (2 in all)")
        assert fault.value.todo


def test_ten_faulty_records_are_named_and_all_counted(opened: Open) -> None:
    with pytest.raises(BadData, match=r"faulty records: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, \.\.\. \(1,234 in all\)\n"):
        opened("pairs", {"x.json": [{"image": "a"}] * 1234})


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ("", r"\[0\], byte 0: the file is empty"),
        (" \n", r"\[0\], byte 2: the file is empty"),
        ("7", r"\[0\], byte 0: expected a list of objects, or an object a line"),
        ("[", r"\[0\], byte 1: "),
        ('[{"image"', r"\[0\], byte \d+: "),
        ("[7]", r"\[0\], byte 1: expected an object, found '7\]'"),
        ('[{"image": "a", "caption": "b"} {}]', r"\[1\], byte 32: expected , or \]"),
        ('[{"image": "a", "caption": "b"}', r"\[1\], byte 31: the list does not end"),
        ('[{"image": "a", "caption": "b"},]', r"\[1\], byte 32: expected an object"),
        ('[{"image": "a", "caption": "b"}] x', r"\[1\], byte 33: extra data after the list"),
        ('{"image": "a", "caption": "b"} x', r"\[0\], byte 31: extra data; expected an object a line"),
        ('{"images": [\n]}', r"\[0\], byte 12: .*; expected an object a line"),
        ("[" + '{"a":' * 100_000, r"\[0\], byte 1: nested too deeply"),
        ('[{"a":' + "[" * 100_000, r"\[0\], byte 1: nested too deeply"),
        ('[{"n": ' + "9" * 5000 + "}]", r"\[0\], byte 1: Exceeds the limit"),
        (b'[{"image": "\xff"}]', "not UTF-8 text: byte 12 is 0xff"),
        (b'{"image": "\xc3', "not UTF-8 text: byte 11 is 0xc3"),
        (b"\xef\xbb\xbf[]", r"\[0\], byte 0: expected a list"),
    ],
    ids=map(str, range(18)),
)
def test_what_is_no_list_is_refused(opened: Open, content: str | bytes, wrong: str) -> None:
    with pytest.raises(BadData, match=wrong) as fault:
        opened("pairs", {"x.json": content})
    assert "\n" not in fault.value.wrong
    assert fault.value.todo


def test_a_record_without_end_is_not_read_for_ever(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_records, "BLOCK", 64)
    monkeypatch.setattr(json_records, "LONGEST", 1000)
    monkeypatch.setattr(records, "LONGEST", 1000)
    for content in ('[{"image": "' + 5000 * "x", '{"image": "' + 5000 * "x"):
        with pytest.raises(BadData, match=r"Unterminated string|a line of more than 1,000 bytes"):
            opened("pairs", {"x.json": content})


def test_what_is_not_here(opened: Open, tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"there is no file .*gone\.json") as fault:
        opened("pairs", {"x.json": PAIRS}, file=[{"name": "gone.json", "role": "texts"}])
    assert "example.org" in fault.value.todo
    (tmp_path / "data1" / "folder.json").mkdir(parents=True)
    with pytest.raises(BadData, match=r"folder\.json: is no file"):
        opened("pairs", {"x.json": PAIRS}, file=[{"name": "folder.json", "role": "texts"}])
    with pytest.raises(BadData, match="names no file with the role"):
        opened("pairs", {"x.json": PAIRS}, file=[])
    with pytest.raises(Misuse, match="cannot be called 'a:b'"):
        opened("pairs", {"x.json": PAIRS}, id="a:b")

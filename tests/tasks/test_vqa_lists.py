"""ALBEF's lists of VQA: read instead of the official files, scored alike, and refused in one line where faulty."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlbench.cards import DatasetCard
from vlbench.catalog import find
from vlbench.tasks.places import alternatives, wanted_files
from vlbench.tasks.vqa import VQA
from vlbench.tasks.vqa_lists import read_list
from vlbench.types import BadData, Misuse

OFFICIAL = Path(__file__).parents[1] / "official" / "samples" / "vqa_v2"
LISTS = Path(__file__).parents[1] / "official" / "samples" / "albef"
Rows = list[dict[str, Any]]


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """A data root with the sample's lists; val has those of train, as the sample has none of its own."""
    folder = tmp_path / "vqa-v2"
    shutil.copytree(LISTS, folder)
    shutil.copy(folder / "vqa_train.json", folder / "vqa_val.json")
    return tmp_path


@pytest.fixture
def listed(lists: Path) -> VQA:
    return VQA(find(DatasetCard, "vqa-v2"), lists)


@pytest.fixture
def official() -> VQA:
    return VQA(find(DatasetCard, "vqa-v2").model_copy(update={"folder": ""}), OFFICIAL)


def test_lists_hold_what_the_official_files_hold(listed: VQA, official: VQA) -> None:
    """The samples are the same 35 questions in both layouts."""
    assert list(listed.examples("train")) == list(official.examples("train"))
    assert len(listed.examples("train")) == 35
    said = {row["question_id"]: row["answer"] for row in json.loads((OFFICIAL / RESULTS).read_bytes())}
    given = {example.id: said[int(example.id)] for example in official.examples("train")}
    for scorer in ("", "official-2015", "always-normalise", "soft"):
        ours, theirs = listed.score(given, "train", scorer), official.score(given, "train", scorer)
        assert ours["accuracy"] == theirs["accuracy"]
    assert set(ours) == {"accuracy"} < set(theirs)  # a list does not say of which type an answer is
    assert 0 < ours["accuracy"].value < 100


RESULTS = "vqa_OpenEnded_mscoco_train2014_example_results.json"


def test_hidden_answers_and_what_the_server_takes(listed: VQA) -> None:
    asked = listed.examples("test")
    assert len(asked) == 12
    assert {example.answer for example in asked} == {None}
    assert asked[0].images == ("COCO_test2015_000000132417",)
    content = listed.answers_content(dict.fromkeys((one.id for one in asked), "yes"), "test")
    assert listed.check_upload(content, "test") == []
    assert "without an answer" in listed.check_upload(b"[]", "test")[0]
    for wrong, line in ((b"{", "not JSON: line 1"), (b"[" * 100_000, "nested too deeply"), (b"\xff", "not UTF-8")):
        assert line in listed.check_upload(wrong, "test")[0]


def test_visual_genome_is_learned_from_at_half_weight(listed: VQA, lists: Path) -> None:
    listed.use_answers(("clock", "yes"))
    (one,) = listed.examples("vg")
    assert (one.id, one.images, one.texts) == ("vg-1", ("1",), ("What is on the wall?",))
    assert listed.shares(one) == listed.target(one) == {0: 0.5}
    assert sum(listed.shares(listed.examples("train")[0]).values()) <= 1  # type: ignore[union-attr]
    assert listed.answers_file({"vg-1": "clock"}, "vg") == [{"question_id": 1, "answer": "clock"}]
    with pytest.raises(Misuse, match=r"vg has one answer a question.*: vg-1 \(1 in all\)"):
        listed.score({"vg-1": "clock"}, "vg")
    picture = lists / "vqa-v2/vg/image/1.jpg"
    picture.parent.mkdir(parents=True)
    picture.touch()
    assert listed.image_files("vg") == {"1": picture}


def test_an_id_of_visual_genome_may_be_one_of_vqa(listed: VQA, lists: Path) -> None:
    path = lists / "vqa-v2/vg_qa.json"
    (row,) = json.loads(path.read_bytes())
    first = listed.examples("train")[0]
    path.write_text(json.dumps([{**row, "question_id": int(first.id)}]))
    (one,) = listed.examples("vg")
    listed.use_answers(("no", "clock"))
    assert (listed.shares(first), listed.shares(one)) == ({0: 1.0}, {1: 0.5})


def test_the_closed_list_is_albefs_where_the_lists_are(listed: VQA, lists: Path) -> None:
    own = json.loads((LISTS / "answer_list.json").read_bytes())
    assert list(listed.answers) == own
    assert set(listed.files("train")) == {"vqa_train.json", "answer_list.json"}
    (lists / "vqa-v2/answer_list.json").unlink()
    counted = VQA(listed.card.model_copy(update={"answer_count": 2}), lists)
    assert list(counted.answers) == sorted(counted.answers) != own
    assert "no" in counted.answers
    assert set(counted.files("train")) == {"vqa_train.json"}


def test_official_files_come_first(lists: Path) -> None:
    for path in OFFICIAL.glob("v2_*_train2014_*.json"):
        shutil.copy(path, lists / "vqa-v2" / path.name)
    both = VQA(find(DatasetCard, "vqa-v2").model_copy(update={"answer_count": 1}), lists)
    assert {name[:3] for name in both.files("train")} == {"v2_"}
    assert set(both.files("val")) == {"vqa_val.json"}  # no closed list beside: it would not be of train's answers
    assert "no" in both.answers
    assert both.breakdown(both.examples("train")[0])


def test_minival_is_a_part_of_a_list_too(lists: Path) -> None:
    path = lists / "vqa-v2/minival.json"
    path.write_text(json.dumps([{"question_id": 132417001}]))
    task = VQA(find(DatasetCard, "vqa-v2"), lists)
    assert [one.id for one in task.examples("minival")] == ["132417001"]
    assert len(task.examples("nominival")) == 34
    assert set(task.files("minival")) == {"vqa_val.json", "answer_list.json", "minival.json"}


def test_a_list_stands_for_both_official_files_of_its_split() -> None:
    card = find(DatasetCard, "vqa-v2")
    groups = [[file.name for file in group] for group in alternatives(wanted_files(card))]
    assert ["v2_OpenEnded_mscoco_train2014_questions.json", "vqa_train.json"] in groups
    assert ["v2_mscoco_train2014_annotations.json", "vqa_train.json"] in groups
    assert ["v2_OpenEnded_mscoco_test2015_questions.json", "vqa_test.json"] in groups
    assert not {"vg_qa.json", "vg", "answer_list.json"} & {name for group in groups for name in group}
    assert ["vg_qa.json"] in [[file.name for file in group] for group in alternatives(card.file)]


FAULTS: list[tuple[str, Callable[[Rows], Any], str]] = [
    ("no rows", lambda rows: rows.clear(), "holds no questions"),
    ("no object", lambda rows: rows.insert(0, 3), r"\[0\]: expected an object with 'dataset', found 3"),  # type: ignore[arg-type]
    ("no source", lambda rows: rows[2].pop("dataset"), r"\[2\]: the key 'dataset' is missing"),
    ("other source", lambda rows: rows[2].update(dataset="gqa"), r"\[2\]: 'dataset' should be .* 'vg', found 'gqa'"),
    ("text id", lambda rows: rows[1].update(question_id="7"), r"\[1\]: 'question_id' should be a whole number"),
    ("no question", lambda rows: rows[1].pop("question"), r"\[1\]: the key 'question' is missing"),
    ("no image", lambda rows: rows[1].update(image=""), r"\[1\]: 'image' names no file"),
    ("no answers", lambda rows: rows[1].pop("answer"), r"\[1\]: the key 'answer' is missing"),
    ("empty answers", lambda rows: rows[1].update(answer=[]), r"\[1\]: 'answer' is empty"),
    ("one text", lambda rows: rows[1].update(answer="yes"), r"\[1\]: 'answer' should be a list, found 'yes'"),
    ("a number", lambda rows: rows[1].update(answer=["a", 2]), r"\[1\]: 'answer': what is no text: 2 \(1 in all\)"),
    ("many for vg", lambda rows: rows[1].update(dataset="vg"), r"\[1\]: 'answer' should be a text, found a list"),
    ("doubled", lambda rows: rows.append(rows[0]), r"with an id that came before: 132417000 \(1 in all\)"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "line"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS])
def test_a_faulty_list_is_one_clear_line(tmp_path: Path, spoil: Callable[[Rows], Any], line: str) -> None:
    path = tmp_path / "vqa_train.json"
    rows: Rows = json.loads((LISTS / "vqa_train.json").read_bytes())
    spoil(rows)
    path.write_text(json.dumps(rows))
    with pytest.raises(BadData, match=line) as fault:
        read_list(path)
    assert str(path) in fault.value.wrong
    assert "\n" not in fault.value.wrong


def test_a_list_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text('{"questions": []}')
    with pytest.raises(BadData, match="expected a list, found an object"):
        read_list(path)
    with pytest.raises(BadData, match="no file"):
        read_list(tmp_path / "other.json", "get it")


_VALUES = st.none() | st.booleans() | st.integers(-3, 10**13) | st.floats() | st.text(max_size=4)
_VALUES |= st.lists(_VALUES, max_size=3) | st.dictionaries(st.sampled_from(["answer", "image"]), _VALUES, max_size=2)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), public=st.booleans())
def test_no_change_of_a_list_ends_in_anything_but_bad_data_or_questions(
    tmp_path: Path, data: st.DataObject, public: bool
) -> None:
    rows: Rows = json.loads((LISTS / "vqa_train.json").read_bytes())[:3]
    row = data.draw(st.sampled_from(rows))
    row[data.draw(st.sampled_from([*row, "more"]))] = data.draw(_VALUES)
    path = tmp_path / "list.json"
    path.write_text(json.dumps(rows))
    try:
        found = read_list(path, public=public)
    except BadData:
        return
    assert len(found) == 3
    assert all(one.example.images[0] and isinstance(one.example.texts[0], str) for one in found.values())

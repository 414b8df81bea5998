"""The VCR task: what is asked in words, scores of both stages, controls, the leaderboard's table, and bad files."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlbench.cards import DatasetCard
from vlbench.catalog import find
from vlbench.metrics.vcr import CHOICES
from vlbench.tasks.base import OfficialFiles
from vlbench.tasks.text_controls import choices_without_looking
from vlbench.tasks.vcr import VCR
from vlbench.tasks.vcr_files import COLUMNS, NAMES, as_text, object_names, read_questions, read_table
from vlbench.types import Answer, BadData, Chances, Example, Fault, Misuse

SAMPLES = Path(__file__).resolve().parents[1] / "official/samples/vcr"
COUNTS = {"train": 60, "val": 12, "test": 5}
Record = dict[str, Any]


def record(split: str, number: int, *, hidden: bool = False) -> Record:
    """A question on one of every two images; what is right is the person who is asked about, told by the overlap."""
    draw = random.Random(f"{split} {number}")
    answer, why = draw.randrange(4), draw.randrange(4)
    film, still = "lsmdc_0001_MADE_UP", f"0001_{split}_00.0{number // 2}@0"
    choices = [[[place % 2], "is", word, "."] for place, word in enumerate(("tired", "happy", "cold", "late"))]
    reasons = [["Because", "of", [2, 3], "and", word] for word in ("sleep", "cake", "snow", "trains")]
    choices[answer] = [[1], "is", "about", "to", "speak", "."]
    reasons[why] = ["One", "is", "about", "to", "speak", "to", [0]]
    return {
        "annot_id": f"{split}-{number}",
        "img_fn": f"{film}/{still}.jpg",
        "metadata_fn": f"{film}/{still}.json",
        "objects": ["person", "person", "cup", "cup", "diningtable"],
        "question": ["What", "is", [1], "about", "to", "do", "?"],
        "answer_choices": choices,
        "rationale_choices": reasons,
        **({} if hidden else {"answer_label": answer, "rationale_label": why}),
    }


def lines(records: list[Record]) -> str:
    return "".join(json.dumps(one) + "\n" for one in records)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with small files in the official layout; every third question of val has a skill."""
    folder = tmp_path / "vcr"
    folder.mkdir()
    for split, count in COUNTS.items():
        records = [record(split, number, hidden=split == "test") for number in range(count)]
        (folder / f"{split}.jsonl").write_text(lines(records))
    (folder / "skills.json").write_text(json.dumps({f"val-{number}": "count" for number in range(0, 12, 3)}))
    return tmp_path


@pytest.fixture
def vcr(root: Path) -> VCR:
    return VCR(find(DatasetCard, "vcr"), root)


def right(vcr: VCR, split: str = "val") -> dict[str, Answer]:
    return {example.id: example.answer for example in vcr.examples(split)}  # type: ignore[misc]


def chances(place: int, top: float = 0.7) -> Chances:
    return Chances(tuple(top if at == place else (1 - top) / 3 for at in range(CHOICES)))


# --- what is asked --------------------------------------------------------------------------------------


def test_each_question_is_asked_for_its_answer_and_its_rationale(vcr: VCR) -> None:
    examples = vcr.examples("val")
    assert [one.id for one in examples[:4]] == ["val-0/a", "val-0/r", "val-1/a", "val-1/r"]
    assert len(examples) == 2 * COUNTS["val"] == 2 * vcr.count("val")
    question = vcr.questions("val")["val-0"]
    first, second = examples[:2]
    assert first.images == second.images == ("0001_val_00.00@0",)
    assert first.texts == tuple(f"What is Riley about to do ? {answer}" for answer in question.answers)
    assert first.texts[first.answer] == "What is Riley about to do ? Riley is about to speak ."  # type: ignore[index]
    assert second.texts == tuple(f"{first.texts[first.answer]} {why}" for why in question.rationales)  # type: ignore[index]
    assert "Because of cup 1 cup 2 and cake" in question.rationales or question.rationale == 1
    assert vcr.target(first) == first.answer == question.answer


def test_where_nothing_is_public_every_answer_has_its_rationales(vcr: VCR) -> None:
    examples = vcr.examples("test")
    assert [one.id for one in examples[:5]] == [f"test-0/{stage}" for stage in ("a", "r0", "r1", "r2", "r3")]
    assert len(examples) == 5 * COUNTS["test"]
    assert all(one.answer is None and len(one.texts) == CHOICES for one in examples)
    answers, third = examples[0].texts, examples[3].texts
    assert all(text.startswith(f"{answers[2]} ") for text in third)


def test_every_object_has_one_name() -> None:
    assert object_names(["person", "dog", "cup", "person", "cup"]) == ["Casey", "dog", "cup 1", "Riley", "cup 2"]
    crowd = object_names(["person"] * 30)
    assert crowd[:14] == list(NAMES)
    assert crowd[14] == "Casey 2"
    assert len(set(crowd)) == 30


def test_tags_become_words_in_their_order() -> None:
    assert as_text(["Are", [2, 0], "near", [1], "?"], ["Casey", "cup", "Riley"], "") == "Are Riley Casey near cup ?"
    assert as_text([], [], "") == ""


def test_the_sample_of_the_official_layout() -> None:
    found = read_questions(SAMPLES / "test.jsonl", "", public=False)
    assert list(found) == [f"test-{number}" for number in range(5)]
    first = found["test-0"]
    assert first.text == "What is Riley about to do ?"
    assert first.answers[0] == "Casey is telling Riley a story ."
    assert first.rationales[1] == "diningtable is set with plates ."
    assert first.answer is None
    assert first.key == "0000_MADE_UP_FILM_00.00.01.000-00.00.02.000@0"


def test_images_at_hand(vcr: VCR, root: Path) -> None:
    assert vcr.image_files("val") == {}
    folder = root / "vcr/vcr1images/lsmdc_0001_MADE_UP"
    folder.mkdir(parents=True)
    (folder / "0001_val_00.00@0.jpg").touch()
    (folder / "0001_val_00.00@0.json").touch()
    assert vcr.image_files("val") == {"0001_val_00.00@0": folder / "0001_val_00.00@0.jpg"}
    assert list(vcr.files("val")) == ["val.jsonl"]


# --- scores ---------------------------------------------------------------------------------------------


def test_both_stages_count_each_and_together(vcr: VCR) -> None:
    given = right(vcr)
    scores = vcr.score(given, "val")
    assert list(scores) == ["q_ar", "q_ar_count", "q_a", "q_a_count", "qa_r", "qa_r_count"]
    assert {score.value for score in scores.values()} == {100.0}
    assert [scores[name].count for name in ("q_ar", "q_a", "qa_r", "q_ar_count")] == [12, 12, 12, 4]
    given["val-0/a"] = (given["val-0/a"] + 1) % 4  # type: ignore[operator]
    given["val-1/r"] = chances((given["val-1/r"] + 1) % 4)  # type: ignore[operator]
    given["val-2/a"] = chances(given["val-2/a"])  # type: ignore[arg-type]
    scores = vcr.score(given, "val")
    found = {name: round(scores[name].value * 12 / 100) for name in ("q_ar", "q_a", "qa_r")}
    assert found == {"q_ar": 10, "q_a": 11, "qa_r": 11}
    assert scores["q_ar_count"].value == 75
    assert all(score.scorer == "r2c" for score in scores.values())
    assert vcr.each(given, "val")["val-0/a"] == 0.0


def test_questions_of_one_image_are_resampled_together(vcr: VCR) -> None:
    """Two questions on each image that are right or wrong together are as uncertain as half as many."""
    together = {i: p if int(i[4:].split("/")[0]) // 2 % 2 else (p + 1) % 4 for i, p in right(vcr).items()}  # type: ignore[operator]
    apart = {i: p if int(i[4:].split("/")[0]) % 2 else (p + 1) % 4 for i, p in right(vcr).items()}  # type: ignore[operator]
    one, other = vcr.score(together, "val")["q_ar"], vcr.score(apart, "val")["q_ar"]
    assert one.value == other.value == 50
    assert one.high - one.low > other.high - other.low + 5  # type: ignore[operator]


def test_a_part_of_a_split_can_be_scored(vcr: VCR) -> None:
    given = right(vcr)
    first = {identity: given[identity] for identity in list(given)[:5]}
    scores = vcr.score(first, "val")
    assert [scores[name].count for name in ("q_ar", "q_a", "qa_r")] == [2, 3, 2]
    assert "q_ar" not in vcr.score({"val-1/a": 0}, "val")


def test_what_cannot_be_scored(vcr: VCR) -> None:
    with pytest.raises(Fault, match="not public"):
        vcr.score({"test-0/a": 0}, "test")
    with pytest.raises(Misuse, match="no scorer 'r2d'"):
        vcr.score({"val-0/a": 0}, "val", "r2d")
    with pytest.raises(Misuse, match="did you mean 'val'"):
        vcr.examples("vall")
    with pytest.raises(BadData, match="1 ids that val does not hold"):
        vcr.score({"val-0/r2": 0}, "val")
    with pytest.raises(BadData, match="no answer"):
        vcr.score({}, "val")
    for answer in (4, -1, "yes", Chances((0.5, 0.5)), Chances((float("nan"), 0, 0, 0))):
        with pytest.raises(BadData, match=r"val-0/a: .* neither 4 probabilities nor a place"):
            vcr.score({"val-0/a": answer}, "val")
    with pytest.raises(BadData, match="no layout of vcr is called 'r2c'"):
        VCR(vcr.card.model_copy(update={"layout": "r2c"}), Path())


# --- controls -------------------------------------------------------------------------------------------


def test_controls_choose_by_place_and_by_text(vcr: VCR) -> None:
    given = vcr.controls("val", ["train"])
    scores = {name: vcr.score(found, "val") for name, found in given.items()}
    assert list(given) == ["prior", "question-only"]
    assert given["prior"].keys() == given["question-only"].keys() == right(vcr).keys()
    assert len({given["prior"][f"val-{number}/a"] for number in range(12)}) == 1
    # what is right says the question again, so that texts alone give it away
    assert scores["question-only"]["q_ar"].value == 100
    assert scores["prior"]["q_ar"].value < 50
    assert set(vcr.controls("test", ["train"])["prior"]) == {example.id for example in vcr.examples("test")}


def test_nothing_is_learned_from_texts_that_say_nothing() -> None:
    draw = random.Random(0)

    def made(number: int) -> Example:
        options = draw.sample(["red", "blue", "green", "black", "white", "brown"], 4)
        texts = tuple(f"what colour is it ? {option}" for option in options)
        return Example(str(number), (str(number),), texts, draw.randrange(4))

    train, asked = [made(number) for number in range(4000)], [made(number) for number in range(2000)]
    for places in choices_without_looking(train, asked).values():
        hit = sum(places[example.id] == example.answer for example in asked) / len(asked)
        assert 0.2 < hit < 0.3


def test_controls_need_answers_to_learn_from(vcr: VCR) -> None:
    assert vcr.controls("val", ["test"]) == {}
    assert vcr.controls("val", []) == {}


def test_texts_that_are_all_alike_or_empty_are_no_trouble() -> None:
    odd = [Example("1", ("1",), ("", "", "", ""), 2), Example("2", ("2",), ("a b",) * 4, 2)]
    assert choices_without_looking(odd, odd)["question-only"] == {"1": 2, "2": 2}


# --- the leaderboard's table ----------------------------------------------------------------------------


def some_answers(vcr: VCR, split: str) -> dict[str, Answer]:
    draw = random.Random(1)
    return {example.id: chances(draw.randrange(4), draw.uniform(0.3, 0.9)) for example in vcr.examples(split)}


def test_what_a_run_writes_is_scored_the_same(vcr: VCR, root: Path) -> None:
    given = some_answers(vcr, "val")
    path = root / f"answers-val.{vcr.answers_suffix}"
    path.write_bytes(vcr.answers_content(given, "val"))
    found = VCR.score_files(OfficialFiles(path, annotations=root / "vcr/val.jsonl"))
    scores = vcr.score(given, "val")
    assert {name: found[name] for name in ("q_a", "qa_r", "q_ar")} == {
        name: pytest.approx(scores[name].value) for name in ("q_a", "qa_r", "q_ar")
    }
    assert (found["count"], found["scorer"]) == (12, "r2c")
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert tuple(rows[0]) == COLUMNS
    answer = vcr.questions("val")["val-3"].answer
    filled = [name for name in COLUMNS[5:] if rows[3][name]]
    assert filled == [f"rationale_conditioned_on_a{answer}_{place}" for place in range(4)]


def test_the_upload_is_whole(vcr: VCR) -> None:
    given = some_answers(vcr, "test")
    content = vcr.answers_content(given, "test")
    assert vcr.check_upload(content, "test") == []
    assert read_table(content, "")["test-4"].rationales[2] == given["test-4/r2"].values  # type: ignore[union-attr]
    del given["test-2/r1"]
    (problem,) = vcr.check_upload(vcr.answers_content(given, "test"), "test")
    assert "questions with columns left empty: test-2 (1 in all)" in problem
    (problem,) = vcr.check_upload(content.replace(b"test-2", b"test-9"), "test")
    assert "test-2" in problem
    assert "test-9" in problem
    (problem,) = vcr.check_upload(b"annot_id,answer_0\n", "test")
    assert "columns that are missing" in problem


def test_columns_may_stand_in_any_order(vcr: VCR, root: Path) -> None:
    given = some_answers(vcr, "val")
    rows = list(csv.DictReader(io.StringIO(vcr.answers_content(given, "val").decode())))
    file = io.StringIO()
    table = csv.DictWriter(file, tuple(reversed(COLUMNS)))
    table.writeheader()
    table.writerows(rows)
    (root / "other.csv").write_text("\ufeff" + file.getvalue())
    (root / "answers.csv").write_bytes(vcr.answers_content(given, "val"))
    one, other = (
        VCR.score_files(OfficialFiles(root / name, annotations=root / "vcr/val.jsonl"))
        for name in ("answers.csv", "other.csv")
    )
    assert one == other


def test_what_score_needs(root: Path) -> None:
    with pytest.raises(Misuse, match="--annotations is missing") as fault:
        VCR.score_files(OfficialFiles(root / "answers.csv"))
    assert "vlbench score vcr --answers" in fault.value.todo
    with pytest.raises(Misuse, match="no scorer is called 'soft'"):
        VCR.score_files(OfficialFiles(root / "x", annotations=root / "vcr/val.jsonl", scorer="soft"))
    with pytest.raises(BadData, match="there is no file"):
        VCR.score_files(OfficialFiles(root / "x", annotations=root / "vcr/val.jsonl"))


def test_at_the_command_line(command: Any, vcr: VCR, root: Path) -> None:
    content = vcr.answers_content(some_answers(vcr, "val"), "val")
    (root / "answers.csv").write_bytes(content)
    (root / "short.csv").write_bytes(b"".join(content.splitlines(keepends=True)[:-2]))
    words = ("score", "vcr", "--annotations", root / "vcr/val.jsonl", "--answers")
    done = command(*words, root / "answers.csv", "--json")
    assert done.code == 0
    assert list(json.loads(done.out)) == ["q_a", "qa_r", "q_ar", "count", "scorer"]
    command(*words, root / "short.csv").refused(3, "short.csv", "val-10, val-11 (2 in all)")
    command("score", "vcr", "--answers", root / "answers.csv").refused(2, "--annotations is missing")
    done = command(*words[:2], "--annotations", root / "vcr/test.jsonl", "--answers", root / "answers.csv")
    done.refused(3, "test.jsonl: line 1: the key 'answer_label' is missing")
    assert "hidden, and only the leaderboard's server scores it" in done.err


# --- bad files ------------------------------------------------------------------------------------------


def put(at: int, **values: Any) -> Callable[[list[Record]], Any]:
    return lambda records: records[at].update(values)


RECORDS: list[tuple[str, Callable[[list[Record]], Any], str]] = [
    ("no id", lambda r: r[2].pop("annot_id"), r"line 3: the key 'annot_id' is missing"),
    ("no label", lambda r: r[1].pop("answer_label"), r"line 2: the key 'answer_label' is missing"),
    ("label out of range", put(1, rationale_label=4), r"line 2: 'rationale_label' should be from 0 to 3, found 4"),
    ("label as text", put(1, answer_label="1"), r"line 2: 'answer_label' should be a whole number"),
    ("three choices", lambda r: r[0]["answer_choices"].pop(), r"line 1: 'answer_choices' should be 4 lists"),
    ("choice as text", put(0, rationale_choices=["a"] * 4), r"line 1: 'rationale_choices' should be 4 lists"),
    ("tag too high", put(3, question=["Is", [5], "?"]), r"line 4: question: token 1 should be .* below 5.*\[5\]"),
    ("tag below 0", put(3, question=[[-1]]), r"line 4: question: token 0"),
    ("tag true", put(3, question=[[True]]), r"line 4: question: token 0"),
    ("number token", put(3, question=["Is", 1]), r"line 4: question: token 1"),
    ("objects as text", put(4, objects="person"), r"line 5: 'objects' should be a list"),
    ("object number", put(4, objects=[1]), r"line 5: 'objects' should be a list of texts"),
    ("record is a list", lambda r: r.__setitem__(1, []), r"line 2: expected an object"),
    ("same id", put(5, annot_id="val-1"), r"ids of more than one question: val-1 \(1 in all\)"),
    ("two images of a name", put(2, img_fn="other/0001_val_00.00@0.jpg"), r"names of more than one image: 0001_val"),
    ("another split", put(5, annot_id="train-7"), r"questions of another split than val: train-7 \(1 in all\)"),
    ("none", lambda r: r.clear(), r"holds no questions"),
]


@pytest.mark.parametrize(("spoil", "line"), [fault[1:] for fault in RECORDS], ids=[fault[0] for fault in RECORDS])
def test_a_bad_record_gives_one_clear_line(root: Path, spoil: Callable[[list[Record]], Any], line: str) -> None:
    records = [record("val", number) for number in range(6)]
    spoil(records)
    path = root / "vcr/val.jsonl"
    path.write_text(lines(records))
    with pytest.raises(BadData, match=line) as fault:
        VCR(find(DatasetCard, "vcr"), root).examples("val")
    assert fault.value.code == 3
    assert str(path) in fault.value.wrong


def test_a_file_cut_short_or_not_there(vcr: VCR, root: Path) -> None:
    path = root / "vcr/train.jsonl"
    path.write_text(path.read_text()[:-40])
    with pytest.raises(BadData, match=r"train\.jsonl: line 60, column \d+: not JSON") as fault:
        vcr.examples("train")
    assert "cut short" in fault.value.todo
    path.unlink()
    with pytest.raises(BadData, match="there is no file") as fault:
        vcr.examples("train")
    assert "https://visualcommonsense.com" in fault.value.todo


def cell(row: int, column: str, value: str) -> Callable[[list[list[str]]], Any]:
    return lambda rows: rows[row].__setitem__(COLUMNS.index(column), value)


TABLES: list[tuple[str, Callable[[list[list[str]]], Any], str]] = [
    ("empty", lambda t: t.clear(), r"columns that are missing: annot_id, answer_0, .* \(21 in all\)"),
    ("no header", lambda t: t.pop(0), r"columns that are missing: annot_id"),
    ("column missing", lambda t: [row.pop() for row in t], r"missing: rationale_conditioned_on_a3_3 \(1 in all\)"),
    ("column more", lambda t: [row.append("1") for row in t], r"columns that are unknown or doubled: 1 \(1 in all\)"),
    ("missing", lambda t: t.pop(), r"ids without an answer: val-5 \(1 in all\)"),
    ("surplus", cell(2, "annot_id", "val-77"), r"without an answer: val-1 .*annotations do not hold: val-77"),
    ("doubled", cell(2, "annot_id", "val-0"), r"ids answered more than once: val-0 \(1 in all\)"),
    ("short row", lambda t: t[3].pop(), r"line 4: 20 cells, but 21 columns"),
    ("a word", cell(3, "answer_2", "high"), r"line 4: 'answer_2' should be a number, found 'high'"),
    ("nan", cell(3, "answer_2", "nan"), r"line 4: 'answer_2' should be a number"),
    ("empty cell", cell(3, "answer_2", ""), r"line 4: 'answer_2' should be a number"),
    ("half a group", cell(3, "rationale_conditioned_on_a1_2", ""), r"line 4: 'rationale_conditioned_on_a1_2'"),
]


@pytest.fixture
def answers(root: Path) -> list[list[str]]:
    """A whole table for the first six questions of val, which are all that the annotations then hold."""
    (root / "vcr/val.jsonl").write_text(lines([record("val", number) for number in range(6)]))
    return [list(COLUMNS), *([f"val-{number}", *["0.25"] * 20] for number in range(6))]


def scored(root: Path, content: bytes | str) -> dict[str, object]:
    path = root / "answers.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return VCR.score_files(OfficialFiles(path, annotations=root / "vcr/val.jsonl"))


def as_table(rows: list[list[str]]) -> str:
    return "".join(",".join(row) + "\n" for row in rows)


@pytest.mark.parametrize(("spoil", "line"), [fault[1:] for fault in TABLES], ids=[fault[0] for fault in TABLES])
def test_a_bad_table_gives_one_clear_line(
    root: Path, answers: list[list[str]], spoil: Callable[[list[list[str]]], Any], line: str
) -> None:
    assert scored(root, as_table(answers))["count"] == 6
    spoil(answers)
    with pytest.raises(BadData, match=line) as fault:
        scored(root, as_table(answers))
    assert str(root / "answers.csv") in fault.value.wrong


def test_rationales_of_the_right_answer_are_needed(root: Path, answers: list[list[str]]) -> None:
    wanted = record("val", 2)["answer_label"]
    for group in range(4):
        spoilt = [row.copy() for row in answers]
        spoilt[3][5 + 4 * group : 9 + 4 * group] = [""] * 4
        if group == wanted:
            with pytest.raises(BadData, match=r"rationale columns given the right answer: val-2 \(1 in all\)"):
                scored(root, as_table(spoilt))
        else:
            assert scored(root, as_table(spoilt))["count"] == 6


def test_what_is_no_table(root: Path, answers: list[list[str]]) -> None:
    for content, line in (
        (b"\xff\xfe", "not UTF-8 text: byte 0"),
        (as_table(answers) + '"val-9', "not CSV"),
        ('{"a": 1}', "columns that are missing"),
        (as_table(answers)[:-9], "line 7: 'rationale|line 7: .* cells"),
    ):
        with pytest.raises(BadData, match=line):
            scored(root, content)


def mutated(content: bytes, data: st.DataObject) -> bytes:
    """Change, drop or add a few bytes anywhere."""
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed) - 1))
        span = data.draw(st.sampled_from([0, 1, 1, 4, len(changed)]))
        changed[at : at + span] = data.draw(st.sampled_from([b"", b'"', b",", b"\n", b"[", b"0", b"\xff", b"null"]))
        if not changed:
            break
    return bytes(changed)


def outcome(read: Callable[[], object]) -> object:
    """What was read, or what the one line says."""
    try:
        return read()
    except BadData as fault:
        return fault.wrong


FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(data=st.data())
def test_no_annotations_break_the_reader_or_lose_questions(root: Path, data: st.DataObject) -> None:
    whole = lines([record("val", number) for number in range(4)]).encode()
    path = root / "vcr/val.jsonl"
    path.write_bytes(mutated(whole, data))
    kept = len([line for line in path.read_bytes().split(b"\n") if line.strip()])
    found = outcome(lambda: len(VCR(find(DatasetCard, "vcr"), root).examples("val")))
    assert found == 2 * kept or str(path) in str(found)


@FUZZ
@given(data=st.data())
def test_no_table_breaks_the_reader_or_loses_answers(root: Path, data: st.DataObject) -> None:
    rows = [list(COLUMNS), *([f"val-{number}", *["0.25"] * 20] for number in range(12))]
    found = outcome(lambda: scored(root, mutated(as_table(rows).encode(), data))["count"])
    assert found == 12 or str(root) in str(found)

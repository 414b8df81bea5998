"""SNLI-VE: every layout its pairs come in, scores, answer files, and what bad files lead to."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlbench.cards import DatasetCard
from vlbench.catalog import find
from vlbench.tasks.base import OfficialFiles
from vlbench.tasks.snli_ve import SNLIVE
from vlbench.tasks.snli_ve_files import LABELS, read_pairs, take_answers
from vlbench.types import BadData, Misuse

SAMPLES = Path(__file__).parents[1] / "official" / "samples" / "snli_ve"
Rows = list[dict[str, Any]]


def rows_of(images: int = 3) -> Rows:
    """Two pairs an image; the last one has no gold label."""
    rows = [
        {
            "annotator_labels": [LABELS[(image + place + 1) % 3]],
            "captionID": f"{image}.jpg#0",
            "gold_label": LABELS[(image + place + 1) % 3],
            "pairID": f"{image}.jpg#0r1{'en'[place]}",
            "sentence1": "A premise that nobody may see.",
            "sentence2": f"Hypothesis {place} on {image}.",
            "Flickr30K_ID": str(image),
        }
        for image in range(100, 100 + images)
        for place in (0, 1)
    ]
    rows[-1]["gold_label"] = "-"
    return rows


def write_lines(path: Path, rows: Rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with small files in the official layout."""
    for split in ("train", "dev"):
        write_lines(tmp_path / "snli-ve" / f"snli_ve_{split}.jsonl", rows_of())
    return tmp_path


@pytest.fixture
def task(root: Path) -> SNLIVE:
    return SNLIVE(find(DatasetCard, "snli-ve"), root)


# --- layouts --------------------------------------------------------------------------------------------


def test_a_sample_of_the_official_file_and_of_albefs_list() -> None:
    official = read_pairs(SAMPLES / "snli_ve_dev.jsonl")
    listed = read_pairs(SAMPLES / "albef_ve_dev.json")
    assert len(official.labelled) == len(listed.labelled) == 25
    assert list(official.labelled.values()) == list(listed.labelled.values())
    assert next(iter(official.labelled)) == "7631372276.jpg#4r2e"
    assert next(iter(listed.labelled)) == "7631372276#row0"


def test_what_an_example_is(task: SNLIVE) -> None:
    first = task.examples("dev")[0]
    assert (first.id, first.images, first.texts) == ("100.jpg#0r1e", ("100",), ("Hypothesis 0 on 100.",))
    assert "premise" not in str(task.examples("dev"))
    assert task.answers == ("contradiction", "neutral", "entailment")
    assert [task.target(example) for example in task.examples("dev")[:2]] == [{2: 1.0}, {0: 1.0}]
    assert SNLIVE.told is False


def test_pairs_without_a_gold_label_are_counted_and_left_out(task: SNLIVE) -> None:
    assert [len(task.examples("dev")), task.left_out("dev")] == [5, 1]
    assert "102.jpg#0r1n" not in {example.id for example in task.examples("dev")}


TABLES: dict[str, tuple[str, tuple[str, ...]]] = {
    "e-ViL": (",", ("", "pairID", "Flickr30kID", "hypothesis", "gold_label", "explanation")),
    "e-SNLI-VE 2.0": ("\t", ("gold_label", "premise", "image", "hypothesis", "pairID", "explanation")),
    "labels only": (",", ("pairID", "image_link", "sentence2", "label")),
}


@pytest.mark.parametrize(("delimiter", "columns"), TABLES.values(), ids=TABLES)
def test_tables_of_corrected_labels(tmp_path: Path, delimiter: str, columns: tuple[str, ...]) -> None:
    text = io.StringIO(newline="")
    table = csv.writer(text, delimiter=delimiter)
    table.writerow(columns)
    for row in rows_of():
        known = {
            "pairID": row["pairID"], "Flickr30kID": row["Flickr30K_ID"] + ".jpg", "image": row["captionID"],
            "hypothesis": row["sentence2"], "sentence2": row["sentence2"], "gold_label": row["gold_label"],
            "label": row["gold_label"], "explanation": 'They said "no",\nand left.',
        }  # fmt: skip
        table.writerow([known.get(column, "x") for column in columns])
    (tmp_path / "table").write_text(text.getvalue(), encoding="utf-8")
    assert read_pairs(tmp_path / "table") == read_pairs(write_lines(tmp_path / "lines", rows_of()))


def test_images_are_those_of_flickr30k(task: SNLIVE, root: Path) -> None:
    assert task.image_files("dev") == {}
    for folder in ("flickr30k/flickr30k-images", "snli-ve/flickr30k-images"):
        (root / folder).mkdir(parents=True)
        for name in ("100.jpg", "102.jpg", "999.jpg"):
            (root / folder / name).touch()
        found = task.image_files("dev")
        assert set(found) == {"100", "102"}
        assert found["100"].resolve() == root / folder / "100.jpg"


# --- scores ---------------------------------------------------------------------------------------------


def test_accuracy_over_all_and_by_label(task: SNLIVE) -> None:
    given = {example.id: "entailment" for example in task.examples("dev")}
    scores = task.score(given, "dev")
    assert {name: (score.value, score.count) for name, score in scores.items()} == {
        "accuracy": (20, 5),
        "accuracy_contradiction": (0, 2),
        "accuracy_entailment": (100, 1),
        "accuracy_neutral": (0, 2),
    }
    assert next(iter(scores)) == "accuracy"
    assert task.score({"100.jpg#0r1e": 2}, "dev")["accuracy"].value == 100
    assert task.controls("dev", ["train"]).keys() == {"prior", "question-only"}


def test_skills_have_scores(root: Path) -> None:
    skills = {row["pairID"]: "relation" if place else "count" for place, row in enumerate(rows_of())}
    (root / "snli-ve" / "skills.json").write_text(json.dumps(skills))
    task = SNLIVE(find(DatasetCard, "snli-ve"), root)
    scores = task.score({example.id: "neutral" for example in task.examples("dev")}, "dev")
    assert [scores["accuracy_count"].count, scores["accuracy_relation"].count] == [1, 4]
    assert list(task.files("dev")) == ["snli_ve_dev.jsonl", "skills.json"]


@pytest.mark.parametrize(("content", "line"), [("[]", "expected an object"), ('{"a": 3}', r"no text: a \(1 in all\)")])
def test_faulty_skills(task: SNLIVE, root: Path, content: str, line: str) -> None:
    (root / "snli-ve" / "skills.json").write_text(content)
    with pytest.raises(BadData, match=line):
        task.score({FIRST: "neutral"}, "dev")


# --- answer files ---------------------------------------------------------------------------------------


def scored(root: Path, content: object) -> dict[str, object]:
    path = root / "answers.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return SNLIVE.score_files(OfficialFiles(path, annotations=root / "snli-ve" / "snli_ve_dev.jsonl"))


def test_the_answer_file_is_what_score_reads(task: SNLIVE, root: Path) -> None:
    given = {example.id: place % 3 for place, example in enumerate(task.examples("dev"))}
    found = scored(root, task.answers_content(given, "dev"))
    scores = task.score(given, "dev")
    assert found["accuracy"] == pytest.approx(scores["accuracy"].value)
    assert found["per_class"] == pytest.approx({name: scores[f"accuracy_{name}"].value for name in LABELS})
    assert [found[key] for key in ("count", "without_gold_label", "scorer")] == [5, 1, "accuracy"]
    assert sum(sum(row.values()) for row in found["confusion"].values()) == 5  # type: ignore[attr-defined]


@pytest.mark.parametrize("form", ["object", "list", "lines", "one line"])
def test_forms_of_answer_files(root: Path, form: str) -> None:
    rows = rows_of()[: 1 if form == "one line" else 5]
    write_lines(root / "snli-ve" / "snli_ve_dev.jsonl", rows)
    records = [{"pairID": row["pairID"], "label": row["gold_label"]} for row in rows]
    forms: dict[str, object] = {
        "object": {row["pairID"]: row["gold_label"] for row in rows},
        "list": [{"pairID": row["pairID"], "gold_label": row["gold_label"]} for row in rows],
        "lines": "\n".join(json.dumps(record) for record in records).encode(),
        "one line": json.dumps(records[0]).encode(),
    }
    found = scored(root, forms[form])
    assert [found["accuracy"], found["count"]] == [100, len(rows)]


def test_a_class_without_examples_has_no_accuracy(root: Path) -> None:
    write_lines(root / "snli-ve" / "snli_ve_dev.jsonl", rows_of()[:1])
    found = scored(root, {"100.jpg#0r1e": "neutral"})
    assert found["per_class"] == {"contradiction": None, "neutral": None, "entailment": 0}
    json.dumps(found, allow_nan=False)


GOOD = {row["pairID"]: "neutral" for row in rows_of()[:5]}
LISTED = [{"pairID": name, "label": label} for name, label in GOOD.items()]
FIRST = "100.jpg#0r1e"
ANSWERS: list[tuple[str, object, str]] = [
    ("empty file", b"", r"ids without an answer: 100\.jpg#0r1e, .* \(5 in all\)"),
    ("nothing", {}, r"ids without an answer: 100\.jpg#0r1e, .* \(5 in all\)"),
    ("missing", {k: v for k, v in GOOD.items() if k != FIRST}, r"without an answer: 100\.jpg#0r1e \(1 in all\)"),
    ("surplus", GOOD | {"7.jpg#1r1e": "neutral"}, r"do not hold: 7\.jpg#1r1e \(1 in all\)"),
    ("doubled", [*LISTED, LISTED[0]], r"more than once: 100\.jpg#0r1e \(1 in all\)"),
    (
        "doubled name",
        json.dumps(GOOD)[:-1].encode() + f', "{FIRST}": "neutral"}}'.encode(),
        r"more than once in an object: 100\.jpg#0r1e \(1 in all\)",
    ),
    ("word", GOOD | {FIRST: "maybe"}, "'100.jpg#0r1e': 'maybe' is not one of contradiction, neutral, entailment; 1 "),
    ("number", GOOD | {FIRST: 2}, "2 is not one of contradiction"),
    ("null", GOOD | {FIRST: None}, "None is not one of"),
    ("list", GOOD | {FIRST: ["neutral"]}, "a list is not one of"),
    ("no id", [{"label": "neutral"}], r"\[0\]: the key 'pairID' is missing"),
    ("no label", [{"pairID": FIRST}], r"\[0\]: the key 'gold_label' is missing"),
    ("no record", [3], r"\[0\]: expected an object with 'pairID', found 3"),
    ("a number", 3, "expected an object, found 3"),
    ("cut", json.dumps(LISTED)[:-5].encode(), r"line 1, column \d+: not JSON"),
    ("bytes", b'{"\xff": 3}', "line 1: not UTF-8 text: byte 2 is 0xff"),
    ("nested", b"[" * 100_000, "nested too deeply"),
]


@pytest.mark.parametrize(("content", "line"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS])
def test_bad_answers_give_one_clear_line(root: Path, content: object, line: str) -> None:
    assert scored(root, GOOD)["count"] == 5
    assert scored(root, GOOD | {"102.jpg#0r1n": "neutral"})["count"] == 5  # it has no gold label
    with pytest.raises(BadData, match=line) as fault:
        scored(root, content)
    assert fault.value.code == 3
    assert "answers.json" in fault.value.wrong
    assert "\n" not in fault.value.wrong


# --- bad files ------------------------------------------------------------------------------------------


def test_what_is_not_here(task: SNLIVE, root: Path) -> None:
    with pytest.raises(BadData, match=r"no file .*snli_ve_test\.jsonl") as fault:
        task.examples("test")
    assert "github.com/necla-ml/SNLI-VE" in fault.value.todo
    with pytest.raises(Misuse, match="did you mean 'test'"):
        task.examples("tesst")
    with pytest.raises(Misuse, match="no scorer"):
        task.score({FIRST: "neutral"}, "dev", "soft")
    with pytest.raises(BadData, match="no layout"):
        SNLIVE(task.card.model_copy(update={"layout": "snli"}), root)
    with pytest.raises(Misuse, match="--annotations is missing"):
        SNLIVE.score_files(OfficialFiles(root / "answers.json"))
    with pytest.raises(BadData, match="that dev does not hold"):
        task.score({"nothing": "neutral"}, "dev")


FAULTS: list[tuple[str, Callable[[Rows], object], str]] = [
    ("empty", lambda r: r.clear(), "holds no pair with a gold label"),
    ("no gold labels", lambda r: [row.update(gold_label="-") for row in r], "holds no pair with a gold label"),
    ("twice", lambda r: r.append(r[0]), r"came before: 100\.jpg#0r1e \(1 in all\)"),
    ("twice without label", lambda r: r.append(r[-1]), r"came before: 102\.jpg#0r1n \(1 in all\)"),
    ("label", lambda r: r[1].update(gold_label="Neutral"), "line 2: the gold label should be one of .*'Neutral'"),
    ("no label", lambda r: r[1].pop("gold_label"), "line 2: the key 'gold_label' is missing"),
    ("no id", lambda r: r[1].update(pairID=3), "line 2: 'pairID' should be a text, found 3"),
    ("no hypothesis", lambda r: r[1].pop("sentence2"), "line 2: the key 'sentence2' is missing"),
    ("image", lambda r: r[1].update(Flickr30K_ID=100), "line 2: 'Flickr30K_ID' should be a text, found 100"),
]


@pytest.mark.parametrize(("spoil", "line"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_bad_files_give_one_clear_line(root: Path, spoil: Callable[[Rows], object], line: str) -> None:
    rows = rows_of()
    spoil(rows)
    path = write_lines(root / "snli-ve" / "snli_ve_dev.jsonl", rows)
    with pytest.raises(BadData, match=line) as fault:
        SNLIVE(find(DatasetCard, "snli-ve"), root).examples("dev")
    assert str(path) in fault.value.wrong
    assert "\n" not in fault.value.wrong


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "holds no pair"),
        (b"nothing,known\n1,2\n", "line 1, column 1: not JSON"),
        (b"pairID,hypothesis,gold_label\n1.jpg#0,a\n", "line 2: 2 columns where the header has 3"),
        (b"pairID,hypothesis\n1.jpg#0,a\n", "line 2: the key 'gold_label' is missing"),
        (b'pairID,hypothesis,gold_label\n1.jpg#0,"a,neutral\n', "not a table: unexpected end of data"),
        (b"pairID,hypothesis,gold_label\n1.jpg#0,\xff,neutral\n", "not UTF-8 text: byte 37"),
        (b'[{"image": "1", "sentence": "a", "label": "x"}]', r"\[0\]: the gold label should be one of"),
    ],
)
def test_contents_that_are_no_annotations(tmp_path: Path, content: bytes, line: str) -> None:
    (tmp_path / "dev").write_bytes(content)
    with pytest.raises(BadData, match=line):
        read_pairs(tmp_path / "dev")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="cannot be read"):
        read_pairs(tmp_path)


ANYTHING = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.sampled_from([*LABELS, "-"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["pairID", "label"]), inner),
    max_leaves=4,
)


@ANYTHING
@given(row=st.integers(0, 3), key=st.sampled_from(list(rows_of()[0])), value=JSON, drop=st.booleans())
def test_no_change_of_a_record_is_dropped(tmp_path: Path, row: int, key: str, value: object, drop: bool) -> None:
    rows = rows_of(2)
    if drop:
        rows[row].pop(key)
    else:
        rows[row][key] = value
    path = write_lines(tmp_path / "dev.jsonl", rows)
    fault = ""
    try:
        found = read_pairs(path)
    except BadData as error:
        fault = error.wrong
    assert "\n" not in fault
    assert fault or len(found.labelled) + len(found.unlabelled) == 4


@ANYTHING
@given(value=JSON | st.lists(JSON, max_size=3) | st.dictionaries(st.text(max_size=4), JSON, max_size=3))
def test_any_json_is_answers_or_bad_data(value: object) -> None:
    fault = ""
    try:
        found = take_answers(json.dumps(value).encode(), "answers")
    except BadData as error:
        fault = error.wrong
    assert "\n" not in fault
    assert fault or set(found.values()) <= set(LABELS)


@ANYTHING
@given(data=st.data(), cut=st.integers(0, 900), content=st.binary(max_size=30), table=st.booleans())
def test_no_bytes_end_in_anything_but_bad_data(
    tmp_path: Path, data: st.DataObject, cut: int, content: bytes, table: bool
) -> None:
    rows = rows_of(2)
    annotations, answers = write_lines(tmp_path / "dev", rows), tmp_path / "answers.json"
    if table:
        lines = [f"{row['pairID']},{row['sentence2']},{row['gold_label']}" for row in rows]
        annotations.write_text("\n".join(["pairID,hypothesis,label", *lines]))
    answers.write_text(json.dumps({row["pairID"]: "neutral" for row in rows}))
    path = data.draw(st.sampled_from([annotations, answers]))
    path.write_bytes(path.read_bytes()[:cut] + content + path.read_bytes()[cut:])
    fault = ""
    try:
        found = SNLIVE.score_files(OfficialFiles(answers, annotations=annotations))
    except BadData as error:
        fault = error.wrong
    assert "\n" not in fault
    assert fault or [found["count"], found["without_gold_label"]] == [3, 1]

"""NLVR2 and its contrast sets: official files and lists of others, scores, answer files, and what bad files lead to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlbench.cards import DataFile, DatasetCard, Split
from vlbench.catalog import find
from vlbench.tasks.base import OfficialFiles
from vlbench.tasks.nlvr2 import NLVR2
from vlbench.tasks.nlvr_files import read_pairs
from vlbench.types import BadData, Fault, Misuse

SAMPLES = Path(__file__).parents[1] / "official" / "samples" / "nlvr2"
Rows = list[dict[str, Any]]


def pair(identifier: str, label: object = "True", sentence: str = "There are two dogs.", **more: Any) -> dict[str, Any]:
    return {"sentence": sentence, "label": label, "identifier": identifier, "left_url": "", "right_url": ""} | more


def dev(sets: int = 3) -> Rows:
    """Two sentences a set, each with two pairs, one of which makes it false."""
    return [
        pair(f"dev-{number}-{place}-{sentence}", str(place == sentence), f"There are {number + sentence} dogs.")
        for number in range(sets)
        for sentence in (0, 1)
        for place in (0, 1)
    ]


def contrast() -> Rows:
    return [pair(f"test1-{group}-0-1-{at}", at == 1) for group in (7, 8) for at in (1, 2, 3)]


def write_lines(path: Path, rows: Rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with small files in the official layout."""
    folder = tmp_path / "nlvr2"
    write_lines(folder / "data" / "dev.json", dev())
    write_lines(folder / "data" / "train.json", [pair("train-5-0-0", directory="41"), pair("train-5-1-0", "False")])
    write_lines(folder / "contrast_set_nlvr2.jsonl", contrast())
    return tmp_path


@pytest.fixture
def task(root: Path) -> NLVR2:
    return NLVR2(find(DatasetCard, "nlvr2"), root)


# --- official files and others' lists -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("split", "count", "sentences", "true"),
    [("dev", 50, 16, 25), ("test1", 50, 15, 26), ("test2", 20, 6, 10), ("train", 10, 3, 6),
     ("dev-balanced", 20, 7, 10), ("dev-unbalanced", 20, 10, 10)],
)  # fmt: skip
def test_samples_of_the_official_files(split: str, count: int, sentences: int, true: int) -> None:
    task = NLVR2(find(DatasetCard, "nlvr2").model_copy(update={"folder": ""}), SAMPLES)
    examples = task.examples(split)
    scores = task.score({example.id: str(example.answer) for example in examples}, split)
    assert [scores[name].value for name in ("accuracy", "consistency")] == [100, 100]
    assert [scores[name].count for name in ("accuracy", "consistency")] == [count, sentences]
    assert [example.answer for example in examples].count("True") == true
    assert all(example.images[0].startswith(split.split("-")[0]) for example in examples)


def test_what_an_example_is(task: NLVR2) -> None:
    first = task.examples("dev")[0]
    assert (first.id, first.answer, first.texts) == ("dev-0-0-0", "True", ("There are 0 dogs.",))
    assert first.images == ("dev-0-0-img0", "dev-0-0-img1")
    assert task.examples("contrast")[1].images == ("test1-7-0-1-2-img0", "test1-7-0-1-2-img1")
    assert task.answers == ("False", "True")
    assert [task.target(example) for example in task.examples("contrast")[:2]] == [{1: 1.0}, {0: 1.0}]


@pytest.mark.parametrize("name", ["lxmert_valid.json", "albef_nlvr_dev.json"])
def test_lists_of_lxmert_and_albef_say_the_same(name: str) -> None:
    official = list(read_pairs(SAMPLES / "dev.json").values())
    listed = list(read_pairs(SAMPLES / name).values())
    assert len(listed) == (40 if name.startswith("lxmert") else 20)
    for ours, theirs in zip(listed, official, strict=False):
        assert (ours.sentence, ours.label, ours.images) == (theirs.sentence, theirs.label, theirs.images)
    # ALBEF's list names no sentences, but the same ones belong together
    units = {ours.unit: theirs.unit for ours, theirs in zip(listed, official, strict=False)}
    assert len(set(units.values())) == len(units)
    assert len(units) == len({theirs.unit for theirs in official[: len(listed)]})


def test_of_several_files_the_first_that_is_here_is_read(task: NLVR2, root: Path) -> None:
    shutil.copy(SAMPLES / "lxmert_valid.json", root / "nlvr2" / "valid.json")
    assert len(NLVR2(task.card, root).examples("dev")) == 12
    (root / "nlvr2" / "data" / "dev.json").rename(root / "nlvr2" / "dev.json")
    assert len(NLVR2(task.card, root).examples("dev")) == 12
    (root / "nlvr2" / "dev.json").unlink()
    assert len(NLVR2(task.card, root).examples("dev")) == 40
    assert list(NLVR2(task.card, root).files("dev")) == ["valid.json"]


def test_images_in_numbered_folders_or_without(task: NLVR2, root: Path) -> None:
    assert task.image_files("train") == {}
    for name in ("images/train/41/train-5-0-img0.png", "images/train/train-5-0-img1.png", "images/train/other.png"):
        path = root / "nlvr2" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = task.image_files("train")
    assert {key: path.parent.name for key, path in found.items()} == {
        "train-5-0-img0": "41",
        "train-5-0-img1": "train",
    }
    for name in ("test1-7-0-1-1-img0.png", "test1-7-0-1-1-img1.jpg", ".test1-7-0-1-2-img0.png"):
        (root / "nlvr2" / "contrast").mkdir(exist_ok=True)
        (root / "nlvr2" / "contrast" / name).touch()
    assert set(task.image_files("contrast")) == {"test1-7-0-1-1-img0", "test1-7-0-1-1-img1"}


# --- scores ---------------------------------------------------------------------------------------------


def test_accuracy_first_then_consistency(task: NLVR2) -> None:
    given = {example.id: "True" for example in task.examples("dev")}
    scores = task.score(given | {"dev-0-1-0": "False", "dev-1-0-0": "False"}, "dev")
    assert list(scores) == ["accuracy", "consistency"]
    assert scores["accuracy"].value == pytest.approx(50)
    assert scores["consistency"].value == pytest.approx(100 / 6)
    assert [score.count for score in scores.values()] == [12, 6]
    for score in scores.values():
        assert score.low is not None
        assert score.high is not None
        assert score.low < score.value < score.high
        assert score.scorer == "official"


def test_contrast_sets_are_consistent_by_group(task: NLVR2) -> None:
    answers = {"test1-7-0-1-1": 1, "test1-7-0-1-2": 0, "test1-7-0-1-3": 0}
    given = answers | {one.replace("-7-", "-8-"): 0 for one in answers}
    scores = task.score(given, "contrast")
    assert [(round(one.value, 4), one.count) for one in scores.values()] == [(83.3333, 6), (50, 2)]
    assert {one.scorer for one in scores.values()} == {"contrast-set definition"}


def test_a_run_may_answer_some_only(task: NLVR2) -> None:
    scores = task.score({"dev-0-0-0": "True", "dev-1-0-0": "False"}, "dev")
    assert [(one.value, one.count) for one in scores.values()] == [(50, 2), (50, 2)]


def test_subsets_skills_and_phenomena_have_scores(task: NLVR2, root: Path) -> None:
    rows = dev()
    (root / "nlvr2" / "skills.json").write_text(json.dumps({row["identifier"]: "count" for row in rows}))
    write_lines(root / "nlvr2" / "data" / "balanced" / "balanced_dev.json", rows[:4])
    write_lines(root / "nlvr2" / "data" / "unbalanced" / "unbalanced_dev.json", rows[4:10])
    (root / "nlvr2" / "util").mkdir()
    text = "There are 1 dogs.\n* hard cardinality\n* negation\n\nThere are 2 dogs.\n\nnot asked\n* logic\n"
    (root / "nlvr2" / "util" / "annotated_dev_examples.txt").write_text(text)
    fresh = NLVR2(task.card, root)
    scores = fresh.score({row["identifier"]: row["label"] for row in rows}, "dev")
    assert {name: score.count for name, score in scores.items()} == {
        "accuracy": 12, "consistency": 6, "accuracy_balanced": 4, "accuracy_count": 12,
        "accuracy_hard_cardinality": 4, "accuracy_negation": 4, "accuracy_unbalanced": 6,
    }  # fmt: skip
    assert list(scores)[:2] == ["accuracy", "consistency"]
    part = NLVR2(task.card, root).score({row["identifier"]: row["label"] for row in rows[:4]}, "dev-balanced")
    assert part.keys() == scores.keys() - {"accuracy_unbalanced"}
    assert set(fresh.files("dev")) == {
        "dev.json", "balanced_dev.json", "unbalanced_dev.json", "annotated_dev_examples.txt", "skills.json",
    }  # fmt: skip


def test_controls(task: NLVR2) -> None:
    controls = task.controls("dev", ["train"])
    assert set(controls["prior"].values()) == {"False"}
    assert task.score(controls["question-only"], "dev")["accuracy"].value == 50


def test_hidden_labels(root: Path) -> None:
    card = find(DatasetCard, "nlvr2")
    secret = card.model_copy(
        update={"splits": card.splits | {"dev": card.splits["dev"].model_copy(update={"public": False})}}
    )
    rows = [{key: value for key, value in row.items() if key != "label"} for row in dev()]
    write_lines(root / "nlvr2" / "data" / "dev.json", rows)
    task = NLVR2(secret, root)
    assert task.examples("dev")[0].answer is None
    with pytest.raises(Fault, match="not public"):
        task.score({"dev-0-0-0": "True"}, "dev")
    with pytest.raises(BadData, match=r"line 1: the key 'label' is missing"):
        NLVR2(card, root).examples("dev")


# --- answer files ---------------------------------------------------------------------------------------


def scored(root: Path, content: bytes | str, annotations: str = "data/dev.json") -> dict[str, object]:
    path = root / "answers.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return NLVR2.score_files(OfficialFiles(path, annotations=root / "nlvr2" / annotations))


def test_the_answer_file_is_the_official_one(task: NLVR2, root: Path) -> None:
    given = {example.id: place % 2 for place, example in enumerate(task.examples("dev"))}
    content = task.answers_content(given, "dev")
    assert content.startswith(b"dev-0-0-0,False\ndev-0-1-0,True\n")
    assert task.answers_suffix == "csv"
    found, scores = scored(root, content), task.score(given, "dev")
    assert found["accuracy"] == pytest.approx(scores["accuracy"].value)
    assert found["consistency"] == pytest.approx(scores["consistency"].value)
    assert [found[key] for key in ("count", "sentences", "scorer")] == [12, 6, "official"]
    assert task.check_upload(content, "dev") == []


def test_a_sample_is_scored(root: Path) -> None:
    found = NLVR2.score_files(OfficialFiles(SAMPLES / "predictions.csv", annotations=SAMPLES / "dev.json"))
    assert found == {"accuracy": 100, "consistency": 100, "count": 50, "sentences": 16, "scorer": "official"}


def test_words_of_predictions(root: Path) -> None:
    lines = [f"{row['identifier']}, {row['label'].upper()} \r\n" for row in dev()]
    assert scored(root, "".join(lines) + "\n\n")["accuracy"] == 100
    digits = "".join(f"{row['identifier']},{int(row['label'])}\n" for row in contrast())
    found = scored(root, digits, "contrast_set_nlvr2.jsonl")
    assert found == {"accuracy": 100, "consistency": 100, "count": 6, "groups": 2, "scorer": "contrast-set definition"}
    with pytest.raises(BadData, match="line 1: '1' is neither true nor false; 12 lines are so"):
        scored(root, "".join(f"{row['identifier']},1\n" for row in dev()))


GOOD = "".join(f"{row['identifier']},{row['label']}\n" for row in dev())
ANSWERS: list[tuple[str, Callable[[str], str | bytes], str]] = [
    ("empty", lambda t: "", r"ids without an answer: dev-0-0-0, .*, \.\.\. \(12 in all\)"),
    ("missing", lambda t: t.partition("\n")[2], r"without an answer: dev-0-0-0 \(1 in all\)"),
    ("surplus", lambda t: t + "dev-9-0-0,True\n", r"do not hold: dev-9-0-0 \(1 in all\)"),
    ("both", lambda t: t.replace("dev-1-0-0", "test1-1-0-0"), r"answer: dev-1-0-0 \(1 .*; .* test1-1-0-0 \(1 in all\)"),
    ("doubled", lambda t: t + "dev-0-0-0,True\n", r"more than once: dev-0-0-0 \(1 in all\)"),
    ("word", lambda t: t.replace("True", "yes", 1), "line 1: 'yes' is neither true nor false; 1 lines are so"),
    ("one field", lambda t: t.replace(",", " ", 1), "line 1: expected two fields, found 'dev-0-0-0 True'"),
    ("three fields", lambda t: t.replace(",", ",0.7,", 1), "line 1: expected two fields"),
    ("no word", lambda t: t.replace("True", "", 1), "line 1: expected two fields"),
    ("header", lambda t: "identifier,prediction\n" + t, "line 1: 'prediction' is neither true nor false"),
    ("json", lambda t: json.dumps({"dev-0-0-0": True}), "line 1: expected two fields"),
    ("bytes", lambda t: b"dev-0-0-0,Tr\xfce\n", "line 1: not UTF-8 text: byte 12 is 0xfc"),
]


@pytest.mark.parametrize(("spoil", "line"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS])
def test_bad_answers_give_one_clear_line(
    root: Path, task: NLVR2, spoil: Callable[[str], str | bytes], line: str
) -> None:
    content = spoil(GOOD)
    with pytest.raises(BadData, match=line) as fault:
        scored(root, content)
    assert fault.value.code == 3
    assert "answers.csv" in fault.value.wrong
    assert "\n" not in fault.value.wrong
    assert task.check_upload(content if isinstance(content, bytes) else content.encode(), "dev")


def test_what_is_needed_to_score(root: Path) -> None:
    with pytest.raises(Misuse, match="--annotations is missing"):
        NLVR2.score_files(OfficialFiles(root / "answers.csv"))
    with pytest.raises(BadData, match=r"no file .*answers\.csv"):
        NLVR2.score_files(OfficialFiles(root / "answers.csv", annotations=root / "nlvr2/data/dev.json"))


# --- bad files ------------------------------------------------------------------------------------------


def test_what_is_not_here(task: NLVR2, root: Path) -> None:
    with pytest.raises(BadData, match=r"no file .*test2\.json") as fault:
        task.examples("test2")
    assert "github.com/lil-lab/nlvr" in fault.value.todo
    assert str(root / "nlvr2") in fault.value.todo
    with pytest.raises(Misuse, match="did you mean 'test1'"):
        task.examples("test11")
    with pytest.raises(Misuse, match="no scorer 'offical'"):
        task.score({"dev-0-0-0": "True"}, "dev", "offical")
    with pytest.raises(BadData, match="no layout"):
        NLVR2(task.card.model_copy(update={"layout": "nlvr3"}), root)
    none = task.card.model_copy(update={"file": ()})
    with pytest.raises(BadData, match="names no file of annotations for the split dev"):
        NLVR2(none, root).examples("dev")


FAULTS: list[tuple[str, Callable[[Rows], object], str]] = [
    ("empty", lambda r: r.clear(), "holds no example"),
    ("twice", lambda r: r.append(r[3]), r"came before: dev-0-1-1 \(1 in all\)"),
    (
        "another split",
        lambda r: [row.update(identifier=row["identifier"].replace("dev", "test1")) for row in r],
        r"not of the split dev: test1-0-0-0, .*, \.\.\. \(12 in all\)",
    ),
    (
        "contrast sets",
        lambda r: r.__setitem__(slice(None), contrast()),
        r"not of the split dev: test1-7-0-1-1, .* \(6 in all\)",
    ),
    ("mixed", lambda r: r.append(contrast()[0]), r"in one file: test1-7-0-1-1 \(1 in all\)"),
    ("identifier", lambda r: r[1].update(identifier="dev-0-0"), "line 2: 'identifier' should be SPLIT-SET-PAIR"),
    ("comma", lambda r: r[1].update(identifier="a,b-0-0-0"), "line 2: 'identifier' should be SPLIT-SET-PAIR"),
    ("number", lambda r: r[1].update(identifier=7), "line 2: 'identifier' should be a text, found 7"),
    ("no identifier", lambda r: r[1].pop("identifier"), "line 2: the key 'identifier' is missing"),
    ("no sentence", lambda r: r[0].pop("sentence"), "line 1: the key 'sentence' is missing"),
    ("sentence", lambda r: r[0].update(sentence=["a"]), "line 1: 'sentence' should be a text, found a list"),
    ("no label", lambda r: r[2].pop("label"), "line 3: the key 'label' is missing"),
    ("label", lambda r: r[2].update(label="yes"), "line 3: 'label' should be true or false, found 'yes'"),
    ("null label", lambda r: r[2].update(label=None), "line 3: 'label' should be true or false, found None"),
    ("number label", lambda r: r[2].update(label=2), "line 3: 'label' should be true or false, found 2"),
    ("text digit", lambda r: r[2].update(label="1"), "line 3: 'label' should be true or false, found '1'"),
]


@pytest.mark.parametrize(("spoil", "line"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_bad_files_give_one_clear_line(root: Path, spoil: Callable[[Rows], object], line: str) -> None:
    rows = dev()
    spoil(rows)
    path = write_lines(root / "nlvr2" / "data" / "dev.json", rows)
    with pytest.raises(BadData, match=line) as fault:
        NLVR2(find(DatasetCard, "nlvr2"), root).examples("dev")
    assert str(path) in fault.value.wrong
    assert "\n" not in fault.value.wrong


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b'{"identifier": "dev-0-0-0",\n', r"line 1, column \d+: not JSON"),
        (b'{"a": 1}\n{"identifier"\n', "line 1: the key 'identifier' is missing"),
        (b"\n\n3\n", "line 3: expected an object with 'identifier', found 3"),
        (b"[3]", r"\[0\]: expected an object with 'identifier', found 3"),
        (b'[{"images": ["dev-1-0-img0.png"]}]', r"\[0\]: 'images' should be two texts, found a list of 1"),
        (b'[{"images": ["a.png", "b.png"]}]', r"\[0\]: 'images' should be SPLIT-SET-PAIR-img0 and -img1"),
        (b"[", r"line 1, column 2: Expecting value"),
        (b'{"identifier": "\xe9"}', "line 1: not UTF-8 text: byte 16 is 0xe9"),
        (b'{"a":' * 100_000, "line 1: not readable JSON: nested too deeply"),
        (b'{"identifier": ' + b"9" * 5000 + b"}", "line 1: not readable JSON"),
    ],
)
def test_contents_that_are_no_annotations(root: Path, content: bytes, line: str) -> None:
    (root / "nlvr2" / "data" / "dev.json").write_bytes(content)
    with pytest.raises(BadData, match=line):
        NLVR2(find(DatasetCard, "nlvr2"), root).examples("dev")


def test_a_contrast_split_takes_contrast_sets_only(root: Path) -> None:
    write_lines(root / "nlvr2" / "contrast_set_nlvr2.jsonl", dev())
    with pytest.raises(BadData, match="not of the split contrast"):
        NLVR2(find(DatasetCard, "nlvr2"), root).examples("contrast")


def test_faulty_files_of_a_breakdown(root: Path) -> None:
    card = find(DatasetCard, "nlvr2")
    path = root / "nlvr2" / "annotated_dev_examples.txt"
    for content, line in ((b"A dog.\nnegation\n", "expected '. PHENOMENON' below 'A dog.'"), (b"\n", "no sentence"),
                          (b"A dog\xff", "not UTF-8 text: byte 5")):  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(BadData, match=line):
            NLVR2(card, root).examples("dev")
    path.unlink()
    write_lines(root / "nlvr2" / "balanced_dev.json", [pair("test1-0-0-0")])
    with pytest.raises(BadData, match=r"balanced_dev\.json: examples that are not of the split dev: test1-0-0-0"):
        NLVR2(card, root).examples("dev")


@pytest.mark.parametrize(
    ("name", "begins", "fits"),
    [("mine.txt", "dev", True), ("mine.txt", "mine", True), ("mine.txt", "train", False), ("dev.json", "dev", True),
     ("dev.json", "test1", False), ("nlvr_dev.json", "mine", False)],
)  # fmt: skip
def test_a_card_of_ones_own_names_files_and_splits(root: Path, name: str, begins: str, fits: bool) -> None:
    card = find(DatasetCard, "nlvr2")
    file, splits = DataFile(name=name, role="annotations", split="val"), {"val": Split(), "train": Split()}
    mine = card.model_copy(update={"file": (file,), "splits": splits})
    rows = [row | {"identifier": row["identifier"].replace("dev", begins)} for row in dev(1)]
    write_lines(root / "nlvr2" / name, rows)
    task = NLVR2(mine, root)
    if fits:
        assert len(task.examples("val")) == 4
        return
    with pytest.raises(BadData, match="not of the split val"):
        task.examples("val")


# --- anything at all ------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**13) | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["images", "img0", "label"]), inner),
    max_leaves=4,
)
ANYTHING = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@ANYTHING
@given(
    row=st.integers(0, 3), key=st.sampled_from([*pair("a"), "images", "img0", "sent"]), value=JSON, drop=st.booleans()
)
def test_no_change_of_a_record_is_dropped(tmp_path: Path, row: int, key: str, value: object, drop: bool) -> None:
    rows = dev(1)
    if drop:
        rows[row].pop(key, None)
    else:
        rows[row][key] = value
    path = write_lines(tmp_path / "dev.json", rows)
    fault = ""
    try:
        found = read_pairs(path)
    except BadData as error:
        fault = error.wrong
    assert "\n" not in fault
    assert fault or len(found) == 4


@ANYTHING
@given(data=st.data(), cut=st.integers(0, 700), content=st.binary(max_size=30))
def test_no_bytes_end_in_anything_but_bad_data(tmp_path: Path, data: st.DataObject, cut: int, content: bytes) -> None:
    annotations = write_lines(tmp_path / "dev.json", dev(1))
    answers = tmp_path / "answers.csv"
    answers.write_text("".join(f"{row['identifier']},{row['label']}\n" for row in dev(1)))
    path = data.draw(st.sampled_from([annotations, answers]))
    path.write_bytes(path.read_bytes()[:cut] + content + path.read_bytes()[cut:])
    fault = ""
    try:
        found = NLVR2.score_files(OfficialFiles(answers, annotations=annotations))
    except BadData as error:
        fault = error.wrong
    assert "\n" not in fault
    assert fault or found["count"] == 4

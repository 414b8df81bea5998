"""The VQA task: both layouts, scores, controls, the official files, and what bad files lead to."""

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
from vlbench.record import Score
from vlbench.tasks.base import OfficialFiles, Task
from vlbench.tasks.reading import read_answers
from vlbench.tasks.vqa import VQA
from vlbench.types import BadData, Example, Fault, Misuse

SAMPLES = Path(__file__).parents[1] / "official" / "samples"
WORDS = ["red", "yes", "2", "no"]


def question(image: int, number: int, text: str = "What is this?") -> dict[str, Any]:
    return {"image_id": image, "question": text, "question_id": image * 1000 + number}


def annotation(image: int, number: int, answers: list[str], kind: str = "other") -> dict[str, Any]:
    return {
        "question_type": "what is",
        "multiple_choice_answer": max(answers, key=answers.count),
        "answers": [
            {"answer": answer, "answer_confidence": "yes", "answer_id": at} for at, answer in enumerate(answers, 1)
        ],
        "image_id": image,
        "answer_type": kind,
        "question_id": image * 1000 + number,
    }


def write(path: Path, value: object) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def split_files(subtype: str, images: range) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two questions on each image; nine of ten people agree on the first, all ten on the second."""
    rows = [(image, number, WORDS[(image + number) % 4]) for image in images for number in (0, 1)]
    kinds = {"red": "other", "yes": "yes/no", "2": "number", "no": "yes/no"}
    questions = [question(image, number, f"is it {word} or {image}?") for image, number, word in rows]
    annotations = [
        annotation(image, number, [word] * (9 + number) + ["odd"] * (1 - number), kinds[word])
        for image, number, word in rows
    ]
    return (
        {"data_subtype": subtype, "questions": questions},
        {"data_subtype": subtype, "annotations": annotations},
    )


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """A data root with small files in the official layout."""
    folder = tmp_path / "vqa-v2"
    folder.mkdir()
    for name, images in (("train2014", range(1, 21)), ("val2014", range(21, 31))):
        questions, annotations = split_files(name, images)
        write(folder / f"v2_OpenEnded_mscoco_{name}_questions.json", questions)
        write(folder / f"v2_mscoco_{name}_annotations.json", annotations)
    test, _ = split_files("test-dev2015", range(31, 34))
    write(folder / "v2_OpenEnded_mscoco_test-dev2015_questions.json", test)
    write(folder / "minival.json", [{"img_id": "COCO_val2014_000000000021", "question_id": 21000, "label": {}}])
    return tmp_path


@pytest.fixture
def vqa(official: Path) -> VQA:
    return VQA(find(DatasetCard, "vqa-v2"), official)


@pytest.fixture(scope="module")
def easy() -> VQA:
    return VQA(find(DatasetCard, "easy-vqa"), Path("data"))


# --- easy-VQA -------------------------------------------------------------------------------------------


def test_easy_holds_what_its_card_says(easy: VQA) -> None:
    for split, card in easy.card.splits.items():
        examples = easy.examples(split)
        assert len(examples) == card.examples
        assert len(easy.image_files(split)) == card.images
        assert [example.id for example in examples] == [str(at) for at in range(card.examples)]
        assert all(path.is_file() for path in (*easy.files(split).values(), *easy.image_files(split).values()))
    assert len(easy.answers) == 13
    assert not easy.image_files("train").keys() & easy.image_files("test").keys()


def test_easy_controls(easy: VQA) -> None:
    controls = easy.controls("test", ["train"])
    main = {name: easy.score(given, "test")["accuracy"] for name, given in controls.items()}
    assert main["prior"].value == pytest.approx(37.3, abs=0.1)
    assert main["question-only"].value == pytest.approx(67.0, abs=0.1)
    assert all(score.count == 9673 and score.scorer == "exact-match" for score in main.values())


def test_easy_scores_by_kind_and_by_any_scorer(easy: VQA) -> None:
    right = {example.id: example.answer for example in easy.examples("test")}
    for scorer in ("", "official-2021", "official-2015", "always-normalise", "soft"):
        scores = easy.score(right, "test", scorer)  # type: ignore[arg-type]
        assert list(scores) == ["accuracy", "accuracy_color", "accuracy_shape", "accuracy_yes_no"]
        assert all(score.value == 100 and score.low is not None and score.low < 100 for score in scores.values())
    kinds = [scores[name].count for name in list(scores)[1:]]
    assert sum(kinds) == scores["accuracy"].count == 9673


def test_an_answer_may_be_given_by_its_place(easy: VQA) -> None:
    example = easy.examples("test")[0]
    (place,) = easy.target(example)
    assert easy.score({example.id: place}, "test")["accuracy"].value == 100
    assert easy.answers_file({example.id: place}, "test") == [{"question_id": 0, "answer": example.answer}]
    with pytest.raises(BadData, match="13"):
        easy.score({example.id: 13}, "test")


def test_easy_without_its_package() -> None:
    card = find(DatasetCard, "easy-vqa").model_copy(update={"package": "no_such_package"})
    with pytest.raises(Fault, match="not here") as fault:
        VQA(card, Path("data")).examples("train")
    assert "pip install easy-vqa" in str(fault.value)


# --- official files -------------------------------------------------------------------------------------


def test_official_examples(vqa: VQA) -> None:
    first = vqa.examples("val")[0]
    assert first.id == "21000"
    assert first.images == ("COCO_val2014_000000000021",)
    assert first.answer == {"yes": 1.0, "odd": 0.3}
    assert vqa.examples("test-dev")[0].images == ("COCO_test2015_000000000031",)
    assert vqa.examples("test-dev")[0].answer is None
    assert vqa.answers == ["2", "no", "red", "yes"]
    assert vqa.target(first) == {3: 1.0}


def test_official_perfect_and_worst(vqa: VQA) -> None:
    best = {
        example.id: max(vqa.weights(example).items(), key=lambda pair: pair[1])[0] for example in vqa.examples("val")
    }
    scores = vqa.score(best, "val")
    assert list(scores) == ["accuracy", "accuracy_number", "accuracy_other", "accuracy_yes_no"]
    assert scores["accuracy"].value == 100
    assert scores["accuracy"].scorer == "official-2021"
    odd = vqa.score(dict.fromkeys(best, "odd"), "val")
    assert odd["accuracy"].value == pytest.approx(15)  # one of ten on every other question
    half = dict(list(best.items())[:5])
    assert vqa.score(half, "val")["accuracy"].count == 5


def test_local_splits(vqa: VQA, official: Path) -> None:
    assert [example.id for example in vqa.examples("minival")] == ["21000"]
    assert len(vqa.examples("nominival")) == 19
    assert set(vqa.files("minival")) == {
        "v2_OpenEnded_mscoco_val2014_questions.json",
        "v2_mscoco_val2014_annotations.json",
        "minival.json",
    }
    (official / "vqa-v2/minival.json").unlink()
    write(official / "vqa-v2/minival_image_ids.txt", "21\n000000000022\n")
    by_image = VQA(vqa.card, official)
    assert [e.id for e in by_image.examples("minival")] == ["21000", "21001", "22000", "22001"]
    assert len(by_image.examples("nominival")) == 16
    assert "minival_image_ids.txt" in by_image.files("minival")


def test_controls_do_not_need_to_know_the_question(vqa: VQA) -> None:
    given = vqa.controls("val", ["train"])
    # "is it red or 21?" was never asked in train, but questions that begin with "is it red" were.
    texts = {example.id: example.texts[0] for example in vqa.examples("val")}
    assert all(answer == texts[identity].split()[2] for identity, answer in given["question-only"].items())
    assert len(set(given["prior"].values())) == 1
    assert given["prior"].keys() == given["question-only"].keys() == texts.keys()


def test_images_at_hand(vqa: VQA, official: Path) -> None:
    assert vqa.image_files("val") == {}
    (official / "vqa-v2/val2014").mkdir()
    path = write(official / "vqa-v2/val2014/COCO_val2014_000000000021.jpg", "")
    assert vqa.image_files("minival") == {"COCO_val2014_000000000021": path}


def test_what_cannot_be_scored(vqa: VQA) -> None:
    with pytest.raises(Fault, match="not public"):
        vqa.score({"31000": "yes"}, "test-dev")
    with pytest.raises(Misuse, match="did you mean 'val'"):
        vqa.examples("vall")
    with pytest.raises(Misuse, match="no scorer 'exact-match'"):
        vqa.score({"21000": "yes"}, "val", "exact-match")
    with pytest.raises(BadData, match="1 ids that val does not hold"):
        vqa.score({"21000": "yes", "5": "yes"}, "val")
    with pytest.raises(BadData, match="no answer"):
        vqa.score({}, "val")


def test_answers_file_is_the_official_one(vqa: VQA, official: Path) -> None:
    given = {example.id: "yes" for example in vqa.examples("val")}
    answers = write(official / "answers.json", vqa.answers_file(given, "val"))
    folder = official / "vqa-v2"
    questions, people = "v2_OpenEnded_mscoco_val2014_questions.json", "v2_mscoco_val2014_annotations.json"
    found = VQA.score_files(OfficialFiles(answers, folder / questions, folder / people))
    assert found["overall"] == round(vqa.score(given, "val")["accuracy"].value, 2)
    assert found["count"] == 20
    assert found["scorer"] == "official-2021"
    assert found["per_question_type"] == {"what is": found["overall"]}
    assert set(found["per_answer_type"]) == {"other", "yes/no", "number"}  # type: ignore[call-overload]


def test_samples_of_the_official_files(tmp_path: Path) -> None:
    """The sample has files of train and test-dev; those of train stand for val, too."""
    folder = Path(shutil.copytree(SAMPLES / "vqa_v2", tmp_path / "vqa-v2"))
    for name in ("v2_OpenEnded_mscoco_{}_questions.json", "v2_mscoco_{}_annotations.json"):
        content = (folder / name.format("train2014")).read_text()
        write(folder / name.format("val2014"), content.replace("train2014", "val2014"))
    task = VQA(find(DatasetCard, "vqa-v2").model_copy(update={"answer_count": 2}), tmp_path)
    assert [len(task.examples(split)) for split in ("train", "val", "test-dev")] == [35, 35, 12]
    first = task.examples("train")[0]
    assert (first.id, first.texts, first.answer) == ("132417000", ("Is there a dog in the picture?",), {"no": 1.0})
    assert {example.answer for example in task.examples("test-dev")} == {None}
    assert {"no", "yes", "blue"} <= set(task.answers)
    questions, annotations = (task.files("train")[name] for name in sorted(task.files("train")))
    results = folder / "vqa_OpenEnded_mscoco_train2014_example_results.json"
    found = VQA.score_files(OfficialFiles(results, questions, annotations))
    assert found["count"] == 35
    kinds = (folder / "mscoco_question_types.txt").read_text().splitlines()
    assert set(found["per_question_type"]) <= set(kinds)  # type: ignore[call-overload]
    listed = json.loads((folder / "lxmert_minival.json").read_bytes())
    write(folder / "minival.json", listed)
    with pytest.raises(BadData, match=r"questions that val does not hold: 458752000 \(1 in all\)"):
        task.examples("minival")  # the one real record is of another image
    write(folder / "minival.json", listed[1:9])
    whole = VQA(task.card, tmp_path)
    assert [len(whole.examples(split)) for split in ("minival", "nominival")] == [8, 27]


# --- bad files ------------------------------------------------------------------------------------------


Files = dict[str, Any]


@pytest.fixture
def good(tmp_path: Path) -> Files:
    questions, annotations = split_files("val2014", range(1, 8))
    answers = [{"question_id": row["question_id"], "answer": "yes"} for row in questions["questions"]]
    return {"questions": questions, "annotations": annotations, "answers": answers}


def run(folder: Path, files: Files, **options: Any) -> dict[str, object]:
    for name in ("questions", "annotations", "answers"):
        write(folder / f"{name}.json", files[name])
    return _score_files(folder, **options)


def _score_files(folder: Path, **options: Any) -> dict[str, object]:
    names = (folder / f"{name}.json" for name in ("answers", "questions", "annotations"))
    return VQA.score_files(OfficialFiles(*names, **options))


def set_at(files: Files, *path: Any) -> None:
    *way, last, value = path
    place: Any = files
    for step in way:
        place = place[step]
    place[last] = value


ASKED, SAID = ("questions", "questions"), ("annotations", "annotations")


def put(files: Files, start: tuple[str, ...], *path: Any) -> None:
    set_at(files, *start, *path)


def asked(files: Files) -> list[Any]:
    return files["questions"]["questions"]  # type: ignore[no-any-return]


def said(files: Files) -> list[Any]:
    return files["annotations"]["annotations"]  # type: ignore[no-any-return]


FAULTS: list[tuple[str, Callable[[Files], Any], str]] = [
    (
        "not JSON",
        lambda f: f.update(questions='{"questions": [\n {"image_id": 1,,}]}'),
        r"questions\.json.*line 2, column 17",
    ),
    (
        "cut short",
        lambda f: f.update(annotations=json.dumps(f["annotations"])[:300]),
        r"annotations\.json.*not JSON: line 1",
    ),
    ("empty file", lambda f: f.update(answers=""), r"answers\.json.*line 1, column 1"),
    ("nested", lambda f: f.update(answers="[" * 100000), "nested too deeply"),
    ("long number", lambda f: f.update(answers="9" * 5000), "not readable JSON"),
    ("no list", lambda f: f.update(questions=[]), "expected an object with 'questions'"),
    ("wrong key", lambda f: f.update(questions={"question": []}), "the key 'questions' is missing"),
    ("no questions", lambda f: asked(f).clear(), "holds no questions"),
    (
        "text id",
        lambda f: put(f, ASKED, 2, "question_id", "7"),
        r"questions\[2\]: 'question_id' should be a whole",
    ),
    ("bool id", lambda f: put(f, ASKED, 2, "question_id", True), r"questions\[2\]: 'question_id'"),
    ("float id", lambda f: put(f, SAID, 0, "question_id", 1.0), r"annotations\[0\]: 'question_id'"),
    ("twice asked", lambda f: asked(f).append(asked(f)[0]), r"came before: 1000 \(1 in all\)"),
    ("twice annotated", lambda f: said(f).append(said(f)[3]), r"came before: 2001 \(1 in all\)"),
    ("not asked", lambda f: asked(f).pop(0), r"questions that do not exist: 1000 \(1 in all\)"),
    (
        "not annotated",
        lambda f: said(f).__delitem__(slice(1, None)),
        r"without annotations: 1001, .*\.\.\. \(13 in all\)",
    ),
    (
        "another image",
        lambda f: [put(f, SAID, at, "image_id", 99) for at in range(12)],
        r"annotations\.json: annotations whose image .* in questions\.json: 1000, .*, \.\.\. \(12 in all\)",
    ),
    ("no image", lambda f: said(f)[1].pop("image_id"), r"annotations\[1\]: the key 'image_id' is missing"),
    (
        "another split",
        lambda f: put(f, ("annotations",), "data_subtype", "train2014"),
        r"annotations\.json: its 'data_subtype' is 'train2014', not 'val2014'.*: 1000, .*, \.\.\. \(14 in all\)",
    ),
    ("no people", lambda f: put(f, SAID, 4, "answers", []), r"annotations\[4\]: 'answers' is empty"),
    (
        "bare answers",
        lambda f: put(f, SAID, 4, "answers", ["yes"]),
        r"annotations\[4\]\.answers\[0\]: expected an object",
    ),
    (
        "number answer",
        lambda f: put(f, SAID, 4, "answers", 1, "answer", 2),
        r"answers\[1\]: 'answer' should be a text, found 2",
    ),
    (
        "no kind",
        lambda f: said(f)[1].pop("answer_type"),
        r"annotations\[1\]: the key 'answer_type' is missing",
    ),
    ("answers object", lambda f: f.update(answers={"results": []}), "expected a list, found an object"),
    ("missing", lambda f: f["answers"].pop(), r"without an answer: 7001 \(1 in all\)"),
    (
        "all missing",
        lambda f: f["answers"].clear(),
        r"without an answer: 1000, 1001, .*, \.\.\. \(14 in all\)",
    ),
    (
        "surplus",
        lambda f: f["answers"].append({"question_id": 5, "answer": "yes"}),
        r"not in the questions: 5 \(1 in all\)",
    ),
    (
        "both",
        lambda f: put(f, ("answers",), 0, "question_id", 5),
        r"without an answer: 1000 \(1 in all\);.*: 5 \(1 in all\)",
    ),
    ("doubled", lambda f: f["answers"].append(f["answers"][0]), r"more than once: 1000 \(1 in all\)"),
    (
        "text as id",
        lambda f: put(f, ("answers",), 3, "question_id", "2001"),
        r"\[3\]: 'question_id' should be a whole number",
    ),
    (
        "number as answer",
        lambda f: [put(f, ("answers",), at, "answer", 2) for at in range(12)],
        r"\[0\]: 'answer' should be a text, found 2; faulty records: 1000, .* \(12 in all\)",
    ),
    (
        "null",
        lambda f: put(f, ("answers",), 1, None),
        r"\[1\]: expected an object .*; faulty records: \[1\] \(1 in all\)",
    ),
]


@pytest.mark.parametrize(("spoil", "line"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS])
def test_bad_files_give_one_clear_line(tmp_path: Path, good: Files, spoil: Callable[[Files], Any], line: str) -> None:
    assert run(tmp_path, good)["count"] == 14
    spoil(good)
    with pytest.raises(BadData, match=line) as fault:
        run(tmp_path, good)
    assert fault.value.code == 3
    assert str(tmp_path) in fault.value.wrong
    assert "\n" not in fault.value.wrong


def test_a_missing_file_says_where_to_get_it(tmp_path: Path, good: Files) -> None:
    run(tmp_path, good)
    (tmp_path / "annotations.json").unlink()
    with pytest.raises(BadData, match=r"no file .*annotations\.json") as fault:
        _score_files(tmp_path)
    assert "visualqa.org" in fault.value.todo
    with pytest.raises(BadData, match="v2_OpenEnded_mscoco_train2014") as fault:
        VQA(find(DatasetCard, "vqa-v2"), tmp_path).examples("train")
    assert "visualqa.org" in fault.value.todo


def test_bytes_that_are_not_text(tmp_path: Path, good: Files) -> None:
    run(tmp_path, good)
    (tmp_path / "answers.json").write_bytes(b'[{"answer": "caf\xe9"}]')
    with pytest.raises(BadData, match="not UTF-8 text: byte 16 is 0xe9"):
        _score_files(tmp_path)


def test_scorers_of_files(tmp_path: Path, good: Files) -> None:
    for row in good["answers"]:
        row["answer"] = "Yes"
    overall = {s: run(tmp_path, good, scorer=s)["overall"] for s in ("official-2021", "official-2015", "soft")}
    # Three of fourteen questions are unanimously "yes", four more have one odd person.
    assert overall["official-2015"] > overall["official-2021"] > overall["soft"] == 0  # type: ignore[operator]
    with pytest.raises(Misuse, match="did you mean 'official-2021'"):
        run(tmp_path, good, scorer="official-2020")


def test_faulty_local_lists(vqa: VQA, official: Path) -> None:
    path = official / "vqa-v2/minival.json"
    for content, line in (
        ({"a": 1}, "expected a list"),
        ([{"img_id": 3}], r"\[0\]: the key 'question_id' is missing"),
        ([{"question_id": 5}], r"val does not hold: .*5.* \(1 in all\)"),
        ([], r"minival\.json: names no questions"),
        ([{"question_id": 21000}] * 2, r"minival\.json: questions named more than once: 21000 \(1 in all\)"),
    ):
        write(path, content)
        with pytest.raises(BadData, match=line):
            VQA(vqa.card, official).examples("minival")
    path.unlink()
    with pytest.raises(BadData, match="no file"):
        VQA(vqa.card, official).examples("minival")
    write(official / "vqa-v2/minival_image_ids.txt", "21\nx\n99\n")
    with pytest.raises(BadData, match="not numbers of images"):
        VQA(vqa.card, official).examples("minival")
    for text, line in (
        ("", "names no images"),
        ("21\n000000000021\n", r"images named more than once: 21 \(1 in all\)"),
    ):
        write(official / "vqa-v2/minival_image_ids.txt", text)
        with pytest.raises(BadData, match=line):
            VQA(vqa.card, official).examples("nominival")


@pytest.mark.parametrize("split", ["train", "test-dev"])
def test_the_questions_of_another_split_are_refused(vqa: VQA, official: Path, split: str) -> None:
    """Whole files of val under the names of another split's: their ids agree with each other."""
    subtype = {"train": "train2014", "test-dev": "test-dev2015"}[split]
    folder = official / "vqa-v2"
    for name in ("v2_OpenEnded_mscoco_{}_questions.json", "v2_mscoco_{}_annotations.json"):
        shutil.copy(folder / name.format("val2014"), folder / name.format(subtype))
    with pytest.raises(
        BadData, match=rf"_{subtype}_questions\.json: .* 'val2014', not '{subtype}'.*: 21000, .*20 in all"
    ):
        VQA(vqa.card, official).examples(split)


def test_questions_under_a_name_of_ones_own_are_of_any_split(vqa: VQA, official: Path) -> None:
    (official / "vqa-v2/v2_OpenEnded_mscoco_val2014_questions.json").rename(official / "vqa-v2/mine.json")
    files = [
        file.model_copy(update={"name": "mine.json"}) if (file.role, file.split) == ("questions", "val") else file
        for file in vqa.card.file
    ]
    assert len(VQA(vqa.card.model_copy(update={"file": tuple(files)}), official).examples("val")) == 20


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**13) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["questions", "annotations", "question_id", "answer", "answers", "image_id"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


def _places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way] * bool(way) + [place for key, each in inner for place in _places(each, (*way, key))]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_change_of_a_file_ends_in_anything_but_bad_data_or_a_score(tmp_path: Path, data: st.DataObject) -> None:
    questions, annotations = split_files("val2014", range(1, 3))
    files: Files = {
        "questions": questions,
        "annotations": annotations,
        "answers": [{"question_id": q["question_id"], "answer": "yes"} for q in questions["questions"]],
    }
    way = data.draw(st.sampled_from(_places(files)))
    set_at(files, *way, data.draw(JSON))
    try:
        found = run(tmp_path, files)
    except BadData:
        return
    assert found["count"] == 4
    assert 0 <= found["overall"] <= 100  # type: ignore[operator]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["questions", "annotations", "answers"]),
    content=st.binary(max_size=40),
    cut=st.integers(0, 2000),
)
def test_no_bytes_end_in_anything_but_bad_data(tmp_path: Path, name: str, content: bytes, cut: int) -> None:
    questions, annotations = split_files("val2014", range(1, 3))
    run(tmp_path, {"questions": questions, "annotations": annotations, "answers": [
        {"question_id": q["question_id"], "answer": "yes"} for q in questions["questions"]
    ]})  # fmt: skip
    path = tmp_path / f"{name}.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:cut] + content)
    try:
        _score_files(tmp_path)
    except BadData:
        return
    assert json.loads(path.read_bytes()) == json.loads(whole)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=JSON)
def test_easy_questions_may_be_anything(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, rows: Any
) -> None:
    root = tmp_path_factory.mktemp("site")
    folder = root / "made_up_easy_vqa" / "data" / "train"
    folder.mkdir(parents=True)
    (folder.parents[1] / "__init__.py").touch()
    write(folder / "questions.json", rows)
    card = find(DatasetCard, "easy-vqa").model_copy(update={"package": "made_up_easy_vqa"})
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(root))
        with pytest.raises(BadData, match=r"questions\.json"):
            VQA(card, Path("data")).examples("train")


# --- a task of one's own --------------------------------------------------------------------------------


class Parity(Task):
    """Is the number even? A whole task in three members."""

    form = "classify"

    def examples(self, split: str) -> list[Example]:
        return [
            Example(str(n), (f"image {n // 2}",), (f"is {n % 3} even?",), "yes" if n % 2 else "no") for n in range(8)
        ]

    def score(self, given: Any, split: str, scorer: str = "") -> dict[str, Score]:
        examples = self.answered(given, split)
        return self.tally(examples, [self.wording(given[e.id]) == e.answer for e in examples], "exact-match")


def test_a_task_needs_three_members_only(tmp_path: Path) -> None:
    card = find(DatasetCard, "easy-vqa").model_copy(update={"file": ()})
    task = Parity(card, tmp_path)
    assert task.answers == ["no", "yes"]
    assert task.splits == ("train", "test")
    assert task.target(task.examples("test")[1]) == {1: 1.0}
    assert task.score({"0": "no", "1": 0}, "test")["accuracy"].value == 50
    assert task.follow_up({}) == ()
    assert task.answers_file({"1": "no"}, "test") == [{"id": "1", "answer": "no"}]
    assert task.files("test") == task.image_files("test") == task.breakdown(task.examples("test")[0]) == {}
    assert set(task.controls("test", ["train"])) == {"prior", "question-only"}
    assert task.group(task.examples("test")[0]) == task.group(task.examples("test")[1])


@pytest.mark.parametrize(
    "text",
    [
        '["no", "a dog", "2"]',
        '[{"ans": "no", "dsets": ["vqa"]}, {"ans": "a dog"}, {"ans": "2"}]',
        '{"2": 2, "no": 0, "a dog": 1}',
        '[{"no": 0, "a dog": 1, "2": 2}, {"0": "no", "1": "a dog", "2": "2"}]',
        '{"answer": "2", "label": 2}\n{"answer": "no", "label": 0}\n{"answer": "a dog", "label": 1}\n',
    ],
)
def test_answer_lists_of_authors_are_read_in_their_order(tmp_path: Path, text: str) -> None:
    (tmp_path / "list.json").write_text(text)
    assert read_answers(tmp_path / "list.json") == ["no", "a dog", "2"]


def test_the_published_answer_lists() -> None:
    """LXMERT's two forms of a list are one order; MCAN's has as many answers in another."""
    folder = SAMPLES / "answer_vocabularies"
    for task, count in (("vqa", 3129), ("gqa", 1842)):
        one, other = (
            read_answers(folder / f"lxmert_{task}_trainval_{form}.json") for form in ("ans2label", "label2ans")
        )
        assert one == other
        assert len(one) == len(set(one)) == count
    mcan, lxmert = (read_answers(folder / f) for f in ("mcan_answer_dict.json", "lxmert_vqa_trainval_label2ans.json"))
    assert (len(mcan), len(set(mcan))) == (3129, 3129)
    assert mcan != lxmert
    assert len(set(mcan) & set(lxmert)) > 3000
    assert read_answers(SAMPLES / "albef" / "answer_list.json") == lxmert[:50]


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "[" * 100_000, "[1, 2]", '["a", "a"]', '{"a": 0, "b": 2}', '{"a": 1}', '{"answer": "a"}\n']
)
def test_what_is_no_answer_list_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(BadData, match=r"list\.json"):
        read_answers(tmp_path / "list.json")

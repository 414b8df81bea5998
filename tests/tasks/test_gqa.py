"""The GQA task: official files and LXMERT's lists, scores, answer files, and what bad files lead to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlbench.cards import DatasetCard
from vlbench.catalog import find
from vlbench.metrics.gqa_columns import Questions
from vlbench.tasks.base import OfficialFiles
from vlbench.tasks.gqa import GQA
from vlbench.tasks.gqa_questions import read_questions
from vlbench.types import BadData, Fault, Misuse

OFFICIAL = Path(__file__).parents[1] / "official"
SAMPLES = OFFICIAL / "samples" / "gqa"
Record = dict[str, Any]
Records = dict[str, Record]
ANSWERS = ("red", "yes", "no", "blue")


def question(number: int, *, balanced: bool = True, entailed: tuple[int, ...] = ()) -> Record:
    """An official record; every fourth question asks for a colour, the others for yes or no."""
    answer = ANSWERS[number % 4]
    structural = "query" if answer in ("red", "blue") else "verify"
    return {
        "semantic": [
            {"operation": "select", "dependencies": [], "argument": "sky (2486325)"},
            {"operation": "query" if structural == "query" else "exist", "dependencies": [0], "argument": "color"},
        ],
        "entailed": [f"{one:05d}" for one in entailed],
        "equivalent": [f"{number:05d}"],
        "question": f"Is thing {number % 3} {answer}?",
        "imageId": f"n{number // 4}",
        "isBalanced": balanced,
        "groups": {"global": "colour" if structural == "query" else None, "local": "x"},
        "answer": answer,
        "semanticStr": "",
        "annotations": {"answer": {}, "question": {"2": "2486325"}, "fullAnswer": {}},
        "types": {"detailed": "exist", "semantic": "attr", "structural": structural},
        "fullAnswer": f"It is {answer}.",
    }


def hidden(record: Record) -> Record:
    return {key: record[key] for key in ("question", "imageId", "isBalanced")}


def questions(first: int, count: int, every: int = 1) -> Records:
    """Questions, of which every so many are balanced; each entails the one after it."""
    last = first + count - 1
    return {
        f"{number:05d}": question(number, balanced=number % every == 0, entailed=(min(number + 1, last),))
        for number in range(first, first + count)
    }


def choices(records: Records) -> Record:
    return {name: {"valid": list(ANSWERS), "plausible": [one["answer"]]} for name, one in records.items()}


def write(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def lxmert(records: Records) -> list[Record]:
    return [
        {"img_id": one["imageId"], "label": {one["answer"]: 1.0}, "question_id": name, "sent": one["question"]}
        for name, one in records.items()
    ]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with small files in the official layout."""
    folder = tmp_path / "gqa"
    for name, first, count in (("train", 100, 40), ("val", 200, 12), ("testdev", 300, 8)):
        write(folder / f"{name}_balanced_questions.json", questions(first, count))
    whole = questions(200, 24, every=2)
    write(folder / "val_all_questions.json", whole)
    write(folder / "val_choices.json", choices(whole))
    for part in range(10):
        write(folder / f"train_all_questions/train_all_questions_{part}.json", questions(1000 + 10 * part, 10, every=5))
    test = {name: hidden(one) for name, one in questions(0, 6, every=2).items()}
    write(folder / "submission_all_questions.json", test)
    return tmp_path


@pytest.fixture
def gqa(root: Path) -> GQA:
    return GQA(find(DatasetCard, "gqa"), root)


def gold(task: GQA, split: str) -> dict[str, Any]:
    return {example.id: example.answer for example in task.examples(split)}


# --- what is read ---------------------------------------------------------------------------------------


def test_what_an_example_is(gqa: GQA) -> None:
    first = gqa.examples("testdev")[1]
    assert (first.id, first.images, first.texts, first.answer) == ("00301", ("n75",), ("Is thing 1 yes?",), "yes")
    assert gqa.answers == ["blue", "no", "red", "yes"]
    assert gqa.target(first) == {3: 1.0}
    assert gqa.breakdown(first) == {"form": "binary", "structural": "structural_verify", "semantic": "semantic_attr"}
    assert gqa.examples("testdev") is gqa.examples("testdev")
    assert gqa.group(first) == "n75"


def test_unbalanced_questions_and_parts(gqa: GQA) -> None:
    assert [example.id for example in gqa.examples("val-all")][:3] == ["00200", "00201", "00202"]
    assert len(gqa.examples("train-all")) == 100
    assert list(gqa.files("train-all")) == [f"train_all_questions_{part}.json" for part in range(10)]


def test_hidden_answers(gqa: GQA) -> None:
    assert [(e.id, e.answer) for e in gqa.examples("submission")][:2] == [("00000", None), ("00001", None)]
    assert gqa.breakdown(gqa.examples("submission")[0]) == {}
    with pytest.raises(Fault, match="not public"):
        gqa.score({"00000": "yes"}, "submission")


def test_files_of_a_split(gqa: GQA, root: Path) -> None:
    assert list(gqa.files("val")) == ["val_balanced_questions.json", "val_choices.json"]
    assert list(gqa.files("testdev")) == ["testdev_balanced_questions.json"]
    write(root / "gqa/skills.json", {"00300": "colour"})
    assert list(gqa.files("testdev")) == ["testdev_balanced_questions.json", "skills.json"]
    assert "colour" in GQA(gqa.card, root).breakdown(gqa.examples("testdev")[0]).values()
    with pytest.raises(Misuse, match="did you mean 'testdev'"):
        gqa.files("testdeve")


def test_images_at_hand(gqa: GQA, root: Path) -> None:
    assert gqa.image_files("testdev") == {}
    path = write(root / "gqa/images/n75.jpg", "")
    write(root / "gqa/images/n9999.jpg", "")
    assert gqa.image_files("testdev") == {"n75": path}


def test_lxmerts_lists_stand_in_for_official_files(gqa: GQA, root: Path) -> None:
    records = questions(300, 8)
    write(root / "gqa/testdev.json", json.dumps(lxmert(records), indent=4))
    assert list(gqa.files("testdev")) == ["testdev_balanced_questions.json"]
    official = gqa.examples("testdev")
    (root / "gqa/testdev_balanced_questions.json").unlink()
    other = GQA(gqa.card, root)
    assert list(other.files("testdev")) == ["testdev.json"]
    assert list(other.examples("testdev")) == list(official)
    assert list(other.score(gold(other, "testdev"), "testdev")) == ["accuracy"]
    (root / "gqa/submission_all_questions.json").unlink()
    rows = [{key: one[key] for key in ("img_id", "question_id", "sent")} for one in lxmert(records)]
    write(root / "gqa/submit.json", rows)
    assert [example.answer for example in other.examples("submission")] == [None] * 8


def test_samples_of_the_official_layout() -> None:
    counts = {"val_balanced": 26, "val_all": 40, "testdev_balanced": 10}
    for name, count in counts.items():
        found = read_questions([SAMPLES / f"{name}_questions.json"])
        assert len(found.ids) == count
        assert found.balanced.sum() == {"val_all": 26, "testdev_balanced": 5}.get(name, count)
    asked = read_questions([SAMPLES / "submission_all_questions.json"], public=False)
    assert len(asked.ids) == 39
    assert asked.answers.values == [None]
    listed = read_questions([SAMPLES / "lxmert_valid.json"])
    assert (listed.ids[0], listed.images.each()[0], listed.answers.each()[0]) == ("07333408", "2375429", "pipe")
    whole = read_questions([SAMPLES / "val_all_questions.json"])
    first = whole.places["02930152"]
    assert whole.texts[first] == "Is the sky dark?"
    assert whole.kinds.each()[first] == ("verify", "attr", "verifyAttr")
    assert whole.entailed[first][0] == "02930160"
    assert (whole.steps[first], whole.words[first]) == (2, 4)


# --- scores ---------------------------------------------------------------------------------------------


def test_all_right(gqa: GQA) -> None:
    scores = gqa.score(gold(gqa, "val-all"), "val-all")
    assert list(scores) == [
        "accuracy", "accuracy_binary", "accuracy_open", "validity", "plausibility", "consistency", "distribution",
        "accuracy_semantic_attr", "accuracy_structural_query", "accuracy_structural_verify",
    ]  # fmt: skip
    assert {name: score.value for name, score in scores.items()} == dict.fromkeys(scores, 100.0) | {"distribution": 0.0}
    assert scores["accuracy"].count == 12  # the balanced ones
    assert scores["consistency"].count == 12
    assert scores["distribution"].low is None
    assert all(score.low is not None and score.low < 100 for name, score in scores.items() if name != "distribution")
    assert {score.scorer for score in scores.values()} == {"official"}


def test_some_wrong(gqa: GQA) -> None:
    given = gold(gqa, "val-all") | {"00200": "blue", "00201": "no", "00202": "cat"}
    # red -> blue, yes -> no (unbalanced; only entailed by 00200, which is wrong itself), no -> cat
    scores = gqa.score(given, "val-all")
    assert scores["accuracy"].value == pytest.approx(100 * 10 / 12)
    assert scores["accuracy_open"].value == pytest.approx(100 * 5 / 6)
    assert scores["validity"].value == pytest.approx(100 * 11 / 12)
    assert scores["plausibility"].value == pytest.approx(100 * 10 / 12)
    assert scores["consistency"].value == 100
    # of 6 red, 5 were said: (5 - 6)^2 / 6 / 100; that blue was said once is not looked at, as it is never right
    assert scores["distribution"].value == pytest.approx(1 / 6 / 100)
    assert gqa.each(given, "val-all")["00201"] == 0
    assert len(gqa.each(given, "val-all")) == 24


def test_consistency_where_what_is_entailed_was_answered(gqa: GQA) -> None:
    # Each question entails the next; a run on the first few has not answered what the last of them entails.
    some = dict(list(gold(gqa, "val").items())[:5])
    assert "consistency" not in gqa.score(some, "val")
    assert gqa.score(some | {"00204": "none"}, "val")["consistency"].value == 75
    assert gqa.score(some, "val")["accuracy"].count == 5
    wrong = dict.fromkeys(some, "none")
    assert "consistency" not in gqa.score(wrong, "val")


def test_what_cannot_be_scored(gqa: GQA) -> None:
    with pytest.raises(BadData, match="1 ids that val does not hold"):
        gqa.score({"00200": "yes", "5": "yes"}, "val")
    with pytest.raises(BadData, match="of 1 answered questions none is balanced"):
        gqa.score({"00201": "yes"}, "val-all")
    with pytest.raises(Misuse, match="no scorer of gqa is called 'soft'"):
        gqa.score({"00200": "yes"}, "val", "soft")
    with pytest.raises(BadData, match="no layout of gqa"):
        GQA(gqa.card.model_copy(update={"layout": "vqa-v2"}), Path())


def test_controls(gqa: GQA) -> None:
    controls = gqa.controls("testdev", ["train"])
    assert set(controls) == {"prior", "question-only"}
    assert gqa.score(controls["question-only"], "testdev")["accuracy"].value == 100  # the text names the answer


def test_an_answer_may_be_given_by_its_place(gqa: GQA) -> None:
    assert gqa.score({"00300": 2}, "testdev")["accuracy"].value == 100
    assert gqa.answers_file({"00300": 2}, "testdev") == [{"questionId": "00300", "prediction": "red"}]


def test_upload(gqa: GQA) -> None:
    given = {example.id: "yes" for example in gqa.examples("submission")}
    content = gqa.answers_content(given, "submission")
    assert json.loads(content)[0] == {"questionId": "00000", "prediction": "yes"}
    assert gqa.check_upload(content, "submission") == []
    few = gqa.answers_content({"00000": "yes"}, "submission")
    assert "00001, 00002, 00003, 00004, 00005 (5 in all)" in gqa.check_upload(few, "submission")[0]
    for wrong, line in ((b"{}", "expected a list"), (b"[", "not JSON"), (b"[{}]", "questionId")):
        assert line in gqa.check_upload(wrong, "submission")[0]


# --- official answer files ------------------------------------------------------------------------------


def run(folder: Path, files: dict[str, Any], *, consistency: bool = False) -> dict[str, Any]:
    """Write files and score them as the command does."""
    paths = {name: write(folder / f"{name}.json", value) for name, value in files.items()}
    return GQA.score_files(OfficialFiles(**paths, consistency=consistency))


def recorded() -> list[Any]:
    cases = json.loads((OFFICIAL / "metrics/gqa/cases.json").read_text())
    return [pytest.param(one, cases, id=one["name"]) for one in cases["runs"] if "attentions" in one["files"]]


@pytest.mark.parametrize(("one", "cases"), recorded())
def test_files_score_as_the_official_evaluator_scored_them(tmp_path: Path, one: Record, cases: Record) -> None:
    kept = one.get("questions_keep", list(cases["questions"]))
    asked = {name: cases["questions"][name] for name in kept}
    # Unknown and doubled ids are for the official evaluator to pass over; they are refused here.
    said = {row["questionId"]: row for row in one.get("predictions_override", cases["predictions"])}
    files = {"answers": [row for name, row in said.items() if name in asked], "questions": asked}
    files |= {name: cases[name] for name in ("choices", "scenes") if one["files"][name]}
    consistency = "--consistency" in one["flags"]
    if "expected_error" in one:
        with pytest.raises(BadData):
            run(tmp_path, files, consistency=consistency)
        return
    found, expected = run(tmp_path, files, consistency=consistency), one["expected"]
    names = ("accuracy", "binary", "open", "validity", "plausibility", "consistency", "distribution")
    assert [found[name] for name in names] == pytest.approx([expected[name] for name in names], abs=1e-9)
    assert (found["count"], found["scorer"]) == (sum(one["isBalanced"] for one in asked.values()), "official")
    for ours, theirs in (("structural_type", "StructuralType"), ("steps", "Steps"), ("length", "Length")):
        parts = {name: part["score"] for name, part in expected[f"accuracyPer{theirs}"].items()}
        assert {str(name): score for name, score in found[f"per_{ours}"].items()} == pytest.approx(parts)


def test_refused_where_the_official_evaluator_passes_over(tmp_path: Path, good: dict[str, Any]) -> None:
    rows = list(good["answers"])
    assert run(tmp_path, good)["accuracy"] == 100
    with pytest.raises(BadData, match=r"do not hold: 7 \(1 in all\)"):
        run(tmp_path, good | {"answers": [*rows, {"questionId": "7", "prediction": "yes"}]})
    with pytest.raises(BadData, match=r"more than once: 00200 \(1 in all\)"):
        run(tmp_path, good | {"answers": [*rows, rows[0]]})


def test_questions_may_lie_in_parts(tmp_path: Path, good: dict[str, Any]) -> None:
    names = list(good["questions"])
    for part in (0, 1):
        records = {name: good["questions"][name] for name in names[part::2]}
        write(tmp_path / f"all/all_{part}.json", records)
    answers = write(tmp_path / "answers.json", good["answers"])
    found = GQA.score_files(OfficialFiles(answers, tmp_path / "all", consistency=True))
    assert found == run(tmp_path, {"answers": good["answers"], "questions": good["questions"]}, consistency=True)
    (tmp_path / "none").mkdir()
    with pytest.raises(BadData, match=r"holds no none_\*\.json"):
        GQA.score_files(OfficialFiles(answers, tmp_path / "none"))


def test_what_the_command_needs(tmp_path: Path, good: dict[str, Any]) -> None:
    answers = write(tmp_path / "answers.json", good["answers"])
    with pytest.raises(Misuse, match="--questions is missing"):
        GQA.score_files(OfficialFiles(answers))
    with pytest.raises(Misuse, match="no scorer of gqa is called 'x'"):
        GQA.score_files(OfficialFiles(answers, scorer="x"))
    with pytest.raises(BadData, match="there is no file") as fault:
        GQA.score_files(OfficialFiles(answers, tmp_path / "none.json"))
    assert "dorarad" in fault.value.todo


# --- bad files ------------------------------------------------------------------------------------------


@pytest.fixture
def good() -> dict[str, Any]:
    return good_files()


def good_files() -> dict[str, Any]:
    asked = questions(200, 12, every=2)
    box = {"name": "sky", "x": 1, "y": 2, "w": 30, "h": 4.5, "attributes": [], "relations": []}
    images = {one["imageId"] for one in asked.values()}
    return {
        "answers": [{"questionId": name, "prediction": one["answer"]} for name, one in asked.items()],
        "questions": asked,
        "choices": choices(asked),
        "scenes": {name: {"width": 500, "height": 375, "objects": {"2486325": box}} for name in sorted(images)},
    }


Spoil = Callable[[dict[str, Any]], Any]
FAULTS: list[tuple[str, Spoil, str]] = [
    (
        "questions cut",
        lambda f: f.update(questions=json.dumps(f["questions"])[:3000]),
        r"questions\.json.*not JSON: line",
    ),
    ("no questions", lambda f: f["questions"].clear(), r"questions\.json: holds no questions"),
    (
        "question list",
        lambda f: f.update(questions=list(f["questions"].values())),
        r"\[0\]: the key 'question_id' is mis",
    ),
    (
        "no record",
        lambda f: f["questions"].update({"00203": 3}),
        r"'00203': expected an object with 'question', found 3",
    ),
    ("no text", lambda f: f["questions"]["00203"].pop("question"), "'00203': the key 'question' is missing"),
    (
        "image number",
        lambda f: f["questions"]["00203"].update(imageId=3),
        "'00203': 'imageId' should be a text, found 3",
    ),
    (
        "balanced text",
        lambda f: f["questions"]["00203"].update(isBalanced="yes"),
        "'isBalanced' should be true or false",
    ),
    ("no balance", lambda f: f["questions"]["00203"].pop("isBalanced"), "the key 'isBalanced' is missing"),
    ("hidden", lambda f: f.update(questions={n: hidden(q) for n, q in f["questions"].items()}), "'answer' is missing"),
    ("answer number", lambda f: f["questions"]["00203"].update(answer=2), "'answer' should be a text, found 2"),
    (
        "no type",
        lambda f: f["questions"]["00203"]["types"].pop("structural"),
        "'00203': types: the key 'structural' is",
    ),
    ("types text", lambda f: f["questions"]["00203"].update(types="verify"), "'types' should be an object"),
    (
        "group number",
        lambda f: f["questions"]["00203"]["groups"].update({"global": 3}),
        "groups: 'global' should be a te",
    ),
    ("no group", lambda f: f["questions"]["00203"]["groups"].pop("global"), "groups: the key 'global' is missing"),
    (
        "entailed numbers",
        lambda f: f["questions"]["00203"].update(entailed=[204]),
        "'entailed' should hold texts, found 204",
    ),
    ("entailed text", lambda f: f["questions"]["00203"].update(entailed="00204"), "'entailed' should be a list"),
    ("no program", lambda f: f["questions"]["00203"].pop("semantic"), "the key 'semantic' is missing"),
    (
        "step text",
        lambda f: f["questions"]["00203"].update(semantic=["select"]),
        "semantic: expected an object with 'oper",
    ),
    (
        "entails others",
        lambda f: f["questions"]["00202"].update(entailed=["9", "8"]),
        r"does not hold: 9, 8 \(2 in all\)",
    ),
    (
        "no groups",
        lambda f: [q["groups"].update({"global": None}) for q in f["questions"].values()],
        "no question has a gr",
    ),
    ("answers object", lambda f: f.update(answers={}), r"answers\.json: expected a list, found an object"),
    ("answers cut", lambda f: f.update(answers=json.dumps(f["answers"])[:-1]), r"answers\.json: not JSON"),
    ("missing", lambda f: f["answers"].pop(), r"without an answer: 00211 \(1 in all\)"),
    ("surplus", lambda f: f["answers"].append({"questionId": "8", "prediction": ""}), r"do not hold: 8 \(1 in all\)"),
    (
        "id number",
        lambda f: f["answers"][3].update(questionId=203),
        r"\[3\]: 'questionId' should be a text.*\[3\] \(1 in",
    ),
    (
        "answer null",
        lambda f: [one.update(prediction=None) for one in f["answers"]],
        r"\[0\]: 'pred.*\[9\], \.\.\. \(12 in",
    ),
    ("zeros", lambda f: f["answers"][0].update(questionId="200"), r"without an answer: 00200 .*do not hold: 200 "),
    ("choices list", lambda f: f.update(choices=[]), r"choices\.json: expected an object, found a list"),
    (
        "few choices",
        lambda f: [f["choices"].pop(n) for n in ("00202", "00203")],
        r"without choices: 00202 \(1 in all\)",
    ),
    ("no plausible", lambda f: f["choices"]["00203"].pop("plausible"), "'00203': the key 'plausible' is missing"),
    ("choice number", lambda f: f["choices"]["00203"].update(valid=[3]), "'valid' should hold texts, found 3"),
    ("no scene", lambda f: f["scenes"].pop("n50"), r"without a scene graph: n50 \(1 in all\)"),
    ("no width", lambda f: f["scenes"]["n50"].update(width=0), "'n50': an image of 0 x 375 pixels"),
    (
        "no corner",
        lambda f: f["scenes"]["n50"]["objects"]["2486325"].pop("x"),
        "'2486325': 'x' should be a number of pixels",
    ),
]


@pytest.mark.parametrize(("spoil", "line"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS])
def test_bad_files_give_one_clear_line(tmp_path: Path, good: dict[str, Any], spoil: Spoil, line: str) -> None:
    assert run(tmp_path, good, consistency=True)["accuracy"] == 100
    spoil(good)
    with pytest.raises(BadData, match=line) as fault:
        run(tmp_path, good, consistency=True)
    assert fault.value.code == 3
    assert str(tmp_path) in fault.value.wrong
    assert "\n" not in fault.value.wrong


def test_doubled_questions(tmp_path: Path, good: dict[str, Any]) -> None:
    text = json.dumps(good["questions"])
    doubled = text[:-1] + ", " + text[1:]
    with pytest.raises(BadData, match=r"came before: 00200, 00201, .* \(12 in all\)"):
        read_questions([write(tmp_path / "questions.json", doubled)])
    path = write(tmp_path / "all.json", text)
    with pytest.raises(BadData, match=r"came before: 00200, "):
        read_questions([path, path])
    text = json.dumps(good["choices"])
    with pytest.raises(BadData, match=r"choices\.json: question ids that came before: 00200, 00202"):
        run(tmp_path, good | {"choices": text[:-1] + ", " + text[1:]})
    text = json.dumps(good["scenes"])
    with pytest.raises(BadData, match=r"scenes\.json: image ids that came before: n50"):
        run(tmp_path, good | {"scenes": text[:-1] + ", " + text[1:]})


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda row: row.pop("question_id"), r"\[2\]: the key 'question_id' is missing"),
        (lambda row: row.update(question_id=7), r"\[2\]: 'question_id' should be a text"),
        (lambda row: row.update(label={}), r"\[2\]: 'label' should hold one answer, found 0"),
        (lambda row: row.update(label={"a": 1, "b": 1}), r"\[2\]: 'label' should hold one answer, found 2"),
        (lambda row: row.pop("sent"), r"\[2\]: the key 'sent' is missing"),
        (lambda row: row.update(img_id=None), r"\[2\]: 'img_id' should be a text, found None"),
    ],
)
def test_faulty_lists_of_lxmert(tmp_path: Path, spoil: Callable[[Record], Any], line: str) -> None:
    rows = lxmert(questions(300, 8))
    spoil(rows[2])
    with pytest.raises(BadData, match=line):
        read_questions([write(tmp_path / "testdev.json", rows)])


def test_a_missing_file_says_where_to_get_it(gqa: GQA, root: Path) -> None:
    (root / "gqa/train_all_questions/train_all_questions_3.json").unlink()
    with pytest.raises(BadData, match=r"no file .*train_all_questions_3\.json") as fault:
        gqa.examples("train-all")
    assert "dorarad" in fault.value.todo
    assert str(root / "gqa") in fault.value.todo
    card = gqa.card.model_copy(update={"file": ()})
    with pytest.raises(BadData, match="names no file of questions for the split val"):
        GQA(card, root).examples("val")


def plainly(found: Questions) -> list[Any]:
    return [
        found.ids, found.images.each(), found.texts, found.balanced.tolist(), found.answers.each(),
        found.kinds.each(), found.groups.each(), found.entailed, found.steps.tolist(), found.words.tolist(),
    ]  # fmt: skip


TEXTS = st.text(max_size=4) | st.sampled_from(["exist", "query", "name", "choose name"])
PROGRAMS = st.lists(
    st.fixed_dictionaries(
        {"operation": TEXTS, "dependencies": st.lists(st.integers(0, 20), max_size=2), "argument": TEXTS}
    ),
    max_size=3,
)
RECORDS = st.fixed_dictionaries(
    {
        "semantic": PROGRAMS,
        "entailed": st.lists(TEXTS, max_size=3),
        "question": TEXTS,
        "imageId": TEXTS,
        "isBalanced": st.booleans(),
        "groups": st.fixed_dictionaries({"global": st.none() | TEXTS, "local": TEXTS}),
        "answer": TEXTS,
        "annotations": st.fixed_dictionaries({"question": st.dictionaries(TEXTS, TEXTS, max_size=2)}),
        "types": st.fixed_dictionaries(dict.fromkeys(("detailed", "semantic", "structural"), TEXTS)),
    }
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(records=st.dictionaries(TEXTS, RECORDS, min_size=1, max_size=6), public=st.booleans())
def test_records_of_the_official_shape_are_read_as_any_others(tmp_path: Path, records: Records, public: bool) -> None:
    # Indented, no record has the official shape.
    quick = write(tmp_path / "quick.json", json.dumps(records))
    slow = write(tmp_path / "slow.json", json.dumps(records, indent=1))
    found = read_questions([quick], public=public)
    assert plainly(found) == plainly(read_questions([slow], public=public))
    assert found.ids == list(records)
    assert found.texts == [one["question"] for one in records.values()]
    assert found.answers.each() == [one["answer"] for one in records.values()]
    assert found.groups.each() == [one["groups"]["global"] for one in records.values()]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**13) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["global", "x", "valid"]), inner),
    max_leaves=6,
)


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way] * bool(way) + [place for key, each in inner for place in places(each, (*way, key))]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_change_of_a_file_ends_in_anything_but_bad_data_or_a_score(tmp_path: Path, data: st.DataObject) -> None:
    files = good_files()
    *way, last = data.draw(st.sampled_from(places(files)))
    place: Any = files
    for step in way:
        place = place[step]
    place[last] = data.draw(JSON)
    try:
        found = run(tmp_path, files, consistency=data.draw(st.booleans()))
    except BadData:
        return
    assert found["count"] == sum(one["isBalanced"] for one in files["questions"].values())
    assert 0 <= found["accuracy"] <= 100


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["questions", "choices", "scenes", "answers"]),
    content=st.binary(max_size=40),
    cut=st.integers(0, 9000),
)
def test_no_bytes_end_in_anything_but_bad_data_or_the_same(tmp_path: Path, name: str, content: bytes, cut: int) -> None:
    files = good_files()
    paths = {each: write(tmp_path / f"{each}.json", value) for each, value in files.items()}
    whole = paths[name].read_bytes()
    paths[name].write_bytes(whole[:cut] + content)
    try:
        found = GQA.score_files(OfficialFiles(**paths))
    except BadData:
        return
    assert cut >= len(whole)  # nothing is lost silently: what was added is blanks
    assert found["count"] == 6

"""Referring expressions: files of the refer toolkit, boxes in both units, scores, controls, and bad files."""

from __future__ import annotations

import json
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlbench.cards import DatasetCard
from vlbench.catalog import find
from vlbench.tasks.base import OfficialFiles
from vlbench.tasks.box_controls import boxes_without_looking
from vlbench.tasks.plain_pickle import read_plain_pickle
from vlbench.tasks.refcoco import RefCOCO
from vlbench.tasks.refcoco_files import read_expressions
from vlbench.types import Answer, BadData, Box, Example, Misuse

SAMPLES = Path(__file__).resolve().parents[1] / "official/samples"
COUNTS = {"train": 40, "val": 8, "testA": 6, "testB": 4}
WORDS = {"left": 0.0, "middle": 200.0, "right": 400.0}
Files = dict[str, Any]


def made_up(author: str = "unc", counts: dict[str, int] = COUNTS) -> Files:
    """Two objects on each image of 640 x 480, two expressions each, the first of which says where the object is."""
    refs, annotations, images = [], [], []
    number = 0
    for split, count in counts.items():
        for at in range(count):
            draw = random.Random(f"{split} {at}")
            image, word = 1000 + number // 2, draw.choice(list(WORDS))
            box = [WORDS[word] + draw.randrange(20), 100 + draw.randrange(20), 200, 150.5]
            annotations.append({"id": 7000 + number, "image_id": image, "bbox": box, "category_id": 1})
            texts = (f"{word} one", "the thing")
            sentences = [
                {"sent_id": 2 * number + k, "sent": text, "raw": text.upper(), "tokens": text.split()}
                for k, text in enumerate(texts)
            ]
            refs.append(
                {
                    "ref_id": number,
                    "ann_id": 7000 + number,
                    "image_id": image,
                    "category_id": 1,
                    "split": split,
                    "file_name": f"COCO_train2014_{image:012d}_{at}.jpg",
                    "sent_ids": [one["sent_id"] for one in sentences],
                    "sentences": sentences,
                }
            )
            number += 1
    for image in sorted({one["image_id"] for one in annotations}):
        name = f"COCO_train2014_{image:012d}.jpg"
        images.append({"id": image, "file_name": name, "width": 640, "height": 480})
    return {"author": author, "refs": refs, "instances": {"images": images, "annotations": annotations}}


def write(folder: Path, files: Files, protocol: int = 2) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"refs({files['author']}).p").write_bytes(pickle.dumps(files["refs"], protocol))
    (folder / "instances.json").write_text(json.dumps(files["instances"]))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with small files in the official layout."""
    write(tmp_path / "refcoco", made_up())
    (tmp_path / "refcoco/skills.json").write_text(json.dumps({"80": "place", "82": "place", "84": "place"}))
    return tmp_path


@pytest.fixture
def refcoco(root: Path) -> RefCOCO:
    return RefCOCO(find(DatasetCard, "refcoco"), root)


def right(task: RefCOCO, split: str = "val") -> dict[str, Answer]:
    return {example.id: example.answer for example in task.examples(split)}  # type: ignore[misc]


# --- what is asked --------------------------------------------------------------------------------------


def test_one_example_is_one_expression(refcoco: RefCOCO) -> None:
    for split, count in COUNTS.items():
        assert len(refcoco.examples(split)) == 2 * count
    first, second = refcoco.examples("val")[:2]
    assert (first.id, second.id) == ("80", "81")
    assert first.images == second.images == ("COCO_train2014_000000001020",)
    assert second.texts == ("the thing",)
    place = refcoco.expressions("val")["80"].place
    x, y, width, height = place.box
    assert first.answer == second.answer == (x / 640, y / 480, (x + width) / 640, (y + height) / 480)
    assert list(refcoco.files("val")) == ["refs(unc).p", "instances.json"]


def test_boxes_that_leave_the_image_are_cut_in_what_is_learned_but_not_in_what_is_scored(root: Path) -> None:
    files = made_up()
    files["instances"]["annotations"][40]["bbox"] = [600.0, -10.0, 80.0, 100.0]
    write(root / "refcoco", files)
    task = RefCOCO(find(DatasetCard, "refcoco"), root)
    assert task.examples("val")[0].answer == (600 / 640, 0.0, 1.0, 90 / 480)
    assert task.expressions("val")["80"].place.box == (600.0, -10.0, 80.0, 100.0)


def test_what_nothing_is_said_of_may_have_any_box(root: Path) -> None:
    files = made_up()
    files["instances"]["annotations"].append({"id": 1, "image_id": 1000, "bbox": [10.0, 10.0, 5.0, 0.0]})
    write(root / "refcoco", files)
    assert len(RefCOCO(find(DatasetCard, "refcoco"), root).examples("val")) == 2 * COUNTS["val"]


@pytest.mark.parametrize("protocol", range(6))
def test_every_pickle_protocol_and_json_hold_the_same(tmp_path: Path, protocol: int) -> None:
    files = made_up()
    write(tmp_path, files, protocol)
    (tmp_path / "refs.json").write_text(json.dumps(files["refs"]))
    one, other = (
        read_expressions(tmp_path / name, tmp_path / "instances.json", "") for name in ("refs(unc).p", "refs.json")
    )
    assert one == other
    assert len(one) == 2 * sum(COUNTS.values())


@pytest.mark.parametrize(
    ("name", "refs"), [("refcoco", "refs(unc).p"), ("refcoco+", "refs(unc).p"), ("refcocog", "refs(umd).p")]
)
def test_the_samples_of_the_official_layout(tmp_path: Path, name: str, refs: str) -> None:
    shutil.copytree(SAMPLES / name, tmp_path / name)
    task = RefCOCO(find(DatasetCard, name), tmp_path)
    splits = ["train", "val", "test"] if name == "refcocog" else ["train", "val", "testA", "testB"]
    assert sum(len(task.examples(split)) for split in splits) == 42
    first = task.examples("train")[0]
    assert (first.id, first.texts) == ("0", ("the lady with the blue shirt",))
    assert first.images == ("COCO_train2014_000000581857",)
    assert task.expressions("train")["0"].place.box == (103.93, 299.99, 134.22, 177.42)
    assert refs in task.files("val")


def test_refcoco_plus_is_read_alike(tmp_path: Path) -> None:
    write(tmp_path / "refcoco+", made_up())
    task = RefCOCO(find(DatasetCard, "refcoco+"), tmp_path)
    assert task.score(right(task, "testB"), "testB")["accuracy"].count == 8


def test_another_authors_splits_lie_in_another_file(root: Path) -> None:
    write(root / "refcoco", made_up("google", {"train": 40, "val": 10, "test": 8}))
    task = RefCOCO(find(DatasetCard, "refcoco"), root)
    assert [len(task.examples(split)) for split in ("google-train", "google-val", "google-test")] == [80, 20, 16]
    assert list(task.files("google-val")) == ["refs(google).p", "instances.json"]
    assert len(task.examples("val")) == 16


def test_images_at_hand(refcoco: RefCOCO, root: Path) -> None:
    assert refcoco.image_files("val") == {}
    (root / "refcoco/train2014").mkdir()
    for number in (1000, 1020):
        (root / f"refcoco/train2014/COCO_train2014_{number:012d}.jpg").touch()
    assert list(refcoco.image_files("val")) == ["COCO_train2014_000000001020"]


# --- scores ---------------------------------------------------------------------------------------------


def test_right_boxes_are_found_by_every_scorer(refcoco: RefCOCO) -> None:
    for form in ("inclusive", "plus-one", "continuous"):
        for rule in ("above", "at-least"):
            scores = refcoco.score(right(refcoco), "val", f"{form}-{rule}")
            assert list(scores) == ["accuracy", "accuracy_place"]
            assert scores["accuracy"].value == 100
            assert scores["accuracy"].scorer == f"{form}-{rule}"
    assert refcoco.score(right(refcoco), "val")["accuracy"].scorer == "continuous-above"
    assert (scores["accuracy"].count, scores["accuracy_place"].count) == (16, 3)


def test_what_is_far_off_is_not_found(refcoco: RefCOCO) -> None:
    given = right(refcoco)
    x1, y1, x2, y2 = given["80"]  # type: ignore[misc]
    given["80"] = (x1 + 0.4 * (x2 - x1), y1, x2 + 0.4 * (x2 - x1), y2)  # type: ignore[operator]
    given["81"] = (x1, y1, x1 + 0.6 * (x2 - x1), y2)  # type: ignore[operator]
    each = refcoco.each(given, "val")
    assert (each["80"], each["81"]) == (0.0, 1.0)
    assert refcoco.score(given, "val")["accuracy"].value == pytest.approx(100 * 15 / 16)
    assert refcoco.score({"80": given["80"]}, "val")["accuracy"].count == 1


def test_what_cannot_be_scored(refcoco: RefCOCO) -> None:
    with pytest.raises(Misuse, match="no scorer 'continuous'; did you mean 'continuous-above'"):
        refcoco.score({"80": (0, 0, 1, 1)}, "val", "continuous")
    with pytest.raises(Misuse, match="did you mean 'testA'"):
        refcoco.examples("testa")
    with pytest.raises(BadData, match="1 ids that val does not hold"):
        refcoco.score({"0": (0, 0, 1, 1)}, "val")
    with pytest.raises(BadData, match="no answer"):
        refcoco.score({}, "val")
    for answer in ((0, 0, 1), 3, (0, 0, 1, float("nan")), ("a", "b", "c", "d")):
        with pytest.raises(BadData, match=r"80: .* is not a box"):
            refcoco.score({"80": answer}, "val")  # type: ignore[dict-item]
    with pytest.raises(BadData, match="no layout of refcoco is called 'coco'"):
        RefCOCO(refcoco.card.model_copy(update={"layout": "coco"}), Path())


# --- controls -------------------------------------------------------------------------------------------


def test_controls_point_at_the_likeliest_places(refcoco: RefCOCO) -> None:
    given = refcoco.controls("val", ["train"])
    assert len(set(given["prior"].values())) == 1
    assert given["prior"].keys() == given["question-only"].keys() == right(refcoco).keys()
    each = refcoco.each(given["question-only"], "val")
    told = [example.id for example in refcoco.examples("val") if example.texts[0].endswith("one")]
    assert all(each[identity] for identity in told)
    assert refcoco.score(given["prior"], "val")["accuracy"].value < 80
    # "the thing" says nothing, and gets what is given without any words
    assert all(given["question-only"][i] == given["prior"][i] for i in each.keys() - set(told))
    assert refcoco.controls("val", []) == {}


def test_a_word_met_once_tells_nothing() -> None:
    usual: Box = (0.0, 0.0, 0.5, 0.5)
    train = [Example(str(number), ("i",), ("thing",), usual) for number in range(30)]
    train.append(Example("odd", ("i",), ("rare thing",), (0.6, 0.6, 0.9, 0.9)))
    asked = [Example("asked", ("i",), ("rare thing",))]
    assert boxes_without_looking(train, asked)["question-only"] == {"asked": usual}


# --- answer files ---------------------------------------------------------------------------------------


def scored(folder: Path, answers: object, **more: Any) -> dict[str, object]:
    path = folder / "answers.json"
    path.write_text(answers if isinstance(answers, str) else json.dumps(answers))
    return RefCOCO.score_files(OfficialFiles(path, **({"annotations": folder / "refs(unc).p"} | more)))


def shifted(task: RefCOCO, split: str) -> dict[str, Answer]:
    draw = random.Random(2)
    found: dict[str, Answer] = {}
    for example in task.examples(split):
        x1, y1, x2, y2 = example.answer  # type: ignore[misc]
        off = draw.uniform(0, 0.25)
        found[example.id] = (x1 + off, y1, x2 + off, y2)  # type: ignore[operator]
    return found


def test_what_a_run_writes_is_scored_the_same(refcoco: RefCOCO, root: Path) -> None:
    for scorer in ("continuous-above", "inclusive-at-least"):
        given_ = shifted(refcoco, "val")
        content = refcoco.answers_content(given_, "val").decode()
        found = scored(root / "refcoco", content, scorer=scorer)
        score = refcoco.score(given_, "val", scorer)["accuracy"]
        assert 0 < score.value < 100
        assert found == {"accuracy": score.value, "per_split": {"val": score.value}, "count": 16, "scorer": scorer}
    assert json.loads(content)[0].keys() == {"sent_id", "box"}


def test_several_splits_are_scored_each(refcoco: RefCOCO, root: Path) -> None:
    rows = refcoco.answers_file(right(refcoco, "testA"), "testA")
    rows += [{**row, "box": [0, 0, 1, 1]} for row in refcoco.answers_file(right(refcoco, "testB"), "testB")]
    found = scored(root / "refcoco", rows)
    assert found["per_split"] == {"testA": 100, "testB": 0}
    assert found["accuracy"] == pytest.approx(60)
    assert found["count"] == 20
    # the two files may also lie apart
    away = root / "away.json"
    (root / "refcoco/instances.json").rename(away)
    assert found == scored(root / "refcoco", rows, questions=root / "refcoco/refs(unc).p", annotations=away)


def test_what_score_needs(root: Path) -> None:
    with pytest.raises(Misuse, match="--annotations is missing"):
        scored(root / "refcoco", [], annotations=None)
    with pytest.raises(Misuse, match="no scorer 'soft'"):
        scored(root / "refcoco", [], scorer="soft")
    with pytest.raises(BadData, match="expected a list of objects"):
        scored(
            root / "refcoco", [], annotations=root / "refcoco/instances.json", questions=root / "refcoco/instances.json"
        )


ROWS: list[tuple[str, Callable[[list[Any]], Any], str]] = [
    ("missing", lambda r: r.pop(), r"ids without an answer: 95 \(1 in all\)"),
    ("surplus", lambda r: r.append({"sent_id": 999, "box": [0, 0, 1, 1]}), r"annotations do not hold: 999"),
    ("part of another split", lambda r: r.append({"sent_id": 0, "box": [0, 0, 1, 1]}), r"without an answer: 1, 2, "),
    ("doubled", lambda r: r.append(r[0]), r"answered more than once: 80 \(1 in all\)"),
    ("text id", lambda r: r[1].update(sent_id="81"), r"\[1\]: 'sent_id' should be a whole number, found '81'"),
    ("three numbers", lambda r: r[1]["box"].pop(), r"\[1\]: 'box' should be four numbers"),
    ("box as object", lambda r: r[1].update(box={}), r"\[1\]: 'box' should be a list"),
    ("a word", lambda r: r[1]["box"].__setitem__(0, "1"), r"\[1\]: 'box' should be four numbers"),
    ("infinite", lambda r: r[1]["box"].__setitem__(0, 1e999), r"\[1\]: 'box' should be four numbers of pixels"),
    ("huge", lambda r: r[1]["box"].__setitem__(0, 10**400), r"\[1\]: 'box' should be four numbers of pixels"),
    ("no row", lambda r: r.__setitem__(1, None), r"\[1\]: expected an object"),
    ("nothing", lambda r: r.clear(), r"holds no answers"),
]


@pytest.mark.parametrize(("spoil", "line"), [fault[1:] for fault in ROWS], ids=[fault[0] for fault in ROWS])
def test_a_bad_answer_file_gives_one_clear_line(
    refcoco: RefCOCO, root: Path, spoil: Callable[[list[Any]], Any], line: str
) -> None:
    rows: list[Any] = refcoco.answers_file(right(refcoco), "val")
    assert scored(root / "refcoco", rows)["count"] == 16
    spoil(rows)
    with pytest.raises(BadData, match=line) as fault:
        scored(root / "refcoco", rows)
    assert str(root / "refcoco/answers.json") in fault.value.wrong


def test_at_the_command_line(command: Any, refcoco: RefCOCO, root: Path) -> None:
    (root / "answers.json").write_bytes(refcoco.answers_content(right(refcoco), "val"))
    (root / "short.json").write_text((root / "answers.json").read_text()[:-40])
    words = ("score", "refcoco", "--annotations", root / "refcoco/refs(unc).p", "--answers")
    done = command(*words, root / "answers.json", "--json", "--scorer", "plus-one-above")
    assert done.code == 0
    assert json.loads(done.out) == {
        "accuracy": 100,
        "per_split": {"val": 100},
        "count": 16,
        "scorer": "plus-one-above",
    }
    command(*words, root / "short.json").refused(3, "short.json", "not JSON")
    wrong = command(*words[:3], root / "refcoco/instances.json", "--answers", root / "answers.json")
    wrong.refused(3, "instances.json", "expected a list of objects")


# --- bad files ------------------------------------------------------------------------------------------


def ref(at: int, **values: Any) -> Callable[[Files], Any]:
    return lambda files: files["refs"][at].update(values)


def boxed(at: int, **values: Any) -> Callable[[Files], Any]:
    return lambda files: files["instances"]["annotations"][at].update(values)


def image(at: int, **values: Any) -> Callable[[Files], Any]:
    return lambda files: files["instances"]["images"][at].update(values)


def doubled(kind: str, **values: Any) -> Callable[[Files], Any]:
    """Say another thing of what is there already; the last would win."""
    return lambda files: files["instances"][kind].append(files["instances"][kind][3] | values)


FILES: list[tuple[str, Callable[[Files], Any], str]] = [
    ("an object", lambda f: f.update(refs={}), r"refs\(unc\)\.p: expected a list of objects"),
    ("empty", lambda f: f["refs"].clear(), r"expected a list of objects"),
    ("no record", lambda f: f["refs"].__setitem__(2, 5), r"\[2\]: expected an object with 'ann_id', found 5"),
    ("text id", ref(2, ann_id="7002"), r"\[2\]: 'ann_id' should be a whole number"),
    ("no split", lambda f: f["refs"][2].pop("split"), r"\[2\]: the key 'split' is missing"),
    ("no sentences", ref(2, sentences=[], sent_ids=[]), r"\[2\]: 'sentences' is empty"),
    ("sentence lost", lambda f: f["refs"][2]["sentences"].pop(), r"\[2\]: 'sent_ids' are not those"),
    ("bare sentence", ref(2, sentences=["left one"]), r"\[2\]\.sentences\[0\]: expected an object"),
    ("no text", lambda f: f["refs"][2]["sentences"][1].pop("sent"), r"\[2\]\.sentences\[1\]: the key 'sent'"),
    ("twice", lambda f: f["refs"].append(f["refs"][0]), r"ids of more than one expression: 0, 1 \(2 in all\)"),
    ("unknown split", ref(3, split="dev"), r"splits that .*refcoco\.toml does not name: dev \(1 in all\)"),
    ("no such split", lambda f: f.update(refs=f["refs"][:40]), r"holds no expression of the split val"),
    ("unknown box", ref(3, ann_id=5), r"annotation ids .* does not hold: 5 \(1 in all\)"),
    ("box elsewhere", boxed(3, image_id=1000), r"has on another image: 7003 \(1 in all\)"),
    ("unknown image", lambda f: f["instances"]["images"].pop(), r"images .* does not hold: 1028, 1028"),
    ("no boxes", lambda f: f["instances"].pop("annotations"), r"instances\.json: the key 'annotations' is missing"),
    ("corner lost", boxed(3, bbox=[1, 2, 3]), r"annotations\[3\]: 'bbox' should be four numbers"),
    ("box of words", boxed(3, bbox=["1", 2, 3, 4]), r"annotations\[3\]: 'bbox' should be four numbers"),
    (
        "box beside the image",
        boxed(3, bbox=[700, 10, 50, 50]),
        r"instances\.json: boxes .* show nothing .*: 7003 \(1 in",
    ),
    ("box of no height", boxed(3, bbox=[10, 10, 50, 0]), r"instances\.json: boxes .* show nothing .*: 7003 \(1 in"),
    ("image twice", doubled("images", width=64), r"instances\.json: ids of more than one image: 1003 \(1 in all\)"),
    ("box twice", doubled("annotations", bbox=[0, 0, 9, 9]), r"ids of more than one annotation: 7003 \(1 in all\)"),
    ("no size", image(3, width=0), r"images\[3\]: an image of 0 x 480 pixels"),
    ("huge size", image(3, width=10**400), r"images\[3\]: an image of 1000"),
    ("size in halves", image(3, height=480.5), r"images\[3\]: 'height' should be a whole number"),
]


@pytest.mark.parametrize(("spoil", "line"), [fault[1:] for fault in FILES], ids=[fault[0] for fault in FILES])
def test_bad_files_give_one_clear_line(tmp_path: Path, spoil: Callable[[Files], Any], line: str) -> None:
    files = made_up()
    spoil(files)
    write(tmp_path / "refcoco", files)
    with pytest.raises(BadData, match=line) as fault:
        RefCOCO(find(DatasetCard, "refcoco"), tmp_path).examples("val")
    assert fault.value.code == 3
    assert str(tmp_path) in fault.value.wrong


class Runs:
    """Runs something when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('a pickle was run')",))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("held", [Runs(), {1, 2}, b"bytes" * 3, 1j, Path, [Runs()]], ids=range(6))
def test_a_pickle_of_more_than_plain_containers_is_refused(tmp_path: Path, held: object, protocol: int) -> None:
    path = tmp_path / "refs(unc).p"
    path.write_bytes(pickle.dumps([{"ann_id": held}], protocol))
    with pytest.raises(BadData, match=r"refs\(unc\)\.p: holds more than plain containers: [A-Z_]+\d?") as fault:
        read_plain_pickle(path)
    assert "get it again" in fault.value.todo


def test_a_pickle_of_python_2_is_read_as_latin_1(tmp_path: Path) -> None:
    path = tmp_path / "old.p"
    path.write_bytes(b"(lp0\n(dp1\nS'sent'\np2\nS'caf\\xe9'\np3\nsV\\u0142\np4\nL12L\nsa.")
    assert read_plain_pickle(path) == [{"sent": "café", "ł": 12}]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "not a whole pickle: EOFError"),
        (pickle.dumps([1, 2], 2)[:-1], "not a whole pickle: EOFError"),
        (pickle.dumps([1, 2], 2) + b"x", "holds more than one value"),
        (b"\x80\x02].e.", "holds more than one value"),
        (b"\x80\x02]K\x01].", "holds more than one value"),
        (b"\x80\x02](K\x01].", "holds more than one value"),
        (b"\x80\x02}X\x01\x00\x00\x00aK\x01sX\x01\x00\x00\x00aK\x02s.", "holds a record with a key twice"),
        (b"\x80\x02}(X\x01\x00\x00\x00aK\x01X\x01\x00\x00\x00aK\x02u.", "holds a record with a key twice"),
        (b"\x80\x02r\xff\xff\xff\xff.", "not a whole pickle"),
        (b"\x80\x02]r\xff\xff\xff\x7fX\xff\xff\xff\x7fa.", "not a whole pickle"),
        (b"{}", "holds more than plain containers|not a whole pickle"),
        (b'[{"ref_id": 3}]', "holds more than plain containers: byte 0x5b"),
    ],
)
def test_a_damaged_pickle_gives_one_clear_line(tmp_path: Path, content: bytes, line: str) -> None:
    path = tmp_path / "refs(unc).p"
    path.write_bytes(content)
    with pytest.raises(BadData, match=line) as fault:
        read_plain_pickle(path)
    assert str(path) in fault.value.wrong


def test_files_that_are_not_there(refcoco: RefCOCO, root: Path) -> None:
    (root / "refcoco/instances.json").unlink()
    with pytest.raises(BadData, match="there is no file") as fault:
        refcoco.examples("val")
    assert "https://github.com/lichengunc/refer" in fault.value.todo


FUZZ = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def outcome(read: Callable[[], object]) -> object:
    """What was read, or what the one line says."""
    try:
        return read()
    except BadData as fault:
        return fault.wrong


SMALL = made_up(counts={"train": 3, "val": 2, "testA": 1, "testB": 1})


@FUZZ
@given(data=st.data(), protocol=st.sampled_from([0, 2, 4]), name=st.sampled_from(["refs(unc).p", "instances.json"]))
def test_no_file_breaks_the_reader_or_loses_expressions(
    tmp_path: Path, data: st.DataObject, protocol: int, name: str
) -> None:
    write(tmp_path, SMALL, protocol)
    content = bytearray((tmp_path / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            content[at] = data.draw(st.integers(0, 255))
        else:
            del content[at : at + data.draw(st.sampled_from([1, 2, 30]))]
    (tmp_path / name).write_bytes(content)
    found = outcome(lambda: len(read_expressions(tmp_path / "refs(unc).p", tmp_path / "instances.json", "")))
    assert found == 14 or str(tmp_path) in str(found)


@FUZZ
@given(data=st.data())
def test_no_answer_file_breaks_the_reader_or_loses_answers(tmp_path: Path, data: st.DataObject) -> None:
    write(tmp_path, SMALL)
    ids = [one["sent_id"] for ref_ in SMALL["refs"] if ref_["split"] == "val" for one in ref_["sentences"]]
    content = json.dumps([{"sent_id": identity, "box": [1, 2, 30.5, 40]} for identity in ids])
    at = data.draw(st.integers(0, len(content) - 1))
    more = data.draw(st.sampled_from(["", "0", '"', "[", "}", ",", "null", "-", "1e999", "\\"]))
    spoilt = content[:at] + more + content[at + data.draw(st.sampled_from([0, 1, 1, 9])) :]
    found = outcome(lambda: scored(tmp_path, spoilt)["count"])
    assert found == len(ids) or str(tmp_path) in str(found)

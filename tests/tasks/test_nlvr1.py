"""NLVR: official files, images in folders or a tar, both scripts' answer files, a run, and what bad files lead to."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from vlbench.cards import DatasetCard
from vlbench.catalog import find
from vlbench.tasks.base import OfficialFiles
from vlbench.tasks.nlvr1 import NLVR1
from vlbench.tasks.nlvr_files import read_boxes
from vlbench.tasks.pictures import pictures_in
from vlbench.types import BadData, Fault, Misuse

SAMPLES = Path(__file__).parents[1] / "official" / "samples" / "nlvr1"
Rows = list[dict[str, Any]]


def rows_of(groups: int = 3, each: int = 2) -> Rows:
    """The first of each group is true."""
    return [
        {
            "sentence": f"There are {group} towers.",
            "label": str(number == 0).lower(),
            "identifier": f"{group}-{number}",
            "directory": "0",
            "structured_rep": [[], [], []],
        }
        for group in range(70, 70 + groups)
        for number in range(each)
    ]


def write_lines(path: Path, rows: Rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root with small files in the layout of the corpus."""
    monkeypatch.setenv("VLBENCH_CACHE", str(tmp_path / "cache"))
    write_lines(tmp_path / "nlvr1" / "dev" / "dev.json", rows_of())
    write_lines(tmp_path / "nlvr1" / "train_partial.json", rows_of(2))
    return tmp_path


@pytest.fixture
def task(root: Path) -> NLVR1:
    return NLVR1(find(DatasetCard, "nlvr1"), root)


@pytest.fixture
def sample(root: Path) -> NLVR1:
    """A few real examples, their images in a tar, as one may have them."""
    for name in ("dev.json", "dev-images.tar"):
        shutil.copy(SAMPLES / name, root / "nlvr1" / name)
    shutil.rmtree(root / "nlvr1" / "dev")
    return NLVR1(find(DatasetCard, "nlvr1"), root)


# --- official files -------------------------------------------------------------------------------------


def test_a_sample_of_the_corpus(sample: NLVR1) -> None:
    first = sample.examples("dev")[0]
    assert (first.id, first.images, first.answer) == ("1572-0", ("dev-1572-0-0",), "True")
    assert first.texts == ("Each grey box contains atleast one yellow object touching the edge",)
    assert len(sample.examples("dev")) == 12
    given = {example.id: str(example.answer) for example in sample.examples("dev")}
    scores = sample.score(given | {"1572-0": "False"}, "dev")
    assert [(round(one.value, 3), one.count) for one in scores.values()] == [(91.667, 12), (66.667, 3)]


def test_images_from_a_tar_are_unpacked_once(sample: NLVR1, root: Path) -> None:
    found = sample.image_files("dev")
    assert set(found) == {key for example in sample.examples("dev") for key in example.images}
    assert all(root / "cache" in path.parents for path in found.values())
    with Image.open(found["dev-1572-0-0"]) as picture:
        assert (picture.size, picture.mode) == ((400, 100), "RGBA")
    found["dev-1572-0-0"].unlink()
    assert len(sample.image_files("dev")) == 11  # it was not unpacked again


def test_images_in_the_folders_of_the_corpus(task: NLVR1, root: Path) -> None:
    assert task.image_files("dev") == {}
    folder = root / "nlvr1" / "dev" / "images" / "0"
    folder.mkdir(parents=True)
    for permutation in range(6):
        (folder / f"dev-70-0-{permutation}.png").touch()
    assert task.image_files("dev") == {"dev-70-0-0": folder / "dev-70-0-0.png"}
    assert len(task.image_files("dev-permutations")) == 6


def test_the_part_of_train_is_read_where_train_is_not_here(task: NLVR1, root: Path) -> None:
    assert [example.images for example in task.examples("train")][:1] == [("train-70-0-0",)]
    assert list(task.files("train")) == ["train_partial.json"]
    write_lines(root / "nlvr1" / "train" / "train.json", rows_of(5))
    assert len(NLVR1(task.card, root).examples("train")) == 10


def test_six_permutations(task: NLVR1) -> None:
    examples = task.examples("dev-permutations")
    assert len(examples) == 36
    assert [examples[5].id, *examples[5].images] == ["dev-70-0-5", "dev-70-0-5"]
    given = {example.id: str(example.answer) for example in examples} | {"dev-70-0-5": "False"}
    scores = task.score(given, "dev-permutations")
    assert [(round(one.value, 3), one.count) for one in scores.values()] == [(97.222, 36), (66.667, 3)]


def test_accuracy_first_then_consistency(task: NLVR1) -> None:
    scores = task.score(dict.fromkeys(("70-0", "70-1", "71-0"), "True"), "dev")
    assert list(scores) == ["accuracy", "consistency"]
    assert [(round(one.value, 3), one.count) for one in scores.values()] == [(66.667, 3), (50, 2)]
    assert task.answers == ("False", "True")
    assert task.group(task.examples("dev-permutations")[0]) == task.group(task.examples("dev")[1]) == "70"
    assert task.controls("dev", ["train"]).keys() == {"prior", "question-only"}


# --- answer files ---------------------------------------------------------------------------------------


def scored(root: Path, content: bytes | str) -> dict[str, object]:
    path = root / "answers.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return NLVR1.score_files(OfficialFiles(path, annotations=root / "nlvr1" / "dev" / "dev.json"))


@pytest.mark.parametrize(("split", "line", "permutations"), [
    ("dev", b"70-0,False\n", 1), ("dev-permutations", b"dev-70-0-0.png,False\n", 6),
])  # fmt: skip
def test_the_answer_files_are_the_official_ones(
    task: NLVR1, root: Path, split: str, line: bytes, permutations: int
) -> None:
    given = {example.id: place % 3 % 2 for place, example in enumerate(task.examples(split))}
    content = task.answers_content(given, split)
    assert content.startswith(line)
    found, scores = scored(root, content), task.score(given, split)
    assert found["accuracy"] == pytest.approx(scores["accuracy"].value)
    assert found["consistency"] == pytest.approx(scores["consistency"].value)
    assert [found[key] for key in ("count", "sentences", "permutations")] == [6 * permutations, 3, permutations]


GOOD = "".join(f"{row['identifier']},{row['label']}\n" for row in rows_of())
DRAWN = "".join(f"dev-{row['identifier']}-{k}.png,{row['label']}\n" for row in rows_of() for k in range(6))
ANSWERS: list[tuple[str, str, str]] = [
    ("empty", "", r"without an answer: 70-0, .* \(6 in all\)"),
    ("missing", GOOD.partition("\n")[2], r"without an answer: 70-0 \(1 in all\)"),
    ("surplus", GOOD + "9-9,true\n", r"do not hold: 9-9 \(1 in all\)"),
    ("doubled", GOOD + "70-0,true\n", r"more than once: 70-0 \(1 in all\)"),
    ("word", GOOD.replace("true", "maybe", 1), "line 1: 'maybe' is neither"),
    ("an image missing", DRAWN.partition("\n")[2], r"without an answer: 70-0-0 \(1 in all\)"),
    ("an image too many", DRAWN + "dev-70-0-6.png,true\n", r"do not hold: 70-0-6 \(1 in all\)"),
    ("an image twice", DRAWN + "dev-70-0-0.png,true\n", r"more than once: 70-0-0 \(1 in all\)"),
    ("both kinds", GOOD + DRAWN, r"do not hold: dev-70-0-0\.png, .*\(36 in all\)"),
]


@pytest.mark.parametrize(("content", "line"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS])
def test_bad_answers_give_one_clear_line(root: Path, content: str, line: str) -> None:
    assert scored(root, GOOD)["accuracy"] == scored(root, DRAWN)["accuracy"] == 100
    with pytest.raises(BadData, match=line) as fault:
        scored(root, content)
    assert "answers.csv" in fault.value.wrong


def test_what_is_needed_to_score(root: Path) -> None:
    with pytest.raises(Misuse, match="--annotations is missing"):
        NLVR1.score_files(OfficialFiles(root / "answers.csv"))


# --- bad files ------------------------------------------------------------------------------------------


FAULTS: list[tuple[str, Callable[[Rows], object], str]] = [
    ("empty", lambda r: r.clear(), "holds no example"),
    ("twice", lambda r: r.append(r[3]), r"came before: 71-1 \(1 in all\)"),
    ("identifier", lambda r: r[1].update(identifier="dev-0-0-0"), "line 2: 'identifier' should be GROUP-NUMBER"),
    ("no sentence", lambda r: r[0].pop("sentence"), "line 1: the key 'sentence' is missing"),
    ("no label", lambda r: r[2].pop("label"), "line 3: the key 'label' is missing"),
    ("label", lambda r: r[2].update(label="yes"), "line 3: 'label' should be true or false, found 'yes'"),
]


@pytest.mark.parametrize(("spoil", "line"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_bad_files_give_one_clear_line(root: Path, spoil: Callable[[Rows], object], line: str) -> None:
    rows = rows_of()
    spoil(rows)
    path = write_lines(root / "nlvr1" / "dev" / "dev.json", rows)
    with pytest.raises(BadData, match=line) as fault:
        NLVR1(find(DatasetCard, "nlvr1"), root).examples("dev")
    assert str(path) in fault.value.wrong
    assert "\n" not in fault.value.wrong


def test_what_is_not_here(task: NLVR1, root: Path) -> None:
    with pytest.raises(BadData, match=r"no file .*hidden\.json") as fault:
        task.examples("hidden-permutations")
    assert "github.com/lil-lab/nlvr" in fault.value.todo
    with pytest.raises(Misuse, match="did you mean 'dev'"):
        task.examples("devv")
    with pytest.raises(Misuse, match="no scorer"):
        task.score({"70-0": "True"}, "dev", "soft")
    with pytest.raises(BadData, match="no layout"):
        NLVR1(task.card.model_copy(update={"layout": "nlvr2"}), root)
    secret = task.card.splits | {"dev": task.card.splits["dev"].model_copy(update={"public": False})}
    with pytest.raises(Fault, match="not public"):
        NLVR1(task.card.model_copy(update={"splits": secret}), root).score({"70-0": "True"}, "dev")


def test_faulty_tars(root: Path) -> None:
    whole = (SAMPLES / "dev-images.tar").read_bytes()
    path = root / "dev-images.tar"
    for content in (whole[:5000], b"", b"no tar at all" * 100):
        path.write_bytes(content)
        with pytest.raises(BadData, match=r"dev-images\.tar: not a whole tar") as fault:
            pictures_in(path)
        assert "get it again" in fault.value.todo
    with tarfile.open(path, "w") as packed:
        for folder in ("0", "1"):
            packed.add(SAMPLES / "dev.json", f"dev/images/{folder}/dev-1-0-0.png")
    with pytest.raises(BadData, match=r"holds two images called dev-1-0-0\.png"):
        pictures_in(path)
    assert not [part for part in (root / "cache" / "images").iterdir() if part.is_dir()]


def test_a_tar_writes_nowhere_but_into_its_folder(root: Path) -> None:
    with tarfile.open(root / "odd.tar", "w") as packed:
        packed.add(SAMPLES / "dev.json", "../../escaped.png")
        packed.add(SAMPLES / "dev.json", "/elsewhere/outside.png")
        packed.add(SAMPLES / "dev.json", "readme.txt")
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        packed.addfile(link)
    found = pictures_in(root / "odd.tar")
    assert sorted(found) == ["escaped", "outside"]
    assert {path.parent.parent for path in found.values()} == {root / "cache" / "images"}


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    row=st.integers(0, 3),
    key=st.sampled_from(["sentence", "label", "identifier", "directory", "structured_rep"]),
    value=st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.lists(st.none()),
    drop=st.booleans(),
)
def test_no_change_of_a_record_is_dropped(tmp_path: Path, row: int, key: str, value: object, drop: bool) -> None:
    rows = rows_of(2)
    if drop:
        rows[row].pop(key)
    else:
        rows[row][key] = value
    path = write_lines(tmp_path / "dev.json", rows)
    fault = ""
    try:
        found = read_boxes(path)
    except BadData as error:
        fault = error.wrong
    assert "\n" not in fault
    assert fault or len(found) == 4


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), cut=st.integers(0, 700), content=st.binary(max_size=30))
def test_no_bytes_end_in_anything_but_bad_data(tmp_path: Path, data: st.DataObject, cut: int, content: bytes) -> None:
    annotations, answers = write_lines(tmp_path / "dev.json", rows_of(2)), tmp_path / "answers.csv"
    answers.write_text("".join(f"{row['identifier']},{row['label']}\n" for row in rows_of(2)))
    path = data.draw(st.sampled_from([annotations, answers]))
    path.write_bytes(path.read_bytes()[:cut] + content + path.read_bytes()[cut:])
    fault = ""
    try:
        found = NLVR1.score_files(OfficialFiles(answers, annotations=annotations))
    except BadData as error:
        fault = error.wrong
    assert "\n" not in fault
    assert fault or found["count"] == 4


# --- a run ----------------------------------------------------------------------------------------------


def test_a_run_on_what_somebody_has(command: Callable[..., Any], sample: NLVR1, root: Path) -> None:
    """Real examples whose images are in a tar; the dev file stands in for the one of train."""
    folder = root / "nlvr1"
    shutil.copy(folder / "dev.json", folder / "train_partial.json")
    with tarfile.open(folder / "dev-images.tar") as packed, tarfile.open(folder / "train-images.tar", "w") as renamed:
        for member in packed.getmembers():
            content = packed.extractfile(member)
            member.name = member.name.replace("dev", "train")
            renamed.addfile(member, content)
    done = command("run", "lxmert", "nlvr1", "--data", root, "--set", "steps=1", "--json")
    assert done.code == 0, done.err
    record = json.loads(next((root / "runs" / "nlvr1" / "lxmert").glob("*/record.json")).read_text())
    assert list(record["scores"]["dev"]) == ["accuracy", "consistency"]
    assert record["scores"]["dev"]["accuracy"]["count"] == 12
    assert "train_partial.json" in record["inputs"]

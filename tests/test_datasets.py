"""The data verbs: a check finds what is missing or changed, and a made-up world of another version is never used."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vlbench.cards import DatasetCard, TaskCard
from vlbench.catalog import card_names, cards, find
from vlbench.paths import cache_root
from vlbench.tasks.nlvr1 import ALL
from vlbench.world import SIZES, WORLD_VERSION, Counts, make_world

TINY = Counts(train=30, val=30, test=30, unseen=30, sets=4, tested_sets=3, name="medium")
FEW = ("--set", "steps=2", "--set", "batch=8", "--limit", 24, "--no-mlflow", "--json")
RUN = ("run", "lxmert", "gqa", "--dataset", "world-medium")
Command = Callable[..., Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a tiny world where the medium one would be; do not write in it."""
    root = tmp_path_factory.mktemp("data")
    make_world(root / "world" / "medium", size=TINY)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy of it to do with as one likes."""
    return Path(shutil.copytree(made, tmp_path / "data"))


def set_version(place: Path, version: int) -> None:
    path = place / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": version}))


def state(command: Command, root: Path) -> str:
    rows = json.loads(command("data", "list", "--data", root, "--json").out)
    return str(next(row["state"] for row in rows if row["dataset"] == "world-medium"))


# --- a made-up world ------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])


def append(path: Path) -> None:
    """Change a picture so that it is decoded as before."""
    path.write_bytes(path.read_bytes() + b"0")


def first(folder: Path) -> Path:
    return sorted(folder.iterdir())[0]


SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "a file": (lambda place: flip(place / "gqa/val_choices.json"), r"gqa/val_choices.json (1 in all)"),
    "a picture": (lambda place: append(first(place / "images/coco")), "images/coco/ (1 in all)"),
    "a picture more": (
        lambda place: shutil.copy(first(place / "images/nlvr2"), place / "images/nlvr2/one-more.png") and None,
        "images/nlvr2/one-more.png (not part of it) (1 in all)",
    ),
    "boxes": (
        lambda place: (place / "vcr/vcr1images/COCO_test2015_000002000004.json").unlink(),
        "vcr/vcr1images/COCO_test2015_000002000004.json (missing) (1 in all)",
    ),
    "pictures": (
        lambda place: [path.unlink() for path in sorted((place / "images/coco").iterdir())[:12]] and None,
        "images/coco/COCO_test2015_000002000010.png (missing), ... (12 in all)",
    ),
    "regions": (lambda place: flip(place / "regions.h5"), "regions.h5 (1 in all)"),
    "many": (lambda place: [append(path) for path in place.rglob("*.json*")] and None, "..."),
}


@pytest.mark.parametrize(("spoil", "words"), SPOILT.values(), ids=list(SPOILT))
def test_a_check_looks_at_every_file_of_a_world(
    command: Command, root: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None], words: str
) -> None:
    monkeypatch.setattr("vlbench.datasets.tasks_of", lambda name: ["vcr"])  # what a task reads is tested below
    whole = command("data", "check", "world-medium", "--data", root)
    assert (whole.code, whole.complaints) == (0, [])
    assert "wrong" not in whole.out
    place = root / "world/medium"
    manifest = (place / "manifest.json").read_bytes()
    spoil(place)
    (place / "manifest.json").write_bytes(manifest)
    done = command("data", "check", "world-medium", "--data", root)
    assert done.code == 3
    (line,) = [line for line in done.complaints if "not as they were made" in line]
    assert line.startswith("vlbench: - files: ")
    assert words in line
    assert line.count(", ") <= 10  # ten names, and dots where there are more


def test_a_check_names_the_files_of_a_folder_that_were_written_later(command: Command, root: Path) -> None:
    append(root / "world/medium/images/nlvr2/dev-0-0-img1.png")
    append(root / "world/medium/vqa-v2/skills.json")
    done = command("data", "check", "world-medium", "--data", root, "--json")
    assert done.code == 3
    part = json.loads(done.out)[-1]
    assert part["expected"] - part["examples"] == 2
    (line,) = part["wrong"]
    assert line.endswith("vqa-v2/skills.json, images/nlvr2/dev-0-0-img1.png (written later) (2 in all)")


def test_an_image_that_is_lost_is_told_even_where_its_features_are_here(command: Command, root: Path) -> None:
    def checked() -> dict[str, list[str]]:
        parts = json.loads(command("data", "check", "world-medium", "--data", root, "--json").out)
        return {part["split"]: part["wrong"] for part in parts if part["task"] == "gqa"}

    images = root / "world/medium/images/coco"
    (images / "COCO_val2014_000001000003.png").unlink()
    found = checked()
    assert [split for split, wrong in found.items() if wrong] == ["val"]
    (line,) = found["val"]
    assert line.endswith("of which only the features are here: COCO_val2014_000001000003 (1 in all)")
    shutil.rmtree(images)
    assert not any(checked().values())  # features alone are whole


def test_the_counts_of_a_world_are_those_of_its_manifest(command: Command, root: Path) -> None:
    """A question file that lost its last record is still a question file."""
    path = root / "world/medium/gqa/unseen_balanced_questions.json"
    questions = json.loads(path.read_text())
    lost = questions.popitem()[0]
    path.write_text(json.dumps(questions))
    done = command("data", "check", "world-medium", "--data", root, "--json")
    assert done.code == 3
    parts = {(part["task"], part["split"]): part for part in json.loads(done.out)}
    assert {name for name, part in parts.items() if part["wrong"]} == {("gqa", "unseen"), ("-", "files")}
    assert all(part["expected"] == part["examples"] + bool(part["wrong"]) > 1 for part in parts.values())
    (line,) = (line for line in parts["gqa", "unseen"]["wrong"] if "examples" in line)
    assert line == f"{len(questions):,} examples, but the card says {len(questions) + 1:,}", lost


def test_a_world_of_another_version_is_refused_until_it_is_made_anew(
    command: Command, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert state(command, root) == "here"
    set_version(root / "world/medium", WORLD_VERSION - 1)
    for words in ((*RUN, *FEW), (*RUN, "--dry-run"), ("data", "check", "world-medium")):
        done = command(*words, "--data", root)
        done.refused(3, "made by another version", root / "world/medium")
        assert "vlbench data get world --size medium" in done.err
    assert state(command, root) == "of another version"
    monkeypatch.setitem(SIZES, "medium", TINY)
    done = command("data", "get", "world", "--size", "medium", "--data", root)
    assert (done.code, "pictures" in done.out) == (0, True), done.err
    assert "here already" in command("data", "get", "world-medium", "--data", root).out
    assert state(command, root) == "here"


def test_a_world_of_another_version_in_the_cache_is_refused(command: Command, root: Path, tmp_path: Path) -> None:
    place = cache_root() / "world" / f"medium-{WORLD_VERSION}"
    place.parent.mkdir(parents=True)
    (root / "world/medium").rename(place)
    assert state(command, root) == "here"
    set_version(place, WORLD_VERSION + 1)
    command(*RUN, *FEW, "--data", root).refused(3, "made by another version", place)
    assert state(command, root) == "of another version"


def test_larger_worlds_are_data_sets_of_every_task_of_the_world(command: Command, made: Path) -> None:
    for size in ("medium", "large"):
        card, small = find(DatasetCard, f"world-{size}"), find(DatasetCard, "world")
        assert (card.made, card.task) == (size, small.task)
        assert {name: split.images for name, split in card.splits.items()} == {
            name: getattr(SIZES[size], name) for name in small.splits
        }
        assert [task.id for task in cards(TaskCard) if card.id in task.datasets] == [
            task.id for task in cards(TaskCard) if "world" in task.datasets
        ]
    worlds = {card.made for name in card_names(DatasetCard) if (card := find(DatasetCard, name)).made}
    assert worlds == set(SIZES)
    done = command(*RUN, *FEW, "--data", made)
    assert done.code == 0, done.err
    (record,) = json.loads(done.out)["runs"]
    assert record["dataset"] == "world-medium"
    command("data", "get", "world-medium", "--size", "large", "--data", made).refused(2, "size medium, not large")


# --- other data sets ------------------------------------------------------------------------------------


def test_images_that_a_split_lacks_are_counted(command: Command, vqa_v2: Path) -> None:
    done = command("data", "check", "vqa-v2", "--data", vqa_v2)
    assert done.code == 3
    assert "vqa val: 12 of 40,504 images" in done.err
    assert "vqa minival: 4 of 5,000 images" in done.err
    assert "vqa test: 8 of 81,434 images" in done.err
    assert "vqa test-dev: 8 examples" in done.err
    assert not [line for line in done.complaints if "nominival" in line and "images:" in line]  # not stated


def test_a_whole_data_set_lacks_no_image(command: Command) -> None:
    done = command("data", "check", "easy-vqa", "--json")
    assert done.code == 0, done.err
    assert [part["images"] for part in json.loads(done.out)] == [4000, 1000]


def test_where_files_go_and_what_may_stand_for_them(command: Command, tmp_path: Path) -> None:
    def told(name: str) -> list[str]:
        lines: list[str] = json.loads(command("data", "get", name, "--data", tmp_path, "--json").out)
        return lines[1:]

    nlvr = told("nlvr1")
    partial = "[the 1,000 examples of the corpus's train/examples.html, where train.json is missing]"
    assert nlvr[0] == (
        f"put train.json into {tmp_path}/nlvr1/train; or instead train_partial.json into {tmp_path}/nlvr1 {partial} "
        "(annotations of train)"
    )
    assert f"put dev into {tmp_path}/nlvr1; or instead dev-images.tar into {tmp_path}/nlvr1 (images of dev)" in nlvr
    (images,) = (line for line in told("coco-captions") if line.endswith("(images)") and "val2014" in line)
    assert f"or instead val2014 into {tmp_path}/vqa-v2 " in images
    vqa = told("vqa-v2")
    assert sum("or instead vqa_train.json" in line for line in vqa) == 2  # it stands for questions and annotations
    assert [line.split(" into ")[0] for line in vqa if line.startswith("if you like")] == [
        f"if you like, put {name}" for name in ("answer_list.json", "vg", "vg_qa.json")
    ]


def test_what_a_data_set_is_whole_without_is_told_and_not_wrong(command: Command, tmp_path: Path) -> None:
    """NLVR's pictures in other orders of their boxes: of 12 examples the first is here, of one all six."""
    folder = tmp_path / "nlvr1"
    samples = Path(__file__).parent / "official" / "samples" / "nlvr1"
    for split in ("train", "dev", "test", "hidden"):
        path = folder / split / f"{split}.json"
        path.parent.mkdir(parents=True)
        shutil.copy(samples / "dev.json", path)
        with tarfile.open(samples / "dev-images.tar") as packed:
            for member in packed.getmembers():
                content = packed.extractfile(member)
                assert content is not None
                (path.parent / Path(member.name).name.replace("dev-", f"{split}-", 1)).write_bytes(content.read())
    done = command("data", "check", "nlvr1", "--data", tmp_path, "--json")
    parts = {part["split"]: part for part in json.loads(done.out)}
    assert (parts["train"]["wrong"], parts["train"]["lacks"]) == ([], [])
    assert (parts["train-permutations"]["wrong"], parts["train-permutations"]["at_hand"]) == ([], 12)
    assert "(60 in all)" in parts["train-permutations"]["lacks"][0]
    shown = command("data", "check", "nlvr1", "--data", tmp_path)
    assert "nlvr1 train-permutations is not needed: images neither as files nor as features" in " ".join(
        shown.out.split()
    )
    assert "in part" in shown.out
    assert not [line for line in shown.complaints if "neither as files" in line]
    sorted((folder / "train").glob("*.png"))[0].unlink()  # one of those that are needed
    (line,) = (line for line in command("data", "check", "nlvr1", "--data", tmp_path).complaints if "train: i" in line)
    assert line.endswith("(1 in all)")


def test_a_data_set_with_an_optional_split_in_part_is_whole(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "nlvr1"
    folder.mkdir()
    samples = Path(__file__).parent / "official" / "samples" / "nlvr1"
    for name in ("dev.json", "dev-images.tar"):
        shutil.copy(samples / name, folder / name)
    card = find(DatasetCard, "nlvr1")  # but of the sample's size
    some = {name: card.splits[name].model_copy(update={"images": 0, "examples": 0}) for name in ("dev", f"dev{ALL}")}
    plain = tuple(file.model_copy(update={"bytes": 0, "sha256": ""}) for file in card.file)
    monkeypatch.setattr(
        "vlbench.datasets.find_dataset", lambda *_: card.model_copy(update={"splits": some, "file": plain})
    )
    words = ("data", "check", "nlvr1", "--data", tmp_path)
    done = command(*words)
    assert (done.code, done.complaints) == (0, [])
    assert f"nlvr1 dev{ALL} is not needed" in done.out
    needed = {name: split.model_copy(update={"optional": False}) for name, split in some.items()}
    monkeypatch.setattr(
        "vlbench.datasets.find_dataset", lambda *_: card.model_copy(update={"splits": needed, "file": plain})
    )
    assert command(*words).code == 3


def test_questions_on_visual_genome_may_be_missing(command: Command, vqa_v2: Path, tmp_path: Path) -> None:
    def checked() -> dict[str, Any]:
        parts = json.loads(command("data", "check", "vqa-v2", "--data", root, "--json").out)
        found: dict[str, Any] = next(part for part in parts if part["split"] == "vg")
        return found

    root = Path(shutil.copytree(vqa_v2, tmp_path / "copy"))
    assert (checked()["wrong"], len(checked()["lacks"])) == ([], 1)
    assert "vg_qa.json" in checked()["lacks"][0]
    path = root / "vqa-v2" / "vg_qa.json"
    path.write_text("[]")
    assert "holds no questions" in checked()["wrong"][0]  # what is here must be right


def test_how_long_a_world_takes_depends_on_its_size(command: Command, tmp_path: Path) -> None:
    words = {"small": "about a minute", "medium": "about 10 minutes", "large": "about 52 minutes"}
    for size, name in (("small", "world"), ("medium", "world-medium"), ("large", "world-large")):
        done = command("run", "lxmert", "gqa", "--dataset", name, "--dry-run", "--json", "--data", tmp_path)
        (found,) = json.loads(done.out)["plans"]
        assert found["first"] == f"the made-up world is made (size {size}, {words[size]})"

"""Files of a card that stand for each other, and images in a tar: what list, check, doctor and --dry-run say."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vlbench import doctor
from vlbench.cards import DatasetCard
from vlbench.catalog import find
from vlbench.tasks.nlvr1 import NLVR1
from vlbench.tasks.pictures import names_in, pictures_in
from vlbench.tasks.places import alternatives
from vlbench.types import BadData

Command = Callable[..., Any]
SAMPLES = Path(__file__).parent / "official" / "samples" / "nlvr1"
DRY = ("evaluate", "lxmert", "nlvr1", "--start", "scratch", "--dry-run", "--json")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """NLVR's dev as the corpus has it, dev/dev.json, its images in a tar beside the folder."""
    folder = tmp_path / "data" / "nlvr1"
    (folder / "dev").mkdir(parents=True)
    shutil.copy(SAMPLES / "dev.json", folder / "dev" / "dev.json")
    shutil.copy(SAMPLES / "dev.json", folder / "train_partial.json")
    shutil.copy(SAMPLES / "dev-images.tar", folder / "dev-images.tar")
    return tmp_path / "data"


def without(archive: Path, *names: str) -> None:
    """Take images out of a tar."""
    whole = archive.rename(archive.with_suffix(".whole"))
    with tarfile.open(whole) as packed, tarfile.open(archive, "w") as fewer:
        for member in packed.getmembers():
            if not member.name.endswith(names):
                fewer.addfile(member, packed.extractfile(member))


def missing(command: Command, root: Path, *words: object) -> list[str]:
    done = command(*(words or DRY), "--data", root)
    (found,) = json.loads(done.out)["plans"]
    assert done.code == (3 if found["missing"] else 0), done.err
    lines: list[str] = found["missing"]
    return lines


def checked(command: Command, root: Path, split: str) -> dict[str, Any]:
    parts = json.loads(command("data", "check", "nlvr1", "--data", root, "--json").out)
    found: dict[str, Any] = next(part for part in parts if part["split"] == split)
    return found


def group_names(name: str) -> list[list[str]]:
    return [[file.name for file in group] for group in alternatives(find(DatasetCard, name).file)]


def test_which_files_of_a_card_stand_for_each_other() -> None:
    assert ["data/dev.json", "valid.json", "nlvr_dev.json"] in group_names("nlvr2")
    assert ["dev", "dev-images.tar"] in group_names("nlvr1")
    assert ["train2014", "../vqa-v2/train2014"] in group_names("coco-captions")
    assert ["flickr30k-images", "../flickr30k/flickr30k-images"] in group_names("snli-ve")
    whole = group_names("gqa")  # ten parts of one split, and one file of several splits
    assert [f"train_all_questions/train_all_questions_{part}.json" for part in range(10)] == [
        name for (name,) in whole if "train_all" in name
    ]
    assert whole.count(["vg_gqa_obj36.tsv"]) == 1


def test_a_folder_without_images_does_not_hide_the_tar(command: Command, root: Path) -> None:
    task = NLVR1(find(DatasetCard, "nlvr1"), root)
    assert set(task.image_files("dev")) == {key for one in task.examples("dev") for key in one.images}
    assert missing(command, root) == []
    part = checked(command, root, "dev")
    assert (part["images"], part["at_hand"]) == (12, 12)
    (root / "nlvr1" / "dev" / "dev-1-0-0.png").touch()  # now the folder has images, and comes first
    assert task.image_files("dev") == {}


def test_images_that_a_tar_does_not_hold_are_named(command: Command, root: Path) -> None:
    without(root / "nlvr1" / "dev-images.tar", "dev-1572-0-0.png", "dev-3125-1-0.png")
    (line,) = missing(command, root)
    assert str(root / "nlvr1" / "dev-images.tar") in line
    assert line.endswith("dev-1572-0-0, dev-3125-1-0 (2 in all)")
    part = checked(command, root, "dev")
    assert part["at_hand"] == 10
    assert any("dev-1572-0-0, dev-3125-1-0 (2 in all)" in wrong for wrong in part["wrong"])


def test_a_folder_is_looked_through_as_a_tar_is(command: Command, root: Path) -> None:
    with tarfile.open(root / "nlvr1" / "dev-images.tar") as packed:
        packed.extractall(root / "nlvr1" / "dev", filter="data")
    (root / "nlvr1" / "dev-images.tar").unlink()
    assert missing(command, root) == []
    for path in sorted((root / "nlvr1" / "dev").rglob("*.png"))[:11]:
        path.unlink()
    (line,) = missing(command, root)
    assert line.count("dev-") == 10
    assert line.endswith(", ... (11 in all)")
    assert len(missing(command, root, *DRY, "--limit", "1")) <= 1  # only what is asked is looked for


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 100, None])
def test_a_faulty_tar_is_one_line_and_the_other_splits_are_checked(
    command: Command, root: Path, content: bytes | None
) -> None:
    path = root / "nlvr1" / "dev-images.tar"
    path.write_bytes(path.read_bytes()[:9000] if content is None else content)
    (line,) = missing(command, root)
    assert f"{path}: not a whole tar" in line
    wrong = checked(command, root, "dev")["wrong"]
    assert sum(f"{path}: not a whole tar" in one for one in wrong) == 1
    assert checked(command, root, "hidden")["wrong"]


def test_dry_run_changes_nothing(command: Command, root: Path, tmp_path: Path) -> None:
    assert missing(command, root) == []
    assert not (tmp_path / "cache").exists()


def test_names_in_a_tar_are_those_that_are_unpacked(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLBENCH_CACHE", str(tmp_path / "cache"))
    path = root / "nlvr1" / "dev-images.tar"
    assert names_in(path) == set(pictures_in(path))
    assert names_in(root / "nlvr1" / "dev") == set()
    with tarfile.open(path, "w") as packed:
        for folder in ("0", "1"):
            packed.add(SAMPLES / "dev.json", f"{folder}/dev-1-0-0.png")
    with pytest.raises(BadData, match=r"two images called dev-1-0-0\.png"):
        names_in(path)


def test_nothing_of_a_split_is_missing_where_one_of_several_is_here(command: Command, root: Path) -> None:
    """What is here instead is not asked for; where none is here, all are named."""
    typed = ("run", "lxmert", "nlvr1", "--set", "steps=1", "--dry-run", "--json")
    (line,) = missing(command, root, *typed)
    folder = root / "nlvr1"
    assert line == f"{folder / 'train'} (its images; or {folder / 'train-images.tar'})"
    card = find(DatasetCard, "nlvr1")
    what = doctor._files(card.model_copy(update={"file": tuple(f for f in card.file if f.split == "dev")}), folder)
    assert "missing" not in what.what
    for name in ("test/test.json", "hidden/hidden.json"):
        (folder / name).parent.mkdir()
        shutil.copy(SAMPLES / "dev.json", folder / name)
    rows = json.loads(command("data", "list", "--data", root, "--json").out)
    assert next(row["state"] for row in rows if row["dataset"] == "nlvr1") == "here"
    plain = tuple(file.model_copy(update={"bytes": 0}) for file in card.file)  # these are samples of the files
    lacks = doctor._files(card.model_copy(update={"file": plain}), folder).what
    assert lacks.startswith(
        f"5 of 8 files in {folder}; missing: train (or train-images.tar), test (or test-images.tar)"
    )
    assert "dev" not in lacks.partition("missing")[2]

"""A world is made whole or not at all, the same to the byte each time, and its damage is found."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from vlbench.types import BadData, Fault, Misuse
from vlbench.world import SIZES, Counts, Manifest, check_world, make_world, read_manifest
from vlbench.world.balance import Question, balanced
from vlbench.world.blocks import draw_blocks
from vlbench.world.dice import Dice
from vlbench.world.drawing import draw, png
from vlbench.world.output import Pickled
from vlbench.world.scenes import draw_scene

TINY = Counts(train=30, val=30, test=30, unseen=30, sets=4, tested_sets=3)
MAKE = """
import sys
from pathlib import Path
from vlbench.world import Counts, make_world
make_world(Path(sys.argv[1]), size=Counts(train=30, val=30, test=30, unseen=30, sets=4, tested_sets=3), seed=3)
print("torch" in sys.modules)
"""


def _hashes(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "world"
    make_world(folder, size=TINY, seed=3)
    return folder


def test_another_process_makes_the_same_bytes_without_torch(tiny: Path, tmp_path: Path) -> None:
    place = os.environ | {"PYTHONHASHSEED": "77", "TZ": "Asia/Tokyo"}
    command = [sys.executable, "-c", MAKE, str(tmp_path / "again")]
    done = subprocess.run(command, capture_output=True, text=True, env=place, check=True)
    assert done.stdout.strip() == "False"
    assert _hashes(tmp_path / "again") == _hashes(tiny)


def test_another_seed_makes_another_world(tiny: Path, tmp_path: Path) -> None:
    other = make_world(tmp_path / "other", size=TINY, seed=4)
    known = read_manifest(tiny)
    assert other.folders["images/coco"] != known.folders["images/coco"]
    same = {name for name, value in other.files.items() if known.files[name] == value}
    assert same <= {"corpora/lxmert/all_ans.json", "nocaps/nocaps_test_image_info.json"}  # no word of a picture


def test_a_larger_world_begins_with_the_smaller_ones_pictures() -> None:
    small, large = (next(draw_blocks("train", total, 0)).pictures for total in (40, 90))
    assert large[:40] == small


def test_nothing_is_left_where_making_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vlbench.world.making.write_vcr", fail)
    with pytest.raises(Fault, match="No space left"):
        make_world(tmp_path / "world", size=TINY)
    assert list(tmp_path.iterdir()) == []


def test_progress_reaches_its_end(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    make_world(tmp_path / "world", size=TINY, progress=lambda done, total, what: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1] == len(list((tmp_path / "world/images").rglob("*.png")))


def test_sizes_grow_by_ten_and_fifty() -> None:
    small, medium, large = SIZES["small"], SIZES["medium"], SIZES["large"]
    assert (small.train, small.val, small.test, small.name) == (2000, 300, 300, "small")
    assert (medium.train, medium.sets, large.train, large.unseen) == (20_000, 10 * small.sets, 100_000, 15_000)


def test_sizes_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="did you mean 'small'"):
        make_world(tmp_path / "world", size="smal")  # type: ignore[arg-type]
    with pytest.raises(Misuse, match="val = 3 has too little"):
        make_world(tmp_path / "world", size=Counts(val=3))


def test_the_manifest_tells_what_there_is(tiny: Path, world: Any) -> None:
    manifest: Manifest = world.manifest
    assert read_manifest(world.folder) == manifest
    assert (manifest.seed, manifest.size) == (5, "custom")
    assert manifest.counts["train"] == 300
    written = {name for name in _hashes(tiny) if name.endswith((".json", ".jsonl", ".p")) and "vcr1images" not in name}
    assert written - {"manifest.json"} == read_manifest(tiny).files.keys()
    assert manifest.tasks["vqa-v2"]["val"]["examples"] == len(
        world.json("vqa-v2/v2_OpenEnded_mscoco_val2014_questions.json")["questions"]
    )
    assert manifest.tasks["nlvr2"]["contrast"]["examples"] == len(world.lines("nlvr2/contrast_set_nlvr2.jsonl"))
    assert manifest.tasks["refcoco"]["testB"]["examples"] == sum(
        len(ref["sentences"]) for ref in world.refs("refcoco/refs(unc).p") if ref["split"] == "testB"
    )


def test_a_whole_world_passes(tiny: Path) -> None:
    assert check_world(tiny).seed == 3


DAMAGE = ["vqa-v2/skills.json", "refcoco/refs(unc).p", "images/coco", "images/nlvr2", "vcr/vcr1images", "regions.h5"]


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.parametrize("way", ["changed", "lost"])
def test_damage_is_found(tiny: Path, tmp_path: Path, name: str, way: str) -> None:
    folder = tmp_path / "world"
    shutil.copytree(tiny, folder)
    path = folder / name
    if path.is_dir():
        path = sorted(path.iterdir())[7]
    content = path.read_bytes()
    if way == "lost":
        path.unlink()
    else:
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        if name == "regions.h5":
            path.write_bytes(content[: len(content) // 2])
    with pytest.raises(
        BadData,
        match=name.replace("(", r"\(").replace(")", r"\)").replace("/", "."),
    ):
        check_world(folder)


def test_a_world_of_another_version_is_refused(tiny: Path, tmp_path: Path) -> None:
    values = json.loads((tiny / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(values | {"version": 0}))
    with pytest.raises(BadData, match="made by another version: world version 0"):
        read_manifest(tmp_path)


def test_no_world_is_no_world(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="there is no world"):
        read_manifest(tmp_path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10_000), byte=st.integers(0, 255), cut=st.booleans())
def test_no_manifest_ends_in_a_traceback(tiny: Path, tmp_path: Path, place: int, byte: int, cut: bool) -> None:
    content = bytearray((tiny / "manifest.json").read_bytes())
    content[place % len(content)] = byte
    (tmp_path / "manifest.json").write_bytes(content[: place % len(content)] if cut else content)
    try:
        found = read_manifest(tmp_path)
    except BadData:
        return
    assert isinstance(found.tasks, dict)


def test_pictures_are_written_as_drawn_and_depend_on_their_scene_alone() -> None:
    scene = draw_scene(Dice("a picture"))
    pixels = draw(scene)
    with Image.open(io.BytesIO(png(pixels))) as image:
        assert (np.asarray(image) == pixels).all()
    assert (draw(scene) == pixels).all()
    assert (draw(scene._replace(grain=scene.grain + 1)) != pixels).any()


def test_known_bytes_of_a_known_picture() -> None:
    """What is drawn is of whole numbers: these bytes are the same on every machine."""
    pictures = b"".join(png(draw(draw_scene(Dice("known", number)))) for number in range(50))
    assert hashlib.sha256(pictures).hexdigest() == "f38718186d9d3cc948a82d3fd73fd7d05759c5edc7de3b8ac898ff8ef6aa1843"


def test_dice_are_fair_and_the_same_everywhere() -> None:
    dice = Dice("seed", 1)
    rolls = [dice.between(1, 6) for _ in range(6000)]
    assert all(850 < rolls.count(face) < 1150 for face in range(1, 7))
    assert sorted(dice.shuffled(range(9))) == list(range(9))
    assert [Dice("seed", 1).below(1000) for _ in range(3)] == [Dice("seed", 1).below(1000)] * 3
    assert [Dice("known").below(10**6), Dice("known", 2).below(10**6)] == [720277, 824863]


def test_things_stand_clear_of_each_other_and_of_the_cover() -> None:
    dice = Dice("places")
    for _ in range(400):
        scene = draw_scene(dice, "some")
        for number, one in enumerate(scene.things):
            assert 0 <= one.span.x1 < one.span.x2 <= 64
            assert 0 <= one.span.y1 < one.span.y2 <= 64
            assert one.x not in (31, 32)
            assert one.y not in (31, 32)
            for other in scene.things[number + 1 :]:
                assert abs(one.x - other.x) >= 4
                assert abs(one.y - other.y) >= 4
        assert any(thing.unseen for thing in scene.things)


def test_balanced_questions_leave_out_what_cannot_be_balanced() -> None:
    asked = [(n, Question("Is it?", a, ("yes", "no"), "count", "f")) for n, a in enumerate(["yes"] * 7 + ["no"] * 3)]
    asked += [(n, Question("Never?", "no", ("yes", "no"), "count", "f")) for n in range(10)]
    kept = balanced(asked, {"f": 100.0}, 10, Dice("any"))
    assert sorted(question.answer for _, question in kept) == ["no"] * 3 + ["yes"] * 3
    assert {question.text for _, question in kept} == {"Is it?"}
    fewer = balanced(asked, {"f": 0.2}, 10, Dice("any"))
    assert sorted(question.answer for _, question in fewer) == ["no", "yes"]


def test_pickles_are_those_of_python(tmp_path: Path) -> None:
    import pickle

    records = [{"tokens": ["a", "b"], "id": number, "same": ["a", "a"]} for number in range(3)]
    file = Pickled(tmp_path / "refs.p")
    for record in records:
        file.add(record)
    assert file.close() == hashlib.sha256((tmp_path / "refs.p").read_bytes()).hexdigest()
    assert pickle.loads((tmp_path / "refs.p").read_bytes()) == records

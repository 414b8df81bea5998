"""Retrieval: every layout of captions, both rounds, scores, answer files, and what bad files lead to."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlbench.cards import DatasetCard
from vlbench.catalog import find
from vlbench.metrics.retrieval import KS, recalls
from vlbench.tasks.base import OfficialFiles
from vlbench.tasks.karpathy_files import read_pictured
from vlbench.tasks.retrieval import Retrieval
from vlbench.tasks.retrieval_scores import read_scores
from vlbench.types import Answer, BadData, Example, Misuse, Vectors

SAMPLES = Path(__file__).parents[1] / "official" / "samples"
PARTS = {"train": 6, "val": 3, "test": 12}
Images = list[dict[str, Any]]


def karpathy(coco: bool = False) -> dict[str, Any]:
    """Images with two captions, and one with three, in the layout of Karpathy's files."""
    images: Images = []
    for part, count in PARTS.items():
        for place in range(count):
            number, at = 100 + len(images), len(images)
            texts = [f"Caption {one} of {number}." for one in range(2 + (at == 10))]
            sentences = [
                {"tokens": text.lower().split(), "raw": text, "imgid": at, "sentid": 10 * at + one}
                for one, text in enumerate(texts)
            ]
            record = {
                "sentids": [one["sentid"] for one in sentences], "imgid": at, "sentences": sentences,
                "split": "restval" if coco and part == "train" and place < 2 else part,
                "filename": f"COCO_val2014_{number:012d}.jpg" if coco else f"{number}.jpg",
            }  # fmt: skip
            images.append(record | ({"filepath": "val2014", "cocoid": number} if coco else {}))
    return {"images": images, "dataset": "coco" if coco else "flickr30k"}


def write(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(value, bytes):
        path.write_bytes(value)
    else:
        path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with small files in Karpathy's layout."""
    write(tmp_path / "flickr30k" / "dataset_flickr30k.json", karpathy())
    write(tmp_path / "coco-captions" / "dataset_coco.json", karpathy(coco=True))
    return tmp_path


@pytest.fixture
def task(root: Path) -> Retrieval:
    return opened("flickr30k", root)


def opened(name: str, root: Path, **changed: Any) -> Retrieval:
    return Retrieval(find(DatasetCard, name).model_copy(update=changed), root)


def vectors(examples: list[Example] | Any, *, match: bool = False, seed: int = 0) -> dict[str, Answer]:
    """Answer with embeddings, the same for each image and each text."""
    draw = np.random.default_rng(seed)
    images: dict[str, np.ndarray] = {}
    found: dict[str, Answer] = {}
    for example in examples:
        image = images.setdefault(example.images[0], draw.standard_normal(6))
        found[example.id] = Vectors(image, draw.standard_normal(6), draw.random() if match else None)
    return found


def likeness(given: Mapping[str, Answer]) -> tuple[np.ndarray, np.ndarray]:
    """The matrix of inner products, and the image of each text."""
    names = list(dict.fromkeys(pair.split("|")[0] for pair in given))
    owner = np.array([names.index(pair.split("|")[0]) for pair in given])
    answers = list(given.values())
    images = np.stack([answers[list(owner).index(at)].image for at in range(len(names))])  # type: ignore[union-attr]
    return images @ np.stack([answer.text for answer in answers]).T, owner  # type: ignore[union-attr]


# --- examples -------------------------------------------------------------------------------------------


def test_an_example_is_an_image_with_a_caption_of_its_own(task: Retrieval) -> None:
    first, last = task.examples("train")[0], task.examples("test")[-1]
    assert (first.id, first.images, first.texts) == ("100|0", ("100",), ("Caption 0 of 100.",))
    assert (last.id, last.images, last.texts) == ("120|201", ("120",), ("Caption 1 of 120.",))
    assert [len(task.examples(split)) for split in PARTS] == [12, 6, 25]  # one image has three captions
    assert task.form == "match"
    assert task.answers == ()


def test_coco_trains_on_restval_too_and_is_known_by_its_numbers(root: Path) -> None:
    task = opened("coco-retrieval", root)
    assert [len(task.examples(split)) for split in PARTS] == [12, 6, 25]
    first = task.examples("train")[0]
    assert (first.id, first.images) == ("100|0", ("COCO_val2014_000000000100",))
    write(root / "coco-captions" / "test1k_ids.txt", "110\n109\n999999\n")
    splits = find(DatasetCard, "coco-retrieval").splits
    few = splits["test-1k"].model_copy(update={"images": 2})  # the card says that the first 1,000 count
    some = opened("coco-retrieval", root, splits={**splits, "test-1k": few})
    assert [example.id for example in some.examples("test-1k")] == ["110|100", "110|101", "110|102", "109|90", "109|91"]
    assert set(some.files("test-1k")) == {"dataset_coco.json", "test1k_ids.txt"}


def entries(split: str, *, one_each: bool) -> list[dict[str, Any]]:
    """ALBEF's list of a split: an entry a caption, or one an image."""
    images = [one for one in karpathy()["images"] if one["split"] == split]
    texts = [(f"flickr30k-images/{one['filename']}", [s["raw"] for s in one["sentences"]]) for one in images]
    if not one_each:
        return [{"image": path, "caption": captions} for path, captions in texts]
    return [{"image": path, "caption": text, "image_id": path[-7:-4]} for path, captions in texts for text in captions]


def lines(split: str) -> str:
    images = [one for one in karpathy()["images"] if one["split"] == split]
    rows = [
        {"sentences": [s["raw"] for s in one["sentences"]], "id": int(one["filename"][:3]), "img_path": one["filename"]}
        for one in images
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_what_authors_hand_out_instead_of_karpathys_file(root: Path, task: Retrieval) -> None:
    folder = root / "flickr30k"
    wanted = {split: [(e.images, e.texts) for e in task.examples(split)] for split in PARTS}
    (folder / "dataset_flickr30k.json").unlink()
    write(folder / "flickr30k_train.json", entries("train", one_each=True))
    write(folder / "test_ann.jsonl", lines("test"))
    write(folder / "flickr30k_val.json", entries("val", one_each=False))
    instead = opened("flickr30k", root)
    assert {split: [(e.images, e.texts) for e in instead.examples(split)] for split in PARTS} == wanted
    assert set(instead.files("test")) == {"test_ann.jsonl"}
    assert [e.id for e in instead.examples("val")] == ["106|0", "106|1", "107|2", "107|3", "108|4", "108|5"]
    for path in folder.iterdir():
        path.unlink()
    tokens = [
        f"{one['filename']}#{at}\t{sentence['raw']}"
        for one in karpathy()["images"]
        for at, sentence in enumerate(one["sentences"])
    ]
    write(folder / "results_20130124.token", "\n".join(tokens) + "\n")
    for split in PARTS:
        names = [one["filename"] for one in karpathy()["images"] if one["split"] == split]
        write(folder / f"{split}.txt", "\n".join(names if split == "val" else [name[:-4] for name in names]))
    own = opened("flickr30k", root)
    assert {split: [(e.images, e.texts) for e in own.examples(split)] for split in PARTS} == wanted
    assert own.examples("test")[0].id == "109#0".join(["109|", ""])
    assert set(own.files("test")) == {"results_20130124.token", "test.txt"}


def test_samples_of_the_official_files() -> None:
    folder = SAMPLES / "coco_captions"
    whole = {one.key: one for one in read_pictured(folder / "dataset_coco.json")}
    assert len(whole) == 50
    for name, count in (("albef_coco_test.json", 25), ("blip_coco_karpathy_train.json", 6)):
        found = read_pictured(folder / name)
        assert len(found) == count
        assert all(one.captions == whole[one.key].captions for one in found)
        assert all(one.id == whole[one.key].id for one in found)
    assert next(iter(whole.values())).caption_ids == ("370509", "370584", "372252", "372765", "375891")


def test_images_lie_in_any_folder_the_card_names(root: Path) -> None:
    task = opened("coco-retrieval", root)
    assert task.image_files("test") == {}
    for name in ("coco-captions/val2014/COCO_val2014_000000000109.jpg", "vqa-v2/val2014/000000000110.jpg"):
        write(root / name, b"")
    assert set(task.image_files("test")) == {"COCO_val2014_000000000109", "COCO_val2014_000000000110"}
    assert task.image_files("train") == {}


# --- scores ---------------------------------------------------------------------------------------------


def test_embeddings_are_ranked_by_their_inner_products(task: Retrieval) -> None:
    given = vectors(task.examples("test"))
    scores = task.score(given, "test")
    found = recalls(*likeness(given))
    assert list(scores) == ["r_mean", "tr_r1", "tr_r5", "tr_r10", "ir_r1", "ir_r5", "ir_r10"]
    assert scores["r_mean"].value == pytest.approx(found.mean)
    assert [scores[f"tr_r{k}"].value for k in KS] == pytest.approx(found.texts)
    assert [scores[f"ir_r{k}"].value for k in KS] == pytest.approx(found.images)
    assert {(score.count, score.scorer) for score in scores.values()} == {(25, "itm-eval")}
    for score in scores.values():
        assert score.low is not None
        assert score.high is not None
        assert score.low <= score.value <= score.high
    assert task.follow_up(given) == ()


def test_a_part_of_a_split_is_a_smaller_pool(task: Retrieval) -> None:
    given = vectors(task.examples("test")[:7])  # three images and one text of a fourth
    assert task.score(given, "test")["r_mean"].value == pytest.approx(recalls(*likeness(given)).mean)
    assert task.score(given, "test")["r_mean"].count == 7


def test_the_best_candidates_are_fused_and_all_others_come_last(root: Path) -> None:
    task = opened("flickr30k", root, candidates=3)
    given = vectors(task.examples("test"), match=True)
    likes, owner = likeness(given)
    names, texts = list(dict.fromkeys(pair.split("|")[0] for pair in given)), [pair.split("|")[1] for pair in given]
    best = {(i, t) for i, row in enumerate(likes) for t in np.argsort(-row)[:3]}
    best_of_texts = {(i, t) for t, column in enumerate(likes.T) for i in np.argsort(-column)[:3]}
    own = {(at, t) for t, at in enumerate(owner)}
    more = task.follow_up(given)
    assert {example.id for example in more} == {f"{names[i]}|{texts[t]}" for i, t in (best | best_of_texts) - own}
    asked = {example.id: example for example in task.examples("test")}
    assert all(example.texts == asked[f"{owner_of(example, asked)}"].texts for example in more)
    draw = np.random.default_rng(1)
    second = {example.id: Vectors(None, None, draw.random()) for example in more}
    matches = np.full(likes.shape, np.nan)
    for pair, answer in {**given, **second}.items():
        matches[names.index(pair.split("|")[0]), texts.index(pair.split("|")[1])] = answer.match  # type: ignore[union-attr]
    # As ALBEF's evaluation: a pair counts in a direction only where it is a candidate of that direction.
    to_text, to_image = (np.full(likes.shape, -100.0) for _ in range(2))
    for chosen, out in ((best, to_text), (best_of_texts, to_image)):
        for place in chosen:
            out[place] = matches[place]
    found = recalls(to_text, owner, to_image)
    scores = task.score({**given, **second}, "test")
    assert scores["r_mean"].value == pytest.approx(found.mean)
    content = read_scores(task.answers_content({**given, **second}, "test"), "file")
    assert np.array_equal(np.isfinite(content.to_text), to_text > -100)
    assert content.to_image is not None
    assert np.array_equal(np.isfinite(content.to_image), to_image > -100)


def owner_of(example: Example, asked: Mapping[str, Example]) -> str:
    """The own pair of the text of a pair."""
    return next(pair for pair in asked if pair.split("|")[1] == example.id.split("|")[1])


def test_without_embeddings_all_pairs_are_fused(root: Path) -> None:
    task = opened("flickr30k", root)
    given: dict[str, Answer] = {e.id: Vectors(None, None, 0.9) for e in task.examples("test")}
    more = task.follow_up(given)
    assert len(more) == 12 * 25 - 25
    assert len({example.id for example in more} | given.keys()) == 12 * 25
    right = {**given, **{example.id: Vectors(None, None, 0.1) for example in more}}
    assert task.score(right, "test")["r_mean"].value == 100
    assert read_scores(task.answers_content(right, "test"), "file").to_image is None


def test_probabilities_that_are_nearly_alike_are_told_apart(root: Path) -> None:
    task = opened("flickr30k", root)
    given: dict[str, Answer] = {e.id: Vectors(None, None, 1 - 1e-12) for e in task.examples("test")}
    second = {e.id: Vectors(None, None, 1 - 2e-12) for e in task.follow_up(given)}
    assert task.score({**given, **second}, "test")["r_mean"].value == 100


def test_the_pool_of_what_only_fuses_is_limited(root: Path) -> None:
    task = opened("flickr30k", root, pool=4)
    given: dict[str, Answer] = {e.id: Vectors(None, None, 0.5) for e in task.examples("test")}
    more = task.follow_up(given)
    assert {example.id.split("|")[0] for example in more} == {"109", "110", "111", "112"}
    assert len(more) == 4 * 9 - 9
    scores = task.score({**given, **{e.id: Vectors(None, None, 0.1) for e in more}}, "test")
    assert (scores["r_mean"].value, scores["r_mean"].count) == (100, 9)
    assert task.counted(given, "test") == {e.id for e in task.examples("test")[:9]}  # so controls search the same
    embedded = vectors(task.examples("test"))
    assert task.score(embedded, "test")["r_mean"].count == 25  # embeddings need no limit
    assert task.counted(embedded, "test") == embedded.keys()


def test_answers_that_cannot_be_scored(task: Retrieval) -> None:
    given = vectors(task.examples("test"), match=True)
    first = next(iter(given))
    with pytest.raises(BadData, match=r"pairs that count were not fused, such as 109\|\d+"):
        task.score(given, "test")
    for answer, line in (
        ("a text", f"the answer to {first.replace('|', '.')} is 'a text'"),
        (Vectors(None, None, None), "embeddings of an image and a text are missing"),
        (Vectors(None, None, 0.5), "embeddings of an image and a text are missing for 109"),
        (Vectors(np.zeros(6), np.zeros(6), float("nan")), "came out as nan"),
    ):
        with pytest.raises(BadData, match=line):
            task.score({**given, first: answer}, "test")
    narrow = vectors(task.examples("test"))
    with pytest.raises(BadData, match="rows of one length"):
        task.score({**narrow, first: Vectors(np.zeros(6), np.zeros(5))}, "test")
    with pytest.raises(BadData, match=r"of images \[6\], but of texts \[5\]"):
        task.score({pair: answer._replace(text=np.zeros(5)) for pair, answer in narrow.items()}, "test")  # type: ignore[union-attr]
    with pytest.raises(BadData, match="neither embeddings nor how well"):
        task.score({pair: Vectors(None, None) for pair in given}, "test")
    broken = {pair: Vectors(np.full(6, np.inf), np.ones(6)) for pair in given}
    with pytest.raises(BadData, match="no number"):
        task.score(broken, "test")
    with pytest.raises(BadData, match=r"does not hold: 109\|1000 \(1 in all\)"):
        task.score({**vectors(task.examples("test")), "109|1000": Vectors(None, None, 0.5)}, "test")
    with pytest.raises(BadData, match="no answer"):
        task.score({}, "test")
    with pytest.raises(Misuse, match="did you mean 'test'"):
        task.score(given, "tests")
    with pytest.raises(Misuse, match="no scorer 'itm'"):
        task.score(given, "test", "itm")


def test_the_control_is_a_random_order_that_stays(task: Retrieval) -> None:
    given = task.controls("test", ["train"])
    assert set(given) == {"prior"}
    assert given["prior"].keys() == {example.id for example in task.examples("test")}
    assert task.follow_up(given["prior"]) == ()
    values = [task.score(task.controls("test", ["train"])["prior"], "test")["r_mean"].value for _ in range(2)]
    assert values[0] == values[1] < 80


# --- answer files ---------------------------------------------------------------------------------------


def packed(*, tight: bool = False, **arrays: Any) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if tight else np.savez)(file, **arrays)
    return file.getvalue()


def encrypted() -> bytes:
    """An archive whose first array says that it needs a password."""
    good = packed(**content())
    entry = good.index(b"PK\x01\x02")
    return good[: entry + 8] + b"\x01" + good[entry + 9 :]


def damaged() -> bytes:
    """A compressed archive with a byte of its scores changed."""
    good = packed(tight=True, **content())
    return good[:200] + bytes([good[200] ^ 0xFF]) + good[201:]


def content(**changed: Any) -> dict[str, Any]:
    """The arrays of an answer file for the test split."""
    images = [one for one in karpathy()["images"] if one["split"] == "test"]
    texts = [sentence["sentid"] for one in images for sentence in one["sentences"]]
    scores = np.random.default_rng(0).standard_normal((len(images), len(texts))).astype(np.float32)
    return {"scores": scores, "image_ids": [int(one["filename"][:3]) for one in images], "text_ids": texts} | changed


def scored(
    root: Path, answers: bytes, name: str = "flickr30k/dataset_flickr30k.json", *, pool: bool = False
) -> dict[str, Any]:
    path = write(root / "answers.npz", answers)
    return Retrieval.score_files(OfficialFiles(path, annotations=root / name, pool=pool))  # type: ignore[return-value]


def test_answer_files_score_as_runs_do(root: Path, task: Retrieval) -> None:
    given = vectors(task.examples("test"))
    found = scored(root, task.answers_content(given, "test"))
    mine = task.score(given, "test")
    assert {name: found[name] for name in mine} == pytest.approx({name: score.value for name, score in mine.items()})
    assert list(found) == [*mine, "rsum", "count", "images", "images_of_the_split", "scorer"]
    assert found["images_of_the_split"] == 12
    assert (found["count"], found["images"], found["scorer"]) == (25, 12, "itm-eval")


def part(images: int, texts: int) -> bytes:
    """An answer file of the first so many images and texts of the test split; of these 12 have 25."""
    arrays = content()
    ids = {name: arrays[name][:count] for name, count in (("image_ids", images), ("text_ids", texts))}
    return packed(scores=arrays["scores"][:images, :texts], **ids)


def test_an_answer_file_of_some_images_is_scored_where_that_is_said(root: Path) -> None:
    """As ViLBERT's and METER's runs, which search the first images of a split."""
    task = opened("flickr30k", root, pool=5)
    given: dict[str, Answer] = {e.id: Vectors(None, None, 0.9) for e in task.examples("test")}
    draw = np.random.default_rng(3)
    given |= {example.id: Vectors(None, None, draw.random()) for example in task.follow_up(given)}
    written, mine = task.answers_content(given, "test"), task.score(given, "test")
    found = scored(root, written, pool=True)
    assert {name: found[name] for name in mine} == pytest.approx({name: score.value for name, score in mine.items()})
    assert 0 < found["r_mean"] < 100
    assert (found["count"], found["images"], found["images_of_the_split"]) == (11, 5, 12)
    assert found["notes"] == ["searched among 5 of the 12 images of the split: not comparable with all of them"]
    with pytest.raises(BadData, match=r"images without scores: 114, .* \(7 in all\); texts without scores") as refused:
        scored(root, written)
    assert "--pool" in refused.value.todo
    whole = scored(root, packed(**content()), pool=True)
    assert whole == scored(root, packed(**content()))
    assert "notes" not in whole


@pytest.mark.parametrize(
    ("images", "texts", "line"),
    [
        (5, 10, r"texts without scores: 131 \(1 in all\)"),
        (4, 10, r"scores of texts that are not in the annotations: 130 \(1 in all\)"),
    ],
)
def test_a_pool_has_every_text_of_its_images_and_no_other(root: Path, images: int, texts: int, line: str) -> None:
    with pytest.raises(BadData, match=line) as refused:
        scored(root, part(images, texts), pool=True)
    assert refused.value.todo == "it holds every text of its images, and no other"


def test_a_pool_holds_images_of_the_split_only(root: Path) -> None:
    arrays = content()
    arrays["image_ids"][0] = 999
    for pool in (True, False):
        with pytest.raises(BadData, match=r"scores of images that are not in the annotations: 999") as refused:
            scored(root, packed(**arrays), pool=pool)
        assert "--pool" not in refused.value.todo


def test_rows_and_columns_may_come_in_any_order_and_be_called_by_any_name(root: Path) -> None:
    arrays = content()
    wanted = scored(root, packed(**arrays))
    draw = np.random.default_rng(1)
    rows, columns = draw.permutation(12), draw.permutation(25)
    names = [f"{arrays['image_ids'][row]}.jpg" for row in rows]
    texts = [arrays["text_ids"][column] for column in columns]
    shuffled = arrays["scores"][rows][:, columns]
    assert scored(root, packed(scores=shuffled, image_ids=names, text_ids=texts)) == wanted
    places = [arrays["image_ids"][row] - 100 for row in rows]  # imgid
    assert scored(root, packed(scores=shuffled, image_ids=places, text_ids=texts)) == wanted
    both = packed(scores=arrays["scores"], scores_t2i=-arrays["scores"].T, **_ids(arrays))
    assert scored(root, both)["ir_r1"] != wanted["ir_r1"]
    assert scored(root, both)["tr_r1"] == wanted["tr_r1"]


def _ids(arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {name: arrays[name] for name in ("image_ids", "text_ids")}


def test_other_splits_and_other_annotations(root: Path) -> None:
    coco = "coco-captions/dataset_coco.json"
    arrays = content()
    assert scored(root, packed(**arrays), coco)["images"] == 12
    names = write(root / "flickr30k_test.json", entries("test", one_each=False)).name
    listed = {"scores": arrays["scores"], "image_ids": arrays["image_ids"], "text_ids": np.arange(25)}
    assert scored(root, packed(**listed), names)["tr_r1"] == scored(root, packed(**arrays), coco)["tr_r1"]
    few = {"scores": arrays["scores"][6:8, 13:17], "image_ids": [115, 116], "text_ids": arrays["text_ids"][13:17]}
    with pytest.raises(BadData, match=r"images without scores: 109, .* \(10 in all\); texts without scores"):
        scored(root, packed(**few), coco)
    write(root / "coco-captions" / "test1k_ids.txt", "115\n116\n")
    assert scored(root, packed(**few), coco)["images"] == 2
    val = {"scores": np.eye(3, 6), "image_ids": [106, 107, 108], "text_ids": [60, 61, 70, 71, 80, 81]}
    assert scored(root, packed(**val))["count"] == 6


FAULTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "not readable as .npz"),
    "cut": (lambda: packed(**content())[:-200], "not readable as .npz"),
    "text": (lambda: b"scores", "not readable as .npz"),
    "encrypted": (encrypted, "not readable as .npz: .*encrypted"),
    "damaged": (damaged, "not readable as .npz"),
    "one array": (lambda: _array(np.eye(3)), "holds one array without a name"),
    "no ids": (lambda: packed(scores=np.eye(3)), r"arrays that are missing: image_ids, text_ids"),
    "objects": (lambda: packed(**content(image_ids=np.array([{}] * 12))), "not readable as .npz: .*pickle"),
    "shape": (lambda: packed(**content(scores=np.eye(3))), r"'scores' should be numbers of the shape \[12, 25\]"),
    "words": (lambda: packed(**content(scores=np.full((12, 25), "x"))), "'scores' should be numbers"),
    "no number": (lambda: packed(**content(scores=np.full((12, 25), np.nan))), "'scores' holds what is no number"),
    "table of ids": (lambda: packed(**content(image_ids=np.eye(12, dtype=int))), "'image_ids' should be a row"),
    "broken ids": (lambda: packed(**content(image_ids=np.arange(12) / 2)), "'image_ids' should be a row of numbers"),
    "doubled": (lambda: packed(**content(image_ids=[109] * 12)), r"more than once in 'image_ids': 109 \(1 in all\)"),
    "other way": (
        lambda: packed(**content(scores_t2i=np.zeros((12, 25)))),
        r"'scores_t2i' should be numbers of the shape \[25, 12\]",
    ),
    "unknown": (
        lambda: packed(**content(image_ids=[7, *range(110, 121)])),
        r"images without scores: 109 \(1 in all\); scores of images that are not in the annotations: 7 \(1 in all\)",
    ),
    "missing texts": (
        lambda: packed(**content(scores=np.zeros((12, 24)), text_ids=content()["text_ids"][1:])),
        r"texts without scores: 90 \(1 in all\)",
    ),
    "none": (lambda: packed(scores=np.zeros((0, 0)), image_ids=np.arange(0), text_ids=np.arange(0)), "without scores"),
}


def _array(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(("make", "line"), FAULTS.values(), ids=FAULTS)
def test_a_bad_answer_file_gives_one_clear_line(root: Path, make: Callable[[], bytes], line: str) -> None:
    with pytest.raises(BadData, match=line) as fault:
        scored(root, make())
    assert str(root / "answers.npz") in fault.value.wrong
    assert "\n" not in fault.value.wrong


@pytest.mark.parametrize("fault", ["text", "empty", "objects"])
def test_it_does_not_speak_of_numpys_options(root: Path, fault: str) -> None:
    with pytest.raises(BadData) as refused:
        scored(root, FAULTS[fault][0]())
    assert "allow_pickle" not in str(refused.value)
    assert "an answer file is an .npz" in refused.value.todo


def test_what_the_command_line_lacks(root: Path) -> None:
    answers = write(root / "answers.npz", packed(**content()))
    with pytest.raises(Misuse, match="--annotations is missing"):
        Retrieval.score_files(OfficialFiles(answers))
    with pytest.raises(Misuse, match="no scorer is called"):
        Retrieval.score_files(OfficialFiles(answers, annotations=answers, scorer="x"))
    with pytest.raises(BadData, match="there is no file"):
        scored(root, packed(**content()), "nowhere.json")


# --- bad annotations ------------------------------------------------------------------------------------


def spoilt(spoil: Callable[[Images], Any]) -> dict[str, Any]:
    data = karpathy()
    spoil(data["images"])
    return data


BAD: dict[str, tuple[object, str]] = {
    "not JSON": ("{", "not JSON: line 1"),
    "number": ("3", "expected an object with 'images'"),
    "wrong key": ({"image": []}, "'images' is missing"),
    "empty": ({"images": []}, "holds no images"),
    "no list": ({"images": {}}, "'images' should be a list"),
    "no name": (spoilt(lambda i: i[2].pop("filename")), r"images\[2\]: the key 'filename' is missing"),
    "part": (spoilt(lambda i: i[2].update(split="dev")), r"images\[2\]: 'split' should be one of train"),
    "no captions": (spoilt(lambda i: i[2].update(sentences=[])), r"images\[2\]: 'sentences' is empty"),
    "no text": (spoilt(lambda i: i[2]["sentences"][1].update(raw=3)), r"images\[2\]\.sentences\[1\]: 'raw' should be"),
    "text id": (
        spoilt(lambda i: i[2]["sentences"][1].update(sentid="3")),
        r"sentences\[1\]: 'sentid' should be a whole",
    ),
    "doubled image": (spoilt(lambda i: i[3].update(filename="100.jpg")), "ids of more than one image: 100"),
    "doubled text": (
        spoilt(lambda i: i[3]["sentences"][0].update(sentid=0)),
        r"ids of more than one caption: 0 \(1 in all\)",
    ),
    "of two kinds": (spoilt(lambda i: i[3].update(cocoid=7)), "some images are of COCO and some are not"),
    "no test": (spoilt(lambda i: i.__delitem__(slice(9, None))), "holds no images of the split test"),
    "list": ([{"image": "a.jpg"}], r"\[0\]: the key 'caption' is missing"),
    "list of nothing": ([], "holds no images"),
    "no caption": ([{"image": "a.jpg", "caption": []}], r"\[0\]: 'caption' is empty"),
    "numbers": ([{"image": "a.jpg", "caption": ["x", 3]}], r"\[0\]: captions that are no texts: 3"),
    "twice": ([{"image": "a.jpg", "caption": ["x"]}] * 2, r"images that came before: a\.jpg"),
    "same name": (
        [{"image": "a/a.jpg", "caption": ["x"]}, {"image": "b/a.jpg", "caption": ["x"]}],
        "ids of more than one image: a",
    ),
}


@pytest.mark.parametrize(("data", "line"), BAD.values(), ids=BAD)
def test_bad_annotations_give_one_clear_line(root: Path, data: object, line: str) -> None:
    path = write(root / "flickr30k" / "dataset_flickr30k.json", data)
    with pytest.raises(BadData, match=line) as fault:
        opened("flickr30k", root).examples("test")
    assert str(path) in fault.value.wrong
    assert "\n" not in fault.value.wrong
    assert fault.value.code == 3


def test_a_file_in_the_place_of_another_is_refused(root: Path) -> None:
    """Karpathy's files have one layout, and either would be read as the other."""
    flickr, coco = root / "flickr30k" / "dataset_flickr30k.json", root / "coco-captions" / "dataset_coco.json"
    of_flickr, of_coco = flickr.read_bytes(), coco.read_bytes()
    for name, path, own, other in (
        ("flickr30k", flickr, of_flickr, of_coco), ("coco-retrieval", coco, of_coco, of_flickr)
    ):  # fmt: skip
        path.write_bytes(other)
        with pytest.raises(BadData, match=r"says that it is of '(\w+)', but its 'dataset' is '(?!\1)\w+'") as fault:
            opened(name, root).examples("test")
        assert str(path) in fault.value.wrong
        assert "caption_datasets.zip" in fault.value.todo
        path.write_bytes(own)
        assert opened(name, root).examples("test")
    unnamed = {key: value for key, value in karpathy().items() if key != "dataset"}
    assert len(read_pictured(write(flickr, unnamed))) == sum(PARTS.values())  # what does not say is believed
    assert len(read_pictured(write(root / "mine.json", of_coco))) == sum(PARTS.values())


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("x.token", b"109.jpg#0\ta\n109.jpg#1 b\n", "line 2: expected IMAGE"),
        ("x.token", b"109.jpg#0\ta\n109.jpg#0\tb\n", r"captions that came before: 109\.jpg#0"),
        ("x.token", b"109.jpg#0\ta\xff\n", "not UTF-8 text: byte 11 is 0xff"),
        ("x.token", b"", "holds no images"),
        ("x.jsonl", b'{"id": 1, "img_path": "a.jpg", "sentences": []}', "line 1: 'sentences' is empty"),
        ("x.jsonl", b'{"id": 1, "img_path": "a.jpg", "sentences": [3]}', "captions that are no texts"),
        ("x.jsonl", b'{"id": 1, "img_path": "a.jpg"}\n{', "line 1: the key 'sentences' is missing"),
    ],
)
def test_bad_lines_give_one_clear_line(tmp_path: Path, name: str, text: bytes, line: str) -> None:
    with pytest.raises(BadData, match=line) as fault:
        read_pictured(write(tmp_path / name, text))
    assert str(tmp_path / name) in fault.value.wrong


def test_what_is_not_here_is_told(root: Path, tmp_path: Path) -> None:
    (root / "flickr30k" / "dataset_flickr30k.json").unlink()
    with pytest.raises(BadData, match=r"no file .*dataset_flickr30k\.json") as fault:
        opened("flickr30k", root).examples("test")
    assert "caption_datasets.zip" in fault.value.todo
    write(root / "flickr30k" / "x.token", "109.jpg#0\ta\n")
    with pytest.raises(BadData, match=r"no file .*test\.txt"):
        opened("flickr30k", root).examples("test")
    for text, line in (("", "names no images"), ("7\n", "does not hold: 7"), ("109\n109.jpg\n", "more than once: 109")):
        write(root / "flickr30k" / "test.txt", text)
        with pytest.raises(BadData, match=line):
            opened("flickr30k", root).examples("test")
    with pytest.raises(BadData, match=r"no file .*test1k_ids\.txt"):
        opened("coco-retrieval", root).examples("test-1k")
    with pytest.raises(BadData, match="names no file of annotations"):
        opened("flickr30k", root, file=()).examples("test")
    with pytest.raises(BadData, match="no layout of captions is called 'x'"):
        opened("flickr30k", root, layout="x")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**13) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["images", "raw", "image"]), inner),
    max_leaves=6,
)


def _places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way] * bool(way) + [place for key, each in inner for place in _places(each, (*way, key))]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kind=st.sampled_from(["karpathy", "list", "coco list"]))
def test_no_change_of_annotations_ends_in_anything_but_bad_data_or_all_images(
    tmp_path: Path, data: st.DataObject, kind: str
) -> None:
    good: Any = {
        "karpathy": lambda: karpathy(coco=True),
        "list": lambda: entries("test", one_each=False),
        "coco list": lambda: [{"image": f"COCO_val2014_{n:012d}.jpg", "caption": ["a", "b"]} for n in range(3)],
    }[kind]()
    count = len(good["images"] if kind == "karpathy" else good)
    *way, last = data.draw(st.sampled_from(_places(good)))
    place = good
    for step in way:
        place = place[step]
    place[last] = data.draw(JSON)
    try:
        found = read_pictured(write(tmp_path / "file.json", good))
    except BadData:
        return
    assert len(found) == count
    assert all(one.captions and len(one.captions) == len(one.caption_ids) for one in found)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["file.json", "file.jsonl", "file.token"]),
    more=st.binary(max_size=20),
    cut=st.integers(0, 900),
)
def test_no_bytes_end_in_anything_but_bad_data(tmp_path: Path, name: str, more: bytes, cut: int) -> None:
    good = {
        "file.json": json.dumps(entries("val", one_each=False)),
        "file.jsonl": lines("val"),
        "file.token": "".join(f"{n}.jpg#{at}\tcaption {at}\n" for n in range(9) for at in range(2)),
    }[name].encode()
    path = write(tmp_path / name, good[:cut] + more)
    try:
        found = read_pictured(path)
    except BadData:
        return
    assert found


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    at=st.integers(0, 2600),
    change=st.binary(min_size=1, max_size=6),
    cut=st.booleans(),
    tight=st.booleans(),
    pool=st.booleans(),
)
def test_no_bytes_of_an_answer_file_end_in_anything_but_bad_data(
    root: Path, at: int, change: bytes, cut: bool, tight: bool, pool: bool
) -> None:
    good = packed(tight=tight, **content())
    changed = good[:at] + change if cut else good[:at] + change + good[at + len(change) :]
    try:
        found = scored(root, changed, pool=pool)
    except BadData:
        return
    assert found["count"] == 25

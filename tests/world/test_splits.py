"""Which pictures are in which split, what is kept unseen, and how skills and regions are told."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vlbench.data.features import FeatureFile
from vlbench.world.layout import FILES, IMAGES, SKILLS

POOL = {"train2014": 300, "val2014": 100, "test2015": 120, "unseen2015": 120}


def _pairs(things: list[Any]) -> set[tuple[str, str]]:
    return {(thing["color"], thing["shape"]) for thing in things}


@pytest.fixture(scope="module")
def trained(world: Any) -> set[tuple[str, str]]:
    """The pairs of colour and shape that training shows."""
    return set().union(*(_pairs(things) for key, things in world.things.items() if "train2014" in key))


def test_splits_have_their_pictures_and_share_none(world: Any) -> None:
    assert Counter(key.split("_")[1] for key in world.graphs) == POOL
    assert len(world.keys) == len(world.graphs)  # no two pictures have one number


def test_unseen_pairs_are_only_in_the_unseen_split(world: Any, trained: set[tuple[str, str]]) -> None:
    assert len(trained) == 36  # of 48
    for key, things in world.things.items():
        unseen = _pairs(things) - trained
        assert bool(unseen) == ("unseen2015" in key), key


def test_questions_of_the_unseen_split_are_about_unseen_pairs(world: Any, trained: set[tuple[str, str]]) -> None:
    records = world.json("gqa/unseen_balanced_questions.json").values()
    for record in records:
        things, words = world.things[record["imageId"]], record["question"].rstrip("?").split()
        named = [(c, s) for c, s in pairwise(words) if (c, s) not in trained and s in _shapes(trained)]
        shapes = {word for word in words if word in _shapes(trained)}
        colours = {word for word in words if word in _colours(trained)}
        meant = [t for t in things if (t["shape"] in shapes or t["color"] in colours) and _pairs([t]) - trained]
        assert meant or [pair for pair in named if pair[0] in _colours(trained)], record


def _shapes(pairs: set[tuple[str, str]]) -> set[str]:
    return {shape for _, shape in pairs}


def _colours(pairs: set[tuple[str, str]]) -> set[str]:
    return {colour for colour, _ in pairs}


def test_sentences_of_the_unseen_pairs_name_one(world: Any, trained: set[tuple[str, str]]) -> None:
    for record in world.lines("nlvr2/data/test2.json"):
        words = record["sentence"].rstrip(".").replace("crosses", "cross").split()
        words = [word if word == "cross" else word.removesuffix("s") for word in words]
        named = {(c, s) for c, s in pairwise(words) if s in _shapes(trained) and c in _colours(trained)}
        assert named - trained, record["sentence"]


def test_domains_of_nocaps_say_how_new_a_picture_is(world: Any, trained: set[tuple[str, str]]) -> None:
    images = world.json("nocaps/nocaps_val_4500_captions.json")["images"]
    for image in images:
        things = world.things[image["file_name"].removesuffix(".png")]
        new = sum(bool(_pairs([thing]) - trained) for thing in things)
        domain = "in-domain" if not new else "out-domain" if new == len(things) else "near-domain"
        assert image["domain"] == domain
    assert min(Counter(image["domain"] for image in images).values()) > 15


@pytest.mark.parametrize(
    ("name", "split"),
    [("refcoco/refs(unc).p", "testB"), ("refcoco+/refs(unc).p", "testB"), ("refcocog/refs(umd).p", "unseen")],
)
def test_one_test_is_of_unseen_pairs(world: Any, trained: set[tuple[str, str]], name: str, split: str) -> None:
    refs = world.refs(name)
    assert sum(ref["split"] == split for ref in refs) > 10
    for ref in refs:
        thing = world.things[world.keys[ref["image_id"]]][ref["ann_id"] % 100]
        assert bool(_pairs([thing]) - trained) == (ref["split"] == split)


def test_captions_of_unseen_pairs(world: Any) -> None:
    """ALBEF's list for retrieval holds the captions that COCO's file holds for captioning, five a picture."""
    listed = world.json("karpathy/flickr30k_unseen.json")
    assert len(listed) == world.manifest.tasks["karpathy"]["unseen"]["images"] == POOL["unseen2015"]
    assert world.manifest.tasks["karpathy"]["unseen"]["examples"] == 5 * len(listed)
    coco = world.json("coco-captions/captions_unseen2015.json")
    assert world.manifest.tasks["coco-captions"]["unseen"] == {"images": len(listed), "examples": len(listed)}
    said: dict[str, list[str]] = {world.keys[image["id"]]: [] for image in coco["images"]}
    for one in coco["annotations"]:
        said[world.keys[one["image_id"]]].append(one["caption"])
    found = {entry["image"]: entry["caption"] for entry in listed}
    assert found == {f"coco/{key}.png": texts for key, texts in said.items()}
    assert all((world.folder / "images" / image).is_file() for image in found)
    assert all("unseen2015" in image for image in found)


def test_no_unseen_pair_is_captioned_in_training(world: Any, trained: set[tuple[str, str]]) -> None:
    shown = (things for key, things in world.things.items() if "unseen2015" in key)
    new = {f"{colour} {shape}" for things in shown for colour, shape in _pairs(things) - trained}
    listed = world.json("karpathy/flickr30k_unseen.json")
    usual = [image for image in world.json("karpathy/dataset_flickr30k.json")["images"] if image["split"] == "train"]
    assert len(new) == 12

    def named(texts: list[str]) -> bool:
        return any(pair in text for text in texts for pair in new)

    assert not any(named([one["raw"] for one in image["sentences"]]) for image in usual)
    assert sum(named(entry["caption"]) for entry in listed) > 0.7 * len(listed)


def test_pictures_are_stored_once_and_decode(world: Any) -> None:
    found = sorted((world.folder / "images").rglob("*"))
    files = [path for path in found if path.is_file()]
    assert not any(path.is_symlink() for path in found)
    contents = {path.read_bytes() for path in files}
    assert len(contents) == len(files) == len({path.stem for path in files}) > 640 + 8 * (24 + 3 * 12)
    for path in files[::40]:
        with Image.open(path) as image:
            image.load()
            assert (image.format, image.mode, image.size) == ("PNG", "RGB", (64, 64))
            assert np.asarray(image).std() > 3


def test_every_data_set_finds_its_images_in_its_folder(world: Any) -> None:
    assert set(IMAGES) == set(FILES)
    for dataset, images in IMAGES.items():
        folder = world.folder / dataset
        assert (folder / images).resolve().is_relative_to((world.folder / "images").resolve())
        for split, roles in FILES[dataset].items():
            assert all((folder / name).is_file() for name in roles.values()), (dataset, split)


def test_things_are_where_the_graph_says(world: Any) -> None:
    """In the middle of a plain thing, the picture has its colour."""
    inks = {"red": 0, "green": 1, "blue": 2}
    looked = 0
    for key, graph in world.graphs.items():
        objects = list(graph["objects"].values())
        pixels = np.asarray(Image.open(world.folder / f"images/coco/{key}.png"), np.int64)
        for number, one in enumerate(objects):
            colour, _, texture = one["attributes"]
            assert one["x"] >= 0
            assert one["x"] + one["w"] <= 64
            assert one["y"] >= 0
            assert one["y"] + one["h"] <= 64
            in_front = objects[number + 1 :]
            if (
                texture == "plain"
                and colour in inks
                and one["name"] != "ring"
                and not any(_touch(one, o) for o in in_front)
            ):
                middle = pixels[one["y"] + one["h"] // 2, one["x"] + one["w"] // 2]
                assert middle.argmax() == inks[colour]
                assert middle.max() > 1.5 * np.sort(middle)[1]
                looked += 1
    assert looked > 100


def _touch(one: dict[str, int], other: dict[str, int]) -> bool:
    across = min(one["x"] + one["w"], other["x"] + other["w"]) > max(one["x"], other["x"])
    return across and min(one["y"] + one["h"], other["y"] + other["h"]) > max(one["y"], other["y"])


def test_regions_fit_the_pictures(world: Any) -> None:
    regions = FeatureFile(world.folder / "regions.h5")
    regions.verify()
    assert set(regions.keys) == {path.stem for path in (world.folder / "images").rglob("*.png")}
    assert 64 <= regions.feature_dim <= 128
    boxes = np.asarray(regions.boxes)
    assert (boxes >= 0).all()
    assert (boxes <= 1).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    classes, attributes = regions.settings["classes"], regions.settings["attributes"]
    found, total, extra = Counter(), 0, 0
    for key, graph in world.graphs.items():
        seen = regions[key]
        assert seen.labels is not None
        total += len(graph["objects"])
        extra += len(seen.boxes) - len(graph["objects"])
        for one in graph["objects"].values():
            box = np.array([one["x"], one["y"], one["x"] + one["w"], one["y"] + one["h"]]) / 64
            best = max(range(len(seen.boxes)), key=lambda row: _iou(box, seen.boxes[row]))
            if _iou(box, seen.boxes[best]) >= 0.5:
                found["boxes"] += 1
                found["classes"] += classes[seen.labels.objects[best]] == one["name"]
                found["attributes"] += attributes[seen.labels.attributes[best]] == one["attributes"][0]
    assert 0.93 < found["boxes"] / total <= 1  # noisy, not blind
    assert 0.85 < found["classes"] / found["boxes"] < 1
    assert 0.85 < found["attributes"] / found["boxes"] < 1
    assert extra > 2 * len(world.graphs)  # boxes of no thing


def _iou(one: Any, other: Any) -> float:
    across, down = (min(one[2 + i], other[2 + i]) - max(one[i], other[i]) for i in (0, 1))
    both = max(0.0, across) * max(0.0, down)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return float(both / (sum(areas) - both))


def test_features_carry_what_is_there(world: Any) -> None:
    """A linear map learned on training finds colour, shape, size and texture of most things, but not of all."""
    regions = FeatureFile(world.folder / "regions.h5")
    rows: dict[bool, list[tuple[Any, Any]]] = {True: [], False: []}
    for key, graph in world.graphs.items():
        seen = regions[key]
        for one in graph["objects"].values():
            box = np.array([one["x"], one["y"], one["x"] + one["w"], one["y"] + one["h"]]) / 64
            best = max(range(len(seen.boxes)), key=lambda row: _iou(box, seen.boxes[row]))
            if _iou(box, seen.boxes[best]) >= 0.5:
                rows["train2014" in key].append((seen.features[best], (*one["attributes"], one["name"])))
    features = {part: np.array([[*f, 1] for f, _ in rows[part]], np.float64) for part in rows}
    for place in range(4):
        values = sorted({labels[place] for _, labels in rows[True]})
        wanted = np.array([[labels[place] == value for value in values] for _, labels in rows[True]], np.float64)
        weights = np.linalg.lstsq(features[True], wanted, rcond=None)[0]
        guessed = (features[False] @ weights).argmax(1)
        right = np.mean([values[g] == labels[place] for g, (_, labels) in zip(guessed, rows[False], strict=True)])
        assert 0.7 < right < 1, values


@pytest.mark.parametrize(
    "dataset", [name for name in FILES if name not in ("karpathy", "coco-captions", "nocaps", "corpora")]
)
def test_every_example_has_a_skill(world: Any, dataset: str) -> None:
    skills = world.json(f"{dataset}/skills.json")
    assert set(skills.values()) <= set(SKILLS)
    expected = sum(split["examples"] for split in world.manifest.tasks[dataset].values())
    assert len(skills) == expected or (dataset == "gqa" and len(skills) > expected)  # GQA's includes all questions
    if dataset in ("vqa-v2", "snli-ve", "nlvr2"):
        assert set(skills.values()) == set(SKILLS)
        assert min(Counter(skills.values()).values()) > 0.01 * len(skills)


def test_every_captioned_picture_says_how_much_it_shows(world: Any) -> None:
    kinds = world.json("coco-captions/skills.json")
    wanted = {
        1: "objects_1_2",
        2: "objects_1_2",
        3: "objects_3_4",
        4: "objects_3_4",
        5: "objects_5_6",
        6: "objects_5_6",
    }
    assert kinds == {str(number): wanted[len(world.things[key])] for number, key in world.keys.items()}
    assert min(Counter(kinds.values()).values()) > 100


def test_contrast_sets_flip_what_they_change(world: Any) -> None:
    base = {record["identifier"]: record for record in world.lines("nlvr2/data/test1.json")}
    contrast = {record["identifier"]: record for record in world.lines("nlvr2/contrast_set_nlvr2.jsonl")}
    groups = sorted({name.rpartition("-")[0] for name in contrast})
    assert len(groups) >= 10
    for name in groups:
        first, second = contrast[f"{name}-1"], contrast[f"{name}-2"]
        truth = base[name]["label"] == "True"
        assert first["sentence"] == base[name]["sentence"] != second["sentence"]
        assert (first["label"], second["label"]) == (not truth, truth)
        words = [set(record["sentence"].split()) - {"a", "an"} for record in (first, second)]
        assert len(words[0] - words[1]) <= 1
    said = Counter((record["sentence"], record["label"]) for name, record in contrast.items() if name.endswith("-1"))
    assert all(said[sentence, not label] == count for (sentence, label), count in said.items())


def test_five_captions_an_image_and_ten_in_nocaps(world: Any) -> None:
    for name in ("karpathy/dataset_flickr30k.json", "coco-captions/dataset_coco.json"):
        assert {len(image["sentences"]) for image in world.json(name)["images"]} == {5}
    nocaps = world.json("nocaps/nocaps_val_4500_captions.json")
    assert set(Counter(one["image_id"] for one in nocaps["annotations"]).values()) == {10}


def test_a_share_of_the_web_is_wrong_and_the_truth_is_kept(world: Any) -> None:
    web, truth = world.json("corpora/web.json"), world.lines("corpora/web_truth.jsonl")
    assert len(web) == len(truth) == 24 * 8
    for told, known in zip(web, truth, strict=True):
        assert told["image"] == known["image"]
        assert (told["caption"] == known["caption"]) == known["right"]
    assert sum(not known["right"] for known in truth) / len(truth) == pytest.approx(0.3, abs=0.03)
    assert Counter(told["caption"] for told in web) == Counter(known["caption"] for known in truth)


def test_complementary_pairs_differ_in_the_answer_only(world: Any) -> None:
    questions = {
        q["question_id"]: q for q in world.json("vqa-v2/v2_OpenEnded_mscoco_val2014_questions.json")["questions"]
    }
    annotations = world.json("vqa-v2/v2_mscoco_val2014_annotations.json")["annotations"]
    right = {record["question_id"]: record["multiple_choice_answer"] for record in annotations}
    pairs = world.json("vqa-v2/v2_mscoco_val2014_complementary_pairs.json")
    assert len(pairs) > 100
    for one, other in pairs:
        assert questions[one]["question"] == questions[other]["question"]
        assert questions[one]["image_id"] != questions[other]["image_id"]
        assert right[one] != right[other]


def test_no_two_splits_share_a_picture_in_any_task(world: Any) -> None:
    images = {
        split: {record["Flickr30K_ID"] for record in world.lines(f"snli-ve/snli_ve_{split}.jsonl")}
        for split in ("train", "dev", "test", "unseen")
    }
    assert all(not images[one] & images[other] for one, other in combinations(images, 2))

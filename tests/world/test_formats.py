"""Every file has the fields of the official one, of the official types."""

from __future__ import annotations

import pickletools
from collections import Counter
from typing import Any

import pytest

SUBSETS = ("train2014", "val2014", "test2015", "unseen2015")
TYPES_OF_QUESTIONS = {
    "how many", "is the", "what color is the", "what is the", "what is", "what", "is there a", "is there", "are there",
    "is", "none of the above",
}  # fmt: skip


def _kinds(record: dict[str, Any]) -> dict[str, str]:
    return {key: type(value).__name__ for key, value in record.items()}


@pytest.mark.parametrize("subset", SUBSETS)
def test_vqa(world: Any, subset: str) -> None:
    questions = world.json(f"vqa-v2/v2_OpenEnded_mscoco_{subset}_questions.json")
    assert set(questions) == {"info", "task_type", "data_type", "license", "data_subtype", "questions"}
    assert (questions["task_type"], questions["data_type"], questions["data_subtype"]) == (
        "Open-Ended",
        "mscoco",
        subset,
    )
    annotations = world.json(f"vqa-v2/v2_mscoco_{subset}_annotations.json")
    assert set(annotations) == {"info", "license", "data_subtype", "data_type", "annotations"}
    ids = [record["question_id"] for record in questions["questions"]]
    assert ids == [record["question_id"] for record in annotations["annotations"]]
    assert len(set(ids)) == len(ids)
    for question, annotation in zip(questions["questions"], annotations["annotations"], strict=True):
        assert _kinds(question) == {"image_id": "int", "question": "str", "question_id": "int"}
        assert question["question_id"] // 1000 == question["image_id"] == annotation["image_id"]
        assert question["question"].endswith("?")
        _check_annotation(annotation, question["question"])


def _check_annotation(record: dict[str, Any], text: str) -> None:
    assert _kinds(record) == {
        "question_type": "str", "multiple_choice_answer": "str", "answers": "list", "image_id": "int",
        "answer_type": "str", "question_id": "int",
    }  # fmt: skip
    assert record["question_type"] in TYPES_OF_QUESTIONS
    assert text.lower().startswith(record["question_type"])
    majority = record["multiple_choice_answer"]
    kind = "yes/no" if majority in ("yes", "no") else "number" if majority.isdigit() else "other"
    assert record["answer_type"] == kind
    answers = record["answers"]
    assert [one["answer_id"] for one in answers] == list(range(1, 11))
    assert all(set(one) == {"answer", "answer_confidence", "answer_id"} for one in answers)
    assert {one["answer_confidence"] for one in answers} <= {"yes", "maybe", "no"}
    counts = Counter(one["answer"] for one in answers)
    assert counts[majority] >= 7
    assert counts.most_common(1)[0][0] == majority


def test_people_differ_in_vqa_now_and_then(world: Any) -> None:
    records = world.json("vqa-v2/v2_mscoco_train2014_annotations.json")["annotations"]
    differ = sum(len({one["answer"] for one in record["answers"]}) > 1 for record in records)
    assert 0.1 < differ / len(records) < 0.4
    assert any(one["answer"] in ("two", "three") for record in records for one in record["answers"])


@pytest.mark.parametrize("name", ["train", "val", "testdev", "unseen"])
def test_gqa(world: Any, name: str) -> None:
    graphs, choices = world.json(f"gqa/{name}_sceneGraphs.json"), world.json(f"gqa/{name}_choices.json")
    balanced = world.json(f"gqa/{name}_balanced_questions.json")
    if name == "train":
        parts = [world.json(f"gqa/train_all_questions/train_all_questions_{part}.json") for part in range(10)]
        whole = {identity: record for part in parts for identity, record in part.items()}
        assert sum(map(len, parts)) == len(whole)
    else:
        whole = world.json(f"gqa/{name}_all_questions.json")
    assert balanced == {identity: record for identity, record in whole.items() if record["isBalanced"]}
    assert whole.keys() == choices.keys()
    assert name == "train" or len(whole) > 1.5 * len(balanced)
    for identity, record in whole.items():
        assert identity.isdigit()
        assert identity.startswith("0")
        _check_gqa(record, graphs, whole)
        assert set(choices[identity]) == {"valid", "plausible"}
        assert record["answer"] in choices[identity]["valid"]
        assert set(choices[identity]["plausible"]) <= set(choices[identity]["valid"])


def _check_gqa(record: dict[str, Any], graphs: dict[str, Any], whole: dict[str, Any]) -> None:
    assert _kinds(record) == {
        "semantic": "list", "entailed": "list", "equivalent": "list", "question": "str", "imageId": "str",
        "isBalanced": "bool", "groups": "dict", "answer": "str", "semanticStr": "str", "annotations": "dict",
        "types": "dict", "fullAnswer": "str",
    }  # fmt: skip
    assert set(record["groups"]) == {"global", "local"}
    assert isinstance(record["groups"]["local"], str)
    assert set(record["types"]) == {"structural", "semantic", "detailed"}
    assert record["types"]["structural"] in ("verify", "query", "choose", "logical", "compare")
    assert record["types"]["semantic"] in ("obj", "attr", "cat", "rel", "global")
    binary = record["answer"] in ("yes", "no")
    assert binary == (record["types"]["structural"] in ("verify", "logical", "compare"))
    for place, step in enumerate(record["semantic"]):
        assert set(step) == {"operation", "dependencies", "argument"}
        assert all(0 <= other < place for other in step["dependencies"])
    assert record["semanticStr"].count("->") == len(record["semantic"]) - 1
    assert {*record["entailed"], *record["equivalent"]} <= whole.keys()
    objects = graphs[record["imageId"]]["objects"]
    words = record["question"].rstrip("?").split()
    assert set(record["annotations"]) == {"question", "answer", "fullAnswer"}
    for place, identity in record["annotations"]["question"].items():
        assert words[int(place)] in (objects[identity]["name"], "object")
    assert set(record["annotations"]["answer"].values()) <= objects.keys()
    said = record["fullAnswer"].replace(",", "").rstrip(".").split()
    for place, identity in record["annotations"]["fullAnswer"].items():
        assert said[int(place)] in (objects[identity]["name"], "object")


def test_scene_graphs(world: Any) -> None:
    for graph in world.graphs.values():
        assert (graph["width"], graph["height"]) == (64, 64)
        assert 1 <= len(graph["objects"]) <= 6
        for one in graph["objects"].values():
            assert set(one) == {"name", "x", "y", "w", "h", "attributes", "relations"}
            assert {type(one[key]) for key in "xywh"} == {int}
            assert all(set(relation) == {"name", "object"} for relation in one["relations"])
            assert {relation["object"] for relation in one["relations"]} <= graph["objects"].keys()


@pytest.mark.parametrize("name", ["train", "dev", "test1", "test2"])
def test_nlvr2(world: Any, name: str) -> None:
    records = world.lines(f"nlvr2/data/{name}.json")
    texts = {"identifier", "sentence", "label", "left_url", "right_url", "synset", "query", "writer"}
    extra = "directory" if name == "train" else "extra_validations"
    units = Counter(record["identifier"].rpartition("-")[0].rpartition("-")[0] for record in records)
    assert set(units.values()) == {32}  # eight sentences on four pairs
    for record in records:
        assert set(record) == {*texts, "validation", extra}
        assert all(type(record[key]) is str for key in texts)
        assert record["label"] in ("True", "False")
        split, *numbers = record["identifier"].split("-")
        assert split == name
        assert len(numbers) == 3
        assert all(map(str.isdigit, numbers))
        pair = record["identifier"].rpartition("-")[0]
        assert all((world.folder / f"images/nlvr2/{pair}-img{side}.png").is_file() for side in (0, 1))
        assert name != "train" or 0 <= record["directory"] <= 99


def test_contrast_sets(world: Any) -> None:
    for record in world.lines("nlvr2/contrast_set_nlvr2.jsonl"):
        assert _kinds(record) == {
            "sentence": "str", "left_url": "str", "right_url": "str", "identifier": "str", "writer": "int",
            "label": "bool",
        }  # fmt: skip
        name = record["identifier"]
        assert name.startswith("test1-")
        assert name.count("-") == 4
        assert all((world.folder / f"images/nlvr2/{name}-img{side}.png").is_file() for side in (0, 1))


@pytest.mark.parametrize("name", ["train", "dev", "test", "unseen"])
def test_snli_ve(world: Any, name: str) -> None:
    records = world.lines(f"snli-ve/snli_ve_{name}.jsonl")
    parses = {f"sentence{number}_{kind}" for number in (1, 2) for kind in ("parse", "binary_parse")}
    captions = {
        world.keys[one["image_id"]]: [] for one in world.json("coco-captions/captions_train2014.json")["annotations"]
    }
    for one in world.json("coco-captions/captions_train2014.json")["annotations"]:
        captions[world.keys[one["image_id"]]].append(one["caption"])
    for record in records:
        fields = {"annotator_labels", "captionID", "gold_label", "pairID", "sentence1", "sentence2", "Flickr30K_ID"}
        assert set(record) == fields | parses
        key, caption = record["captionID"].split(".jpg#")
        assert key == record["Flickr30K_ID"]
        assert 0 <= int(caption) <= 4
        assert name != "train" or captions[key][int(caption)] == record["sentence1"]
        assert record["pairID"].startswith(f"{record['captionID']}r")
        assert record["gold_label"] in ("entailment", "neutral", "contradiction")
        assert len(record["annotator_labels"]) == (1 if name == "train" else 5)
        assert Counter(record["annotator_labels"])[record["gold_label"]] >= (1 if name == "train" else 3)
    assert len({record["pairID"] for record in records}) == len(records)


_TELLING = ("label", "orig", "sources", "match_iter")
"""What would tell the right choice; the official test file has none of it."""


@pytest.mark.parametrize("name", ["train", "val", "test"])
def test_vcr(world: Any, name: str) -> None:
    fields = {
        "movie", "objects", "interesting_scores", "answer_likelihood", "img_fn", "metadata_fn", "question",
        "answer_choices", "rationale_choices", "answer_label", "rationale_label", "answer_orig", "question_orig",
        "rationale_orig", "answer_sources", "rationale_sources", "answer_match_iter", "rationale_match_iter", "img_id",
        "question_number", "annot_id", "match_fold", "match_index",
    }  # fmt: skip
    telling = {f"{kind}_{part}" for kind in ("answer", "rationale") for part in _TELLING}
    for row, record in enumerate(world.lines(f"vcr/{name}.jsonl")):
        assert set(record) == (fields - telling if name == "test" else fields)
        assert record["annot_id"] == f"{name}-{row}"
        root = world.folder / "vcr/vcr1images"
        assert (root / record["img_fn"]).is_file()
        metadata = world.json(f"vcr/vcr1images/{record['metadata_fn']}")
        assert set(metadata) == {"boxes", "segms", "names", "width", "height"}
        assert metadata["names"] == record["objects"]
        assert all(
            len(box) == 5 and 0 <= box[0] < box[2] <= 64 and 0 <= box[1] < box[3] <= 64 for box in metadata["boxes"]
        )
        assert len(metadata["segms"]) == len(metadata["boxes"]) == len(record["objects"])
        for kind in ("answer", "rationale"):
            choices = record[f"{kind}_choices"]
            assert len(choices) == 4
            assert len({str(choice) for choice in choices}) == 4
            if name != "test":
                assert record[f"{kind}_match_iter"].index(0) == record[f"{kind}_label"]
                assert sorted(record[f"{kind}_match_iter"]) == [0, 1, 2, 3]
            for tokens in (record["question"], *choices):
                tags = [tag for token in tokens if isinstance(token, list) for tag in token]
                assert all(0 <= tag < len(record["objects"]) for tag in tags)
                assert all(record["objects"].count(record["objects"][tag]) == 1 for tag in tags)
        written = " ".join(str(t[0] + 1) if isinstance(t, list) else t for t in record["question"])
        assert record["question_orig"] == written


@pytest.mark.parametrize("name", ["refcoco", "refcoco+", "refcocog"])
def test_refcoco(world: Any, name: str) -> None:
    path = world.folder / name / f"refs({'umd' if name == 'refcocog' else 'unc'}).p"
    opcodes = {opcode.name for opcode, _, _ in pickletools.genops(path.read_bytes())}
    assert not opcodes & {"GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "INST", "OBJ", "NEWOBJ"}  # plain containers
    assert path.read_bytes()[:2] == b"\x80\x02"
    instances = world.json(f"{name}/instances.json")
    assert {"info", "licenses", "images", "annotations", "categories"} == set(instances)
    boxes = {one["id"]: one for one in instances["annotations"]}
    images = {one["id"]: one for one in instances["images"]}
    refs = world.refs(f"{name}/{path.name}")
    tests = {"test", "unseen"} if name == "refcocog" else {"testA", "testB"}
    assert {ref["split"] for ref in refs} == {"train", "val", *tests}
    assert [ref["ref_id"] for ref in refs] == list(range(len(refs)))
    assert [one for ref in refs for one in ref["sent_ids"]] == list(range(sum(len(ref["sent_ids"]) for ref in refs)))
    for ref in refs:
        fields = {"sent_ids", "file_name", "ann_id", "ref_id", "image_id", "split", "sentences", "category_id"}
        assert set(ref) == fields
        box = boxes[ref["ann_id"]]
        assert (box["image_id"], box["category_id"]) == (ref["image_id"], ref["category_id"])
        assert [sentence["sent_id"] for sentence in ref["sentences"]] == ref["sent_ids"]
        for sentence in ref["sentences"]:
            assert set(sentence) == {"tokens", "raw", "sent_id", "sent"}
            assert sentence["tokens"] == sentence["sent"].split()
    assert {ref["image_id"] for ref in refs} == images.keys()
    assert all((world.folder / "images/coco" / image["file_name"]).is_file() for image in images.values())
    for one in boxes.values():
        assert set(one) == {"segmentation", "area", "iscrowd", "image_id", "bbox", "category_id", "id"}
        x, y, wide, high = one["bbox"]
        assert x >= 0
        assert y >= 0
        assert x + wide <= 64
        assert y + high <= 64
        assert one["area"] == wide * high
    assert {one["name"] for one in instances["categories"]} == {"circle", "square", "triangle", "star", "cross", "ring"}

"""Where everything of a world lies below its folder, by data set, split and role.

Every data set has a folder of its own, in the layout of the official one, and takes its images from one place: the
*key* of an image is its file's name without ``.png``, it is the same in every task, and the region features are
stored under it. Images asked of by COCO's, Flickr30k's and GQA's layouts lie in ``images/coco``, pairs of NLVR2 in
``images/nlvr2``; a data set's images are in ``IMAGES[...]``, as seen from its own folder.

Ids of images: COCO's number where the layout has numbers, the key where it has texts (GQA ``imageId``, SNLI-VE
``Flickr30K_ID``, LXMERT ``img_id``). File names that a layout stores are those of ``IMAGES[...]`` (VCR's ``img_fn``
leads there from ``vcr1images``, where its metadata lies; Karpathy's COCO ``filepath`` is a folder of ``images``).

Skills: ``skills.json`` in the folder of a data set maps the id of every example, as a text, to the skill it asks for
(VQA ``question_id``, GQA question id, NLVR2 ``identifier``, SNLI-VE ``pairID``, VCR ``annot_id``, RefCOCO ``sent_id``;
COCO's image id, as a caption may be of any skill: how many objects there are to describe, ``objects_3_4``). Official
readers read none of it.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

Split: TypeAlias = Literal["train", "val", "test", "unseen"]

SPLITS: tuple[Split, ...] = ("train", "val", "test", "unseen")
SKILLS = ("existence", "attribute", "count", "relation", "comparison", "negation", "logic")
SUBSETS: dict[Split, str] = {"train": "train2014", "val": "val2014", "test": "test2015", "unseen": "unseen2015"}
"""The part of COCO whose name a split's images bear."""

MANIFEST = "manifest.json"
REGIONS = "regions.h5"
COCO_IMAGES, NLVR_IMAGES = "images/coco", "images/nlvr2"
IMAGES = {
    "vqa-v2": "../images/coco",
    "gqa": "../images/coco",
    "nlvr2": "../images/nlvr2",
    "snli-ve": "../images/coco",
    "vcr": "../images/coco",
    "refcoco": "../images/coco",
    "refcoco+": "../images/coco",
    "refcocog": "../images/coco",
    "karpathy": "../images/coco",
    "coco-captions": "../images",
    "nocaps": "../images/coco",
    "corpora": "../images",
}

_REFERRING = {"test": "testA", "unseen": "testB"}
_OFFICIAL: dict[str, dict[str, str]] = {
    "gqa": {"test": "testdev"},
    "nlvr2": {"val": "dev", "test": "test1", "unseen": "test2"},
    "snli-ve": {"val": "dev"},
    "refcoco": _REFERRING,
    "refcoco+": _REFERRING,
}
TRAIN_PARTS = 10
"""Files that GQA's unbalanced training questions are cut into."""


def split_of(dataset: str, split: str) -> str:
    """Return what a data set calls a split of the world."""
    return _OFFICIAL.get(dataset, {}).get(split, split)


def _vqa() -> dict[str, dict[str, str]]:
    return {
        split: {
            "questions": f"v2_OpenEnded_mscoco_{subset}_questions.json",
            "annotations": f"v2_mscoco_{subset}_annotations.json",
            "pairs": f"v2_mscoco_{subset}_complementary_pairs.json",
        }
        for split, subset in SUBSETS.items()
    }


def _gqa() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for name in ("train", "val", "testdev", "unseen"):
        found[name] = {
            "balanced": f"{name}_balanced_questions.json",
            "choices": f"{name}_choices.json",
            "scenes": f"{name}_sceneGraphs.json",
            "all": f"{name}_all_questions.json",
        }
    parts = {f"all-{part}": f"train_all_questions/train_all_questions_{part}.json" for part in range(TRAIN_PARTS)}
    del found["train"]["all"]
    found["train"] |= parts
    return found


def _referring(author: str) -> dict[str, dict[str, str]]:
    return {"": {"refs": f"refs({author}).p", "instances": "instances.json"}}


FILES: dict[str, dict[str, dict[str, str]]] = {
    "vqa-v2": _vqa(),
    "gqa": _gqa(),
    "nlvr2": {
        **{name: {"annotations": f"data/{name}.json"} for name in ("train", "dev", "test1", "test2")},
        "contrast": {"annotations": "contrast_set_nlvr2.jsonl"},
    },
    "snli-ve": {name: {"annotations": f"snli_ve_{name}.jsonl"} for name in ("train", "dev", "test", "unseen")},
    "vcr": {split: {"annotations": f"{split}.jsonl"} for split in ("train", "val", "test")},
    "refcoco": _referring("unc"),
    "refcoco+": _referring("unc"),
    "refcocog": _referring("umd"),
    "karpathy": {"": {"captions": "dataset_flickr30k.json"}, "unseen": {"annotations": "flickr30k_unseen.json"}},
    "coco-captions": {
        "": {"captions": "dataset_coco.json"},
        **{split: {"annotations": f"captions_{SUBSETS[split]}.json"} for split in SPLITS},
    },
    "nocaps": {
        "val": {"annotations": "nocaps_val_4500_captions.json"},
        "test": {"annotations": "nocaps_test_image_info.json"},
    },
    "corpora": {
        "": {
            "captions": "captions.json",
            "web": "web.json",
            "web-truth": "web_truth.jsonl",
            "answers": "lxmert/all_ans.json",
        },
        "train": {"lxmert": "lxmert/mscoco_train.json"},
        "val": {"lxmert": "lxmert/mscoco_minival.json"},
    },
}
"""Data set -> its name of a split ("" where a file is of all) -> role -> name in the folder of the data set."""

METADATA = "vcr1images"
"""Where, in the folder of VCR, the boxes of its images are."""
SKILLS_FILE = "skills.json"


def path_of(dataset: str, split: str, role: str) -> str:
    """Return where a file of a split, by the world's name or the data set's, lies below the folder of the world."""
    return f"{dataset}/{FILES[dataset][split_of(dataset, split)][role]}"

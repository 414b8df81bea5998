"""Captioning on COCO and nocaps: examples, scores, results files, uploads, and what bad files lead to."""

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
from vlbench.metrics.meteor import Meteor
from vlbench.tasks import caption_scores
from vlbench.tasks.base import OfficialFiles
from vlbench.tasks.captioning import Captioning
from vlbench.tasks.coco_files import take_coco, take_results
from vlbench.types import BadData, Fault, Misuse

SAMPLES = Path(__file__).parents[1] / "official" / "samples"
DOMAINS = ("in-domain", "near-domain", "out-domain")
METRICS = ["cider", "bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l"]
THINGS = ["cat", "dog", "bird", "tree", "house", "boat", "car"]


@pytest.fixture(autouse=True)
def no_meteor(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are the same where Java is and where it is not."""
    monkeypatch.setattr(caption_scores, "meteor", lambda said, wanted: Meteor(None, (), "no Java"))


def sentences(number: int) -> list[str]:
    thing = THINGS[number % len(THINGS)]
    return [f"A {thing} on a hill, number {number}.", f"The {thing} stands there \n", "There is a picture"]


def karpathy() -> dict[str, Any]:
    parts = ["train"] * 4 + ["restval"] * 2 + ["val"] * 3 + ["test"] * 6
    return {
        "images": [
            {
                "filepath": "val2014", "filename": f"COCO_val2014_{at:012d}.jpg", "cocoid": at, "imgid": at,
                "split": part, "sentids": [3 * at, 3 * at + 1, 3 * at + 2],
                "sentences": [
                    {"raw": text, "tokens": [], "imgid": at, "sentid": 3 * at + one}
                    for one, text in enumerate(sentences(at))
                ],
            }
            for at, part in enumerate(parts)
        ],
        "dataset": "coco",
    }  # fmt: skip


def official(numbers: range, *, domains: bool = False, public: bool = True) -> dict[str, Any]:
    """Annotations in COCO's layout, the captions in no order of images; or in that of nocaps."""
    images = [
        {"id": n, "file_name": f"{n:012d}.jpg"} | ({"domain": DOMAINS[n % 3]} if domains else {}) for n in numbers
    ]
    rows = [
        {"image_id": n, "id": 10 * n + one, "caption": text}
        for one in range(3)
        for n, text in ((n, sentences(n)[one]) for n in reversed(numbers))
    ]
    return {"info": {}, "licenses": [], "images": images} | ({"annotations": rows} if public else {})


def write(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with small official files."""
    write(tmp_path / "coco-captions" / "dataset_coco.json", karpathy())
    write(tmp_path / "nocaps" / "nocaps_val_4500_captions.json", official(range(20, 32), domains=True))
    write(tmp_path / "nocaps" / "nocaps_test_image_info.json", official(range(40, 44), public=False))
    return tmp_path


@pytest.fixture
def coco(root: Path) -> Captioning:
    return Captioning(find(DatasetCard, "coco-captions"), root)


@pytest.fixture
def nocaps(root: Path) -> Captioning:
    return Captioning(find(DatasetCard, "nocaps"), root)


# --- examples -------------------------------------------------------------------------------------------


def test_one_example_a_caption_to_learn_and_one_an_image_to_write_to(coco: Captioning) -> None:
    train, test = coco.examples("train"), coco.examples("test")
    assert [len(train), len(test), len(coco.examples("val"))] == [18, 6, 3]  # restval is learned from too
    assert (train[1].id, train[1].images) == ("0|1", ("COCO_val2014_000000000000",))
    assert (train[1].texts, train[1].answer) == ((sentences(0)[1],), (sentences(0)[1],))
    assert (test[0].id, test[0].texts, test[0].answer) == ("9", ("",), tuple(sentences(9)))
    assert (coco.form, coco.answers) == ("write", ())


def test_nocaps_learns_from_coco_and_has_domains(nocaps: Captioning) -> None:
    assert len(nocaps.examples("train")) == 18
    assert set(nocaps.files("train")) == {"dataset_coco.json"}
    assert [len(nocaps.examples(f"val{part}")) for part in ("", "-in", "-near", "-out")] == [12, 4, 4, 4]
    assert nocaps.examples("val-near")[0].id == "22"
    assert nocaps.examples("val")[0].answer == tuple(sentences(20))  # by the order of the annotations of the image
    hidden = nocaps.examples("test")[0]
    assert (hidden.id, hidden.texts, hidden.answer) == ("40", ("",), None)


def test_samples_of_the_official_files() -> None:
    path = SAMPLES / "coco_captions" / "captions_val2017.json"
    found = take_coco(json.loads(path.read_text()), str(path))
    assert len(found) == 50
    assert {len(one.captions) for one in found} == {5}
    said = take_results(json.loads((path.parent / "captions_val2014_fakecap_results.json").read_text()), "results")
    assert len(said) == 30
    assert said.keys() <= {one.id for one in found}
    path = SAMPLES / "nocaps" / "nocaps_val_4500_captions.json"
    assert {one.domain for one in take_coco(json.loads(path.read_text()), str(path))} == set(DOMAINS)
    scored = Captioning.score_files(OfficialFiles(SAMPLES / "nocaps" / "predictions.json", annotations=path))
    assert scored["count"] == 12
    assert {name for name in scored if name.startswith("cider")} == {
        *("cider", "cider_in_domain", "cider_near_domain", "cider_out_domain"),
    }


def test_image_files(nocaps: Captioning, root: Path) -> None:
    for name in ("nocaps/images/000000000021.jpg", "coco-captions/val2014/COCO_val2014_000000000003.jpg"):
        write(root / name, "")
    assert set(nocaps.image_files("val")) == {"000000000021"}
    assert set(nocaps.image_files("train")) == {"COCO_val2014_000000000003"}


# --- scores ---------------------------------------------------------------------------------------------


def best(task: Captioning, split: str) -> dict[str, str]:
    return {example.id: example.answer[0] for example in task.examples(split)}  # type: ignore[index, misc]


def test_scores_of_the_best_and_of_nothing(coco: Captioning) -> None:
    scores = coco.score(best(coco, "test"), "test")
    assert list(scores) == METRICS
    assert scores["bleu_4"].value == pytest.approx(100)
    assert scores["rouge_l"].value == pytest.approx(100)
    assert scores["cider"].value > 100
    assert {(score.count, score.scorer) for score in scores.values()} == {(6, "coco-caption")}
    for score in scores.values():
        assert score.low is not None
        assert score.high is not None
        assert score.low <= score.value <= score.high
    nothing = coco.score(dict.fromkeys(best(coco, "test"), ""), "test")
    assert [nothing[name].value for name in METRICS] == [0.0] * 6
    assert coco.score({"9": "A dog"}, "test")["cider"].count == 1


def test_nocaps_is_scored_by_domain_each_as_a_set_of_its_own(nocaps: Captioning, root: Path) -> None:
    said = best(nocaps, "val") | {"20": "a house", "21": "x"}
    scores = nocaps.score(said, "val")
    assert list(scores)[:6] == METRICS
    for part, domain in (("in", "in_domain"), ("near", "near_domain"), ("out", "out_domain")):
        own = {example.id: said[example.id] for example in nocaps.examples(f"val-{part}")}
        alone = nocaps.score(own, f"val-{part}")
        assert list(alone) == METRICS
        assert [scores[f"{name}_{domain}"] for name in METRICS] == [alone[name] for name in METRICS]
    assert len(scores) == 24
    results, people = write(root / "said.json", nocaps.answers_file(said, "val")), nocaps.files("val")
    found = Captioning.score_files(OfficialFiles(results, annotations=next(iter(people.values()))))
    assert {name: found[name] for name in scores} == pytest.approx({name: one.value for name, one in scores.items()})


def test_the_kinds_of_images_have_scores(coco: Captioning, root: Path) -> None:
    """Of the whole set's rarity of words, so that the kinds make up the whole; images of no kind count there only."""
    kinds = {"9": "objects_1_2", "10": "objects_5_6", "11": "objects_1_2", "0": "objects_3_4"}
    write(root / "coco-captions" / "skills.json", kinds)
    given = {e.id: sentences(int(e.id) % 11)[1] for e in coco.examples("test")}
    scores = coco.score(given, "test")
    assert [name for name in scores if "objects" in name] == ["cider_objects_1_2", "cider_objects_5_6"]
    assert [scores[f"cider_objects_{few}"].count for few in ("1_2", "5_6")] == [2, 1]
    whole = {e.id: kinds.get(e.id, "none") for e in coco.examples("test")}
    write(root / "coco-captions" / "skills.json", whole)
    parts = Captioning(coco.card, root).score(given, "test")
    total = sum(parts[f"cider_{kind}"].value * parts[f"cider_{kind}"].count for kind in set(whole.values()))
    assert total / 6 == pytest.approx(parts["cider"].value)
    assert parts["cider_objects_1_2"] == scores["cider_objects_1_2"]
    assert len({parts[f"cider_{kind}"].value for kind in set(whole.values())}) > 1
    assert set(coco.files("test")) == {"dataset_coco.json", "skills.json"}


@pytest.mark.parametrize("content", ["[]", '{"9": 3}', "{"])
def test_faulty_kinds_are_one_line(coco: Captioning, root: Path, content: str) -> None:
    write(root / "coco-captions" / "skills.json", content)
    with pytest.raises(BadData, match=r"skills\.json"):
        coco.score({"9": "a dog"}, "test")


def test_meteor_stands_beside_the_others_where_it_is(coco: Captioning, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_scores, "meteor", lambda said, wanted: Meteor(0.25, (0.25,) * len(said)))
    score = coco.score(best(coco, "test"), "test")["meteor"]
    assert (score.value, score.low, score.count) == (25.0, None, 6)


def test_what_cannot_be_scored(coco: Captioning, nocaps: Captioning) -> None:
    with pytest.raises(Fault, match="the captions of nocaps test are not public"):
        nocaps.score({"40": "a cat"}, "test")
    with pytest.raises(BadData, match="1 ids that test does not hold"):
        coco.score({"9": "a cat", "5": "a cat"}, "test")
    with pytest.raises(BadData, match="the answer to 9 is 3, not a text"):
        coco.score({"9": 3}, "test")
    with pytest.raises(BadData, match="no answer"):
        coco.score({}, "test")
    with pytest.raises(Misuse, match="did you mean 'test'"):
        coco.examples("tests")
    with pytest.raises(Misuse, match="no scorer 'coco'"):
        coco.score({"9": "a cat"}, "test", "coco")


def test_the_control_writes_the_commonest_training_caption(coco: Captioning) -> None:
    given = coco.controls("test", ["train"])
    assert given == {"prior": dict.fromkeys(best(coco, "test"), "There is a picture")}
    assert coco.score(given["prior"], "test")["cider"].value < coco.score(best(coco, "test"), "test")["cider"].value
    assert coco.controls("test", []) == {}


def test_more_images_make_a_narrower_interval() -> None:
    sets = [(["a b c d"] * n + ["x"] * n, [["a b c d"]] * 2 * n) for n in (5, 200)]
    found = [caption_scores.bleu_interval(caption_scores.Captions(*one).bleu_counts()) for one in sets]
    widths = [high - low for low, high in (one[:, 0] for one in found)]
    assert widths[0] > 4 * widths[1] > 0


# --- results files --------------------------------------------------------------------------------------


def results(numbers: range) -> list[dict[str, Any]]:
    return [{"image_id": n, "caption": f"a {THINGS[n % 7]} on a hill"} for n in numbers]


def scored(folder: Path, said: object, annotations: object) -> dict[str, Any]:
    paths = write(folder / "results.json", said), write(folder / "annotations.json", annotations)
    return Captioning.score_files(OfficialFiles(paths[0], annotations=paths[1]))  # type: ignore[return-value]


def test_results_score_as_runs_do(coco: Captioning, root: Path) -> None:
    given = best(coco, "test") | {"9": "a dog"}
    answers = json.loads(coco.answers_content(given, "test"))
    assert answers[0] == {"image_id": 9, "caption": "a dog"}
    mine = {name: score.value for name, score in coco.score(given, "test").items()}
    for people in (karpathy(), official(range(9, 15))):
        found = scored(root, answers[::-1], people)
        assert list(found) == [*METRICS, "meteor", "count", "scorer", "notes"]
        assert {name: found[name] for name in METRICS} == pytest.approx(mine)
        assert (found["meteor"], found["notes"], found["count"]) == (None, ["no Java"], 6)


def test_results_of_validation_are_held_against_validation(root: Path) -> None:
    assert scored(root, results(range(6, 9)), karpathy())["count"] == 3
    with pytest.raises(BadData, match=r"images without a caption: 9, 14 \(2 in all\)"):
        scored(root, results(range(10, 14)), karpathy())


def test_an_upload_holds_every_image_of_the_split(nocaps: Captioning) -> None:
    given = {example.id: "a cat" for example in nocaps.examples("test")}
    good = nocaps.answers_content(given, "test")
    assert nocaps.check_upload(good, "test") == []
    assert json.loads(good)[0] == {"image_id": 40, "caption": "a cat"}
    for content, line in (
        (b"{", "results: not JSON"),
        (b"{}", "expected a list"),
        (good.replace(b"41", b"77"), "images without a caption: 41"),
        (good.replace(b'"a cat"', b"3", 1), "'caption' should be a text"),
        (good.replace(b"41", b"40"), r"images with more than one caption: 40"),
    ):
        (wrong,) = nocaps.check_upload(content, "test")
        assert line in wrong


FAULTS: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "not JSON": (lambda s, a: s.append(float("nan")), r"\[6\]: expected an object with 'image_id', found nan"),
    "missing": (lambda s, a: s.pop(), r"results\.json: images without a caption: 5 \(1 in all\)"),
    "all missing": (lambda s, a: s.clear(), r"images without a caption: 0, 1, 2, 3, 4, 5 \(6 in all\)"),
    "surplus": (lambda s, a: s.extend(results(range(8, 9))), r"not in the annotations: 8 \(1 in all\)"),
    "both": (
        lambda s, a: s[0].update(image_id=9),
        r"images without a caption: 0 \(1 in all\); captions of images .*: 9 \(1 in all\)",
    ),
    "doubled": (lambda s, a: s.append(dict(s[2])), r"images with more than one caption: 2 \(1 in all\)"),
    "text id": (lambda s, a: s[1].update(image_id="1"), r"\[1\]: 'image_id' should be a whole number, found '1'"),
    "bool id": (lambda s, a: s[1].update(image_id=True), r"\[1\]: 'image_id' should be a whole"),
    "no caption": (lambda s, a: s[1].pop("caption"), r"\[1\]: the key 'caption' is missing; faulty records: 1 \(1 in"),
    "numbers": (
        lambda s, a: [one.update(caption=3) for one in s],
        r"\[0\]: 'caption' should be a text, found 3; faulty records: 0, 1, 2, 3, 4, 5 \(6 in all\)",
    ),
    "image id": (lambda s, a: a["images"][3].update(id="3"), r"images\[3\]: 'id' should be a whole"),
    "no name": (lambda s, a: a["images"][3].pop("file_name"), r"images\[3\]: the key 'file_name' is missing"),
    "domain": (lambda s, a: a["images"][3].update(domain="far"), r"images\[3\]: 'domain' should be one of in-domain"),
    "doubled image": (lambda s, a: a["images"].append(a["images"][0]), "images with an id that came before: 0"),
    "no images": (lambda s, a: a["images"].clear(), "holds no images"),
    "no list": (lambda s, a: a.update(annotations=3), "'annotations' should be a list"),
    "caption": (lambda s, a: a["annotations"][3].update(caption=None), r"annotations\[3\]: 'caption' should be a text"),
    "whose": (lambda s, a: a["annotations"][3].update(image_id=9), "captions of images that it does not hold: 9"),
    "doubled caption": (lambda s, a: a["annotations"][3].update(id=0), r"captions with an id that came before: 0"),
    "bare": (lambda s, a: a["annotations"].__delitem__(slice(2, None)), r"images without a caption: 0, 1, 2, 3"),
    "hidden": (lambda s, a: a.pop("annotations"), r"images without a caption: 0, 1, .* \(6 in all\)"),
}


@pytest.mark.parametrize(("spoil", "line"), FAULTS.values(), ids=FAULTS)
def test_bad_files_give_one_clear_line(root: Path, spoil: Callable[[Any, Any], Any], line: str) -> None:
    said, annotations = results(range(6)), official(range(6))
    assert scored(root, said, annotations)["count"] == 6
    spoil(said, annotations)
    with pytest.raises(BadData, match=line) as fault:
        scored(root, said, annotations)
    assert fault.value.code == 3
    assert str(root) in fault.value.wrong
    assert "\n" not in fault.value.wrong


def test_what_the_command_line_lacks(root: Path) -> None:
    with pytest.raises(Misuse, match="--annotations is missing"):
        Captioning.score_files(OfficialFiles(root / "x.json"))
    with pytest.raises(Misuse, match="no scorer is called 'x'"):
        Captioning.score_files(OfficialFiles(root / "x.json", annotations=root / "y.json", scorer="x"))
    with pytest.raises(BadData, match=r"there is no file .*x\.json"):
        Captioning.score_files(OfficialFiles(root / "x.json", annotations=root / "y.json"))
    letters = [{"image": "a.jpg", "caption": ["x"]}]
    with pytest.raises(BadData, match=r"the image a has no number|captions of images that are not"):
        scored(root, [], letters)


def test_what_is_not_here_is_told(root: Path, nocaps: Captioning) -> None:
    for name in ("nocaps_val_4500_captions.json", "nocaps_test_image_info.json"):
        (root / "nocaps" / name).unlink()
    for split, name in (("val", "nocaps_val_4500_captions"), ("val-in", "nocaps_val"), ("test", "nocaps_test_image")):
        with pytest.raises(BadData, match=rf"no file .*{name}") as fault:
            nocaps.examples(split)
        assert "nocaps.org" in fault.value.todo
    write(root / "nocaps" / "nocaps_val_4500_captions.json", official(range(3)))
    with pytest.raises(BadData, match="val holds nothing of 'near-domain'"):
        nocaps.examples("val-near")
    write(root / "nocaps" / "nocaps_val_4500_captions.json", official(range(3), public=False))
    with pytest.raises(BadData, match=r"images without a caption: 0, 1, 2 \(3 in all\)"):
        Captioning(nocaps.card, root).examples("val")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**13) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["images", "id", "caption"]), inner),
    max_leaves=6,
)


def _places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way] * bool(way) + [place for key, each in inner for place in _places(each, (*way, key))]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), domains=st.booleans())
def test_no_change_of_a_file_ends_in_anything_but_bad_data_or_a_score(
    root: Path, data: st.DataObject, domains: bool
) -> None:
    files: Any = [results(range(4)), official(range(4), domains=domains)]
    *way, last = data.draw(st.sampled_from(_places(files)[1:]))
    place = files
    for step in way:
        place = place[step]
    place[last] = data.draw(JSON)
    try:
        found = scored(root, *files)
    except BadData:
        return
    assert found["count"] == 4
    assert all(0 <= found[name] <= 1000 for name in METRICS)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(["results", "annotations"]), more=st.binary(max_size=30), cut=st.integers(0, 600))
def test_no_bytes_end_in_anything_but_bad_data(root: Path, name: str, more: bytes, cut: int) -> None:
    scored(root, results(range(4)), official(range(4)))
    path = root / f"{name}.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:cut] + more)
    try:
        Captioning.score_files(OfficialFiles(root / "results.json", annotations=root / "annotations.json"))
    except BadData:
        return
    assert json.loads(path.read_bytes()) == json.loads(whole)

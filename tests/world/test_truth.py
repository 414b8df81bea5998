"""What a world says is true of what it shows; judged from the scene graphs, and for GQA by running the programs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

SPLITS = {"train": "train2014", "val": "val2014", "test": "test2015", "unseen": "unseen2015"}
GQA = ("train", "val", "testdev", "unseen")


@pytest.mark.parametrize("subset", SPLITS.values())
def test_answers_of_vqa_are_what_one_sees(world: Any, answer: Callable[..., str], subset: str) -> None:
    annotations = world.json(f"vqa-v2/v2_mscoco_{subset}_annotations.json")["annotations"]
    right = {record["question_id"]: record["multiple_choice_answer"] for record in annotations}
    questions = world.json(f"vqa-v2/v2_OpenEnded_mscoco_{subset}_questions.json")["questions"]
    assert len(questions) == len(right) > 100
    for record in questions:
        things = world.things[world.keys[record["image_id"]]]
        assert answer(record["question"], things) == right[record["question_id"]], record


def test_captions_are_true(world: Any, judge: Any) -> None:
    checked = 0
    for subset in SPLITS.values():
        for record in world.json(f"coco-captions/captions_{subset}.json")["annotations"]:
            key = world.keys[record["image_id"]]
            assert judge.caption(record["caption"], world.things[key], world.graphs[key]["ground"]), (key, record)
            checked += 1
    assert checked == 5 * len(world.graphs)


def test_the_judge_of_captions_finds_lies(world: Any, judge: Any) -> None:
    captions = world.json("coco-captions/captions_val2014.json")["annotations"]
    keys = [key for key in world.graphs if "val2014" in key]
    wrong = 0
    for number, record in enumerate(captions):
        other = keys[(number // 5 + 7) % len(keys)]
        wrong += not judge.caption(record["caption"], world.things[other], world.graphs[other]["ground"])
    assert wrong > 0.7 * len(captions)


class Machine:
    """Runs programs of GQA on scene graphs; None where a step's subject is not one thing."""

    def __init__(self, graph: dict[str, Any]) -> None:
        self.objects, self.ground = graph["objects"], graph["ground"]

    def run(self, steps: list[dict[str, Any]]) -> str | None:
        results: list[Any] = []
        for step in steps:
            given = [results[place] for place in step["dependencies"]]
            if any(value is None for value in given):
                return None
            results.append(self._step(step["operation"], re.sub(r" ?\([^)]*\)", "", step["argument"]), *given))
        return results[-1]

    def _step(self, operation: str, argument: str, *given: Any) -> Any:
        if operation == "select":
            if argument == "scene":
                return argument
            return [one for one, about in self.objects.items() if argument in ("object", about["name"])]
        if operation == "filter color":
            return [one for one in given[0] if argument in self.objects[one]["attributes"]]
        if operation == "exist":
            return "yes" if given[0] else "no"
        if operation in ("and", "or"):
            test = all if operation == "and" else any
            return "yes" if test(value == "yes" for value in given) else "no"
        if given[0] == "scene":
            values = argument.split("|")
            return self.ground if len(values) == 2 else "yes" if self.ground == argument else "no"
        if any(len(value) != 1 for value in given):
            return None
        return self._on_one(operation, argument, *(value[0] for value in given))

    def _on_one(self, operation: str, argument: str, one: str, *others: str) -> Any:
        about = self.objects[one]
        if operation == "query" and argument == "name":
            return about["name"]
        if operation == "query":
            return about["attributes"][("color", "size", "pattern").index(argument)]
        if operation.endswith(" rel"):
            return self._related(operation, argument, one)
        if operation == "relate":
            return self._stand(argument.split(",")[1], one)
        if operation.startswith("verify"):
            return "yes" if argument in about["attributes"] else "no"
        if operation.startswith("choose"):
            return next((value for value in argument.split("|") if value in about["attributes"]), None)
        alike = about["attributes"][0] == self.objects[others[0]]["attributes"][0]
        return "yes" if alike == (operation == "same color") else "no"

    def _related(self, operation: str, argument: str, one: str) -> str | None:
        name, relations, _ = argument.split(",")
        there = [other for other, about in self.objects.items() if about["name"] == name]
        if len(there) != 1:
            return None
        held = {r["name"] for r in self.objects[one]["relations"] if r["object"] == there[0]}
        if operation == "verify rel":
            return "yes" if relations in held else "no"
        (found,) = held & set(relations.split("|"))
        return found.removeprefix("to the ").removesuffix(" of")

    def _stand(self, relation: str, one: str) -> list[str]:
        def held(other: str) -> bool:
            return {"name": relation, "object": one} in self.objects[other]["relations"]

        return [other for other in self.objects if held(other)]


def _all_questions(world: Any, name: str) -> dict[str, Any]:
    if name != "train":
        found: dict[str, Any] = world.json(f"gqa/{name}_all_questions.json")
        return found
    parts = [world.json(f"gqa/train_all_questions/train_all_questions_{part}.json") for part in range(10)]
    return {identity: record for part in parts for identity, record in part.items()}


@pytest.mark.parametrize("name", GQA)
def test_programs_of_gqa_lead_to_the_answers(world: Any, name: str) -> None:
    questions = _all_questions(world, name)
    assert len(questions) > 300
    for identity, record in questions.items():
        found = Machine(world.graphs[record["imageId"]]).run(record["semantic"])
        assert found == record["answer"], (identity, record)


def test_entailed_questions_are_entailed(world: Any) -> None:
    """Wherever a question has its answer, whatever the picture, each entailed one has the answer it is given."""
    machines = [Machine(graph) for graph in world.graphs.values()]
    questions = _all_questions(world, "val")
    tried: Counter[str] = Counter()
    for identity, record in questions.items():
        family = record["groups"]["local"].partition("-")[0]
        followers = [one for one in record["entailed"] if one != identity]
        if not followers or tried[family] >= 12:
            continue
        tried[family] += 1
        worlds = [machine for machine in machines if machine.run(record["semantic"]) == record["answer"]]
        assert worlds
        for follower in followers:
            other = questions[follower]
            assert other["imageId"] == record["imageId"]
            said = {machine.run(other["semantic"]) for machine in worlds}
            assert said == {other["answer"]}, (record["question"], record["answer"], other["question"], said)
    assert len(tried) >= 15


def test_equivalent_questions_have_one_answer_everywhere(world: Any) -> None:
    machines = [Machine(graph) for graph in list(world.graphs.values())[::5]]
    questions, pairs = _all_questions(world, "val"), 0
    for identity, record in questions.items():
        assert identity in record["equivalent"]
        for other in record["equivalent"]:
            if other != identity and pairs < 150:
                pairs += 1
                programs = record["semantic"], questions[other]["semantic"]
                assert all(machine.run(programs[0]) == machine.run(programs[1]) for machine in machines)
    assert pairs > 100


@pytest.mark.parametrize("name", ["refcoco", "refcoco+", "refcocog"])
def test_expressions_mean_one_thing_among_others_of_its_class(world: Any, judge: Any, name: str) -> None:
    file = "refs(umd).p" if name == "refcocog" else "refs(unc).p"
    said = 0
    for ref in world.refs(f"{name}/{file}"):
        things = world.things[world.keys[ref["image_id"]]]
        target = things[ref["ann_id"] % 100]
        assert sum(thing["shape"] == target["shape"] for thing in things) >= 2
        for sentence in ref["sentences"]:
            assert _meant(judge, sentence["sent"], things) == [target], sentence
            said += 1
    assert said > 200


def _meant(judge: Any, text: str, things: list[Any]) -> list[Any]:
    text = text.removeprefix("the ")
    if match := re.fullmatch(r"(left|right|top|bottom) (\w+)", text):
        axis, sign = {"left": ("x", 1), "right": ("x", -1), "top": ("y", 1), "bottom": ("y", -1)}[match[1]]
        return sorted(judge.among(match[2], things), key=lambda thing: sign * thing[axis])[:1]
    if match := re.fullmatch(r"(\w+) at the (.+)", text):
        return [thing for thing in judge.among(match[1], things) if judge.corner(thing) == match[2]]
    if match := re.fullmatch(r"(\w+) that is (left of|right of|above|below) the (.+)", text):
        other = judge.the(match[3], things)
        return [thing for thing in judge.among(match[1], things) if judge.related(thing, match[2], other)]
    found: list[Any] = judge.among(text, things)
    return found


def test_refcoco_plus_knows_no_places(world: Any) -> None:
    words = {word for ref in world.refs("refcoco+/refs(unc).p") for s in ref["sentences"] for word in s["tokens"]}
    assert not words & {"left", "right", "top", "bottom", "middle", "above", "below", "beside", "at", "near"}
    assert {"red", "striped", "small"} <= words


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_one_answer_and_one_reason_of_vcr_are_true(world: Any, judge: Any, split: str) -> None:
    records = world.lines(f"vcr/{split}.jsonl")
    assert len(records) >= 32
    for record in records:
        key = record["img_fn"].rpartition("/")[2].removesuffix(".png")
        things, question = world.things[key], _words(record["question"])
        true = [place for place, text in enumerate(record["answer_choices"]) if _said(judge, question, text, things)]
        assert len(true) == 1, record
        assert split == "test" or true == [record["answer_label"]], record  # the file of tests does not say which
        true = [place for place, text in enumerate(record["rationale_choices"]) if _said(judge, "", text, things)]
        if "left of" not in question:  # those reasons speak of place and size at once
            assert len(true) == 1, record
            assert split == "test" or true == [record["rationale_label"]], record


def _words(tokens: list[Any]) -> str:
    return " ".join(f"#{token[0]}" if isinstance(token, list) else token for token in tokens)


def _said(judge: Any, question: str, tokens: list[Any], things: list[Any]) -> bool:
    text = _words(tokens).rstrip(" .")
    if match := re.fullmatch(r"#(\d) is at the (\w+ \w+)", text):
        return bool(judge.corner(things[int(match[1])]) == match[2])
    if match := re.fullmatch(r"#(\d) is at the (\w+) and it is (\w+)", text):
        thing = things[int(match[1])]
        return (judge.corner(thing).split()[0], thing["size"]) == (match[2], match[3])
    if match := re.fullmatch(r"#(\d) is (\w+)(?: and (\w+))?", text):
        thing = things[int(match[1])]
        return {match[2], match[3] or match[2]} <= {thing["color"], thing["size"], thing["texture"]}
    if match := re.fullmatch(r"One is (\w+)", text):
        return any(thing["color"] == match[1] for thing in things)
    if match := re.fullmatch(r"The number is (\w+)", text):
        return len(things) == ("zero", "one", "two", "three", "four", "five", "six").index(match[1])
    if match := re.fullmatch(r"There is no (\w+)", text):
        return not judge.among(match[1], things)
    if match := re.fullmatch(r"There is an? (\w+) and an? (\w+)", text):
        return bool(judge.among(match[1], things) and judge.among(match[2], things))
    if match := re.fullmatch(r"An? (\w+) object", text):
        place = things[int(question.split("#")[1][0])]
        return [thing["color"] for thing in things if thing["x"] < place["x"]] == [match[1]]
    match = re.fullmatch(r"#(\d) has (the same|another) color and (the same|another) size", text)
    assert match, text
    one, other = (things[int(number)] for number in re.findall(r"#(\d)", question))
    said = [word == "the same" for word in (match[2], match[3])]
    return [one[part] == other[part] for part in ("color", "size")] == said

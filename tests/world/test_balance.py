"""Nothing can be told from texts alone: every wording has each of its answers equally often, and what learns from
the texts of training is right on the test no more often than the stated prior.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import pytest

from vlbench.catalog import find_dataset
from vlbench.tasks.vqa import VQA

SUBSETS = {"train": "train2014", "val": "val2014", "test": "test2015", "unseen": "unseen2015"}
Pairs = list[tuple[str, str]]


def _vqa(world: Any, split: str) -> Pairs:
    subset = SUBSETS[split]
    annotations = world.json(f"vqa-v2/v2_mscoco_{subset}_annotations.json")["annotations"]
    right = {record["question_id"]: record["multiple_choice_answer"] for record in annotations}
    questions = world.json(f"vqa-v2/v2_OpenEnded_mscoco_{subset}_questions.json")["questions"]
    return [(record["question"], right[record["question_id"]]) for record in questions]


def _gqa(world: Any, split: str) -> Pairs:
    records = world.json(f"gqa/{split.replace('test', 'testdev')}_balanced_questions.json").values()
    return [(record["question"], record["answer"]) for record in records]


def _entailment(world: Any, split: str) -> Pairs:
    records = world.lines(f"snli-ve/snli_ve_{split.replace('val', 'dev')}.jsonl")
    return [(record["sentence2"], record["gold_label"]) for record in records]


def _nlvr2(world: Any, split: str) -> Pairs:
    name = {"train": "train", "val": "dev", "test": "test1", "unseen": "test2"}[split]
    return [(record["sentence"], record["label"]) for record in world.lines(f"nlvr2/data/{name}.json")]


TASKS = {"vqa-v2": _vqa, "gqa": _gqa, "snli-ve": _entailment, "nlvr2": _nlvr2}
OFFICIAL = {
    "gqa": {"test": "testdev"},
    "snli-ve": {"val": "dev"},
    "nlvr2": {"val": "dev", "test": "test1", "unseen": "test2"},
}
CASES = [(task, split) for task in TASKS for split in SUBSETS]


@pytest.mark.parametrize(("task", "split"), CASES)
def test_every_wording_has_each_answer_equally_often(world: Any, task: str, split: str) -> None:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for text, answer in TASKS[task](world, split):
        found[text][answer] += 1
    uneven = {text: counts for text, counts in found.items() if len(set(counts.values())) > 1 or len(counts) < 2}
    assert found
    assert not uneven


@pytest.mark.parametrize(("task", "split"), CASES)
def test_the_stated_prior_is_that_of_the_files(world: Any, task: str, split: str) -> None:
    pairs, answers = TASKS[task](world, split), defaultdict(set)
    for text, answer in pairs:
        answers[text].add(answer)
    prior = sum(1 / len(answers[text]) for text, _ in pairs) / len(pairs)
    assert world.manifest.priors[task][OFFICIAL.get(task, {}).get(split, split)] == pytest.approx(prior)


@pytest.mark.parametrize(("task", "split"), [case for case in CASES if case[1] != "train"])
def test_texts_alone_do_not_beat_the_prior(world: Any, task: str, split: str) -> None:
    train, test = TASKS[task](world, "train"), TASKS[task](world, split)
    prior = world.manifest.priors[task][OFFICIAL.get(task, {}).get(split, split)]
    for guess in (_most_frequent(train), NaiveBayes(train)):
        right = sum(guess(text) == answer for text, answer in test) / len(test)
        assert right <= prior + 1e-9


@pytest.mark.parametrize("split", ["val", "test", "unseen"])
def test_the_prior_of_vqa_is_of_exact_matches(world: Any, split: str) -> None:
    """The question-only control is right as often as stated, and its score by ten people is higher."""
    card = find_dataset("world", "vqa").model_copy(update={"folder": "vqa-v2"})
    task = VQA(card, world.folder)
    given = task.controls(split, ["train"])["question-only"]
    records = world.json(f"vqa-v2/v2_mscoco_{SUBSETS[split]}_annotations.json")["annotations"]
    usual = {str(record["question_id"]): record["multiple_choice_answer"] for record in records}
    exact = sum(given[identity] == answer for identity, answer in usual.items()) / len(usual)
    prior = world.manifest.priors["vqa-v2"][split]
    assert given.keys() == usual.keys()
    assert 0.75 * prior < exact <= prior + 1e-9  # less where training never had a wording
    assert exact + 0.005 < task.score(given, split)["accuracy"].value / 100 < exact + 0.05


def test_the_manifest_says_what_its_priors_are(world: Any) -> None:
    said = world.json("manifest.json")["about_priors"]
    assert "matched exactly" in said
    assert "refcocog: by whoever also knows where all objects are" in said


def _most_frequent(train: Pairs) -> Any:
    by_text: dict[str, Counter[str]] = defaultdict(Counter)
    for text, answer in train:
        by_text[text][answer] += 1
    usual = Counter(answer for _, answer in train).most_common(1)[0][0]
    return lambda text: by_text[text].most_common(1)[0][0] if text in by_text else usual


class NaiveBayes:
    """Which answer goes with the words of a text."""

    def __init__(self, train: Pairs) -> None:
        self.answers = Counter(answer for _, answer in train)
        self.words: dict[str, Counter[str]] = defaultdict(Counter)
        for text, answer in train:
            self.words[answer].update(_words(text))
        self.known = {word for counts in self.words.values() for word in counts}
        self.totals = {answer: sum(counts.values()) for answer, counts in self.words.items()}

    def __call__(self, text: str) -> str:
        return max(self.answers, key=lambda answer: self.score(text, answer))

    def score(self, text: str, answer: str) -> float:
        """Return the log probability of an answer and a text."""
        total = self.totals[answer] + len(self.known)
        said = sum(math.log((self.words[answer][word] + 1) / total) for word in _words(text))
        return math.log(self.answers[answer]) + said


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def test_a_control_that_learns_would_be_seen_to(world: Any) -> None:
    """The controls above are no straw men: with a hint in the text they are nearly always right."""
    train, test = ([(f"{text} hint{answer}", answer) for text, answer in _vqa(world, s)] for s in ("train", "test"))
    bayes = NaiveBayes(train)
    assert sum(bayes(text) == answer for text, answer in test) > 0.8 * len(test)


def _texts(choices: Sequence[Sequence[Any]], objects: Sequence[str]) -> list[str]:
    """Write choices with the classes of the things they point at."""
    return [" ".join(objects[w[0]] if isinstance(w, list) else w for w in choice) for choice in choices]


def _choices(world: Any, split: str, stage: str) -> list[tuple[str, list[str], int]]:
    rows = []
    for record in world.lines(f"vcr/{split}.jsonl"):
        objects, answers = record["objects"], _texts(record["answer_choices"], record["objects"])
        question = _texts([record["question"]], objects)[0]
        if stage == "answer":
            rows.append((question, answers, record["answer_label"]))
        else:
            asked = f"{question} {answers[record['answer_label']]}"
            rows.append((asked, _texts(record["rationale_choices"], objects), record["rationale_label"]))
    return rows


@pytest.mark.parametrize("stage", ["answer", "rationale"])
def test_choices_of_vcr_cannot_be_told_from_texts(world: Any, stage: str) -> None:
    """What is right in the test split is not public; it is made as the others are."""
    split = "val"
    bayes = NaiveBayes(
        [
            (f"{_joined(asked, choice)}", str(place == label))
            for asked, choices, label in _choices(world, "train", stage)
            for place, choice in enumerate(choices)
        ]
    )
    right, rows = 0, _choices(world, split, stage)
    for asked, choices, label in rows:
        scores = [
            bayes.score(_joined(asked, choice), "True") - bayes.score(_joined(asked, choice), "False")
            for choice in choices
        ]
        right += scores.index(max(scores)) == label
    prior = world.manifest.priors["vcr"][split]
    assert prior == 0.25
    assert right / len(rows) <= prior + 2 * math.sqrt(prior * (1 - prior) / len(rows))


def _joined(asked: str, choice: str) -> str:
    """Make words of every pair of a word asked and a word chosen, so that what goes together can be learned."""
    both = [f"{one}_{other}" for one in _words(asked) for other in _words(choice)]
    return f"{choice} {' '.join(both)}"


def test_squares_of_vcr_are_even(world: Any) -> None:
    """In training, each question with its four answers has each of these right equally often; so the reasons."""
    for stage in ("answer", "rationale"):
        found: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        for asked, choices, label in _choices(world, "train", stage):
            found[(asked, *sorted(choices))][choices[label]] += 1
        assert found
        assert all(len(counts) == 4 and len(set(counts.values())) == 1 for counts in found.values())


@pytest.mark.parametrize("name", ["refcoco", "refcoco+", "refcocog"])
def test_expressions_do_not_tell_boxes(world: Any, name: str) -> None:
    """The best box for each expression, learned in training, is hardly ever the right one of the test."""
    boxes = {one["id"]: one["bbox"] for one in world.json(f"{name}/instances.json")["annotations"]}
    refs = world.refs(f"{name}/refs({'umd' if name == 'refcocog' else 'unc'}).p")
    split = "test" if name == "refcocog" else "testA"
    usual: dict[str, list[float]] = {}
    for ref in refs:
        if ref["split"] == "train":
            usual |= {sentence["sent"]: boxes[ref["ann_id"]] for sentence in ref["sentences"]}
    fallback = next(iter(usual.values()))
    tried = [
        (usual.get(s["sent"], fallback), boxes[r["ann_id"]])
        for r in refs
        if r["split"] == split
        for s in r["sentences"]
    ]
    right = sum(_overlap(*pair) >= 0.5 for pair in tried) / len(tried)
    prior = world.manifest.priors[name][split]
    assert 0.3 < prior <= 0.5
    assert right < prior / 2


def _overlap(one: list[float], other: list[float]) -> float:
    across = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    down = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    both = max(0.0, across) * max(0.0, down)
    return both / (one[2] * one[3] + other[2] * other[3] - both)


def test_few_words_are_enough(world: Any) -> None:
    texts = [text for task in ("vqa-v2", "gqa", "snli-ve", "nlvr2") for text, _ in TASKS[task](world, "train")]
    texts += [one["caption"] for one in world.json("coco-captions/captions_train2014.json")["annotations"]]
    texts += [
        s["sent"] for name in ("refcoco", "refcoco+") for r in world.refs(f"{name}/refs(unc).p") for s in r["sentences"]
    ]
    texts += [
        text
        for stage in ("answer", "rationale")
        for asked, c, _ in _choices(world, "train", stage)
        for text in (asked, *c)
    ]
    assert len({word for text in texts for word in _words(text)}) < 150

"""Captioning: a sentence that describes an image, scored against those that people wrote (COCO, nocaps)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from vlbench.cards import DatasetCard
from vlbench.metrics.caption import SCORER
from vlbench.record import Score
from vlbench.tasks.base import OfficialFiles, Task, needed
from vlbench.tasks.caption_scores import metrics_of, scores_of
from vlbench.tasks.caption_sources import CaptionFiles
from vlbench.tasks.coco_files import DOMAINS, check_captioned, take_results
from vlbench.tasks.karpathy_files import PARTS, Pictured, read_pictured
from vlbench.tasks.reading import describe, parse_json, refuse
from vlbench.tasks.records import read_bytes
from vlbench.tasks.servers import Server
from vlbench.tasks.skills import FILE, read_skills
from vlbench.types import Answer, BadData, Example, Fault, Form, Misuse, nearest

LEARNED = "train"
"""The split whose examples are captions, one each; those of any other are images, to be written to."""


class Captioning(Task):
    """Image captioning."""

    form: ClassVar[Form] = "write"
    server: ClassVar[Server] = Server(
        names={
            "CIDEr": "cider",
            **{name: f"bleu_{at}" for at in range(1, 5) for name in (f"B{at}", f"BLEU-{at}", f"BLEU{at}")},
            "ROUGE-L": "rouge_l",
            "ROUGE": "rouge_l",
            "METEOR": "meteor",
            "SPICE": "spice",
        },
        parts={"entire": "", **{domain: f"_{domain.replace('-', '_')}" for domain in DOMAINS}},
    )
    score_options: ClassVar[tuple[str, ...]] = ("annotations",)

    def __init__(self, card: DatasetCard, folder: Path) -> None:
        super().__init__(card, folder)
        self.sources = CaptionFiles(card, self.folder)

    def examples(self, split: str) -> Sequence[Example]:
        """List the captions of ``train``, one an example; or the images of any other split, with their captions."""
        self.split(split)
        found = self.sources.read(split).values()
        if split == LEARNED:
            return [
                Example(f"{one.id}|{identity}", (one.key,), (text,), (text,))
                for one in found
                for identity, text in zip(one.caption_ids, one.captions, strict=True)
            ]
        return [Example(one.id, (one.key,), ("",), one.captions or None) for one in found]

    def score(self, given: Mapping[str, Answer], split: str, scorer: str = "") -> dict[str, Score]:
        """Score answers, over all and, in nocaps, by domain; CIDEr-D is the main metric.

        It is also given by the kind of image, where a data set says so.
        """
        version = self.version(scorer)
        examples = self.answered(given, split)
        if not self.split(split).public:
            todo = "the answer file in the run's folder is what the evaluation server takes"
            raise Fault(f"the captions of {self.card.name} {split} are not public", todo)
        if not examples:
            raise BadData("there is no answer to score")
        labels = [self.breakdown(example).get("skill", "") for example in examples]
        found = scores_of(*self._captions(examples, given), version, labels)
        domains = dict.fromkeys(self._domain(example, split) for example in examples)
        for domain in sorted(domains) if len(domains) > 1 else ():
            some = [example for example in examples if self._domain(example, split) == domain]
            own = scores_of(*self._captions(some, given), version)
            found |= {f"{metric}_{domain.replace('-', '_')}": score for metric, score in own.items()}
        return found

    def breakdown(self, example: Example) -> Mapping[str, str]:
        """Label an image by what it takes to describe it, where that is known: in the world, how much it shows."""
        skill = self._skills.get(example.id)
        return {"skill": skill} if skill else {}

    @cached_property
    def _skills(self) -> Mapping[str, str]:
        return read_skills(self.folder)

    def version(self, scorer: str) -> str:
        """Return the scorer to use; Misuse where there is no such scorer."""
        if scorer not in ("", SCORER):
            raise Misuse(f"{self.card.name} has no scorer '{scorer}'; {nearest(scorer, [SCORER])}")
        return SCORER

    def answers_file(self, given: Mapping[str, Answer], split: str) -> list[dict[str, object]]:
        """Lay answers out as COCO's results, which evaluation servers take."""
        said = [(example.id, _text(given[example.id], example.id)) for example in self.answered(given, split)]
        return [{"image_id": _number(identity), "caption": text} for identity, text in said]

    def check_upload(self, content: bytes, split: str) -> list[str]:
        """Say what the server would refuse: another form, or images that are not exactly those of the split."""
        try:
            said = _results(content, "results")
            check_captioned(said.keys(), {_number(example.id): None for example in self.examples(split)}, "results")
        except BadData as fault:
            return [fault.wrong]
        return []

    def files(self, split: str) -> dict[str, Path]:
        """Return the files that a split is read from, and what says the kinds of its images, where that is known."""
        self.split(split)
        skills = self.folder / FILE
        return {**self.sources.files(split), **({FILE: skills} if skills.is_file() else {})}

    def image_files(self, split: str) -> dict[str, Path]:
        """Return the image files of a split that are here, by image key."""
        self.split(split)
        return self.sources.images(split)

    def controls(self, split: str, train_splits: Iterable[str]) -> dict[str, Mapping[str, Answer]]:
        """Answer a split without looking: ``prior`` writes the training caption that most images have."""
        texts = Counter(
            text.strip() for train in train_splits for one in self.sources.read(train).values() for text in one.captions
        )
        if not texts:
            return {}
        commonest = min(texts, key=lambda text: (-texts[text], text))
        return {"prior": {example.id: commonest for example in self.examples(split)}}

    @classmethod
    def score_files(cls, files: OfficialFiles) -> dict[str, object]:
        """Score COCO results against annotations: COCO's own, nocaps', or the test split of Karpathy's."""
        path, where = needed(files, "annotations", "captioning"), str(files.answers)
        if files.scorer not in ("", SCORER):
            raise Misuse(f"no scorer is called '{files.scorer}'; {nearest(files.scorer, [SCORER])}")
        said = _results(read_bytes(files.answers), where)
        found = _scored(read_pictured(path), said)
        bare = [one.id for one in found if not one.captions]
        refuse(str(path), "images without a caption", bare, "these annotations are for the evaluation server")
        check_captioned(said.keys(), {_number(one.id): None for one in found}, where)
        values, notes = _metrics(found, said)
        for domain in sorted(_domains(found)):
            own, _ = _metrics([one for one in found if one.part == domain], said)
            values |= {f"{metric}_{domain.replace('-', '_')}": value for metric, value in own.items()}
        return {**values, "count": len(found), "scorer": SCORER} | ({"notes": notes} if notes else {})

    def _captions(
        self, examples: Sequence[Example], given: Mapping[str, Answer]
    ) -> tuple[list[str], list[tuple[str, ...]]]:
        """Return what was written and what people wrote, image by image."""
        captions = [example.answer for example in examples]
        return (
            [_text(given[example.id], example.id) for example in examples],
            [tuple(str(text) for text in one) for one in captions if isinstance(one, tuple)],
        )

    def _domain(self, example: Example, split: str) -> str:
        part = self.sources.read(split)[example.id].part
        return "" if part in PARTS else part


def _scored(found: Sequence[Pictured], said: Mapping[int, str]) -> Sequence[Pictured]:
    """Return the images that results are of: of Karpathy's file, the split that most of them are of."""
    if not any(one.part in PARTS for one in found):
        return found
    parts = Counter(one.part for one in found if one.id.isdigit() and int(one.id) in said)
    part = max(parts, key=parts.__getitem__, default="test")
    return [one for one in found if one.part == part]


def _domains(found: Iterable[Pictured]) -> set[str]:
    return {one.part for one in found if one.part and one.part not in PARTS}


def _metrics(found: Sequence[Pictured], said: Mapping[int, str]) -> tuple[dict[str, float | None], list[str]]:
    return metrics_of([said[_number(one.id)] for one in found], [one.captions for one in found])


def _results(content: bytes, where: str) -> dict[int, str]:
    return take_results(parse_json(content, where), where)


def _text(answer: Answer, identity: str) -> str:
    if not isinstance(answer, str):
        raise BadData(f"the answer to {identity} is {describe(answer)}, not a text")
    return answer


def _number(identity: str) -> int:
    if not (identity.isascii() and identity.isdigit()):
        raise BadData(f"the image {identity} has no number, which COCO's results call images by")
    return int(identity)

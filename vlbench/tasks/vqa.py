"""VQA: an open question on an image, answered from a closed list (Antol et al. 2015, Goyal et al. 2017).

Layout ``vqa-v2`` is the official question and annotation files, asked of COCO; ``easy-vqa`` is what the
Python package easy-vqa holds, whose one answer a question counts as if ten people had given it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from vlbench.cards import DatasetCard
from vlbench.metrics.vqa_accuracy import OFFICIAL, SCORERS, accuracies, answer_list, summarise
from vlbench.record import Score
from vlbench.tasks.base import OfficialFiles, Task, needed
from vlbench.tasks.reading import listed, parse_json, read_answers, read_json
from vlbench.tasks.servers import Server
from vlbench.tasks.skills import read_skills
from vlbench.tasks.vqa_easy import EasyVQA
from vlbench.tasks.vqa_files import Asked, check_answered, read_official, take_answers
from vlbench.tasks.vqa_lists import number_of
from vlbench.tasks.vqa_official import OfficialVQA
from vlbench.types import Answer, BadData, Example, Fault, Form, Misuse, nearest

LAYOUTS: Mapping[str, type[OfficialVQA] | type[EasyVQA]] = {"vqa-v2": OfficialVQA, "easy-vqa": EasyVQA}


class VQA(Task):
    """Visual question answering."""

    form: ClassVar[Form] = "classify"
    server: ClassVar[Server] = Server(
        names={
            "overall": "accuracy",
            "yes/no": "accuracy_yes_no",
            "number": "accuracy_number",
            "other": "accuracy_other",
        },
        tells={"test": ("test-dev",)},
    )
    score_options: ClassVar[tuple[str, ...]] = ("questions", "annotations")

    def __init__(self, card: DatasetCard, folder: Path) -> None:
        super().__init__(card, folder)
        if card.layout not in LAYOUTS:
            raise BadData(f"{card.path}: no layout of vqa is called '{card.layout}'", f"known: {', '.join(LAYOUTS)}")
        self.layout = LAYOUTS[card.layout](card, self.folder)
        self._people: dict[str, tuple[str, ...]] = {}

    def examples(self, split: str) -> Sequence[Example]:
        """List the questions of a split in the order of its file."""
        asked = self._asked(split).values()
        if not self.layout.one_answer:
            self._people.update({one.example.id: one.reference.answers for one in asked})
        return [one.example for one in asked]

    def shares(self, example: Example) -> Mapping[int, float] | int:
        """Return the share of the ten people who gave each closed answer, as ALBEF and BLIP weigh them.

        The one answer to a question on Visual Genome keeps the weight it has.
        """
        people = self._people.get(example.id, ())
        if not people:
            return super().shares(example) if self.layout.one_answer else self.target(example)
        known = (self.answer_numbers[answer] for answer in people if answer in self.answer_numbers)
        return {place: times / len(people) for place, times in Counter(known).items()}

    @cached_property
    def answers(self) -> Sequence[str]:
        """The preprocessed majority answers that occur often enough, in alphabetical order; or ALBEF's own list."""
        if self.layout.answer_list:
            return read_answers(self.layout.answer_list)
        asked = (one for split in self.card.answer_splits for one in self._asked(split).values())
        return answer_list((one.majority for one in asked), self.card.answer_count)

    def score(self, given: Mapping[str, Answer], split: str, scorer: str = "") -> dict[str, Score]:
        """Score answers, over all and by kind of answer."""
        values = self.each(given, split, scorer)
        asked = self._asked(split)
        return self.tally([asked[name].example for name in values], list(values.values()), self.version(scorer))

    def each(self, given: Mapping[str, Answer], split: str, scorer: str = "") -> Mapping[str, float]:
        """Score every answered question from 0 to 1; Fault where the split's answers are not public."""
        asked, version = self._asked(split), self.version(scorer)
        if not self.split(split).public:
            todo = "the answer file in the run's folder is what the evaluation server takes"
            raise Fault(f"the answers of {self.card.name} {split} are not public", todo)
        examples = self.answered(given, split)
        if lone := [example.id for example in examples if not asked[example.id].reference.answers]:
            todo = f"it is there to learn from: --set train_splits=train,{split}"
            raise Misuse(f"{split} has one answer a question, and the scorers compare with many: {listed(lone)}", todo)
        said = [self.wording(given[example.id]) for example in examples]
        values = accuracies(said, [asked[example.id].reference for example in examples], version)
        return dict(zip([example.id for example in examples], values.tolist(), strict=True))

    def breakdown(self, example: Example) -> Mapping[str, str]:
        """Label an example by the kind of its answer (yes_no, number, other) and by its skill where that is known."""
        labels = {"answer_type": self.layout.kind(example), "skill": self._skills.get(example.id, "")}
        return {name: label for name, label in labels.items() if label}

    @cached_property
    def _skills(self) -> Mapping[str, str]:
        return read_skills(self.folder)

    def answers_file(self, given: Mapping[str, Answer], split: str) -> list[dict[str, object]]:
        """Lay answers out as the official answer file and the evaluation server have them."""
        examples = self.answered(given, split)
        return [{"question_id": number_of(e.id), "answer": self.wording(given[e.id])} for e in examples]

    def check_upload(self, content: bytes, split: str) -> list[str]:
        """Say what the server would refuse: it takes every question of the split once, and no other."""
        if self.layout.one_answer:
            return super().check_upload(content, split)
        try:
            said = take_answers(parse_json(content, "the file"), "the file")
            check_answered(said.keys(), [number_of(identity) for identity in self._asked(split)], "the file")
        except BadData as fault:
            return [fault.wrong]
        return []

    def upload_name(self, split: str, method: str) -> str:
        """Name the file as the challenge does."""
        subset = {"test": "test2015", "test-dev": "test-dev2015"}.get(split, split)
        return f"vqa_OpenEnded_mscoco_{subset}_{method}_results.json"

    def files(self, split: str) -> dict[str, Path]:
        """Return the files a split is read from."""
        self.split(split)
        return self.layout.files(split)

    def image_files(self, split: str) -> dict[str, Path]:
        """Return the image files of a split that are here, by image key."""
        keys = {key for example in self.examples(split) for key in example.images}
        here = self.layout.images(split)
        return {key: here[key] for key in sorted(keys & here.keys())}

    def _asked(self, split: str) -> Mapping[str, Asked]:
        self.split(split)
        return self.layout.read(split)

    def version(self, scorer: str) -> str:
        """Return the scorer to use; Misuse where the data set cannot be scored by it."""
        name = scorer or self.card.scorer
        known = SCORERS if self.layout.one_answer else OFFICIAL
        if name not in known:
            raise Misuse(f"{self.card.name} has no scorer '{name}'; {nearest(name, known)}")
        return name

    @classmethod
    def score_files(cls, files: OfficialFiles) -> dict[str, object]:
        """Score an answer file against the official files; percent of two decimals, as officially printed."""
        scorer = files.scorer or "official-2021"
        if scorer not in OFFICIAL:
            raise Misuse(f"no scorer is called '{scorer}'; {nearest(scorer, OFFICIAL)}")
        questions, annotations = needed(files, "questions", "vqa"), needed(files, "annotations", "vqa")
        people = read_official(questions, annotations, "see https://visualqa.org/download.html").annotations
        said = take_answers(read_json(files.answers), str(files.answers))
        check_answered(said.keys(), people.keys(), str(files.answers))
        references = [annotation.reference for annotation in people.values()]
        found = summarise(accuracies([said[identity] for identity in people], references, scorer), references)
        return {
            "overall": round(found.overall, 2),
            "per_answer_type": {kind: round(value, 2) for kind, value in found.per_answer_type.items()},
            "per_question_type": {kind: round(value, 2) for kind, value in found.per_question_type.items()},
            "count": len(references),
            "scorer": scorer,
        }

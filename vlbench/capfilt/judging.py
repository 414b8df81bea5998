"""Captioner and filter at work: each image of a corpus gets a text, and every text is judged (BLIP, section 3.3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor, nn

from vlbench.capfilt.decisions import DECISIONS, Decision, Judged, whole_lines
from vlbench.capfilt.planning import EVEN
from vlbench.cards import CorpusCard
from vlbench.corpora.corpus import Corpus
from vlbench.corpora.images import BrokenImages, CorpusPixels
from vlbench.corpora.mixture import Mixture
from vlbench.data.batches import Collator, ahead, identity
from vlbench.data.opening import open_words
from vlbench.data.words import Words
from vlbench.learner import Learner
from vlbench.nn.captions import PromptedCaptions, Writes
from vlbench.plan import Plan
from vlbench.prepare import PIXELS, Options, transforms
from vlbench.pretrain import OpenedCorpora, build_pretraining
from vlbench.runfolder import WORDS
from vlbench.types import Fault, Image, Progress, Text

SHARE = 0.9
"""Of the nucleus that captions are drawn from (section 4.3)."""
REPETITION_PENALTY = 1.1
"""The authors' for drawn captions; the paper does not name it (models/blip.py)."""
LONGEST = 16
"""Words of a caption: the authors' 20 count [DEC] and the three words of the prompt, and their 5 leave one at least."""


class JudgesPairs(Writes, Protocol):
    """A model that writes captions and says whether a text belongs to an image."""

    matching_head: nn.Module
    """[P, D] -> [P, 2]; class 1 is a match."""

    def read_with(self, images: Tensor, text: Text, rows: Tensor | None = None) -> Tensor:
        """Read texts with the images [I, K, S] that rows [P] name -> [P, L, D]."""


class Trained(NamedTuple):
    """A captioner or a filter that was trained, with what it sees and reads."""

    plan: Plan
    learner: Learner
    images: CorpusPixels
    collate: Collator
    words: Words

    @property
    def model(self) -> JudgesPairs:
        """The model by what is asked of it here."""
        return cast(JudgesPairs, self.learner.model)


def open_trained(plan: Plan, run: Path, corpus: Corpus, card: CorpusCard, options: Options) -> Trained:
    """Open what a stage has trained in the folder ``run``, to be asked about a corpus."""
    plan = plan._replace(recipe=plan.recipe.model_copy(update={"start": f"run:{run}"}))
    size = plan.model.sizes[plan.recipe.size]
    side = plan.recipe.image_size or int(size.get("image_size", PIXELS))
    mixture = Mixture([(corpus, 1)])
    images = CorpusPixels(mixture, transforms(plan, side)[0], memory=0)
    kept = run / WORDS
    name = "train" if kept.is_file() else plan.tokeniser
    words = open_words(name, texts=(), size=plan.recipe.vocabulary, root=options.data, kept=kept)
    collate = Collator(images, words, length=plan.recipe.text_length, keeps=False)
    opened = OpenedCorpora(mixture, (card,), images, words, (), collate)
    return Trained(plan, build_pretraining(plan, opened, options).eval(), images, collate, words)


class Part(NamedTuple):
    """Consecutive records of the noisy corpus, with those of their images that can be read."""

    bare: tuple[Decision, ...]
    """The records, their web texts not judged yet."""
    shown: tuple[int, ...]
    """Which of them have an image."""
    for_captioner: Image | None
    for_filter: Image | None
    draws: Tensor
    """[shown, words]: what the words of each caption are drawn by."""


class Parts:
    """Builds the parts of a corpus, in worker processes where a recipe wants them."""

    def __init__(
        self,
        corpus: Corpus,
        folders: Sequence[Path],
        images: Sequence[CorpusPixels],
        *,
        batch: int,
        total: int,
        seed: int,
    ) -> None:
        """``folders``: of the images; ``images``: as captioner and filter see them."""
        self.corpus, self.folders, self.images = corpus, tuple(folders), tuple(images)
        self.batch, self.total, self.seed = batch, total, seed

    def build(self, number: int) -> Part:
        """Read a part: the records from ``number`` times the batch on."""
        numbers = range(number * self.batch, min((number + 1) * self.batch, self.total))
        keys = [self.corpus.example(one).images[0] for one in numbers]
        looks, broken = self._look(keys)
        bare = tuple(
            Decision(
                one,
                self._path_of(key),
                tuple(Judged(text, False, 0.0) for text in self.corpus.told(one)),
                unreadable=broken.get(key, ""),
            )
            for one, key in zip(numbers, keys, strict=True)
        )
        shown = tuple(place for place, key in enumerate(keys) if key not in broken)
        draws = [self._draws(bare[place].image) for place in shown]
        return Part(bare, shown, *looks, torch.from_numpy(np.array(draws, np.float32).reshape(-1, LONGEST)))

    def _path_of(self, key: str) -> str:
        """Say how the file of an image is called below the folders of images, its suffix included."""
        found = self.corpus.picture(key)
        homes = [home for home in self.folders if isinstance(found, Path) and found.is_relative_to(home)]
        return found.relative_to(homes[0]).as_posix() if isinstance(found, Path) and homes else self.corpus.inside(key)

    def _draws(self, image: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        """Draw for a caption by the seed and the image alone."""
        return np.random.default_rng([self.seed, identity(image)]).random(LONGEST, np.float32)

    def _look(self, keys: Sequence[str]) -> tuple[tuple[Image | None, Image | None], dict[str, str]]:
        """Load what can be read, once where both models see images alike; say what is wrong with the others."""
        first, second = self.images
        broken: dict[str, str] = {}
        whole = list(keys)
        while whole:
            try:
                seen = first.load(whole)
                return (seen, seen if first.transform == second.transform else second.load(whole)), broken
            except BrokenImages as fault:
                broken |= {key: _why(first, key) for key in fault.keys}
                whole = [key for key in whole if key not in fault.keys]
        return (None, None), broken


def _why(images: CorpusPixels, key: str) -> str:
    """Say what is wrong with one image."""
    try:
        images.load([key])
    except BrokenImages as fault:
        return fault.wrong
    return f"image '{key}' cannot be read"


class Judge:
    """Both models, asked part by part."""

    def __init__(
        self, captioner: Trained, judging: Trained, accelerator: Accelerator, keep_above: float = EVEN
    ) -> None:
        """``keep_above``: how probably a text that is kept belongs to its image."""
        self.odds = math.log(keep_above / (1 - keep_above))
        self.captioner, self.filter, self.accelerator = captioner, judging, accelerator
        for one in (captioner, judging):
            one.learner.to(accelerator.device)
        head = captioner.learner.model.head("write", 0)
        if not isinstance(head, PromptedCaptions):
            raise Fault("the captioner writes no captions after a prompt", "CapFilt is BLIP's: choose a run of blip")
        self.head = head

    @torch.inference_mode()
    def decide(self, part: Part) -> list[Decision]:
        """Write a text for each image of a part, and judge it and the web texts."""
        if part.for_captioner is None or part.for_filter is None:
            return list(part.bare)
        images, draws = send_to_device((part.for_captioner, part.draws), self.accelerator.device)
        with self.accelerator.autocast():
            states = self.captioner.model.look(images)
            written = self.head.drawn(
                self.captioner.model, states, draws, share=SHARE, repetition_penalty=REPETITION_PENALTY
            )
        texts = [self.captioner.words.decode(ids).strip() for ids in written]
        asked = [
            [*(one.text for one in part.bare[place].web), text] for place, text in zip(part.shown, texts, strict=True)
        ]
        chances = iter(self._matching(part.for_filter, asked))
        found = list(part.bare)
        for place, said in zip(part.shown, asked, strict=True):
            judged = [Judged(text, matched and bool(text.strip()), chance)
                      for text, (matched, chance) in zip(said, chances, strict=False)]  # fmt: skip
            found[place] = found[place]._replace(web=tuple(judged[:-1]), synthetic=judged[-1])
        return found

    def _matching(self, image: Image, asked: Sequence[Sequence[str]]) -> list[tuple[bool, float]]:
        """Say of every text of each image whether it is kept, and how probably it belongs to it."""
        rows = torch.tensor([row for row, texts in enumerate(asked) for _ in texts])
        text = self.filter.collate.lay_out([text for texts in asked for text in texts])
        image, text, rows = send_to_device((image, text, rows), self.accelerator.device)
        model = self.filter.model
        with self.accelerator.autocast():
            logits = model.matching_head(model.read_with(model.look(image), text, rows)[:, 0]).float()
        matched = (logits[:, 1] - logits[:, 0] > self.odds).tolist()
        return list(zip(matched, [round(p, 4) for p in logits.softmax(-1)[:, 1].tolist()], strict=True))


def judge_all(
    judge: Judge,
    parts: Parts,
    work: Path,
    *,
    workers: int,
    progress: Progress,
    keep_going: Callable[[], bool] = lambda: True,
) -> None:
    """Write a line for every record, going on after those that are there; Fault where it is told to stop."""
    path = work / DECISIONS
    done = whole_lines(path, parts.batch, parts.total)
    progress(done, parts.total, "judging")
    steps = -(-parts.total // parts.batch)
    with path.open("a", encoding="utf-8") as file:
        for decided in _decisions(judge, parts, -(-done // parts.batch), steps, workers):
            file.write("".join(one.line() for one in decided))
            file.flush()
            done += len(decided)
            progress(done, parts.total, "judging")
            if not keep_going() and done < parts.total:
                raise Fault("stopped", "the same command goes on where it stopped")


def _decisions(judge: Judge, parts: Parts, first: int, last: int, workers: int) -> Iterator[list[Decision]]:
    for part in ahead(parts.build, first, last, workers):
        yield judge.decide(part)

"""One subject of a benchmark in a process of its own: built, warmed up, then timed each time it is told to.

A fresh process a subject, so that its peak memory is its own. The parent (contest.py) lets subjects work in
turn, so that only one works at a time and noise of the machine hits all alike.
"""

from __future__ import annotations

import gc
from contextlib import suppress
from itertools import chain, count, islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, NamedTuple

import psutil
import torch
from accelerate.utils import send_to_device
from safetensors.torch import load_file
from torch import Tensor, nn

from vlbench.data.batches import Collator, Feed, in_order
from vlbench.data.madeup import (
    EASY,
    PUBLISHED,
    Facts,
    MadeUpImages,
    MadeUpPixels,
    MadeUpWords,
    Sharing,
    made_up_answers,
    made_up_examples,
    made_up_target,
)
from vlbench.engine.checkpoint import save_weights
from vlbench.engine.devices import describe, open_device, seed_everything, use_threads
from vlbench.engine.evaluate import ask
from vlbench.engine.meter import Meter, flops_per_sample, peak_memory
from vlbench.engine.train import Training
from vlbench.learner import Learner, build_model
from vlbench.models.base import Model
from vlbench.nn.heads import ScoringHead
from vlbench.plan import find_model
from vlbench.plugins import load_code
from vlbench.proof.references import REFERENCES, give_weights
from vlbench.recipe import Recipe
from vlbench.types import Batch, Fault

WARM_UP = 2
"""Steps before the first measurement: memory is reserved, kernels are chosen, Adam has its state."""

BATCHES = 4
"""Different batches; they come again and again."""

Setting = Literal["own", "shared"]
SHARING: dict[Setting, Sharing] = {"own": Sharing(1, 0), "shared": Sharing(38_575 / 4_000, 107)}
"""Each example with an image and a text of its own; or as easy-VQA's training split: 9.6 questions an image,
107 distinct ones in all."""


class Trial(NamedTuple):
    """What one subject is measured on."""

    method: str
    reference: bool
    """Whether the subject is the method's reference, not vlbench's own."""
    setting: Setting
    size: str
    batch: int
    steps: int
    regions: int
    text_length: int
    device: str
    weights: str
    """The file our subject leaves its weights in, and its reference takes them from."""


class Ready(NamedTuple):
    """What a subject says once it is built and warmed up."""

    parameters: int
    logits: list[list[float]]
    """[B, answers] of the first batch in fp32, to see that subjects compute the same."""
    machine: dict[str, Any]


class Timed(NamedTuple):
    """One timed stretch of steps."""

    samples_per_second: float
    data_wait_share: float


class Weighed(NamedTuple):
    """What a subject needed."""

    peak_memory_bytes: int
    flops_per_sample: float


def facts_of(size: str) -> Facts:
    """Say which data a size is for: mini is tried on easy-VQA, the others on VQA v2."""
    return EASY if size == "mini" else PUBLISHED


def make_feed(trial: Trial) -> Feed:
    """Make up the batches of a setting, in the order the training loop would have them."""
    facts, sharing = facts_of(trial.size), SHARING[trial.setting]
    number = BATCHES * trial.batch
    examples = made_up_examples(number, sharing, facts, length=trial.text_length)
    images = (
        MadeUpImages(number, trial.regions, facts.feature_dim)
        if _sees(trial) == "regions"
        else MadeUpPixels(number, image_size(trial))
    )
    collate = Collator(images, MadeUpWords(), length=trial.text_length, answers=facts.answers, target=made_up_target)
    return Feed(examples, collate, recipe_of(trial))


def _sees(trial: Trial) -> str:
    card = find_model(trial.method)
    return str(load_code(card.code, Model).sees_at(card.sizes[trial.size]))


def image_size(trial: Trial) -> int:
    """Return the side of the images of a trial, in pixels."""
    return int(find_model(trial.method).sizes[trial.size].get("image_size", 224))


def recipe_of(trial: Trial) -> Recipe:
    """Return the recipe of the steps: the method's usual AdamW at a constant rate, nothing compiled."""
    values = find_model(trial.method).finetune.get("vqa", {})
    fixed = {"model": trial.method, "task": "vqa", "size": trial.size, "batch": trial.batch}
    own = {"schedule": "constant", "warmup": 0.0, "compile": "off", "by_image": trial.setting == "shared"}
    return Recipe.model_validate({**values, **fixed, **own})


def build(trial: Trial, recipe: Recipe) -> Learner:
    """Build the subject from its method's card: ours, or the method's reference."""
    card, facts = find_model(trial.method), facts_of(trial.size)
    ours = load_code(card.code, Model)
    known = {
        "vocabulary": facts.vocabulary,
        "feature_dim": facts.feature_dim,
        "text_length": trial.text_length,
        "dropout": recipe.dropout,
        "image_size": image_size(trial),
        "mask_token": MadeUpWords.mask,
        "special_tokens": (MadeUpWords.padding, MadeUpWords.cls, MadeUpWords.sep),
        "form": "classify",
    }
    code = REFERENCES[card.id].code if trial.reference else ours
    model = build_model(code, card.constructor_sizes(trial.size), known)
    return Learner(model, model.head("classify", facts.answers, made_up_answers(facts)))


def share_weights(learner: Learner, trial: Trial) -> None:
    """Leave our weights for the reference, or as the reference take ours, so that both are one function."""
    if trial.reference:
        give_weights(learner, load_file(trial.weights), REFERENCES[trial.method].table)
    elif trial.method in REFERENCES:
        save_weights(learner, Path(trial.weights))


class OneWeight(nn.Module):
    """The smallest thing that can be trained: what a first step imports is paid before memory is weighed."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return a loss."""
        return {"answer": self.weight.sum()}


class Subject:
    """A learner on its batches, ready to be timed."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.feed = make_feed(trial)
        recipe = self.feed.recipe
        self.accelerator = open_device(trial.device, recipe.precision)
        self.first: Batch = send_to_device(self.feed.parts(0)[0], self.accelerator.device)
        with torch.device("meta"):  # imports what building needs, and holds nothing
            build(trial, recipe)
        Training(OneWeight(), recipe, self.accelerator, Path()).update([self.first], {}, 1)
        self.before = start_weighing(self.accelerator.device)
        seed_everything(0)
        self.learner = build(trial, recipe)
        use_threads(self.learner.size())
        share_weights(self.learner, trial)
        self.training = Training(self.learner, recipe, self.accelerator, Path())

    def ready(self) -> Ready:
        """Answer the first batch, then warm up both loops."""
        logits = self._logits()
        self.evaluate(WARM_UP)
        self.train(WARM_UP)
        return Ready(self.learner.size(), logits, describe(self.accelerator).model_dump())

    @torch.inference_mode()
    def _logits(self) -> list[list[float]]:
        """Score the first batch; nothing where answers are written or ranked by a decoder."""
        if not isinstance(self.learner.head, ScoringHead):
            return []
        self.learner.eval()
        usual = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")  # TF32 alone would differ by more than 1e-4
        scores = self.learner.head.scores(self.learner.model, self.first)
        torch.set_float32_matmul_precision(usual)
        rows: list[list[float]] = scores.float().tolist()
        return rows

    def train(self, steps: int) -> Timed:
        """Take steps as the training loop does: wait for data, forward, backward, clip, optimiser."""
        self.learner.train()
        self._settle()
        meter = Meter()
        meter.waiting()
        for parts in self.feed.steps(0, steps):
            meter.arrived(sum(len(part.ids) for part in parts))
            self.training.update(parts, {}, steps)
            self.training.step += 1
            meter.waiting()
        self._settle()
        return Timed(meter.rate, meter.wait_share)

    def evaluate(self, steps: int) -> Timed:
        """Answer batches as the evaluation loop does, in its own order."""
        passes = (in_order(self.feed.examples, self.feed.collate, self.trial.batch) for _ in count())
        batches = islice(chain.from_iterable(passes), steps)
        self._settle()
        asked = ask(self.learner, batches, total=steps * self.trial.batch, accelerator=self.accelerator)
        return Timed(asked.samples_per_second, 0.0)

    def weigh(self) -> Weighed:
        """Say what it needed so far, then count the FLOPs of a step (which needs memory of its own)."""
        peak = peak_now(self.accelerator.device) - self.before
        self.learner.train()
        return Weighed(max(0, peak), flops_per_sample(self.learner, self.first))

    def _settle(self) -> None:
        if self.accelerator.device.type == "cuda":
            torch.cuda.synchronize(self.accelerator.device)


def start_weighing(device: torch.device) -> int:
    """Forget earlier peaks of memory; return the bytes already held, which are not the subject's."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return int(torch.cuda.memory_allocated(device))
    with suppress(OSError):  # Linux alone can; elsewhere the peak of importing torch is the floor
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return int(psutil.Process().memory_info().rss)


def peak_now(device: torch.device) -> int:
    """Return the peak of memory since ``start_weighing``.

    On Linux not getrusage's: a child process inherits that from its parent.
    """
    if device.type != "cuda":
        with suppress(OSError):
            for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    return peak_memory(device)


def serve(trial: Trial, connection: Connection) -> None:
    """Be a subject: build it, then answer ``train``, ``evaluate`` and ``weigh`` until told ``end``."""
    try:
        subject = Subject(trial)
        connection.send(subject.ready())
        while (order := connection.recv()) != "end":
            if order == "weigh":
                connection.send(subject.weigh())
            else:
                timed = subject.train if order == "train" else subject.evaluate
                connection.send(timed(trial.steps))
    except (EOFError, KeyboardInterrupt):  # the parent has gone, or both were stopped
        return
    except Fault as fault:
        connection.send(fault)
    except (RuntimeError, MemoryError) as error:  # torch's out-of-memory among them
        connection.send(
            Fault(f"{trial.method} failed: {str(error).splitlines()[0]}", "try a smaller --batch or --size")
        )

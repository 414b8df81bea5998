"""The recipe of one run: about thirty plain values, and where each came from.

Three layers, later wins: the defaults below, the method's card (``[finetune.TASK]``), then the suite's entry
and what was typed with ``--set``. There is no inheritance between files and no code in them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, ValidationError

from vlbench.types import Misuse, nearest

RUNNING = frozenset({"log_every", "save_every", "workers", "precision", "compile", "accumulate", "evaluate_batch"})
"""Keys that say how a run is made, not what it is."""
ADDED = frozenset(
    {"variant", "corpus_share", "changes"}
    | {"adversary", "adversary_steps", "adversary_rate", "adversary_size", "adversary_smoothing"}
    | {"attack", "attack_size", "attack_steps", "attack_on", "attack_random"}
)
"""Keys that recipes did not have from the first: at their default they change the name of no run."""


class Recipe(BaseModel):
    """Everything that decides the outcome of a run; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str = Field(description="method card, or the path of a .py file with a Model")
    task: str = Field(description="task card, or the path of a .py file with a Task")
    dataset: str = Field("", description="data set card the examples come from")
    suite: str = Field("quick", description="suite the run belongs to")
    size: str = Field("base", description="named size on the method's card")
    start: str = Field(
        "published",
        description="scratch, pretrained (by the suite's own pre-training, made first where it is not there), "
        "published (or a checkpoint by its name on the card), run:ID, a file, or variant:NAME (of the same suite)",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="initial weights, order of examples, dropout")
    limit: int = Field(0, ge=0, description="use only the first N examples of each split; 0 = all")
    train_splits: tuple[str, ...] = Field(("train",), description="splits to train on")
    evaluate_splits: tuple[str, ...] = Field(("val",), description="splits to answer and score")
    controls: tuple[Literal["prior", "question-only", "image-shuffled", "text-shuffled"], ...] = Field(
        ("prior", "question-only", "image-shuffled", "text-shuffled"),
        description="baselines that show what the model looks at, as far as the task has them",
    )
    variant: str = Field("", description="of a suite that compares several, the one this run is")
    changes: dict[str, bool | int | float | str] = Field(
        {}, description="numbers of the model that are other than its size's on the card, as layers:2,width:64"
    )
    corpora: tuple[str, ...] = Field(
        (), description="of pre-training: cards, or files of cards; NAME*2 is passed over twice in an epoch"
    )
    corpus_share: float = Field(1.0, gt=0, le=1, description="share of the corpora's examples that is used, by seed")
    stage: str = Field("", description="of the method's pre-training, where it has several")
    losses: dict[str, NonNegativeFloat] = Field({}, description="objectives of pre-training and weights, as a:1,b:0.5")
    scorer: str = Field("", description="version of the scorer; empty = the task's official one")
    steps: int = Field(0, ge=0, description="optimiser steps; 0 = from epochs; both 0 = evaluate only")
    epochs: float = Field(0.0, ge=0, description="passes over the training examples, used where steps is 0")
    batch: int = Field(256, ge=1, description="examples an optimiser step sees, over all processes")
    accumulate: int = Field(
        1,
        ge=1,
        description="parts a batch is computed in, to save memory; contrasts are within a part",
    )
    evaluate_batch: int = Field(1024, ge=1, description="examples a forward pass answers")
    rate: float = Field(5e-5, gt=0, description="peak learning rate")
    warmup: float = Field(0.1, ge=0, le=1, description="share of the steps in which the rate rises from 0")
    schedule: Literal["linear", "cosine", "constant", "steps"] = Field(
        "linear", description="how the rate falls after warm-up"
    )
    falls: tuple[float, ...] = Field((), description="schedule steps: shares of the training after which it falls")
    fall: float = Field(0.1, gt=0, lt=1, description="schedule steps: what it is multiplied with each time")
    final_rate: float = Field(0.0, ge=0, le=1, description="rate at the end, as a share of the peak")
    head_rate: float = Field(1.0, gt=0, description="rate of a new head, as a multiple")
    fusion_rate: float = Field(1.0, gt=0, description="rate of the fusion layers, as a multiple")
    layer_decay: float = Field(1.0, gt=0, le=1, description="rate of each layer, as a share of the next one's")
    decay: float = Field(0.01, ge=0, description="decoupled weight decay")
    decay_all: bool = Field(False, description="decay biases and normalisation weights too")
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW: decay of the mean gradient")
    beta2: float = Field(0.999, ge=0, lt=1, description="AdamW: decay of the mean squared gradient")
    epsilon: float = Field(1e-8, gt=0, description="AdamW: added to the denominator")
    bias_correction: bool = Field(True, description="AdamW; BERT's first optimiser had none")
    clip: float = Field(1.0, ge=0, description="largest gradient norm; 0 = no clipping")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout, at the places the paper has it")
    drop_path: float = Field(0.0, ge=0, lt=1, description="stochastic depth of the last layer, where the paper has it")
    adversary: Literal["", "villa"] = Field(
        "", description="villa: every step also trains on perturbed image features and on perturbed word embeddings"
    )
    adversary_steps: int = Field(3, ge=1, description="adversary: ascents of a step, each a pass per modality")
    adversary_rate: float = Field(
        0.02, gt=0, description="adversary: length of an ascent, as a share of the norm of the features it perturbs"
    )
    adversary_size: float = Field(
        0.05, gt=0, description="adversary: largest norm of a perturbation, as a share of the norm of the features"
    )
    adversary_smoothing: float = Field(
        1.0, ge=0, description="adversary: weight of the symmetric KL divergence of clean and perturbed predictions"
    )
    attack: Literal["", "fgsm", "pgd"] = Field(
        "", description="of an evaluation: what is asked is perturbed first, against the right answers"
    )
    attack_size: float = Field(
        0.1,
        ge=0,
        description="attack: largest change of an element, as a share of the features' root mean square, so that one "
        "number means the same of pixels, of regions and of word embeddings",
    )
    attack_steps: int = Field(10, ge=1, description="attack pgd: steps")
    attack_on: Literal["image", "text", "both"] = Field("both", description="attack: what it perturbs")
    attack_random: bool = Field(True, description="attack pgd: begin anywhere in the ball, by seed and example")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field("auto", description="auto = bf16 on a GPU, else fp32")
    compile: Literal["auto", "on", "off"] = Field("auto", description="torch.compile; auto = on a GPU, if it pays")
    tokeniser: str = Field(
        "", description="empty = the method's; train = of the training texts; world = of all texts of the made-up world"
    )
    vocabulary: int = Field(2000, ge=16, description="largest trained vocabulary")
    text_length: int = Field(20, ge=3, description="word pieces of a text, [CLS] and [SEP] included")
    image_size: int = Field(0, ge=0, description="pixels; 0 = the method's own")
    crop: Literal["squash", "centre", "random"] = Field("squash", description="how training images become square")
    smallest_crop: float = Field(0.5, gt=0, le=1, description="smallest share of an image a random crop keeps")
    mirror: bool = Field(False, description="mirror every other training image")
    augment: int = Field(0, ge=0, description="RandAugment: operations tried on a training image")
    augment_strength: int = Field(7, ge=0, le=10, description="RandAugment: strength, of 10")
    regions: int = Field(36, ge=1, description="most regions of an image")
    by_length: bool = Field(False, description="train on batches of texts of like length: less padding")
    by_image: bool = Field(False, description="put the questions of an image into one batch; it is encoded once")
    answer_count: int = Field(0, ge=0, description="an answer enters the list from this count on; 0 = the data set's")
    workers: int = Field(0, ge=0, description="processes that prepare batches beside the one that trains")
    save_every: int = Field(0, ge=0, description="steps between checkpoints; 0 = about twenty in a run")
    log_every: int = Field(20, ge=1, description="steps between lines in log.jsonl")

    def digest(self) -> str:
        """Name the recipe by its content: 8 hex digits, the same on every machine."""
        values = {key: value for key, value in self.named().items() if key not in ("log_every", "save_every")}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]

    def named(self) -> dict[str, Any]:
        """Return the values that make up a run's name: all but those of later keys that are at their default."""
        usual = {key: Recipe.model_fields[key].default for key in ADDED}
        plain = self.model_dump()
        return {key: value for key, value in self.model_dump(mode="json").items()
                if key not in usual or plain[key] != usual[key]}  # fmt: skip


Layer = tuple[str, Mapping[str, Any]]
"""Where values come from (a file, ``--set``), and the values."""


def resolve(layers: list[Layer]) -> tuple[Recipe, dict[str, str]]:
    """Lay the layers over the defaults, later wins; return the recipe and the origin of each value.

    Raises Misuse for an unknown key (with the nearest one) or a value of the wrong kind.
    """
    values: dict[str, Any] = {}
    origins = dict.fromkeys(Recipe.model_fields, "default")
    for origin, layer in layers:
        for key, value in layer.items():
            if key not in Recipe.model_fields:
                raise Misuse(f"{origin}: '{key}' is not a recipe key; {nearest(key, list(Recipe.model_fields))}")
            if key in ("steps", "epochs"):  # whichever a later layer names replaces both
                other = "epochs" if key == "steps" else "steps"
                values.pop(other, None)
                origins[other] = "default"
            values[key], origins[key] = value, origin
    try:
        return Recipe.model_validate(values), origins
    except ValidationError as error:
        key, wrong = _misfit(error)
        raise Misuse(
            f"{origins.get(key, 'recipe')}: {wrong}",
            f"{key}: {Recipe.model_fields[key].description}" if key in Recipe.model_fields else "",
        ) from None


def fault_of(values: Mapping[str, Any]) -> str:
    """Say what is wrong with values of a recipe as a card gives them: an unknown key, a value that does not fit."""
    for key in values:
        if key not in Recipe.model_fields:
            return f"'{key}' is not a recipe key; {nearest(key, list(Recipe.model_fields))}"
    try:
        Recipe.model_validate({"model": "any", "task": "any", **values})
    except ValidationError as error:
        return _misfit(error)[1]
    return ""


def _misfit(error: ValidationError) -> tuple[str, str]:
    first = error.errors()[0]
    key = str(first["loc"][0])
    return key, f"{key} = {first.get('input')!r} does not fit: {first['msg'].lower()}"


KEYS = "all keys, what they mean and their values: vlbench show lxmert vqa"


def parse_setting(text: str) -> tuple[str, Any]:
    """Read one ``--set key=value``; lists are written a,b,c, weights by name a:1,b:0.5."""
    key, mark, value = text.partition("=")
    key = key.strip().replace("-", "_")
    if not mark or not key:
        raise Misuse(f"--set wants key=value, not '{text}'", KEYS)
    if key not in Recipe.model_fields:
        raise Misuse(f"--set: '{key}' is not a recipe key; {nearest(key, list(Recipe.model_fields))}", KEYS)
    if "dict" in str(Recipe.model_fields[key].annotation):
        pairs = [part.partition(":") for part in value.split(",") if part]
        if bare := next((name.strip() for name, mark, _ in pairs if not mark), ""):
            raise Misuse(f"--set {key}: '{bare}' has no value", f"write {bare}:1, several as a:1,b:0.5")
        return key, {name.strip(): _plain(weight) for name, _, weight in pairs}
    if "tuple" in str(Recipe.model_fields[key].annotation):
        return key, tuple(part for part in value.split(",") if part)
    return key, value


def _plain(text: str) -> Any:
    """Read a number, true or false; anything else is text."""
    try:
        return json.loads(text)
    except ValueError:
        return text

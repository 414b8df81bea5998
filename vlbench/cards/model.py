"""Cards of methods: what a method is, its sizes, its recipes, its checkpoints, and where we depart from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from vlbench.cards.base import AnyCard, Paper


class Checkpoint(BaseModel):
    """An official checkpoint: where it is and how its names map on ours."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    url: str
    file: str
    """Where to put it below the data folder."""
    names: str
    """The rename table in registry/weights."""
    answers: str = ""
    """Where the answers of its pre-training lie below the data folder: a JSON list of ``{"ans": text}``."""
    task: str = ""
    """The task it was fine-tuned for; empty for a pre-trained one."""
    dataset: str = ""
    """The data set it was fine-tuned on, where the task has several with files of their own."""
    ordered: bool = False
    """Whether its classifier has an order of answers of its own; their list must lie beside it."""
    unfit: str = ""
    """Why no run can begin from it; empty where one can."""
    begins: bool = False
    """Whether it is no end of fine-tuning but a stage that fine-tuning for the task begins from."""
    size: str = "base"
    bytes: int = 0
    sha256: str = ""
    note: str = ""


class Departure(BaseModel):
    """Where we knowingly differ from the paper or the authors' code."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    what: str
    why: str


_ABOUT_A_STAGE = ("name", "about", "only_for", "command")


class ModelCard(AnyCard):
    """A published method."""

    name: str
    code: str
    paper: Paper
    about: str
    official: str = ""
    """The authors' repository."""
    licence: str = ""
    sees: Literal["regions", "pixels"]
    tokeniser: str
    statistics: Literal["half", "clip", "imagenet"] = "half"
    """By which mean and deviation pixels are normalised."""
    cleaning: Literal["", "albef", "blip"] = ""
    """By whose rule (data/words.py) texts are cleaned for a published vocabulary; empty = by the tokeniser alone."""
    prompt: str = ""
    """What captions begin with, in training and in writing."""
    evaluate_crop: Literal["squash", "centre"] = "squash"
    """How images become square when no training is done on them."""
    published: str = ""
    """The method's name in registry/published."""
    modules: dict[str, str] = {}
    """Vision encoder, text encoder, fusion, decoder, objectives: one line each."""
    sizes: dict[str, dict[str, int | float | bool | str]] = {}
    """What the constructor takes, by the size's name; the parts of a framework are chosen by a word.

    ``image_size`` and ``tokeniser`` are no parts of it: they are those of the size where it has its own.
    """
    pretrain: dict[str, Any] = {}
    """Recipe values; under ``stage`` a list of stages, each with a name, what it does, and values of its own.

    ``only_for``: the one task whose fine-tuning begins from the stage; ``command``: the one that trains it, beside
    the stages of ``vlbench pretrain`` (CapFilt's captioner and filter).
    """
    finetune: dict[str, dict[str, Any]] = {}
    checkpoint: tuple[Checkpoint, ...] = ()
    part: tuple[Checkpoint, ...] = ()
    """Published parts that a stage of pre-training takes as they are; each is called as the stage that trains it."""
    departure: tuple[Departure, ...] = ()

    def stages(self) -> list[str]:
        """Name the stages of pre-training in order, those that are only for one task left out; one without a name."""
        return [str(stage["name"]) for stage in self._stages() if not stage.get("only_for")]

    def stages_for(self, task: str) -> list[str]:
        """Name the stages that fine-tuning for a task begins from, in order."""
        return [str(stage["name"]) for stage in self._stages() if stage.get("only_for", task) == task]

    def stages_of_command(self, command: str) -> list[str]:
        """Name the stages that another command than ``pretrain`` trains, in order."""
        return [str(stage["name"]) for stage in self.pretrain.get("stage", ()) if stage.get("command") == command]

    def _stages(self) -> list[dict[str, Any]]:
        return [stage for stage in self.pretrain.get("stage", ()) if not stage.get("command")] or [{"name": ""}]

    def with_changes(self, size: str, changes: Mapping[str, bool | int | float | str]) -> ModelCard:
        """Return the card with other numbers in one of its sizes."""
        if not changes or size not in self.sizes:
            return self
        return self.model_copy(update={"sizes": {**self.sizes, size: {**self.sizes[size], **changes}}})

    def pretraining(self, stage: str) -> dict[str, Any]:
        """Return the recipe values of a stage; KeyError where there is none of that name."""
        values = {key: value for key, value in self.pretrain.items() if key != "stage"}
        if not stage and self.stages() == [""]:
            return values
        own = {str(one["name"]): one for one in self.pretrain.get("stage", ())}[stage]
        return {**values, **{key: value for key, value in own.items() if key not in _ABOUT_A_STAGE}}

    def constructor_sizes(self, size: str) -> dict[str, int | float | bool | str]:
        """Return the values of a size that its constructor takes; the others say how images and texts are prepared."""
        return {name: value for name, value in self.sizes[size].items() if name not in ("image_size", "tokeniser")}

    def sees_at(self, size: str) -> Literal["regions", "pixels"]:
        """Say what a size looks at: ``sees``, unless it chooses regions as METER's do; needs no torch."""
        return "regions" if self.sizes[size].get("vision") == "regions" else self.sees

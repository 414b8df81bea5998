"""Cards: what is known beforehand of methods, tasks, data sets, corpora and suites, as typed values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vlbench.types import BadData, Form, nearest


class AnyCard(BaseModel):
    """What all cards have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = ""
    """The file's name without .toml."""
    path: str = ""
    """Where the card was read."""


class Paper(BaseModel):
    """Where a method or data set is published."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    title: str
    authors: str
    year: int
    url: str


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


class TaskCard(AnyCard):
    """A benchmark: what is asked and how it is scored."""

    name: str
    code: str
    form: Form
    metric: str
    """The main metric."""
    tables: dict[str, str] = {}
    """Metrics that get a leaderboard each -> their published names; empty = the main one, published as it is called."""
    about: str
    datasets: tuple[str, ...]
    like: str = ""
    """Another task whose recipes and published weights serve this one too, where a method has none for it."""
    texts: Literal["", "questions", "captions"] = ""
    """What its texts are, for methods that clean the two differently; empty = questions where the form is to classify
    or to choose, captions elsewhere."""
    published: str = ""
    """The task's name in registry/published."""


class DataFile(BaseModel):
    """One official file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    role: Literal[
        "questions",
        "annotations",
        "images",
        "features",
        "ids",
        "pairs",
        "choices",
        "scenes",
        "texts",
        "shards",
        "answers",
        "truth",
    ]
    split: str = ""
    alone: bool = False
    """Whether it holds questions and answers, and so stands for both of the files that its split officially has."""
    bytes: int = 0
    sha256: str = ""
    url: str = ""
    note: str = ""


class Split(BaseModel):
    """A named part of a data set."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    of: str = ""
    """The official split it is a part of."""
    images: int = 0
    examples: int = 0
    public: bool = True
    """Whether its answers are public."""
    optional: bool = False
    """Whether the data set is whole without it: what lacks of it is told, and is not wrong."""
    published: str = ""
    """The split's name in registry/published."""
    note: str = ""


class DatasetCard(AnyCard):
    """Where examples come from."""

    name: str
    about: str
    home: str
    licence: str
    paper: Paper | None = None
    layout: str
    """How the files are read; a reader of the task's module."""
    package: str = ""
    """The Python package the data travels in, where there is one."""
    made: str = ""
    """The size of the made-up world it is; it needs no download, and is made when it is first asked for."""
    like: str = ""
    """Another data set's card that this one is laid over."""
    folder: str = ""
    """Its folder below the data folder."""
    published: str = ""
    """The data set's name in registry/published."""
    scorer: str
    """The version of the scorer its numbers are given in."""
    answer_count: int = 1
    """An answer enters the answer list from this many questions on."""
    answer_splits: tuple[str, ...] = ("train",)
    """The splits the answer list is made from."""
    candidates: int = Field(default=16, gt=0)
    """Of retrieval: so many of the best by embeddings are ranked anew by fusing, for each image and each text."""
    pool: int = Field(default=0, ge=0)
    """Of retrieval: a method without embeddings fuses all pairs of the first so many images; 0 = of all."""
    tokeniser: str = ""
    """``train`` where the texts that ship are what words are learned from; empty = the method's."""
    recipe: dict[str, Any] = {}
    """Recipe values that any method has on it, such as its usual splits."""
    splits: dict[str, Split]
    file: tuple[DataFile, ...] = ()
    task: dict[str, dict[str, Any]] = {}
    """Task -> what is otherwise there, where one data set serves several tasks with files of their own."""

    def for_task(self, task: str) -> DatasetCard:
        """Return the card as one task sees it; BadData where the task's own values do not fit a card."""
        if task not in self.task:
            return self
        own = self.task[task]
        folder = "/".join(filter(None, (self.folder, own.get("folder"))))
        values = {**self.model_dump(exclude={"task"}), **own, "folder": folder}
        try:
            return type(self).model_validate(values)
        except ValidationError as error:
            raise BadData(f"{self.path}: [task.{task}]: {card_fault(type(self), error)}") from None

    def files_of(self, role: Literal["features", "images"], splits: Iterable[str]) -> list[DataFile]:
        """List what holds the region features, or the images, of some splits; test-dev is a part of test."""
        wanted = {self.splits[split].of or split if split in self.splits else split for split in splits}
        held = {
            file.name: file
            for file in reversed(self.file)  # a file of several splits is opened once
            if file.role == role and (not file.split or any(f"{w}-".startswith(f"{file.split}-") for w in wanted))
        }
        return list(reversed(held.values()))


class Table(BaseModel):
    """How a table of a corpus is laid out, and how the images of its rows are called."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    columns: tuple[str, ...] = ()
    """What its columns are called, in order; empty = its first line says so."""
    delimiter: str = Field(default="\t", min_length=1, max_length=1)
    quotes: bool = False
    """Whether values stand in double quotes where they hold a delimiter or a line's end, as in CSV."""
    caption: str = "caption"
    """The column that holds the text."""
    image: str = "image"
    """The column that holds the image's path below the folder of images, where ``image_name`` is empty."""
    image_name: str = ""
    """How the image of a row is called, if not by a column: ``{folder:05d}/{row:09d}``; the suffix may be left out.

    {row} is the row's number, the first being 0, and {folder} that by ``per_folder``.
    """
    per_folder: int = Field(default=10_000, gt=0)

    def image_of(self, row: int) -> str:
        """Return how the image of a row is called."""
        return self.image_name.format(row=row, folder=row // self.per_folder)

    @model_validator(mode="after")
    def _fits(self) -> Table:
        if self.delimiter in '"\r\n':
            raise ValueError("delimiter: it cannot be a quote or a line's end")
        wanted = [self.caption] if self.image_name else [self.caption, self.image]
        if lacking := [name for name in wanted if self.columns and name not in self.columns]:
            raise ValueError(f"no column is called '{lacking[0]}'")
        try:
            self.image_of(0)
        except (LookupError, ValueError, AttributeError, TypeError):
            raise ValueError("image_name: only {row} and {folder} are known, with a format as in {row:09d}") from None
        return self


class CorpusCard(AnyCard):
    """What methods are pre-trained on: images with texts, or one of the two."""

    name: str
    about: str
    home: str
    licence: str
    paper: Paper | None = None
    layout: Literal["pairs", "lxmert", "table", "shards", "lines", "pictures"]
    """How its files are read; a module of vlbench/corpora."""
    folder: str = ""
    """Its folder below the data folder."""
    made: str = ""
    """The size of the made-up world it is part of, as on a data set's card."""
    images: int = 0
    """As published; 0 where no source of ours states it."""
    examples: int = 0
    """Likewise."""
    objects: int = 0
    """Classes that the detector of its region features tells apart; 0 where it has none."""
    attributes: int = 0
    """Attributes, likewise."""
    table: Table = Table()
    """Of the layout ``table``."""
    file: tuple[DataFile, ...] = ()
    note: str = ""


VARIANT = "variant:"
"""The start of a run that goes on from another variant's, before its name."""


class Place(NamedTuple):
    """Where a variant stands in a row of them that differ in one recipe value."""

    row: str
    key: str
    value: float


class Variant(BaseModel):
    """One of the things a suite compares: what is other in its runs."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    about: str
    run: dict[str, Any] = {}
    """Recipe values of its runs. ``start = "variant:NAME"``: from that variant's run of the same pair and seed; with
    ``steps = 0`` its weights are only asked again."""
    over: dict[str, tuple[float, ...]] = {}
    """A recipe value and a row of them: instead of this variant there is one for each, called NAME-VALUE."""
    place: Place | None = None
    """Of such a one, where it stands; no card says it."""

    @property
    def begins_from(self) -> str:
        """The variant whose runs its own begin from; empty where it is none."""
        start = str(self.run.get("start", ""))
        return start.removeprefix(VARIANT) if start.startswith(VARIANT) else ""

    pretrain: dict[str, Any] = {}
    """Recipe values of the pre-training that its runs begin from, where these begin from one."""


class SuiteCard(AnyCard):
    """What is run together, at which budget."""

    about: str
    expect: str = ""
    """What to expect: time and scores."""
    like: str = ""
    """Another suite whose data sets and recipe values hold where this one says nothing; that one is like no other."""
    all_methods: tuple[str, ...] = ()
    """What ``all`` means for methods; empty = all there are."""
    all_tasks: tuple[str, ...] = ()
    """Likewise for tasks."""
    seeds: tuple[int, ...] = ()
    """The seeds of its runs, where none are typed."""
    variants: dict[str, Variant] = {}
    """What it compares: every method, task and seed is run once for each."""
    against: str = ""
    """The variant that the others are set against."""
    claims: tuple[str, ...] = ()
    """What its runs were made to find out, a sentence each; its report puts them beside the outcome."""
    datasets: dict[str, str] = {}
    """Task -> data set."""
    without: tuple[str, ...] = ()
    """Tasks that ``all`` leaves out, as the suite has no data for them."""
    unclear: dict[str, str] = {}
    """``method/task`` -> why its checked-in result is not clearly ahead of its best control."""
    all: dict[str, Any] = {}
    tasks: dict[str, dict[str, Any]] = {}
    methods: dict[str, dict[str, Any]] = {}
    pairs: dict[str, dict[str, Any]] = Field(default={})
    """``method/task`` -> recipe values. Of these four the later wins; a data set may stand for the task."""
    pretrain: dict[str, dict[str, Any]] = {}
    """``all``, ``method``, ``method/stage`` -> recipe values of pre-training; the later wins."""

    @field_validator("variants", mode="after")
    @classmethod
    def _one_for_each_value(cls, variants: dict[str, Variant]) -> dict[str, Variant]:
        return {name: one for row, variant in variants.items() for name, one in _spread_out(row, variant).items()}

    @model_validator(mode="after")
    def _compares_with_one_of_its_own(self) -> SuiteCard:
        if self.against and self.against not in self.variants:
            raise ValueError(f"against: there is no variant '{self.against}'")
        for name, variant in self.variants.items():
            other = variant.begins_from
            if other and (other not in self.variants or self.variants[other].begins_from):
                raise ValueError(f"variants.{name}: there is no variant '{other}' that it could begin from")
        return self


def _spread_out(row: str, variant: Variant) -> dict[str, Variant]:
    """Return a variant under its name, or one for each of the values it goes over."""
    if not variant.over:
        return {row: variant}
    if len(variant.over) > 1:
        raise ValueError(f"{row}.over: one recipe value at a time, not {', '.join(variant.over)}")
    ((key, values),) = variant.over.items()
    return {
        f"{row}-{value:g}": variant.model_copy(
            update={
                "about": f"{variant.about}, {key} {value:g}",
                "run": {**variant.run, key: value},
                "over": {},
                "place": Place(row, key, value),
            }
        )
        for value in values
    }


Card = TypeVar("Card", bound=AnyCard)
FOLDERS: dict[type[AnyCard], tuple[str, str, str]] = {
    ModelCard: ("registry/models", "method", "methods"),
    TaskCard: ("registry/tasks", "task", "tasks"),
    DatasetCard: ("registry/datasets", "data set", "datasets"),
    CorpusCard: ("registry/corpora", "corpus", "corpora"),
    SuiteCard: ("suites", "suite", "suites"),
}
"""Kind of card -> its folder, and what one and many of them are called."""


def card_fault(kind: type[AnyCard], error: ValidationError) -> str:
    """Say in one line what is wrong with a card, with the nearest key where one is mistyped."""
    # a mistyped key also makes the right one missing: the former says more
    first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _keys_beside(kind, first["loc"])
        return f"'{place}' is not a key of a {FOLDERS[kind][1]} card; {nearest(str(first['loc'][-1]), known)}"
    return f"{place}: {first['msg'].lower()}"


def _keys_beside(kind: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """List the keys that could have stood where an unknown one stands."""
    model: Any = kind
    for part in place[:-1]:
        if isinstance(part, int) or not hasattr(model, "model_fields") or part not in model.model_fields:
            continue
        inside = str(model.model_fields[part].annotation)
        named = {c.__name__: c for c in (Paper, Checkpoint, Departure, DataFile, Split, Table, Variant)}
        model = next((c for name, c in named.items() if f".{name}" in inside or name == inside), model)
    return list(getattr(model, "model_fields", {}))

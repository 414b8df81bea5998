"""Cards of tasks, data sets and corpora: what is asked, of which files, and what is pre-trained on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vlbench.cards.base import AnyCard, Paper
from vlbench.types import BadData, Form, Kind


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
            from vlbench.cards import card_fault  # it knows all kinds of cards, this one among them

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
    """Where it is had; empty for what nobody gives out."""
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

    @property
    def kind(self) -> Kind:
        """Whether it holds pairs, or one of the two alone."""
        alone: dict[str, Kind] = {"lines": "texts", "pictures": "images"}
        return alone.get(self.layout, "pairs")

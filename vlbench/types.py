"""What crosses the borders between parts: a few small types, and the errors a user may see.

Nothing here imports torch, so that commands which only read cards and records answer at once.
Shapes: P pairs of an image and a text, I distinct images, T distinct texts, R regions, L words, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Form: TypeAlias = Literal["classify", "compare", "choose", "point", "match", "write"]
FORMS: tuple[Form, ...] = ("classify", "compare", "choose", "point", "match", "write")
Box: TypeAlias = tuple[float, float, float, float]


class Fault(Exception):
    """Something the user can act on: one line says what is wrong, one what to do next.

    ``code`` is the exit code of the command line (1 could not be done, 2 wrong usage, 3 bad data).
    """

    code = 1

    def __init__(self, wrong: str, todo: str = "") -> None:
        super().__init__(wrong)
        self.wrong, self.todo = wrong, todo

    def __str__(self) -> str:
        return f"{self.wrong}\n{self.todo}" if self.todo else self.wrong


class Misuse(Fault):
    """The command was typed wrongly: an unknown name, key or option."""

    code = 2


class BadData(Fault):
    """Data, features or a checkpoint failed verification."""

    code = 3


class Impossible(Fault):
    """A pair of method and task that cannot be, or cannot begin so; others of the same command can."""


class WrongStart(Impossible):
    """A start of another method or size than the pair's: typed wrongly, where no pair of the command goes with it."""

    code = 2


def as_fault(error: Exception) -> Fault:
    """Say of any failure what is wrong and what to do; what nobody foresaw is called so."""
    if isinstance(error, Fault):
        return error
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return Fault(f"{place}{error.strerror or error}", "nothing already written is lost; the same command goes on")
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return Fault(
            "out of memory",
            "try --set accumulate=2 (less memory; contrasts are within each part then) or a smaller --size",
        )
    first = str(error).strip().splitlines()[0] if str(error).strip() else ""
    return Fault(
        f"unexpected {type(error).__name__}: {first}",
        "this is a fault of vlbench: please report it with the output of the same command and --debug",
    )


class Vectors(NamedTuple):
    """What a model makes of a pair to be matched."""

    image: np.ndarray | None
    """[D] the image's embedding; None where the method has none."""
    text: np.ndarray | None
    """[D] the text's, likewise; likeness is their inner product."""
    match: float | None = None
    """How sure it is, having fused them, that they belong together, 0 to 1; None where it was not asked."""


class Chances(NamedTuple):
    """What a model makes of a choice: the probability of each of an example's texts."""

    values: tuple[float, ...]

    @property
    def best(self) -> int:
        """The place of the most probable text, the first of equals."""
        return max(range(len(self.values)), key=self.values.__getitem__)


class Tokens(NamedTuple):
    """A text a model wrote, as word pieces, from the first word to before the end mark."""

    ids: tuple[int, ...]


Answer: TypeAlias = int | str | Tokens | tuple[str, ...] | Mapping[str, float] | Box | Vectors | Chances
"""A label, a text, one not yet put into words, reference captions, soft labels, a box, embeddings, or chances."""


@dataclass(frozen=True, slots=True)
class Example:
    """One thing asked of a model, with its answer where that is public."""

    id: str
    images: tuple[str, ...]
    """Keys in the image store: one, or two for NLVR2."""
    texts: tuple[str, ...]
    """One, or the K candidates of a choice."""
    answer: Answer | None = None
    boxes: tuple[Box, ...] = ()
    """Candidate regions, where the task supplies them."""


class RegionLabels(NamedTuple):
    """What a detector said of each region, for masked object prediction; -1 where it said nothing."""

    objects: Tensor
    """[I, R] class numbers."""
    object_confidence: Tensor
    """[I, R] 0 to 1."""
    attributes: Tensor
    """[I, R] attribute numbers."""
    attribute_confidence: Tensor
    """[I, R] 0 to 1."""
    class_probabilities: Tensor | None = None
    """[I, R, classes], the background first: how likely the detector held each class; None where that is not known."""

    def parts(self) -> tuple[Tensor, ...]:
        """Return those there are."""
        return tuple(part for part in self if part is not None)

    def map(self, change: Callable[[Tensor], Tensor]) -> RegionLabels:
        """Return what ``change`` makes of each part there is."""
        return RegionLabels(*map(change, self.parts()))


class Image(NamedTuple):
    """The images of a batch, each held once however many pairs show it."""

    values: Tensor
    """Pixels [I, 3, H, W] or region features [I, R, F]."""
    boxes: Tensor | None = None
    """[I, R, 4]: x1, y1, x2, y2 from 0 to 1."""
    mask: Tensor | None = None
    """[I, R], True where a region exists."""
    labels: RegionLabels | None = None
    rows: Tensor | None = None
    """[P]: which image each pair shows; None when pair i shows image i."""
    ids: Tensor | None = None
    """[I]: a number for each image, the same in every batch; None where nothing asks for it."""
    codes: Tensor | None = None
    """[I, patches]: what an image tokeniser calls each patch, for masked image modelling; -1 where nothing."""


class Text(NamedTuple):
    """The texts of a batch, each held once however many pairs use it."""

    tokens: Tensor
    """[T, L]."""
    mask: Tensor
    """[T, L], True where a token exists."""
    rows: Tensor | None = None
    """[P]: which text each pair has; None when pair i has text i."""
    segments: Tensor | None = None
    """[T, L]: 0 or 1, where a text has two parts; None when it has one."""


class States(NamedTuple):
    """What a model makes of P pairs."""

    text: Tensor
    """[P, L, D]."""
    image: Tensor
    """[P, R, D]."""
    pooled: Tensor
    """[P, D]: what the paper feeds to its classifier."""


Kind: TypeAlias = Literal["pairs", "images", "texts"]
"""What an example of a corpus is: an image with its text, or one of the two alone."""
KINDS: tuple[Kind, ...] = ("pairs", "images", "texts")


def kind_of(images: int, texts: int) -> Kind:
    """Say what an example with so many images and texts is."""
    return "texts" if not images else "pairs" if texts else "images"


class Batch(NamedTuple):
    """B examples laid out as P = B x images x texts pairs."""

    ids: tuple[str, ...]
    image: Image
    text: Text
    target: Tensor | None = None
    """Soft scores [B, answers] (float) or labels [B] (integer); None where answers are not public."""
    fold: tuple[int, int] = (1, 1)
    """Images and texts an example has; of images alone or texts alone one of the two is 0, and that part is empty."""

    @property
    def kind(self) -> Kind:
        """Whether its examples are pairs, or one of the two alone."""
        return kind_of(*self.fold)


class Given(NamedTuple):
    """A model's answer to one example, and how sure it is."""

    answer: Answer
    probability: float | None = None


class Progress(Protocol):
    """Shows how far long work is."""

    def __call__(self, done: int, total: int, what: str) -> None:
        """Say that ``done`` of ``total`` is done."""


def quiet(done: int, total: int, what: str) -> None:
    """Show nothing: the progress of work nobody watches."""


def nearest(name: str, known: Sequence[str]) -> str:
    """Return ``; did you mean X?`` where a known name is close to a mistyped one, else the choice."""
    from difflib import get_close_matches

    close = get_close_matches(name.lower(), [k.lower() for k in known], n=1, cutoff=0.5)
    if close:
        return f"did you mean '{next(k for k in known if k.lower() == close[0])}'?"
    return f"known: {', '.join(sorted(known)[:20])}" if known else "none is known"


Log: TypeAlias = Callable[[Mapping[str, object]], None]
"""Takes one event of a run (see tracking.py)."""

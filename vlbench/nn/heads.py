"""Heads: from a model's states to answers of one form.

A form is what is asked: classify (an image, a text, a label of a closed list), compare (two images, a text, a
label), choose (an image, one of K texts), point (one of an image's regions), match (does the text belong to the
image; which of many), write (a text). A method whose paper answers in another way overrides ``Model.head``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Protocol

from torch import Tensor, nn

from vlbench.nn.embed import per_pair
from vlbench.nn.objectives import label_loss, soft_label_loss
from vlbench.types import Batch, Chances, Form, Given, Image, Misuse, States, Text


class Encodes(Protocol):
    """A model as a head sees it."""

    width: int

    def encode(self, image: Image, text: Text) -> States:
        """Read the pairs."""


class Head(nn.Module, ABC):
    """Learns, and gives, answers of one form from what a model makes of a batch."""

    untrained: ClassVar[bool] = False
    """Whether it can answer as it begins: from a pre-trained model alone (zero-shot)."""
    listener: Callable[[Tensor], None] | None = None
    """Who is told the scores that losses are made of: adversarial training compares them with others."""

    @abstractmethod
    def losses(self, model: Encodes, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of a batch by name, each a scalar."""

    @abstractmethod
    def answers(self, model: Encodes, batch: Batch) -> list[Given]:
        """Answer each example of a batch."""

    def predicted(self, scores: Tensor, asked: Tensor | None = None) -> Tensor:
        """Return scores [..., answers] before the softmax, of which a loss is made, and tell the listener.

        ``asked`` [...]: which of them count. Heads that have none to tell (embeddings, captions) do without.
        """
        if self.listener is not None:
            self.listener(scores if asked is None else scores[asked])
        return scores

    def begin_anew(self, model: Encodes) -> None:
        """Begin from a pre-trained model that was just loaded without this head; most are left as they were drawn."""

    def restart_momentum(self) -> None:
        """Let slow twins of this head follow from here on: weights were loaded that held none."""

    def at_head_rate(self, name: str) -> bool:
        """Say whether a parameter of this head trains at the head's rate, or (some poolers) at the model's."""
        return True


class ScoringHead(Head):
    """Scores the possible answers of each example; the best is given."""

    @abstractmethod
    def scores(self, model: Encodes, batch: Batch) -> Tensor:
        """Score the possible answers [B, answers] before the softmax."""

    def loss(self, scores: Tensor, batch: Batch) -> Tensor:
        """Learn soft scores [B, C] by binary cross-entropy, labels [B] by cross-entropy; return a scalar."""
        assert batch.target is not None  # the loop trains only on splits with public answers
        if batch.target.is_floating_point():
            return soft_label_loss(scores, batch.target)
        return label_loss(scores, batch.target)

    def losses(self, model: Encodes, batch: Batch) -> dict[str, Tensor]:
        """Return the one loss of the answers."""
        return {"answer": self.loss(self.predicted(self.scores(model, batch)), batch)}

    def answers(self, model: Encodes, batch: Batch) -> list[Given]:
        """Return the best answer of each example by its place, and how probable; of a choice, all chances."""
        chances = self.scores(model, batch).float().softmax(-1)
        if batch.fold[1] > 1:
            return [Given(Chances(tuple(row)), max(row)) for row in chances.tolist()]
        best = chances.max(-1)
        return [Given(int(i), float(p)) for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)]


class Classifier(nn.Sequential):
    """Linear, GELU, norm, linear: the answer head of LXMERT (src/tasks/vqa_model.py), twice as wide inside."""

    def __init__(self, width: int, answers: int, *, inner: int, epsilon: float = 1e-12) -> None:
        super().__init__(
            nn.Linear(width, inner), nn.GELU(), nn.LayerNorm(inner, eps=epsilon), nn.Linear(inner, answers)
        )


class LabelHead(ScoringHead):
    """Scores a closed list of labels from the pooled states of an example's images, side by side.

    ``classifier`` maps [B, images * D] to [B, answers]; LXMERT's by default.
    """

    def __init__(self, width: int, answers: int, *, images: int = 1, classifier: nn.Module | None = None) -> None:
        super().__init__()
        self.images = images
        self.classifier = classifier or Classifier(images * width, answers, inner=2 * width)

    def scores(self, model: Encodes, batch: Batch) -> Tensor:
        """[B, answers]."""
        pooled = model.encode(batch.image, batch.text).pooled
        scores: Tensor = self.classifier(pooled.reshape(-1, self.images * pooled.shape[-1]))
        return scores


class NormedLabelHead(LabelHead):
    """Linear, norm, GELU, linear over pooled states [D] of each of an example's images (METER's VQA, NLVR2, SNLI-VE).

    As wide inside as one image's pooled states.
    """

    def __init__(self, width: int, answers: int, *, images: int = 1) -> None:
        parts = nn.Linear(images * width, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, answers)
        super().__init__(width, answers, images=images, classifier=nn.Sequential(*parts))

    def decays(self, name: str, parameter: Tensor) -> bool:
        """Exempt biases; the authors' list of names misses the norm."""
        return not name.endswith("bias")


class ChoiceHead(ScoringHead):
    """Scores each of an example's K texts by itself; targets are labels [B] (VCR; ViLBERT, section 3.2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)

    def scores(self, model: Encodes, batch: Batch) -> Tensor:
        """[B, K]."""
        scores: Tensor = self.score(model.encode(batch.image, batch.text).pooled)
        return scores.reshape(-1, batch.fold[1])


class PointHead(ScoringHead):
    """Scores each region of the image; targets are soft scores [B, R] (RefCOCO; ViLBERT, section 3.2)."""

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.score = nn.Linear(width, 1)

    def scores(self, model: Encodes, batch: Batch) -> Tensor:
        """[B, R], very small where there is no region."""
        scores: Tensor = self.score(self.dropout(model.encode(batch.image, batch.text).image)).squeeze(-1)
        if batch.image.mask is None:
            return scores
        return scores - 1e4 * ~per_pair(batch.image.mask, batch.image.rows)

    def answers(self, model: Encodes, batch: Batch) -> list[Given]:
        """Return the best region's box (x1, y1, x2, y2 from 0 to 1) of each example."""
        assert batch.image.boxes is not None  # regions have places
        boxes = per_pair(batch.image.boxes, batch.image.rows)
        best = super().answers(model, batch)
        corners = [boxes[row, given.answer].tolist() for row, given in enumerate(best)]  # type: ignore[index]
        return [Given((c[0], c[1], c[2], c[3]), given.probability) for c, given in zip(corners, best, strict=True)]


def standard(form: Form, width: int, answers: int, *, regions: bool) -> Head:
    """Build the usual head of a form; Misuse where a fusing encoder alone has no way to answer it."""
    if form == "classify":
        return LabelHead(width, answers)
    if form == "compare":
        return LabelHead(width, answers, images=2)
    if form == "choose":
        return ChoiceHead(width)
    if form == "point" and regions:
        return PointHead(width)
    can = ["classify", "compare", "choose", *(["point"] if regions else [])]
    raise Misuse(f"no standard head answers the form '{form}'; it can: {', '.join(can)}")

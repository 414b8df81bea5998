"""Heads behind one sequence of patches and words (BEiT-3, VLMo): answers, comparison, retrieval, classification."""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlbench.nn.embed import per_pair
from vlbench.nn.gather import gather
from vlbench.nn.heads import Encodes, Head, LabelHead, ScoringHead
from vlbench.nn.objectives import contrastive_loss
from vlbench.types import Batch, Given, Image, Text, Vectors


@runtime_checkable
class ReadsApart(Encodes, Protocol):
    """A model that can read an image, or a text, by itself."""

    def read_image(self, image: Image) -> Tensor:
        """[I, V, D], a state of the whole image first."""

    def read_text(self, text: Text) -> Tensor:
        """[T, L, D], a state of the whole text first."""


class AnswerHead(LabelHead):
    """Question answering: norm, linear, tanh of the class token, then a classifier twice as wide inside (BEiT-3)."""

    def __init__(self, width: int, answers: int) -> None:
        inner = 2 * width
        classifier = nn.Sequential(nn.Linear(width, inner), nn.LayerNorm(inner), nn.GELU(), nn.Linear(inner, answers))
        super().__init__(width, answers, classifier=classifier)
        self.pooler = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.Tanh())

    def scores(self, model: Encodes, batch: Batch) -> Tensor:
        """[B, answers]."""
        scores: Tensor = self.classifier(self.pooler(model.encode(batch.image, batch.text).pooled))
        return scores

    def at_head_rate(self, name: str) -> bool:
        """The pooler trains at the model's rate: its name does not begin with ``head`` in the authors' code."""
        return not name.startswith("pooler.")


class PooledAnswerHead(LabelHead):
    """Linear, norm, GELU, linear on the pooled states of an example's images (VLMo's code for VQA and NLVR2)."""

    def __init__(self, width: int, answers: int, *, images: int) -> None:
        inner = 2 * width
        parts = [nn.Linear(images * width, inner), nn.LayerNorm(inner), nn.GELU(), nn.Linear(inner, answers)]
        super().__init__(width, answers, images=images, classifier=nn.Sequential(*parts))

    def decays(self, name: str, parameter: Tensor) -> bool:
        """Decay all but biases: the authors' list does not know this norm by its name."""
        return "bias" not in name


class ComparisonHead(ScoringHead):
    """Two images and a statement (NLVR2): the first states of image and text, of both pairs, side by side; BEiT-3."""

    def __init__(self, width: int, answers: int) -> None:
        super().__init__()
        outer, inner = 4 * width, 2 * width
        first = [nn.LayerNorm(outer), nn.Linear(outer, inner), nn.LayerNorm(inner)]
        self.comparison = nn.Sequential(*first, nn.GELU(), nn.Linear(inner, answers))

    def scores(self, model: Encodes, batch: Batch) -> Tensor:
        """[B, answers]."""
        states = model.encode(batch.image, batch.text)
        first = torch.cat([states.image[:, 0], states.text[:, 0]], dim=1)
        scores: Tensor = self.comparison(first.reshape(len(first) // 2, -1))
        return scores


class ContrastiveHead(Head):
    """Learns and gives embeddings: the first state of each, projected without bias, of length 1.

    The temperature is learned; it begins at 0.07 (Radford et al. 2021, section 2.3) and is not bounded. BEiT-3,
    beit3/modeling_finetune.py.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.image = nn.Linear(width, width, bias=False)
        self.text = nn.Linear(width, width, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def embeddings(self, model: Encodes, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return those of the images and of the texts, [P, D] twice; each is read once however many pairs share it."""
        assert isinstance(model, ReadsApart)
        image = functional.normalize(self.image(model.read_image(batch.image)[:, 0]), dim=-1)
        text = functional.normalize(self.text(model.read_text(batch.text)[:, 0]), dim=-1)
        return per_pair(image, batch.image.rows), per_pair(text, batch.text.rows)

    def losses(self, model: Encodes, batch: Batch) -> dict[str, Tensor]:
        """Return the contrastive loss over the pairs of all processes; an image's other texts count as foreign."""
        image, text = (gather(part, gradient=True) for part in self.embeddings(model, batch))
        logits = self.log_scale.exp() * image @ text.T
        return {"contrastive": (contrastive_loss(logits) + contrastive_loss(logits.T)) / 2}

    def answers(self, model: Encodes, batch: Batch) -> list[Given]:
        """Return the embeddings of each pair."""
        image, text = (part.detach().float().cpu().numpy() for part in self.embeddings(model, batch))
        return [Given(Vectors(*pair)) for pair in zip(image, text, strict=True)]


class PictureHead(ScoringHead):
    """Image classification: the mean of the patches, normed, then a linear map; no text is read (BEiT-3)."""

    def __init__(self, width: int, answers: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.labels = nn.Linear(width, answers)

    def scores(self, model: Encodes, batch: Batch) -> Tensor:
        """[B, answers]."""
        assert isinstance(model, ReadsApart)
        states = per_pair(model.read_image(batch.image), batch.image.rows)
        scores: Tensor = self.labels(self.norm(states[:, 1:].mean(1)))
        return scores

    def loss(self, scores: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy with a tenth of each label [B] spread over all; return a scalar."""
        assert batch.target is not None  # the loop trains only on splits with public answers
        return functional.cross_entropy(scores, batch.target, label_smoothing=0.1)

"""Matching by ranking: a fused score says how well a text fits an image (ViLT, METER)."""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import Tensor, nn

from vlbench.nn.contrast import Features, identities
from vlbench.nn.heads import Encodes, Head
from vlbench.nn.masking import IGNORED
from vlbench.nn.objectives import label_loss
from vlbench.types import Batch, Given, Image, Text, Vectors


class Ranks(Encodes, Protocol):
    """A model as the ranking head sees it."""

    matching_head: nn.Linear
    """What pre-training asked by: row 1 scores that a pair matches."""

    def vectors(self, image: Image, text: Text) -> Features | None:
        """Embed each pair's image and text without fusing them; None where nothing of the kind was learned."""


class RankingHead(Head):
    """Scores how well a text fits an image, by a linear map of the pooled states; learns by ranking.

    Each image has its own text and ``false_texts`` random ones, of other images of the batch; cross-entropy of the
    own among them. ``width``: of the pooled states.
    """

    def __init__(self, width: int, *, false_texts: int = 15) -> None:
        super().__init__()
        self.score, self.false_texts = nn.Linear(width, 1), false_texts

    def losses(self, model: Encodes, batch: Batch) -> dict[str, Tensor]:
        """Return the one loss, of the images that have a false text."""
        drawn, possible = draw_others(batch.image, self.false_texts)
        own = torch.arange(len(drawn), device=drawn.device)
        scores = self.predicted(self.scores(model, batch, torch.cat([own[:, None], drawn], dim=1)))
        return {"ranking": label_loss(scores, torch.where(possible, 0, IGNORED))}

    def scores(self, model: Encodes, batch: Batch, texts: Tensor) -> Tensor:
        """Score some pairs' texts, by number [P, N], on the image of each pair -> [P, N]."""
        own = torch.arange(len(texts), device=texts.device)
        image_rows = (own if batch.image.rows is None else batch.image.rows).repeat_interleave(texts.shape[1])
        text_rows = texts if batch.text.rows is None else batch.text.rows[texts]
        states = model.encode(batch.image._replace(rows=image_rows), batch.text._replace(rows=text_rows.flatten()))
        scores: Tensor = self.score(states.pooled)
        return scores.view_as(texts)

    def answers(self, model: Encodes, batch: Batch) -> list[Given]:
        """Return each pair's score, as a probability, and the vectors of its image and text where there are any."""
        pooled = model.encode(batch.image, batch.text).pooled
        sure = self.score(pooled).squeeze(-1).double().sigmoid().tolist()
        found = cast(Ranks, model).vectors(batch.image, batch.text)
        if found is None:
            return [Given(Vectors(None, None), probability) for probability in sure]
        image, text = (part.detach().float().cpu().numpy() for part in found)
        return [Given(Vectors(image[i], text[i]), probability) for i, probability in enumerate(sure)]

    def begin_anew(self, model: Encodes) -> None:
        """Begin from how pre-training scored that a pair matches."""
        learned = cast(Ranks, model).matching_head
        self.score.weight.data.copy_(learned.weight.data[1:])
        self.score.bias.data.copy_(learned.bias.data[1:])


def draw_others(image: Image, count: int) -> tuple[Tensor, Tensor]:
    """Draw for each pair ``count`` pairs that show another image, [P, count]; say which pairs have any, [P]."""
    ids = identities(image)
    other = ids[:, None] != ids
    possible = other.any(dim=1)
    weights = other.float().masked_fill(~possible[:, None], 1.0)
    return torch.multinomial(weights, count, replacement=True), possible


def exchange_images(image: Image) -> tuple[Tensor, Tensor]:
    """Let half of the pairs, rounded down, keep their image, and show the others one of another pair.

    Return which image each pair is shown and whether it is its own, both [P]; where there is no other, it is.
    """
    drawn, possible = draw_others(image, 1)
    pairs = len(drawn)
    matched = (torch.randperm(pairs, device=drawn.device) < pairs // 2) | ~possible
    own = torch.arange(pairs, device=drawn.device) if image.rows is None else image.rows
    return torch.where(matched, own, own[drawn[:, 0]]), matched

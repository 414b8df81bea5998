"""Contrast of images and texts, with a slow twin and past batches (ALBEF, BLIP) or within the batch."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlbench.nn.embed import per_pair
from vlbench.nn.gather import gather, gather_blocks, gather_texts, is_shared, own_first, own_places
from vlbench.nn.heads import Encodes, Head
from vlbench.nn.masking import hard_negatives
from vlbench.nn.momentum import Queue
from vlbench.nn.objectives import contrastive_loss
from vlbench.types import Batch, Given, Image, Text, Vectors


class Features(NamedTuple):
    """The normalised embeddings of P pairs."""

    image: Tensor
    """[P, E]."""
    text: Tensor
    """[P, E]."""


class Negatives(NamedTuple):
    """The wrong partners of P pairs."""

    images: Tensor
    """[P]: whose image the text of each pair is shown with."""
    texts: Tensor
    """[P]: whose text is told of the image of each pair."""


class Contrast(NamedTuple):
    """The loss of P pairs, and what hard negatives are drawn by."""

    loss: Tensor
    to_text: Tensor
    """[P, P + others + queue]: how each image likes each text of this process, of others and of the past, over the
    temperature."""
    to_image: Tensor
    """[P, P + others + queue]: how each text likes each image."""
    same: Tensor
    """[P, P]: whether two pairs show the same image."""

    def negatives(self, *, floor: float = 0.0) -> Negatives:
        """Draw wrong partners that are taken for alike (ALBEF, section 3.2); ``floor`` is added to every chance."""
        here = len(self.same)
        images = hard_negatives(self.to_image[:, :here], self.same, floor=floor)
        return Negatives(images, hard_negatives(self.to_text[:, :here], self.same, floor=floor))


def alike_negatives(fast: Features, ids: Tensor, temperature: Tensor, *, everywhere: bool) -> Negatives:
    """Draw wrong partners that are alike by their own features, not the twin's (BLIP models/blip_retrieval.py).

    ids [P]: which image a pair shows. ``everywhere``: among the pairs of all processes, and numbered so.
    """
    others, known = (Features(*map(gather, fast)), gather(ids)) if everywhere else (fast, ids)
    likeness = fast.text @ others.image.T, fast.image @ others.text.T
    images, texts = (hard_negatives(each / temperature, ids[:, None] == known) for each in likeness)
    return Negatives(images, texts)


def identities(image: Image) -> Tensor:
    """Number the image of each pair, [P]: alike where two pairs show the same; below 0 in this batch only."""
    ids = -1 - torch.arange(len(image.values), device=image.values.device) if image.ids is None else image.ids
    return per_pair(ids, image.rows)


def row_of_each(rows: Tensor | None, pairs: Tensor) -> Tensor:
    """Return the row, in its batch, of the image or text that each of the ``pairs`` [P] has: [P].

    ``rows``: those of an Image or a Text; None where each pair has its own.
    """
    return torch.arange(len(pairs), device=pairs.device) if rows is None else rows


def of_all_processes(image: Image, text: Text, pairs: Tensor) -> tuple[Image, Text, Tensor, Tensor]:
    """Return images and texts of the pairs of all processes, and the row of either that each pair has.

    On one process they are as they were; ``pairs`` [P]: one's own.
    """
    if is_shared():
        image = Image(gather(per_pair(image.values, image.rows)))
        text = Text(*(gather_texts(per_pair(part, text.rows)) for part in text[:2]))
        pairs = torch.arange(len(image.values), device=pairs.device)
    return image, text, row_of_each(image.rows, pairs), row_of_each(text.rows, pairs)


def together(image: Image, text: Text) -> Tensor:
    """Say of any two pairs whether they have an image or a text in common: [P, P]."""
    shown = identities(image)
    said = row_of_each(text.rows, shown)
    return (shown[:, None] == shown) | (said[:, None] == said)


def momentum_contrast(
    fast: Features, slow: Features, queue: Queue, temperature: Tensor, ids: Tensor, *, alpha: float = 0.0
) -> Contrast:
    """Contrast each pair's image with all texts and its text with all images, of the batch and of the queue.

    The mean of both directions. Targets: 1 for every pair of the same image by ``ids`` [P], in the queue too where
    it keeps ids; a share ``alpha`` of them is the slow features' own likeness (ALBEF, sections 3.2 and 3.3). The
    slow features are then queued. The batch is that of all processes, so that the loss does not depend on their
    number; the authors compare with the pairs of one's own process.
    """
    texts, images = (
        torch.cat([own_first(part).T, queue.get_buffer(name)], dim=1)
        for part, name in ((slow.text, "text"), (slow.image, "image"))
    )
    same, others = ids[:, None] == ids, own_first(ids)[len(ids) :]
    elsewhere = (ids[:, None] == others) & (others >= 0)
    past = same.new_zeros(len(ids), queue.size)
    if queue.keeps_ids:
        past = (queue.ids == ids[:, None]) & (queue.ids >= 0)
    matched = torch.cat([same, elsewhere, past], dim=1).float()
    matched = matched / matched.sum(1, keepdim=True)

    def one_way(asking: Tensor, slowly: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(others.device.type, enabled=False):  # among tens of thousands, small differences count
            logits = asking.float() @ others.float() / temperature
            liked = functional.softmax(slowly.float() @ others.float() / temperature.detach(), dim=1)
            return contrastive_loss(logits, alpha * liked + (1 - alpha) * matched), logits

    from_image, to_text = one_way(fast.image, slow.image, texts)
    from_text, to_image = one_way(fast.text, slow.text, images)
    queue.push(slow.image, slow.text, ids=ids if queue.keeps_ids else None)
    return Contrast((from_image + from_text) / 2, to_text, to_image, same)


def batch_contrast(pairs: Features, scale: Tensor, same: Tensor) -> Tensor:
    """Contrast the pairs of all processes in both directions, by their likeness times ``scale``; the mean of both.

    ``same`` [P, P], symmetric: which pairs of this process belong together; they are all right, in equal parts. All
    features carry a gradient, so that it does not depend on the number of processes; in the authors' code
    (vlmo/modules/objectives.py) those of other processes are constants.
    """
    image, text = (gather(part, gradient=True) for part in pairs)
    logits = scale * image @ text.T
    right = gather_blocks(same).to(logits.dtype)
    targets = right / right.sum(1, keepdim=True)
    return (contrastive_loss(logits, targets) + contrastive_loss(logits.T, targets)) / 2


class Matches(Encodes, Protocol):
    """A model that aligns images with texts and says how well a pair matches."""

    def retrieval_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of fine-tuning for retrieval, by name."""

    def matched(self, batch: Batch) -> tuple[Features, Tensor]:
        """Return the embeddings of P pairs, and how well each matches [P]."""


class MatchHead(Head):
    """Retrieval: embeddings that are compared, and a score of each pair by which the nearest are ranked anew."""

    def losses(self, model: Encodes, batch: Batch) -> dict[str, Tensor]:
        """Return the losses that the method has for retrieval."""
        return cast(Matches, model).retrieval_losses(batch)

    def answers(self, model: Encodes, batch: Batch) -> list[Given]:
        """Return the two embeddings [E] of each pair, and its score (as its probability, which it need not be)."""
        features, scores = cast(Matches, model).matched(batch)
        images, texts = (part.detach().float().cpu().numpy() for part in features)
        return [Given(Vectors(*both), score) for *both, score in zip(images, texts, scores.tolist(), strict=True)]


class PairedProjection(nn.Module):
    """Unit vectors of images and of texts read each alone, and the learned scale of their likeness, not bounded.

    The first state of each is mapped without bias; the scale begins at 1 / 0.07 (VLMo, vlmo/modules/heads.py).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.image, self.text = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, image: Tensor, text: Tensor, image_rows: Tensor | None, text_rows: Tensor | None) -> Features:
        """Image [I, V, D] and text [T, L, D] -> the vectors [P, D] of each pair; ``rows`` [P] as those of a batch."""
        images = functional.normalize(self.image(image[:, 0]), dim=-1)
        texts = functional.normalize(self.text(text[:, 0]), dim=-1)
        return Features(per_pair(images, image_rows), per_pair(texts, text_rows))

    def scores(self, pairs: Features) -> Tensor:
        """Say how each image likes each text, [P, P]."""
        likeness: Tensor = self.log_scale.exp() * pairs.image @ pairs.text.T
        return likeness

    def negatives(self, pairs: Features, same: Tensor) -> Negatives:
        """Draw a wrong partner for each text and image, one like it, among the pairs of all processes.

        ``same`` [P, P]: which of one's own pairs belong together.
        """
        others, scale = Features(*map(gather, pairs)), self.log_scale.exp()
        known = gather_blocks(same)[own_places(same)]
        likeness = pairs.text @ others.image.T, pairs.image @ others.text.T
        return Negatives(*(hard_negatives(scale * each, known) for each in likeness))

    def loss(self, pairs: Features, same: Tensor) -> Tensor:
        """Contrast the pairs; ``same`` [P, P]: which belong together."""
        return batch_contrast(pairs, self.log_scale.exp(), same)

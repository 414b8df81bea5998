"""What is hidden from a model in pre-training: words, regions, and which text belongs to which image.

Every function takes a generator, so that it can be repeated; None stands for torch's global one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from vlbench.nn.embed import per_pair
from vlbench.types import Image, Text

IGNORED = -1
"""A label that no loss counts."""


class MaskedWords(NamedTuple):
    """A text with some words hidden, and what they were."""

    text: Text
    labels: Tensor
    """[P, L]: the hidden word's id, IGNORED elsewhere."""


class MaskedRegions(NamedTuple):
    """An image with some regions hidden, and which."""

    image: Image
    chosen: Tensor
    """[P, R], True where a region is to be predicted."""
    features: Tensor
    """[P, R, F] as they were."""


def _draw(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.rand(like.shape, generator=generator, device=like.device)


def mask_words(
    text: Text,
    *,
    vocabulary: int,
    mask: int,
    kept: tuple[int, ...],
    rate: float = 0.15,
    generator: torch.Generator | None = None,
) -> MaskedWords:
    """Choose words at ``rate``; of those 80 % become ``mask``, 10 % any word, 10 % stay (BERT, section 3.1).

    ``kept``: tokens never chosen, such as [CLS], [SEP] and the padding.
    """
    tokens = text.tokens
    special = torch.isin(tokens, torch.tensor(kept, device=tokens.device))
    chosen = (_draw(tokens, generator) < rate) & text.mask & ~special
    fate = _draw(tokens, generator)
    any_word = torch.randint(vocabulary, tokens.shape, generator=generator, device=tokens.device)
    hidden = torch.where(fate < 0.8, torch.full_like(tokens, mask), torch.where(fate < 0.9, any_word, tokens))
    labels = torch.where(chosen, tokens, torch.full_like(tokens, IGNORED))
    return MaskedWords(text._replace(tokens=torch.where(chosen, hidden, tokens)), labels)


def mask_share(
    text: Text, *, vocabulary: int, mask: int, share: float, first: int = 3, generator: torch.Generator | None = None
) -> MaskedWords:
    """Choose a share of each text's words, rounded: at least one, never the first, the end mark like any other.

    Of those 80 % become ``mask``, 10 % any word from id ``first`` on, 10 % stay. BEiT-3's captioning
    (beit3/datasets.py); start and end mark count as words.
    """
    tokens = text.tokens
    lengths = text.mask.sum(1, keepdim=True)
    wanted = torch.minimum((lengths.double() * share + 0.5).long(), lengths - 1).clamp(min=1)
    place = torch.arange(tokens.shape[1], device=tokens.device)
    order = _draw(tokens, generator).masked_fill(~text.mask | (place == 0), torch.inf)
    chosen = (order.argsort(1).argsort(1) < wanted) & order.isfinite()
    fate = _draw(tokens, generator)
    any_word = torch.randint(first, vocabulary, tokens.shape, generator=generator, device=tokens.device)
    hidden = torch.where(fate < 0.8, torch.full_like(tokens, mask), torch.where(fate < 0.9, tokens, any_word))
    labels = torch.where(chosen, tokens, torch.full_like(tokens, IGNORED))
    return MaskedWords(text._replace(tokens=torch.where(chosen, hidden, tokens)), labels)


def mask_blocks(
    images: int,
    side: int,
    *,
    share: float = 0.4,
    smallest: int = 16,
    aspect: float = 0.3,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Hide a share of the side x side patches of each image, block by block -> [images, side * side], True if hidden.

    BEiT (Bao et al. 2022, algorithm 1): a block has ``smallest`` patches up to as many as are still to be hidden,
    is at most 1/``aspect`` times as wide as high or the other way round, and may lie on others. Of the last block
    only as much is hidden as makes the share exact.
    """
    wanted = round(share * side * side)
    hidden = torch.zeros(images, side, side, dtype=torch.bool)

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    for grid in hidden:
        while (left := wanted - int(grid.sum())) > 0:
            area = uniform(min(smallest, left), left)
            ratio = math.exp(uniform(math.log(aspect), -math.log(aspect)))
            height = min(side, max(1, round(math.sqrt(area * ratio))))
            width = min(side, max(1, round(math.sqrt(area / ratio))))
            top, start = int(uniform(0, side - height + 1)), int(uniform(0, side - width + 1))
            block = torch.zeros_like(grid)
            block[top : top + height, start : start + width] = True
            fresh = (block & ~grid).flatten()
            grid |= (fresh & (fresh.cumsum(0) <= left)).view_as(grid)
    return hidden.flatten(1)


def mask_regions(
    image: Image,
    *,
    rate: float = 0.15,
    zeroed: float = 0.8,
    replaced: float = 0.1,
    generator: torch.Generator | None = None,
) -> MaskedRegions:
    """Choose regions at ``rate``; of those 80 % become zeros, 10 % another region of the batch, 10 % stay.

    Boxes are never hidden. Tan & Bansal 2019, section 3.1.2; ``zeroed`` and ``replaced`` are other shares.
    """
    features = image.values
    exists = image.mask if image.mask is not None else torch.ones(features.shape[:2], dtype=torch.bool)
    exists = exists.to(features.device)
    chosen = (_draw(exists, generator) < rate) & exists
    fate = _draw(exists, generator)[..., None]
    others = features[exists]
    drawn = torch.randint(len(others), exists.shape, generator=generator, device=features.device)
    exchanged = torch.where(fate < zeroed + replaced, others[drawn], features)
    hidden = torch.where(fate < zeroed, torch.zeros_like(features), exchanged)
    values = torch.where(chosen[..., None], hidden, features)
    return MaskedRegions(image._replace(values=values), chosen, features)


def mask_patches(
    image: Image, cells: int, *, rate: float = 0.15, generator: torch.Generator | None = None
) -> tuple[Image, Tensor]:
    """Blank cells of images [I, 3, H, W] at ``rate``; return the images and [I, cells], True where one is blank.

    ``cells``: how many the square grid of an image has, numbered row by row: one for each state made of it.
    """
    pixels, side = image.values, math.isqrt(cells)
    if side * side != cells:
        raise ValueError(f"{cells} cells are no square grid")
    chosen = _draw(pixels.new_empty(len(pixels), cells), generator) < rate
    grid = chosen.view(-1, 1, side, side).float()
    blank = functional.interpolate(grid, size=pixels.shape[-2:], mode="nearest") > 0
    return image._replace(values=pixels.masked_fill(blank, 0.0)), chosen


def mismatch(
    image: Image, text: Text, *, share: float = 0.5, generator: torch.Generator | None = None
) -> tuple[Text, Tensor]:
    """Give a share of the pairs the text of another image; return the texts and [P], True where it fits.

    A pair whose batch holds no other image keeps its text.
    """
    pairs = len(text.tokens)
    shown = image.rows if image.rows is not None else torch.arange(pairs, device=text.tokens.device)
    foreign = shown[:, None] != shown[None, :]
    possible = foreign.any(dim=1)
    weights = torch.where(possible[:, None], foreign.float(), torch.ones_like(foreign, dtype=torch.float))
    partner = torch.multinomial(weights, 1, generator=generator).squeeze(1)
    swap = (_draw(shown.float(), generator) < share) & possible
    source = torch.where(swap, partner, torch.arange(pairs, device=shown.device))
    segments = None if text.segments is None else text.segments[source]
    return Text(text.tokens[source], text.mask[source], segments=segments), ~swap


def one_each(image: Image, text: Text) -> tuple[Image, Text]:
    """Lay images and texts out so that every pair has its own copy, ready to be hidden in its own way."""
    rows = image.rows
    labels = image.labels
    if labels is not None:
        labels = labels.map(lambda part: per_pair(part, rows))
    boxes = None if image.boxes is None else per_pair(image.boxes, rows)
    mask = None if image.mask is None else per_pair(image.mask, rows)
    segments = None if text.segments is None else per_pair(text.segments, text.rows)
    own_text = Text(per_pair(text.tokens, text.rows), per_pair(text.mask, text.rows), segments=segments)
    codes = None if image.codes is None else per_pair(image.codes, rows)
    return Image(per_pair(image.values, rows), boxes, mask, labels, codes=codes), own_text


def hard_negatives(
    scores: Tensor, same: Tensor, *, floor: float = 0.0, generator: torch.Generator | None = None
) -> Tensor:
    """Draw for each row a column in proportion to the softmax of its scores, never one of the same: [N, M] -> [N].

    ``same`` [N, M]: True where row and column belong together. A row with nothing else to draw is drawn evenly.
    ALBEF, section 3.2. ``floor`` is added to every chance, as in BLIP's pre-training.
    """
    weights = negative_weights(scores, same, floor=floor)
    possible = torch.where(same.all(1, keepdim=True), torch.ones_like(weights), weights)
    return torch.multinomial(possible, 1, generator=generator).squeeze(1)


def negative_weights(scores: Tensor, same: Tensor, *, floor: float = 0.0) -> Tensor:
    """Weigh the columns that ``hard_negatives`` draws from: 0 where row and column are the same, else above 0."""
    return (scores.detach().float().softmax(1) + floor).clamp(min=1e-9).masked_fill(same, 0)


def four_options(image: Image, text: Text, *, generator: torch.Generator | None = None) -> tuple[Image, Text]:
    """Draw wrong options for each of P pairs: true pair, other caption, other image, hard caption; 4 P pairs.

    The hard caption is that of the image whose mean region is nearest. Nothing is copied: ``rows`` say which image
    and text each option has. A pair whose batch holds no other image keeps its own. ViLBERT, section 3.2.
    """
    device = text.tokens.device
    images = torch.arange(len(image.values), device=device) if image.rows is None else image.rows
    texts = torch.arange(len(text.tokens), device=device) if text.rows is None else text.rows
    own = torch.arange(len(images), device=device)
    foreign = images[:, None] != images[None, :]
    possible = foreign.any(dim=1)
    weights = torch.where(possible[:, None], foreign, own[:, None] == own[None, :]).float()
    other_text, other_image = torch.multinomial(weights, 2, replacement=True, generator=generator).unbind(1)
    there = torch.ones_like(image.values[..., 0], dtype=torch.bool) if image.mask is None else image.mask
    mean = (image.values * there[..., None]).sum(1) / there.sum(1, keepdim=True).clamp(min=1)
    distances = torch.cdist(mean.float(), mean.float())[images][:, images].masked_fill(~foreign, torch.inf)
    hard = torch.where(possible, distances.argmin(1), own)
    option_images = torch.stack([images, images, images[other_image], images], dim=1)
    option_texts = torch.stack([texts, texts[other_text], texts, texts[hard]], dim=1)
    return image._replace(rows=option_images.flatten()), text._replace(rows=option_texts.flatten())


class TwoImages(NamedTuple):
    """Two images for each of P texts, as pairs that show them, and which of the two the text is of."""

    first: Tensor
    """[P]."""
    second: Tensor
    """[P]."""
    labels: Tensor
    """[P]: 0 the first, 1 the second, 2 neither."""


def two_images(likeness: Tensor, *, generator: torch.Generator | None = None) -> TwoImages:
    """Draw a second image for two thirds of the texts, on either side, and two wrong ones for the others.

    In proportion to ``likeness`` [P, P], 0 where a pair shows the same image. ALBEF's text assignment, section 5.
    """
    enough = (likeness > 0).sum(1, keepdim=True) > 1
    weights = torch.where(enough, likeness, torch.ones_like(likeness))
    alone = len(likeness) < 2  # nothing else can be shown
    others = torch.multinomial(weights, 2, replacement=alone, generator=generator)
    own = torch.arange(len(likeness), device=likeness.device)
    neither = _draw(own, generator) < 1 / 3
    turned = _draw(own, generator) < 1 / 2
    first = torch.where(neither, others[:, 0], torch.where(turned, others[:, 0], own))
    second = torch.where(neither, others[:, 1], torch.where(turned, own, others[:, 0]))
    return TwoImages(first, second, torch.where(neither, 2, turned.long()))


def own_texts(text: Text) -> Text:
    """Lay texts out so that every pair has its own copy, ready to be hidden in its own way."""
    segments = None if text.segments is None else per_pair(text.segments, text.rows)
    return Text(per_pair(text.tokens, text.rows), per_pair(text.mask, text.rows), segments=segments)

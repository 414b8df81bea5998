"""ALBEF: align before fuse.  Li et al. 2021, arXiv 2107.07651.

Unusual:
- one BERT does two things: its lower half reads a text alone, its upper half fuses it with an image (section 3.1);
- images and texts are contrasted before they are fused, with a slow twin's features and a queue of past ones, and
  what the contrast takes for alike makes the hard negatives of matching (section 3.2);
- the slow twin also teaches: a share of every target is what it would have said (section 3.3);
- answers are told by a decoder; of two images a text, each fusion layer is there twice, and such a model is first
  trained to say which of two images a text belongs to (section 5).

Where the released code differs from the paper, or says more, we follow the code: the first word of a ranked answer
counts twice; the temperature is kept within 0.001 and 0.5 in pre-training, not in retrieval; the twin's share of the
targets grows over the first pass, but not in entailment; text assignment has a temperature of its own, 0.07.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlbench.models.base import Model
from vlbench.nn.aligned import AlignedEncoders, Alone, every
from vlbench.nn.contrast import Contrast, Features, MatchHead, Negatives, identities, momentum_contrast
from vlbench.nn.distilled import DistilledAnswers, DistilledLabels
from vlbench.nn.embed import TextEmbedding, per_pair
from vlbench.nn.heads import Head
from vlbench.nn.initial import draw_normal, draw_vision
from vlbench.nn.masking import IGNORED, MaskedWords, TwoImages, mask_words, own_texts, two_images
from vlbench.nn.momentum import Momentum, Queue
from vlbench.nn.objectives import distilled_word_loss, label_loss, matching_loss
from vlbench.nn.positions import resize_positions
from vlbench.nn.towers import TextTower, VisionTransformer, WordPrediction
from vlbench.types import Batch, Form, Image, States, Text


class ALBEF(Model):
    """ALign the image and text representations BEfore Fusing.

    ``keep``: how much of the slow twin stays at a step; ``alpha``: its share of the targets, where it is to
    ``distill``; ``queue``: past features that are contrasted with.
    """

    sees = "pixels"
    learns = "shares"

    def __init__(
        self,
        *,
        vocabulary: int,
        image_size: int,
        width: int = 768,
        heads: int = 12,
        inner: int | None = None,
        layers: int = 12,
        fusion_from: int = 6,
        decoder_layers: int = 6,
        patch: int = 16,
        vision_width: int = 768,
        vision_heads: int = 12,
        vision_inner: int | None = None,
        vision_layers: int = 12,
        vision_epsilon: float = 1e-6,
        embed: int = 256,
        queue: int = 65536,
        keep: float = 0.995,
        alpha: float = 0.4,
        distill: bool = True,
        positions: int = 512,
        segments: int = 2,
        dropout: float = 0.1,
        mask_token: int = 103,
        special_tokens: tuple[int, ...] = (0, 101, 102),
        form: Form | None = None,
        pretraining: bool = False,
    ) -> None:
        super().__init__()
        self.width, self.vocabulary, self.keep = width, vocabulary, keep
        self.alpha, self.distill, self.pretraining = alpha, distill, pretraining
        self.mask_token, self.special_tokens = mask_token, special_tokens

        def bert(layers: int, cross_from: int, source_width: int) -> TextTower:
            embedding = TextEmbedding(vocabulary, width, positions=positions, segments=segments, dropout=dropout)
            tower = TextTower(
                embedding, width, heads, layers=layers, cross_from=cross_from, source_width=source_width,
                inner=inner, dropout=dropout,
            )  # fmt: skip
            return tower.apply(partial(draw_normal, width=width))

        # Section 3.1: image encoder, text encoder, fusion
        image = VisionTransformer(
            image_size, patch, vision_width, layers=vision_layers, heads=vision_heads, inner=vision_inner,
            epsilon=vision_epsilon,
        )  # fmt: skip
        twins = form == "compare"
        contrasts, predicts = pretraining or form == "match", form == "classify" or (pretraining and not twins)
        self.encoders = AlignedEncoders(
            draw_vision(image),
            bert(layers + (layers - fusion_from if twins else 0), fusion_from, vision_width),
            embed=embed if contrasts else 0,
            words=WordPrediction(width, vocabulary).apply(partial(draw_normal, width=width)) if predicts else None,
            twins=twins,
            end=special_tokens[2] if len(special_tokens) > 2 else None,
        )
        self.decoder = partial(bert, decoder_layers, 0, width)
        self.needs_words = pretraining  # and where a head tells answers; labels (entailment) need none
        # Section 3.2: what the objectives add
        if contrasts:
            self.temperature = nn.Parameter(torch.tensor(0.07))
        if contrasts and not twins:
            self.matching_head = nn.Linear(width, 2)
            self.queue = Queue(queue, embed, ids=form == "match")
        # Section 5: text assignment
        if pretraining and twins:
            self.assignment_head = nn.Linear(width, 3)
        # Section 3.3: the slow twin
        follows = (contrasts and not twins) or (distill and not pretraining and form in ("classify", "compare"))
        self.momentum = Momentum(encoders=self.encoders) if follows else None

    @property
    def slow(self) -> AlignedEncoders:
        """The slow twin of the encoders."""
        assert self.momentum is not None  # what this model is for has one
        return cast(AlignedEncoders, self.momentum.get_submodule("encoders"))

    def follow(self) -> None:
        """Let the slow twin make its step; before each look at it, as the authors do."""
        assert self.momentum is not None
        self.momentum.update(self.keep, encoders=self.encoders)

    def share(self, *, ramp: bool = True) -> float:
        """Say what share of the targets is the slow twin's; ``ramp``: it grows over the first pass."""
        return self.alpha * (min(1.0, self.epoch) if ramp else 1.0) * self.distill

    def encode(self, image: Image, text: Text) -> States:
        """Read pairs: each image and each text alone, once; then both together."""
        states: States = self.encoders(image, text)
        return states

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Hide words and draw negatives for the three objectives; a model for two images assigns texts."""
        image, text = batch.image, own_texts(self.encoders.unended(batch.text))
        if self.encoders.twins:
            alone, rows = self.encoders.alone(image, text), every(image.rows, image.values)
            drawn = two_images(self.likeness(alone.images.detach(), image))
            drawn = TwoImages(rows[drawn.first], rows[drawn.second], drawn.labels)
            return {"text_assignment": label_loss(self.assign(alone, text.mask, drawn), drawn.labels)}
        hidden = mask_words(text, vocabulary=self.vocabulary, mask=self.mask_token, kept=self.special_tokens, rate=0.15)
        return self.objectives(image, text, hidden, alpha=self.share())

    def objectives(
        self, image: Image, text: Text, hidden: MaskedWords, *, alpha: float, negatives: Negatives | None = None
    ) -> dict[str, Tensor]:
        """Compute the losses of section 3.2, a text a pair; ``negatives`` are drawn where not given."""
        alone, slow, contrast = self.contrast(image, text, alpha=alpha)
        fused = self.fuse_mixed(alone, text.mask, image.rows, negatives or contrast.negatives())
        return {
            "contrastive": contrast.loss,
            "matching": self.matching(fused),
            "masked_lm": self.masked_lm(hidden, alone.images, slow.images, image.rows, alpha=alpha),
        }

    def contrast(self, image: Image, text: Text, *, alpha: float) -> tuple[Alone, Alone, Contrast]:
        """Align images and texts before they are fused: what the encoders and their twin read, and the contrast."""
        alone = self.encoders.alone(image, text)
        with torch.no_grad():
            if self.pretraining:
                self.temperature.clamp_(0.001, 0.5)
            self.follow()
            slow = self.slow.alone(image, text)
            slowly = self.slow.features(slow, image.rows)
        features, ids = self.encoders.features(alone, image.rows), identities(image)
        found = momentum_contrast(features, slowly, self.queue, self.temperature, ids, alpha=alpha)
        return alone, slow, found

    def fuse_mixed(self, alone: Alone, mask: Tensor, rows: Tensor | None, negatives: Negatives) -> Tensor:
        """Fuse P pairs, then their texts with wrong images, then wrong texts with their images: [3P, L, D]."""
        rows = every(rows, alone.images)
        words, masks = (torch.cat([part, part, part[negatives.texts]]) for part in (alone.words, mask))
        return self.encoders.fuse(words, masks, alone.images, torch.cat([rows, rows[negatives.images], rows]))

    def matching(self, fused: Tensor) -> Tensor:
        """Ask of mixed pairs [3P, L, D] whether text and image belong together."""
        right = torch.arange(len(fused), device=fused.device) < len(fused) // 3
        return matching_loss(self.matching_head(fused[:, 0]), right)

    def masked_lm(
        self, hidden: MaskedWords, images: Tensor, slow_images: Tensor, rows: Tensor | None, *, alpha: float
    ) -> Tensor:
        """Predict hidden words by text and image; the slow twin teaches a share ``alpha`` (section 3.3)."""
        asked = hidden.labels != IGNORED
        labels = hidden.labels[asked]
        fast = self.encoders.predict(self.fuse_hidden(self.encoders, hidden, images, rows)[asked])
        with torch.no_grad():
            slow = self.slow.predict(self.fuse_hidden(self.slow, hidden, slow_images, rows)[asked])
        return (1 - alpha) * label_loss(fast, labels) + alpha * distilled_word_loss(fast, labels, slow)

    def fuse_hidden(
        self, encoders: AlignedEncoders, hidden: MaskedWords, images: Tensor, rows: Tensor | None
    ) -> Tensor:
        """Read texts with hidden words, by the encoders or their twin, looking at images: [P, L, D]."""
        return encoders.fuse(encoders.read(hidden.text), hidden.text.mask, images, rows)

    @torch.no_grad()
    def likeness(self, images: Tensor, image: Image) -> Tensor:
        """Say by which weights pairs are shown each other's image in text assignment: [P, P], 0 for the same."""
        features, ids = per_pair(self.encoders.image_features(images), image.rows), identities(image)
        return functional.softmax(features @ features.T / 0.07, dim=1).masked_fill(ids[:, None] == ids, 0)

    def assign(self, alone: Alone, mask: Tensor, drawn: TwoImages) -> Tensor:
        """Ask whether a text belongs to its first image, its second or neither: [P, 3] (section 5)."""
        rows = torch.stack([drawn.first, drawn.second], dim=1).flatten()
        logits: Tensor = self.assignment_head(self.encoders.fuse(alone.words, mask, alone.images, rows)[:, 0])
        return logits

    def retrieval_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Contrast and match pairs; those of the same image are no negatives, in the queue neither."""
        text = own_texts(self.encoders.unended(batch.text))
        alone, _, contrast = self.contrast(batch.image, text, alpha=self.share())
        fused = self.fuse_mixed(alone, text.mask, batch.image.rows, contrast.negatives())
        return {"contrastive": contrast.loss, "matching": self.matching(fused)}

    def matched(self, batch: Batch) -> tuple[Features, Tensor]:
        """Embed pairs, and score each by the logit of a match alone, as the authors rank them."""
        image, text = batch.image, own_texts(self.encoders.unended(batch.text))
        alone = self.encoders.alone(image, text)
        return self.encoders.features(alone, image.rows), self.match_scores(alone, text.mask, image.rows)

    def match_scores(self, alone: Alone, mask: Tensor, rows: Tensor | None) -> Tensor:
        """Score texts [P, L, D] with the images they look at: [P]."""
        scores: Tensor = self.matching_head(self.encoders.fuse(alone.words, mask, alone.images, rows)[:, 0])[:, 1]
        return scores

    def head(self, form: Form, answers: int, texts: Text | None = None) -> Head:
        """Decode answers that are texts, classify without (entailment) and two images; match (section 5)."""
        distill = self.distill and self.momentum is not None
        if form == "classify" and texts is not None:
            self.needs_words = True
            return DistilledAnswers(texts, self.decoder(), distill=distill)
        if form in ("classify", "compare"):
            return DistilledLabels(self.width, answers, distill=distill, ramp=form == "compare")
        return MatchHead() if form == "match" else super().head(form, answers, texts)

    def decays(self, name: str, parameter: Tensor) -> bool:
        """Spare vectors; an image's first token is a table of one row in the authors' code, so it decays."""
        return parameter.dim() != 1 or name.endswith("first_token")

    def may_be_new(self, name: str) -> bool:
        """Let files lack the slow twin, past features, and what the next task adds.

        That is the layers at the end for a second image and the head of text assignment; a file of entailment has no
        output of words, nor is there any use for one where labels are classified.
        """
        if name.startswith("encoders.text.layers.") and self.encoders.twins:
            lowest, layers = self.encoders.text.cross_from, len(self.encoders.text.layers)
            return int(name.split(".")[3]) >= (lowest + layers) // 2
        if name.startswith("encoders.words."):
            return not self.needs_words
        return name.startswith(("momentum.", "queue.", "assignment_head."))

    def begin_anew(self, new: Sequence[str], used: Mapping[str, Tensor]) -> None:
        """Give each fusion layer of a file for one image to both images, as Pretrain_nlvr.py does."""
        layers, lowest = self.encoders.text.layers, self.encoders.text.cross_from
        if any(name.startswith(f"encoders.text.layers.{len(layers) - 1}.") for name in new):
            # from the file, not the layers: in pairs they share keys and values, so that the next layer's lie there
            for place in range((len(layers) - lowest) // 2):
                stem = f"encoders.text.layers.{lowest + place}."
                state = {name.removeprefix(stem): part for name, part in used.items() if name.startswith(stem)}
                layers[lowest + 2 * place].load_state_dict(state)
                layers[lowest + 2 * place + 1].load_state_dict(state)
        # an output of words that no head asks for is no reason to restart a twin that the file has
        super().begin_anew([name for name in new if not name.startswith("momentum.encoders.words.")], used)

    def restart_momentum(self) -> None:
        """Let the slow twin begin where the encoders are."""
        if self.momentum is not None:
            self.momentum.restart(encoders=self.encoders)

    def resized(self, name: str, stored: Tensor, wanted: Tensor) -> Tensor | None:
        """Interpolate the positions of patches for images of another size, the twin's too; a queue begins anew."""
        if name.startswith("model.queue."):
            return wanted
        return resize_positions(stored.flatten(0, -2), len(wanted)) if name.endswith("image.positions") else None

"""BLIP: bootstrapping language-image pre-training.  Li et al. 2022, arXiv 2201.12086.

Unusual:
- one text transformer in three modes: it reads a text alone, it reads a text together with an image (cross-attention
  in every layer), or it writes a text from an image (causal); section 3.1;
- reading and writing share all their weights in pre-training but those of self-attention (section 3.2);
- a mark in the first place says which mode is meant: [CLS], [ENC] or [DEC]. The latter two are new words;
- of two images (NLVR2) each is looked at by an attention of its own, and what both saw is merged (section 5.4).

What the paper leaves open is as in the released code: a mark takes the place of [CLS]; wrong pairs are drawn by the
slow twin's likeness in pre-training, by the model's own in retrieval; losses on words are smoothed by 0.1, and answers
are ranked by that smoothed loss. Captions are scored by their whole length, prompt included.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlbench.models.base import Model
from vlbench.nn.answering import DecodedAnswers, Question, next_words
from vlbench.nn.attention import causal
from vlbench.nn.captions import PromptedCaptions
from vlbench.nn.contrast import Features, MatchHead, Negatives, alike_negatives, identities, momentum_contrast
from vlbench.nn.decode import NextWords, Rules
from vlbench.nn.embed import TextEmbedding, per_pair, starting_with
from vlbench.nn.gather import gather, gather_texts
from vlbench.nn.heads import Encodes, Head
from vlbench.nn.initial import draw_normal, draw_vision
from vlbench.nn.masking import IGNORED, own_texts
from vlbench.nn.momentum import Momentum, Queue
from vlbench.nn.objectives import masked_lm_loss, matching_loss
from vlbench.nn.positions import resize_positions
from vlbench.nn.towers import TextTower, VisionTransformer, WordPrediction
from vlbench.nn.twins import TwoImages
from vlbench.types import Batch, Form, Image, States, Text


class Aligned(NamedTuple):
    """What contrast and matching make of P pairs."""

    losses: dict[str, Tensor]
    images: Tensor
    """[P, K, S]."""
    fast: Features
    slow: Features
    matching: Tensor
    """[3 P, 2]: the pairs, texts with wrong images, images with wrong texts; class 1 is a match."""


class BLIP(Model):
    """Bootstrapping Language-Image Pre-training: a multimodal mixture of encoder and decoder."""

    sees = "pixels"
    learns = "shares"

    def __init__(
        self,
        *,
        vocabulary: int,
        image_size: int = 224,
        patch: int = 16,
        image_width: int = 768,
        image_layers: int = 12,
        image_heads: int = 12,
        image_inner: int | None = None,
        image_epsilon: float = 1e-6,
        width: int = 768,
        layers: int = 12,
        heads: int = 12,
        inner: int | None = None,
        positions: int = 512,
        embedding: int = 256,
        queue: int = 57600,
        momentum: float = 0.995,
        alpha: float = 0.4,
        all_negatives: bool = True,
        smoothing: float = 0.1,
        merge_from: int | None = None,
        dropout: float = 0.1,
        drop_path: float = 0.0,
        special_tokens: tuple[int, ...] = (0, 101, 102),
        decode_token: int | None = None,
        encode_token: int | None = None,
        prompt: tuple[int, ...] = (),
        form: Form | None = None,
        pretraining: bool = False,
    ) -> None:
        super().__init__()
        self.width, self.kept, self.alpha, self.all_negatives = width, momentum, alpha, all_negatives
        self.smoothing, self.prompt, self.positions = smoothing, prompt, positions
        self.merge_from = layers // 2 if merge_from is None else merge_from
        self.padding, self.end = special_tokens[0], special_tokens[-1]
        # the two marks are appended to the vocabulary unless it has them
        self.decode_token = vocabulary if decode_token is None else decode_token
        self.encode_token = vocabulary + 1 if encode_token is None else encode_token
        vocabulary = max(vocabulary, self.decode_token + 1, self.encode_token + 1)
        # Section 3.1: model architecture
        self.vision = VisionTransformer(
            image_size, patch, image_width, layers=image_layers, heads=image_heads, inner=image_inner,
            epsilon=image_epsilon, drop_path=drop_path,
        )  # fmt: skip

        def text_tower(source_width: int) -> TextTower:
            words = TextEmbedding(vocabulary, width, positions=positions, segments=0, dropout=dropout)
            return TextTower(
                words, width, heads, layers=layers, source_width=source_width, inner=inner, dropout=dropout
            )

        if pretraining or form != "write":
            self.text_encoder = text_tower(image_width)
        self.tells_answers = form == "classify" and not pretraining
        if pretraining or form in ("classify", "write"):  # to answer, the decoder looks at the question, not the image
            self.text_decoder = text_tower(width if self.tells_answers else image_width)
            self.word_head = WordPrediction(width, vocabulary)
        self.apply(partial(draw_normal, width=width))
        draw_vision(self.vision)
        if pretraining:  # section 3.2: encoder and decoder differ in self-attention only
            self.text_decoder.embedding = self.text_encoder.embedding
            for decoding, encoding in zip(self.text_decoder.layers, self.text_encoder.layers, strict=True):
                decoding.cross, decoding.feed_forward = encoding.cross, encoding.feed_forward
        if pretraining or form == "match":
            self.image_projection = nn.Linear(image_width, embedding)
            self.text_projection = nn.Linear(width, embedding)
            self.matching_head = nn.Linear(width, 2)
            if queue:  # 0: only to answer
                self.temperature = nn.Parameter(torch.tensor(0.07))
                self.momentum = Momentum(**self.followed())
                self.queue = Queue(queue, embedding, ids=not pretraining)

    def followed(self) -> dict[str, nn.Module]:
        """Name the modules that have a slow twin."""
        names = ("vision", "text_encoder", "image_projection", "text_projection")
        return {name: self.get_submodule(name) for name in names}

    # Section 3.1: the three modes

    def encode(self, image: Image, text: Text) -> States:
        """Read pairs: images once, then each text together with its image."""
        images = self.look(image)
        words = self.read_with(images, text, image.rows)
        return States(words, per_pair(images, image.rows), words[:, 0])

    def look(self, image: Image) -> Tensor:
        """Read images alone: pixels [I, 3, H, W] -> [I, K, S]."""
        states: Tensor = self.vision(image.values)
        return states

    def begin(self, text: Text) -> Tensor:
        """Embed texts that are to be read with an image: [T, L] -> [T, L, D]."""
        words: Tensor = self.text_encoder.embedding(starting_with(self.encode_token, text))
        return words

    def read_with(self, images: Tensor, text: Text, rows: Tensor | None = None) -> Tensor:
        """Read the text of each pair while looking at its image [I, K, S], of which rows [P] say which -> [P, L, D]."""
        words, mask = per_pair(self.begin(text), text.rows), per_pair(text.mask, text.rows)
        states: Tensor = self.text_encoder(words, mask, images, None, rows)
        return states

    def write_from(self, source: Tensor, text: Text, source_mask: Tensor | None = None) -> Tensor:
        """Say which state follows each word [P, L, D], looking at a source [B, K, S] (``text.rows``: which)."""
        words = self.text_decoder.embedding(starting_with(self.decode_token, text))
        states: Tensor = self.text_decoder(words, causal(text.mask), source, source_mask, text.rows)
        return states

    def word_logits(self, states: Tensor) -> Tensor:
        """[..., D] -> [..., vocabulary]; the output words are the input words' embeddings."""
        logits: Tensor = self.word_head(states, self.text_decoder.embedding.words)
        return logits

    def continuing(self, source: Tensor) -> NextWords:
        """Say how a text goes on that is written from a source [B, K, S]."""

        def logits(ids: Tensor, origin: Tensor) -> Tensor:
            text = Text(ids, torch.ones_like(ids, dtype=torch.bool), origin)
            return self.word_logits(self.write_from(source, text)[:, -1])

        return logits

    # Section 3.2: pre-training objectives

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Contrast, match and write every pair, or what the stage asks; the twin's share grows over two passes."""
        if self.stage == "captioner":  # section 3.3
            return self.head("write", 0).losses(self, batch)
        alpha = self.alpha * min(1.0, self.epoch / 2)
        aligned = self.align(batch.image, batch.text, identities(batch.image), alpha=alpha, pretraining=True)
        words = {} if self.stage == "filter" else {"words": self.writing_loss(aligned.images, own_texts(batch.text))}
        return {**aligned.losses, **words}

    def align(
        self,
        image: Image,
        text: Text,
        ids: Tensor,
        *,
        alpha: float,
        pretraining: bool = False,
        negatives: Negatives | None = None,
    ) -> Aligned:
        """Contrast the pairs, whose images are known by ids [P], then match them against wrong ones like them.

        ``negatives``: the wrong ones where they are given, not drawn.
        """
        with torch.no_grad():
            self.temperature.clamp_(0.001, 0.5)
        images, fast = alone(self, image, text)
        with torch.no_grad():
            self.momentum.update(self.kept, **self.followed())
            slow = alone(self.momentum, image, text)[1]
        contrast = momentum_contrast(fast, slow, self.queue, self.temperature, ids, alpha=alpha)
        images, text = per_pair(images, image.rows), own_texts(text)
        everywhere = self.all_negatives and not pretraining
        if negatives is None and pretraining:
            negatives = contrast.negatives(floor=1e-4)
        elif negatives is None:
            negatives = alike_negatives(fast, ids, self.temperature, everywhere=everywhere)
        other_images = gather(images, gradient=True) if everywhere else images
        other_texts = Text(*map(gather_texts, text[:2])) if everywhere else text
        wrong_texts = Text(other_texts.tokens[negatives.texts], other_texts.mask[negatives.texts])
        tried = ((images, text, None), (other_images, text, negatives.images), (images, wrong_texts, None))
        logits = self.matching_head(torch.cat([self.read_with(*one)[:, 0] for one in tried]))
        matched = torch.arange(len(logits), device=logits.device) < len(images)
        losses = {"contrast": contrast.loss, "matching": matching_loss(logits, matched)}
        return Aligned(losses, images, fast, slow, logits)

    def writing_loss(self, images: Tensor, text: Text, told: int = 1) -> Tensor:
        """Compute the language-model loss of texts [P, L] from their images; the first ``told`` words are not asked."""
        labels = next_words(text)
        labels[:, : told - 1] = IGNORED
        logits = self.word_logits(self.write_from(images, text)[:, :-1])
        return masked_lm_loss(logits, labels, smoothing=self.smoothing)

    # Section 5: downstream tasks

    def head(self, form: Form, answers: int, texts: Text | None = None) -> Head:
        """Rank answers by the decoder, merge two images, match by both scores, write captions; choose as all do."""
        if form == "classify" and texts is not None:
            return WrittenAnswers(texts, smoothing=self.smoothing)
        if form == "compare":
            return TwoImages(self.text_encoder, answers, merge_from=self.merge_from)
        if form == "match":
            return MatchHead()
        if form == "write":
            longest = min(20, self.positions)
            return PromptedCaptions((self.decode_token, *self.prompt), Rules(self.end, longest, 5, self.padding))
        return super().head(form, answers, texts)

    def retrieval_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Contrast and match, as in pre-training; the slow twin's share of the targets grows over the first pass."""
        alpha = self.alpha * min(1.0, self.epoch)  # train_retrieval.py
        return self.align(batch.image, batch.text, identities(batch.image), alpha=alpha).losses

    def matched(self, batch: Batch) -> tuple[Features, Tensor]:
        """Return each pair's embeddings, and its score: how well it matches, plus the embeddings' cosine."""
        images, seen = alone(self, batch.image, batch.text)
        logits = self.matching_head(self.read_with(images, batch.text, batch.image.rows)[:, 0])
        return seen, logits[:, 1] + (seen.image * seen.text).sum(-1)

    def may_be_new(self, name: str) -> bool:
        """Let a file lack a slow twin and past features."""
        return name.startswith(("momentum.", "queue."))

    def restart_momentum(self) -> None:
        """Let the slow twin begin from the weights that were loaded."""
        self.momentum.restart(**self.followed())

    def resized(self, name: str, stored: Tensor, wanted: Tensor) -> Tensor | None:
        """Bring patch positions to another image size; a queue of another size begins anew.

        So do the keys and values of a decoder that tells answers, if it looked at images of another width than the
        words have (ViT-L); their biases are the file's, as in the authors' models/blip_vqa.py.
        """
        if name.endswith("vision.positions"):
            return resize_positions(stored.reshape(-1, stored.shape[-1]), len(wanted))
        looks = self.tells_answers and name.startswith("model.text_decoder.") and ".cross.part." in name
        return wanted if looks or name.startswith("model.queue.") else None


class WrittenAnswers(DecodedAnswers):
    """Answers questions by the decoder, which looks at the question as it was read with its image (section 5.3)."""

    def logits(self, model: Encodes, answers: Text, question: Question) -> Tensor:
        """[P, L, vocabulary]."""
        blip = cast(BLIP, model)
        return blip.word_logits(blip.write_from(question.states, answers, per_pair(question.mask, answers.rows)))


def alone(parts: nn.Module, image: Image, text: Text) -> tuple[Tensor, Features]:
    """Read images and texts apart, by a model's parts or its slow twin's: [I, K, S] and the pairs' embeddings."""
    images: Tensor = parts.get_submodule("vision")(image.values)
    words = parts.get_submodule("text_encoder")(parts.get_submodule("text_encoder.embedding")(text), text.mask)
    image_vectors = parts.get_submodule("image_projection")(images[:, 0])
    text_vectors = parts.get_submodule("text_projection")(words[:, 0])
    pairs = per_pair(image_vectors, image.rows), per_pair(text_vectors, text.rows)
    return images, Features(*(functional.normalize(part, dim=-1) for part in pairs))

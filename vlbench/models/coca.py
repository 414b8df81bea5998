"""CoCa: contrastive captioners.  Yu et al. 2022, arXiv 2205.01917.

Unusual:
- one causal text decoder in two halves: the lower reads words only, the upper also looks at the image (section 3.2);
- a class token behind the text gives its embedding, so that contrast and captioning share one pass (section 3.2);
- attentive poolers make of an image one vector to compare and a sequence to look at (section 3.2).

The authors released no code; where the paper and open_clip (Ilharco et al. 2021), which trained it in public,
differ, we follow open_clip: a layer of the upper half has two feed-forward parts, one after each attention (the
paper: one); one pooler makes both the vector, its first query, and the sequence (the paper: two poolers, the vector
from the sequence); the output words are not the input words' embeddings. Its released weights were trained with a
mask that is one place off: the class token does not see itself but, where there is one, the first padding position
(nn/captioner.py). In open_clip id 0 is both padding and a word; here the mask says what is padding, and padding
positions hold row 0 of the embedding (``padding_row``), whatever id the tokeniser pads with.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlbench.models.base import Model
from vlbench.nn.attention import causal
from vlbench.nn.captioner import EPSILON, CausalText, FusionLayer, Read, continued, draw_attention
from vlbench.nn.decode import NextWords, Rules, beam_search, words_of
from vlbench.nn.embed import per_pair
from vlbench.nn.gather import gather
from vlbench.nn.heads import Encodes, Head, ScoringHead
from vlbench.nn.masking import IGNORED, own_texts
from vlbench.nn.objectives import contrastive_loss, masked_lm_loss
from vlbench.nn.pool import AttentivePooler
from vlbench.nn.positions import resize_positions
from vlbench.nn.towers import ContrastiveVision
from vlbench.types import Batch, Form, Given, Image, Misuse, States, Text, Tokens, Vectors


class CoCa(Model):
    """Contrastive Captioner."""

    sees = "pixels"

    def __init__(
        self,
        *,
        vocabulary: int,
        image_size: int = 224,
        patch: int = 32,
        image_width: int = 768,
        image_heads: int = 12,
        image_layers: int = 12,
        queries: int = 256,
        pooler_heads: int = 8,
        width: int = 512,
        heads: int = 8,
        fusion_heads: int | None = None,
        inner_ratio: float = 4.0,
        text_layers: int = 12,
        fusion_layers: int = 12,
        positions: int = 77,
        padding_row: int = 0,
        special_tokens: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        # CLIP's vocabulary ends with the start and the end mark
        self.special_tokens = special_tokens or (0, vocabulary - 2, vocabulary - 1)
        # Section 3.2: image encoder, attentional pooler
        self.vision = ContrastiveVision(
            image_size,
            patch,
            image_width,
            layers=image_layers,
            heads=image_heads,
            inner=int(inner_ratio * image_width),
            last_norm=False,
        )
        self.pooler = AttentivePooler(queries, width, pooler_heads, source_width=image_width)
        self.image_norm = nn.LayerNorm(width, eps=EPSILON)
        self.image_projection = nn.Parameter(torch.empty(width, width))
        # Section 3.2: unimodal and multimodal text decoder
        inner = int(inner_ratio * width)
        self.text = CausalText(
            vocabulary, width, heads, layers=text_layers, inner=inner, positions=positions, padding=padding_row
        )
        self.fusion = nn.ModuleList(
            FusionLayer(width, fusion_heads or heads, inner=inner) for _ in range(fusion_layers)
        )
        self.fusion_norm = nn.LayerNorm(width, eps=EPSILON)
        self.word_projection = nn.Parameter(torch.empty(width, vocabulary))
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # section 4.1: the temperature
        self._initialise()

    def _initialise(self) -> None:
        """Draw weights as open_clip does: image and fusion as torch's attention is drawn, text by its width."""
        draw_attention(self)
        share = self.vision.positions.shape[-1] ** -0.5
        for part in (self.vision.first_token, self.vision.positions, self.image_projection):
            nn.init.normal_(part, std=share)
        self.text.initialise()
        nn.init.normal_(self.word_projection, std=self.width**-0.5)

    def look(self, image: Image) -> Read:
        """Encode images: the pooler's first query to compare, the others [I, queries - 1, D] to look at."""
        pooled = self.image_norm(self.pooler(self.vision(image.values)))
        return Read(pooled[:, 0] @ self.image_projection, pooled[:, 1:])

    def read(self, text: Text) -> Read:
        """Encode texts [T, L] by themselves."""
        encoded: Read = self.text(text)
        return encoded

    def fuse(self, words: Tensor, image: Tensor, rows: Tensor | None = None) -> Tensor:
        """Let words [P, L, D] look at image states [I, K, D], those of the image that ``rows`` [P] names."""
        before = causal(torch.ones(1, words.shape[1], dtype=torch.bool, device=words.device))
        for layer in self.fusion:
            words = layer(words, before, image, rows)
        fused: Tensor = self.fusion_norm(words)
        return fused

    def word_logits(self, states: Tensor) -> Tensor:
        """Predict the next word: [P, L, D] -> [P, L, vocabulary]."""
        return states @ self.word_projection

    def embed(self, image: Image, text: Text) -> tuple[Tensor, Tensor]:
        """Return vectors [P, D] of length 1 of each pair's image and text; neither looks at the other."""
        return self._unit(self.look(image), image), self._unit(self.read(text), text)

    def _unit(self, read: Read, of: Image | Text) -> Tensor:
        return per_pair(functional.normalize(read.latent, dim=-1), of.rows)

    def encode(self, image: Image, text: Text) -> States:
        """Read pairs; pooled is the state of the last word, which has seen all of both."""
        look, read = self.look(image), self.read(text)
        fused = self.fuse(per_pair(read.states, text.rows), look.states, image.rows)
        places = torch.arange(text.mask.shape[1], device=text.mask.device)
        last = per_pair((places * text.mask).amax(1), text.rows)
        pooled = fused[torch.arange(len(fused), device=fused.device), last]
        return States(fused, per_pair(look.states, image.rows), pooled)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Compare and caption (equation 4); nothing is drawn, and words are read once for both."""
        image, text = batch.image, batch.text
        look, read = self.look(image), self.read(text)
        fused = self.fuse(per_pair(read.states, text.rows), look.states, image.rows)
        return {
            "contrastive": self.contrastive(self._unit(look, image), self._unit(read, text)),
            "captioning": self.captioning(fused, own_texts(text)),
        }

    def contrastive(self, images: Tensor, texts: Tensor) -> Tensor:
        """Compute equation 2, a mean of both directions, over the pairs [P, D] of all processes."""
        if self.training:  # open_clip keeps the scale from 1 to 100 after each step
            with torch.no_grad():
                self.log_scale.clamp_(0, math.log(100))
        images, texts = gather(images, gradient=True), gather(texts, gradient=True)
        similar = self.log_scale.exp() * images @ texts.T
        return (contrastive_loss(similar) + contrastive_loss(similar.T)) / 2

    def captioning(self, fused: Tensor, text: Text) -> Tensor:
        """Compute equation 3, a mean over words, from fused states [P, L, D] and their texts [P, L]."""
        labels = text.tokens.where(text.mask, IGNORED)[:, 1:]
        return masked_lm_loss(self.word_logits(fused[:, :-1]), labels)

    @torch.no_grad()
    def generate(self, image: Image, *, beams: int = 6, longest: int = 30, shortest: int = 5) -> list[tuple[int, ...]]:
        """Caption each image [I] by beam search, in open_clip's lengths (both marks included)."""
        rules = Rules(self.special_tokens[2], min(longest, self.text.longest), shortest)
        prompt = torch.full((len(image.values), 1), self.special_tokens[1], device=image.values.device)
        written = beam_search(self.next_words(image), prompt, rules, beams=beams)
        return words_of(written.ids, rules, start=1)

    def next_words(self, image: Image) -> NextWords:
        """Return what predicts the word after texts [N, L] of the images [N] they caption."""
        look = self.look(image).states

        def predict(ids: Tensor, rows: Tensor) -> Tensor:
            words = self.read(Text(ids, torch.ones_like(ids, dtype=torch.bool))).states
            return self.word_logits(self.fuse(words, look, rows)[:, -1])

        return predict

    def head(self, form: Form, answers: int, texts: Text | None = None) -> Head:
        """Answer labels from the pooled decoder, retrieve by the two vectors, write by the decoder (section 4.2)."""
        if form == "classify":
            return PooledHead(self.width, self.heads, answers, told=texts)
        if form == "compare":
            return PooledHead(self.width, self.heads, answers, images=2)
        if form == "choose":
            return PooledHead(self.width, self.heads, 1)
        if form == "match":
            return ContrastiveHead()
        if form == "write":
            return CaptioningHead()
        raise Misuse(f"CoCa has no head for the form '{form}'; it can: classify, compare, choose, match, write")

    def part_of(self, name: str) -> Literal["tower", "fusion"]:
        """Count the upper half of the decoder as fusion."""
        return "fusion" if name.startswith(("fusion", "word_projection")) else "tower"

    def resized(self, name: str, stored: Tensor, wanted: Tensor) -> Tensor | None:
        """Bring the patches' positions to another image size, as open_clip does."""
        if name == "model.vision.positions" and stored.shape[-1] == wanted.shape[-1]:
            try:
                return resize_positions(stored, len(wanted), antialias=True)
            except ValueError:  # not of square images
                return None
        return None


class PooledHead(ScoringHead):
    """One more pooler, of a single query, over the decoder's states, and a linear classifier (appendix B).

    The vectors of two images stand side by side. ``told``: the closed answers as word pieces; the decoder then also
    learns to caption, each question followed by an answer, as appendix B has it for VQA. Being causal it reads a
    question alike with and without an answer behind it, so one pass serves both.
    """

    told: Tensor
    told_mask: Tensor

    def __init__(self, width: int, heads: int, answers: int, *, images: int = 1, told: Text | None = None) -> None:
        super().__init__()
        self.pooler = AttentivePooler(1, width, heads)
        draw_attention(self.pooler)
        self.classifier = nn.Linear(images * width, answers)
        self.tells = told is not None
        if told is not None:  # the list is the data set's, so no checkpoint holds it; its start marks are left out
            self.register_buffer("told", told.tokens[:, 1:], persistent=False)
            self.register_buffer("told_mask", told.mask[:, 1:], persistent=False)

    def scores(self, model: Encodes, batch: Batch) -> Tensor:
        """[B, answers], or [B, K] of an example's K texts."""
        mask = per_pair(batch.text.mask, batch.text.rows)
        scores = self._scored(model.encode(batch.image, batch.text).text, mask)
        return scores.reshape(-1, batch.fold[1] * scores.shape[-1])

    def _scored(self, states: Tensor, mask: Tensor) -> Tensor:
        pooled = self.pooler(states, mask)
        scores: Tensor = self.classifier(pooled.reshape(-1, self.classifier.in_features))
        return scores

    def losses(self, model: Encodes, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of the answers and, where they are told as texts, that of captioning."""
        if not self.tells:
            return super().losses(model, batch)
        assert isinstance(model, CoCa)
        text, answers = own_texts(batch.text), self._drawn(batch)
        whole = continued(text, answers, model.text.longest)
        fused = model.fuse(model.read(whole).states, model.look(batch.image).states, batch.image.rows)
        scores = self.predicted(self._scored(fused[:, : text.mask.shape[1]], text.mask[:, : fused.shape[1]]))
        return {"answer": self.loss(scores, batch), "captioning": model.captioning(fused, whole)}

    def _drawn(self, batch: Batch) -> Text:
        """Draw an answer of each question in proportion to its score; an empty one where none is right."""
        assert batch.target is not None  # the loop trains only on splits with public answers
        numbers, known = batch.target, batch.target >= 0
        if batch.target.is_floating_point():
            known = batch.target.sum(1) > 0
            numbers = torch.multinomial(batch.target.where(known[:, None], 1.0), 1).squeeze(1)
        return Text(self.told[numbers], self.told_mask[numbers] & known[:, None])


class ContrastiveHead(Head):
    """Retrieves by the two vectors alone (section 4.2.2); fine-tuned, they learn by the contrastive loss."""

    def losses(self, model: Encodes, batch: Batch) -> dict[str, Tensor]:
        """Return equation 2 over the pairs of a batch."""
        assert isinstance(model, CoCa)
        return {"contrastive": model.contrastive(*model.embed(batch.image, batch.text))}

    def answers(self, model: Encodes, batch: Batch) -> list[Given]:
        """Return both vectors of each pair."""
        assert isinstance(model, CoCa)
        images, texts = (part.detach().float().cpu().numpy() for part in model.embed(batch.image, batch.text))
        return [Given(Vectors(image, text)) for image, text in zip(images, texts, strict=True)]


class CaptioningHead(Head):
    """Writes captions; fine-tuned by the captioning loss alone (section 4.2.3)."""

    def losses(self, model: Encodes, batch: Batch) -> dict[str, Tensor]:
        """Return equation 3 over a batch's own texts."""
        assert isinstance(model, CoCa)
        states = model.encode(batch.image, batch.text).text
        return {"captioning": model.captioning(states, own_texts(batch.text))}

    def answers(self, model: Encodes, batch: Batch) -> list[Given]:
        """Return a caption of each pair's image, which is written once however many pairs show it."""
        assert isinstance(model, CoCa)
        written = model.generate(batch.image)
        rows = range(len(written)) if batch.image.rows is None else batch.image.rows.tolist()
        return [Given(Tokens(written[row])) for row in rows]

"""VLMo: one transformer with an expert for each modality.  Bao et al. 2022, arXiv 2111.02358.

Unusual:
- attention is shared by all modalities; the feed-forward part is the text's, the image's or the pair's (section 3.2);
- so one model reads a pair together (fusion), or an image and a text each alone (two encoders, for retrieval);
- words and patches are placed by a learned bias for their distance, one table for all layers; base_plus, a size of
  the released code only, has absolute positions instead, and no LayerScale;
- it is trained in stages: on images (BEiT's hidden patches), on text with the attention frozen, on pairs
  (section 3.4); what a patch is called is said by an image tokeniser, which has a stage before these.

Where the released code differs from the paper, we follow the code: contrast is also asked of a second branch, whose
last layers read each modality with the pair's experts; masked LM counts a quarter; retrieval is fine-tuned by
contrast alone and not ranked again by the fusion. The dropout of the text embedding is the rate of drop path.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from vlbench.models.masked_images import BELOW, TOKENISER, MaskedImageModel
from vlbench.nn.contrast import Features, PairedProjection, of_all_processes, together
from vlbench.nn.embed import PatchEmbedding, TextEmbedding, per_pair
from vlbench.nn.experts import DistanceBias, ModalityExpertTransformer
from vlbench.nn.gather import own_places
from vlbench.nn.heads import Encodes, Head
from vlbench.nn.initial import draw_normal, spread
from vlbench.nn.layers import Transform
from vlbench.nn.masking import MaskedWords, mask_words, own_texts
from vlbench.nn.objectives import masked_lm_loss, matching_loss
from vlbench.nn.pool import FirstToken
from vlbench.nn.positions import resize_distances, resize_positions
from vlbench.nn.reader_heads import PooledAnswerHead
from vlbench.nn.towers import patch_count, with_first
from vlbench.types import Batch, Form, Given, Image, Kind, States, Text, Vectors

NARROWEST = 544
"""The narrowest published width, that of base_plus."""
TRAINED = {
    "vision": ("patches.", "first_token", "mask_patch", "image_positions", ".attention", ".expert_scale",
               ".experts.image.", ".expert_norms.image.", "trunk.bias.", "trunk.norm.", "code_output."),
    "text": ("text_embedding.", "kinds.", ".experts.text.", ".expert_norms.text.", "trunk.bias.", "trunk.norm.",
             "word_head.", "word_output."),
}  # fmt: skip
"""Pieces of the names of what a stage trains: what BEiT has, then what is the text's; the attention stays as it was."""


class Draws(NamedTuple):
    """What is drawn for a pre-training step of P pairs."""

    words: MaskedWords
    images: Tensor
    """[P]: the pair, among those of all processes, whose image each text is wrongly given."""
    texts: Tensor
    """[P]: the pair, among those of all processes, whose text each image is wrongly given."""


class VLMo(MaskedImageModel):
    """Vision-language pre-training with mixture-of-modality-experts."""

    sees = "pixels"
    taught_by: ClassVar[Mapping[str, tuple[Kind, ...]]] = {"vision": ("images",), "text": ("texts",)}

    def __init__(
        self,
        *,
        vocabulary: int,
        image_size: int = 224,
        patch: int = 16,
        width: int = 768,
        heads: int = 12,
        inner: int | None = None,
        layers: int = 12,
        fusion_layers: int = 2,
        distances: int = 196,
        positions: int = 0,
        layer_scale: float = 0.1,
        codes: int = 8192,
        tokeniser_width: int | None = None,
        tokeniser_heads: int | None = None,
        tokeniser_layers: int | None = None,
        drop_path: float = 0.0,
        mask_token: int = 103,
        special_tokens: tuple[int, ...] = (0, 101, 102),
        form: Form = "classify",
        pretraining: bool = False,
        wanted_losses: Sequence[str] = (),
    ) -> None:
        """``distances``: the longest text of which they are known; ``positions``, if any, replace them.

        ``wanted_losses``: those of pre-training that will be asked for; what hides patches is built where they need it.
        """
        super().__init__()
        self.width, self.vocabulary, self.pretraining = width, vocabulary, pretraining
        self.mask_token, self.special_tokens = mask_token, special_tokens
        self.images = 2 if form == "compare" else 1
        patches = patch_count(image_size, patch)
        # Section 3.1: input representations
        self.text_embedding = TextEmbedding(vocabulary, width, positions=positions, dropout=drop_path)
        self.patches = PatchEmbedding(patch, width)
        self.first_token = nn.Parameter(torch.zeros(width))
        self.image_positions = nn.Parameter(torch.zeros(patches + 1, width)) if positions else None
        self.kinds = nn.Embedding(1 + self.images, width)  # of a text, an image, a second image
        # Section 3.2: mixture-of-modality-experts transformer
        self.trunk = ModalityExpertTransformer(
            width,
            heads,
            layers=layers,
            fusion_layers=fusion_layers,
            inner=inner,
            scale=layer_scale,
            drop_path=drop_path,
            bias=None if positions else DistanceBias(math.isqrt(patches), distances, layers, heads),
        )
        self.pooler = FirstToken(width)
        # Section 3.3: pre-training tasks; fine-tuning for retrieval goes on with the first
        if pretraining or form == "match":
            self.contrast = PairedProjection(width)
        if pretraining:
            self.branch_contrast = PairedProjection(width)
            self.matching_head = nn.Linear(width, 2)
            self.word_head = Transform(width)
            self.word_output = nn.Linear(width, vocabulary)  # not tied to the words' embeddings
        hides = "image_codes" in wanted_losses
        self.mask_patch = nn.Parameter(torch.zeros(width)) if hides else None
        self.code_output = nn.Linear(width, codes) if hides else None
        self.apply(partial(draw_normal, width=width, narrowest=NARROWEST))
        for drawn in (self.first_token, self.image_positions, self.mask_patch):
            if drawn is not None:
                nn.init.normal_(drawn, std=spread(width, NARROWEST))
        with torch.no_grad():
            self.kinds.weight[1:] = self.kinds.weight[1]  # a second image begins as a first one
        self.image_tokeniser = self.tokeniser_for(
            wanted_losses, image_size, patch, codes=codes, width=tokeniser_width or width,
            heads=tokeniser_heads or heads, layers=tokeniser_layers or layers,
        )  # fmt: skip

    def embed_text(self, text: Text) -> Tensor:
        """Words, their positions if any, and that they are text: [T, L, D]."""
        embedded: Tensor = self.text_embedding(text) + self.kinds.weight[0]
        return embedded

    def embed_image(self, image: Image, hidden: Tensor | None = None) -> Tensor:
        """Class token, patches (those ``hidden`` [I, N] covered), where they are, and that they are an image's."""
        patches = self.patches(image.values)
        if hidden is not None:
            assert self.mask_patch is not None  # built where patches are to be hidden
            patches = torch.where(hidden[..., None], self.mask_patch, patches)
        states = with_first(patches, self.first_token) + self.kinds.weight[1]
        return states if self.image_positions is None else states + self.image_positions

    def encode(self, image: Image, text: Text) -> States:
        """Read pairs together (section 3.2); a model built to compare takes every other pair's image for a second."""
        words, patches = per_pair(self.embed_text(text), text.rows), per_pair(self.embed_image(image), image.rows)
        if self.images == 2:
            second = torch.arange(len(patches), device=patches.device)[:, None, None] % 2
            patches = patches + second * (self.kinds.weight[2] - self.kinds.weight[1])
        states = self.trunk.together(words, patches, per_pair(text.mask, text.rows))
        length = words.shape[1]
        return States(states[:, :length], states[:, length:], self.pooler(states))

    def read_image(self, image: Image, hidden: Tensor | None = None) -> Tensor:
        """Read images by themselves: [I, 1 + patches, D]."""
        return self.trunk.alone(self.embed_image(image, hidden), 0)[0]

    def embed(self, image: Image, text: Text, *, branch: bool = False) -> list[Features]:
        """Read images and texts each alone, as two encoders: each pair's vectors, and those of the branch if asked."""
        shown, branch_shown = self.trunk.alone(self.embed_image(image), 0, branch=branch)
        said, branch_said = self.trunk.alone(self.embed_text(text), text.tokens.shape[1], text.mask, branch=branch)
        vectors = [self.contrast(shown, said, image.rows, text.rows)]
        if branch:
            vectors.append(self.branch_contrast(branch_shown, branch_said, image.rows, text.rows))
        return vectors

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Contrast pairs, match them against those most alike, and hide words (section 3.3).

        Before pairs: train the image tokeniser, hide patches of images alone, hide words of texts alone (section 3.4).
        """
        if self.stage == TOKENISER:
            return self.tokeniser_losses(batch.image)
        if self.stage == "vision":
            return self.image_losses(self.named(batch.image))
        if self.stage == "text":
            return self.text_losses(batch)
        main, branch = self.embed(batch.image, batch.text, branch=True)
        same = together(batch.image, batch.text)
        draws = Draws(self.hide(batch.text), *self.contrast.negatives(main, same))
        return {
            "contrastive": self.contrast.loss(main, same),
            "branch_contrastive": self.branch_contrast.loss(branch, same),
            **self.objectives(batch.image, batch.text, draws),
        }

    def objectives(self, image: Image, text: Text, draws: Draws) -> dict[str, Tensor]:
        """Compute the losses of pairs read together from what was drawn; the card has their weights."""
        words, matched = self.word_logits(self.encode(image, draws.words.text).text), self.match(image, text, draws)
        positive = torch.arange(len(matched), device=matched.device) < len(draws.images)
        return {
            "masked_lm": masked_lm_loss(words, draws.words.labels),
            "matching": matching_loss(matched, positive),
        }

    def match(self, image: Image, text: Text, draws: Draws) -> Tensor:
        """Say whether true pairs match, then texts with a wrong image, then images with a wrong text: [3 P, 2]."""
        own = own_places(draws.images)
        image, text, shown, said = of_all_processes(image, text, draws.images)
        first, second = shown[torch.cat([own, draws.images, own])], said[torch.cat([own, own, draws.texts])]
        logits: Tensor = self.matching_head(self.encode(image._replace(rows=first), text._replace(rows=second)).pooled)
        return logits

    def hide(self, text: Text) -> MaskedWords:
        """Hide 15 % of the words, of each pair anew."""
        drawn = partial(mask_words, vocabulary=self.vocabulary, mask=self.mask_token, kept=self.special_tokens)
        return drawn(own_texts(text), rate=0.15)

    def word_logits(self, states: Tensor) -> Tensor:
        """[P, L, D] -> [P, L, vocabulary]."""
        logits: Tensor = self.word_output(self.word_head(states))
        return logits

    def text_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Hide words of texts read alone: the stage before pairs (section 3.4)."""
        hidden = self.hide(batch.text)
        return {"masked_lm": masked_lm_loss(self.text_logits(hidden.text), hidden.labels)}

    def text_logits(self, text: Text) -> Tensor:
        """Predict the words of texts read alone: [T, L, vocabulary]."""
        return self.word_logits(self.trunk.alone(self.embed_text(text), text.tokens.shape[1], text.mask)[0])

    def trains(self, stage: str, name: str) -> bool:
        """Train what the stage is for (section 3.4): with pairs, everything."""
        return stage not in TRAINED or any(piece in name for piece in TRAINED[stage])

    def head(self, form: Form, answers: int, texts: Text | None = None) -> Head:
        """Answer by the pooled states of pairs read together, or by vectors (section 3.5)."""
        if form == "match":
            return ContrastiveHead()
        if form in ("classify", "compare"):
            head: Head = PooledAnswerHead(self.width, answers, images=2 if form == "compare" else 1)
        else:
            head = super().head(form, answers, texts)
        return head.apply(partial(draw_normal, width=self.width, narrowest=NARROWEST))

    def decays(self, name: str, parameter: Tensor) -> bool:
        """Spare biases, the table of distances, and norms but the experts'; LayerScales and tokens decay too.

        So it comes from the pieces of names that the authors compare (vlmo/modules/vlmo_utils.py).
        """
        if name.startswith(BELOW):
            return super().decays(name, parameter)
        return "bias" not in name and not name.endswith(("norm.weight", "word_head.2.weight"))

    def may_be_new(self, name: str) -> bool:
        """Let retrieval, and pre-training on pairs, begin from a file of another task or stage, as the authors do."""
        fused = ".fusion." in name or name.startswith(("branch_contrast.", "matching_head.", "pooler.", "word_"))
        new = name.startswith(("contrast.", "mask_patch")) or (self.pretraining and fused)
        return new or super().may_be_new(name)

    def resized(self, name: str, stored: Tensor, wanted: Tensor) -> Tensor | None:
        """Fit distances and positions to another image size, a longer table of text positions, kinds to two images.

        As the authors do (vlmo/modules/vlmo_module.py).
        """
        if BELOW in name:
            return super().resized(name, stored, wanted)
        name, same_width = name.removeprefix("model."), stored.shape[-1] == wanted.shape[-1]
        try:
            if name == "trunk.bias.table" and same_width and self.trunk.bias is not None:
                return resize_distances(stored, len(wanted), kept=len(wanted) - self.trunk.bias.across + 3)
            if name == "image_positions" and same_width:
                return resize_positions(stored.flatten(0, -2), len(wanted))
        except ValueError:  # of another patch size, or another kind of table
            return None
        if name == "text_embedding.positions.weight" and same_width and len(stored) > len(wanted):
            return stored[: len(wanted)]
        if name == "kinds.weight" and same_width and (len(stored), len(wanted)) == (2, 3):
            return torch.cat([stored, stored[1:]])
        return None


class ContrastiveHead(Head):
    """Retrieval with two encoders (section 3.5): learned by contrast, answered by vectors to be compared."""

    def losses(self, model: Encodes, batch: Batch) -> dict[str, Tensor]:
        """Contrast the batch's images and texts."""
        assert isinstance(model, VLMo)
        vectors, same = model.embed(batch.image, batch.text)[0], together(batch.image, batch.text)
        return {"contrastive": model.contrast.loss(vectors, same)}

    def answers(self, model: Encodes, batch: Batch) -> list[Given]:
        """Give the vectors of each pair; their product is the score in both directions."""
        assert isinstance(model, VLMo)
        images, texts = (part.detach().float().cpu().numpy() for part in model.embed(batch.image, batch.text)[0])
        return [Given(Vectors(image, text)) for image, text in zip(images, texts, strict=True)]

"""BEiT-3: image as a foreign language.  Wang, Bao, Dong et al. 2022, arXiv 2208.10442 (CVPR 2023).

Unusual:
- one sequence, the image first; every norm and every linear map is doubled, one for patches and one for words,
  and only the attention's softmax is shared (section 2.1);
- one way of pre-training for all data: hide words or patches, and predict them (section 2.2); what a patch is called
  is said by an image tokeniser, which is trained first and then stays as it is;
- a caption is written by predicting a mask put after it (section 3.1); words then see the image and what is left of
  them, and the image sees itself alone, so it is read once however many captions it has.

Where the released code differs from the paper, we follow the code: attention's projections are doubled too, no layer
has a vision-language expert, and there are a base and a large size (the paper: one of 1.9 B parameters). The code of
pre-training was not released: ``losses`` follows the paper. Positions are read from row 2 of their tables on, a habit
of fairseq; rows 0 and 1 are never used. There is no dropout, only stochastic depth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from vlbench.models.masked_images import TOKENISER, MaskedImageModel
from vlbench.nn.embed import PatchEmbedding, per_pair
from vlbench.nn.heads import Head
from vlbench.nn.initial import LEFT_BY_THE_CUT, draw_cut
from vlbench.nn.mask_decode import MaskedCaptionHead, Rules, Written, seen_from_caption, write_with_masks
from vlbench.nn.masked_data import cover, hidden_loss
from vlbench.nn.masking import MaskedWords, mask_words, one_each
from vlbench.nn.multiway import MultiwayLayer, Past
from vlbench.nn.positions import fitted_positions
from vlbench.nn.reader_heads import AnswerHead, ComparisonHead, ContrastiveHead
from vlbench.nn.towers import patch_count, with_first
from vlbench.types import Batch, Form, Image, Kind, Misuse, States, Text

UNUSED = 2
"""Rows of both position tables before the first that is read."""


class BEiT3(MaskedImageModel):
    """BERT pre-training of image transformers, third: a multiway transformer."""

    sees = "pixels"
    asks_for_codes = ("image_codes", "pair_codes")
    taught_by: ClassVar[Mapping[str, tuple[Kind, ...]]] = {"masked": ("pairs", "texts", "images")}

    def __init__(
        self,
        *,
        vocabulary: int,
        word_rows: int = 0,
        image_size: int = 224,
        patch: int = 16,
        width: int = 768,
        heads: int = 12,
        inner: int | None = None,
        layers: int = 12,
        positions: int = 1024,
        codes: int = 8192,
        tokeniser_width: int | None = None,
        tokeniser_heads: int | None = None,
        tokeniser_layers: int | None = None,
        text_length: int = 32,
        drop_path: float = 0.0,
        mask_token: int | None = None,
        special_tokens: tuple[int, ...] = (1, 0, 2),
        from_scratch: bool = False,
        form: Form | None = None,
        pretraining: bool = False,
        wanted_losses: Sequence[str] = (),
    ) -> None:
        """``word_rows``: those of the word table and of the output, where they are more than the word pieces.

        ``from_scratch``: draw for learning without pre-training, so that what is seen outweighs where (see the card).
        ``wanted_losses``: those of pre-training that will be asked for; the image tokeniser, by default as large as
        the model itself, is built where they need it.
        """
        super().__init__()
        self.spread = 1 / LEFT_BY_THE_CUT if from_scratch else 1.0
        self.width, self.vocabulary, self.text_length = width, vocabulary, text_length
        self.form = form
        rows = max(vocabulary, word_rows)
        self.mask_token = vocabulary - 1 if mask_token is None else mask_token
        self.special_tokens = special_tokens  # padding, start, end
        self.side = math.isqrt(patch_count(image_size, patch))
        # Section 2.1: patches and words
        self.patches = PatchEmbedding(patch, width)
        self.first_token = nn.Parameter(torch.zeros(width))
        self.mask_patch = nn.Parameter(torch.zeros(width))
        self.words = nn.Embedding(rows, width)
        self.image_positions = nn.Parameter(torch.randn(UNUSED + 1 + self.side**2, width))
        self.text_positions = nn.Parameter(torch.randn(positions, width))
        # Section 2.1: multiway transformer
        self.layers = nn.ModuleList(
            MultiwayLayer(width, heads, inner=inner, drop_path=drop_path * number / max(1, layers - 1))
            for number in range(layers)
        )
        # a classifier has a norm of its own (modeling_finetune.py: normalize_output)
        last = pretraining or form != "classify"
        self.image_norm = nn.LayerNorm(width) if last else None
        self.text_norm = nn.LayerNorm(width) if last else None
        # Section 2.2: masked data modelling
        self.word_output = nn.Linear(width, rows) if pretraining or form == "write" else None
        self.code_output = nn.Linear(width, codes) if pretraining else None
        self.apply(partial(draw_cut, width=width, scale=self.spread))
        nn.init.normal_(self.words.weight, std=width**-0.5)
        if from_scratch:
            tables = (self.image_positions, 0.5), (self.text_positions, 0.5), (self.words.weight, 4)
            with torch.no_grad():
                for table, factor in (*tables, (self.patches.projection.weight, 4)):
                    table.mul_(factor)
        self.image_tokeniser = self.tokeniser_for(
            wanted_losses, image_size, patch, codes=codes, width=tokeniser_width or width,
            heads=tokeniser_heads or heads, layers=tokeniser_layers or layers,
        )  # fmt: skip

    def encode(self, image: Image, text: Text) -> States:
        """Read pairs: images and words are embedded once, then each pair is one sequence."""
        return self.fuse(per_pair(self.see(image), image.rows), text)

    def fuse(self, patches: Tensor, text: Text) -> States:
        """Read embedded patches [P, 1 + N, D] together with texts; pooled is the image's class token."""
        mask = per_pair(text.mask, text.rows)
        seen = torch.cat([mask.new_ones(patches.shape[:2]), mask], dim=1)
        image, words, _ = self._through(patches, per_pair(self.embed(text), text.rows), seen)
        assert image is not None
        assert words is not None
        return States(words, image, image[:, 0])

    def see(self, image: Image, hidden: Tensor | None = None) -> Tensor:
        """Embed pixels [I, 3, H, W] as [I, 1 + N, D], the class token first; a mask covers hidden patches [I, N]."""
        patches = self.patches(image.values)
        if hidden is not None:
            patches = torch.where(hidden[..., None], self.mask_patch, patches)
        return with_first(patches, self.first_token) + self.image_positions[UNUSED:]

    def embed(self, text: Text, place: int = 0) -> Tensor:
        """Embed words [T, L], the first of them at ``place``, as [T, L, D]; padding becomes zeros."""
        start, end = UNUSED + place, UNUSED + place + text.tokens.shape[1]
        if end > len(self.text_positions):
            known = len(self.text_positions) - UNUSED
            raise Misuse(
                f"a text of {end - UNUSED} word pieces, but this size has {known} positions",
                f"--set text_length={known} cuts longer texts",
            )
        embedded: Tensor = (self.words(text.tokens) + self.text_positions[start:end]) * text.mask[..., None]
        return embedded

    def read_image(self, image: Image, hidden: Tensor | None = None) -> Tensor:
        """Read images by themselves: [I, 1 + N, D]."""
        states = self._through(self.see(image, hidden), None)[0]
        assert states is not None
        return states

    def read_text(self, text: Text) -> Tensor:
        """Read texts by themselves: [T, L, D]."""
        states = self._through(None, self.embed(text), text.mask)[1]
        assert states is not None
        return states

    def remember(self, image: Image) -> list[Past]:
        """Read images by themselves, and keep what each layer lets the words of a caption look at."""
        return self._through(self.see(image), None)[2]

    def read_caption(self, text: Text, past: list[Past], place: int = 0) -> tuple[Tensor, list[Past]]:
        """Read words [P, L] that see a past; its rows are those of the words."""
        seen = seen_from_caption(text.mask, past[0].keys.shape[2])
        states, past = self._through(None, self.embed(text, place), seen, past)[1:]
        assert states is not None
        return states, past

    def _through(
        self, image: Tensor | None, text: Tensor | None, mask: Tensor | None = None, past: list[Past] | None = None
    ) -> tuple[Tensor | None, Tensor | None, list[Past]]:
        """Run all layers, and the last norm where there is one; also return what each layer looked at."""
        looked = []
        for number, layer in enumerate(self.layers):
            image, text, kept = layer(image, text, mask, None if past is None else past[number])
            looked.append(kept)
        if image is not None and self.image_norm is not None:
            image = self.image_norm(image)
        if text is not None and self.text_norm is not None:
            text = self.text_norm(text)
        return image, text, looked

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Hide words of texts and of pairs, patches of images and of pairs, and ask for them (section 2.2).

        Pairs are asked as their parts are, too. Patches are hidden where there is an image tokeniser, or the batch
        holds codes. The stage before trains it.
        """
        if self.stage == TOKENISER:
            return self.tokeniser_losses(batch.image)
        given = batch.image if batch.kind == "texts" else self.named(batch.image)
        losses = {} if batch.kind == "images" else self.text_losses(batch.text)
        if batch.kind == "pairs":
            losses |= self.pair_losses(given, batch.text)
        return losses if batch.kind == "texts" else losses | self.image_losses(given)

    def text_losses(self, text: Text) -> dict[str, Tensor]:
        """Hide 15 % of the words of texts read alone."""
        hidden = self.hide(text, rate=0.15)
        return {"text_words": hidden_loss(self.word_output, self.read_text(hidden.text), hidden.labels)}

    def pair_losses(self, image: Image, text: Text) -> dict[str, Tensor]:
        """Hide half of the words of pairs, and patches where the images have codes."""
        image, text = one_each(image, text)
        hidden = self.hide(text, rate=0.5)
        covered, codes = (None, None) if image.codes is None else cover(image.codes)
        pair = self.fuse(self.see(image, covered), hidden.text)
        losses = {"pair_words": hidden_loss(self.word_output, pair.text, hidden.labels)}
        if codes is not None:
            losses["pair_codes"] = hidden_loss(self.code_output, pair.image[:, 1:], codes)
        return losses

    def hide(self, text: Text, *, rate: float) -> MaskedWords:
        """Hide a share of the words."""
        return mask_words(text, vocabulary=self.vocabulary, mask=self.mask_token, kept=self.special_tokens, rate=rate)

    def masked_logits(self, image: Image, text: Text, asked: Tensor) -> Tensor:
        """Score the words of captions [P, L] at the places asked for: [asked, vocabulary] (section 3.1)."""
        assert self.word_output is not None  # built for the form write
        past = [layer.of(image.rows) for layer in self.remember(image)]
        logits: Tensor = self.word_output(self.read_caption(text, past)[0][asked])
        return logits

    def write(self, image: Image, *, beams: int = 3, longest: int | None = None, penalty: float = 0.6) -> list[Written]:
        """Write a caption for each image, at most ``longest`` ids (the run's text length) with both marks."""
        _, start, end = self.special_tokens[:3]
        rules = Rules(start, end, self.mask_token, beams, longest or self.text_length, penalty)
        return write_with_masks(self.predict_mask, self.remember(image), rules)

    def predict_mask(self, tokens: Tensor, place: int, past: list[Past]) -> tuple[Tensor, list[Past]]:
        """Score the word under the mask that ends ``tokens`` [P, 2]: [P, vocabulary], and the past with both."""
        assert self.word_output is not None  # built for the form write
        text = Text(tokens, torch.ones_like(tokens, dtype=torch.bool))
        states, past = self.read_caption(text, past, place)
        logits: Tensor = self.word_output(states[:, -1])
        return logits, past

    def head(self, form: Form, answers: int, texts: Text | None = None) -> Head:
        """Answer as the authors do (modeling_finetune.py), drawn as they draw; choose with the standard head."""
        own: dict[Form, Callable[[], Head]] = {
            "classify": lambda: AnswerHead(self.width, answers),
            "compare": lambda: ComparisonHead(self.width, answers),
            "match": lambda: ContrastiveHead(self.width),
            "write": MaskedCaptionHead,
        }
        head = own[form]() if form in own else super().head(form, answers, texts)
        small = 0.001 if form == "compare" else 1.0  # NLVR2's begins without an opinion
        return head.apply(partial(draw_cut, width=self.width, scale=small * self.spread))

    def decays(self, name: str, parameter: Tensor) -> bool:
        """All but vectors and the positions of patches (modeling_utils.py)."""
        return super().decays(name, parameter) and name != "image_positions"

    def distance(self, name: str) -> int:
        """Embeddings stand before the first layer, the last norm and the outputs after the last (optim_factory.py)."""
        part, _, rest = name.partition(".")
        if part == "layers":
            return len(self.layers) - int(rest.partition(".")[0])
        apart = ("image_norm", "text_norm", "word_output", "code_output", "image_tokeniser")
        return 0 if part in apart else len(self.layers) + 1

    def may_be_new(self, name: str) -> bool:
        """Say what a file may lack beside the head.

        The output of codes (``mim_head``, which an author names in microsoft/unilm issue 1078, but no released code
        builds), the image tokeniser, and the output of words where captioning begins from contrastive tuning, whose
        files have none. The last norm may not be new: a file fine-tuned to answer questions has none, so nothing else
        can begin from it.
        """
        writes = self.form == "write" and name.startswith("word_output.")
        return writes or super().may_be_new(name)

    def resized(self, name: str, stored: Tensor, wanted: Tensor) -> Tensor | None:
        """Bring the positions of patches to another image size; the unused rows and the class token's stay."""
        if not name.endswith("image_positions"):
            return super().resized(name, stored, wanted)
        return fitted_positions(stored, wanted, kept=UNUSED + 1)

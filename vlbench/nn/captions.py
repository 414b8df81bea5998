"""A head that writes captions: learned after a prompt, written by beam search."""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import Tensor

from vlbench.nn.decode import NextWords, Rules, beam_search, nucleus, words_of
from vlbench.nn.embed import per_pair
from vlbench.nn.heads import Encodes, Head
from vlbench.types import Batch, Given, Image, Text, Tokens


class Writes(Encodes, Protocol):
    """A model that writes texts about images."""

    def look(self, image: Image) -> Tensor:
        """[I, K, S]."""

    def writing_loss(self, images: Tensor, text: Text, told: int = 1) -> Tensor:
        """Compute the loss of texts [P, L] about the images that ``text.rows`` name, without the first ``told``."""

    def continuing(self, images: Tensor) -> NextWords:
        """Say how a text about each of the images goes on."""


class PromptedCaptions(Head):
    """Learns a batch's own texts and writes them, each after the same prompt (BLIP models/blip.py).

    ``prompt``: the start mark and the words that are always there; ``rules`` count them too.
    """

    def __init__(self, prompt: tuple[int, ...], rules: Rules, *, beams: int = 3) -> None:
        super().__init__()
        self.prompt, self.rules, self.beams = prompt, rules, beams

    def losses(self, model: Encodes, batch: Batch) -> dict[str, Tensor]:
        """Return the one loss, of the batch's texts with the prompt in place of their start mark."""
        tokens, mask = (per_pair(part, batch.text.rows) for part in (batch.text.tokens, batch.text.mask))
        prompt = tokens.new_tensor(self.prompt).expand(len(tokens), -1)
        there = torch.ones_like(prompt, dtype=torch.bool)
        tokens, mask = torch.cat([prompt, tokens[:, 1:]], dim=1), torch.cat([there, mask[:, 1:]], dim=1)
        writer = cast(Writes, model)
        text = Text(tokens, mask, batch.image.rows)
        return {"words": writer.writing_loss(writer.look(batch.image), text, len(self.prompt))}

    def answers(self, model: Encodes, batch: Batch) -> list[Given]:
        """Return the best caption of each pair's image, which is written once however many pairs show it."""
        writer = cast(Writes, model)
        images = writer.look(batch.image)
        prompt = batch.text.tokens.new_tensor(self.prompt).expand(len(images), -1)
        # beam scores divided by the length of the whole text, as in the authors' version of transformers
        written = beam_search(writer.continuing(images), prompt, self.rules, beams=self.beams, counted="whole")
        captions = words_of(written.ids, self.rules, start=len(self.prompt))
        rows = range(len(images)) if batch.image.rows is None else batch.image.rows.tolist()
        return [Given(Tokens(captions[row])) for row in rows]

    def drawn(
        self,
        model: Encodes,
        images: Tensor,
        draws: Tensor,
        *,
        share: float,
        repetition_penalty: float,
    ) -> list[tuple[int, ...]]:
        """Draw a caption of each image [I, K, S] from the nucleus, of 1 word to as many as there are draws [I, words].

        ``draws`` and ``share`` as for ``nucleus``; the penalty takes the words of the prompt for written.
        """
        prompt = torch.tensor(self.prompt, device=images.device).expand(len(images), -1)
        longest = len(self.prompt) + draws.shape[1]
        rules = Rules(self.rules.end, longest, len(self.prompt) + 1, self.rules.padding, repetition_penalty)
        written = nucleus(cast(Writes, model).continuing(images), prompt, rules, draws, share=share)
        return words_of(written, rules, start=len(self.prompt))

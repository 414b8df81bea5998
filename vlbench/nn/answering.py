"""Answers of a closed list, told word by word: a decoder that looks at the question learns and ranks them."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from vlbench.nn.embed import per_pair
from vlbench.nn.heads import Encodes, ScoringHead
from vlbench.nn.masking import IGNORED
from vlbench.nn.objectives import word_losses
from vlbench.types import Batch, Text

AT_ONCE = 1024
"""Answers ranked in one pass, so that the words' scores [AT_ONCE, L, vocabulary] fit in memory."""


class Question(NamedTuple):
    """What the decoder looks at: the fused states of B questions."""

    states: Tensor
    """[B, K, D]."""
    mask: Tensor
    """[B, K], True where a word exists."""


class DecodedAnswers(ScoringHead):
    """Learns answers by the language-model loss of each, and ranks a closed list by likelihood.

    ALBEF, section 5, and models/model_vqa.py; BLIP models/blip_vqa.py. ``texts``: the closed answers
    as word pieces [A, L], the start mark first and the end mark last. Of these, the ``candidates`` with the most
    probable first word are ranked whole. ``smoothing`` is that of the words' labels, in ranking too (BLIP);
    ``first_twice`` adds the first word's likelihood to that of the whole answer, which holds it already (ALBEF).
    A method says by ``logits`` what its decoder predicts.
    """

    tokens: Tensor
    mask: Tensor

    def __init__(
        self, texts: Text, *, candidates: int = 128, smoothing: float = 0.0, first_twice: bool = False
    ) -> None:
        super().__init__()
        self.candidates, self.smoothing, self.first_twice = candidates, smoothing, first_twice
        # the list is the data set's, so no checkpoint holds it
        self.register_buffer("tokens", texts.tokens, persistent=False)
        self.register_buffer("mask", texts.mask, persistent=False)

    @abstractmethod
    def logits(self, model: Encodes, answers: Text, question: Question) -> Tensor:
        """Predict the next word after each of the answers' words [P, L] -> [P, L, vocabulary].

        ``answers.rows`` [P]: which question each answers; None where answer i is question i's.
        """

    def question(self, model: Encodes, batch: Batch) -> Question:
        """Read the questions of a batch together with their images."""
        return Question(model.encode(batch.image, batch.text).text, per_pair(batch.text.mask, batch.text.rows))

    def losses(self, model: Encodes, batch: Batch) -> dict[str, Tensor]:
        """Return the one loss: of each answer, weighted by its share of the people, summed; a mean over questions."""
        question = self.question(model, batch)
        answers, weights = self.taught(batch)
        logits = self.logits(model, answers, question)
        self.predicted(logits[:, :-1], answers.mask[:, 1:])
        each = answer_losses(logits, answers, smoothing=self.smoothing)
        return {"answer": (weights * each).sum() / len(question.states)}

    def taught(self, batch: Batch) -> tuple[Text, Tensor]:
        """List every answer that was given to a batch's questions, and its weight [P].

        Targets are shares [B, A], or labels [B], each then the whole of its question.
        """
        assert batch.target is not None  # the loop trains only on splits with public answers
        shares = batch.target
        if not shares.is_floating_point():
            shares = functional.one_hot(shares, len(self.tokens)).float()
        rows, numbers = shares.nonzero(as_tuple=True)
        return Text(self.tokens[numbers], self.mask[numbers], rows), shares[rows, numbers]

    def scores(self, model: Encodes, batch: Batch) -> Tensor:
        """[B, A], minus infinity for answers that are no candidates."""
        question = self.question(model, batch)
        first, chosen = self.first_words(self.start_logits(model, question))
        ranked = -self.candidate_losses(model, chosen, question)
        if self.first_twice:
            ranked = ranked + first.log()
        everything = ranked.new_full((len(ranked), len(self.tokens)), -torch.inf)
        return everything.scatter(1, chosen, ranked)

    def start_logits(self, model: Encodes, question: Question) -> Tensor:
        """Predict the first word of each question's answer: [B, vocabulary]."""
        start = self.tokens[:1, :1].expand(len(question.states), 1)
        return self.logits(model, Text(start, torch.ones_like(start, dtype=torch.bool)), question)[:, 0]

    def first_words(self, start: Tensor) -> tuple[Tensor, Tensor]:
        """Choose the candidates by their first word, [B, vocabulary] -> its probability and their places [B, k]."""
        probabilities = start.float().softmax(-1)[:, self.tokens[:, 1]]
        best = probabilities.topk(min(self.candidates, len(self.tokens)), dim=1)
        return best.values, best.indices

    def candidate_losses(self, model: Encodes, chosen: Tensor, question: Question) -> Tensor:
        """Compute the whole loss of each candidate, given by its place: [B, k] -> [B, k]."""
        rows = torch.arange(len(chosen), device=chosen.device).repeat_interleave(chosen.shape[1])
        parts = []
        for numbers, asked in zip(torch.split(chosen.flatten(), AT_ONCE), torch.split(rows, AT_ONCE), strict=True):
            looked = slice(int(asked[0]), int(asked[-1]) + 1)  # only these questions' keys and values are made
            answers = Text(self.tokens[numbers], self.mask[numbers], asked - asked[0])
            seen = Question(question.states[looked], question.mask[looked])
            logits = self.logits(model, answers, seen)
            parts.append(answer_losses(logits, answers, smoothing=self.smoothing))
        return torch.cat(parts).view_as(chosen)


def next_words(text: Text) -> Tensor:
    """Say which word follows each but the last: tokens [P, L] -> labels [P, L - 1], IGNORED where none does."""
    return text.tokens[:, 1:].masked_fill(~text.mask[:, 1:], IGNORED)


def answer_losses(logits: Tensor, text: Text, *, smoothing: float = 0.0) -> Tensor:
    """Sum the losses of a text's words after its start mark: logits [P, L, vocabulary] -> [P]."""
    return word_losses(logits[:, :-1].float(), next_words(text), smoothing=smoothing).sum(1)

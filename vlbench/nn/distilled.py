"""Heads that a slow twin teaches: a share of each target is what the twin would answer (ALBEF, section 3.3)."""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import Tensor, nn

from vlbench.nn.aligned import AlignedEncoders
from vlbench.nn.answering import DecodedAnswers, Question, answer_losses, next_words
from vlbench.nn.attention import causal
from vlbench.nn.embed import per_pair
from vlbench.nn.heads import Encodes, LabelHead
from vlbench.nn.momentum import Momentum
from vlbench.nn.objectives import contrastive_loss, distilled_word_losses, label_loss
from vlbench.nn.towers import TextTower
from vlbench.types import Batch, Text


class Distills(Encodes, Protocol):
    """A model with a slow twin, as these heads see it."""

    encoders: AlignedEncoders
    keep: float
    """How much of a slow parameter stays at a step."""

    @property
    def slow(self) -> AlignedEncoders:
        """The slow twin."""

    def follow(self) -> None:
        """Let the slow twin make its step."""

    def share(self, *, ramp: bool = True) -> float:
        """Say what share of the targets is the twin's; ``ramp``: it grows over the first pass."""


class DistilledLabels(LabelHead):
    """Classifies the pooled states by two linear maps with a ReLU between (ALBEF models/model_ve.py).

    ``distill``: the classifier has a slow twin; ``ramp``: its share of the targets grows over the first pass.
    """

    def __init__(self, width: int, answers: int, *, distill: bool, ramp: bool = True) -> None:
        super().__init__(
            width, answers, classifier=nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, answers))
        )
        self.momentum, self.ramp = Momentum(classifier=self.classifier) if distill else None, ramp

    def losses(self, model: Encodes, batch: Batch) -> dict[str, Tensor]:
        """Return the one loss of the answers; targets are labels [B] or shares [B, answers]."""
        assert batch.target is not None  # the loop trains only on splits with public answers
        scores, target = self.predicted(self.scores(model, batch)), batch.target
        hard = contrastive_loss(scores, target) if target.is_floating_point() else label_loss(scores, target)
        if self.momentum is None:
            return {"answer": hard}
        twin = cast(Distills, model)
        alpha = twin.share(ramp=self.ramp)
        soft = contrastive_loss(scores, self.slow_scores(twin, batch).softmax(-1))
        return {"answer": (1 - alpha) * hard + alpha * soft}

    @torch.no_grad()
    def slow_scores(self, model: Distills, batch: Batch) -> Tensor:
        """Let both slow twins make their step, then score: [B, answers]."""
        assert self.momentum is not None
        model.follow()
        self.momentum.update(model.keep, classifier=self.classifier)
        scores: Tensor = self.momentum.get_submodule("classifier")(model.slow(batch.image, batch.text).pooled)
        return scores

    def restart_momentum(self) -> None:
        """Let the slow twin begin where the classifier is."""
        if self.momentum is not None:
            self.momentum.restart(classifier=self.classifier)


class DistilledAnswers(DecodedAnswers):
    """Decodes answers by a causal BERT that looks at the question in every layer (ALBEF models/model_vqa.py).

    Its words are predicted by the model's own output of words, tied to the decoder's embedding.
    """

    def __init__(self, texts: Text, decoder: TextTower, *, distill: bool) -> None:
        super().__init__(texts, candidates=128, first_twice=True)
        self.decoder = decoder
        self.momentum = Momentum(decoder=decoder) if distill else None

    @property
    def slow_decoder(self) -> TextTower:
        """The slow twin of the decoder."""
        assert self.momentum is not None
        return cast(TextTower, self.momentum.get_submodule("decoder"))

    def question(self, model: Encodes, batch: Batch) -> Question:
        """Read the questions of a batch together with their images; end marks are not looked at."""
        text = cast(Distills, model).encoders.unended(batch.text)
        return Question(model.encode(batch.image, text).text, per_pair(text.mask, text.rows))

    def logits(self, model: Encodes, answers: Text, question: Question) -> Tensor:
        """[P, L, vocabulary]."""
        return decoded(cast(Distills, model).encoders, self.decoder, answers, question)

    def losses(self, model: Encodes, batch: Batch) -> dict[str, Tensor]:
        """Return the one loss of the answers, a share of it what the slow twins would say."""
        if self.momentum is None:
            return super().losses(model, batch)
        question, (answers, weights) = self.question(model, batch), self.taught(batch)
        logits = self.logits(model, answers, question)
        self.predicted(logits[:, :-1], answers.mask[:, 1:])
        twin = cast(Distills, model)
        alpha = twin.share()
        slow = self.slow_logits(twin, answers, batch, question.mask)
        soft = distilled_word_losses(logits[:, :-1], next_words(answers), slow[:, :-1]).sum(1)
        each = (1 - alpha) * answer_losses(logits, answers) + alpha * soft
        return {"answer": (weights * each).sum() / len(question.states)}

    @torch.no_grad()
    def slow_logits(self, model: Distills, answers: Text, batch: Batch, mask: Tensor) -> Tensor:
        """Let both slow twins make their step, then predict: [P, L, vocabulary]."""
        assert self.momentum is not None
        model.follow()
        self.momentum.update(model.keep, decoder=self.decoder)
        # the slow encoders take the whole text, whose end marks they leave out themselves; ``mask`` is without them
        question = Question(model.slow(batch.image, batch.text).text, mask)
        return decoded(model.slow, self.slow_decoder, answers, question)

    def begin_anew(self, model: Encodes) -> None:
        """Begin as the fusion layers and the embedding of the text encoder, the twin as those of its twin."""
        take_layers(self.decoder, cast(Distills, model).encoders.text)
        if self.momentum is not None:
            take_layers(self.slow_decoder, cast(Distills, model).slow.text)

    def restart_momentum(self) -> None:
        """Let the slow twin begin where the decoder is."""
        if self.momentum is not None:
            self.momentum.restart(decoder=self.decoder)


def decoded(encoders: AlignedEncoders, decoder: TextTower, answers: Text, question: Question) -> Tensor:
    """Predict the words of answers [P, L] that look at their questions: [P, L, vocabulary]."""
    states = decoder.embedding(answers)
    mask = per_pair(question.mask, answers.rows)
    states = decoder(states, causal(answers.mask), question.states, mask, answers.rows)
    return encoders.predict(states, decoder.embedding.words)


def take_layers(decoder: TextTower, encoder: TextTower) -> None:
    """Copy an encoder's embedding and fusion layers, as far as the shapes agree, into a decoder."""
    pairs: list[tuple[nn.Module, nn.Module]] = [(decoder.embedding, encoder.embedding)]
    pairs += zip(decoder.layers, encoder.layers[encoder.cross_from :], strict=False)
    for own, theirs in pairs:
        wanted, found = own.state_dict(), theirs.state_dict()
        fitting = {name: part for name, part in found.items() if part.shape == wanted[name].shape}
        own.load_state_dict(fitting, strict=False)

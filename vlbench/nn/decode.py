"""Write texts word by word: greedy, by sampling from the nucleus, or by beam search.

Independent of any model: each takes a function from the texts so far to the next word's logits. Lengths count
the whole text, prompt included, as transformers' ``generate`` does, and so do the results.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

NextWords = Callable[[Tensor, Tensor], Tensor]
"""From ids [N, L] and which of the B prompts each continues [N] to the logits of the next word [N, V]."""

Counted = Literal["whole", "written"]
"""What of a text divides its beam score. ``whole``: all but the end mark (transformers 4.15, with which BLIP's
results were published); ``written``: what follows the prompt, the end mark included (transformers 4.50 and later)."""


class Rules(NamedTuple):
    """When a text ends, and what may not be written."""

    end: int
    """The end mark."""
    longest: int
    """Words of the longest text."""
    shortest: int = 0
    """No end mark before a text has so many words."""
    padding: int = 0
    """What fills a text after its end."""
    repetition_penalty: float = 1.0
    """Scores of words that a text has already: divided by it if positive, else multiplied (Keskar et al. 2019)."""

    def applied(self, scores: Tensor, ids: Tensor) -> Tensor:
        """Change the scores [N, V] of the words that may follow ids [N, L]."""
        if self.repetition_penalty != 1.0:
            used = scores.gather(1, ids)
            used = torch.where(used < 0, used * self.repetition_penalty, used / self.repetition_penalty)
            scores = scores.scatter(1, ids, used)
        if ids.shape[1] < self.shortest:
            end = torch.arange(scores.shape[1], device=ids.device) == self.end
            scores = scores.masked_fill(end, -torch.inf)
        return scores


class Written(NamedTuple):
    """The best text of each example, and its score."""

    ids: Tensor
    """[B, L]: prompt, words and end mark, then padding."""
    scores: Tensor
    """[B]: the sum of the words' log-probabilities over their counted length, to the power of the penalty."""


def greedy(next_words: NextWords, prompt: Tensor, rules: Rules) -> Tensor:
    """Write the likeliest word each time; prompt [B, L] -> ids [B, L'], padded after the end mark."""
    return _one_by_one(next_words, prompt, rules, lambda scores, open_texts, place: scores.argmax(-1))


def nucleus(
    next_words: NextWords, prompt: Tensor, rules: Rules, draws: Tensor, *, share: float = 0.9, most: int = 50
) -> Tensor:
    """Draw each word among the likeliest that hold ``share`` of the probability (Holtzman et al. 2020).

    ``draws`` [B, words]: from 0 to below 1, evenly spread, one for each word after the prompt; with its own draws a
    text does not depend on those beside it. ``most``: no more than so many words are drawn among (transformers'
    default of top_k; 0 = no limit).
    """

    def draw(scores: Tensor, open_texts: Tensor, place: int) -> Tensor:
        kept = scores.topk(min(most or scores.shape[-1], scores.shape[-1]))
        chances = kept.values.softmax(-1)
        before = chances.cumsum(-1) - chances  # of the likelier words; the first always stays
        inside = (before < share) & (chances > 0)
        summed = chances.masked_fill(~inside, 0).cumsum(-1)
        wanted = draws[open_texts, place - prompt.shape[1], None].to(summed) * summed[:, -1:]
        # rounding may lift what is wanted to the sum of all
        chosen = torch.minimum((summed <= wanted).sum(-1), inside.sum(-1) - 1)
        return kept.indices.gather(1, chosen[:, None]).squeeze(1)

    return _one_by_one(next_words, prompt, rules, draw)


@torch.no_grad()
def _one_by_one(
    next_words: NextWords, prompt: Tensor, rules: Rules, choose: Callable[[Tensor, Tensor, int], Tensor]
) -> Tensor:
    """Append one chosen word a text until all have ended; only texts that go on are computed."""
    ids, open_texts = prompt, torch.arange(len(prompt), device=prompt.device)
    while len(open_texts) and ids.shape[1] < rules.longest:
        words = torch.full_like(ids[:, 0], rules.padding)
        scores = rules.applied(next_words(ids[open_texts], open_texts).float(), ids[open_texts])
        chosen = choose(scores, open_texts, ids.shape[1])
        words[open_texts] = chosen
        ids = torch.cat([ids, words[:, None]], dim=1)
        open_texts = open_texts[chosen != rules.end]
    return ids


class _Finished:
    """The best ended texts of one example, at most one a beam."""

    def __init__(self, beams: int) -> None:
        self.beams, self.texts = beams, list[tuple[float, Tensor]]()

    def add(self, score: float, text: Tensor) -> None:
        self.texts = sorted([*self.texts, (score, text)], key=lambda one: -one[0])[: self.beams]

    def beats(self, score: float) -> bool:
        """Say whether there are enough, none of them worse than the best that may still come."""
        return len(self.texts) == self.beams and self.texts[-1][0] >= score


@torch.no_grad()
def beam_search(
    next_words: NextWords,
    prompt: Tensor,
    rules: Rules,
    *,
    beams: int = 3,
    length_penalty: float = 1.0,
    early_stopping: bool = False,
    counted: Counted = "written",
) -> Written:
    """Follow the ``beams`` best texts of each example at a time; prompt [B, L].

    As transformers does: of the 2 x ``beams`` best continuations, end marks among the first ``beams`` end a text,
    and the first ``beams`` others go on. An example is done when it has ``beams`` ended texts and, unless with
    ``early_stopping``, the best open one would not be better at its present length.
    """
    start = prompt.shape[1]
    if start >= rules.longest:
        raise ValueError(f"a prompt of {start} words leaves no room in a text of {rules.longest}")
    finished = [_Finished(beams) for _ in prompt]
    open_examples = torch.arange(len(prompt), device=prompt.device)
    ids = prompt.repeat_interleave(beams, dim=0)
    sums = torch.zeros(len(prompt), beams, device=prompt.device)
    sums[:, 1:] = -1e9  # all beams begin alike, so only the first may be continued

    def score(summed: float, length: int) -> float:
        return summed / math.pow(length if counted == "whole" else length - start, length_penalty)

    for length in range(start + 1, rules.longest + 1):  # of the texts with their next word
        chances = next_words(ids, open_examples.repeat_interleave(beams)).float().log_softmax(-1)
        best = (rules.applied(chances, ids) + sums.view(-1, 1)).view(len(open_examples), -1).topk(2 * beams)
        beam, word = best.indices // chances.shape[-1], best.indices % chances.shape[-1]
        begun = ids[beam + beams * torch.arange(len(beam), device=ids.device)[:, None]]
        texts = torch.cat([begun, word[..., None]], dim=-1)  # [B, 2 x beams, L + 1]
        going, kept = [], []
        for row, (example, values) in enumerate(zip(open_examples.tolist(), best.values.tolist(), strict=True)):
            ends = (texts[row, :, -1] == rules.end).tolist()
            for rank in range(beams):
                if ends[rank] or (length == rules.longest and counted == "written"):
                    unmarked = length - 1 if counted == "whole" else length
                    finished[example].add(score(values[rank], unmarked), texts[row, rank])
            others = [rank for rank, ended in enumerate(ends) if not ended][:beams]
            # the older convention hopes for the best of all continuations, the newer for the best that goes on
            hope = score(values[0], length - 1) if counted == "whole" else score(values[others[0]], length)
            if finished[example].beats(-torch.inf if early_stopping else hope):
                continue
            if length == rules.longest and counted == "whole":
                for rank in others:
                    finished[example].add(score(values[rank], length), texts[row, rank])
            going.append(row)
            kept.append(others)
        if not going:
            break
        places, chosen = torch.tensor(going, device=ids.device), torch.tensor(kept, device=ids.device)
        open_examples = open_examples[places]
        sums = best.values[places[:, None], chosen]
        ids = texts[places[:, None], chosen].flatten(0, 1)
    return _laid_out(finished, rules.padding, sums)


def _laid_out(finished: list[_Finished], padding: int, like: Tensor) -> Written:
    """Lay the best text of each example out side by side."""
    best = [one.texts[0] for one in finished]
    ids = torch.nn.utils.rnn.pad_sequence([text for _, text in best], batch_first=True, padding_value=padding)
    return Written(ids, like.new_tensor([score for score, _ in best]))


def words_of(ids: Tensor, rules: Rules, *, start: int) -> list[tuple[int, ...]]:
    """Return what was written after the first ``start`` ids of each text [B, L], up to before its end mark."""
    texts = [row[start:] for row in ids.tolist()]
    return [tuple(text[: text.index(rules.end)] if rules.end in text else text) for text in texts]

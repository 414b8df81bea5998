"""How long captions take to score at the size of COCO's test split; reported, not asserted, as machines differ.

The plain versions work as the official evaluation does: a dictionary of n-grams a caption, and the whole table of a
longest common subsequence. The official tokeniser is a Java program; the plain one lexes every caption in full.
"""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from vlbench.metrics.caption import Captions, bleu_of_sum
from vlbench.metrics.caption_lexer import tokens
from vlbench.metrics.caption_words import DROPPED, tokenise

IMAGES = 5_000
_STEMS = """
    a the of on in with and man woman people two standing sitting holding next to near street table train dog cat
    white black red large small group riding wave field playing tennis kitchen bathroom plate food pizza
"""
COMMON = _STEMS.split()


def made_up(images: int) -> tuple[list[str], list[list[str]]]:
    """Captions of ten words over a long tail, five to seven an image, that share words as people's do."""
    draw = random.Random(0)
    rare = [f"{stem}{end}" for stem in COMMON for end in ("er", "ing", "ly", "est", "ish", "man", "-like", "'s")]

    def caption(base: list[str]) -> str:
        words = [word if draw.random() < 0.7 else draw.choice(COMMON if draw.random() < 0.8 else rare) for word in base]
        return " ".join(words).capitalize() + draw.choice((".", ".", ".", "", " ."))

    said, wanted = [], []
    for _ in range(images):
        base = draw.choices(COMMON, k=draw.randint(8, 13))
        said.append(caption(base))
        wanted.append([caption(base) for _ in range(draw.choice((5, 5, 5, 5, 6, 7)))])
    return said, wanted


def cooked(text: str) -> Counter[tuple[str, ...]]:
    words = text.split()
    return Counter(tuple(words[at : at + n]) for n in range(1, 5) for at in range(len(words) - n + 1))


def plain_bleu(said: list[str], wanted: list[list[str]]) -> list[float]:
    matched, guessed, length, nearest = [0] * 4, [0] * 4, 0, 0
    for text, others in zip(said, wanted, strict=True):
        most: Counter[tuple[str, ...]] = Counter()
        for other in others:
            most |= cooked(other)
        words = len(text.split())
        length += words
        nearest += min((abs(len(other.split()) - words), len(other.split())) for other in others)[1]
        for gram, times in cooked(text).items():
            matched[len(gram) - 1] += min(times, most[gram])
        for n in range(4):
            guessed[n] += max(0, words - n)
    product, found = 1.0, []
    for n in range(4):
        product *= (matched[n] + 1e-15) / (guessed[n] + 1e-9)
        found.append(product ** (1 / (n + 1)) * math.exp(min(0.0, 1 - nearest / length)))
    return found


def plain_rouge(said: list[str], wanted: list[list[str]]) -> float:
    total = 0.0
    for text, others in zip(said, wanted, strict=True):
        mine, precision, recall = text.split(" "), [], []
        for other in others:
            theirs = other.split(" ")
            table = [[0] * (len(theirs) + 1) for _ in range(len(mine) + 1)]
            for i, word in enumerate(mine, 1):
                for j, there in enumerate(theirs, 1):
                    same = word == there
                    table[i][j] = table[i - 1][j - 1] + 1 if same else max(table[i - 1][j], table[i][j - 1])
            precision.append(table[-1][-1] / len(mine))
            recall.append(table[-1][-1] / len(theirs))
        p, r = max(precision), max(recall)
        total += (1 + 1.2**2) * p * r / (r + 1.2**2 * p) if p and r else 0.0
    return total / len(said)


def plain_cider(said: list[str], wanted: list[list[str]]) -> float:
    cooked_said, cooked_wanted = [cooked(text) for text in said], [[cooked(o) for o in others] for others in wanted]
    documents = Counter(gram for others in cooked_wanted for gram in {g for other in others for g in other})

    def weigh(counts: Counter[tuple[str, ...]]) -> tuple[list[dict[Any, float]], list[float], int]:
        weights: list[dict[Any, float]] = [{} for _ in range(4)]
        for gram, times in counts.items():
            weights[len(gram) - 1][gram] = times * (math.log(len(said)) - math.log(max(1.0, documents[gram])))
        sizes = [math.sqrt(sum(w * w for w in part.values())) for part in weights]
        return weights, sizes, sum(times for gram, times in counts.items() if len(gram) == 2)

    total = 0.0
    for counts, others in zip(cooked_said, cooked_wanted, strict=True):
        mine, sizes, pairs = weigh(counts)
        for other in others:
            theirs, their_sizes, their_pairs = weigh(other)
            for n in range(4):
                value = sum(min(w, theirs[n].get(g, 0.0)) * theirs[n].get(g, 0.0) for g, w in mine[n].items())
                if sizes[n] and their_sizes[n]:
                    value /= sizes[n] * their_sizes[n]
                total += 10 / 4 * value * math.exp(-((pairs - their_pairs) ** 2) / 72) / len(others)
    return total / len(said)


def plain_words(captions: list[str]) -> list[str]:
    behind: list[str | None] = [*captions[1:], None]
    pairs = zip(captions, behind, strict=True)
    return [" ".join(word for word in tokens(*pair) if word not in DROPPED) for pair in pairs]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def words_of(images: int) -> tuple[list[str], list[list[str]]]:
    said, wanted = made_up(images)
    flat = iter(tokenise([text for others in wanted for text in others]))
    return tokenise(said), [[next(flat) for _ in others] for others in wanted]


def test_scoring_at_the_size_of_cocos_test_split(capsys: pytest.CaptureFixture[str]) -> None:
    said, wanted = made_up(IMAGES)
    flat = [text for others in wanted for text in others]
    spent, found = timed(lambda: (tokenise(said), tokenise(flat)))
    lines = [f"{IMAGES} images, {len(flat)} references", f"tokeniser: {spent:.3f} s"]
    assert len(found[1]) == len(flat)
    rest = iter(found[1])
    hypotheses, references = found[0], [[next(rest) for _ in others] for others in wanted]
    spent, captions = timed(lambda: Captions(hypotheses, references))
    lines.append(f"reading words, once for all metrics: {spent:.3f} s")
    for name, work in (("BLEU", captions.bleu_counts), ("CIDEr-D", captions.cider), ("ROUGE-L", captions.rouge_l)):
        spent, found = timed(work)
        lines.append(f"{name}: {spent:.3f} s" + (" (and comparing captions, for all three)" if name == "BLEU" else ""))
        assert len(found) in (4, IMAGES)
    with capsys.disabled():
        print("", *lines, sep="\n")


def test_the_plain_versions_agree_and_are_slower(capsys: pytest.CaptureFixture[str]) -> None:
    said, wanted = words_of(IMAGES)
    plain: dict[str, tuple[float, Any]] = {
        "BLEU": timed(lambda: plain_bleu(said, wanted)),
        "ROUGE-L": timed(lambda: plain_rouge(said, wanted)),
        "CIDEr-D": timed(lambda: plain_cider(said, wanted)),
    }
    ours: dict[str, Callable[[Captions], Any]] = {
        "BLEU": lambda captions: bleu_of_sum(captions.bleu_counts()).tolist(),
        "ROUGE-L": lambda captions: captions.rouge_l().mean(),
        "CIDEr-D": lambda captions: captions.cider().mean(),
    }
    lines = [f"{IMAGES} images"]
    for name, work in ours.items():
        # Alone, each metric reads and compares the captions anew.
        spent, found = fastest(lambda work=work: work(Captions(said, wanted)))
        assert plain[name][1] == pytest.approx(found, abs=1e-9)
        lines.append(against(f"{name} alone", plain[name][0], spent))
    spent, _ = fastest(lambda: [work(captions) for captions in [Captions(said, wanted)] for work in ours.values()])
    lines.append(against("all three", sum(one[0] for one in plain.values()), spent))
    with capsys.disabled():
        print("", *lines, sep="\n")


def fastest(work: Callable[[], Any]) -> tuple[float, Any]:
    """Take the best of a few times, as so short ones differ much with what else the machine does."""
    return min((timed(work) for _ in range(5)), key=lambda one: one[0])


def against(what: str, plain: float, ours: float) -> str:
    return f"{what}: plain {plain:.3f} s, ours {ours:.3f} s, {plain / max(ours, 1e-9):.0f} times"


def test_remembering_chunks_agrees_and_is_faster(capsys: pytest.CaptureFixture[str]) -> None:
    captions = [text for others in made_up(IMAGES)[1] for text in others]
    tokenise(captions[:10])  # the rules are compiled once in a process
    plain, ours = timed(lambda: plain_words(captions)), fastest(lambda: tokenise(captions))
    assert ours[1] == plain[1]
    with capsys.disabled():
        print("", against(f"{len(captions)} captions", plain[0], ours[0]), sep="\n")

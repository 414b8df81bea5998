"""BLEU, ROUGE-L and CIDEr-D against their definitions written out, and what is odd about them."""

from __future__ import annotations

import math
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlbench.metrics import caption_rarity
from vlbench.metrics.caption import BleuCounts, Captions, bleu, bleu_of_sum
from vlbench.metrics.caption_matches import common_length

References = list[list[str]]
Gram = tuple[str, ...]


def grams(text: str, length: int) -> Counter[tuple[str, ...]]:
    words = text.split()
    return Counter(tuple(words[at : at + length]) for at in range(len(words) - length + 1))


def plain_bleu(said: list[str], wanted: References) -> list[float]:
    """Corpus BLEU with the closest reference, and the evaluation's tiny counts."""
    matched, guessed, length, nearest = [0] * 4, [0] * 4, 0, 0
    for text, others in zip(said, wanted, strict=True):
        words = len(text.split())
        length += words
        nearest += min((abs(len(other.split()) - words), len(other.split())) for other in others)[1]
        for n in range(4):
            own = grams(text, n + 1)
            guessed[n] += sum(own.values())
            for gram, times in own.items():
                matched[n] += min(times, max(grams(other, n + 1)[gram] for other in others))
    product, found = 1.0, []
    for n in range(4):
        product *= (matched[n] + 1e-15) / (guessed[n] + 1e-9)
        found.append(product ** (1 / (n + 1)))
    ratio = (length + 1e-15) / (nearest + 1e-9)
    return [value * math.exp(1 - 1 / ratio) if ratio < 1 else value for value in found]


def plain_common(one: list[str], other: list[str]) -> int:
    """The usual table."""
    row = [0] * (len(other) + 1)
    for word in one:
        before = list(row)
        for at, there in enumerate(other, 1):
            row[at] = before[at - 1] + 1 if word == there else max(before[at], row[at - 1])
    return row[-1]


def plain_rouge(said: str, wanted: list[str]) -> float:
    mine = said.split(" ")
    pairs = [(plain_common(mine, other.split(" ")), len(other.split(" "))) for other in wanted]
    precision, recall = max(c / len(mine) for c, _ in pairs), max(c / n for c, n in pairs)
    return (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision) if precision and recall else 0.0


def plain_cider(said: list[str], wanted: References) -> list[float]:
    """CIDEr-D with document frequencies from the references at hand."""
    found = np.zeros((len(said), 4))
    for n in range(4):
        documents = Counter(gram for others in wanted for gram in set().union(*(grams(o, n + 1) for o in others)))

        def weigh(text: str, n: int = n, documents: Counter[Gram] = documents) -> dict[Gram, float]:
            rarity = math.log(len(said))
            return {g: t * (rarity - math.log(max(1, documents[g]))) for g, t in grams(text, n + 1).items()}

        for at, (text, others) in enumerate(zip(said, wanted, strict=True)):
            mine = weigh(text)
            for other in others:
                theirs = weigh(other)
                value = sum(min(w, theirs.get(gram, 0.0)) * theirs.get(gram, 0.0) for gram, w in mine.items())
                sizes = [math.sqrt(sum(w * w for w in each.values())) for each in (mine, theirs)]
                value = value / (sizes[0] * sizes[1]) if all(sizes) else value
                longer = max(0, len(text.split()) - 1) - max(0, len(other.split()) - 1)
                found[at, n] += value * math.exp(-(longer**2) / (2 * 6.0**2)) / len(others)
    return [10 * float(row.mean()) for row in found]


CAPTION = st.lists(st.sampled_from(["a", "cat", "sits", "on", "mat", "3\xa01/2"]), max_size=9).map(" ".join)
SETS = st.lists(st.tuples(CAPTION, st.lists(CAPTION, min_size=1, max_size=4)), min_size=1, max_size=6)


@given(SETS)
@settings(max_examples=200, deadline=None)
def test_all_metrics_are_their_definitions(images: list[tuple[str, list[str]]]) -> None:
    said, wanted = [one[0] for one in images], [one[1] for one in images]
    captions = Captions(said, wanted)
    assert bleu_of_sum(captions.bleu_counts()) == pytest.approx(plain_bleu(said, wanted), rel=1e-9, abs=1e-30)
    each = [plain_bleu([one], [others]) for one, others in images]
    assert bleu(captions.bleu_counts()) == pytest.approx(np.array(each), rel=1e-9, abs=1e-30)
    assert captions.rouge_l() == pytest.approx([plain_rouge(*one) for one in images], abs=1e-12)
    assert captions.cider() == pytest.approx(plain_cider(said, wanted), abs=1e-9)


def test_captions_of_many_kinds_are_their_definitions() -> None:
    """Words that come again and again, in captions of all lengths, parted by blanks of all kinds."""
    draw = random.Random(1)
    for _ in range(30):
        words = draw.sample(["a", "ab", "abcdefg", "abcdefgh", "abcdefghi", "a" * 11, "a" * 40, "é", "日本", "a\0"], 4)
        images = []
        for _ in range(draw.randrange(1, 12)):
            sizes = [draw.choice((0, 1, 3, 9, 20, 70)) for _ in range(draw.randrange(2, 6))]
            blanks = draw.choice((" ", " ", "  ", "\xa0", "\t"))
            texts = [blanks.join(draw.choices(words, k=size)) for size in sizes]
            images.append((texts[0], texts[1:]))
        said, wanted = [one[0] for one in images], [one[1] for one in images]
        captions = Captions(said, wanted)
        assert bleu_of_sum(captions.bleu_counts()) == pytest.approx(plain_bleu(said, wanted), rel=1e-9, abs=1e-30)
        assert captions.rouge_l() == pytest.approx([plain_rouge(*one) for one in images], abs=1e-12)
        assert captions.cider() == pytest.approx(plain_cider(said, wanted), abs=1e-9)


def test_long_captions_are_counted_as_short_ones() -> None:
    draw = random.Random(0)
    words = [f"w{number}" for number in range(30)]
    said = [" ".join(draw.choices(words, k=size)) for size in (0, 1, 15, 16, 17, 63, 64, 65, 130)]
    wanted = [[" ".join(draw.choices(words, k=draw.randrange(150))) for _ in range(3)] for _ in said]
    captions = Captions(said, wanted)
    assert captions.rouge_l() == pytest.approx([plain_rouge(*one) for one in zip(said, wanted, strict=True)])
    assert captions.cider() == pytest.approx(plain_cider(said, wanted))
    assert bleu_of_sum(captions.bleu_counts()) == pytest.approx(plain_bleu(said, wanted))


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_common_words_in_order(one: list[str], other: list[str]) -> None:
    assert common_length(one, other) == plain_common(one, other)


def test_n_grams_too_many_for_one_sort_are_sorted_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(0)
    said, *wanted = ([" ".join(draw.choices("abcdef", k=8)) for _ in range(50)] for _ in range(4))
    references = [list(one) for one in zip(*wanted, strict=True)]
    found = Captions(said, references).cider()
    monkeypatch.setattr(caption_rarity, "_BITS", 0)
    monkeypatch.setattr(caption_rarity, "_AT_ONCE", 10)
    assert Captions(said, references).cider() == pytest.approx(found)


def test_one_image_has_no_cider() -> None:
    assert Captions(["a cat"], [["a cat"]]).cider().tolist() == [0.0]
    assert Captions(["a cat", "a dog"], [["a cat"], ["a dog"]]).cider()[0] > 1


def test_cider_depends_on_the_set() -> None:
    wanted = [["a black cat"], ["a white dog"], ["the dog"]]
    said = ["a black cat", "a dog", "x"]
    alone = Captions(said[:2], wanted[:2]).cider()
    assert alone[1] != pytest.approx(Captions(said, wanted).cider()[1])


def test_words_parted_by_a_hard_blank_are_two_but_for_rouge() -> None:
    captions = Captions(["3\xa01/2 cups", "x"], [["3 1/2 cups"], ["x"]])
    assert captions.bleu_counts().length[0] == 3
    assert captions.rouge_l()[0] == pytest.approx(plain_rouge("3\xa01/2 cups", ["3 1/2 cups"]))


def test_nothing_said_is_nothing_won() -> None:
    captions = Captions(["", "a cat"], [["a dog"], ["a cat"]])
    assert captions.rouge_l().tolist() == [0.0, 1.0]
    assert captions.cider()[0] == 0
    assert bleu(captions.bleu_counts())[0].tolist() == [0.0] * 4
    assert Captions([""], [[""]]).rouge_l().tolist() == [1.0]  # no words are one empty word to it


def test_choices_of_images_are_weighed() -> None:
    counts = Captions(["a cat", "a dog", "b"], [["a cat"], ["the dog"], ["c d"]]).bleu_counts()
    twice = BleuCounts(*(part[[0, 0, 1]] for part in counts))
    assert bleu_of_sum(counts, np.array([[1, 1, 1], [2, 1, 0]])) == pytest.approx(
        np.array([bleu_of_sum(counts), bleu_of_sum(twice)])
    )


@pytest.mark.parametrize(("said", "wanted"), [([], []), (["a"], []), (["a"], [[]]), (["a", "b"], [["a"]])])
def test_every_image_has_a_caption_and_a_reference(said: list[str], wanted: References) -> None:
    with pytest.raises(ValueError, match="none may be empty"):
        Captions(said, wanted)

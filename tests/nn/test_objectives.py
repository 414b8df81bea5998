"""Every loss against a slow plain version, over a grid of sizes."""

import math

import pytest
import torch

from vlbench.nn import objectives
from vlbench.nn.masking import IGNORED, hard_negatives

SIZES = [(1, 1, 2), (3, 4, 5), (6, 2, 9)]


def cross_entropy(logits: list[float], label: int) -> float:
    top = max(logits)
    return top + math.log(sum(math.exp(v - top) for v in logits)) - logits[label]


@pytest.mark.parametrize(("pairs", "length", "classes"), SIZES)
def test_masked_lm(pairs: int, length: int, classes: int) -> None:
    torch.manual_seed(pairs)
    logits = torch.randn(pairs, length, classes)
    labels = torch.randint(-1, classes, (pairs, length))
    labels[0, 0] = 0
    each = [
        cross_entropy(logits[p, w].tolist(), int(labels[p, w]))
        for p in range(pairs) for w in range(length) if labels[p, w] != IGNORED
    ]  # fmt: skip
    made = objectives.masked_lm_loss(logits, labels)
    assert float(made) == pytest.approx(sum(each) / len(each), rel=1e-5)


def test_nothing_asked_is_no_loss_and_not_nan() -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    loss = objectives.label_loss(logits, torch.full((2,), IGNORED))
    loss.backward()
    assert float(loss.detach()) == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize(("pairs", "_", "classes"), SIZES)
def test_soft_labels(pairs: int, _: int, classes: int) -> None:
    torch.manual_seed(pairs)
    logits, scores = torch.randn(pairs, classes), torch.rand(pairs, classes)

    def each(logit: float, score: float) -> float:
        sure = 1 / (1 + math.exp(-logit))
        return -(score * math.log(sure) + (1 - score) * math.log(1 - sure))

    plain = sum(each(float(a), float(b)) for a, b in zip(logits.flatten(), scores.flatten(), strict=True)) / pairs
    assert float(objectives.soft_label_loss(logits, scores)) == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize(("pairs", "regions", "width"), SIZES)
def test_region_features(pairs: int, regions: int, width: int) -> None:
    torch.manual_seed(pairs)
    predicted, wanted = 3 * torch.randn(pairs, regions, width), torch.randn(pairs, regions, width)
    chosen = torch.rand(pairs, regions) < 0.5
    total = 0.0
    for p in range(pairs):
        for r in range(regions):
            gaps = [abs(float(d)) for d in predicted[p, r] - wanted[p, r]]
            smooth = [0.5 * g * g if g < 1 else g - 0.5 for g in gaps]
            total += float(chosen[p, r]) * sum(smooth) / width
    made = objectives.region_feature_loss(predicted, wanted, chosen)
    assert float(made) == pytest.approx(total / (pairs * regions), rel=1e-5)


@pytest.mark.parametrize(("pairs", "regions", "classes"), SIZES)
def test_region_labels_weigh_by_confidence(pairs: int, regions: int, classes: int) -> None:
    torch.manual_seed(pairs)
    logits = torch.randn(pairs, regions, classes)
    labels, sure = torch.randint(-1, classes, (pairs, regions)), torch.rand(pairs, regions)
    total = sum(
        float(sure[p, r]) * cross_entropy(logits[p, r].tolist(), int(labels[p, r]))
        for p in range(pairs) for r in range(regions) if labels[p, r] != IGNORED
    )  # fmt: skip
    made = objectives.region_label_loss(logits, labels, sure)
    assert float(made) == pytest.approx(total / (pairs * regions), rel=1e-5, abs=1e-7)


def test_matching() -> None:
    torch.manual_seed(0)
    logits, matched = torch.randn(5, 2), torch.tensor([True, False, True, True, False])
    plain = sum(cross_entropy(a.tolist(), int(b)) for a, b in zip(logits, matched, strict=True)) / 5
    assert float(objectives.matching_loss(logits, matched)) == pytest.approx(plain, rel=1e-5)


def test_a_hidden_patch_is_found_among_all_that_there_are() -> None:
    torch.manual_seed(0)
    states, candidates = torch.randn(3, 2, 5), torch.randn(2, 2, 5)  # three pairs of two images
    labels = torch.tensor([[0, IGNORED], [IGNORED, IGNORED], [IGNORED, 3]])
    there = torch.tensor([[True, False], [True, True]])
    for mask, known in ((None, [0, 1, 2, 3]), (there, [0, 2, 3])):
        each = []
        for pair, place, label in ((0, 0, 0), (2, 1, 3)):
            scores = [float(states[pair, place] @ candidates.flatten(0, 1)[k]) for k in known]
            each.append(cross_entropy(scores, known.index(label)))
        made = objectives.among_all_loss(states, candidates, labels, mask)
        assert float(made) == pytest.approx(sum(each) / 2, rel=1e-5)


def test_predictions_are_told_where_a_class_is_asked_for_and_of_true_pairs() -> None:
    words, matched = torch.randn(2, 3, 5), torch.randn(4, 2)
    labels = torch.tensor([[1, IGNORED, 4], [IGNORED, IGNORED, 0]])
    with objectives.predictions() as told, objectives.predictions() as inner:
        objectives.masked_lm_loss(words, labels)
        objectives.matching_loss(matched, torch.tensor([1, 0, 0, 1]))
        objectives.word_losses(words, labels)
        objectives.label_loss(matched, torch.full((4,), IGNORED))
    asked = words[labels != IGNORED]
    for heard in (told, inner):
        assert [len(one) for one in heard] == [3, 2, 3]
        assert torch.equal(heard[0], asked)
        assert torch.equal(heard[1], matched[[0, 3]])
    objectives.masked_lm_loss(words, labels)
    assert len(told) == 3


def probabilities(logits: list[float]) -> list[float]:
    return [math.exp(-cross_entropy(logits, place)) for place in range(len(logits))]


@pytest.mark.parametrize(("pairs", "regions", "classes"), SIZES)
def test_region_distributions_are_compared_where_regions_were_hidden(pairs: int, regions: int, classes: int) -> None:
    torch.manual_seed(pairs)
    logits, wanted = torch.randn(pairs, regions, classes), torch.randn(pairs, regions, classes).softmax(-1)
    wanted[0, 0] = torch.eye(classes)[0]  # 0 log 0 = 0
    chosen = torch.rand(pairs, regions) < 0.5
    chosen[0, 0] = True
    total = 0.0
    for p in range(pairs):
        for r in range(regions):
            said = probabilities(logits[p, r].tolist())
            known = wanted[p, r].tolist()
            if chosen[p, r]:
                total += sum(k * math.log(k / s) for k, s in zip(known, said, strict=True) if k > 0)
    made = objectives.region_distribution_loss(logits, wanted, chosen)
    assert float(made) == pytest.approx(total / int(chosen.sum()), rel=1e-4)


@pytest.mark.parametrize(("rows", "_", "columns"), SIZES)
def test_contrast_with_soft_targets(rows: int, _: int, columns: int) -> None:
    torch.manual_seed(rows)
    logits, targets = torch.randn(rows, columns), torch.randn(rows, columns).softmax(-1)
    plain = [
        sum(float(targets[i, j]) * cross_entropy(logits[i].tolist(), j) for j in range(columns)) for i in range(rows)
    ]
    assert float(objectives.contrastive_loss(logits, targets)) == pytest.approx(sum(plain) / rows, rel=1e-5)
    hard = [cross_entropy(logits[i].tolist(), i) for i in range(min(rows, columns))]
    made = objectives.contrastive_loss(logits[: len(hard)])
    assert float(made) == pytest.approx(sum(hard) / len(hard), rel=1e-5)


@pytest.mark.parametrize(("pairs", "length", "words"), SIZES)
def test_hidden_words_after_a_teacher(pairs: int, length: int, words: int) -> None:
    torch.manual_seed(pairs)
    logits, teacher = torch.randn(2, pairs, length, words)
    labels = torch.randint(-1, words, (pairs, length))
    labels[0, 0] = 0
    each = [
        sum(k * cross_entropy(logits[p, w].tolist(), v) for v, k in enumerate(probabilities(teacher[p, w].tolist())))
        for p in range(pairs) for w in range(length) if labels[p, w] != IGNORED
    ]  # fmt: skip
    made = objectives.distilled_word_loss(logits, labels, teacher)
    assert float(made) == pytest.approx(sum(each) / len(each), rel=1e-4)
    assert float(objectives.distilled_word_loss(logits, torch.full_like(labels, IGNORED), teacher)) == 0


def test_hard_negatives_come_as_often_as_the_softmax_of_their_scores() -> None:
    torch.manual_seed(0)
    scores, drawn = torch.tensor([[2.0, 1.0, 0.0, -1.0], [0.0, 0.0, 5.0, 1.0]]), 20_000
    same = torch.tensor([[True, False, False, False], [False, False, True, True]])
    found = torch.stack([hard_negatives(scores, same) for _ in range(drawn)])
    for row in range(2):
        raw = [math.exp(float(s)) * (not own) for s, own in zip(scores[row], same[row], strict=True)]
        counts = torch.bincount(found[:, row], minlength=4) / drawn
        for count, weight in zip(counts.tolist(), raw, strict=True):
            assert count == pytest.approx(weight / sum(raw), abs=0.015)
    alone = hard_negatives(torch.zeros(1, 3), torch.ones(1, 3, dtype=torch.bool))  # nothing else is there to draw
    assert 0 <= int(alone) < 3

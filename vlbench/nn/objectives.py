"""Losses of pre-training and fine-tuning: pure functions of tensors, never of a model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional

from vlbench.nn.masking import IGNORED
from vlbench.types import BadData, RegionLabels

_listeners: list[list[Tensor]] = []


@contextmanager
def predictions() -> Iterator[list[Tensor]]:
    """Collect the logits [N, C] that classes are predicted by meanwhile, where a class is asked for.

    Of matching only those of true pairs, as what is drawn beside them may depend on what is seen.
    """
    heard: list[Tensor] = []
    _listeners.append(heard)
    try:
        yield heard
    finally:
        _listeners[:] = [one for one in _listeners if one is not heard]


def _tell(logits: Tensor, asked: Tensor) -> None:
    for heard in _listeners:
        if bool(asked.any()):
            heard.append(logits[asked])


def masked_lm_loss(logits: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy over hidden words; logits [P, L, V], labels [P, L] with IGNORED where nothing is asked."""
    return label_loss(logits.flatten(0, 1), labels.flatten(), smoothing=smoothing)


def label_loss(logits: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy, a mean over the rows whose label counts; 0 (not NaN) where none does.

    logits [N, C], labels [N] with IGNORED; ``smoothing`` is the share of a label that is spread over all C.
    """
    _tell(logits, labels != IGNORED)
    summed = functional.cross_entropy(logits, labels, ignore_index=IGNORED, label_smoothing=smoothing, reduction="sum")
    return summed / (labels != IGNORED).sum().clamp(min=1)


def soft_label_loss(logits: Tensor, scores: Tensor) -> Tensor:
    """Binary cross-entropy with soft scores [B, C], a mean over all, times C (LXMERT src/tasks/vqa.py)."""
    return functional.binary_cross_entropy_with_logits(logits, scores) * logits.shape[-1]


def region_feature_loss(predicted: Tensor, features: Tensor, chosen: Tensor) -> Tensor:
    """Smooth L1 to the hidden features, a mean over all P x R regions (LXMERT src/lxrt/modeling.py).

    predicted and features [P, R, F], chosen [P, R]: 1 where a region was hidden.
    """
    each = functional.smooth_l1_loss(predicted, features, reduction="none").mean(-1)
    return (each * chosen).mean()


def region_label_loss(logits: Tensor, labels: Tensor, confidence: Tensor) -> Tensor:
    """Cross-entropy to the detector's labels, weighted by its confidence, a mean over all P x R regions.

    logits [P, R, C], labels [P, R] with IGNORED, confidence [P, R].
    """
    each = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none")
    return (each * confidence.flatten()).mean()


def region_distribution_loss(logits: Tensor, distribution: Tensor, chosen: Tensor) -> Tensor:
    """KL divergence from the detector's classes, summed over them, a mean over hidden regions (ViLBERT, section 2.2).

    logits and distribution [P, R, C], chosen [P, R]: True where a region was hidden; 0 where none was.
    """
    each = functional.kl_div(functional.log_softmax(logits, dim=-1), distribution, reduction="none").sum(-1)
    return (each * chosen).sum() / chosen.sum().clamp(min=1)


def class_distribution(labels: RegionLabels, classes: int) -> Tensor:
    """Say how likely a detector held each class, class 0 the background: [P, R, classes].

    That is what it said itself where the features' file holds it. Where it named one object only, that has its
    confidence, all others an even share of the rest; labels of -1 (nothing said) give any. BadData for other classes.
    """
    if (likely := labels.class_probabilities) is not None:
        if likely.shape[-1] != classes:
            raise BadData(
                f"the region features have probabilities of {likely.shape[-1]} classes, the model knows {classes}",
                "a corpus's card says in 'objects' how many the detector knows, the background not among them",
            )
        return likely.float()
    sure = labels.object_confidence.clamp(0, 1)[..., None]
    rest = ((1 - sure) / (classes - 1)).expand(*sure.shape[:-1], classes)
    return rest.scatter(-1, labels.objects.clamp(min=0)[..., None] + 1, sure)


def matching_loss(logits: Tensor, matched: Tensor) -> Tensor:
    """Cross-entropy of "does this text belong to this image"; logits [P, 2], matched [P]."""
    _tell(logits, matched.bool())
    return functional.cross_entropy(logits, matched.long())


def among_all_loss(states: Tensor, candidates: Tensor, labels: Tensor, there: Tensor | None = None) -> Tensor:
    """Cross-entropy of finding each hidden patch, by its state, among all of the batch (in-batch negatives; METER).

    states [P, K, D], candidates [I, K, D], labels [P, K]: a number among the I K candidates, or IGNORED; ``there``
    [I, K]: which candidates there are.
    """
    asked = labels != IGNORED
    logits = states[asked] @ candidates.flatten(0, 1).T
    if there is not None:
        logits = logits.masked_fill(~there.flatten(), -torch.inf)
    return label_loss(logits, labels[asked])


def contrastive_loss(logits: Tensor, targets: Tensor | None = None) -> Tensor:
    """Cross-entropy of similarities [N, M] against targets [N, M] whose rows sum to 1 (None: row i fits column i)."""
    if targets is None:
        return functional.cross_entropy(logits, torch.arange(len(logits), device=logits.device))
    return -(functional.log_softmax(logits, dim=1) * targets).sum(1).mean()


def word_losses(logits: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of each word, 0 where nothing is asked; logits [P, L, V], labels [P, L] with IGNORED -> [P, L]."""
    _tell(logits.flatten(0, 1), labels.flatten() != IGNORED)
    each = functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, label_smoothing=smoothing, reduction="none"
    )
    return each.view_as(labels)


def smoothed_divergences(logits: Tensor, labels: Tensor, *, smoothing: float = 0.1) -> Tensor:
    """KL divergence from smoothed labels: 1 - smoothing on the label, the rest evenly on the others; [N, C] -> [N].

    BEiT-3's captioning loss (beit3/utils.py): cross-entropy with that smoothing, less the labels' own entropy.
    """
    logs = functional.log_softmax(logits, dim=-1)
    label, other = 1 - smoothing, smoothing / (logits.shape[-1] - 1)
    of_label = logs.gather(1, labels[:, None]).squeeze(1)
    certain = label * math.log(label) + (smoothing * math.log(other) if smoothing else 0.0)
    return certain - (label - other) * of_label - other * logs.sum(1)


def mean_of_best(losses: Tensor, share: float) -> Tensor:
    """Return the mean of the smallest ``share`` of losses [N], of one at least; 0 where there is none."""
    if not len(losses):
        return losses.sum()
    return losses.topk(max(1, int(len(losses) * share)), largest=False).values.mean()


def distilled_word_losses(logits: Tensor, labels: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy of each word with a teacher's distribution, 0 where nothing is asked (ALBEF, section 3.3).

    logits and teacher's logits [..., V], labels [...] with IGNORED -> [...].
    """
    asked = labels != IGNORED
    each = -(functional.log_softmax(logits[asked], dim=-1) * functional.softmax(teacher[asked], dim=-1)).sum(-1)
    return each.new_zeros(labels.shape).masked_scatter(asked, each)


def distilled_word_loss(logits: Tensor, labels: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy of hidden words with a teacher's distribution, a mean over hidden words (ALBEF, section 3.3).

    logits and teacher's logits [..., V], labels [...] with IGNORED where nothing is asked.
    """
    return distilled_word_losses(logits, labels, teacher).sum() / (labels != IGNORED).sum().clamp(min=1)

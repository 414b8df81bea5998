"""Distances of words and patches, their resizing against scipy's spline, and attention biased by them."""

import numpy as np
import pytest
import torch
from scipy.interpolate import RectBivariateSpline

from vlbench.nn.attention import KeyUnbiasedAttention
from vlbench.nn.contrast import Features, batch_contrast
from vlbench.nn.experts import DistanceBias
from vlbench.nn.positions import image_distances, resize_distances, text_distances
from vlbench.types import Misuse


def test_each_distance_has_a_row_of_its_own() -> None:
    image, text = image_distances(3), text_distances(6)
    place = {number: divmod(number, 3) for number in range(9)}
    for table, apart in (
        (image, lambda q, k: (place[q][0] - place[k][0], place[q][1] - place[k][1])),
        (text, lambda q, k: k - q),
    ):
        rows: dict[int, set[object]] = {}
        for q in range(1, len(table)):
            for k in range(1, len(table)):
                rows.setdefault(int(table[q, k]), set()).add(apart(q - 1, k - 1))
        assert all(len(found) == 1 for found in rows.values())
        assert len(rows) == (25 if table is image else 9)
        first = {int(table[0, 1]), int(table[1, 0]), int(table[0, 0])}
        assert len(first) == 3
        assert not first & set(rows)


def test_a_short_text_is_the_corner_of_a_long_one_and_a_longer_one_is_refused() -> None:
    bias = DistanceBias(2, 7, layers=3, heads=2)
    torch.nn.init.normal_(bias.table)
    long, short = bias(7, patches=True), bias(4, patches=True)
    kept = torch.tensor([0, 1, 2, 3, 7, 8, 9, 10, 11])
    assert len(long) == 3
    for wide, narrow in zip(long, short, strict=True):
        assert wide.shape == (2, 12, 12)
        torch.testing.assert_close(wide[:, kept][:, :, kept], narrow)
    with pytest.raises(Misuse, match="distances up to 7"):
        bias(8, patches=True)


@pytest.mark.parametrize(("stored", "wanted"), [(5, 12), (14, 24), (14, 30), (14, 8)])
def test_resized_distances_are_the_spline_of_scipy(stored: int, wanted: int) -> None:
    old, new, kept = 2 * stored - 1, 2 * wanted - 1, 9
    table = torch.randn(old * old + kept, 3)
    low, high = 1.01, 1.5  # where the last stored distance comes to lie where the largest new one is
    while high - low > 1e-6:
        q = (low + high) / 2
        low, high = (low, q) if sum(q**n for n in range(old // 2)) > new // 2 else (q, high)
    reach = np.cumsum([q**n for n in range(old // 2)])
    places, asked = np.concatenate([-reach[::-1], [0], reach]), np.arange(-(new // 2), new // 2 + 1)
    asked = asked.clip(places[0], places[-1])
    resized = resize_distances(table, new * new + kept, kept=kept)
    for column in range(3):
        grid = table[:-kept, column].reshape(old, old).double().numpy()
        spline = RectBivariateSpline(places, places, grid, kx=3, ky=3, s=0)(asked, asked)
        np.testing.assert_allclose(resized[:-kept, column].numpy(), spline.ravel(), atol=1e-5)
    assert torch.equal(resized[-kept:], table[-kept:])
    assert resize_distances(table, len(table), kept=kept) is table


@pytest.mark.parametrize(("rows", "wanted"), [(25 + 9, 50 + 9), (26 + 9, 49 + 9), (9 + 9, 25 + 9)])
def test_what_is_no_square_grid_or_too_small_for_a_cubic_is_refused(rows: int, wanted: int) -> None:
    with pytest.raises(ValueError, match="cannot be resized"):
        resize_distances(torch.randn(rows, 2), wanted, kept=9)


def test_attention_without_key_bias_adds_the_bias_and_hides_padding() -> None:
    torch.manual_seed(0)
    part = KeyUnbiasedAttention(12, 3)
    torch.nn.init.normal_(part.query_bias)
    torch.nn.init.normal_(part.value_bias)
    states, bias = torch.randn(2, 5, 12), torch.randn(3, 5, 5)
    mask = torch.tensor([[True] * 5, [True, True, True, False, False]])
    query, key, value = (states @ part.qkv.weight.T).chunk(3, dim=-1)
    query, value = query + part.query_bias, value + part.value_bias
    heads = [part.unflatten(-1, (3, 4)).transpose(1, 2) for part in (query, key, value)]
    scores = heads[0] @ heads[1].transpose(-2, -1) / 2 + bias
    weights = scores.masked_fill(~mask[:, None, None], -torch.inf).softmax(-1)
    wanted = part.output((weights @ heads[2]).transpose(1, 2).flatten(2))
    torch.testing.assert_close(part(states, mask=mask, bias=bias), wanted, atol=1e-6, rtol=1e-5)


def test_contrast_counts_what_belongs_together() -> None:
    torch.manual_seed(0)
    pairs = Features(*(torch.nn.functional.normalize(torch.randn(4, 6), dim=-1) for _ in range(2)))
    logits, arange = 3 * pairs.image @ pairs.text.T, torch.arange(4)
    entropy = torch.nn.functional.cross_entropy
    alone = batch_contrast(pairs, torch.tensor(3.0), torch.eye(4, dtype=torch.bool))
    torch.testing.assert_close(alone, (entropy(logits, arange) + entropy(logits.T, arange)) / 2)
    same = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.bool)
    shared = batch_contrast(pairs, torch.tensor(3.0), same)
    right = same / same.sum(1, keepdim=True)
    by_hand = -(logits.log_softmax(1) * right).sum(1).mean() - (logits.T.log_softmax(1) * right).sum(1).mean()
    torch.testing.assert_close(shared, by_hand / 2)

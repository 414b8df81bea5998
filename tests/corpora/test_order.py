"""The shuffle of an epoch: a bijection for every count, the same everywhere, and without a pattern."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlbench.corpora.order import Permutation, _mix, _mixed


def whole(count: int, seed: int = 0, epoch: int = 0) -> np.ndarray:
    return Permutation(count, seed, epoch)[np.arange(count)]


@pytest.mark.parametrize("count", [*range(70), 127, 128, 129, 1000, 4095, 4096, 4097, 65537, 99991])
def test_every_example_comes_once(count: int) -> None:
    assert sorted(whole(count, seed=3, epoch=2).tolist()) == list(range(count))


@given(st.integers(1, 3000), st.integers(-(2**70), 2**70), st.integers(0, 10**9))
@settings(max_examples=50, deadline=None)
def test_every_example_comes_once_for_any_seed(count: int, seed: int, epoch: int) -> None:
    assert np.array_equal(np.sort(whole(count, seed, epoch)), np.arange(count))


def test_the_order_is_the_same_everywhere() -> None:
    """These numbers may never change: runs are resumed by them."""
    assert whole(10).tolist() == PINNED
    assert Permutation(10**12, 7, 3)[np.array([0, 1, 10**12 - 1])].tolist() == PINNED_LARGE
    assert _mixed(0) == 0xE220A8397B1DCDAF  # the first number of splitmix64 as its authors have it
    assert _mix(np.array([0], dtype=np.uint64)).tolist() == [0xE220A8397B1DCDAF]


PINNED = [5, 1, 0, 3, 9, 6, 4, 8, 2, 7]
PINNED_LARGE = [552548486788, 449423872082, 3344040708]


def test_places_are_asked_for_in_any_shape_and_order() -> None:
    order = Permutation(1000, 5, 1)
    places = np.array([[7, 999], [0, 7]])
    found = order[places]
    assert found.shape == (2, 2)
    assert found.dtype == np.int64
    assert found[0, 0] == found[1, 1] == whole(1000, 5, 1)[7]
    assert order[np.array([], dtype=np.int64)].shape == (0,)
    assert len(order) == 1000
    for wrong in ([1000], [-1]):
        with pytest.raises(IndexError):
            order[np.array(wrong)]
    with pytest.raises(ValueError, match="cannot order"):
        Permutation(-1, 0)


def test_large_counts_need_no_memory() -> None:
    count = 3 * 10**15 + 1
    places = np.random.default_rng(0).integers(0, count, 10_000)
    found = Permutation(count, 1, 1)[places]
    assert len(np.unique(found)) == len(np.unique(places))
    assert 0 <= found.min() < count / 1000 < count - count / 1000 < found.max() < count


@pytest.mark.parametrize("count", [100, 1000, 5003])
def test_it_looks_random(count: int) -> None:
    """Where examples stand is spread as by chance over places and epochs, and so is what follows what."""
    epochs, bins = 200, 10
    table, steps = np.zeros((bins, bins)), np.zeros(bins)
    fixed = 0
    for epoch in range(epochs):
        order = whole(count, seed=11, epoch=epoch)
        np.add.at(table, (np.arange(count) * bins // count, order * bins // count), 1)
        steps += np.bincount(((order[1:] - order[:-1]) % count) * bins // count, minlength=bins)
        fixed += int((order == np.arange(count)).sum())
    expected = epochs * count / bins**2
    assert ((table - expected) ** 2 / expected).sum() < 81 + 5 * np.sqrt(2 * 81)  # degrees of freedom: 9 x 9
    possible = np.bincount(np.arange(1, count) * bins // count, minlength=bins)  # none follows itself
    per_step = epochs * possible
    assert ((steps - per_step) ** 2 / per_step).sum() < 9 + 5 * np.sqrt(2 * 9)
    assert abs(fixed - epochs) < 5 * np.sqrt(epochs)  # one an epoch, as of any shuffle


def test_all_orders_of_few_examples_come_about_as_often() -> None:
    orders = [tuple(whole(4, seed=seed).tolist()) for seed in range(4800)]
    counts = np.array([orders.count(order) for order in set(orders)])
    assert len(counts) == 24
    assert ((counts - 200) ** 2 / 200).sum() < 23 + 5 * np.sqrt(2 * 23)


def test_epochs_and_seeds_differ() -> None:
    orders = {tuple(whole(50, seed, epoch).tolist()) for seed in range(30) for epoch in range(30)}
    assert len(orders) == 900

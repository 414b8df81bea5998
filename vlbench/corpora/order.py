"""The order in which an epoch shows its examples: a shuffle that is calculated, not stored.

A Feistel network whose halves are added instead of xored shuffles all pairs of two numbers, of which there are hardly
more than examples; a result beyond these is shuffled again until it is none ("cycle walking": Black and Rogaway,
Ciphers with Arbitrary Finite Domains, 2002). Only whole numbers of 64 bits are used, so the order is the same on every
machine, and with every version of numpy.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 8
_WORD = (1 << 64) - 1
_STEP, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_MOST = 1 << 62


def _mixed(value: int) -> int:
    """Return one step of splitmix64 (Steele, Lea and Flood, 2014)."""
    value = (value + _STEP) & _WORD
    value = ((value ^ (value >> 30)) * _FIRST) & _WORD
    value = ((value ^ (value >> 27)) * _SECOND) & _WORD
    return value ^ (value >> 31)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return ``_mixed`` of each; arrays of such numbers wrap as is wanted."""
    values = values + np.uint64(_STEP)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(_FIRST)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(_SECOND)
    return values ^ (values >> np.uint64(31))


class Permutation:
    """The numbers 0 to ``count`` - 1 in an order of their own for every seed and epoch; takes no memory.

    ``order[places]`` says which examples stand at some places of the epoch: [n] int64 to [n] int64.
    """

    def __init__(self, count: int, seed: int, epoch: int = 0) -> None:
        if not 0 <= count <= _MOST:
            raise ValueError(f"cannot order {count} examples")
        self.count, self.seed, self.epoch = count, seed, epoch
        self._high = max(1, math.isqrt(max(0, count - 1)) + 1)
        self._low = max(1, -(-count // self._high))
        key = _mixed(_mixed(seed & _WORD) ^ (epoch & _WORD))
        self._keys = [np.uint64(_mixed(key + number)) for number in range(_ROUNDS)]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        places = np.asarray(places, dtype=np.int64)
        if places.size and not (int(places.min()) >= 0 and int(places.max()) < self.count):
            raise IndexError(f"places must be 0 to {self.count - 1}")
        found = self._shuffled(places.astype(np.uint64).reshape(-1))
        while (beyond := np.flatnonzero(found >= np.uint64(self.count))).size:
            found[beyond] = self._shuffled(found[beyond])
        return found.astype(np.int64).reshape(places.shape)

    def _shuffled(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Shuffle all numbers below ``high`` x ``low``."""
        wide, narrow = np.uint64(self._high), np.uint64(self._low)
        high, low = values // narrow, values % narrow
        for number, key in enumerate(self._keys):
            if number % 2:
                low = (low + _mix(high ^ key) % narrow) % narrow
            else:
                high = (high + _mix(low ^ key) % wide) % wide
        return high * narrow + low

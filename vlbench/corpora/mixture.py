"""Several corpora as one: an epoch passes over each of them once, or more often where a recipe says so."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path

from vlbench.corpora.corpus import Corpus
from vlbench.corpora.sources import Readable
from vlbench.types import Example, Misuse


class Mixture(Corpus):
    """Corpora one after the other, each as often as is wanted; ids and keys are those of the corpora."""

    def __init__(self, parts: Sequence[tuple[Corpus, int]], name: str = "mixture") -> None:
        super().__init__(name)
        for corpus, times in parts:
            if type(times) is not int or times < 1:
                raise Misuse(f"an epoch cannot pass {times} times over {corpus.name}", "it takes a whole number from 1")
        names = [corpus.name for corpus, _ in parts]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise Misuse(f"a mixture has {twice[0]} twice", "say how many times an epoch passes over it instead")
        self.parts = tuple(parts)
        self._named = {corpus.name: corpus for corpus, _ in parts}
        self._starts = [0, *accumulate(times * len(corpus) for corpus, times in parts)]

    def __len__(self) -> int:
        return self._starts[-1]

    def ranges(self) -> list[range]:
        """Return the numbers of each corpus's examples, in the order of ``parts``."""
        return [range(start, stop) for start, stop in pairwise(self._starts)]

    def _at(self, number: int) -> tuple[Corpus, int, int, int]:
        """Return the corpus of an example, its number there, and which pass of how many it is of."""
        self.check_number(number)
        part = bisect_right(self._starts, number) - 1
        corpus, times = self.parts[part]
        passed, inside = divmod(number - self._starts[part], len(corpus))
        return corpus, inside, passed, times

    def example(self, number: int, draw: int = 0) -> Example:
        """Return an example of one of the corpora; every pass of an epoch is a draw of its own."""
        corpus, inside, passed, times = self._at(number)
        return corpus.example(inside, draw * times + passed)

    def told(self, number: int) -> Sequence[str]:
        """Return all that is told of an example."""
        corpus, inside, _, _ = self._at(number)
        return corpus.told(inside)

    def picture(self, key: str) -> Readable | None:
        """Return what can be opened as an image; None where its file is not here."""
        name = key.partition(":")[0]
        if name not in self._named:
            raise KeyError(f"{key} is an image of none of {', '.join(self._named)}")
        return self._named[name].picture(key)

    def hashes(self) -> dict[str, str]:
        """Hash what all corpora are read from, as CORPUS/NAME."""
        return {f"{name}/{file}": found for name, one in self._named.items() for file, found in one.hashes().items()}

    def files(self) -> dict[str, Path]:
        """Return the files of all corpora, as CORPUS/NAME."""
        return {f"{name}/{file}": path for name, corpus in self._named.items() for file, path in corpus.files().items()}

"""Questions chosen so that a text never tells its answer: every exact wording has each of its answers equally often.

So whoever reads only the texts is right in one of as many cases as a text has answers, whatever it learns: that is
the *prior* of a split, which the manifest states. It is a share of exact matches: a score that gives something for
the answer of one of ten people, as VQA's, is higher for the same guesses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol, TypeVar

from vlbench.world.dice import Dice

YES_NO = ("yes", "no")


class Text(Protocol):
    """What is asked, whatever else belongs to it."""

    @property
    def text(self) -> str:
        """The exact wording."""

    @property
    def answer(self) -> str:
        """The right answer."""

    @property
    def answers(self) -> tuple[str, ...]:
        """All answers it may have, of which each must be found equally often."""

    @property
    def family(self) -> str:
        """What kind of question it is: how many are wanted is said by kind."""


Asked = TypeVar("Asked", bound=Text)


class Question(NamedTuple):
    """A question on one picture."""

    text: str
    answer: str
    answers: tuple[str, ...]
    skill: str
    family: str
    unseen: bool = False
    """Whether it is about a pair of colour and shape that is kept from training."""


def balanced(
    asked: Iterable[tuple[int, Asked]], rates: Mapping[str, float], images: int, dice: Dice
) -> list[tuple[int, Asked]]:
    """Choose from what could be asked of pictures (number of the picture, question): of every text as many of each
    answer, and of every family about ``rates`` a picture. A text that lacks one of its answers is left out.
    """
    found: dict[str, dict[str, list[tuple[int, Asked]]]] = {}
    for number, question in asked:
        found.setdefault(question.text, {}).setdefault(question.answer, []).append((number, question))
    possible: dict[str, int] = {}
    totals = dict.fromkeys(rates, 0)
    for text, by_answer in found.items():
        question = next(iter(by_answer.values()))[0][1]
        if len(by_answer) == len(question.answers) >= 2:
            possible[text] = min(map(len, by_answer.values()))
            totals[question.family] += possible[text] * len(by_answer)
    kept: list[tuple[int, Asked]] = []
    for text, most in possible.items():
        family = next(iter(found[text].values()))[0][1].family
        wanted = dice.rounded(min(1.0, rates[family] * images / totals[family]) * most)
        for same in found[text].values():
            kept += dice.some(same, min(wanted, most))
    return sorted(dice.shuffled(kept), key=lambda one: one[0])


def prior(questions: Iterable[Text]) -> float:
    """Return how many questions are matched exactly, on average, by whoever knows the texts alone."""
    return sum(1 / len(question.answers) for question in questions)

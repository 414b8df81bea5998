"""``vlbench score`` takes the options of the task that is asked for, and refuses those it would not look at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from vlbench.cards import TaskCard
from vlbench.catalog import card_names

OPTIONS = dict.fromkeys(card_names(TaskCard), ("--annotations",)) | {
    "vqa": ("--questions", "--annotations"),
    "gqa": ("--questions", "--choices", "--scenes", "--consistency"),
    "retrieval": ("--annotations", "--pool"),
    **dict.fromkeys(("refcoco", "refcoco+", "refcocog"), ("--annotations", "--questions")),
}


@pytest.mark.parametrize("task", OPTIONS)
def test_an_option_that_is_not_used_is_refused(command: Callable[..., Any], task: str) -> None:
    for option in ("--questions", "--annotations", "--choices", "--scenes", "--consistency", "--pool"):
        given = (option,) if option in ("--consistency", "--pool") else (option, "none.json")
        done = command("score", task, "--answers", "none", *given)
        words = f"score {task} has no use for {option}"
        if option in OPTIONS[task]:
            assert words not in done.err
        else:
            done.refused(2, words)
            assert f"it takes --answers, {', '.join(OPTIONS[task])}, --scorer" in done.err

"""What a model is asked in place of an example, to see what it looks at."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest

from vlbench.controls import shuffled
from vlbench.types import Example, Form


class Asking:
    """As much of a task as decides which controls there are."""

    form: ClassVar[Form] = "point"
    told: ClassVar[bool] = True


EXAMPLES = [
    Example(str(n), (f"picture{n // 2}",), (f"the {n % 3} on the left",), (0.0, 0.0, 1.0, 1.0)) for n in range(12)
]


@pytest.mark.parametrize(
    ("form", "told", "names"),
    [
        ("classify", True, {"image-shuffled"}),
        ("classify", False, {"image-shuffled", "text-shuffled"}),
        ("compare", True, {"image-shuffled", "text-shuffled"}),
        ("point", True, {"image-shuffled", "text-shuffled"}),
        ("choose", True, {"image-shuffled"}),
        ("match", True, {"image-shuffled"}),
        ("write", True, {"image-shuffled"}),
    ],
)
def test_texts_are_exchanged_where_any_may_be_asked(form: Form, told: bool, names: set[str]) -> None:
    task = type("Task", (Asking,), {"form": form, "told": told})()
    assert set(shuffled(task, EXAMPLES)) == names


@pytest.mark.parametrize(("name", "part"), [("image-shuffled", "images"), ("text-shuffled", "texts")])
def test_an_example_keeps_all_but_one_part(name: str, part: str) -> None:
    instead = shuffled(Asking(), EXAMPLES)[name]  # type: ignore[arg-type]
    asked = [instead(example) for example in EXAMPLES]
    for before, after in zip(EXAMPLES, asked, strict=True):
        assert getattr(before, part) != getattr(after, part)
        assert replace(after, **{part: getattr(before, part)}) == before
    alike: dict[object, set[object]] = {}
    for before, after in zip(EXAMPLES, asked, strict=True):
        alike.setdefault(getattr(before, part), set()).add(getattr(after, part))
    assert all(len(found) == 1 for found in alike.values())
    assert asked == [instead(example) for example in EXAMPLES]

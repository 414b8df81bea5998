"""METEOR is asked of the authors' program where it is, and missed with a reason where it is not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vlbench.metrics import meteor as module
from vlbench.metrics.meteor import meteor, missing

PROGRAM = """
STARTED = []


class Meteor:
    def __init__(self):
        STARTED.append(self)

    def compute_score(self, wanted, said):
        assert sorted(wanted) == sorted(said)
        if said[0] == ["broken"]:
            raise BrokenPipeError("the program has ended\\nand more")
        each = [float(said[at][0] in wanted[at]) for at in said]
        return 0.25 + sum(each) / len(each) / 2, each
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Java, and a package that answers as pycocoevalcap does."""
    folder = tmp_path / "pycocoevalcap" / "meteor"
    folder.mkdir(parents=True)
    for place in (folder.parent, folder):
        (place / "__init__.py").touch()
    (folder / "meteor.py").write_text(PROGRAM)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(module.shutil, "which", lambda name: f"/usr/bin/{name}")
    module._program.cache_clear()
    yield
    module._program.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "pycocoevalcap"]:
        del sys.modules[name]


def test_the_program_is_started_once_and_asked_again(program: None) -> None:
    assert missing() == ""
    found = meteor(["a cat", "a dog"], [["a cat", "x"], ["y"]])
    assert (found.value, found.each, found.missing) == (0.5, (1.0, 0.0), "")
    assert meteor(["a cat"], [["a cat"]]).value == 0.75
    assert len(sys.modules["pycocoevalcap.meteor.meteor"].STARTED) == 1


def test_a_program_that_ends_is_no_crash_and_is_started_anew(program: None) -> None:
    found = meteor(["broken"], [["x"]])
    assert (found.value, found.each) == (None, ())
    assert found.missing == "METEOR's program failed: BrokenPipeError: the program has ended"
    assert meteor(["x"], [["x"]]).value == 0.75
    assert len(sys.modules["pycocoevalcap.meteor.meteor"].STARTED) == 2


def test_what_is_missing_is_told(program: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert "pip install 'vlbench[caption]'" in missing()
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    assert "Java" in meteor(["x"], [["x"]]).missing

"""Options and evidence that all tests share.

``pytest --official DIR`` runs the conformance tests on DIR/metrics and DIR/parity instead of the copies here
(the option itself is registered by vlbench/proof/pytest_option.py).
"""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # before torch is loaded, as the command line does

import base64
import json
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from vlbench import catalog, cli
from vlbench.world import Counts, make_world

OFFICIAL = Path(__file__).parent / "official"


def official_folder(config: pytest.Config) -> Path:
    """Return the evidence folder in use; a usage error where there is none."""
    folder = config.invocation_params.dir / (config.getoption("--official") or OFFICIAL)
    if not (folder / "metrics").is_dir() and not (folder / "parity").is_dir():
        raise pytest.UsageError(f"--official {folder}: holds neither metrics/ nor parity/")
    return folder


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give ``metric_folder`` every folder of DIR/metrics, and ``parity_case`` every case of DIR/parity."""
    for name, pattern, depth in (("metric_folder", "metrics/*/", 1), ("parity_case", "parity/*/*/", 2)):
        if name in metafunc.fixturenames:
            found = sorted(path for path in official_folder(metafunc.config).glob(pattern) if path.is_dir())
            metafunc.parametrize(name, found, ids=["/".join(path.parts[-depth:]) for path in found])


@pytest.fixture(name="official_folder", scope="session")
def official_folder_fixture(pytestconfig: pytest.Config) -> Path:
    """The folder of official evidence: tests/official, or what ``--official`` names."""
    return official_folder(pytestconfig)


class Done(NamedTuple):
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def complaints(self) -> list[str]:
        """The lines that say what is wrong."""
        return [line for line in self.err.splitlines() if line.startswith("vlbench: ")]

    def refused(self, code: int, *words: object, todo: bool = True) -> None:
        """Check that it ended with one clear line that holds the words, and with one that says what to do."""
        assert self.code == code, self.err
        assert "Traceback" not in self.out + self.err
        assert len(self.complaints) == 1, self.err
        for word in words:
            assert str(word) in self.complaints[0]
        lines = self.err.splitlines()
        after = lines[lines.index(self.complaints[0]) + 1 :]
        assert not todo or (after and after[0].startswith("  -> ")), self.err


Command = Callable[..., Done]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Command]:
    """Call the command line in this process, with runs and cache below ``tmp_path`` and one thread."""
    for name in ("VLBENCH_DATA", "VLBENCH_SUITE", "VLBENCH_CARDS", "VLBENCH_DEBUG", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("VLBENCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("VLBENCH_CACHE", str(tmp_path / "cache"))

    def call(*words: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["vlbench", *map(str, words)])
        catalog._card_files.cache_clear()
        catalog._find.cache_clear()
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Done(int(ended.value.code or 0), *capfd.readouterr())

    yield call
    catalog._card_files.cache_clear()
    catalog._find.cache_clear()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a tiny world of 60 pictures to train on where a small one would be; do not write in it."""
    root = tmp_path_factory.mktemp("data")
    make_world(root / "world" / "small", size=Counts(train=60, val=30, test=30, unseen=30, sets=8, tested_sets=4))
    return root


@pytest.fixture
def own_made(made: Path, tmp_path: Path) -> Path:
    """A copy of the folder with a tiny world to do with as one likes."""
    return Path(shutil.copytree(made, tmp_path / "data"))


SUBTYPES = {"train": "train2014", "val": "val2014", "test-dev": "test-dev2015", "test": "test2015"}
IMAGES = {"train": range(1, 25), "val": range(25, 37), "test-dev": range(37, 41), "test": range(37, 45)}
ANSWERS = ("yes", "red", "2", "no")
KINDS = {"yes": "yes/no", "no": "yes/no", "red": "other", "2": "number"}
REGIONS, WIDTH = 6, 24


def _questions(split: str) -> list[dict[str, Any]]:
    """Ask two questions on each image."""
    return [
        {"image_id": image, "question": f"is thing {number} of {image % 4} here?", "question_id": image * 1000 + number}
        for image in IMAGES[split]
        for number in (0, 1)
    ]


def _annotation(question: dict[str, Any]) -> dict[str, Any]:
    """Let nine of ten people agree; on every seventh image, each of the ten has an answer of their own."""
    image, at = question["image_id"], question["question_id"]
    answer = ANSWERS[(image + at) % len(ANSWERS)]
    said = [f"own {at} {person}" for person in range(10)] if image % 7 == 0 else [answer] * 9 + ["maybe"]
    people = [{"answer": one, "answer_confidence": "yes", "answer_id": n} for n, one in enumerate(said, 1)]
    return {
        "question_type": "is",
        "multiple_choice_answer": said[0],
        "answers": people,
        "image_id": image,
        "answer_type": KINDS[answer] if image % 7 else "other",
        "question_id": at,
    }


def _feature_row(key: str, generator: np.random.Generator) -> str:
    """Write a row of LXMERT's ten columns."""

    def packed(values: np.ndarray) -> str:
        return base64.b64encode(values.tobytes()).decode()

    corners = np.sort(generator.random((REGIONS, 2, 2), dtype=np.float32), axis=1).reshape(REGIONS, 4)
    numbers = packed(generator.integers(0, 9, REGIONS))
    sure = packed(generator.random(REGIONS, dtype=np.float32))
    features = packed(generator.random((REGIONS, WIDTH), dtype=np.float32))
    boxes = packed(corners * np.float32([640, 480, 640, 480]))
    return "\t".join([key, "480", "640", numbers, sure, numbers, sure, str(REGIONS), boxes, features])


def _vocabulary() -> str:
    """Write a small vocabulary as BERT's is: lower case, every letter whole and as a continuation."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789?."
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "is", "thing", "here", "of"]
    return "\n".join([*pieces, *letters, *(f"##{letter}" for letter in letters)]) + "\n"


@pytest.fixture(scope="session")
def made_up_vqa_v2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a small made-up VQA v2 in the official layout; do not write in it."""
    root = tmp_path_factory.mktemp("official")
    folder, generator = root / "vqa-v2", np.random.default_rng(0)
    folder.mkdir()
    for split, subtype in SUBTYPES.items():
        questions = _questions(split)
        asked = {"data_type": "mscoco", "data_subtype": subtype, "questions": questions}
        (folder / f"v2_OpenEnded_mscoco_{subtype}_questions.json").write_text(json.dumps(asked))
        if split in ("train", "val"):
            answered = {"data_subtype": subtype, "annotations": [_annotation(question) for question in questions]}
            (folder / f"v2_mscoco_{subtype}_annotations.json").write_text(json.dumps(answered))
        if split != "test-dev":
            keys = [f"COCO_{subtype}_{image:012d}" for image in IMAGES[split]]
            random.Random(0).shuffle(keys)
            rows = [_feature_row(key, generator) + "\n" for key in keys]
            (folder / f"{subtype}_obj36.tsv").write_text("".join(rows))
    local = [question for question in _questions("val") if question["image_id"] < 29]
    records = [{"img_id": f"COCO_val2014_{one['image_id']:012d}", "question_id": one["question_id"]} for one in local]
    (folder / "minival.json").write_text(json.dumps(records))
    words = root / "tokenisers" / "bert-base-uncased" / "vocab.txt"
    words.parent.mkdir(parents=True)
    words.write_text(_vocabulary())
    return root


@pytest.fixture
def vqa_v2(made_up_vqa_v2: Path, tmp_path: Path) -> Path:
    """A copy of the made-up VQA v2 to do with as one likes."""
    return Path(shutil.copytree(made_up_vqa_v2, tmp_path / "official"))

"""What a step of pre-training costs with a small and a large corpus, and with few and many steps.

``python tests/benchmarks/test_pretraining_cost.py`` pre-trains at full size (corpora of 20,000 and 400,000 records, 100
and 400 steps), every run in a process of its own, the rounds taking turns; it ends with 1 where a step on the larger
corpus takes over a fifth more, or where many steps need over a twentieth more memory than few. Under pytest corpora and
steps are few and no time is asserted: only that nothing is kept from step to step, and that no list is opened again.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from vlbench.corpora.feed import CorpusFeed
from vlbench.corpora.images import CorpusPixels
from vlbench.corpora.pairs import Pairs
from vlbench.data.batches import Collator
from vlbench.data.transforms import Transform
from vlbench.data.words import train_words
from vlbench.recipe import Recipe

SIZES, STEPS, ROUNDS = (20_000, 400_000), (100, 400), 3
PICTURES, BATCH = 200, 32
THINGS = ("circle", "square", "triangle", "star", "heart", "ring", "cross")
COLOURS = ("red", "green", "blue", "yellow", "white", "black", "pink", "brown")


class Cost(NamedTuple):
    """Of one run."""

    seconds: float
    """A step."""
    memory: int
    """Bytes at peak."""


def write_corpus(folder: Path, records: int) -> Path:
    """Write a corpus of so many captions of a few pictures, and its card; return the card."""
    random = np.random.default_rng(records)
    (folder / "images").mkdir(parents=True)
    for number in range(PICTURES):
        pixels = random.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
    kinds = random.integers(0, [len(COLOURS), len(THINGS), len(COLOURS), len(THINGS)], (records, 4))
    pairs = [
        {
            "image": f"{number % PICTURES}.png",
            "caption": f"a {COLOURS[a]} {THINGS[b]} beside a {COLOURS[c]} {THINGS[d]}, number {number}",
        }
        for number, (a, b, c, d) in enumerate(kinds.tolist())
    ]
    (folder / "captions.json").write_text(json.dumps(pairs), encoding="utf-8")
    card = folder / "corpus.toml"
    card.write_text(
        'name = "made up"\nabout = "captions"\nhome = "here"\nlicence = "none"\nlayout = "pairs"\n'
        '[[file]]\nname = "captions.json"\nrole = "texts"\n[[file]]\nname = "images"\nrole = "images"\n',
        encoding="utf-8",
    )
    return card


def measure(card: Path, steps: int, folder: Path) -> Cost:
    """Pre-train CoCa for so many steps by the command line; leave out the first steps, in which caches fill."""
    command = [
        sys.executable,
        "-m",
        "vlbench",
        "pretrain",
        "coca",
        "--set",
        f"corpora={card}",
        "--set",
        f"steps={steps}",
    ]
    command += ["--set", f"batch={BATCH}", "--set", "log_every=10", "--set", f"save_every={steps}", "--fresh"]
    command += ["--no-mlflow", "--json", "--out", str(folder), "--device", "cpu"]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    (record,) = json.loads(done.stdout)["runs"]
    lines = map(json.loads, (Path(record["folder"]) / "log.jsonl").read_text(encoding="utf-8").splitlines())
    speeds = [line["values"]["samples_per_second"] for line in lines if line["event"] == "step"]
    return Cost(BATCH / median(speeds[len(speeds) // 2 :]), record["throughput"]["peak_memory_bytes"])


def main() -> int:
    """Measure at full size, print what came out, and say by the exit code whether the claim holds."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        cards = {size: write_corpus(root / str(size), size) for size in SIZES}
        for size, card in cards.items():  # the index is made once, and is not what is measured
            measure(card, 10, root / "first" / str(size))
        costs: dict[tuple[int, int], list[Cost]] = {}
        for number in range(ROUNDS):
            for size in SIZES if number % 2 else SIZES[::-1]:
                for steps in STEPS:
                    costs.setdefault((size, steps), []).append(measure(cards[size], steps, root / "runs" / str(number)))
    found = {
        key: Cost(median(one.seconds for one in some), int(median(one.memory for one in some)))
        for key, some in sorted(costs.items())
    }
    for (size, steps), cost in found.items():
        print(
            f"{size:>9,} records, {steps:>4} steps: {cost.seconds * 1e3:6.1f} ms a step, {cost.memory / 2**20:6.0f} MiB"
        )
    small, large = (found[size, STEPS[1]] for size in SIZES)
    slower = large.seconds / small.seconds
    grown = max(found[size, STEPS[1]].memory / found[size, STEPS[0]].memory for size in SIZES)
    print(f"a step on the larger corpus takes {slower:.2f} times as long")
    print(f"four times the steps need {grown:.3f} times the memory")
    print(f"the larger corpus needs {(large.memory - small.memory) / (SIZES[1] - SIZES[0]):.0f} bytes a record more")
    return int(slower > 1.2 or grown > 1.05)


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> CorpusFeed:
    folder = tmp_path_factory.mktemp("corpus") / "made"
    write_corpus(folder, 4_000)
    corpus = Pairs("made", [folder / "captions.json"], [folder / "images"])
    words = train_words(corpus.texts(500, 0), 300)
    collate = Collator(CorpusPixels(corpus, Transform(16)), words, length=12, keeps=False)
    return CorpusFeed(corpus, collate, Recipe(model="a", task="b", batch=16))


def test_nothing_is_kept_from_step_to_step(feed: CorpusFeed) -> None:
    for _ in feed.steps(0, 250):  # an epoch, in which every picture is decoded once and kept
        pass
    tracemalloc.start()
    try:
        for _ in feed.steps(250, 260):
            pass
        gc.collect()  # batches lie in cycles with their loader until then
        before, _ = tracemalloc.get_traced_memory()
        for _ in feed.steps(260, 500):
            pass
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100_000  # 240 steps of 16 texts; kept texts alone would be 300 KB


def test_no_list_is_opened_again_for_an_example(feed: CorpusFeed) -> None:
    opened: list[str] = []
    counting = True

    def hear(event: str, values: tuple[object, ...]) -> None:
        if counting and event == "open":
            opened.append(str(values[0]))

    sys.addaudithook(hear)  # for good; it hears nothing once we are done
    for _ in feed.steps(500, 560):
        pass
    counting = False
    assert sum(name.endswith("captions.json") for name in opened) <= 1


if __name__ == "__main__":
    sys.exit(main())

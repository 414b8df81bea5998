"""What a step of pre-training costs with a small and a large corpus, and with few and many steps.

``python tests/benchmarks/test_pretraining_cost.py`` pre-trains at full size: CoCa on pixels in tars, LXMERT on stored
regions, corpora of 20,000 and 400,000 images of their own, 40 and 160 steps; every run in a process of its own, the
rounds taking turns. It ends with 1 where a step on the larger corpus takes over a fifth more, or where the larger
corpus or many steps need over a twentieth more memory. Memory is what a process has of its own, at most: not the pages
of mapped files, which the system takes back when it wants them. Under pytest corpora and steps are few and no time is
asserted: only that nothing is kept from step to step, and that no list and no tar is opened again.
"""

from __future__ import annotations

import gc
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from vlbench.corpora.feed import CorpusFeed
from vlbench.corpora.images import CorpusPixels, CorpusRegions
from vlbench.corpora.lxmert import Sentences
from vlbench.corpora.shards import Shards
from vlbench.data.batches import Collator
from vlbench.data.feature_writer import FeatureWriter
from vlbench.data.features import FeatureFile, Labels, Regions
from vlbench.data.images import RegionStore
from vlbench.data.transforms import Transform
from vlbench.data.words import train_words
from vlbench.recipe import Recipe

SIZES, STEPS, ROUNDS, BATCH = (20_000, 400_000), (40, 160), 3, 32
SLOWER, LARGER = 1.2, 1.05
"""What a larger corpus, or more steps, may cost in time and memory."""
SHARD, SIDE, REGIONS, FEATURES = 10_000, 32, 8, 64
THINGS = ("circle", "square", "triangle", "star", "heart", "ring", "cross")
COLOURS = ("red", "green", "blue", "yellow", "white", "black", "pink", "brown")
METHODS = {"coca": ("--set", "augment=1"), "lxmert": ()}
"""A picture that is augmented is another each time, so none is kept in memory; regions of corpora never are."""


class Cost(NamedTuple):
    """Of one run."""

    seconds: float
    """A step."""
    memory: int
    """Bytes of its own at most."""


def captions(records: int) -> Iterator[str]:
    """Yield so many different captions."""
    random = np.random.default_rng(records)
    kinds = random.integers(0, [len(COLOURS), len(THINGS), len(COLOURS), len(THINGS)], (records, 4))
    for number, (a, b, c, d) in enumerate(kinds.tolist()):
        yield f"a {COLOURS[a]} {THINGS[b]} beside a {COLOURS[c]} {THINGS[d]}, number {number}"


def write_shards(folder: Path, records: int) -> Path:
    """Write a corpus of so many pictures with captions in tars, and its card; return the card."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(records)
    told = captions(records)
    for first in range(0, records, SHARD):
        with tarfile.open(folder / f"{first // SHARD:05}.tar", "w") as shard:
            for number in range(first, min(first + SHARD, records)):
                picture = io.BytesIO()
                cells = random.integers(0, 255, (4, 4, 3), dtype=np.uint8)
                Image.fromarray(cells).resize((SIDE, SIDE), Image.Resampling.NEAREST).save(picture, "JPEG")
                for suffix, content in (("jpg", picture.getvalue()), ("txt", next(told).encode())):
                    about = tarfile.TarInfo(f"{number:09}.{suffix}")
                    about.size = len(content)
                    shard.addfile(about, io.BytesIO(content))
    return write_card(folder, "shards", ("*.tar", "shards"))


def write_regions(folder: Path, records: int) -> Path:
    """Write a corpus of so many images by their regions, a caption each, and its card; return the card."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(records)
    told = [
        {"img_id": f"{number:09}", "sentf": {"made": [text]}, "labelf": {}}
        for number, text in enumerate(captions(records))
    ]
    (folder / "captions.json").write_text(json.dumps(told), encoding="utf-8")
    boxes = np.tile(np.array([[0, 0, 1, 1]], dtype=np.float32), (REGIONS, 1))
    sure = np.ones(REGIONS, dtype=np.float32)
    with FeatureWriter(folder / "regions.h5", extractor="made up") as writer:
        for number in range(records):
            kinds = random.integers(0, 7, REGIONS)
            values = random.standard_normal((REGIONS, FEATURES), dtype=np.float32)
            writer.add(f"{number:09}", Regions(values, boxes, Labels(kinds, sure, kinds, sure)))
    return write_card(folder, "lxmert", ("captions.json", "texts"), ("regions.h5", "features"))


def write_card(folder: Path, layout: str, *files: tuple[str, str]) -> Path:
    """Write the card of a corpus whose files lie beside it."""
    named = "".join(f'[[file]]\nname = "{name}"\nrole = "{role}"\n' for name, role in files)
    detector = "objects = 7\nattributes = 7\n" if layout == "lxmert" else ""
    card = folder / "corpus.toml"
    card.write_text(
        'name = "made up"\nabout = "captions"\nhome = "here"\nlicence = "none"\n'
        f'layout = "{layout}"\n{detector}{named}',
        encoding="utf-8",
    )
    return card


def write_words(folder: Path) -> Path:
    """Write the words that are read by, under the name of a published vocabulary; return the folder."""
    place = folder / "tokenisers" / "bert-base-uncased"
    place.mkdir(parents=True, exist_ok=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "beside", "number", ",", *THINGS, *COLOURS]
    pieces = [*"0123456789", *(f"##{digit}" for digit in range(10))]
    (place / "vocab.txt").write_text("\n".join([*words, *pieces]) + "\n", encoding="utf-8")
    return folder


WRITERS = {"coca": write_shards, "lxmert": write_regions}


def measure(method: str, card: Path, steps: int, folder: Path) -> Cost:
    """Pre-train for so many steps by the command line; leave out the first half, in which caches fill."""
    settings = {"corpora": card, "steps": steps, "batch": BATCH, "log_every": 10, "save_every": steps}
    settings["tokeniser"] = (
        "bert-base-uncased"  # learning words is bounded by the texts it takes, and not a step's cost
    )
    command = [sys.executable, "-m", "vlbench", "pretrain", method, *METHODS[method]]
    command += [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    command += ["--fresh", "--no-mlflow", "--json", "--out", str(folder), "--device", "cpu"]
    command += ["--data", str(write_words(folder / "data"))]
    with tempfile.TemporaryFile() as said:
        running = subprocess.Popen(
            command, stdout=said, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        memory = 0
        while running.poll() is None:
            memory = max(memory, memory_of(running.pid))
            time.sleep(0.1)
        if running.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {running.returncode}")
        said.seek(0)
        (record,) = json.loads(said.read())["runs"]
    lines = map(json.loads, (Path(record["folder"]) / "log.jsonl").read_text(encoding="utf-8").splitlines())
    speeds = [line["values"]["samples_per_second"] for line in lines if line["event"] == "step"]
    return Cost(BATCH / median(speeds[len(speeds) // 2 :]), memory)


def memory_of(process: int) -> int:
    """Return the bytes a process has of its own, mapped files left out; 0 once it has ended."""
    try:
        told = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in told.splitlines() if line.startswith("RssAnon:")), 0)


def compare(method: str, root: Path) -> bool:
    """Measure one method at full size, and print what came out; return whether the claim holds."""
    cards = {size: WRITERS[method](root / str(size), size) for size in SIZES}
    for size, card in cards.items():  # the index is made once, and is not what is measured
        measure(method, card, 10, root / "first" / str(size))
    costs: dict[tuple[int, int], list[Cost]] = {}
    for number in range(ROUNDS):
        for steps in STEPS:
            for size in SIZES if number % 2 else SIZES[::-1]:
                found = measure(method, cards[size], steps, root / "runs" / str(number))
                costs.setdefault((size, steps), []).append(found)
    middle = {
        key: Cost(median(one.seconds for one in some), int(median(one.memory for one in some)))
        for key, some in sorted(costs.items())
    }
    print(f"| {method}: images | steps | ms a step | MiB |\n|---|---|---|---|")
    for (size, steps), cost in middle.items():
        print(f"| {size:,} | {steps} | {cost.seconds * 1e3:.1f} | {cost.memory / 2**20:.0f} |")
    small, large = (middle[size, STEPS[1]] for size in SIZES)
    slower, larger = large.seconds / small.seconds, large.memory / small.memory
    grown = max(middle[size, STEPS[1]].memory / middle[size, STEPS[0]].memory for size in SIZES)
    print(f"\nOn the larger corpus a step takes {slower:.2f} times as long and {larger:.3f} times the memory,")
    print(f"{(large.memory - small.memory) / (SIZES[1] - SIZES[0]):.0f} bytes an image more.")
    print(f"{STEPS[1] / STEPS[0]:.0f} times the steps need {grown:.3f} times the memory.\n", flush=True)
    return slower <= SLOWER and max(larger, grown) <= LARGER


def main(methods: Sequence[str]) -> int:
    """Measure at full size, and say by the exit code whether the claim holds for all methods that were named."""
    held = []
    for method in methods or METHODS:
        with tempfile.TemporaryDirectory() as place:
            held.append(compare(method, Path(place)))
    return int(not all(held))


@pytest.fixture(scope="module", params=list(WRITERS))
def feed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CorpusFeed:
    folder = tmp_path_factory.mktemp("corpus") / "made"
    WRITERS[request.param](folder, 4_000)
    if request.param == "coca":
        pictured = Shards("made", sorted(folder.glob("*.tar")))
        corpus: Shards | Sentences = pictured
        images: CorpusPixels | CorpusRegions = CorpusPixels(pictured, Transform(16), memory=0)
    else:
        corpus = Sentences("made", [folder / "captions.json"], [])
        images = CorpusRegions({"made": RegionStore(FeatureFile(folder / "regions.h5"), memory=0)})
    words = train_words(corpus.texts(500, 0), 300)
    collate = Collator(images, words, length=12, keeps=False)
    return CorpusFeed(corpus, collate, Recipe(model="a", task="b", batch=16))


def test_nothing_is_kept_from_step_to_step(feed: CorpusFeed) -> None:
    for _ in feed.steps(0, 10):
        pass
    tracemalloc.start()
    try:
        for _ in feed.steps(10, 20):
            pass
        gc.collect()  # batches lie in cycles with their loader until then
        before, _ = tracemalloc.get_traced_memory()
        for _ in feed.steps(20, 260):  # an epoch is 250
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
    assert sum(name.endswith(("captions.json", ".tar", ".h5")) for name in opened) <= 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

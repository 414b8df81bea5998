"""Make a whole world: every picture once, and the files of every task."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from vlbench.data.feature_writer import FeatureWriter
from vlbench.data.features import FeatureFile
from vlbench.paths import replacing
from vlbench.types import Misuse, Progress, nearest, quiet
from vlbench.world.blocks import DRAW, WORLD_VERSION, Block, draw_blocks, parts
from vlbench.world.caption_files import write_captions
from vlbench.world.captions import block_captions
from vlbench.world.corpora import Asked, Web, write_answers, write_corpora
from vlbench.world.detector import ATTRIBUTES, CLASSES, EXTRACTOR
from vlbench.world.dice import Dice
from vlbench.world.entailment import write_entailment
from vlbench.world.gqa import write_gqa
from vlbench.world.layout import COCO_IMAGES, MANIFEST, METADATA, NLVR_IMAGES, REGIONS, SPLITS
from vlbench.world.nlvr2 import LARGEST_SETS, write_nlvr2
from vlbench.world.output import Output
from vlbench.world.referring import write_referring
from vlbench.world.studio import Studio
from vlbench.world.vcr import write_vcr
from vlbench.world.vqa import write_vqa

Size: TypeAlias = Literal["small", "medium", "large"]


@dataclass(frozen=True)
class Counts:
    """How much of everything a world has."""

    train: int = 2000
    """Pictures of the pool, by split."""
    val: int = 300
    test: int = 300
    unseen: int = 300
    sets: int = 500
    """Sets of four pairs of pictures, for NLVR2's training."""
    tested_sets: int = 60
    """Sets of each of NLVR2's other splits."""
    wrong: float = 0.3
    """Share of wrong captions in the web corpus."""
    name: str = "custom"

    def times(self, factor: int, name: str) -> Counts:
        """Return the counts of a world that is larger by a factor."""
        numbers = {key: factor * getattr(self, key) for key in (*SPLITS, "sets", "tested_sets")}
        return dataclasses.replace(self, name=name, **numbers)

    @property
    def pictures(self) -> int:
        """About how many pictures are drawn, but for the contrast sets."""
        return self.train + self.val + self.test + self.unseen + 8 * (self.sets + 3 * self.tested_sets)


LEAST: dict[str, int] = {**dict.fromkeys(SPLITS, 30), "sets": 4, "tested_sets": 3}
"""What every task needs to have examples in every split."""
SIZES: dict[str, Counts] = {
    name: Counts().times(factor, name) for name, factor in (("small", 1), ("medium", 10), ("large", 50))
}


ABOUT_PRIORS = (
    "share of examples that are matched exactly, on average, by whoever knows the texts but looks at no image; the "
    "official score of the same answers may be higher (of vqa-v2, where one of ten people who errs counts 0.3). Of "
    "refcoco, refcoco+ and refcocog: by whoever also knows where all objects are and which shape each has, and picks "
    "one of the shape that is meant; whoever knows no object finds far fewer"
)


@dataclass(frozen=True)
class Manifest:
    """What a world is and holds."""

    size: str
    seed: int
    version: int
    counts: dict[str, float]
    """The wanted numbers it was made with."""
    tasks: dict[str, dict[str, dict[str, int]]]
    """Data set -> split -> images and examples."""
    priors: dict[str, dict[str, float]]
    """Data set -> split -> the chance of whoever sees no image, as ``about_priors`` says."""
    files: dict[str, str]
    """sha256 of every annotation file."""
    folders: dict[str, str]
    """Hash of every folder of many small files: the images, and the boxes of VCR."""
    regions: str
    """sha256 of what the region features hold."""
    about_priors: str = ABOUT_PRIORS
    """What ``priors`` are, for who reads the file."""

    def text(self) -> str:
        """Write it as JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True) + "\n"


def counts_of(size: Size | Counts) -> Counts:
    """Return the counts of a size; Misuse where there is none of that name."""
    if isinstance(size, Counts):
        few = [name for name, least in LEAST.items() if getattr(size, name) < least]
        if few:
            wrong = f"a world of {few[0]} = {getattr(size, few[0])} has too little to be balanced"
            raise Misuse(wrong, f"it takes {LEAST[few[0]]} at least")
        if not 0 <= size.wrong <= 1:
            raise Misuse(f"a noise of {size.wrong:g} is no share of captions", "it is from 0 (none is wrong) to 1")
        return size
    if size not in SIZES:
        raise Misuse(f"no size of the world is called '{size}'; {nearest(size, list(SIZES))}")
    return SIZES[size]


def make_world(folder: Path, *, size: Size | Counts, seed: int = 0, progress: Progress = quiet) -> Manifest:
    """Make a world below ``folder``, which is either the old one or the whole new one whatever happens.

    The same size, seed and WORLD_VERSION give the same bytes, but for the container of the region features, which is
    that of the installed HDF5 (its content has a hash of its own).
    """
    counts = counts_of(size)
    with replacing(folder) as part:
        for place in (COCO_IMAGES, NLVR_IMAGES, f"vcr/{METADATA}"):
            (part / place).mkdir(parents=True)
        settings = {"classes": CLASSES, "attributes": ATTRIBUTES, "seed": seed, "version": WORLD_VERSION}
        writer = FeatureWriter(part / REGIONS, extractor=EXTRACTOR, settings=settings)
        with Output(part) as output, writer as regions:
            studio = Studio(output, regions, seed)
            _make_pool(counts, seed, output, studio, progress)
            _make_pairs(counts, seed, output, studio, progress)
        manifest = _manifest(counts, seed, output, FeatureFile(part / REGIONS).sha256)
        (part / MANIFEST).write_text(manifest.text(), encoding="utf-8")
    return manifest


def _make_pool(counts: Counts, seed: int, output: Output, studio: Studio, progress: Progress) -> None:
    """Draw the pictures that most tasks share, and write what is asked of them."""
    answers: dict[str, set[str]] = {"vqa": set(), "gqa": set()}
    for block in _blocks(counts, seed):
        for picture in block.pictures:
            studio.show(COCO_IMAGES, picture.key, picture.scene)
        captions = block_captions(block, 10)
        asked: Asked = {"vqa": write_vqa(block, output), "gqa": write_gqa(block, output)}
        for source, by_picture in asked.items():
            answers[source] |= {one.answer for questions in by_picture.values() for one in questions}
        write_entailment(block, [texts[:5] for texts in captions], output)
        write_vcr(block, output)
        write_referring(block, output)
        write_captions(block, captions, output)
        write_corpora(block, captions, asked, output)
        progress(studio.drawn, max(counts.pictures, studio.drawn), "pictures")
    write_answers(answers, output)


def _blocks(counts: Counts, seed: int) -> Iterator[Block]:
    for split in SPLITS:
        yield from draw_blocks(split, getattr(counts, split), seed)


def _make_pairs(counts: Counts, seed: int, output: Output, studio: Studio, progress: Progress) -> None:
    """Draw the pairs of pictures, and write what is said of them; those of training are the web's pictures too."""
    web = Web(counts.wrong, Dice(DRAW, seed, "web"), output)
    for split in SPLITS:
        for start, length in parts(counts.sets if split == "train" else counts.tested_sets, LARGEST_SETS):
            for key, scene in write_nlvr2(split, range(start, start + length), seed, output, studio):
                if split == "train":
                    web.add(key, scene)
            web.write()
            progress(studio.drawn, max(counts.pictures, studio.drawn), "pictures")


def _manifest(counts: Counts, seed: int, output: Output, regions: str) -> Manifest:
    numbers = {key: value for key, value in dataclasses.asdict(counts).items() if key != "name"}
    priors: dict[str, dict[str, float]] = {}
    for (task, split), guessed in output.guessed.items():
        priors.setdefault(task, {})[split] = guessed / output.counts[task][split]["examples"]
    return Manifest(
        size=counts.name,
        seed=seed,
        version=WORLD_VERSION,
        counts=numbers,
        tasks=output.counts,
        priors=priors,
        files=output.hashes,
        folders={name: f"{value:064x}" for name, value in sorted(output.folders.items())},
        regions=regions,
    )

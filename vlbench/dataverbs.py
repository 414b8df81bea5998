"""The verbs about data: ``vlbench data list | get | check | prepare | extract``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlbench.options import AsJson, Data, Debug, app, finish, print_json, terminal

if TYPE_CHECKING:
    from vlbench.types import Progress

data = typer.Typer(help="Which data is here; get, check, convert and extract it.", no_args_is_help=True)
app.add_typer(data, name="data")

Name = Annotated[str, typer.Argument(help="a data set, as in: vlbench list datasets")]
Checked = Annotated[str, typer.Argument(help="a data set or a corpus, as in: vlbench list datasets, list corpora")]


@contextmanager
def _shown() -> Iterator[Progress]:
    """Show progress on standard error."""
    from rich.console import Console

    from vlbench.console import LiveProgress

    with LiveProgress(Console(stderr=True)) as live:
        yield live.progress


@data.command("list")
def list_(root: Data = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """Say which data sets are here, and how to get the others."""
    from vlbench.datasets import list_here
    from vlbench.paths import data_root
    from vlbench.report.columns import Column
    from vlbench.report.render import grid

    found = list_here(data_root(root))
    if as_json:
        print_json([{**one._asdict(), "tasks": list(one.tasks)} for one in found])
        return
    columns = [Column(title, str, False) for title in ("dataset", "tasks", "state", "to get it")]
    console = terminal()
    console.print(grid(columns, [[one.dataset, ", ".join(one.tasks), one.state, one.get] for one in found]))


@data.command()
def get(
    name: Name,
    size: Annotated[
        str,
        typer.Option("--size", help="of the made-up world: small, medium or large (world, world-medium, world-large)"),
    ] = "",
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="make another world, which needs --to")] = None,
    noise: Annotated[
        float | None,
        typer.Option(
            "--noise", help="share of wrong captions in the made-up world's web, 0 to 1; but for 0.3, needs --to"
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="put the made-up world into this data folder, the --data of other commands"),
    ] = None,
    root: Data = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make the made-up world, or say where a data set is handed out and where to put it."""
    from vlbench.datasets import get as fetch
    from vlbench.made import Wanted
    from vlbench.paths import data_root

    with _shown() as progress:
        lines = fetch(name, data_root(root), size=size, wanted=Wanted(seed, noise, to), progress=progress)
    if as_json:
        print_json(lines)
        return
    for line in lines:
        print(line)


@data.command()
def check(name: Checked, root: Data = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """Check counts, joins, checksums and that every image can be decoded; exit code 3 where something is wrong.

    Of a split that the data set is whole without, what is not here is told and is not wrong. NAME may be a corpus too;
    of a name that is both, both are checked.
    """
    from vlbench.cards import CorpusCard, DatasetCard
    from vlbench.catalog import card_names
    from vlbench.corpora_on_disk import check_corpus
    from vlbench.datasets import Part, as_rows
    from vlbench.datasets import check as look
    from vlbench.paths import data_root
    from vlbench.report.columns import Column
    from vlbench.report.render import grid
    from vlbench.types import Misuse, nearest

    corpora, datasets = card_names(CorpusCard), card_names(DatasetCard)
    corpus = name.endswith(".toml") or name in corpora
    if not corpus and name not in datasets:
        raise Misuse(
            f"no data set or corpus is called '{name}'; {nearest(name, [*datasets, *corpora])}",
            "see: vlbench list datasets; vlbench list corpora",
        )
    parts: list[Part] = []
    with _shown() as progress:
        if name in datasets:
            parts += look(name, data_root(root), progress=progress)
        if corpus:
            found = check_corpus(name, data_root(root), progress=progress)
            parts.append(Part("pretraining", *found))
    if as_json:
        print_json(as_rows(parts))
    else:
        columns = [Column("task", str, False), Column("split", str, False)]
        columns += [Column(title, str) for title in ("examples", "by the card", "images", "at hand")]
        columns += [Column("", str, False)]
        cells = [
            [p.task, p.split, f"{p.examples:,}", f"{p.expected:,}" if p.expected else "-", f"{p.images:,}",
             f"{p.at_hand:,}", p.state]
            for p in parts
        ]  # fmt: skip
        console = terminal()
        console.print(grid(columns, cells))
        for part in parts:
            for line in part.lacks:
                console.print(f"{part.task} {part.split} is not needed: {line}", highlight=False, markup=False)
    for part in parts:
        for line in part.wrong:
            print(f"vlbench: {part.task} {part.split}: {line}", file=sys.stderr)
    if any(part.wrong for part in parts):
        print(f"  -> see what belongs where: vlbench show {name}", file=sys.stderr)
        finish(3)


@data.command()
def duplicates(
    corpus: Annotated[str, typer.Argument(help="a corpus, as in: vlbench list corpora")],
    dataset: Annotated[str, typer.Argument(help="the data set that is to be evaluated on")],
    root: Data = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List the pictures of a corpus that are nearly pictures of a data set's evaluation splits (perceptual hash)."""
    from vlbench.corpora_on_disk import compare_pictures
    from vlbench.paths import data_root

    with _shown() as progress:
        found = compare_pictures(corpus, dataset, data_root(root), progress=progress)
    if as_json:
        unreadable = {"total": found.unreadable.total, "first": list(found.unreadable.first)}
        print_json({"duplicates": [one._asdict() for one in found.duplicates], "unreadable": unreadable})
        return
    for one in found.duplicates:
        print(f"{one.ours}\t{one.theirs}\t{one.distance:.3f}")
    said = f"{len(found.duplicates):,} pictures of {corpus} are nearly pictures that {dataset} is evaluated on"
    print(f"{said}; {found.unreadable.total:,} could not be read", file=sys.stderr)


@data.command()
def prepare(
    sources: Annotated[list[Path], typer.Argument(help="published feature files: TSV, LMDB, npz, npy, HDF5")],
    to: Annotated[Path, typer.Option("--to", help="the region-feature file to write (.h5)")],
    key: Annotated[str, typer.Option("--key", help="makes a key of an id, as COCO_val2014_{:0>12}")] = "{}",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Convert published region features to the one format that runs read through a memory map."""
    from vlbench.data.importers import import_features

    with _shown() as progress:
        made = import_features(sources, to, name=key, progress=progress)
    _said(made.path, len(made.keys), made.feature_dim, as_json)


@data.command()
def extract(
    images: Annotated[Path, typer.Argument(help="a folder of images, of any depth")],
    to: Annotated[Path, typer.Option("--to", help="the region-feature file to write (.h5)")],
    most: Annotated[int, typer.Option("--regions", min=1, help="most regions of an image")] = 36,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Extract plain regions (what stands out from its ground; no detector) from images, keys being file names."""
    from vlbench.data.regions import write_region_file
    from vlbench.tasks.pictures import pictures_in
    from vlbench.types import BadData

    found = pictures_in(images) if images.exists() else {}
    if not found:
        raise BadData(f"{images} holds no image", "name a folder of .jpg or .png files")
    with _shown() as progress:
        made = write_region_file(found, to, most=most, side=16, progress=progress)
    _said(made.path, len(made.keys), made.feature_dim, as_json)


def _said(path: Path, images: int, width: int, as_json: bool) -> None:
    if as_json:
        print_json({"file": str(path), "images": images, "feature_dim": width})
    else:
        print(f"{path}: {images:,} images, {width} values a region")

"""Indexes: made once, made anew for a changed file, small in memory, and whole whatever happens."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import random
import shutil
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vlbench.cards import CorpusCard
from vlbench.corpora import pairs
from vlbench.corpora.corpus import Corpus
from vlbench.corpora.opening import open_corpus
from vlbench.corpora.sources import Member, Source
from vlbench.types import BadData

Open = Callable[..., Corpus]
CARD = CorpusCard(
    id="mine", name="mine", about="", home="example.org", licence="", layout="pairs",
    file=({"name": "x.json", "role": "texts"},),  # type: ignore[arg-type]  # pydantic makes it a DataFile
)  # fmt: skip
MIB = 1 << 20


def write(path: Path, count: int, word: str = "caption") -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        for number in range(count):
            file.write((", " if number else "") + json.dumps({"image": f"{number}.jpg", "caption": f"{word} {number}"}))
        file.write("]")


def later(path: Path) -> None:
    """Say that a file was changed a second later: a test writes faster than some clocks of files tick."""
    about = path.stat()
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns + 10**9))


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were gone through."""
    gone: list[Path] = []
    scan = pairs._scan

    def counted(source: Source, *more: object) -> None:
        gone.append(source.path)
        scan(source, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(pairs, "_scan", counted)
    return gone


def test_a_file_is_gone_through_once(tmp_path: Path, passes: list[Path]) -> None:
    write(tmp_path / "x.json", 10)
    for _ in range(3):
        assert open_corpus(CARD, tmp_path).example(9).texts == ("caption 9",)
    assert len(passes) == 1
    os.symlink(tmp_path / "x.json", tmp_path / "y.json")
    linked = CARD.model_copy(update={"file": (CARD.file[0].model_copy(update={"name": "y.json"}),)})
    assert len(open_corpus(linked, tmp_path)) == 10
    assert len(passes) == 1  # the same file by another name


def test_a_changed_file_has_a_new_index(tmp_path: Path, passes: list[Path]) -> None:
    path = tmp_path / "x.json"
    write(path, 10)
    old = open_corpus(CARD, tmp_path)
    assert old.example(9).texts == ("caption 9",)
    sent = pickle.dumps(old)
    write(path, 10, "another")
    later(path)
    for stale in (old, pickle.loads(sent)):
        with pytest.raises(BadData, match=r"x\.json: has changed while it was in use"):
            stale.example(9)
    assert open_corpus(CARD, tmp_path).example(9).texts == ("another 9",)
    assert len(passes) == 2
    path.unlink()
    with pytest.raises(BadData, match=r"there is no file .*x\.json"):
        open_corpus(CARD, tmp_path)


def test_a_file_that_changes_as_it_is_gone_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    write(tmp_path / "x.json", 10)
    scan = pairs._scan

    def changing(source: Source, *more: object) -> None:
        scan(source, *more)  # type: ignore[arg-type]
        later(tmp_path / "x.json")

    monkeypatch.setattr(pairs, "_scan", changing)
    with pytest.raises(BadData, match="has changed while it was in use"):
        open_corpus(CARD, tmp_path)
    assert not [path for path in (cache / "indexes").iterdir() if path.suffix != ".lock"]


@pytest.mark.parametrize("harm", ["cut", "lost", "other", "about", "count"])
def test_a_damaged_index_is_made_anew(tmp_path: Path, cache: Path, passes: list[Path], harm: str) -> None:
    write(tmp_path / "x.json", 50)
    open_corpus(CARD, tmp_path)
    (kept,) = (path for path in (cache / "indexes").iterdir() if path.is_dir())
    column = kept / "end.npy"
    if harm == "cut":
        column.write_bytes(column.read_bytes()[:-8])
    elif harm == "lost":
        column.unlink()
    elif harm == "other":
        np.save(column, np.zeros(50))
    elif harm == "about":
        (kept / "about.json").write_text("{", encoding="utf-8")
    else:
        np.save(column, np.zeros(49, dtype=np.int64))
    assert open_corpus(CARD, tmp_path).example(49).texts == ("caption 49",)
    assert len(passes) == 2


def test_a_lost_index_is_said_to_be_lost(tmp_path: Path, cache: Path) -> None:
    write(tmp_path / "x.json", 5)
    sent = pickle.dumps(open_corpus(CARD, tmp_path))
    for path in cache.rglob("*.npy"):
        path.unlink()
    with pytest.raises(BadData, match="is gone or damaged"):
        pickle.loads(sent).example(0)


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path, cache: Path) -> None:
    write(tmp_path / "x.json", 5)
    open_corpus(CARD, tmp_path)
    (kept,) = (path for path in (cache / "indexes").iterdir() if path.is_dir())
    left = kept.with_name(f".{kept.name}.123-abcdef.part")
    left.mkdir()
    (kept / "about.json").unlink()
    open_corpus(CARD, tmp_path)
    assert not left.exists()


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    """200,000 records in 12 MB: the index takes 3.2 MB on disk; neither it nor the file is held."""
    write(tmp_path / "x.json", 200_000)
    rows = random.Random(0).sample(range(200_000), 1000)
    tracemalloc.start()
    corpus = open_corpus(CARD, tmp_path)
    assert len(corpus) == 200_000
    made = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    for row in rows:
        assert corpus.example(row).texts == (f"caption {row}",)
    read = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert made < 6 * MIB, made / MIB
    assert read < MIB / 4, read / MIB


def test_a_file_is_opened_once_in_a_process(tmp_path: Path) -> None:
    write(tmp_path / "x.json", 1000)
    corpus = open_corpus(CARD, tmp_path)
    corpus.example(0)
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    opened: list[object] = []
    real = os.open

    def counted(*given: object, **more: object) -> int:
        opened.append(given)
        return real(*given, **more)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", counted)
        workers = [threading.Thread(target=lambda: [corpus.example(row) for row in range(1000)]) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert not opened
    assert not before or len(os.listdir("/proc/self/fd")) <= before + 1


def test_members_of_files_are_files(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(b"0123456789")
    member: Member = pickle.loads(pickle.dumps(Member(Source.of(path), 3, 6)))
    with member.open("rb") as file:
        assert file.read() == b"345"
    assert str(member) == f"{path} at byte 3"
    with pytest.raises(BadData, match="has changed"):
        Member(Source.of(path), 8, 12).open()
    missing = Source(tmp_path / "gone", 1, 1)
    with pytest.raises(BadData, match=r"gone: cannot be read: No such file"):
        missing.read(0, 1)


def test_many_files_have_one_index(opened: Open, tmp_path: Path, cache: Path, passes: list[Path]) -> None:
    """And one each, so that another file does not cost another pass over all."""
    files = {f"{n}.json": [{"image": f"{n}-{row}", "caption": "x"} for row in range(n)] for n in range(6)}
    corpus = opened("pairs", files)
    assert [corpus.example(row).images[0] for row in range(15)] == [f"mine:{n}-{r}" for n in range(6) for r in range(n)]
    assert len(passes) == 6
    names = ["x.json", *(f"data0/{name}" for name in files)]
    write(tmp_path / "x.json", 3)
    more = CARD.model_copy(update={"file": tuple(CARD.file[0].model_copy(update={"name": name}) for name in names)})
    found = open_corpus(more, tmp_path)
    assert [found.example(row).images[0] for row in (0, 2, 3, 17)] == [
        "mine:0.jpg",
        "mine:2.jpg",
        "mine:1-0",
        "mine:5-4",
    ]
    assert len(passes) == 7
    for path in (cache / "indexes").iterdir():
        if path.is_dir() and not path.name.startswith("joined"):
            shutil.rmtree(path)
    assert len(open_corpus(more, tmp_path)) == 18
    assert len(passes) == 7


def open_once(folder: Path) -> int:
    return len(open_corpus(CARD, folder))


def test_of_several_processes_one_makes_the_index(tmp_path: Path, cache: Path) -> None:
    write(tmp_path / "x.json", 3000)
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert pool.map(open_once, [tmp_path] * 8, chunksize=1) == [3000] * 8
    assert len([path for path in (cache / "indexes").iterdir() if path.is_dir()]) == 1


@pytest.mark.parametrize("name", ["é" * 100 + ".json", ".json", "a b\nc.json", "a]b.json"])
def test_any_name_of_a_file_will_do(opened: Open, name: str) -> None:
    assert len(opened("pairs", {name: [{"image": "a", "caption": "b"}]})) == 1

"""Hashes of large files are kept until the files change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vlbench.corpora import sources
from vlbench.paths import cache_root, sha256
from vlbench.types import BadData


@pytest.fixture
def shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VLBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "_LARGE", 10)
    path = tmp_path / "shard.tar"
    path.write_bytes(b"first content")
    return path


def test_a_large_file_is_read_once(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = sha256(shard)
    assert sources.known_sha256(shard) == wanted

    def refuse(path: Path) -> str:
        raise AssertionError(f"{path} is read again")

    monkeypatch.setattr(sources, "sha256", refuse)
    assert sources.known_sha256(shard) == wanted


def test_a_changed_file_is_hashed_anew(shard: Path) -> None:
    before = sources.known_sha256(shard)
    shard.write_bytes(b"other content")
    os.utime(shard, ns=(0, shard.stat().st_mtime_ns + 1))
    assert sources.known_sha256(shard) == sha256(shard) != before


def test_a_small_file_is_hashed_each_time(shard: Path) -> None:
    shard.write_bytes(b"small")
    about = shard.stat()
    before = sources.known_sha256(shard)
    shard.write_bytes(b"other")
    os.utime(shard, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert sources.known_sha256(shard) == sha256(shard) != before


def test_a_damaged_hash_is_made_again(shard: Path) -> None:
    wanted = sources.known_sha256(shard)
    (kept,) = [path for path in (cache_root() / "hashes").iterdir() if path.suffix != ".lock"]
    for content in (b"", b"\xff", wanted.encode()[:-1]):
        kept.write_bytes(content)
        assert sources.known_sha256(shard) == wanted
        assert kept.read_text() == wanted


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"there is no file .*gone\.tar"):
        sources.known_sha256(tmp_path / "gone.tar")

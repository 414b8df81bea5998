"""Tar shards: every key is found again, images are read where they lie, and no damage passes."""

from __future__ import annotations

import io
import json
import multiprocessing
import pickle
import re
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pictures

from vlbench.corpora.corpus import Corpus
from vlbench.types import BadData

Open = Callable[..., Corpus]
LOOSE = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def tar(members: Sequence[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT, mode: str = "w:") -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode=mode, format=form) as packed:  # type: ignore[call-overload]
        for name, content in members:
            about = tarfile.TarInfo(name)
            about.size = len(content)
            packed.addfile(about, io.BytesIO(content))
    return held.getvalue()


def sample(key: str, number: int) -> list[tuple[str, bytes]]:
    """The files of a key, as different programs write them."""
    said = {"caption": f"json é {number}", "url": "x"}
    kinds: list[list[tuple[str, bytes]]] = [
        [(f"{key}.jpg", b"image %d" % number), (f"{key}.txt", f"text é {number}\n".encode())],
        [(f"{key}.json", json.dumps(said).encode()), (f"{key}.PNG", b"image %d" % number)],
        [(f"{key}.jpeg", b"image %d" % number), (f"{key}.json", b"{}"), (f"{key}.txt", b" text"), (f"{key}.cls", b"3")],
    ]
    return kinds[number % 3]


def caption(number: int) -> str:
    return [f"text é {number}", f"json é {number}", "text"][number % 3]


KEYS = ["00/000001", "00/000002", "a b", "é", "x" * 120, "deep/" * 30 + "y", "last"]


@pytest.mark.parametrize("form", FORMATS)
def test_every_key_is_an_example(opened: Open, form: int) -> None:
    keys = KEYS if form != tarfile.USTAR_FORMAT else KEYS[:4]
    members = [file for number, key in enumerate(keys) for file in sample(key, number)]
    corpus = opened(
        "shards", {"a-000.tar": tar(members, form), "a-001.tar": tar(sample("more", 0), form)}, role="shards"
    )
    assert len(corpus) == len(keys) + 1
    for number, key in enumerate(keys):
        example = corpus.example(number)
        assert (example.id, example.texts) == (f"mine:{number}", (caption(number),))
        assert example.images == (f"mine:{number}/{key}",)
        picture = corpus.picture(example.images[0])
        assert picture is not None
        with picture.open("rb") as file:
            assert file.read() == b"image %d" % number
    assert corpus.example(len(keys)).texts == ("text é 0",)
    assert set(corpus.files()) == {"a-000.tar", "a-001.tar"}
    for key in ("mine:0/other", "mine:99/00/000001", "mine:x/00/000001", "mine:-1/last", "other:0/00/000001"):
        with pytest.raises(KeyError):
            corpus.picture(key)


def test_shards_may_be_named_by_a_pattern(opened: Open) -> None:
    files = {f"cc-{n:03d}.tar": tar(sample(f"{n}", 0)) for n in (2, 0, 1)}
    corpus = opened("shards", files, file=[{"name": "cc-*.tar", "role": "shards"}])
    assert [corpus.example(n).images[0] for n in range(3)] == ["mine:0/0", "mine:1/1", "mine:2/2"]
    with pytest.raises(BadData, match=r"there is no file .*none-\?\.tar"):
        opened("shards", files, file=[{"name": "none-?.tar", "role": "shards"}])


def test_what_belongs_to_no_key_is_left_alone(opened: Open) -> None:
    members = [("README", b"x"), ("._a.jpg", b"x"), (".hidden", b""), ("dir/", b""), *sample("a", 0), ("noext.", b"")]
    corpus = opened("shards", {"a.tar": tar(members)}, role="shards")
    assert [corpus.example(n).images for n in range(len(corpus))] == [("mine:0/a",)]


NAME = st.text(st.sampled_from("ab/é 1"), min_size=1, max_size=8).filter(lambda name: name.rpartition("/")[2].strip())


@given(st.lists(NAME, max_size=8, unique=True), st.sampled_from(FORMATS))
@LOOSE
def test_no_key_is_lost_or_doubled(opened: Open, keys: list[str], form: int) -> None:
    members = [file for number, key in enumerate(keys) for file in sample(key, number)]
    corpus = opened("shards", {"a.tar": tar(members, form)}, role="shards")
    found = [corpus.example(number) for number in range(len(corpus))]
    assert [e.images[0].partition("/")[2] for e in found] == keys
    assert [e.texts[0] for e in found] == [caption(number) for number in range(len(keys))]


@pytest.mark.parametrize(
    ("members", "wrong"),
    [
        ([("a.txt", b"x")], r"\[0\], byte 512: 'a': it has no image; faulty records: a "),
        ([("a.jpg", b"x")], r"'a': it has no caption"),
        ([("a.jpg", b"x"), ("a.png", b"x"), ("a.txt", b"x")], r"'a': several files are its image"),
        ([("a.jpg", b"x"), ("a.txt", b"x"), ("a.txt", b"y")], r"'a': several files are its caption"),
        ([("a.jpg", b"x"), ("a.txt", b"\xff")], r"'a': its caption is not UTF-8 text: byte 0"),
        ([("a.jpg", b"x"), ("a.json", b"{")], r"'a': its \.json is not JSON"),
        ([("\udcff.jpg", b"x"), ("\udcff.txt", b"x")], r"'\\udcff': its name is not UTF-8"),
        ([("a.jpg", b"x"), ("a.json", b"[" * 100_000)], r"'a': its \.json is not JSON"),
        ([("a.jpg", b"x"), ("a.json", b"[]")], r"expected an object with 'caption', found a list"),
        ([("a.jpg", b"x"), ("a.json", b"{}")], r"the key 'caption' is missing"),
        ([("a.jpg", b"x"), ("a.json", b'{"caption": null}')], r"'caption' should be a text, found None"),
        ([("a.jpg", b"x"), ("a.json", b'{"caption": "\\ud800"}')], r"half a character"),
        ([("a.jpg", b"x"), ("b.txt", b"x"), ("a.txt", b"x")], r"faulty records: a, b, a \(3 in all\)"),
    ],
)  # fmt: skip
def test_faulty_keys_are_named(opened: Open, members: list[tuple[str, bytes]], wrong: str) -> None:
    with pytest.raises(BadData, match=wrong) as fault:
        opened("shards", {"a.tar": tar(members)}, role="shards")
    assert re.search(r"a\.tar: \[0\], byte \d+: ", fault.value.wrong)
    assert fault.value.todo


def test_compressed_tars_are_refused(opened: Open) -> None:
    for mode, command in (("w:gz", "gzip -d"), ("w:bz2", "bzip2 -d"), ("w:xz", "xz -d")):
        with pytest.raises(BadData, match=r"a\.tar: a compressed tar") as fault:
            opened("shards", {"a.tar": tar(sample("a", 0), mode=mode)}, role="shards")
        assert command in fault.value.todo


def test_links_and_other_things_are_refused(opened: Open) -> None:
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
        held = io.BytesIO()
        with tarfile.open(fileobj=held, mode="w:") as packed:
            about = tarfile.TarInfo("a.jpg")
            about.type, about.linkname = kind, "b.jpg"
            packed.addfile(about)
        with pytest.raises(BadData, match=r"a\.tar: byte 0: 'a\.jpg' is no plain file") as fault:
            opened("shards", {"a.tar": held.getvalue()}, role="shards")
        assert fault.value.todo


CONTENT = tar([file for number in range(4) for file in sample(f"{number}", number)], tarfile.GNU_FORMAT)
END = len(CONTENT.rstrip(b"\0"))


def test_a_cut_tar_is_refused(opened: Open) -> None:
    """Wherever it is cut: also where a member ends, which tarfile takes for the end."""
    for end in [*range(0, len(CONTENT), 512), 1, 100, 700, END]:
        if end < -(-END // 512) * 512 + 512:
            with pytest.raises(BadData, match=r"a\.tar: not a whole tar") as fault:
                opened("shards", {"a.tar": CONTENT[:end]}, role="shards")
            assert fault.value.todo
    assert len(opened("shards", {"a.tar": CONTENT[: -(-END // 512) * 512 + 512]}, role="shards")) == 4
    with pytest.raises(BadData, match=r"byte \d+: neither a member nor the end"):
        opened("shards", {"a.tar": CONTENT + CONTENT}, role="shards")


@given(st.lists(st.tuples(st.integers(0, END), st.binary(min_size=1, max_size=12)), min_size=1, max_size=3))
@settings(LOOSE, max_examples=300)
def test_a_damaged_tar_is_refused_or_whole(tried: Open, changes: list[tuple[int, bytes]]) -> None:
    spoilt = bytearray(CONTENT)
    for at, put in changes:
        spoilt[at : at + len(put)] = put
    corpus = tried("shards", {"a.tar": bytes(spoilt)}, role="shards")
    if isinstance(corpus, BadData):
        assert "a.tar" in corpus.wrong
        return
    for number in range(len(corpus)):
        picture = corpus.picture(corpus.example(number).images[0])
        assert picture is not None
        picture.open("rb")
    assert len(corpus) == 4


def red_of(pickled: bytes) -> list[int]:
    """Decode the images of a corpus in a process of its own, and say how red they are."""
    corpus: Corpus = pickle.loads(pickled)
    found = []
    for number in range(len(corpus)):
        picture = corpus.picture(corpus.example(number).images[0])
        assert picture is not None
        with picture.open("rb") as file, Pictures.open(file) as image:
            found.append(image.convert("RGB").getpixel((0, 0))[0])  # type: ignore[index]
    return found


def test_workers_read_images_out_of_shards(opened: Open, tmp_path: Path) -> None:
    members = []
    for number in range(20):
        held = io.BytesIO()
        Pictures.new("RGB", (8, 8), (10 * number, 0, 0)).save(held, "PNG")
        members += [(f"{number}.png", held.getvalue()), (f"{number}.txt", b"red")]
    corpus = opened("shards", {"a.tar": tar(members)}, role="shards")
    wanted = [10 * number for number in range(20)]
    assert red_of(pickle.dumps(corpus)) == wanted  # the shard is open here before processes are forked off
    for way in ("fork", "spawn"):
        with multiprocessing.get_context(way).Pool(3) as pool:
            assert pool.map(red_of, [pickle.dumps(corpus)] * 3) == [wanted] * 3

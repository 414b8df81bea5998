"""Folders of images without texts: in order, followed through links, and looked through anew when they change."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from vlbench.corpora import pictures
from vlbench.corpora.corpus import Corpus
from vlbench.types import BadData, Example

Open = Callable[..., Corpus]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images in folders, and other files beside them."""
    place = tmp_path / "images"
    for name in ("b/2.JPEG", "b/1.png", "a.jpg", "b/c/é.jpg", "b/._1.png", "b/list.txt", "c/none.gif"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(name.encode())
    return place


def open_folder(opened: Open, folder: Path) -> Corpus:
    return opened("pictures", {}, file=[{"name": "gone", "role": "images"}, {"name": str(folder), "role": "images"}])


def keys(corpus: Corpus) -> list[str]:
    return [corpus.example(number).images[0].partition(":")[2] for number in range(len(corpus))]


def test_every_image_is_an_example(opened: Open, folder: Path) -> None:
    corpus = open_folder(opened, folder)
    assert keys(corpus) == ["a.jpg", "b/1.png", "b/2.JPEG", "b/c/é.jpg"]
    assert corpus.example(1) == Example("mine:1", ("mine:b/1.png",), ())
    assert corpus.picture("mine:b/1.png") == folder / "b" / "1.png"
    assert corpus.picture("mine:b/9.png") is None
    assert corpus.files() == {}
    assert list(corpus.texts(9, 0)) == []
    assert keys(pickle.loads(pickle.dumps(corpus))) == keys(corpus)


def test_it_is_looked_through_anew_when_a_folder_changes(
    opened: Open, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walks: list[Path] = []
    walk = pictures._folders
    monkeypatch.setattr(pictures, "_folders", lambda root: walks.append(root) or walk(root))
    for _ in range(3):
        open_folder(opened, folder)
    assert len(walks) == 1
    (folder / "b" / "c" / "new.png").touch()
    about = (folder / "b" / "c").stat()
    os.utime(folder / "b" / "c", ns=(about.st_atime_ns, about.st_mtime_ns + 10**9))
    assert keys(open_folder(opened, folder))[-2:] == ["b/c/new.png", "b/c/é.jpg"]
    assert len(walks) == 2


def test_links_are_followed_but_not_in_a_circle(opened: Open, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.png").touch()
    (folder / "z").symlink_to(tmp_path / "elsewhere")
    (folder / "b" / "back").symlink_to(folder)
    assert keys(open_folder(opened, folder)) == ["a.jpg", "b/1.png", "b/2.JPEG", "b/c/é.jpg", "z/x.png"]


def test_what_is_no_folder_of_images_is_refused(opened: Open, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadData, match=r"empty: holds no image \(\.png, \.jpg, \.jpeg\)"):
        open_folder(opened, tmp_path / "empty")
    with pytest.raises(BadData, match=r"there is no folder .*gone"):
        open_folder(opened, tmp_path / "none")
    (Path(os.fsdecode(os.fsencode(folder) + b"/\xff.png"))).touch()
    with pytest.raises(
        BadData, match=r"\\udcff\.png': the name of the file is not UTF-8; faulty records: .* \(1 in all\)"
    ):
        open_folder(opened, folder)

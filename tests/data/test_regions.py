"""Regions of plain images: what stands out is found, and found once however many runs ask."""

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from vlbench.data import regions
from vlbench.data.features import FeatureFile
from vlbench.data.regions import cached_regions, describe, propose, write_region_file
from vlbench.types import BadData

GROUND = (240, 238, 245)


def picture(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Draw smooth-edged ellipses on a plain ground: large, then made smaller."""
    large = Image.new("RGB", (size[0] * 4, size[1] * 4), GROUND)
    for number, box in enumerate(boxes):
        ImageDraw.Draw(large).ellipse(
            [box[0] * 4, box[1] * 4, box[2] * 4 - 1, box[3] * 4 - 1],
            fill=(40 * number, 90, 200 - 60 * number),
        )
    return large.resize(size, Image.Resampling.BOX)


def save(folder: Path, count: int = 3) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        picture((5 + number % 9, 5, 30, 30 + number // 9)).save(folder / f"{number}.png")
    return {f"train/{number}": folder / f"{number}.png" for number in range(count)}


def test_whole_image_then_shapes_by_size() -> None:
    image = np.asarray(picture((40, 10, 50, 20), (4, 4, 30, 40)))
    found = propose(image, 9) * [64, 48, 64, 48]
    assert found[0].tolist() == [0, 0, 64, 48]
    assert len(found) == 3  # smooth edges are no regions of their own
    np.testing.assert_allclose(found[1], [4, 4, 30, 40], atol=1.1)
    np.testing.assert_allclose(found[2], [40, 10, 50, 20], atol=1.1)
    assert propose(image, 2).shape == (2, 4)


def test_specks_and_faint_noise_are_no_regions() -> None:
    image = np.asarray(picture((10, 10, 30, 30))).copy()
    image[45, 60] = 0
    image[:5] = image[:5] - np.random.default_rng(0).integers(0, 6, (5, 64, 3), dtype=np.uint8)
    assert len(propose(image, 9)) == 2


@pytest.mark.parametrize(
    "image",
    [np.full((64, 64, 3), 128, np.uint8), np.zeros((1, 1, 3), np.uint8)],
    ids=["plain", "pixel"],
)
def test_a_grid_where_nothing_stands_out(image: np.ndarray) -> None:
    found = propose(image, 36)
    assert found.shape == (17, 4)
    assert found.dtype == np.float32
    areas = (found[1:, 2] - found[1:, 0]) * (found[1:, 3] - found[1:, 1])
    np.testing.assert_allclose(areas, 1 / 16)
    assert len(np.unique(found, axis=0)) == 17
    assert describe(Image.fromarray(image), found, 16).shape == (17, 768)


def test_a_texture_over_the_whole_image_is_not_a_thing() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert len(propose(noise, 36)) == 17


def test_features_are_the_pixels_of_the_box() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, 20:] = (255, 0, 127)
    boxes = np.array([[0, 0, 0.5, 1], [0.5, 0, 1, 1], [0, 0, 1, 1]], dtype=np.float32)
    found = describe(Image.fromarray(image), boxes, 8).reshape(3, 8, 8, 3).astype(np.float32)
    assert (found[0] == -1).all()
    np.testing.assert_allclose(found[1], np.broadcast_to([1, -1, -0.004], (8, 8, 3)), atol=1e-3)
    np.testing.assert_allclose(found[2, :, 0, 0], -1, atol=0.01)
    np.testing.assert_allclose(found[2, :, 7, 0], 1, atol=0.01)


def test_easy_vqa_images_are_one_shape_each() -> None:
    import easy_vqa

    paths = list(easy_vqa.get_test_image_paths().values())[::20]
    for path in paths:
        image = np.asarray(Image.open(path).convert("RGB"))
        found = propose(image, 36)
        assert len(found) == 2, path
        left, top, right, bottom = (found[1] * 64).round().astype(int)
        outside = np.ones((64, 64), dtype=bool)
        outside[top:bottom, left:right] = False
        spread = np.ptp(image[outside].astype(int), axis=0).max()
        assert spread <= 24, f"{path}: part of the shape lies outside its box"


def test_region_file_holds_every_image(tmp_path: Path) -> None:
    images = save(tmp_path / "images")
    seen: list[int] = []
    path = tmp_path / "f.h5"
    file = write_region_file(images, path, most=4, side=8, progress=lambda done, total, what: seen.append(done))
    assert tuple(file.keys) == tuple(images)
    assert file.feature_dim == 8 * 8 * 3
    assert file.settings == {"most": 4, "side": 8}
    assert (file.width[0], file.height[0]) == (64, 48)
    assert seen == [1, 2, 3]


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    images = save(tmp_path / "images")
    images["train/1"].write_bytes(images["train/1"].read_bytes()[:200])
    with pytest.raises(BadData, match=r"'train/1' cannot be decoded: .*1\.png"):
        write_region_file(images, tmp_path / "f.h5", most=4, side=8)
    assert not (tmp_path / "f.h5").exists()


def test_cache_is_named_by_content_and_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, folder = save(tmp_path / "images"), tmp_path / "cache"
    made: list[Path] = []

    def count(images: object, path: Path, **settings: object) -> object:
        made.append(path)
        return write_region_file(images, path, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(regions, "write_region_file", count)
    first = cached_regions(images, folder=folder)
    assert cached_regions(images, folder=folder).path == first.path
    assert len(made) == 1
    cached_regions(images, folder=folder, side=8)
    cached_regions({f"other/{key}": path for key, path in images.items()}, folder=folder)
    images["train/0"].write_bytes(images["train/1"].read_bytes())
    cached_regions(images, folder=folder)
    assert len(set(made)) == 4


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "text"])
def test_a_damaged_cache_is_made_again(tmp_path: Path, damage: str) -> None:
    images, folder = save(tmp_path / "images"), tmp_path / "cache"
    path = cached_regions(images, folder=folder).path
    content = path.read_bytes()
    middle = content.index(FeatureFile(path).features[1].tobytes())
    changed = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    broken = {"cut": content[:-9], "changed": changed, "empty": b"", "text": b"no"}
    path.write_bytes(broken[damage])
    (folder / f".{path.name}.abc.part").write_bytes(content[:100])  # what a killed run leaves
    cached_regions(images, folder=folder).verify()
    assert path.read_bytes() == content
    assert not list(folder.glob("*.part"))


def _ask(images: dict[str, Path], folder: Path, log: Path) -> None:
    write = regions.write_region_file

    def note(*args: object, **settings: object) -> object:
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return write(*args, **settings)  # type: ignore[arg-type]

    regions.write_region_file = note  # type: ignore[assignment]
    cached_regions(images, folder=folder).verify()


def test_two_runs_at_once_make_it_once(tmp_path: Path) -> None:
    images, log = save(tmp_path / "images", 40), tmp_path / "log"
    context = multiprocessing.get_context("fork")
    runs = [context.Process(target=_ask, args=(images, tmp_path / "cache", log)) for _ in range(3)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(60)
        assert run.exitcode == 0
    assert len(log.read_text().split()) == 1

"""Image stores: from memory or from the file, in one process or several, a key gives the same tensors."""

import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pictures

from vlbench.data.feature_writer import FeatureWriter
from vlbench.data.features import FeatureFile, Labels, Regions
from vlbench.data.images import ImageStore, PixelStore, RegionStore
from vlbench.data.opening import laid_together
from vlbench.data.transforms import Transform
from vlbench.types import BadData


@pytest.fixture
def features(tmp_path: Path) -> FeatureFile:
    rng = np.random.default_rng(0)
    with FeatureWriter(tmp_path / "f.h5", extractor="test") as writer:
        for number, count in enumerate((2, 5, 1, 3)):
            boxes = np.tile(np.array([[0, 0, 1, 1]], np.float32), (count, 1))
            likely = rng.dirichlet(np.ones(3), count)
            labels = Labels(np.arange(count), np.ones(count), np.arange(count), np.ones(count), likely)
            writer.add(str(number), Regions(rng.normal(size=(count, 6)), boxes, labels))
    return FeatureFile(tmp_path / "f.h5")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    rng = np.random.default_rng(1)
    found = {}
    for number in range(6):
        found[f"val/{number}"] = tmp_path / f"{number}.png"
        pixels = rng.integers(0, 256, (20 + number, 30, 3), dtype=np.uint8)
        Pictures.fromarray(pixels).save(found[f"val/{number}"])
    return found


def test_regions_with_and_without_memory_are_equal(features: FeatureFile) -> None:
    kept, read = RegionStore(features, most=4), RegionStore(features, most=4, memory=0)
    for keys in (["0", "1"], ["2"], ["3", "2", "3", "0"], ["2", "2"]):
        one, two = kept.load(keys), read.load(keys)
        torch.testing.assert_close(one, two, rtol=0, atol=0)
        assert one.values.dtype == torch.float32
        assert one.labels is not None
        assert one.labels.objects.dtype == torch.int64
    assert kept.load(["1"]).values.shape == (1, 4, 6)
    assert kept.load(["2", "0"]).mask is not None
    assert kept.load(["2", "0"]).mask.tolist() == [[True, False], [True, True]]  # type: ignore[union-attr]
    np.testing.assert_array_equal(kept.load(["3"]).values[0], features["3"].features.astype(np.float32))


def test_stores_laid_together_keep_the_labels_that_all_have(features: FeatureFile) -> None:
    image = RegionStore(features).load(["0", "1"])
    assert image.labels is not None
    other = RegionStore(features).load(["2"])
    both = laid_together([(image, [0, 2]), (other, [1])], 3)
    assert both.labels is not None
    assert both.labels.objects.tolist() == [[0, 1, -1, -1, -1], [0, -1, -1, -1, -1], [0, 1, 2, 3, 4]]
    torch.testing.assert_close(both.labels.class_probabilities, RegionStore(features).load(["0", "2", "1"]).labels[4])  # type: ignore[index]
    fewer = image._replace(labels=image.labels._replace(class_probabilities=None))
    both = laid_together([(fewer, [0, 2]), (other, [1])], 3)
    assert both.labels is not None
    assert both.labels.class_probabilities is None
    assert laid_together([(image._replace(labels=None), [0, 2]), (other, [1])], 3).labels is None


def test_a_batch_does_not_share_memory_with_the_store(features: FeatureFile) -> None:
    for store in (RegionStore(features), RegionStore(features, memory=0)):
        before = store.load(["1"]).values.clone()
        taken = store.load(["1"])
        taken.values.zero_()
        assert taken.boxes is not None
        taken.boxes.zero_()
        torch.testing.assert_close(store.load(["1"]).values, before)
        assert store.load(["1"]).boxes.max() == 1  # type: ignore[union-attr]


def test_stores_name_what_is_missing(features: FeatureFile, files: dict[str, Path]) -> None:
    stores: list[ImageStore] = [
        RegionStore(features),
        RegionStore(features, memory=0),
        PixelStore(files, Transform(8)),
    ]
    for store in stores:
        assert "9" not in store
        with pytest.raises(BadData, match=r"1 of 2 images.*nobody"):
            store.load(["val/0" if store.sees == "pixels" else "0", "nobody"])
        assert len(store.sha256) == 64


def test_pixels_are_normalised_and_kept(files: dict[str, Path]) -> None:
    store, plain = PixelStore(files, Transform(8)), PixelStore(files, Transform(8), memory=0)
    keys = ["val/3", "val/0", "val/3"]
    first = store.load(keys).values
    assert first.shape == (3, 3, 8, 8)
    assert first.dtype == torch.float32
    assert -1 <= first.min() < 0 < first.max() <= 1
    torch.testing.assert_close(first, plain.load(keys).values)
    torch.testing.assert_close(first[0], first[2])
    files["val/3"].unlink()  # from now on only memory has it
    torch.testing.assert_close(store.load(keys).values, first)
    with pytest.raises(BadData, match="val/3"):
        plain.load(keys)


def test_random_crops_depend_on_seed_draw_and_key_only(files: dict[str, Path]) -> None:
    transform = Transform(8, crop="random")
    store, other = PixelStore(files, transform, seed=3), PixelStore(files, transform, seed=4)
    alone, together = store.load(["val/2"], draw=7).values, store.load(["val/0", "val/2"], draw=7).values
    torch.testing.assert_close(alone[0], together[1])
    assert not torch.equal(alone, store.load(["val/2"], draw=8).values)
    assert not torch.equal(alone, other.load(["val/2"], draw=7).values)


def test_identity_follows_content_and_transform(files: dict[str, Path]) -> None:
    store = PixelStore(files, Transform(8))
    assert store.sha256 == PixelStore(dict(reversed(files.items())), Transform(8)).sha256
    assert store.sha256 != PixelStore(files, Transform(9)).sha256
    files["val/0"].write_bytes(files["val/1"].read_bytes())
    assert store.sha256 != PixelStore(files, Transform(8)).sha256


def test_a_broken_image_is_named(files: dict[str, Path]) -> None:
    files["val/4"].write_bytes(b"no image")
    with pytest.raises(BadData, match=r"'val/4' cannot be decoded: .*4\.png"):
        PixelStore(files, Transform(8)).prepare()


def test_forked_processes_share_what_is_decoded(files: dict[str, Path]) -> None:
    store = PixelStore(files, Transform(8))
    child = multiprocessing.get_context("fork").Process(target=store.prepare)
    child.start()
    child.join(60)
    assert child.exitcode == 0
    for path in files.values():
        path.unlink()
    assert store.load(list(files)).values.shape == (6, 3, 8, 8)


def test_stores_can_be_pickled(features: FeatureFile, files: dict[str, Path]) -> None:
    regions, pixels = RegionStore(features, most=2), PixelStore(files, Transform(8, crop="random"), seed=5)
    torch.testing.assert_close(pickle.loads(pickle.dumps(regions)).load(["1"]), regions.load(["1"]))
    again = pickle.loads(pickle.dumps(pixels))
    torch.testing.assert_close(again.load(["val/1"], 2).values, pixels.load(["val/1"], 2).values)

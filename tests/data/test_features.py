"""The region-feature file: what goes in comes out, whatever is broken is said."""

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlbench.data.feature_writer import FeatureWriter
from vlbench.data.features import FeatureFile, Labels, Regions
from vlbench.types import BadData

COUNTS = st.lists(st.integers(1, 6), min_size=1, max_size=12)
SHARED = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def some_regions(count: int, width: int, rng: np.random.Generator, labelled: bool = False, classes: int = 0) -> Regions:
    corners = np.sort(rng.random((count, 2, 2)), axis=1).reshape(count, 4).astype(np.float32)
    labels = None
    if labelled:
        likely = rng.dirichlet(np.ones(classes), count).astype(np.float16) if classes else None
        sure = rng.random((2, count))
        labels = Labels(rng.integers(0, 1600, count), sure[0], rng.integers(0, 400, count), sure[1], likely)
    return Regions(rng.normal(size=(count, width)).astype(np.float16), corners, labels)


def write(
    path: Path, counts: list[int], width: int = 5, labelled: bool = False, classes: int = 0
) -> dict[str, Regions]:
    rng = np.random.default_rng(len(counts))
    made = {f"bild-{i}ä": some_regions(count, width, rng, labelled, classes) for i, count in enumerate(counts)}
    with FeatureWriter(path, extractor="test", settings={"side": 4}) as writer:
        for key, regions in made.items():
            writer.add(key, regions, width=640, height=480)
    return made


def write_all(path: Path, images: list[tuple[str, Regions]]) -> None:
    with FeatureWriter(path, extractor="test") as writer:
        for key, regions in images:
            writer.add(key, regions)


@SHARED
@given(counts=COUNTS, labelled=st.booleans(), classes=st.sampled_from([0, 2, 7]))
def test_round_trip(tmp_path: Path, counts: list[int], labelled: bool, classes: int) -> None:
    made = write(tmp_path / "f.h5", counts, labelled=labelled, classes=classes)
    file = FeatureFile(tmp_path / "f.h5")
    file.verify()
    assert list(file.keys) == list(made)
    assert file.settings == {"side": 4}
    assert file.width.tolist() == [640] * len(counts)
    for key, regions in made.items():
        found = file[key]
        np.testing.assert_array_equal(found.features, regions.features)
        np.testing.assert_array_equal(found.boxes, regions.boxes)
        assert (found.labels is None) == (not labelled)
        if found.labels and regions.labels:
            np.testing.assert_array_equal(found.labels.objects, regions.labels.objects)
            np.testing.assert_array_equal(found.labels.class_probabilities, regions.labels.class_probabilities)
            np.testing.assert_allclose(found.labels.attribute_confidence, regions.labels.attribute_confidence)


@SHARED
@given(counts=COUNTS, most=st.integers(1, 7), data=st.data())
def test_gather_pads_what_single_images_give(tmp_path: Path, counts: list[int], most: int, data: st.DataObject) -> None:
    made = write(tmp_path / "f.h5", counts, labelled=True)
    keys = data.draw(st.lists(st.sampled_from(sorted(made)), min_size=1, max_size=8))
    found = FeatureFile(tmp_path / "f.h5").gather(keys, most)
    widest = max(min(most, len(made[key].boxes)) for key in keys)
    assert found.features.shape == (len(keys), widest, 5)
    assert found.labels is not None
    for row, key in enumerate(keys):
        count = min(most, len(made[key].boxes))
        assert found.mask[row].tolist() == [True] * count + [False] * (widest - count)
        np.testing.assert_array_equal(found.features[row, :count], made[key].features[:count])
        np.testing.assert_array_equal(found.boxes[row, :count], made[key].boxes[:count])
        assert not found.features[row, count:].any()
        assert not found.boxes[row, count:].any()
        assert (found.labels.objects[row, count:] == -1).all()


@SHARED
@given(share=st.floats(0, 0.999))
def test_a_file_cut_anywhere_is_bad_data(tmp_path: Path, share: float) -> None:
    whole, cut = tmp_path / "f.h5", tmp_path / "cut.h5"
    write(whole, [3, 1, 4], labelled=True)
    content = whole.read_bytes()
    cut.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BadData, match=r"cut\.h5"):
        FeatureFile(cut)


def test_changed_values_do_not_fit_the_checksum(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    write(path, [200, 3])
    with h5py.File(path, "r+") as file:
        file["features"][101, 2] += 1
    with pytest.raises(BadData, match="checksum"):
        FeatureFile(path).verify()


@pytest.mark.parametrize(
    ("name", "values", "wrong"),
    [
        ("features", np.zeros((8, 5), np.float64), "float16"),
        ("boxes", np.zeros((8, 3), np.float32), "boxes"),
        ("boxes", np.zeros((7, 4), np.float32), "rows"),
        ("first", np.array([0, 3, 3, 8]), "first"),
        ("first", np.array([0, 3, 4, 9]), "first"),
        ("features", np.full((8, 5), np.nan, np.float16), "finite"),
    ],
)
def test_wrong_arrays_are_named(tmp_path: Path, name: str, values: np.ndarray, wrong: str) -> None:
    path = tmp_path / "f.h5"
    write(path, [3, 1, 4])
    with h5py.File(path, "r+") as file:
        del file[name]
        file[name] = values
    with pytest.raises(BadData, match=wrong):
        FeatureFile(path)


def test_compressed_features_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    write(path, [3])
    with h5py.File(path, "r+") as file:
        del file["features"]
        file.create_dataset("features", data=np.zeros((3, 5), np.float16), compression="gzip")
    with pytest.raises(BadData, match="one piece"):
        FeatureFile(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("no features here")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = [1]
    for name, wrong in (
        ("text.h5", "not an HDF5"),
        ("other.h5", "not 'vlbench regions'"),
        ("none.h5", "no region"),
    ):
        with pytest.raises(BadData, match=wrong):
            FeatureFile(tmp_path / name)


BOX = np.array([[0, 0, 1, 1]], dtype=np.float32)


@pytest.mark.parametrize(
    ("regions", "wrong"),
    [
        (Regions(np.array([[1e6, 0]]), BOX), "float16"),
        (Regions(np.array([[np.nan, 0]]), BOX), "finite"),
        (Regions(np.zeros((1, 3)), BOX), "3 values"),
        (Regions(np.zeros((1, 2)), BOX * 640), "fractions"),
        (Regions(np.zeros((0, 2)), BOX[:0]), "no regions"),
        (Regions(np.zeros((2, 2)), BOX), "do not fit"),
        (Regions(np.zeros((1, 2)), BOX, Labels(*[np.zeros(2)] * 4)), "labels"),
        (Regions(np.zeros((1, 2)), BOX, Labels(*[np.zeros(1)] * 4, np.full((2, 3), 0.5))), "do not fit 1 regions"),
        (Regions(np.zeros((1, 2)), BOX, Labels(*[np.zeros(1)] * 4, np.full((1, 3), 2.0))), "not all from 0 to 1"),
        (Regions(np.zeros((1, 2)), BOX, Labels(*[np.zeros(1)] * 4, np.full((1, 3), 0.5))), "those before of 0"),
    ],
)
def test_writer_refuses_and_leaves_nothing(tmp_path: Path, regions: Regions, wrong: str) -> None:
    good = Regions(np.zeros((1, 2)), BOX)
    with pytest.raises(BadData, match=wrong):
        write_all(tmp_path / "f.h5", [("good", good), ("bad", regions)])
    assert list(tmp_path.iterdir()) == []


def test_writer_refuses_a_second_of_a_key_and_an_empty_file(tmp_path: Path) -> None:
    same = ("a", Regions(np.zeros((1, 2)), BOX))
    with pytest.raises(BadData, match="'a' comes twice"):
        write_all(tmp_path / "f.h5", [same, same])
    with pytest.raises(BadData, match="no image"):
        write_all(tmp_path / "f.h5", [])
    assert list(tmp_path.iterdir()) == []


def test_missing_names_ten_and_counts_all(tmp_path: Path) -> None:
    write(tmp_path / "f.h5", [1, 2])
    file = FeatureFile(tmp_path / "f.h5")
    assert file.missing(["bild-0ä"]) is None
    fault = file.missing([f"other-{i}" for i in range(12)] + ["bild-1ä"])
    assert fault is not None
    assert "12 of 13 images" in fault.wrong
    assert "other-9, ..." in fault.wrong
    assert "other-10" not in fault.wrong
    with pytest.raises(BadData, match="1 of 2"):
        file.gather(["bild-0ä", "nobody"], 3)
    with pytest.raises(BadData, match="nobody"):
        file["nobody"]


def test_fingerprint_and_same_content_same_bytes(tmp_path: Path) -> None:
    made = write(tmp_path / "a.h5", [3, 1, 4])
    write(tmp_path / "b.h5", [3, 1, 4])
    file = FeatureFile(tmp_path / "a.h5")
    values = np.concatenate([regions.features for regions in made.values()]).astype(np.float64)
    np.testing.assert_allclose(file.fingerprint, (values.mean(), values.std(), (values == 0).mean()), atol=1e-6)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_many_flushes_write_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.h5", [3, 1, 4, 2])
    monkeypatch.setattr("vlbench.data.feature_writer._FLUSH", 16)
    write(tmp_path / "b.h5", [3, 1, 4, 2])
    assert FeatureFile(tmp_path / "a.h5").sha256 == FeatureFile(tmp_path / "b.h5").sha256
    FeatureFile(tmp_path / "b.h5").verify()


def test_pickled_file_reads_the_same(tmp_path: Path) -> None:
    made = write(tmp_path / "f.h5", [3, 1])
    again = pickle.loads(pickle.dumps(FeatureFile(tmp_path / "f.h5")))
    np.testing.assert_array_equal(again["bild-0ä"].features, made["bild-0ä"].features)
    assert len(pickle.dumps(again)) < 500

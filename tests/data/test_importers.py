"""Importers: each published layout, written small, comes out as it went in; what is cut is said."""

import base64
import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlbench.data.features import FeatureFile
from vlbench.data.importers import import_features
from vlbench.types import BadData, Fault, Misuse

WIDTH, HEIGHT, VALUES = 64, 48, 6


def boxes_of(number: int, count: int) -> np.ndarray:
    corners = np.random.default_rng(number).uniform(0, 0.5, (count, 4)) + np.array([0, 0, 0.5, 0.5])
    return (corners * [WIDTH, HEIGHT, WIDTH, HEIGHT]).astype(np.float32)


def features_of(number: int, count: int) -> np.ndarray:
    return np.random.default_rng(number).normal(size=(count, VALUES)).astype(np.float32)


def text(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()


def lxmert_row(key: str, number: int, count: int = 3) -> str:
    numbers, sure = np.arange(count, dtype=np.int64), np.full(count, 0.5, np.float32)
    cells = [key, HEIGHT, WIDTH, text(numbers), text(sure), text(numbers + 7), text(sure / 2), count]
    return "\t".join(map(str, [*cells, text(boxes_of(number, count)), text(features_of(number, count))]))


def original_row(key: str, number: int, count: int) -> str:
    cells = [key, WIDTH, HEIGHT, count, text(boxes_of(number, count)), text(features_of(number, count))]
    return "\t".join(map(str, cells))


def check(file: FeatureFile, key: str, number: int, count: int) -> None:
    file.verify()
    np.testing.assert_allclose(file[key].features, features_of(number, count), rtol=1e-3, atol=1e-3)
    fractions = boxes_of(number, count) / [WIDTH, HEIGHT, WIDTH, HEIGHT]
    np.testing.assert_allclose(file[key].boxes, fractions, atol=1e-6)


def test_lxmert_tsv(tmp_path: Path) -> None:
    source = tmp_path / "train.tsv"
    source.write_text("".join(lxmert_row(f"COCO_{n}", n, n + 2) + "\n" for n in range(3)))
    seen: list[tuple[int, int]] = []
    file = import_features([source], tmp_path / "f.h5", progress=lambda done, total, what: seen.append((done, total)))
    for number in range(3):
        check(file, f"COCO_{number}", number, number + 2)
    labels = file["COCO_1"].labels
    assert labels is not None
    assert labels.objects.tolist() == [0, 1, 2]
    assert labels.attributes.tolist() == [7, 8, 9]
    assert labels.attribute_confidence.tolist() == [0.25] * 3
    assert (file.width[0], file.height[0]) == (WIDTH, HEIGHT)
    assert seen[-1] == (source.stat().st_size, source.stat().st_size)


def test_original_tsv_with_names_made_of_numbers(tmp_path: Path) -> None:
    source = tmp_path / "any.tsv"
    source.write_text(original_row("9", 1, 4) + "\n" + original_row("10", 2, 2) + "\n")
    file = import_features([source], tmp_path / "f.h5", name="COCO_val2014_{:0>12}")
    check(file, "COCO_val2014_000000000009", 1, 4)
    check(file, "COCO_val2014_000000000010", 2, 2)
    assert file.labels is None
    with pytest.raises(Misuse, match="cannot be filled"):
        import_features([source], tmp_path / "g.h5", name="{key}")


def test_two_sources_become_one_file(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"{number}.tsv").write_text(lxmert_row(f"image{number}", number) + "\n")
    file = import_features([tmp_path / "1.tsv", tmp_path / "2.tsv"], tmp_path / "f.h5")
    assert tuple(file.keys) == ("image1", "image2")


@pytest.mark.parametrize("adaptive", [False, True])
def test_hdf5_with_index(tmp_path: Path, adaptive: bool) -> None:
    counts = [3, 3] if not adaptive else [2, 4]
    features = [features_of(n, count) for n, count in enumerate(counts)]
    spatial = [np.c_[boxes_of(n, c) / [WIDTH, HEIGHT, WIDTH, HEIGHT], np.ones((c, 2))] for n, c in enumerate(counts)]
    join = np.concatenate if adaptive else np.stack
    with h5py.File(tmp_path / "train.hdf5", "w") as file:
        file["image_features"], file["spatial_features"] = join(features), join(spatial)
        if adaptive:
            file["pos_boxes"] = [[0, 2], [2, 6]]
    with pytest.raises(BadData, match=r"no .*train_imgid2idx\.pkl"):
        import_features([tmp_path / "train.hdf5"], tmp_path / "f.h5")
    (tmp_path / "train_imgid2idx.pkl").write_bytes(pickle.dumps({84002: 0, 5: 1}, 2))
    done = import_features([tmp_path / "train.hdf5"], tmp_path / "f.h5")
    check(done, "84002", 0, counts[0])
    check(done, "5", 1, counts[1])
    (tmp_path / "train_imgid2idx.pkl").write_bytes(pickle.dumps({84002: 0, 5: 2}))
    with pytest.raises(BadData, match="row 2, image '5'"):
        import_features([tmp_path / "train.hdf5"], tmp_path / "f.h5")


def test_npz_is_transposed(tmp_path: Path) -> None:
    folder = tmp_path / "npz"
    folder.mkdir()
    for number in (1, 2):
        np.savez_compressed(
            folder / f"COCO_{number}.jpg.npz",
            **{"x": features_of(number, 4).T, "image_w": WIDTH, "image_h": HEIGHT, "num_bbox": 4},
            bbox=boxes_of(number, 4),
        )
    file = import_features([folder], tmp_path / "f.h5")
    check(file, "COCO_1", 1, 4)
    whole = (folder / "COCO_2.jpg.npz").read_bytes()
    (folder / "COCO_2.jpg.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadData, match=r"COCO_2\.jpg\.npz"):
        import_features([folder], tmp_path / "f.h5")
    check(FeatureFile(tmp_path / "f.h5"), "COCO_2", 2, 4)  # the old file is untouched


def test_npy_with_info(tmp_path: Path) -> None:
    folder = tmp_path / "npy"
    folder.mkdir()
    np.save(folder / "a.npy", features_of(1, 4))
    info = {"bbox": boxes_of(1, 4), "num_boxes": 4, "image_width": WIDTH, "image_height": HEIGHT}
    np.save(folder / "a_info.npy", np.array({**info, "objects": np.arange(4), "cls_prob": None}))  # type: ignore[arg-type]
    file = import_features([folder], tmp_path / "f.h5")
    check(file, "a", 1, 4)
    labels = file["a"].labels
    assert labels is not None
    assert labels.objects.tolist() == [0, 1, 2, 3]
    assert labels.attributes.tolist() == [-1] * 4
    assert labels.class_probabilities is None
    likely = np.random.default_rng(0).dirichlet(np.ones(6), 4).astype(np.float32)
    np.save(folder / "a_info.npy", np.array({**info, "objects": np.arange(4), "cls_prob": likely}))  # type: ignore[arg-type]
    labels = import_features([folder], tmp_path / "g.h5")["a"].labels
    assert labels is not None
    assert labels.objects.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(labels.class_probabilities, likely.astype(np.float16))
    np.save(folder / "a_info.npy", np.array({**info, "cls_prob": likely[:, :5].ravel()[:19]}))  # type: ignore[arg-type]
    with pytest.raises(BadData, match="'a': 19 class probabilities do not fit 4 boxes"):
        import_features([folder], tmp_path / "h.h5")
    np.save(folder / "a_info.npy", np.array({"bbox": os.getcwd}))  # type: ignore[arg-type]
    with pytest.raises(BadData, match="getcwd, which is not data"):
        import_features([folder], tmp_path / "f.h5")


def test_hdf5_groups(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "groups.h5", "w") as file:
        for number in (1, 2):
            group = file.create_group(f"COCO_{number}")
            group["features"], group["boxes"] = features_of(number, 4), boxes_of(number, 4)
            group["img_w"], group["img_h"], group["obj_id"] = WIDTH, HEIGHT, np.arange(4)
    file = import_features([tmp_path / "groups.h5"], tmp_path / "f.h5")
    check(file, "COCO_2", 2, 4)
    with h5py.File(tmp_path / "groups.h5", "r+") as broken:
        del broken["COCO_2/boxes"]
    with pytest.raises(BadData, match="'COCO_2': it has no features or no boxes"):
        import_features([tmp_path / "groups.h5"], tmp_path / "f.h5")


def test_lmdb_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data.mdb").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, "lmdb", None)
    with pytest.raises(Fault, match="pip install lmdb"):
        import_features([tmp_path], tmp_path / "f.h5")


def test_lmdb(tmp_path: Path) -> None:
    import lmdb

    values = {"image_id": "7", "image_w": WIDTH, "image_h": HEIGHT, "num_boxes": 4}
    values |= {"boxes": text(boxes_of(1, 4)), "features": text(features_of(1, 4))}
    with lmdb.open(str(tmp_path / "store")) as store, store.begin(write=True) as change:
        change.put(b"7", pickle.dumps(values))
        change.put(b"keys", pickle.dumps([b"7"]))
    check(import_features([tmp_path / "store"], tmp_path / "f.h5"), "7", 1, 4)


def test_probabilities_alone_name_the_objects(tmp_path: Path) -> None:
    import lmdb

    likely = np.random.default_rng(0).dirichlet(np.ones(6), 4).astype(np.float32)
    likely[2] = [0.6, 0, 0, 0.4, 0, 0]  # the background is likeliest, yet an object is named
    values = {"image_w": WIDTH, "image_h": HEIGHT, "num_boxes": 4, "cls_prob": text(likely)}
    values |= {"boxes": text(boxes_of(1, 4)), "features": text(features_of(1, 4))}
    with lmdb.open(str(tmp_path / "store")) as store, store.begin(write=True) as change:
        change.put(b"7", pickle.dumps(values))
        change.put(b"keys", pickle.dumps([b"7"]))
    file = import_features([tmp_path / "store"], tmp_path / "f.h5")
    check(file, "7", 1, 4)
    assert file.classes == 6
    labels = file["7"].labels
    assert labels is not None
    np.testing.assert_array_equal(labels.objects, likely[:, 1:].argmax(1))
    np.testing.assert_array_equal(labels.object_confidence, likely[:, 1:].max(1))
    assert labels.attributes.tolist() == [-1] * 4
    np.testing.assert_array_equal(labels.class_probabilities, likely.astype(np.float16))


def test_pickles_run_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "evil"),)

    with h5py.File(tmp_path / "train.hdf5", "w") as file:
        file["image_features"] = np.zeros((1, 2, 3))
    (tmp_path / "train_imgid2idx.pkl").write_bytes(pickle.dumps({1: Evil()}))
    with pytest.raises(BadData, match="which is not data"):
        import_features([tmp_path / "train.hdf5"], tmp_path / "f.h5")
    assert not (tmp_path / "evil").exists()


ROWS = [lxmert_row(f"COCO_{n}", n) for n in range(3)]
WHOLE = "\n".join(ROWS) + "\n"
ENDS = {len("\n".join(ROWS[:n])) + extra for n in (1, 2, 3) for extra in (0, 1)}
"""Where a cut leaves whole rows, which nobody can tell from a shorter file."""


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, len(WHOLE) - 1).filter(lambda cut: cut not in ENDS))
def test_a_tsv_cut_anywhere_is_bad_data(tmp_path: Path, cut: int) -> None:
    (tmp_path / "cut.tsv").write_text(WHOLE[:cut])
    with pytest.raises(BadData, match=r"cut\.tsv"):
        import_features([tmp_path / "cut.tsv"], tmp_path / "f.h5")
    assert not (tmp_path / "f.h5").exists()


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        (ROWS[1].replace("A", "*", 1), "line 2, image 'COCO_1': a base64 column is damaged"),
        (ROWS[1] + "\tmore", "line 2, image 'COCO_1': 11 columns, not 10"),
        (ROWS[0], "line 2: image 'COCO_0' comes twice"),
        (lxmert_row("COCO_1", 1).replace("\t3\t", "\t4\t"), "line 2, image 'COCO_1': .* do not fit 4 boxes"),
        (ROWS[1].replace("\t48\t64\t", "\t64\t24\t"), "line 2, image 'COCO_1': its boxes leave the image"),
        (ROWS[1].replace("\t48\t64\t", "\t48\tx\t"), "line 2, image 'COCO_1'"),
        (ROWS[1].replace("\t48\t64\t", "\t48\t0\t"), "line 2, image 'COCO_1': a width of 0"),
    ],
)
def test_a_bad_row_is_named_by_line_and_image(tmp_path: Path, row: str, wrong: str) -> None:
    (tmp_path / "bad.tsv").write_text("\n".join([ROWS[0], row, ROWS[2]]) + "\n")
    with pytest.raises(BadData, match=rf"bad\.tsv, {wrong}"):
        import_features([tmp_path / "bad.tsv"], tmp_path / "f.h5")


def test_unknown_forms_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,2,3\n")
    (tmp_path / "empty").mkdir()
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["something"] = [1]
    for name in ("a.csv", "empty", "x.h5"):
        with pytest.raises(BadData, match="not a known form"):
            import_features([tmp_path / name], tmp_path / "f.h5")
    (tmp_path / "ok.tsv").write_text(WHOLE)
    import_features([tmp_path / "ok.tsv"], tmp_path / "f.h5")
    for name, wrong in (("f.h5", "already"), ("none.tsv", "no file")):
        with pytest.raises(BadData, match=wrong):
            import_features([tmp_path / name], tmp_path / "g.h5")

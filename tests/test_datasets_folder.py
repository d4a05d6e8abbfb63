"""A folder is split by name or manifest, never by listing order, and says which file is wrong."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from bench.datasets.folder import Folder
from bench.datasets.splitting import split_by_hash
from bench.errors import InputError

DATA = Path(__file__).parents[2] / "shared" / "data"
SHARES = (0.7, 0.1, 0.2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for i in range(10):
        height, width = 20 + i, 24
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        mask = np.zeros((height, width), np.uint8)
        mask[4:9, 5 : 10 + i] = 255
        Image.fromarray(image).save(tmp_path / "images" / f"p{i // 2}_{i}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"p{i // 2}_{i}.png")
    return tmp_path


def splits(dataset: Folder) -> dict[str, list[str]]:
    return {name: dataset.case_ids(name) for name in ("train", "val", "test")}


def test_cases_come_with_native_values(root: Path) -> None:
    dataset = Folder(root, 16)
    dataset.check()
    assert (dataset.spec.dims, dataset.spec.intensity) == (2, (0.0, 255.0))
    assert dataset.spec.labels == ("foreground",)
    case = dataset.case("p0_1")
    stored = np.asarray(Image.open(root / "images/p0_1.png"))
    assert np.array_equal(case.image, np.moveaxis(stored, -1, 0))
    assert case.reference.shape == (1, 21, 24)
    assert case.reference.sum() == 5 * 6
    assert case.spacing_mm is None


def test_default_split_has_exact_shares(root: Path) -> None:
    split_of = splits(Folder(root, 16))
    assert {name: len(ids) for name, ids in split_of.items()} == {"train": 7, "val": 1, "test": 2}
    assert sorted(stem for ids in split_of.values() for stem in ids) == sorted(
        p.stem for p in (root / "images").iterdir()
    )
    assert splits(Folder(root, 16, seed=0)) == split_of
    assert any(splits(Folder(root, 16, seed=s)) != split_of for s in range(1, 4))


@settings(max_examples=10, deadline=None)
@given(n=st.integers(3, 300), seed=st.integers(0, 5), shuffle=st.randoms(use_true_random=False))
def test_split_ignores_order_and_keeps_shares(n: int, seed: int, shuffle: random.Random) -> None:
    names = [f"case{i}" for i in range(n)]
    expected = split_by_hash({name: name for name in names}, SHARES, seed)
    shuffle.shuffle(names)
    assert split_by_hash({name: name for name in names}, SHARES, seed) == expected
    counts = [sum(s == split for s in expected.values()) for split in ("train", "val", "test")]
    assert counts[2] == max(1, round(0.2 * n))
    assert counts[1] == max(1, round(0.1 * n))
    assert counts[0] >= 1


@settings(max_examples=10, deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=3, max_size=40))
@example(sizes=[1, 1, 6])  # the groups of test left none for val
def test_groups_stay_whole_and_shares_near(sizes: list[int]) -> None:
    group_of = {f"{g}-{i}": f"g{g}" for g, size in enumerate(sizes) for i in range(size)}
    split_of = split_by_hash(group_of, SHARES, 0)
    for group in set(group_of.values()):
        assert len({split_of[case] for case in split_of if group_of[case] == group}) == 1
    n_test = sum(split == "test" for split in split_of.values())
    assert abs(n_test - 0.2 * len(group_of)) <= 9
    assert set(split_of.values()) == {"train", "val", "test"}


def test_splits_of_one_and_two_cases() -> None:
    assert split_by_hash({"a": "a"}, SHARES, 0) == {"a": "train"}
    assert split_by_hash({"a": "a"}, [0, 0.36, 0.64], 0) == {"a": "test"}
    five = split_by_hash({name: name for name in "abcde"}, [0, 0.5, 0.5], 0)
    assert sorted(five.values()) == ["test", "test", "val", "val", "val"]
    assert sorted(split_by_hash({"a": "a", "b": "b"}, SHARES, 0).values()) == ["test", "train"]


def test_group_regex_keeps_patients_together(root: Path) -> None:
    dataset = Folder(root, 16, group_regex=r"^(p\d+)_")
    assert dataset.case("p3_6").group == "p3"
    split_of = splits(dataset)
    patients = [{name.split("_")[0] for name in ids} for ids in split_of.values()]
    assert sum(map(len, patients)) == 5
    assert len(set.union(*patients)) == 5
    assert len(split_of["test"]) == 2


def write_manifest(root: Path, rows: list[str], header: str = "case,split") -> Path:
    path = root / "splits.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def all_rows() -> list[str]:
    return [f"p{i // 2}_{i},{'train' if i < 6 else 'val' if i < 8 else 'test'}" for i in range(10)]


def test_manifest_decides(root: Path) -> None:
    dataset = Folder(root, 16, manifest=write_manifest(root, all_rows()))
    assert dataset.case_ids("test") == ["p4_8", "p4_9"]
    grouped = [f"{row},{row.split('_')[0]}" for row in all_rows()]
    dataset = Folder(root, 16, manifest=write_manifest(root, grouped, "case,split,group"))
    assert dataset.case("p4_8").group == "p4"


@pytest.mark.parametrize(
    ("rows", "header", "words"),
    [
        (all_rows(), "name,split", "no column 'case'"),
        (all_rows(), "case,fold", "no column 'split'"),
        (all_rows()[1:], "case,split", "'p0_0': not listed"),
        ([*all_rows(), "ghost,test"], "case,split", "'ghost': listed, but there is no such image"),
        ([*all_rows(), "p0_0,test"], "case,split", "'p0_0': listed more than once"),
        (["p0_0,holdout", *all_rows()[1:]], "case,split", "'holdout': no split"),
        ([row + ",same" for row in all_rows()], "case,split,group", "group 'same'"),
    ],
)
def test_bad_manifests(root: Path, rows: list[str], header: str, words: str) -> None:
    path = write_manifest(root, rows, header)
    with pytest.raises(InputError, match=words) as caught:
        Folder(root, 16, manifest=path)
    assert str(path) in str(caught.value)


def break_nan(root: Path) -> None:
    (root / "images/p0_0.png").unlink()
    np.save(root / "images/p0_0.npy", np.full((20, 24, 3), np.nan))


def painted(values: np.ndarray) -> Callable[[Path], None]:
    return lambda root: Image.fromarray(values.astype(np.uint8)).save(root / "masks/p0_0.png")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda root: (root / "masks/p0_0.png").unlink(), r"p0_0\.png: has no mask"),
        (lambda root: (root / "images/p0_0.png").unlink(), r"p0_0\.png: has no image"),
        (lambda root: (root / "masks").rename(root / "labels"), r"masks: no such folder"),
        (lambda root: (root / "images").rename(root / "pictures"), r"images: no such folder"),
        (lambda root: [path.unlink() for path in (root / "images").iterdir()], r"images: holds no image"),
        (painted(np.zeros((6, 5))), r"masks/p0_0\.png: size 6 x 5, but its image has 20 x 24.*dataset\.resample=true"),
        (painted(np.tile(np.arange(0, 240, 10), (20, 1))), r"masks/p0_0\.png: not a mask: 23 values"),
        (painted(np.full((20, 24), 128)), r"masks/p0_0\.png"),
        (break_nan, r"images/p0_0\.npy: holds NaN or infinity"),
        (lambda root: (root / "images/p0_0.png").write_bytes(b"\x89PNG"), r"images/p0_0\.png: cannot be read"),
        (lambda root: (root / "masks/p0_0.png").write_bytes(b""), r"masks/p0_0\.png: cannot be read"),
    ],
)
def test_bad_files_stop_before_training(root: Path, spoil: Callable[[Path], object], words: str) -> None:
    spoil(root)
    with pytest.raises(InputError, match=words) as caught:
        Folder(root, 16).check()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"root": "nowhere"}, r"nowhere: no such folder"),
        ({"split": (0.5, 0.1, 0.1)}, r"add up to 1"),
        ({"labels": ["a", "a"]}, r"distinct"),
        ({"intensity": [5, 5]}, r"intensity"),
        ({"group_regex": r"x(\d)"}, r"group_regex .*p0_0"),
        ({"group_regex": "("}, r"group_regex"),
        ({"manifest": "absent.csv"}, r"absent\.csv"),
    ],
)
def test_bad_options(root: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        _ = Folder(**{"root": root, "image_size": 16, **options}).spec
    with pytest.raises(InputError, match=r"split 'all'"):
        Folder(root, 16).case_ids("all")


def test_fingerprint_follows_contents(root: Path) -> None:
    before = Folder(root, 16).fingerprint()
    assert Folder(root, 32).fingerprint() == before
    assert Folder(root, 16, seed=3).fingerprint()["data"] == before["data"]
    assert Folder(root, 16, seed=3).fingerprint()["split"] != before["split"]
    Image.new("L", (24, 20), 255).save(root / "masks/p0_0.png")
    after = Folder(root, 16).fingerprint()
    assert (after["data"] != before["data"], after["split"] == before["split"]) == (True, True)


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    affine = np.array([[0.8, 0, 0, -10], [0, 0.9, 0, 4], [0, 0, 2.5, 7], [0, 0, 0, 1.0]])
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for i in range(4):
        image = rng.normal(40, 100, (12, 11, 6)).astype(np.float32)
        ids = rng.integers(0, 4, (12, 11, 6)).astype(np.uint8)
        nib.save(nib.Nifti1Image(image, affine), tmp_path / "images" / f"v{i}.nii.gz")
        nib.save(nib.Nifti1Image(ids, affine), tmp_path / "masks" / f"v{i}.nii.gz")
    return tmp_path


def test_volumes_have_spacing_and_labels(volumes: Path) -> None:
    dataset = Folder(volumes, 8, labels=["a", "b", "c"], channels=1)
    dataset.check()
    assert dataset.spec.dims == 3
    low, high = dataset.spec.intensity
    assert -400 < low < -150 < 220 < high < 500  # percentiles of a normal with mean 40 and deviation 100
    case = dataset.case("v1")
    assert case.image.shape == (1, 6, 11, 12)
    assert case.spacing_mm == pytest.approx((2.5, 0.9, 0.8))
    stored = np.asarray(nib.load(volumes / "masks/v1.nii.gz").dataobj)
    assert np.array_equal(case.reference[1], stored.T == 2)


def test_labels_are_complete_or_picked(volumes: Path) -> None:
    with pytest.raises(InputError, match=r"holds the value 3, which has no label"):
        Folder(volumes, 8, labels=["a", "b"], channels=1).check()
    picked = Folder(volumes, 8, labels={"c": 3}, channels=1, intensity=[-175, 250])
    picked.check()
    assert (picked.spec.labels, picked.spec.intensity) == (("c",), (-175.0, 250.0))
    with pytest.raises(InputError, match=r"dataset\.labels=\{NAME: 1"):
        Folder(volumes, 8, channels=1).check()


def test_a_mask_elsewhere_than_its_image_is_refused(volumes: Path) -> None:
    path = volumes / "masks/v2.nii.gz"
    mask = nib.load(path)
    flipped = mask.affine @ np.diag([-1, 1, 1, 1])
    nib.save(nib.Nifti1Image(np.asarray(mask.dataobj), flipped), path)
    with pytest.raises(InputError, match=r"v2\.nii\.gz: origin \(-18.8, 4, 7\), but its image has \(-10, 4, 7\)"):
        Folder(volumes, 8, labels=["a", "b", "c"], channels=1).check()


@pytest.mark.skipif(not (DATA / "nuclei").is_dir(), reason="the shared nuclei are not beside the repository")
def test_real_nuclei() -> None:
    dataset = Folder(DATA / "nuclei", 64)
    assert [len(dataset.case_ids(s)) for s in ("train", "val", "test")] == [348, 50, 100]
    case = dataset.case(dataset.case_ids("test")[0])
    assert case.image.shape == (3, 256, 256)
    assert case.reference.shape == (1, 256, 256)
    assert 0 < case.reference.mean() < 0.9


@pytest.mark.skipif(not (DATA / "abdomen_ct").is_dir(), reason="the shared CT is not beside the repository")
def test_real_ct(tmp_path: Path) -> None:
    for folder, source in (("images", "img"), ("masks", "label")):
        (tmp_path / folder).mkdir()
        content = (DATA / f"abdomen_ct/{source}/{source}0001.nii.gz").read_bytes()
        (tmp_path / folder / "0001.nii.gz").write_bytes(content)
    manifest = write_manifest(tmp_path, ["0001,test"])
    labels = {"liver": 6, "spleen": 1, "oesophagus": 5}
    dataset = Folder(tmp_path, 64, labels, manifest, channels=1, intensity=[-175, 250])
    dataset.check()
    case = dataset.case("0001")
    assert case.spacing_mm == pytest.approx((3.0, 3.0, 3.0))
    volumes_ml = case.reference.sum(axis=(1, 2, 3)) * 0.027
    assert 800 < volumes_ml[0] < 2500  # liver, millilitres
    assert 35 < np.median(case.image[0][case.reference[0]]) < 75  # HU without contrast: image and labels agree
    assert volumes_ml[2] == 0

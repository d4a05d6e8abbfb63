"""Phantoms are deterministic, independent of order, split by group, and contain what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from bench.datasets.phantom import Organs, Polyp
from bench.datasets.phantom.organs import ORGANS
from bench.errors import InputError
from bench.types import Case, Dataset

SMALL = {"size": 64, "n_train": 8, "n_val": 4, "n_test": 8}
TINY = {"shape": (16, 48, 48), "n_train": 2, "n_val": 1, "n_test": 3}


def cases(dataset: Dataset, split: str) -> list[Case]:
    return [dataset.case(case_id) for case_id in dataset.case_ids(split)]


def datasets() -> list[Dataset]:
    return [Polyp(32, **SMALL), Organs(32, **TINY)]


@pytest.mark.parametrize("dataset", datasets(), ids=["polyp", "organs"])
def test_contract(dataset: Dataset) -> None:
    case = dataset.case(dataset.case_ids("test")[-1])
    spatial = case.image.shape[1:]
    assert len(spatial) == dataset.spec.dims
    assert (case.image.shape[0], case.image.dtype) == (dataset.spec.channels, np.float32)
    assert (case.reference.shape, case.reference.dtype) == ((len(dataset.spec.labels), *spatial), bool)
    assert dataset.spec.image_size == (32, 32)
    assert np.isfinite(case.image).all()
    assert case.reference.any()
    for split in ("train", "val", "test"):
        assert dataset.case_ids(split) == sorted(dataset.case_ids(split))
    with pytest.raises(InputError, match=r"holdout"):
        dataset.case_ids("holdout")
    with pytest.raises(InputError, match=r"nobody"):
        dataset.case("nobody")


@pytest.mark.parametrize("kind", [0, 1])
def test_cases_do_not_depend_on_order(kind: int) -> None:
    forward, backward = datasets()[kind], datasets()[kind]
    ids = forward.case_ids("test")[:3]
    first = {i: forward.case(i) for i in ids}
    second = {i: backward.case(i) for i in reversed(ids)}
    for i in ids:
        assert np.array_equal(first[i].image, second[i].image)
        assert np.array_equal(first[i].reference, second[i].reference)
    assert not np.array_equal(first[ids[0]].image, first[ids[1]].image)


def test_more_training_cases_leave_the_test_cases_alone() -> None:
    few, many = Polyp(32, **SMALL), Polyp(32, **SMALL | {"n_train": 20})
    assert few.case_ids("test") == many.case_ids("test")
    case = few.case_ids("test")[0]
    assert np.array_equal(few.case(case).image, many.case(case).image)
    assert few.fingerprint()["split"] != many.fingerprint()["split"]
    assert few.fingerprint()["data"] == many.fingerprint()["data"]


def test_fingerprint_follows_the_parameters() -> None:
    base = Polyp(32, **SMALL).fingerprint()
    assert base == Polyp(64, **SMALL).fingerprint()  # a method's size is no property of the data
    assert base["data"] != Polyp(32, **SMALL, seed=1).fingerprint()["data"]
    assert base["data"] != Polyp(32, **SMALL | {"size": 72}).fingerprint()["data"]
    assert len({d.fingerprint()["data"] for d in datasets()}) == 2
    a, b = (Polyp(32, **SMALL, seed=s) for s in (0, 1))
    assert not np.array_equal(a.case("test-0000-00").image, b.case("test-0000-00").image)


def test_groups_are_adjacent_frames_of_one_split() -> None:
    dataset = Polyp(32, **SMALL)
    frames = {split: list(cases(dataset, split)) for split in ("train", "val", "test")}
    groups = {split: {c.group for c in shown} for split, shown in frames.items()}
    assert not groups["train"] & groups["test"]
    assert not groups["train"] & groups["val"]
    assert [len(groups[s]) for s in ("train", "val", "test")] == [2, 1, 2]

    def distance(a: int, b: int) -> float:
        return float(np.abs(frames["test"][a].image - frames["test"][b].image).mean())

    # Frames 0..3 show one scene, 4..7 another.
    assert max(distance(0, 1), distance(4, 5)) < min(distance(0, 4), distance(1, 5))


def test_share_of_empty_scenes() -> None:
    dataset = Polyp(32, size=32, n_train=0, n_val=0, n_test=8, sequence_length=2, empty_share=0.25)
    empty = [not case.reference.any() for case in cases(dataset, "test")]
    assert sum(empty) == 2
    assert empty[::2] == empty[1::2]  # whole scenes


def test_polyp_values_and_sizes() -> None:
    frames = list(cases(Polyp(32, n_train=0, n_val=0, n_test=4, sequence_length=1), "test"))
    assert frames[0].image.shape == (3, 192, 192)
    assert frames[0].spacing_mm is None
    share = np.array([case.reference.mean() for case in frames])
    assert share.min() > 0.01
    assert share.max() < 0.4
    for case in frames:
        assert case.image.min() >= 0
        assert case.image.max() <= 255
        assert np.array_equal(case.image, np.rint(case.image))


def test_organs_look_like_ct() -> None:
    scans = list(cases(Organs(32, n_train=0, n_val=0, n_test=2), "test"))
    assert scans[0].image.shape == (1, 24, 96, 96)
    assert scans[0].spacing_mm == (5.0, 3.0, 3.0)
    references = np.stack([case.reference for case in scans])
    assert references.sum(axis=1).max() == 1  # labels exclude each other
    assert (~references[:, :4].any(axis=(1, 3, 4))).any()  # slices without any organ but the aorta
    for case in scans:
        assert -1150 < np.median(case.image[0, :, 0, 0]) < -950  # air
        for label in np.flatnonzero(case.reference.any(axis=(1, 2, 3))):
            assert 60 < np.median(case.image[0][case.reference[label]]) < 220, ORGANS[label]
        # The window keeps the organs apart from fat and bone.
        assert case.image.max() > 250


def test_organs_may_be_absent() -> None:
    none = Organs(32, **TINY, absent_share=1.0).case("test-0000-00")
    assert none.reference.any(axis=(1, 2, 3)).tolist() == [False] * 4 + [True]
    # Inside the scan or not: an organ that was not removed may still lie beyond the first or last slice.
    present = Organs(32, **TINY, absent_share=0.0).case("test-0000-00").reference.any(axis=(1, 2, 3))
    assert present[[0, 4]].all()


@pytest.mark.parametrize(
    ("build", "word"),
    [
        (lambda: Polyp(0), "image_size"),
        (lambda: Polyp([1, 2, 3]), "image_size"),
        (lambda: Polyp(32, empty_share=1.5), "empty_share"),
        (lambda: Polyp(32, sequence_length=0), "groups of 0"),
        (lambda: Organs(32, shape=(4, 4)), "shape"),
        (lambda: Organs(32, absent_share=-1), "absent_share"),
    ],
)
def test_bad_parameters_are_named(build: object, word: str) -> None:
    with pytest.raises(InputError, match=word):
        build()  # type: ignore[operator]

"""Masks that may mean several things are refused, with the option that settles it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.datasets.masks.declared import declared, parse_pairs, parse_value
from bench.errors import InputError
from tests.mask_fixtures import (
    CUP,
    DISC,
    ONE_HOT,
    RED,
    RED_JPEG,
    SPOT,
    X,
    Y,
    colours,
    grey,
    levels,
    read,
    through_jpeg,
)

NPY = {"suffix": "npy"}
LABEL_JPEG = through_jpeg(DISC, 75) // 2 + through_jpeg(SPOT, 75) // 4
REFUSED: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "a value to ignore?": ([levels((DISC, 255), (CUP, 1))], {}, "--ignore 255"),
    "beside labels?": ([levels((DISC, 1), (SPOT, 2), (CUP, 255))], {}, "--ignore 255.*--labels NAME=1"),
    "inverted?": ([grey(~DISC)], {}, "--background 255"),
    "fundus?": ([levels((DISC, 128), (CUP, 0), on=255)], {}, "--background 255"),
    "no ground?": ([levels((DISC, 1), on=2), levels((SPOT, 1), on=2)], {}, "--background"),
    "white everywhere": ([grey(DISC | True)] * 2, {}, "--background 255 if that is it, --mask binary"),
    "one everywhere, one name": ([grey(DISC | True, 1)], {"labels": "polyp"}, "--background 1 if that is it"),
    "one odd file": (
        [grey(DISC), grey(DISC, 128), grey(SPOT)],
        {},
        r"1\.png: holds 128 where other masks of the folder hold 255; .*--mask binary.*--mask labels",
    ),
    "a grey per file": ([grey(DISC, v) for v in (50, 90, 130, 170)], {}, r"0\.png: holds 50 where .* 90, 130, 170"),
    "an odd colour": ([grey(DISC, 128), grey(SPOT, 128), colours((DISC, RED))], {}, r"2\.png: holds #ff0000 .* 128"),
    "a stray element": (
        [grey(DISC), levels((DISC, 255), ((Y == 9) & (X == 9), 1))],
        {},
        r"1\.png: 1 \(1 element in 1 of 2 files\) beside 255 \(1394 elements in 2 of 2 files\): .*--ignore 255",
    ),
    "thin rings or outlines?": ([levels((DISC & ~CUP & (X % 9 < 1), 100), (CUP, 255))], {}, "--mask binary"),
    "two values of white?": ([levels((DISC, 255), (CUP, 254))], {}, "--mask binary"),
    "photograph": ([np.random.default_rng(0).integers(0, 255, DISC.shape, dtype=np.uint8)], {}, "not a mask"),
    "ramp": ([np.tile(np.arange(240, dtype=np.uint8), (8, 1))], {}, "239 values"),
    "score": ([np.linspace(0, 1, 16).reshape(4, 4)], {"suffix": "npy"}, "fractions.*--mask binary"),
    "NaN": ([np.array([[0, np.nan]])], {"suffix": "npy"}, "NaN"),
    "negative": ([np.array([[0, -1, 1]])], {"suffix": "npy"}, "--ignore -1"),
    "too large": ([np.array([[0, 70000]])], {"suffix": "npy"}, "65535"),
    "two channels": ([np.stack([~DISC, DISC], -1).astype(np.uint8)], {"suffix": "tif"}, "--mask onehot"),
    "two one-hot channels first": ([ONE_HOT[:2]], NPY, "0.npy: exactly one of 2 planes.*--mask onehot"),
    "two one-hot channels last": ([np.moveaxis(ONE_HOT[:2], 0, -1)], NPY, "one of 2 planes.*--mask onehot"),
    "three one-hot channels first": ([ONE_HOT[:3]], NPY, "one of 3 planes.*--mask onehot"),
    "five one-hot channels last": ([np.moveaxis(ONE_HOT, 0, -1)], NPY, "one of 5 planes.*--mask onehot"),
    "one-hot, called binary": ([ONE_HOT[:2]], {**NPY, "mask": "binary"}, "one of 2 planes.*--mask onehot"),
    "one-hot pages": ([ONE_HOT[:2] * np.uint8(255)], {"suffix": "tif"}, r"0\.tif: .*one of 2 planes.*--mask onehot"),
    "no one-hot": ([np.stack([DISC, DISC]).astype(np.uint8)], {"mask": "onehot", "suffix": "npy"}, "not one-hot"),
    "label map through jpeg": ([LABEL_JPEG], {}, "not a mask"),
    "named, through jpeg": ([LABEL_JPEG], {"labels": {"d": 127, "s": 63}}, "not a mask"),
    "colours through jpeg": ([RED_JPEG], {}, "not a mask.*--mask binary"),
    "only in the transparency": ([np.dstack([colours(), grey(DISC)])], {}, "transparency"),
    "0 and 1 among greys": ([through_jpeg(DISC, 75), grey(DISC, 1)], {}, r"1\.png.*save all masks as 0 and 255"),
    "a value without a label": ([levels((DISC, 1), (SPOT, 3))], {"labels": ["a", "b"]}, "value 3, which has no label"),
    "one name, several values": ([levels((DISC, 1), (SPOT, 3))], {"labels": "polyp"}, "--labels NAME=1,NAME=3"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(tmp_path: Path, name: str) -> None:
    arrays, stated, words = REFUSED[name]
    with pytest.raises(InputError, match=words) as caught:
        read(tmp_path / "m", arrays, **stated)
    assert str(tmp_path / "m") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: declared("grey"), "--mask grey"),
        (lambda: declared(labels={"a": 0}), "0 is the background value"),
        (lambda: declared(labels={"a": 1}, ignore=1), "1 is the ignore value"),
        (lambda: declared(labels={"a": "red"}), "'red'"),
        (lambda: declared(labels={"a": 1, "b": 1}), "distinct"),
        (lambda: declared(labels=["a", "a"]), "distinct"),
        (lambda: declared(labels={}), "labels"),
        (lambda: declared("binary", {"a": 1, "b": 2}), "one label"),
        (lambda: parse_pairs("liver"), "NAME=VALUE"),
        (lambda: parse_pairs("a=1,a=2"), r"a=1\+2"),
        (lambda: parse_value(True), "'True'"),
        (lambda: parse_value("1e3"), "'1e3'"),
    ],
)
def test_what_cannot_be_stated(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()

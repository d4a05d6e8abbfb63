"""How masks are read: one decision for a folder, the right one or a refusal that names the option which settles it."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bench.datasets.formats import decode
from bench.datasets.masks import MaskFiles
from bench.datasets.masks.declared import declared, parse_pairs, parse_value
from bench.datasets.masks.plane import read_plane
from bench.errors import InputError

Y, X = np.mgrid[:96, :128]
DISC = (Y - 40) ** 2 + (X - 60) ** 2 < 15**2
CUP = (Y - 40) ** 2 + (X - 60) ** 2 < 7**2
SPOT = (Y - 75) ** 2 + (X - 20) ** 2 < 6**2
RED, GREEN, BLACK, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 0), (255, 255, 255)


def grey(mask: np.ndarray, value: int = 255) -> np.ndarray:
    return mask.astype(np.uint8) * np.uint8(value)


def levels(*pairs: tuple[np.ndarray, Any], on: Any = 0) -> np.ndarray:
    """A plane of the value or colour `on` with the values of masks, the later ones on top."""
    plane = np.full((*DISC.shape, *np.shape(on)), on, np.uint8)
    for mask, value in pairs:
        plane[mask] = value
    return plane


def colours(*pairs: tuple[np.ndarray, Sequence[int]], on: Sequence[int] = BLACK) -> np.ndarray:
    return levels(*pairs, on=on)


def table(indices: np.ndarray, *rows: Sequence[int]) -> Image.Image:
    image = Image.fromarray(indices.astype(np.uint8), mode="P")
    image.putpalette([v for row in rows for v in row])
    return image


def through_jpeg(mask: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(grey(mask)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def enlarged(mask: np.ndarray, factor: int) -> np.ndarray:
    height, width = mask.shape
    return np.asarray(Image.fromarray(grey(mask)).resize((width * factor, height * factor), Image.Resampling.BILINEAR))


def save(path: Path, values: Any) -> Path:
    if isinstance(values, Image.Image):
        values.save(path)
    elif path.suffix == ".npy":
        np.save(path, values)
    elif path.name.endswith(".nii.gz"):
        nib.save(nib.Nifti1Image(values, np.diag([1.0, 1, 2, 1])), path)
    elif path.suffix == ".tif":
        channels = values.ndim > 2 and values.shape[-1] < 5
        tifffile.imwrite(path, values, photometric="minisblack", planarconfig="contig" if channels else None)
    else:
        Image.fromarray(values).save(path)
    return path


def read(
    folder: Path, given: dict[str, Any] | list[Any], suffix: str = "png", **stated: Any
) -> tuple[MaskFiles, list[np.ndarray]]:
    folder.mkdir(exist_ok=True)
    files = given if isinstance(given, dict) else {f"{i}.{suffix}": values for i, values in enumerate(given)}
    paths = [save(folder / name, values) for name, values in files.items()]
    reading = MaskFiles(folder, paths, declared(**stated))
    return reading, [reading.read(path, decode(path, indexed=True))[0].stack() for path in paths]


LABEL_JPEG = through_jpeg(DISC, 75) // 2 + through_jpeg(SPOT, 75) // 4
RED_JPEG = through_jpeg(np.dstack([DISC, DISC & False, DISC & False]), 80)
WHITE_JPEG = through_jpeg(np.dstack([DISC] * 3), 70)
ONE_HOT = np.stack([~DISC, DISC, *[DISC & False] * 3]).astype(np.uint8)
NPY = {"suffix": "npy"}
LABELS = {"a": 63, "b": 127, "c": 255}
RIGHT: dict[str, tuple[list[Any], dict[str, Any], list[np.ndarray]]] = {
    # what the files hold, what is stated, and the masks of every file
    "0 and 255": ([grey(DISC), grey(SPOT)], {}, [DISC]),
    "0 and 1": ([grey(DISC, 1)], {}, [DISC]),
    "another single value": ([grey(DISC, 38), grey(CUP, 38)], {}, [DISC]),
    "16 bit": ([grey(DISC).astype(np.uint16) * 257], {}, [DISC]),
    "empty and full": ([grey(np.zeros_like(DISC)), grey(DISC), grey(DISC | True)], {}, [DISC & False]),
    "one bit": ([Image.fromarray(DISC)], {}, [DISC]),
    "colour on black": ([colours((DISC, RED))], {}, [DISC]),
    "two ids": ([levels((DISC, 1), (SPOT, 2))], {}, [DISC, SPOT]),
    "one id per file": ([grey(DISC, 1), grey(SPOT, 2)], {}, [DISC, DISC & False]),
    "spread greys": ([levels((DISC, 63), (CUP, 127), (SPOT, 255))], {}, [DISC & ~CUP, CUP, SPOT]),
    "named greys": ([levels((DISC, 63), (CUP, 127), (SPOT, 255))], {"labels": LABELS}, [DISC & ~CUP, CUP, SPOT]),
    "picked": ([levels((DISC, 1), (SPOT, 2))], {"labels": {"s": 2}}, [SPOT]),
    "merged": ([levels((DISC, 1), (CUP, 2))], {"labels": {"whole": "1+2", "core": 2}}, [DISC, CUP]),
    "many ids as one": ([levels((DISC, 1), (SPOT, 2))], {"mask": "binary"}, [DISC | SPOT]),
    "ignored": ([levels((DISC, 255), (CUP, 1))], {"ignore": 255}, [CUP]),
    "ignored beside binary 255": ([levels((DISC, 7), (CUP, 255))], {"ignore": 7}, [CUP]),
    "ignored of labels": ([levels((DISC, 255), (CUP, 1), (SPOT, 2))], {"ignore": 255}, [CUP, SPOT]),
    "negative ignored": ([levels((CUP, 1)).astype(np.int16) - SPOT], {"ignore": -1, "suffix": "npy"}, [CUP]),
    "fundus": (
        [levels((DISC, 128), (CUP, 0), on=255)],
        {"background": 255, "labels": {"cup": 0, "disc": "0+128"}},
        [CUP, DISC],
    ),
    "inverted, said": ([grey(~DISC)], {"background": 255}, [DISC]),
    "inverted, meant": ([grey(~DISC)], {"mask": "binary"}, [~DISC]),
    "white ground": ([colours((DISC, RED), on=WHITE)], {"background": "#ffffff"}, [DISC]),
    "colour labels": ([colours((DISC, RED), (SPOT, GREEN))], {}, [SPOT, DISC]),  # by colour, #00ff00 first
    "colour map": ([colours((DISC, RED), (SPOT, GREEN))], {"labels": {"d": "#ff0000", "s": "#00ff00"}}, [DISC, SPOT]),
    "lesion first in its table": ([table(~DISC, RED, BLACK), table(DISC, BLACK, RED)], {}, [DISC]),
    "white first in its table": ([table(~DISC, WHITE, BLACK)], {}, [DISC]),
    "tables in another order": (
        [
            table(levels((DISC, 1), (SPOT, 2)), BLACK, RED, GREEN),
            table(levels((DISC, 2), (SPOT, 1)), BLACK, GREEN, RED),
        ],
        {},
        [SPOT, DISC],
    ),
    "by index": ([table(levels((DISC, 1), (SPOT, 2)), BLACK, RED, RED)], {"mask": "index"}, [DISC, SPOT]),
    "one-hot": ([np.stack([~DISC, DISC]).astype(np.uint8)], {"mask": "onehot", "suffix": "npy"}, [DISC]),
    "slices, said": ([ONE_HOT[:2]], {"mask": "labels", "suffix": "npy"}, [ONE_HOT[:2] > 0]),
    "slices": ([np.stack([DISC, SPOT]).astype(np.uint8)], {"suffix": "npy"}, [np.stack([DISC, SPOT])]),
    "floats": ([DISC.astype(np.float32)], {"suffix": "tif"}, [DISC]),
    "score, said": ([DISC * 0.9 + 0.05], {"mask": "binary", "suffix": "npy"}, [DISC]),
    "jpeg rests": ([through_jpeg(DISC, 75)], {}, [through_jpeg(DISC, 75) > 128]),
    "one with jpeg rests": ([grey(DISC), through_jpeg(DISC, 90), grey(SPOT)], {}, [DISC]),
    "jpeg rests in colour channels": ([WHITE_JPEG], {}, [WHITE_JPEG[..., 0] > 128]),
    "red through jpeg, said": ([RED_JPEG], {"mask": "binary"}, [RED_JPEG.max(-1) > 128]),
    "resized": ([enlarged(DISC, 3)], {}, [enlarged(DISC, 3) > 128]),
    "nearly": ([levels((DISC, 255), (DISC & (X % 7 == 0), 254), ((Y == 90) & (X < 9), 3))], {}, [DISC]),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_read(tmp_path: Path, name: str) -> None:
    arrays, stated, wanted = RIGHT[name]
    reading, masks = read(tmp_path / "m", arrays, **stated)
    assert masks[0].shape == (len(wanted), *wanted[0].shape)
    for mask, right in zip(masks[0], wanted, strict=True):
        assert np.array_equal(mask, right), reading.rule.text
    for values, mask in zip(arrays[1:], masks[1:], strict=True):
        if isinstance(values, np.ndarray) and values.ndim == 2 and len(mask) == 1:
            assert np.array_equal(mask[0], values > 128 if values.max() > 128 else values > 0)


REFUSED: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "a value to ignore?": ([levels((DISC, 255), (CUP, 1))], {}, "--ignore 255"),
    "beside labels?": ([levels((DISC, 1), (SPOT, 2), (CUP, 255))], {}, "--ignore 255.*--labels NAME=1"),
    "inverted?": ([grey(~DISC)], {}, "--background 255"),
    "fundus?": ([levels((DISC, 128), (CUP, 0), on=255)], {}, "--background 255"),
    "no ground?": ([levels((DISC, 1), on=2), levels((SPOT, 1), on=2)], {}, "--background"),
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


@pytest.mark.parametrize(("quality", "suffix"), [(30, "tif"), (75, "png"), (95, "bmp")])
def test_masks_that_went_through_jpeg(tmp_path: Path, quality: int, suffix: str) -> None:
    rng = np.random.default_rng(quality)
    wanted = {}
    for i in range(4):
        cy, cx, ry, rx = rng.uniform(0.3, 0.7, 4) * 96 * [1, 1, 0.5, 0.5]
        wanted[f"{i}.{suffix}"] = through_jpeg((Y - cy) ** 2 / ry**2 + (X - cx) ** 2 / rx**2 < 1, quality)
    _, masks = read(tmp_path / "m", wanted)
    for values, mask in zip(wanted.values(), masks, strict=True):
        assert np.array_equal(mask, values[None] > 128)


@pytest.mark.parametrize("order", [(1, 2, 0), (2, 1, 0)])
def test_a_folder_is_read_alike_in_any_order(tmp_path: Path, order: Sequence[int]) -> None:
    plain = {"0.png": grey(DISC), "1.png": through_jpeg(DISC, 60), "2.png": grey(SPOT)}
    _, expected = read(tmp_path / "m", plain)
    paths = [tmp_path / "m" / f"{i}.png" for i in order]
    reading = MaskFiles(tmp_path / "m", sorted(paths), declared(labels="x"))
    for i, path in zip(order, paths, strict=True):
        assert np.array_equal(reading.read(path, decode(path, indexed=True))[0].stack(), expected[i])


def test_files_that_are_clear_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a second look at a file")

    monkeypatch.setattr("bench.datasets.masks.files.read_plane", refuse)
    for stated, value in (({"labels": "x"}, 255), ({"labels": ["a", "b"]}, 1), ({"labels": "x", "ignore": 9}, 255)):
        reading, _ = read(tmp_path / "m", [grey(DISC, value)] * 3, **stated)
        assert reading.facts()["files"] == 3


@pytest.mark.parametrize("how", [{}, {"imagej": True}, {"photometric": "rgb", "planarconfig": "separate"}])
def test_three_slices_are_not_taken_for_colours(tmp_path: Path, how: dict[str, Any]) -> None:
    volume = np.stack([levels((DISC, 1)), levels((DISC, 1), (SPOT, 2)), levels((DISC, 1))])
    tifffile.imwrite(tmp_path / "v.tif", volume, **how)
    with pytest.raises(InputError, match=r"v\.tif: 3 planes that may be slices.*minisblack"):
        read_plane(tmp_path / "v.tif", declared())
    tifffile.imwrite(tmp_path / "v.tif", volume, photometric="minisblack")
    assert np.array_equal(read_plane(tmp_path / "v.tif", declared()), volume)


def test_files_of_one_name_in_two_draws_are_two(tmp_path: Path) -> None:
    paths = []
    for draw, value in enumerate((1, 2)):
        (tmp_path / f"draw-{draw}").mkdir()
        paths.append(save(tmp_path / f"draw-{draw}/a.png", grey(DISC, value)))
    assert MaskFiles(tmp_path, paths, declared()).rule.values == ((1,), (2,))
    assert MaskFiles(tmp_path, paths, declared("binary")).facts()["files"] == 2


def test_what_is_ignored_is_counted(tmp_path: Path) -> None:
    reading, _ = read(tmp_path / "m", {"a.png": levels((DISC, 9), (CUP, 1))}, ignore=9)
    facts = reading.facts()
    assert facts["ignored_elements"] == (DISC & ~CUP).sum()
    assert facts["elements"] == DISC.size


def test_lossy_files_hold_no_labels(tmp_path: Path) -> None:
    labels, red = [grey(DISC, 1)], [colours((DISC, RED))]
    for arrays, stated, words in (
        (labels, {}, "largest value"),
        (labels, {"labels": ["a", "b"]}, "compressed with loss"),
        (red, {}, r"colours.*--mask binary"),
    ):
        with pytest.raises(InputError, match=words):
            read(tmp_path / "m", arrays, "jpg", **stated)
    _, (mask,) = read(tmp_path / "m", red, "jpg", mask="binary")
    assert (mask[0] != DISC).mean() < 0.01


@settings(max_examples=15, deadline=None)
@given(
    ids=st.lists(st.integers(1, 200), min_size=2, max_size=5, unique=True),
    seed=st.integers(0, 10**6),
    ignore=st.none() | st.integers(201, 254),
)
def test_label_maps_with_areas_keep_every_value(
    tmp_path_factory: pytest.TempPathFactory, ids: list[int], seed: int, ignore: int | None
) -> None:
    rng = np.random.default_rng(seed)
    planes = {}
    for name in ("a.png", "b.png"):
        plane = np.zeros((64, 64), np.uint8)
        for value in [*ids, *([] if ignore is None else [ignore])]:
            y, x = rng.integers(1, 50, 2)
            plane[y : y + 12, x : x + 12] = value
        planes[name] = plane
    present = sorted({v for plane in planes.values() for v in np.unique(plane).tolist()} - {0, ignore})
    reading, masks = read(tmp_path_factory.mktemp("m"), planes, ignore=ignore, mask="labels")
    assert reading.rule.values == tuple((v,) for v in present)
    for plane, mask in zip(planes.values(), masks, strict=True):
        assert np.array_equal(mask, np.stack([plane == v for v in present]))


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

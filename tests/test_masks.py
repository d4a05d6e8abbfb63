"""How masks are read: one decision for a folder, which all of its files make."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bench.datasets.formats import decode
from bench.datasets.masks import MaskFiles
from bench.datasets.masks.declared import declared
from bench.datasets.masks.plane import read_plane
from bench.errors import InputError
from tests.mask_fixtures import (
    BLACK,
    CUP,
    DISC,
    GREEN,
    ONE_HOT,
    RED,
    RED_JPEG,
    SPOT,
    WHITE,
    X,
    Y,
    colours,
    enlarged,
    grey,
    levels,
    read,
    save,
    table,
    through_jpeg,
)

WHITE_JPEG = through_jpeg(np.dstack([DISC] * 3), 70)
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
    "five ids, one per file": ([grey(DISC, v) for v in (1, 2, 4, 5, 3)], {}, [DISC, *[DISC & False] * 4]),
    "40 ids, one per file": ([grey(DISC, v) for v in range(1, 41)], {}, [DISC, *[DISC & False] * 39]),
    "a grey per file, said": ([grey(DISC, 50), grey(SPOT, 90)], {"mask": "labels"}, [DISC, DISC & False]),
    "white everywhere, said": ([grey(DISC | True)], {"mask": "binary"}, [DISC | True]),
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
    monkeypatch.setattr("bench.datasets.masks.files.decode", refuse)
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


def test_the_line_says_that_fractions_are_cut(tmp_path: Path) -> None:
    soft = DISC * 0.9 + 0.05
    for name, values, words in (
        ("soft", [soft, np.zeros_like(soft)], "binary, fractions cut at one half, then everything but 0 is foreground"),
        ("whole", [DISC * 1.0], "binary, everything but 0 is foreground"),
    ):
        reading, _ = read(tmp_path / name, values, "npy", mask="binary")
        assert reading.facts()["text"] == words


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

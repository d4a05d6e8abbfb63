"""REFUGE2 as distributed: photographs of the eye's ground with optic disc and cup in three grey levels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from bench.datasets.benchmarks.benchmark import (
    Benchmark,
    Cut,
    Download,
    Options,
    Preprocessing,
    RawCase,
    child_folders,
    grey,
    paired_files,
    photograph,
    same_view,
)
from bench.datasets.benchmarks.polyps import resized
from bench.errors import InputError

_CUP, _RIM, _BACKGROUND = 0, 128, 255  # levels of the masks as distributed
RIM_ID, CUP_ID = 1, 2  # ids as they are written


def _find(root: Path) -> list[RawCase]:
    """`{train,val,test}/images/*.jpg` with `mask/*.bmp` or `*.png` beside them."""
    cases: dict[str, RawCase] = {}
    for folder in child_folders(root, ("images", "mask"), "REFUGE2"):
        pairs = paired_files(folder, ("images", "mask"), (".jpg", ".jpeg", ".bmp", ".png"))
        for name, (image, mask) in pairs.items():
            if name in cases:
                raise InputError(f"{image}: the case {name} twice, also {cases[name].image}; remove one of them")
            cases[name] = RawCase(name, name, image, mask)
    return [cases[name] for name in sorted(cases)]


def coded(levels: np.ndarray, path: Path) -> np.ndarray:
    """Ids (H, W) of a mask's grey levels: 1 the rim of the disc, 2 the cup; InputError for another coding."""
    edge = np.concatenate([levels[0], levels[-1], levels[:, 0], levels[:, -1]])
    if (edge == _CUP).mean() > 0.5:
        raise InputError(f"{path}: its edge is 0, the level of the cup, so its coding is inverted; save 255 minus it")
    strangers = sorted(set(np.unique(levels).tolist()) - {_CUP, _RIM, _BACKGROUND})
    if strangers:
        raise InputError(
            f"{path}: holds grey level {strangers[0]}; expected 0 (cup), 128 (rim), 255 (background), as BMP and PNG "
            "keep them; replace the file"
        )
    if not (levels != _BACKGROUND).any():
        raise InputError(f"{path}: no disc in it; replace the file")
    return np.select([levels == _CUP, levels == _RIM], [CUP_ID, RIM_ID], 0).astype(np.uint8)


def _cut(case: RawCase, preprocessing: Preprocessing, options: Options) -> Cut:
    image, ids = photograph(case.image), coded(grey(case.mask), case.mask)
    same_view(image, ids, case)
    if preprocessing == "native":
        return Cut(case.image, ids)
    side = options["crop"]
    rows, columns = np.nonzero(ids)
    top, left = (int(axis.min() + axis.max() + 1 - side) // 2 for axis in (rows, columns))
    image, ids = (_window(values, top, left, side) for values in (image, ids))
    return Cut(*resized(image, ids, Image.Resampling.BILINEAR), facts={"crop": [top, left, side, side]})


def _window(values: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    """A square of the last two axes; black, and no label, beyond the edge."""
    height, width = values.shape[-2:]
    window = np.zeros((*values.shape[:-2], side, side), values.dtype)
    y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + side, height), min(left + side, width)
    window[..., y0 - top : y1 - top, x0 - left : x1 - left] = values[..., y0:y1, x0:x1]
    return window


REFUGE2 = Benchmark(
    name="refuge2",
    title="REFUGE2: 1200 photographs with optic disc and cup",
    download=Download(
        page="https://www.kaggle.com/datasets/victorlemosml/refuge2",
        files="archive.zip with REFUGE2/{train,val,test}, 400 images each, some GB",
    ),
    published=1200,
    find=_find,
    cut=_cut,
    targets={"cup": {"cup": (CUP_ID,)}, "cup_disc": {"cup": (CUP_ID,), "disc": (RIM_ID, CUP_ID)}},
    intensity={"native": (0.0, 255.0), "paper": (0.0, 255.0)},
    paper="a square of `crop` pixels around the middle of the reference disc (an oracle), to 256 x 256 as CVC-ClinicDB",
    options={"crop": 700},  # the authors no longer know theirs, and speak of 600 to 800
    mini={"crop": 120},
)

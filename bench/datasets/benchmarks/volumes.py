"""BTCV and STS-3D: volumes in NIfTI files, one for the image and one for the labels."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch.nn.functional import interpolate

from bench.datasets.benchmarks.benchmark import (
    Benchmark,
    Cut,
    Download,
    Options,
    Preprocessing,
    RawCase,
    files_by_stem,
    only_folder,
    paired,
)
from bench.datasets.formats import NIFTI, Picture, decode
from bench.datasets.grids import Onto, as_stored
from bench.datasets.manifests import manifest
from bench.errors import InputError

_SIZE = 256
_TRAIN_HU, _TEST_HU = (-175.0, 250.0), (-125.0, 275.0)
_TEETH_HU = (-100.0, 1100.0)  # window width 1200, level 500
_PICTURE = 255  # values up to here and none below 0 are a picture's, or scaled to [0, 1]
_SPECK = 64  # voxels: smaller pieces of a training label are removed, as released

ORGANS = (
    "spleen",
    "right_kidney",
    "left_kidney",
    "gallbladder",
    "oesophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior_vena_cava",
    "portal_splenic_vein",
    "pancreas",
    "right_adrenal",
    "left_adrenal",
)
_EIGHT = (1, 2, 3, 4, 6, 7, 8, 11)  # the organs of TransUNet's lists


def find_volumes(root: Path, folders: tuple[str, str], pattern: str, title: str) -> list[RawCase]:
    """The cases of the folder that holds both sub-folders; `pattern` has a case's number in its files' names."""
    home = only_folder(root, folders, title)
    images, masks = (_volumes(home / name, pattern) for name in folders)
    return [RawCase(name, name, image, mask) for name, (image, mask) in paired(images, masks, home).items()]


def _volumes(folder: Path, pattern: str) -> dict[str, Path]:
    volumes: dict[str, Path] = {}
    for stem, path in files_by_stem(folder, NIFTI).items():
        match = re.fullmatch(pattern, stem)
        if match is None:
            raise InputError(f"{path}: a name that the data set does not have; rename or remove it")
        if match[1] in volumes:
            raise InputError(f"{path}: the case {match[1]} twice, also as {volumes[match[1]].name}; remove one of them")
        volumes[match[1]] = path
    return volumes


def _checked(case: RawCase, most: int) -> tuple[Picture, Picture]:
    """Image and label ids (1, D, H, W) in one orientation; InputError where the two disagree or are no CT and ids."""
    image = decode(case.image)
    if len(image.values) != 1 or image.values.ndim != 4:
        raise InputError(f"{case.image}: shape {image.values.shape}, not one volume; replace the file")
    low, high = float(image.values.min()), float(image.values.max())
    if not np.isfinite(low + high):
        raise InputError(f"{case.image}: holds NaN or infinity; replace the file")
    if low >= 0 and high <= _PICTURE:
        raise InputError(f"{case.image}: values from {low:g} to {high:g}, which are no HU; take the file as downloaded")
    labels = decode(case.mask, onto=Onto(image.grid, f"its image {case.image.name}", option=""))
    if labels.values.shape != image.values.shape:
        shapes = labels.values.shape[1:], image.values.shape[1:]
        raise InputError("{}: shape {}, its image {}; replace one of them".format(case.mask, *shapes))
    strangers = [v for v in np.unique(labels.values).tolist() if v not in range(most + 1)]
    if strangers:
        raise InputError(f"{case.mask}: holds {strangers[0]:g}, no label of the data set; replace the file")
    if not labels.values.any():
        raise InputError(f"{case.mask}: every voxel is background; replace the file")
    return image, labels


def _as_released(image: Picture, labels: Picture) -> tuple[np.ndarray, np.ndarray]:
    """Values and ids as the release's loaders index them: (Z, X, Y) of the image's stored (X, Y, Z), nothing turned."""
    values, ids = (as_stored(picture).values[0].swapaxes(1, 2) for picture in (image, labels))
    return values.astype(np.float32), ids.astype(np.uint8)


def _zoomed(image: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """256 x 256 by scipy's zoom, whose grid joins the corner pixels' centres."""
    factors = (1, _SIZE / image.shape[1], _SIZE / image.shape[2])
    return ndimage.zoom(image, factors, order=1), ndimage.zoom(ids, factors, order=0)


def half_pixel(image: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """256 x 256 on the grid of OpenCV: bilinear without smoothing, ids by nearest."""
    size = (_SIZE, _SIZE)
    small = interpolate(torch.from_numpy(image)[None], size, mode="bilinear", align_corners=False)[0].numpy()
    return small, interpolate(torch.from_numpy(ids)[None].float(), size, mode="nearest")[0].numpy().astype(np.uint8)


def _min_max(image: np.ndarray) -> np.ndarray:
    low, high = float(image.min()), float(image.max())
    return (image - low) / max(high - low, 1e-6) * 2 - 1


def _in_plane(spacing_mm: tuple[float, ...] | None, shape: tuple[int, ...]) -> tuple[float, ...] | None:
    if spacing_mm is None:
        return None
    depth, height, width = spacing_mm
    # stored (X, Y): the released order has X first
    return depth, width * shape[1] / _SIZE, height * shape[2] / _SIZE


def _is_test(name: str, split: str, case: RawCase) -> bool:
    return dict(zip(*(manifest(name, split)[c] for c in ("case", "split")), strict=True))[case.id] == "test"


def _cut_btcv(case: RawCase, preprocessing: Preprocessing, options: Options) -> Cut:
    picture, labels = _checked(case, len(ORGANS))
    if not (lowest := float(picture.values.min())) < _TEST_HU[0]:
        raise InputError(
            f"{case.image}: no value below {_TEST_HU[0]:g} (lowest {lowest:g}), so no HU; take the file as downloaded"
        )
    if preprocessing == "native":
        return Cut(case.image, case.mask)
    image, ids = _as_released(picture, labels)
    shape = image.shape
    if options["ct_window"] == "released" and not _is_test("btcv", "transunet_18_12", case):
        window, grid = _TRAIN_HU, "half-pixel"
        image, ids = half_pixel((image.clip(*window) + 125) / 200 - 1, ids)
    else:
        window, grid = _TEST_HU, "end-point"
        image, ids = _zoomed(_min_max(image.clip(*window)), ids)
    return Cut(image, ids, _in_plane(picture.spacing_mm, shape), {"window_hu": list(window), "grid": grid})


def _cut_sts3d(case: RawCase, preprocessing: Preprocessing, options: Options) -> Cut:
    picture, labels = _checked(case, 1)
    if preprocessing == "native":
        return Cut(case.image, case.mask)
    image, ids = _as_released(picture, labels)
    shape, cleaned = image.shape, not _is_test("sts3d", "9_3", case)
    if cleaned:
        ids = without_specks(ids)
    image, ids = _zoomed(_min_max(image.clip(*_TEETH_HU)), ids)
    facts = {"window_hu": list(_TEETH_HU), "grid": "end-point", "label_cleaned": cleaned}
    return Cut(image, ids, _in_plane(picture.spacing_mm, shape), facts)


def without_specks(ids: np.ndarray) -> np.ndarray:
    """Labels (D, H, W) without pieces of fewer than 64 voxels, which touch by faces, edges or corners."""
    pieces, _ = ndimage.label(ids, structure=np.ones((3, 3, 3)))
    small = np.bincount(pieces.ravel()) < _SPECK
    return np.where(small[pieces], 0, ids).astype(np.uint8)


def _find_btcv(root: Path) -> list[RawCase]:
    """`img/imgXXXX.nii.gz` and `label/labelXXXX.nii.gz` of RawData/Training."""
    return find_volumes(root, ("img", "label"), r"(?:img|label)(\d{4})", "BTCV")


def _find_sts3d(root: Path) -> list[RawCase]:
    """`image/Teeth_XXXX_0000.nii.gz` and the same below `label/`."""
    return find_volumes(root, ("image", "label"), r"Teeth_(\d{4})(?:_0000)?", "STS-3D")


BTCV = Benchmark(
    name="btcv",
    title="BTCV: 30 abdominal CT volumes with 13 organs",
    download=Download(
        page="https://www.synapse.org/Synapse:syn3193805/wiki/217789 (and accept the terms of use)",
        files="Abdomen/RawData.zip, 1.6 GB, with Training/img and Training/label of 30 volumes",
    ),
    published=30,
    find=_find_btcv,
    cut=_cut_btcv,
    targets={
        "merged13": {"organs": tuple(range(1, 14))},
        "merged8": {"organs": _EIGHT},
        "organs13": {name: (number,) for number, name in enumerate(ORGANS, 1)},
        "organs8": {ORGANS[number - 1]: (number,) for number in _EIGHT},
    },
    intensity={"native": (-175.0, 250.0), "paper": (-1.0, 1.0)},
    paper="256 x 256, nothing turned; training HU -175 to 250 as (HU + 125) / 200 - 1 on the half-pixel grid, test HU "
    "-125 to 275 from lowest to highest on the end-point grid; with ct_window=test all volumes as the test ones",
    channels=1,
    dims=3,
    options={"ct_window": ("released", "test")},  # test: the window and grid of the test volumes for all
)
STS3D = Benchmark(
    name="sts3d",
    title="STS-3D (2023): 12 dental volumes with teeth",
    download=Download(
        page="https://tianchi.aliyun.com/competition/entrance/532087 (STS 2023, 3-D; not Zenodo's STS-3D-Tooth)",
        files="labelled.zip with labelled/image and labelled/label of 12 volumes",
    ),
    published=12,
    find=_find_sts3d,
    cut=_cut_sts3d,
    targets={"teeth": {"teeth": (1,)}},
    intensity={"native": _TEETH_HU, "paper": (-1.0, 1.0)},
    paper="256 x 256, nothing turned; HU -100 to 1100 from lowest to highest on the end-point grid; training labels "
    "without pieces of fewer than 64 voxels",
    channels=1,
    dims=3,
)

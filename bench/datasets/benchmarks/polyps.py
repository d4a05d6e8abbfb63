"""CVC-ClinicDB and Kvasir-SEG: photographs of polyps with black and white masks."""

from __future__ import annotations

import csv
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
    binary,
    child_folders,
    paired_files,
    photograph,
    same_size,
)
from bench.datasets.manifests.sequences import cvc_sequence
from bench.errors import InputError

_SIZE = 256  # as SDSeg trains (ldm/data/cvc.py, kvasir.py)
_POLYP = {"polyp": {"polyp": (1,)}}
_GREYS: dict[Preprocessing, tuple[float, float]] = {"native": (0.0, 255.0), "paper": (0.0, 255.0)}


def resized(image: np.ndarray, mask: np.ndarray, resample: Image.Resampling) -> tuple[np.ndarray, np.ndarray]:
    """A picture (3, H, W) uint8 and ids (H, W) uint8 at 256 x 256 by Pillow: the picture as stated, ids by nearest."""
    small = Image.fromarray(np.moveaxis(image, 0, -1)).resize((_SIZE, _SIZE), resample)
    ids = Image.fromarray(mask).resize((_SIZE, _SIZE), Image.Resampling.NEAREST)
    return np.moveaxis(np.array(small), -1, 0), np.array(ids)


def _cut(case: RawCase, preprocessing: Preprocessing, resample: Image.Resampling) -> Cut:
    image, mask = photograph(case.image), binary(case.mask).astype(np.uint8)
    same_size(image, mask, case)
    if preprocessing == "native":
        return Cut(case.image, mask)
    return Cut(*resized(image, mask, resample))


def _cut_cvc(case: RawCase, preprocessing: Preprocessing, options: Options) -> Cut:
    return _cut(case, preprocessing, Image.Resampling.BILINEAR)


def _cut_kvasir(case: RawCase, preprocessing: Preprocessing, options: Options) -> Cut:
    return _cut(case, preprocessing, Image.Resampling.BICUBIC)


def _find_cvc(root: Path) -> list[RawCase]:
    """`Original/` and `Ground Truth/` of PNG or TIFF files, alone or as the twins `PNG/` and `TIF/`."""
    folders = child_folders(root, ("Original", "Ground Truth"))
    if not folders:
        raise InputError(f"{root}: no folder with Original/ and 'Ground Truth/'; give the CVC-ClinicDB download")
    kept = next((folder for folder in folders if folder.name.upper() == "PNG"), folders[0])
    pairs = paired_files(kept, ("Original", "Ground Truth"), (".png", ".tif", ".tiff"))
    stated = _metadata(next(iter(sorted(root.rglob("metadata.csv"))), None))
    return [RawCase(name, _sequence(name, image, stated), image, mask) for name, (image, mask) in pairs.items()]


def _sequence(name: str, image: Path, stated: dict[str, int]) -> str:
    if not name.isdecimal() or not 1 <= int(name) <= 612:
        raise InputError(f"{image}: no frame of CVC-ClinicDB, which are called 1 to 612")
    group = cvc_sequence(name)
    if name in stated and stated[name] != int(group.rpartition("-")[2]):
        raise InputError(f"metadata.csv: frame {name} in sequence {stated[name]}, known as {group}; not the data set")
    return group


def _metadata(path: Path | None) -> dict[str, int]:
    """The sequence of each frame where the download says it."""
    if path is None:
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        return {Path(row["png_image_path"]).stem: int(row["sequence_id"]) for row in rows}
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path}: expected the columns sequence_id and png_image_path ({error})") from error


def _find_kvasir(root: Path) -> list[RawCase]:
    """`images/` and `masks/` of JPEG files."""
    folders = child_folders(root, ("images", "masks"))
    if not folders:
        raise InputError(f"{root}: no folder with images/ and masks/; give the Kvasir-SEG download")
    pairs = paired_files(folders[0], ("images", "masks"), (".jpg", ".jpeg"))
    return [RawCase(name, name, image, mask) for name, (image, mask) in pairs.items()]


CVC_CLINICDB = Benchmark(
    name="cvc_clinicdb",
    title="CVC-ClinicDB: 612 frames of 29 colonoscopy sequences",
    download=Download(
        page="https://polyp.grand-challenge.org/CVCClinicDB/ or Kaggle balraj98/cvcclinicdb (account)",
        files="CVC-ClinicDB.rar or archive.zip, about 0.3 GB",
    ),
    published=612,
    find=_find_cvc,
    cut=_cut_cvc,
    targets=_POLYP,
    intensity=_GREYS,
)
KVASIR_SEG = Benchmark(
    name="kvasir_seg",
    title="Kvasir-SEG: 1000 photographs of polyps",
    download=Download(
        page="https://datasets.simula.no/kvasir-seg/",
        files="kvasir-seg.zip, about 46 MB",
        url="https://datasets.simula.no/downloads/kvasir-seg.zip",
    ),
    published=1000,
    find=_find_kvasir,
    cut=_cut_kvasir,
    targets=_POLYP,
    intensity=_GREYS,
)

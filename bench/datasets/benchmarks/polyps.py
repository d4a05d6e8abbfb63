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
    only_folder,
    paired_files,
    photograph,
    same_view,
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
    same_view(image, mask, case)
    if preprocessing == "native":
        return Cut(case.image, mask)
    return Cut(*resized(image, mask, resample))


def _cut_cvc(case: RawCase, preprocessing: Preprocessing, options: Options) -> Cut:
    return _cut(case, preprocessing, Image.Resampling.BILINEAR)


def _cut_kvasir(case: RawCase, preprocessing: Preprocessing, options: Options) -> Cut:
    return _cut(case, preprocessing, Image.Resampling.BICUBIC)


def _find_cvc(root: Path) -> list[RawCase]:
    """`Original/` and `Ground Truth/` of PNG or TIFF files, alone or as the twins `PNG/` and `TIF/`."""
    names = ("Original", "Ground Truth")
    homes = child_folders(root, names, "CVC-ClinicDB")
    if sorted(folder.name.upper() for folder in homes) != ["PNG", "TIF"]:
        homes = [only_folder(root, names, "CVC-ClinicDB")]
    homes.sort(key=lambda folder: folder.name.upper())
    pairs, *twins = (paired_files(folder, names, (".png", ".tif", ".tiff")) for folder in homes)
    for twin in twins:
        for name in pairs.keys() ^ twin.keys():
            lone, _ = pairs.get(name) or twin[name]
            raise InputError(f"{lone}: not there as both PNG and TIF; complete the download, or remove one of the two")
    stated = _metadata(next(iter(sorted(root.rglob("metadata.csv"))), None))
    return [RawCase(name, _sequence(name, image, stated), image, mask) for name, (image, mask) in pairs.items()]


def _sequence(name: str, image: Path, stated: dict[str, int]) -> str:
    if not name.isdecimal() or not 1 <= int(name) <= 612:
        raise InputError(f"{image}: no frame of CVC-ClinicDB, which are called 1 to 612; remove it")
    group = cvc_sequence(name)
    if name in stated and stated[name] != int(group.rpartition("-")[2]):
        raise InputError(
            f"{image}: metadata.csv has frame {name} in sequence {stated[name]}, known as {group}; correct that file"
        )
    return group


def _metadata(path: Path | None) -> dict[str, int]:
    """The sequence of each frame where the download says it."""
    if path is None:
        return {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {Path(row["png_image_path"]).stem: int(row["sequence_id"]) for row in csv.DictReader(file)}
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise InputError(
            f"{path}: no table with the columns sequence_id and png_image_path ({error}); replace or delete it"
        ) from error


def _find_kvasir(root: Path) -> list[RawCase]:
    """`images/` and `masks/` of JPEG files."""
    home = only_folder(root, ("images", "masks"), "Kvasir-SEG")
    pairs = paired_files(home, ("images", "masks"), (".jpg", ".jpeg"))
    return [RawCase(name, name, image, mask) for name, (image, mask) in pairs.items()]


CVC_CLINICDB = Benchmark(
    name="cvc_clinicdb",
    title="CVC-ClinicDB: 612 frames of 29 colonoscopy sequences",
    download=Download(
        page="https://www.kaggle.com/datasets/balraj98/cvcclinicdb or https://polyp.grand-challenge.org/CVCClinicDB",
        files="archive.zip or CVC-ClinicDB.rar (to be unpacked), some hundred MB",
    ),
    published=612,
    find=_find_cvc,
    cut=_cut_cvc,
    targets=_POLYP,
    intensity=_GREYS,
    paper="256 x 256, images bilinear and masks by nearest neighbour (Pillow)",
)
KVASIR_SEG = Benchmark(
    name="kvasir_seg",
    title="Kvasir-SEG: 1000 photographs of polyps",
    download=Download(
        page="https://datasets.simula.no/kvasir-seg/",
        files="kvasir-seg.zip, 46,227,172 bytes",
        url="https://datasets.simula.no/downloads/kvasir-seg.zip",
        # as constantinpape/torch-em and other public loaders have it
        sha256="03b30e21d584e04facf49397a2576738fd626815771afbbf788f74a7153478f7",
    ),
    published=1000,
    find=_find_kvasir,
    cut=_cut_kvasir,
    targets=_POLYP,
    intensity=_GREYS,
    paper="256 x 256, images bicubic and masks by nearest neighbour (Pillow)",
)

"""What the paper's five data sets have in common: how a raw download becomes cases."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bench.datasets.formats import Picture, decode, format_suffix, is_turned
from bench.datasets.source import archives_in
from bench.errors import InputError

Preprocessing = Literal["native", "paper"]
Options = Mapping[str, Any]
_CUT = 128  # masks of photographs: grey levels above it are the label
_COLOUR = 16  # levels by which JPEG may take the channels of a grey mask apart


@dataclass(frozen=True)
class RawCase:
    """One image and its mask as they were downloaded."""

    id: str
    group: str
    image: Path
    mask: Path


@dataclass(frozen=True)
class Cut:
    """One case as it is written; a file is copied as it is.

    `image`: a picture (C, H, W) uint8, or a volume (D, H, W) float32. `mask`: label ids (*S) uint8. `facts` say what
    was done to this case (window, crop), for `dataset.json`.
    """

    image: Path | np.ndarray
    mask: Path | np.ndarray
    spacing_mm: tuple[float, ...] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Download:
    """Where a data set comes from. `url` is a file that needs no account; without, `page` says how to get it."""

    page: str
    files: str  # names and sizes
    url: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Benchmark:
    """A data set of the paper.

    `find` lists the cases of a raw download; `cut` makes one of them ready, for a preprocessing and options.
    `targets` name what is scored: labels with the ids they join. `intensity` is the range that becomes [-1, 1], by
    preprocessing. `options` are those of `cut`: a number, or the words to choose from, the usual one first; `mini` are
    those of the miniature download. `published` counts the cases.
    """

    name: str
    title: str
    download: Download
    published: int
    find: Callable[[Path], list[RawCase]]
    cut: Callable[[RawCase, Preprocessing, Options], Cut]
    targets: Mapping[str, Mapping[str, tuple[int, ...]]]
    intensity: Mapping[Preprocessing, tuple[float, float]]
    paper: str  # what the preprocessing `paper` does, in words for the record
    channels: int = 3
    dims: int = 2
    options: Options = field(default_factory=dict)
    mini: Options = field(default_factory=dict)
    version: int = 1  # raise it with any change that alters a prepared file


def child_folders(root: Path, names: Sequence[str], title: str) -> list[Path]:
    """The folders at or below `root` that hold sub-folders of all these names, the nearest first.

    Raises InputError where there is none, OSError for a folder that cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    homes = []
    for folder, below, _ in os.walk(root, onerror=refuse):
        below[:] = [name for name in below if name != "__MACOSX" and not name.startswith(".")]
        if all((Path(folder) / name).is_dir() for name in names):
            homes.append(Path(folder))
    if homes:
        return sorted(homes, key=lambda path: (len(path.parts), str(path)))
    packed = archives_in(root)
    remedy = f"unpack {packed[0]} and give its folder" if packed else f"give the download of {title}"
    raise InputError(f"{root}: no folder with {'/ and '.join(names)}/ in it; {remedy}")


def only_folder(root: Path, names: Sequence[str], title: str) -> Path:
    """The one folder of `child_folders`; raises InputError for a second copy of the data set too."""
    home, *others = child_folders(root, names, title)
    if others:
        raise InputError(f"{others[0]}: a second copy beside {home}; remove one of them, or give one as --source")
    return home


def files_by_stem(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """Files of a folder by stem; raises InputError for one stem twice."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        suffix = format_suffix(path)
        if suffix not in suffixes or path.name.startswith("."):
            continue
        stem = path.name[: -len(suffix)]
        if stem in found:
            raise InputError(f"{path}: the case {stem!r} twice, also as {found[stem].name}; remove one of them")
        found[stem] = path
    return found


def paired_files(home: Path, folders: tuple[str, str], suffixes: Sequence[str]) -> dict[str, tuple[Path, Path]]:
    """Image and mask by stem, out of two sub-folders of `home`; raises InputError as `paired` does."""
    return paired(files_by_stem(home / folders[0], suffixes), files_by_stem(home / folders[1], suffixes), home)


def paired(images: Mapping[str, Path], masks: Mapping[str, Path], where: Path) -> dict[str, tuple[Path, Path]]:
    """Image and mask by id, in the order of ids; raises InputError naming an image or mask without its partner."""
    for name, path in images.items():
        if name not in masks:
            raise InputError(f"{path}: no mask for it in {where}; complete the download")
    for name, path in masks.items():
        if name not in images:
            raise InputError(f"{path}: no image for it in {where}; complete the download")
    return {name: (images[name], masks[name]) for name in sorted(images, key=in_order)}


def in_order(name: str) -> tuple[int, str]:
    """Sorts ids that are numbers by value, others by name."""
    return (int(name), name) if name.isdecimal() else (0, name)


def photograph(path: Path) -> np.ndarray:
    """A picture (3, H, W) uint8, turned as it is displayed; raises InputError naming a file that is none."""
    values = decode(path, 3).values
    if values.dtype != np.uint8 or values.ndim != 3 or len(values) not in (1, 3, 4):
        raise InputError(f"{path}: {values.dtype} of shape {values.shape}, not 8 bits in grey or RGB; replace the file")
    return np.ascontiguousarray(np.broadcast_to(values, (3, *values.shape[1:])) if len(values) == 1 else values[:3])


def grey(path: Path) -> np.ndarray:
    """The grey levels (H, W) of a mask's file; raises InputError naming one that holds colours."""
    picture: Picture = decode(path, 1, indexed=False)
    values = picture.values[:3]
    if values.dtype != np.uint8 or values.ndim != 3:
        raise InputError(f"{path}: {values.dtype} of shape {values.shape}, not grey levels of 8 bits; replace the file")
    if len(values) == 3 and np.ptp(values.astype(int), axis=0).max() > _COLOUR:
        raise InputError(f"{path}: a mask in colours, not in grey levels; replace the file")
    return values[0]


def binary(path: Path) -> np.ndarray:
    """The label of a black and white mask (H, W) bool: grey levels above 128, since JPEG leaves some between.

    Raises InputError naming a file without any: every picture of these data sets shows something.
    """
    values = grey(path)
    if values.max() <= _CUT:
        raise InputError(f"{path}: no label in it, its largest grey level is {values.max()} of 255; replace the file")
    return values > _CUT


def same_view(image: np.ndarray, mask: np.ndarray, case: RawCase) -> None:
    """Raises InputError where a mask has not the size of its image, or only one of them is turned by an EXIF tag."""
    turned, upright = (case.image, case.mask) if is_turned(case.image) else (case.mask, case.image)
    if is_turned(turned) != is_turned(upright):
        raise InputError(f"{turned}: turned by its EXIF tag, but not {upright.name}; save both upright")
    if image.shape[-mask.ndim :] != mask.shape:
        sizes = (" x ".join(map(str, shape)) for shape in (mask.shape, image.shape[-mask.ndim :]))
        raise InputError("{}: {}, its image {}; replace one of them".format(case.mask, *sizes))

"""A folder of images and masks as a dataset: `images/` and `masks/`, same stems, any size and format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bench import progress
from bench.datasets.formats import Picture, decode, files_read, is_turned
from bench.datasets.grids import Onto
from bench.datasets.images import as_image
from bench.datasets.intensity import check_range, common_ranges
from bench.datasets.masks import MaskFiles
from bench.datasets.masks.declared import declared
from bench.datasets.masks.files import text_of
from bench.datasets.pairing import find_files
from bench.datasets.splitting import (
    check_groups,
    check_split,
    plane_size,
    read_groups,
    read_manifest,
    split_by_hash,
    split_digest,
)
from bench.errors import InputError
from bench.files import digest, sha256_of
from bench.notes import Notes, heard
from bench.types import Case, TaskSpec

_PROBED = 16


class Folder:
    """Images and masks paired by stem, with fixed splits.

    `labels`: None or one name for binary masks; several names for the values 1, 2, ...; a mapping of names to
    values (2, "2+3", "#ff0000") picks some, the others count as background. `mask`, `ignore` and `background` say
    more of how masks are read (`bench.datasets.masks.declared`), the whole folder in one way; training takes ignored
    elements for background. `split`: shares (train, val, test) of a seeded hash of the stems, unless `manifest` (CSV:
    case, split[, group]) says who is where. `group_regex`: its first group or whole match in the stem names the group;
    groups stay in one split. `intensity`: native values that map to [-1, 1]; None is 0..255 for 8-bit images, else
    percentiles 0.5 and 99.5 of up to 16 training images.
    Stems of masks are compared without `mask_suffix`. `resample` brings masks that lie on another grid to their
    images', by nearest neighbour.
    Raises InputError for a missing folder, unpaired files and bad options; `check` reads every file.
    """

    _whole_groups = True  # no group may lie in two splits

    def __init__(
        self,
        root: str | Path,
        image_size: int | Sequence[int],
        labels: str | Sequence[str] | Mapping[str, Any] | None = None,
        manifest: str | Path | None = None,
        split: Sequence[float] = (0.7, 0.1, 0.2),
        channels: int = 3,
        group_regex: str | None = None,
        seed: int = 0,
        intensity: Sequence[float] | None = None,
        mask: str = "auto",
        ignore: int | str | None = None,
        background: int | str = 0,
        resample: bool = False,
        mask_suffix: str | None = None,
    ) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise InputError(f"{self.root}: no such folder; give a root that holds images/ and masks/")
        self._images, self._masks = find_files(self.root / "images"), find_files(self.root / "masks", mask_suffix or "")
        _check_pairs(self.root, self._images, self._masks)
        stated = declared(mask, labels or ["foreground"], ignore, background, option="dataset.{}")
        self._names = tuple(stated.labels or ())
        self._reading = MaskFiles(self.root / "masks", list(self._masks.values()), stated)
        if manifest is not None:
            self._split_of, self._group_of = read_manifest(Path(manifest), self._images, self._whole_groups)
        if manifest is None or group_regex is not None:
            self._group_of = read_groups(self._images, regex=group_regex)
        if manifest is None:
            self._split_of = split_by_hash(self._group_of, split, seed)
        if self._whole_groups:
            check_groups(str(manifest or self.root), self._split_of, self._group_of)
        self._plane, self._channels, self._intensity = plane_size(image_size), channels, intensity
        self._resample, self._notes = resample, Notes()

    @cached_property
    def spec(self) -> TaskSpec:
        """The task; reads a few images to learn their axes and range, and every mask that was not read before."""
        return replace(self._images_spec, label_ids=self._reading.rule.values or ())

    @cached_property
    def _images_spec(self) -> TaskSpec:
        pictures = self._probe()
        dims = pictures[0][1].values.ndim - 1
        ranges = common_ranges((path, picture.values) for path, picture in pictures)
        task = TaskSpec(self._channels, self._names, self._plane, dims, self._range(pictures), ranges=ranges)
        return replace(task, orientation="RAS" if dims == 3 else "")

    def _probe(self) -> list[tuple[Path, Picture]]:
        """Up to 16 images for training, decoded; the first image alone where the range is stated."""
        train = self.case_ids("train") or sorted(self._images)
        chosen = [min(self._images)] if self._intensity is not None else train[:: max(1, -(-len(train) // _PROBED))]
        return [(self._images[stem], self._decode(stem)) for stem in chosen]

    def _range(self, pictures: list[tuple[Path, Picture]]) -> tuple[float, float]:
        if self._intensity is not None:
            low, high = (float(v) for v in self._intensity)
            if not low < high:
                raise InputError(f"intensity {[low, high]}: expected [low, high] with low < high")
            return low, high
        if all(picture.values.dtype == np.uint8 for _, picture in pictures):
            return 0.0, 255.0
        ends = [np.percentile(as_image(p, path, self._channels), [0.5, 99.5]) for path, p in pictures]
        low, high = (float(v) for v in np.mean(ends, axis=0))
        return (low, high) if low < high else (low, low + 1.0)

    def _decode(self, stem: str) -> Picture:
        return decode(self._images[stem], self._channels)

    def case_ids(self, split: str) -> list[str]:
        """Sorted stems of a split."""
        check_split(split)
        return sorted(stem for stem, name in self._split_of.items() if name == split)

    def case(self, case_id: str) -> Case:
        """One pair, read from disk; raises InputError naming the file that is wrong."""
        if case_id not in self._images:
            raise InputError(f"{self.root}: no case {case_id!r}")
        path, mask_path = self._images[case_id], self._masks[case_id]
        picture = self._decode(case_id)
        image = as_image(picture, path, self._images_spec.channels)
        if image.ndim != self._images_spec.dims + 1:
            raise InputError(
                f"{path}: {image.ndim - 1} axes where other images have {self._images_spec.dims}; do not mix them"
            )
        if self._intensity is None:
            remedy = "save it alike, or set dataset.intensity=[LOW,HIGH]"
            check_range(picture.values, path, self._images_spec.ranges, remedy)
        onto = Onto(picture.grid, "its image", "dataset.resample=true", self._resample)
        masks, ignored = self._reading.read_onto(mask_path, onto)
        return Case(case_id, self._group_of[case_id], image, masks.stack(), picture.spacing_mm, ignored, picture.grid)

    def fingerprint(self) -> dict[str, str]:
        """Hashes of all files' contents with the way masks are read, and of the split."""
        return {"data": self._data_digest, "split": split_digest(self._split_of, self._group_of)}

    def facts(self) -> dict[str, str]:
        """How the masks are read, for the record."""
        return {"masks": text_of(self._reading.facts())}

    @cached_property
    def _data_digest(self) -> str:
        files = [[stem, _hash(self._images[stem]), _hash(self._masks[stem])] for stem in self._images]
        rule = self._reading.rule
        several = (some[0] if len(some) == 1 else some for some in rule.values or ())
        values = None if rule.values is None else dict(zip(rule.labels, several, strict=True))
        content: dict[str, Any] = {"files": files, "labels": [self._names, values]}
        # What runs made earlier could not say stands in it only where it is said.
        special: dict[str, Any] = {"cut": rule.cut, "ignore": rule.ignore, "background": rule.background or None}
        # Earlier versions read these as they are stored.
        special["turned"] = [stem for stem, path in self._images.items() if is_turned(path)] or None
        return digest(content | {key: value for key, value in special.items() if value is not None})

    def check(self) -> None:
        """Read and validate every pair; raises InputError at the first bad file."""
        with heard(self._notes):
            for done, stem in enumerate(self._images, 1):
                self.case(stem)
                progress.report("checking files", done, len(self._images))

    def notes(self) -> list[str]:
        """What `check` noted of files that are read otherwise than they lie on disk."""
        return self._notes.lines()


def _check_pairs(root: Path, images: Mapping[str, Path], masks: Mapping[str, Path]) -> None:
    if not images:
        raise InputError(f"{root / 'images'}: holds no image; put PNG, JPEG, TIFF, NPY or NIfTI files there")
    for stem, path in images.items():
        if stem not in masks:
            raise InputError(
                f"{path}: has no mask in {root / 'masks'}; add a file with the stem {stem!r}{_suffix(stem, masks)}"
            )
    for stem, path in masks.items():
        if stem not in images:
            raise InputError(f"{path}: has no image in {root / 'images'}; add a file with the stem {stem!r}")


def _suffix(stem: str, masks: Mapping[str, Path]) -> str:
    longer = next((other.removeprefix(stem) for other in masks if other.startswith(stem)), "")
    return f", or give dataset.mask_suffix={longer}" if longer else ""


def _hash(path: Path) -> str:
    return "+".join(map(sha256_of, files_read(path)))

"""What is audited: a prepared folder, a folder of images and masks, or any data set that gives cases."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.datasets.audit.kinds import Trouble
from bench.datasets.audit.looking import Look, look_at_case, look_at_files
from bench.datasets.formats import decode
from bench.datasets.images import as_image
from bench.datasets.manifests import manifest as published_manifest
from bench.datasets.manifests import manifest_digest, restricted
from bench.datasets.masks.declared import Declared, declared
from bench.datasets.pairing import find_files
from bench.datasets.preparing import INFO
from bench.datasets.splitting import SPLITS, read_groups, read_manifest, split_by_hash, split_digest
from bench.errors import InputError
from bench.files import read_json, sha256_of
from bench.types import Dataset

Splits = dict[str, dict[str, str]]  # by manifest: what each case has


@dataclass(frozen=True)
class Subject:
    """`cases` to look at; split and group of each by manifest; `image` gives (C, *S). `whole`: troubles of the set.

    `known` are the values that masks may hold, None where nobody named them.
    """

    name: str
    cases: Sequence[str]
    split_of: Splits
    group_of: Splits
    look: Callable[[str], Look]
    image: Callable[[str], np.ndarray]
    masks: Declared = field(default_factory=Declared)
    known: Collection[int] | None = None
    whole: Sequence[Trouble] = field(default_factory=tuple)


def of_dataset(name: str, dataset: Dataset) -> Subject:
    """Any data set; raises InputError where it gives no case."""
    split_of = {case: split for split in SPLITS for case in dataset.case_ids(split)}
    group_of: dict[str, str] = {}  # known of a case once it was looked at

    def look(case_id: str) -> Look:
        case = dataset.case(case_id)
        group_of[case_id] = case.group
        return look_at_case(case)

    own = "its own"
    return Subject(name, list(split_of), {own: split_of}, {own: group_of}, look, lambda c: dataset.case(c).image)


def of_folder(
    root: Path,
    manifest: str | Path | None = None,
    split: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    labels: Any = None,
    channels: int = 3,
    group_regex: str | None = None,
    mask_suffix: str | None = None,
    **masks: Any,
) -> Subject:
    """`images/` and `masks/` below `root`, split as `bench.datasets.folder.Folder` does it, whose options these are.

    Raises InputError for a missing folder, a manifest that cannot be read, and bad options.
    """
    files = find_files(root / "images"), find_files(root / "masks", mask_suffix or "")
    if not files[0]:
        raise InputError(f"{root / 'images'}: holds no image; put PNG, JPEG, TIFF, NPY or NIfTI files there")
    group_of = read_groups(files[0], regex=group_regex)
    if manifest is not None:
        split_of, listed = read_manifest(Path(manifest), files[0], whole_groups=False)
        group_of = group_of if group_regex is not None else listed
    else:
        split_of = split_by_hash(group_of, split, seed)
    name = Path(manifest).stem if manifest is not None else "by hash"
    stated = declared(labels=labels, option="dataset.{}", **_stated(masks))
    several = (stated.labels is not None and len(stated.labels) > 1) or isinstance(labels, Mapping)
    return Subject(
        root.resolve().name,
        [case for case in files[0] if case in files[1]],
        {name: split_of},
        {name: group_of},
        lambda c: look_at_files(c, files[0][c], files[1][c], channels, stated),
        lambda c: as_image(decode(files[0][c], channels), files[0][c], channels),
        stated,
        {v for some in (stated.labels or {}).values() for v in some} if several else None,
        _unpaired(*files),
    )


def _stated(masks: Mapping[str, Any]) -> dict[str, Any]:
    return {name: masks[name] for name in ("mask", "ignore", "background") if name in masks}


def _unpaired(images: Mapping[str, Path], masks: Mapping[str, Path]) -> list[Trouble]:
    alone = [Trouble("unpaired", case, "no mask") for case in images if case not in masks]
    return alone + [Trouble("unpaired", case, "no image") for case in masks if case not in images]


def of_prepared(root: Path, split: str | None = None, manifest: str | Path | None = None) -> Subject:
    """What `sdseg prepare` wrote, under all of its manifests or one, or under a manifest of one's own.

    Raises InputError for a folder that is none, and an unknown split.
    """
    remedy = f"run: sdseg prepare NAME --source RAW --out {root}"
    info = read_json(root / INFO, dict, remedy)
    if not {"name", "cases", "splits", "targets", "channels", "published_cases"} <= info.keys():
        raise InputError(f"{root / INFO}: not of a prepared data set; {remedy}")
    rows: dict[str, Any] = info["cases"]
    if manifest is None and split is not None and split not in info["splits"]:
        raise InputError(f"{root}: no split {split!r}; use one of {', '.join(info['splits'])}")
    whole = [*_counts(info), *_changed(root, rows)]
    if manifest is not None:
        read = {Path(manifest).stem: read_manifest(Path(manifest), rows, whole_groups=False)}
    else:
        read = {}
        for name in [split] if split is not None else info["splits"]:
            whole += _read(root, info, name, read)
    known = {v for labels in info["targets"].values() for ids in labels.values() for v in ids}
    channels, stated = info["channels"], declared("labels", option="dataset.{}")
    paths = {case: (root / row["image"]["path"], root / row["mask"]["path"]) for case, row in rows.items()}
    return Subject(
        root.resolve().name,
        list(rows),
        {name: split_of for name, (split_of, _) in read.items()},
        {name: group_of for name, (_, group_of) in read.items()},
        lambda c: look_at_files(c, *paths[c], channels, stated),
        lambda c: as_image(decode(paths[c][0], channels), paths[c][0], channels),
        stated,
        known,
        whole,
    )


def _counts(info: Mapping[str, Any]) -> list[Trouble]:
    here, published = len(info["cases"]), info["published_cases"]
    if here == published:
        return []
    kind = "miniature" if info.get("miniature") else "counts"
    return [Trouble(kind, f"{here} of {published} cases")]


def _changed(root: Path, rows: Mapping[str, Any]) -> list[Trouble]:
    """Prepared files that are gone or other ones, and files that were not prepared."""
    files = {row[what]["path"]: row[what]["sha256"] for row in rows.values() for what in ("image", "mask")}
    lost = [path for path, known in files.items() if not (root / path).is_file() or sha256_of(root / path) != known]
    there = [str(path.relative_to(root)) for name in ("images", "masks") for path in sorted((root / name).glob("*"))]
    more = [path for path in there if path not in files]
    return [Trouble("changed", path, "another, or gone") for path in lost] + [
        Trouble("changed", path, "not listed") for path in more
    ]


def _read(root: Path, info: Mapping[str, Any], name: str, read: dict[str, Any]) -> list[Trouble]:
    """Add split and group by case of a manifest to `read`; troubles where it is not the published one."""
    path, cases = root / "splits" / f"{name}.csv", info["cases"]
    try:
        read[name] = read_manifest(path, cases, whole_groups=False)
        published = manifest_digest(restricted(published_manifest(info["name"], name), cases))
    except InputError as error:
        return [Trouble("manifest", path.name, str(error).removeprefix(f"{path}: "), name)]
    if split_digest(*read[name]) == published:
        return []
    return [Trouble("manifest", path.name, "cases have other splits or groups", name)]

"""Raw downloads into prepared folders: case by case, resumable, every file with its hash.

A prepared folder holds `images/`, `masks/` (label ids), `splits/NAME.csv`, `sheet.png` and `dataset.json`.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import nibabel as nib
import numpy as np
from PIL import Image

from bench import progress
from bench.datasets.benchmarks import BENCHMARKS, Benchmark, Cut, RawCase
from bench.datasets.benchmarks.benchmark import Preprocessing
from bench.datasets.formats import format_suffix
from bench.datasets.manifests import manifest, manifest_digest, manifests, restricted
from bench.datasets.mini import WHOLE
from bench.datasets.sheet import write_sheet
from bench.datasets.source import fetch, raw_folder
from bench.datasets.splitting import SPLITS
from bench.errors import InputError, RunError
from bench.files import atomic_path, sha256_of, write_json

INFO = "dataset.json"
RAW = ".raw"  # below a folder that is being prepared: what was unpacked
_JOURNAL, _DOWNLOADS = ".prepare.jsonl", ".download"
_PARTS = ("image", "mask")


def prepare(
    name: str,
    source: Path | None,
    out: Path,
    preprocessing: str = "native",
    options: Mapping[str, Any] | None = None,
    partial: bool = False,
) -> dict[str, Any]:
    """Prepare a data set of the paper from its raw download; returns the content of `dataset.json`.

    `source`: a folder, a zip or tar archive, or None to download where that needs no account. `partial` allows fewer
    cases than were published. Interrupted, the same call goes on. Raises InputError in one line naming what is wrong;
    cases that were written before stay.
    """
    benchmark = known(name)
    key = key_of(benchmark, preprocessing, options or {})
    done = _journal(out, key)
    files = [row[what] for row in done.values() for what in _PARTS]
    if source is None and (out / INFO).is_file() and all(_is_whole(out, file) for file in files):  # nothing to download
        return _finish(out, benchmark, key, done, miniature=False)
    source = _downloaded(benchmark, out) if source is None else source
    root = raw_folder(source, out / RAW / "archive")
    with _named(source, root):
        cases = _cases(benchmark, root, partial)
        if not done:
            with atomic_path(out / _JOURNAL) as part:
                part.write_text(json.dumps(key) + "\n", encoding="utf-8")
        written = {}
        for number, case in enumerate(cases, 1):
            written[case.id] = _prepared(case, benchmark, key, out, done.get(case.id))
            progress.report(f"preparing {name}", number, len(cases))
    _remove_former(out, done, written)
    return _finish(out, benchmark, key, written, (root / WHOLE).exists())


@contextmanager
def _named(source: Path, root: Path) -> Iterator[None]:
    """Errors name the archive that a file came from, and a file or folder that the system refuses to read."""
    try:
        yield
    except InputError as error:
        if root == source:
            raise
        raise InputError(
            str(error).replace(f"{root}{os.sep}", f"{source}: ").replace(str(root), str(source))
        ) from error
    except OSError as error:
        if error.filename is None:
            raise
        raise InputError(f"{error.filename}: {error.strerror}; make it readable, or replace it") from error


def _cases(benchmark: Benchmark, root: Path, partial: bool) -> list[RawCase]:
    cases = benchmark.find(root)
    if not cases or (len(cases) < benchmark.published and not partial):
        raise InputError(
            f"{root}: {len(cases)} of the {benchmark.published} cases of {benchmark.name}; complete the download, or "
            "give --partial to prepare those that are there"
        )
    known = set(manifest(benchmark.name, manifests(benchmark.name)[0])["case"])
    for case in cases:
        if case.id not in known:
            raise InputError(f"{case.image}: no labelled case of {benchmark.title}; remove it")
    return cases


def known(name: str) -> Benchmark:
    """A data set by its name; raises InputError for an unknown one."""
    if name not in BENCHMARKS:
        raise InputError(f"data set {name!r}: unknown; use one of {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def key_of(benchmark: Benchmark, preprocessing: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What a prepared folder was made for; raises InputError for an unknown preprocessing or option."""
    if preprocessing not in get_args(Preprocessing):
        raise InputError(f"--preprocessing {preprocessing}: use one of {', '.join(get_args(Preprocessing))}")
    if options and preprocessing != "paper":
        raise InputError(f"--set {next(iter(options))}: an option of --preprocessing paper")
    known = {key: value if isinstance(value, tuple) else (value,) for key, value in benchmark.options.items()}
    for key, value in options.items():
        if key not in known:
            raise InputError(f"--set {key}: {benchmark.name} has no such option; it has {', '.join(known) or 'none'}")
        if value not in known[key] and not (isinstance(known[key][0], int) and isinstance(value, int) and value > 0):
            expected = "a number above 0" if isinstance(known[key][0], int) else f"one of {', '.join(known[key])}"
            raise InputError(f"--set {key}={value}: expected {expected}")
    chosen = {key: options.get(key, values[0]) for key, values in known.items()} if preprocessing == "paper" else {}
    stated = {"name": benchmark.name, "version": benchmark.version, "preprocessing": preprocessing}
    return {**stated, "options": chosen}


def _downloaded(benchmark: Benchmark, out: Path) -> Path:
    download = benchmark.download
    if download.url is None:
        raise InputError(
            f"{benchmark.name}: needs an account; get {download.files} from {download.page}, then give --source "
            "FILE_OR_FOLDER"
        )
    return fetch(download.url, out / _DOWNLOADS / download.url.rsplit("/", 1)[-1], download.sha256)


def _journal(out: Path, key: Mapping[str, Any]) -> dict[str, Any]:
    """The cases that an interrupted or finished call left in `out`."""
    found = out / INFO if (out / INFO).is_file() else out / _JOURNAL
    if not found.is_file():
        strangers = sorted(p for p in out.iterdir() if not p.name.startswith(".")) if out.exists() else []
        if strangers:
            raise InputError(f"{out}: holds {strangers[0].name}; give --out an empty or a new folder")
        return {}
    try:
        text = found.read_text(encoding="utf-8")
        rows = [json.loads(text)] if found.name == INFO else list(_rows(text))
        before = {name: rows[0][name] for name in key}
        cases = rows[0]["cases"] if found.name == INFO else {row["id"]: row for row in rows[1:]}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{found}: cannot be read; delete the folder {out} to prepare it again") from error
    if cases and before != dict(key):
        raise InputError(f"{out}: holds {_said(before)}, not {_said(key)}; give another --out, or delete it")
    return cases


def _rows(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except ValueError:  # cut short by a kill
            continue


def _said(key: Mapping[str, Any]) -> str:
    options = " ".join(f"{name}={value}" for name, value in key["options"].items())
    return f"{key['name']} {key['preprocessing']} {options}".strip() + f" (version {key['version']})"


def _prepared(
    case: RawCase, benchmark: Benchmark, key: Mapping[str, Any], out: Path, done: dict[str, Any] | None
) -> dict[str, Any]:
    """The row of a case in `dataset.json`; the case is written unless it is there from the same raw files."""
    raw = {"image": sha256_of(case.image), "mask": sha256_of(case.mask)}
    if done and done.get("raw") == raw and all(_is_whole(out, done[what]) for what in _PARTS):
        return {name: value for name, value in done.items() if name != "id"}
    cut = benchmark.cut(case, key["preprocessing"], key["options"])
    files = {"image": _write(cut, "images", case, out), "mask": _write(cut, "masks", case, out)}
    row = {"group": case.group, "raw": raw, **files, **({"facts": dict(cut.facts)} if cut.facts else {})}
    _append(out / _JOURNAL, {"id": case.id, **row})
    return row


def _append(path: Path, row: Mapping[str, Any]) -> None:
    """A line of its own, also after one that a kill or a full disk cut short."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(row))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}; make room there, then the same command goes on") from error


def _is_whole(out: Path, file: Mapping[str, str]) -> bool:
    path = out / file["path"]
    return path.is_file() and sha256_of(path) == file["sha256"]


def _write(cut: Cut, folder: str, case: RawCase, out: Path) -> dict[str, str]:
    values = cut.image if folder == "images" else cut.mask
    suffix = _suffix(values)
    path = out / folder / f"{case.id}{suffix}"
    with atomic_path(path) as part:
        if isinstance(values, Path):
            _copy(values, part)
        elif suffix == ".png":
            Image.fromarray(values if values.ndim == 2 else np.moveaxis(values, 0, -1)).save(part, format="PNG")
        else:
            _save_volume(part, values, cut.spacing_mm)
    return {"path": str(path.relative_to(out)), "sha256": sha256_of(path)}


def _suffix(values: Path | np.ndarray) -> str:
    if isinstance(values, Path):
        suffix = format_suffix(values)
        return ".nii" if suffix == ".nii.gz" else suffix
    return ".nii" if values.ndim == 3 and values.shape[0] != 3 else ".png"


def _copy(source: Path, path: Path) -> None:
    """The bytes of a file, without compression around them: volumes are read at once, and in part."""
    with source.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(source) if packed else source.open("rb") as stream, path.open("wb") as copy:
        shutil.copyfileobj(stream, copy, 1 << 20)


def _save_volume(path: Path, values: np.ndarray, spacing_mm: Sequence[float] | None) -> None:
    """A volume (D, H, W) that states a spacing and no orientation, so that it is read as it is stored."""
    image = nib.Nifti1Image(values.T, None)
    image.header.set_zooms(tuple(spacing_mm or (1.0, 1.0, 1.0))[::-1])
    image.header["sform_code"] = image.header["qform_code"] = 0
    nib.save(image, path)


def _finish(
    out: Path, benchmark: Benchmark, key: dict[str, Any], written: dict[str, Any], miniature: bool
) -> dict[str, Any]:
    splits = {name: _write_split(out, benchmark.name, name, written) for name in manifests(benchmark.name)}
    intensity = benchmark.intensity[key["preprocessing"]]
    pairs = {name: (out / row["image"]["path"], out / row["mask"]["path"]) for name, row in written.items()}
    write_sheet(out / "sheet.png", pairs, intensity)
    info = {
        **key,
        "title": benchmark.title,
        "how": benchmark.paper if key["preprocessing"] == "paper" else "original resolution and spacing",
        "published_cases": benchmark.published,
        "miniature": miniature,
        "channels": benchmark.channels,
        "dims": benchmark.dims,
        "intensity": list(intensity),
        "targets": {t: {name: list(ids) for name, ids in labels.items()} for t, labels in benchmark.targets.items()},
        "splits": splits,
        "cases": written,
    }
    write_json(out / INFO, info)
    (out / _JOURNAL).unlink(missing_ok=True)
    for folder in (RAW, _DOWNLOADS):
        shutil.rmtree(out / folder, ignore_errors=True)
    return info


def _remove_former(out: Path, done: Mapping[str, Any], written: Mapping[str, Any]) -> None:
    """Files that an earlier call wrote and this one did not; a file of the user's stays."""
    former, ours = ({out / row[what]["path"] for row in rows.values() for what in _PARTS} for rows in (done, written))
    for path in former - ours:
        path.unlink(missing_ok=True)


def _write_split(out: Path, dataset: str, name: str, cases: Mapping[str, Any]) -> dict[str, Any]:
    rows = restricted(manifest(dataset, name), cases)
    with atomic_path(out / "splits" / f"{name}.csv") as part:
        rows.to_csv(part, index=False)
    counts = {split: int((rows["split"] == split).sum()) for split in SPLITS}
    return {"sha256": manifest_digest(rows), **counts}

"""Files of several folders that belong to one case: paired by stem, whatever Unicode form their names have."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from bench.datasets.formats import format_suffix
from bench.errors import InputError

_LONGEST = 240  # bytes of a stem; files are written that are called so, with a suffix, and 255 is the limit of a name

Draws = dict[str, dict[str, Path]]


def find_files(folder: Path, ending: str = "") -> dict[str, Path]:
    """Image files of a folder by stem in the Unicode form NFC, without `ending`, sorted.

    Raises InputError for a missing folder, a repeated stem, one without the ending, names that are not UTF-8 or too
    long, and a folder that holds images only in sub-folders.
    """
    if folder.is_file():
        raise InputError(f"{folder}: a file; give the folder that holds it")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give a folder of images")
    by_stem: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        suffix = format_suffix(path)
        if path.name.startswith(".") or not suffix or not path.is_file():
            continue
        stem = _stem(path, suffix, ending)
        if stem in by_stem:
            raise InputError(f"{path}: same stem as {by_stem[stem].name}; keep one file per case")
        by_stem[stem] = path
    if not by_stem:
        _check_nested(folder)
    return dict(sorted(by_stem.items()))


def _stem(path: Path, suffix: str, ending: str) -> str:
    raw = os.fsencode(path.name)
    try:
        name = unicodedata.normalize("NFC", raw.decode())
    except UnicodeDecodeError as error:
        shown = path.parent / raw.decode("utf-8", "backslashreplace")
        remedy = f"rename it, with convmv -r -f latin1 -t utf8 --notest '{path.parent}' say"
        raise InputError(f"{shown}: its name is not UTF-8; {remedy}") from error
    stem = name[: -len(suffix)]
    if ending:
        if not stem.endswith(ending) or stem == ending:
            raise InputError(f"{path}: does not end in {ending!r}; rename or remove it, or leave the ending out")
        stem = stem.removesuffix(ending)
    if len(stem.encode()) > _LONGEST:
        raise InputError(f"{path}: a name of {len(stem.encode())} bytes; rename it to at most {_LONGEST}")
    return stem


def _check_nested(folder: Path) -> None:
    for inner in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "draw-"))):
        nested = next((p for p in sorted(inner.iterdir()) if format_suffix(p) and p.is_file()), None)
        if nested is not None:
            raise InputError(
                f"{folder}: holds images in sub-folders such as {inner.name}; put one file per case into the folder"
                f" itself, such as {inner.name}{format_suffix(nested)}"
            )


def find_draws(folder: Path, ending: str = "") -> Draws:
    """Files by stem, one mapping per draw, by the draw's folder; one without a name where there are none."""
    loose = find_files(folder, ending)
    repeated = sorted(path for path in folder.glob("draw-*") if path.is_dir())
    if repeated and loose:
        raise InputError(f"{folder}: holds both files and draw-* folders; keep one of the two")
    return {path.name: find_files(path, ending) for path in repeated} or {"": loose}


def check_stems(ref: Path, files: Mapping[str, Path], draws: Draws, what: str, *, subset: bool = False) -> None:
    """Raises InputError where a draw lacks a file for a reference, or has one without a reference.

    With `subset` a reference may lack all of them, and is then not to be scored.
    """
    present = {stem for draw in draws.values() for stem in draw}
    for name, draw in draws.items():
        where = f" in {name}" if name else ""
        missing, extra = sorted(set(files) - set(draw)), sorted(set(draw) - set(files))
        if missing and subset:
            missing = [stem for stem in missing if stem in present]
        if missing:
            near = _hint(missing[0], extra, "reference", what) or ", or give --subset to score those that have one"
            raise InputError(f"{files[missing[0]]}: no {what}{where} for this reference{_more(missing)}; add it{near}")
        if extra:
            near = _hint(extra[0], sorted(set(files) - set(draw)), what, "reference")
            raise InputError(
                f"{draw[extra[0]]}: no reference of that stem in {ref}{_more(extra)}; remove or rename it{near}"
            )


def _hint(stem: str, others: list[str], own: str, theirs: str) -> str:
    """What may be meant by a stem without a partner, among others without one; `own` and `theirs` are what they are."""
    for other in others:
        if other.casefold() == stem.casefold():
            return f" ({other} differs in upper and lower case)"
    options = {"prediction": "--pred-suffix", "score": "--pred-suffix", "reference": "--ref-suffix"}
    for other in others:
        if other.startswith(stem):
            return f", or give {options[theirs]} {other.removeprefix(stem)}"
        if stem.startswith(other):
            return f", or give {options[own]} {stem.removeprefix(other)}"
    return ""


def _more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""

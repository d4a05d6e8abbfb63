"""What a fit and a run depend on, as plain data and as the hash that names their folder."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from bench.config import Cell
from bench.record import SCHEMA_VERSION
from bench.sources import outside, outside_code

# Options of a method that may name files; no other is looked up, since a folder may be called "tiny" by chance.
FILE_OPTIONS = ("root", "scores", "autoencoder", "denoiser_weights", "light_decoder", "weights")
# Options that older runs do not have, and that change nothing where they are not set.
LATER_OPTIONS = {
    "resample": False,
    "mask": "auto",
    "ignore": None,
    "background": 0,
    "suffix": None,
    "mask_suffix": None,
}


def digest(content: Any) -> str:
    """sha256 of JSON-able content, independent of key order."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def fit_identity(cell: Cell, data: dict[str, str]) -> dict[str, Any]:
    """What the trained weights depend on; methods that differ only in inference share it.

    A method of the project counts by its declared version (`version` of its file, 1 without), any other method and
    data set by its code.
    """
    method = cell.config["method"]
    # Where the data lies does not matter, what it is does.
    dataset = {k: v for k, v in _used(cell.config["dataset"]).items() if k not in ("name", "root", "manifest")}
    identity = {
        "schema": SCHEMA_VERSION,
        "target": method["target"],
        "options": _by_content(_used(method.get("options", {})), outside(method)),
        "recipe": _without_workers(method.get("recipe", {})),
        "dataset": dataset,
        "data": data,
        "seed": cell.seed,
    }
    code = {part: found for part in ("method", "dataset") if (found := outside_code(cell.config[part]))}
    declared = {"version": method["version"]} if method.get("version", 1) != 1 else {}
    return {**identity, **({"code": code} if code else {}), **declared}


def _used(options: dict[str, Any]) -> dict[str, Any]:
    """Without what is not asked for: options that came later leave older identities alone."""
    return {k: v for k, v in options.items() if k not in LATER_OPTIONS or v != LATER_OPTIONS[k]}


def _without_workers(recipe: dict[str, Any]) -> dict[str, Any]:
    # Batches are the same whoever reads them; 0 and not left out, so that hashes stay what they were.
    return {**recipe, "workers": 0} if "workers" in recipe else recipe


def _by_content(options: dict[str, Any], any_file: bool = False) -> dict[str, Any]:
    """Options, those that name files standing for the files' content: some by their keys, or `any_file`."""
    return {key: _by_content_of(key, value, any_file) for key, value in options.items()}


def _by_content_of(key: str, value: Any, any_file: bool) -> Any:
    if isinstance(value, dict):
        return _by_content(value, any_file)
    return _content(value) if key in FILE_OPTIONS or (any_file and _is_file(value)) else value


def _is_file(value: Any) -> bool:
    # A bare word may be a file's name by chance, and a folder may hold anything.
    return isinstance(value, str) and os.sep in value and Path(value).is_file()


def _content(value: Any) -> Any:
    """An option that names files stands for what they hold, not for where they lie."""
    if not isinstance(value, str) or not value or not Path(value).exists():
        return value
    root = Path(value)
    files = sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]
    return [[str(p.relative_to(root)), _file_digest(p)] for p in files]


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run_identity(cell: Cell, data: dict[str, str]) -> dict[str, Any]:
    """What the predictions depend on."""
    method = cell.config["method"]
    return {**fit_identity(cell, data), "inference": _by_content(method.get("inference", {}), outside(method))}

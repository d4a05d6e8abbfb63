"""What a fit and a run depend on, as plain data and as the hash that names their folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bench.config import Cell
from bench.declared import code_keys, file_keys, replaced
from bench.files import sha256_of
from bench.record import CAME_LATER, SCHEMA_VERSION, came_later
from bench.sources import lasting_name, outside, outside_code

# What training keeps to look at later; no weight depends on it.
_KEPT = ("keep", "keep_cases")


def fit_identity(cell: Cell, data: dict[str, str]) -> dict[str, Any]:
    """What the trained weights depend on; methods that differ only in inference share it.

    Code of the project counts by its name, wherever it lies, and by the declared version of the method (`version` of
    its file, 1 without), any other method and data set by its source.
    """
    method, dataset = (_by_name(cell.config[group]) for group in ("method", "dataset"))
    # Where the data lies does not matter, what it is does.
    unseen = {"name", "code", "files"} | file_keys("dataset", dataset)
    recipe = method.get("recipe", {})
    if _is_general(recipe):
        recipe = {k: v for k, v in _used("recipe", recipe).items() if k not in _KEPT}
    # Batches are the same whoever reads them; 0 and not left out, so that hashes stay what they were.
    recipe = {**recipe, "workers": 0} if "workers" in recipe else recipe
    data_options = {k: v for k, v in _used("dataset", dataset).items() if k not in unseen}
    identity = {
        "schema": SCHEMA_VERSION,
        "target": method["target"],
        "options": _by_content(_used("options", method.get("options", {})), cell.config["method"]),
        "recipe": recipe,
        "dataset": data_options,
        "data": data,
        "seed": cell.seed,
    }
    code = {part: sha256 for part in ("method", "dataset") if (sha256 := outside_code(cell.config[part]))}
    declared = {"version": method["version"]} if method.get("version", 1) != 1 else {}
    return {**identity, **({"code": code} if code else {}), **declared}


def _is_general(recipe: Any) -> bool:
    """Whether it is no recipe of a method's own kind, which has not all of these keys and is left alone."""
    return bool(recipe) and CAME_LATER["recipe"].keys() <= recipe.keys()


def kept(cell: Cell) -> dict[str, Any]:
    """What training is asked to keep to look at later, empty for nothing."""
    recipe = cell.config["method"].get("recipe", {})
    return {k: recipe[k] for k in _KEPT if recipe.get(k)} if _is_general(recipe) else {}


def _used(section: str, options: dict[str, Any]) -> dict[str, Any]:
    """Without what is not asked for: options that came later leave older identities alone."""
    return {key: value for key, value in options.items() if not came_later(section, key, value)}


def _by_name(section: dict[str, Any]) -> dict[str, Any]:
    """A section, its code standing there by the name that lasts."""
    return replaced(section, code_keys(section), lasting_name)


def _by_content(options: dict[str, Any], section: dict[str, Any]) -> dict[str, Any]:
    """Options of a method's section, those that name files standing for the files' content."""
    files, any_file = file_keys("method", section), outside(section)

    def by_content(key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {inner: by_content(inner, one) for inner, one in value.items()}
        return _content(value) if key in files or (any_file and _is_file(value)) else value

    return {key: by_content(key, value) for key, value in options.items()}


def _is_file(value: Any) -> bool:
    # A bare word may be a file's name by chance, and a folder may hold anything.
    return isinstance(value, str) and os.sep in value and Path(value).is_file()


def _content(value: Any) -> Any:
    """An option that names files stands for what they hold, not for where they lie."""
    if not isinstance(value, str) or not value or not Path(value).exists():
        return value
    root = Path(value)
    files = sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]
    return [[str(p.relative_to(root)), sha256_of(p)] for p in files]


def run_identity(cell: Cell, data: dict[str, str]) -> dict[str, Any]:
    """What the predictions depend on, and what training is asked to keep."""
    method = cell.config["method"]
    inference = _by_content(_by_name(method).get("inference", {}), method)
    return {**fit_identity(cell, data), "inference": _in_older_words(inference), **kept(cell)}


def _in_older_words(inference: dict[str, Any]) -> dict[str, Any]:
    """The options by which runs made earlier have their names."""
    if "fold_upsampling" in inference:  # another option stood beside it
        inference = {"fold": True, **inference}
    inference = _used("inference", inference)
    if "spacing" in inference and inference.get("samples") == 1:  # more than one was not to be had
        inference = {key: value for key, value in inference.items() if key != "samples"}
    if "sw_batch_size" in inference:  # methods with windows said `runs`
        inference = {"runs" if key == "samples" else key: value for key, value in inference.items()}
    return inference

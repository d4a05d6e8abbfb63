"""What a method's file may say: its keys are checked before anything of it is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bench.catalogue import files_of
from bench.declared import CONF_DIR, code_keys, file_keys
from bench.errors import InputError
from bench.keys import no_such_key

# What a size or a budget may fill; the other keys are the method's own, whatever the profile.
_FILLED = frozenset({"target", "options", "inference", "fidelity", "pretrained", "printed_as", "requires", "extra"})
_OWN = frozenset({"name", "sizes", "budgets", "recipe", "recipes", "files", "code", "in_all", "card", "version"})
_OF_HARNESS = "sweep"  # marks a point of a figure


def own_file(overrides: Sequence[str]) -> Path | None:
    """The file of the method that overrides choose, where it is somebody's own."""
    name = next((one.partition("=")[2] for one in reversed(overrides) if one.startswith("method=")), None)
    if name is None or (CONF_DIR / "method" / f"{name}.yaml").is_file():
        return None
    return files_of("method", overrides).get(name)


def check_method(method: Mapping[str, Any], path: Path | None) -> None:
    """InputError naming the file of a method's section and its first key that is unknown, missing or wrong."""
    where = str(path) if path else f"method {method.get('name')}"
    for place, keys, known in _places(method):
        if unknown := [key for key in keys if key not in known and key != _OF_HARNESS]:
            raise InputError(f"{where}: {no_such_key(f'{place}{unknown[0]}', known)}")
    if missing := [key for key in ("name", "target") if key not in method]:
        raise InputError(f"{where}: {missing[0]}: is missing; a method's file needs name and target")
    if path:
        _check_own(where, method, path)


def _places(method: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], frozenset[str]]]:
    """The places whose keys the harness knows: the file's own and the blocks of its sizes and budgets."""
    yield "", method, _FILLED | _OWN
    for axis in ("sizes", "budgets"):
        blocks = method.get(axis)
        for choice, block in blocks.items() if isinstance(blocks, Mapping) else ():
            yield f"{axis}.{choice}.", block if isinstance(block, Mapping) else {}, _FILLED


def _check_own(where: str, method: Mapping[str, Any], path: Path) -> None:
    own = yaml.safe_load(path.read_text(encoding="utf-8"))
    # Results lie under the name, and commands choose by the file's.
    if not path.as_posix().endswith(f"/{own.get('name')}.yaml"):
        raise InputError(f"{where}: name: {own.get('name', method['name'])}: expected name: {path.stem}, as the file's")
    for kind, everywhere in (("files", file_keys("method")), ("code", code_keys())):
        given = own.get(kind) or []
        if not isinstance(given, list):
            raise InputError(f"{where}: {kind}: expected a list, {kind}: [{given}]")
        known = {key for name in _FILLED | {"sizes", "budgets"} for key in _keys(method.get(name))}
        if unknown := [key for key in given if key not in known | everywhere]:
            options = [key for name in ("options", "inference") for key in method.get(name) or ()]
            raise InputError(f"{where}: {kind}: {no_such_key(unknown[0], options)}")


def _keys(tree: Any) -> Iterator[str]:
    """Every key of a tree, at any depth."""
    for key, value in tree.items() if isinstance(tree, Mapping) else ():
        yield key
        yield from _keys(value)
    for value in tree if isinstance(tree, list) else ():
        yield from _keys(value)

"""Which code a configuration may name: what an installed configuration or an entry point names, and nothing else.

A method's file says under `code` which of its options name code; `target`, `card` and `requires` always do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from bench.errors import InputError

CONF_DIR = Path(__file__).parent / "conf"
_ALWAYS = frozenset({"target", "_target_", "card", "requires"})
_GROUPS = ("method", "dataset")
_SEARCH = "hydra.searchpath="


def check_code(config: dict[str, Any], overrides: Sequence[str] = (), where: str = "") -> None:
    """InputError naming the first key of `method` or `dataset` whose code nothing installed names under that key.

    `overrides` may bring further installed configurations with hydra.searchpath; `where` begins the message.
    """
    keys, known = _installed(search_folders(overrides))
    for group in _GROUPS:
        for key, name, value in _named(config.get(group), keys, group):
            if value not in known.get(name, ()):
                raise InputError(
                    f"{where}{key}={value}: code that no installed configuration names; only a file of {group}/ in a "
                    f"folder that {_SEARCH}[DIR] names, or an entry point, brings code of your own"
                )


def search_folders(overrides: Sequence[str]) -> Iterator[Path]:
    """The folders that `hydra.searchpath=[...]` names among overrides."""
    chosen = [override for override in overrides if override.startswith(_SEARCH)]
    try:
        parsed = OverridesParser.create().parse_overrides(chosen) if chosen else []
    except HydraException as error:
        raise InputError(f"{chosen[0]}: expected {_SEARCH}[DIR]") from error
    for override in parsed:
        value = override.value()
        for entry in value if isinstance(value, list) else [value]:
            scheme, _, place = str(entry).rpartition("://")
            yield Path(str(files(place))) if scheme == "pkg" else Path(place)


def _installed(folders: Iterable[Path]) -> tuple[frozenset[str], dict[str, set[str]]]:
    """The keys that name code, and the names that installed files and entry points have under each."""
    sections = [*_shipped(), *(section for folder in folders for section in _sections(folder))]
    keys = _ALWAYS.union(*(section.get("code") or () for section in sections))
    known: dict[str, set[str]] = {}
    for section in sections:
        for _, name, value in _named(section, keys):
            known.setdefault(name, set()).add(value)
    for group in _GROUPS:
        points = entry_points(group=f"sdseg.{group}s")
        known.setdefault("target", set()).update(point.value.replace(":", ".") for point in points)
    return keys, known


@lru_cache
def _shipped() -> list[dict[str, Any]]:
    return list(_sections(CONF_DIR))


def _sections(folder: Path) -> Iterator[dict[str, Any]]:
    for path in (path for group in _GROUPS for path in (folder / group).rglob("*.yaml")):
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            continue  # Hydra says what is wrong with it, where it is used
        if isinstance(content, dict):
            yield content


def _named(tree: Any, keys: frozenset[str], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (key, its last word, value) of all code that a section names."""
    for name, value in tree.items() if isinstance(tree, dict) else ():
        key = f"{prefix}.{name}"
        if name in keys:
            yield from ((key, name, str(leaf)) for leaf in _leaves(value) if leaf not in (None, ""))
        elif isinstance(value, list):
            for part in value:
                yield from _named(part, keys, key)
        else:
            yield from _named(value, keys, key)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _leaves(part)
    else:
        yield value

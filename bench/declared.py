"""What the installed files of methods and data sets say of their keys: which name code, and which name files.

`code: [network]` and `files: [weights]` name keys, at any depth. What one file of the project declares holds for all,
so that a configuration of an earlier day needs no declaration of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

CONF_DIR = Path(__file__).parent / "conf"
GROUPS = ("method", "dataset")


@cache
def shipped() -> tuple[tuple[str, dict[str, Any]], ...]:
    """Group and content of every file of the project."""
    return tuple(sections(CONF_DIR))


def sections(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Group and content of every file of methods and data sets in a folder of configurations."""
    for group in GROUPS:
        for path in (folder / group).rglob("*.yaml"):
            try:
                content = yaml.safe_load(path.read_text(encoding="utf-8"))
            except (OSError, ValueError, yaml.YAMLError):
                continue  # Hydra says what is wrong with it, where it is used
            if isinstance(content, dict):
                yield group, content


def code_keys(section: Mapping[str, Any] | None = None) -> frozenset[str]:
    """Keys whose values name code, in a method's or a data set's section."""
    return _declared("code", *GROUPS).union({"target", "_target_", "card"}, (section or {}).get("code") or ())


def file_keys(group: str, section: Mapping[str, Any] | None = None) -> frozenset[str]:
    """Keys whose values may name files; no other is looked up, since a folder may be called "tiny" by chance."""
    return _declared("files", group).union((section or {}).get("files") or ())


@cache
def _declared(kind: str, *groups: str) -> frozenset[str]:
    return frozenset(key for group, section in shipped() if group in groups for key in section.get(kind) or ())


def named(tree: Any, keys: frozenset[str], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (key, its last word, value) of everything that stands under one of `keys`."""
    for name, value in tree.items() if isinstance(tree, Mapping) else ():
        key = f"{prefix}.{name}" if prefix else name
        if name in keys:
            yield from ((key, name, str(leaf)) for leaf in _leaves(value) if leaf not in (None, ""))
        else:
            for part in value if isinstance(value, list) else [value]:
                yield from named(part, keys, key)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _leaves(part)
    else:
        yield value


def replaced(tree: Any, keys: frozenset[str], by: Callable[[str], Any], inside: bool = False) -> Any:
    """A section with something else in the place of every text that stands under one of `keys`."""
    if isinstance(tree, dict):
        return {key: replaced(value, keys, by, inside or key in keys) for key, value in tree.items()}
    if isinstance(tree, list):
        return [replaced(value, keys, by, inside) for value in tree]
    return by(tree) if inside and isinstance(tree, str) else tree

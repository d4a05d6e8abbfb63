"""Which code a configuration may name: what an installed configuration or an entry point names, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from bench.declared import GROUPS, code_keys, named, replaced, sections, shipped
from bench.entry_points import entry_points
from bench.errors import InputError
from bench.sources import lasting_name

_SEARCH = "hydra.searchpath="


def check_code(config: dict[str, Any], overrides: Sequence[str] = (), where: str = "") -> None:
    """InputError naming the first key of `method` or `dataset` whose code nothing installed names under that key.

    `overrides` may bring further installed configurations with hydra.searchpath; `where` begins the message.
    """
    keys, known = _installed(search_folders(overrides))
    for group in GROUPS:
        for key, name, value in named(config.get(group), keys, group):
            if value not in known.get(name, ()):
                raise InputError(
                    f"{where}{key}={value}: code that no installed configuration names; only a file of {group}/ in a "
                    f"folder that {_SEARCH}[DIR] names, or an entry point, brings code of your own"
                )


def todays_names(section: Any, overrides: Sequence[str] = ()) -> Any:
    """A stored section, with the names that installed files have today for code of the project that has moved."""
    keys, known = _installed(search_folders(overrides))
    moved = {}
    for _, name, value in named(section, keys):
        today = [one for one in known.get(name, ()) if lasting_name(one) == lasting_name(value)]
        if value not in today and len(today) == 1:
            moved[value] = today[0]
    return replaced(section, keys, lambda name: moved.get(name, name))


def search_folders(overrides: Sequence[str]) -> Iterator[Path]:
    """The folders that `hydra.searchpath=[...]` names among overrides."""
    chosen = [override for override in overrides if override.startswith(_SEARCH)]
    if not chosen:
        return
    from hydra.core.override_parser.overrides_parser import OverridesParser  # not above: few commands need Hydra
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_overrides(chosen)
    except HydraException as error:
        raise InputError(f"{chosen[0]}: expected {_SEARCH}[DIR]") from error
    for override in parsed:
        value = override.value()
        for entry in value if isinstance(value, list) else [value]:
            scheme, _, place = str(entry).rpartition("://")
            yield _folder(scheme, place)


def _folder(scheme: str, place: str) -> Path:
    # Hydra passes over what is not there.
    try:
        folder = Path(str(files(place))) if scheme == "pkg" else Path(place)
    except ModuleNotFoundError as error:
        raise InputError(f"{_SEARCH}[pkg://{place}]: no such package; install it or name a folder") from error
    if scheme != "pkg" and not folder.is_dir():
        raise InputError(f"{_SEARCH}[{place}]: no such folder; it is looked for in {Path.cwd()}")
    return folder


def _installed(folders: Iterable[Path]) -> tuple[frozenset[str], dict[str, set[str]]]:
    """The keys that name code, and the names that installed files and entry points have under each."""
    installed = [section for _, section in (*shipped(), *(one for folder in folders for one in sections(folder)))]
    keys = frozenset({"requires"}).union(*map(code_keys, installed))
    known: dict[str, set[str]] = {}
    for section in installed:
        for _, name, value in named(section, keys):
            known.setdefault(name, set()).add(value)
    for group in GROUPS:
        points = entry_points(group=f"sdseg.{group}s")
        known.setdefault("target", set()).update(point.value.replace(":", ".") for point in points)
    return keys, known

"""What there is to choose from: files of the configuration, entry points of installed packages, the metrics."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from bench.declared import CONF_DIR
from bench.entry_points import entry_points
from bench.plugins import GROUPS
from bench.trust import search_folders

PROJECT = "this project"


class Entry(NamedTuple):
    """A name, what it is in a line ("" where nothing says it), and where it comes from."""

    name: str
    line: str
    origin: str


def entries(what: str, overrides: Sequence[str] = ()) -> list[Entry]:
    """All of `methods`, `datasets`, `profiles`, `metrics` (over a pair of masks), `protocols` or `studies`.

    The project's, those of the folders that hydra.searchpath names, then the entry points of installed packages.
    """
    if what == "metrics":
        from bench.metrics import METRICS, PLUGIN_GROUP

        own = [Entry(name, _docstring(metric.function), PROJECT) for name, metric in METRICS.items()]
        return own + sorted(_points(PLUGIN_GROUP))
    group = group_of(what)
    files = [Entry(name, _comment(path), origin) for name, (path, origin) in _files(group, overrides).items()]
    return sorted(files) + sorted(_points(GROUPS[group]) if group in GROUPS else ())


def group_of(what: str) -> str:
    """The configuration's group of a word that `entries` takes."""
    return "study" if what == "studies" else what.removesuffix("s")


def in_all(overrides: Sequence[str]) -> list[str]:
    """Every method that is a row of its own: its file does not say `in_all: false`, nor does one it builds on."""
    files = files_of("method", overrides)
    return [name for name in sorted(files) if _merged(name, files).get("in_all", True)]


def files_of(group: str, overrides: Sequence[str]) -> dict[str, Path]:
    """The files of a group by name, the project's and those of the folders that hydra.searchpath names."""
    return {name: path for name, (path, _) in _files(group, overrides).items()}


def _files(group: str, overrides: Sequence[str]) -> dict[str, tuple[Path, str]]:
    """Path and origin of a group's files by name; the first folder that has a name wins, as Hydra does it."""
    by_name: dict[str, tuple[Path, str]] = {}
    for folder in (CONF_DIR, *search_folders(overrides)):
        for path in (folder / group).rglob("*.yaml"):
            name = path.relative_to(folder / group).with_suffix("").as_posix()
            by_name.setdefault(name, (path, PROJECT if folder == CONF_DIR else str(folder)))
    return by_name


def _merged(name: str, files: dict[str, Path]) -> dict[str, Any]:
    """The top level of a file and of those that it builds on."""
    own: dict[str, Any] = yaml.safe_load(files[name].read_text(encoding="utf-8"))
    bases = [base for base in own.get("defaults", ()) if base in files and base != name]
    return {key: value for base in bases for key, value in _merged(base, files).items()} | own


def _comment(path: Path) -> str:
    """The first sentence of the comment that a file begins with."""
    lines = path.read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if not line.startswith("# @package")]
    end = next((index for index, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return _sentence(" ".join(line.removeprefix("#").strip() for line in lines[:end]))


def _docstring(thing: Any) -> str:
    return _sentence(" ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split()))


def _sentence(text: str) -> str:
    return re.split(r"\.\s+(?=[A-Z`])", text, maxsplit=1)[0].rstrip(".:")


def _points(group: str) -> Iterator[Entry]:
    for point in entry_points(group=group):
        package = point.dist.name if point.dist else point.value
        try:
            line = _docstring(point.load())
        except Exception as error:  # whatever the package does when it is imported, the list goes on
            line = f"cannot be imported: {type(error).__name__}: {error}".splitlines()[0]
        yield Entry(point.name, line, f"entry point of package {package}")

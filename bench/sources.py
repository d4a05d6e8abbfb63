"""Which code a result was made with: the source behind the names that a configuration holds, as one hash."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from bench.declared import CONF_DIR, code_keys, named

# Methods of the project have a declared version; `bench` is the harness, and no method.
PROJECT = {"sdseg": frozenset[str](), "baselines": frozenset({"sdseg"})}  # with what each imports of the project
_HARNESS = frozenset({"bench", "reports"})
# What the project requires counts by its version, which the record holds, too.
_LIBRARIES = frozenset({"torch", "torchvision", "monai", "diffusers", "timm", "torchmetrics"}) | {
    *("segmentation_models_pytorch", "nnunetv2", "numpy", "scipy", "sklearn", "skimage"),
}
_BENCH = Path(__file__).parent
_SUFFIXES = (".py", ".so", ".pyd")


def code_names(section: Mapping[str, Any]) -> Iterator[str]:
    """The dotted names of code in a section of the configuration."""
    return (value for _, _, value in named(section, code_keys(section)))


def lasting_name(name: str) -> str:
    """What stands for code in identities: of the project's its name alone, so that it may move to another module.

    What results were made with before that rule keeps the dotted name that it had then.
    """
    if name.partition(".")[0] not in (*PROJECT, "bench"):
        return name
    own = name.rpartition(".")[2]
    return _first_names().get(own, own)


@cache
def _first_names() -> dict[str, str]:
    return yaml.safe_load((CONF_DIR / "first_names.yaml").read_text(encoding="utf-8"))


def outside(section: Mapping[str, Any]) -> bool:
    """Whether a method or a data set has code that is neither the project's nor that of a library it requires."""
    return bool(_outside_packages(section))


def outside_code(section: Mapping[str, Any]) -> str:
    """The hash of such code, with all that it imports but installed packages; empty where there is none."""
    packages = _outside_packages(section)
    return fingerprint(packages) if packages else ""


def method_code(section: Mapping[str, Any]) -> str:
    """The hash of all code behind a method, the project's own too, as it is installed now."""
    return fingerprint(_packages(section) - _HARNESS - _LIBRARIES, with_project=True)


def method_files(section: Mapping[str, Any]) -> list[Path]:
    """The files behind a method: where an error in its code is looked for."""
    return list(_sources(_packages(section) - _HARNESS - _LIBRARIES, with_project=True).values())


def outside_folder(section: Mapping[str, Any]) -> Path | None:
    """The folder that code from outside lies in, which may have a revision; None where there is no such code."""
    places = [place for package in sorted(_outside_packages(section)) for place in _places(package)]
    return places[0].parent if places else None


@cache
def scoring_code() -> str:
    """The hash of the harness's metrics and protocols, as they are installed now."""
    files = [path for folder in ("metrics", "protocols") for path in (_BENCH / folder).rglob("*.py")]
    files += [_BENCH / "scoring/case.py", _BENCH / "scoring/cases.py"]
    return _hash({path.relative_to(_BENCH).as_posix(): path for path in files})


@cache
def fingerprint(packages: frozenset[str], with_project: bool = False) -> str:
    """sha256 of the source of top-level packages or modules and of what they import, wherever that lies.

    Asked once a process: what was imported is what lay there at the start.
    """
    return _hash(_sources(packages, with_project))


def _hash(files: Mapping[str, Path]) -> str:
    content = [[name, hashlib.sha256(path.read_bytes()).hexdigest()] for name, path in sorted(files.items())]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _packages(section: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(name.partition(".")[0] for name in code_names(section))


def _outside_packages(section: Mapping[str, Any]) -> frozenset[str]:
    return _packages(section) - frozenset(PROJECT) - _HARNESS - _LIBRARIES


@cache
def _sources(packages: frozenset[str], with_project: bool) -> dict[str, Path]:
    """Files by a name that does not say where they lie, of packages and of those that they import."""
    sources: dict[str, Path] = {}
    seen: set[str] = set()
    waiting = set(packages)
    while waiting:
        package = waiting.pop()
        seen.add(package)
        files = dict(_files(package))
        sources |= files
        imported = PROJECT[package] if package in PROJECT else set[str]().union(*map(_imports, files.values()))
        others = imported - seen - _HARNESS - _LIBRARIES - sys.stdlib_module_names
        waiting |= {other for other in others if _is_source(other, with_project)}
    return sources


def _is_source(package: str, with_project: bool) -> bool:
    if package in PROJECT:
        return with_project
    # What is installed counts by its version unless a configuration names it.
    return any("site-packages" not in place.parts and "dist-packages" not in place.parts for place in _places(package))


def _places(package: str) -> list[Path]:
    """The folders of a package, or the file of a module; nothing where it cannot be had."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError, AttributeError):
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [Path(place) for place in spec.submodule_search_locations]
    return [Path(spec.origin)] if spec.has_location and spec.origin else []


def _files(package: str) -> Iterator[tuple[str, Path]]:
    for place in _places(package):
        if place.is_file():
            yield place.name, place
        for folder, inside, names in os.walk(place):
            inside[:] = [name for name in inside if not name.startswith(".") and not _is_environment(folder, name)]
            for name in names:
                path = Path(folder) / name
                if name.endswith(_SUFFIXES):
                    yield f"{package}/{path.relative_to(place).as_posix()}", path


def _is_environment(folder: str, name: str) -> bool:
    return name == "node_modules" or (Path(folder) / name / "pyvenv.cfg").exists()


def _imports(path: Path) -> set[str]:
    """Top-level names that a source file imports; code that does not parse imports nothing."""
    if path.suffix != ".py":
        return set()
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names

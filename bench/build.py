"""Names to objects: builds the dataset and the method that a configuration names."""

from __future__ import annotations

import inspect
from typing import Any

from pydantic import ValidationError

from bench.contract import check_segmenter, described
from bench.device import resolve
from bench.errors import InputError, RunError
from bench.importing import import_by_name
from bench.sources import outside
from bench.types import Dataset, Segmenter, TaskSpec

# Keys of a group file that describe the component and are no arguments of it.
_DESCRIPTIVE = {"name", "target", "code", "files"}


def build_dataset(config: dict[str, Any]) -> Dataset:
    """The dataset of a resolved configuration, not yet checked."""
    section = config["dataset"]
    arguments = {k: v for k, v in section.items() if k not in _DESCRIPTIVE}
    arguments.update(arguments.pop("options", {}))
    arguments.pop("inference", None)
    return _call(section, f"dataset {section['name']}", arguments)


def build_segmenter(config: dict[str, Any], task: TaskSpec) -> Segmenter:
    """The untrained method of a resolved configuration for a task."""
    section = config["method"]
    arguments = {
        **section.get("options", {}),
        **section.get("inference", {}),
        "task": task,
        "seed": config["seed"],
        "device": resolve(config["device"]),
        "recipe": section.get("recipe", {}),
    }
    segmenter = _call(section, f"method {section['name']}", arguments)
    try:
        check_segmenter(segmenter)
    except InputError as error:
        raise InputError(f"method {section['name']}: {error}") from error
    return segmenter


def _call(section: dict[str, Any], what: str, arguments: dict[str, Any]) -> Any:
    target = section["target"]
    function = import_by_name(target)
    if not callable(function):
        raise InputError(f"{what}: {target} is a {type(function).__name__}, expected a class or a function")
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        raise InputError(f"{what}: {error} ({target})") from error
    try:
        return function(**arguments)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(f"{what}: {key}={first['input']!r}: {first['msg']}") from error
    except (InputError, RunError):
        raise
    except (ValueError, TypeError) as error:
        reason = described(error, section) if outside(section) else str(error).splitlines()[0]
        raise InputError(f"{what}: {reason}") from error
    except Exception as error:
        raise RunError(f"{what}: {described(error, section)}") from error

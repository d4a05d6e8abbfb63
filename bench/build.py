"""Names to objects: builds the dataset and the method that a configuration names."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

from pydantic import ValidationError

from bench.errors import InputError
from bench.types import Dataset, Segmenter, TaskSpec

# Keys of a group file that describe the component and are no arguments of it.
_DESCRIPTIVE = {"name", "target"}


def import_by_name(name: str) -> Any:
    """The object behind a dotted name; raises InputError naming it."""
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{name}: cannot be imported ({error}); install what it needs or correct the name") from error


def build_dataset(config: dict[str, Any]) -> Dataset:
    """The dataset of a resolved configuration, not yet checked."""
    section = config["dataset"]
    arguments = {k: v for k, v in section.items() if k not in _DESCRIPTIVE}
    arguments.update(arguments.pop("options", {}))
    arguments.pop("inference", None)
    return _call(section["target"], f"dataset {section['name']}", arguments)


def build_segmenter(config: dict[str, Any], task: TaskSpec) -> Segmenter:
    """The untrained method of a resolved configuration for a task."""
    section = config["method"]
    arguments = {
        **section.get("options", {}),
        **section.get("inference", {}),
        "task": task,
        "seed": config["seed"],
        "device": config["device"],
        "recipe": section.get("recipe", {}),
    }
    return _call(section["target"], f"method {section['name']}", arguments)


def _call(target: str, what: str, arguments: dict[str, Any]) -> Any:
    function = import_by_name(target)
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
    except InputError:
        raise
    except (ValueError, TypeError) as error:
        raise InputError(f"{what}: {str(error).splitlines()[0]}") from error

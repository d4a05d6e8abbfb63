"""Methods and data sets of the entry-point groups `sdseg.methods` and `sdseg.datasets`, as groups of Hydra."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from functools import cache
from typing import Any

from bench.declared import CONF_DIR
from bench.entry_points import entry_points
from bench.errors import InputError
from bench.importing import import_by_name

GROUPS = {"method": "sdseg.methods", "dataset": "sdseg.datasets"}
# What the harness gives a method beside its options.
_GIVEN = {"method": {"task", "seed", "device", "recipe"}, "dataset": set[str]()}


def register(overrides: Iterable[str]) -> None:
    """Make the plug-ins that overrides choose known to Hydra; one that cannot be had is an InputError naming it."""
    for override in overrides:
        group, _, name = override.partition("=")
        if group in GROUPS and (target := _target(group, name)):
            from hydra.core.config_store import ConfigStore  # not above: `sdseg list` needs no Hydra

            ConfigStore.instance().store(group=group, name=name, node=_node(group, name, target))


def _target(group: str, name: str) -> str | None:
    """The dotted name of a plug-in's class or function, None where there is no such plug-in."""
    values = sorted({point.value for point in entry_points(group=GROUPS[group]) if point.name == name})
    if not values:
        return None
    if len(values) > 1 or (CONF_DIR / group / f"{name}.yaml").exists():
        others = values[1:] or [f"bench/conf/{group}/{name}.yaml"]
        raise InputError(f"{group}={name}: both {values[0]} and {others[0]} have this name; rename one")
    return values[0].replace(":", ".")


@cache
def _node(group: str, name: str, target: str) -> dict[str, Any]:
    arguments = _arguments(target, _GIVEN[group])
    if group == "dataset":
        return {"name": name, "target": target, **arguments}
    return {"name": name, "target": target, "options": arguments, "inference": {}, "recipe": "${train}"}


def _arguments(target: str, given: set[str]) -> dict[str, Any]:
    """What can be set, with its defaults, as the signature has it; what has none must be set."""
    made_by = import_by_name(target)
    if not callable(made_by):
        raise InputError(f"{target} is a {type(made_by).__name__}; the entry point must name a class or a function")
    arguments: dict[str, Any] = {}
    for parameter in inspect.signature(made_by).parameters.values():
        if parameter.name in given or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.default is parameter.empty:
            arguments[parameter.name] = "${image_size}" if parameter.name == "image_size" else "???"
        elif _is_plain(parameter.default):
            arguments[parameter.name] = parameter.default
    return arguments


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(one) for key, one in value.items())
    return value is None or isinstance(value, bool | int | float | str)

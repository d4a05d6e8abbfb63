"""What Hydra composes of a list of overrides, the project's files being composed once a process.

Hydra takes a tenth of a second for a composition, nearly all of it over files. But a file of a method or of a data set
fills a section of its own, whatever stands in the others (`tests/test_composing.py`), and values are set when all
files are merged. So sections are read and put together here, and values set as Hydra sets them. Hydra itself composes
what is not so simple (folders and plug-ins of somebody's, `+key`, `~key`), and says what is wrong with what fails.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import cache, lru_cache
from typing import cast

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench.declared import CONF_DIR, GROUPS

FILES = ("dataset", "method", "profile", "protocol", "recipe")


def composed(overrides: Sequence[str]) -> DictConfig:
    """What Hydra composes; raises what Hydra raises."""
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        files, values = _chosen(parsed)
        config = cast("DictConfig", pickle.loads(_of_files(files)))  # half the time of a deep copy
        for override in values:
            _set(config, override)
    except (_NotSimpleError, HydraException, OmegaConfBaseException):
        return _by_hydra(overrides)
    return config


class _NotSimpleError(Exception):
    """Overrides that Hydra must compose."""


def _chosen(overrides: Sequence[Override]) -> tuple[frozenset[str], list[Override]]:
    """The project's files that overrides choose, as `group=name`, and the overrides that set a value."""
    files: dict[str, str] = {}
    values = []
    for override in overrides:
        key, value = override.key_or_group, override.value()
        is_file = isinstance(value, str) and key in FILES and (CONF_DIR / key / f"{value}.yaml").is_file()
        if is_file and key not in files and override.type is OverrideType.CHANGE:
            files[key] = str(value)
        elif key in (*FILES, "study") or key.partition(".")[0] == "hydra" or not _sets_value(override):
            raise _NotSimpleError
        else:
            values.append(override)
    return frozenset(f"{group}={name}" for group, name in files.items()), values


def _sets_value(override: Override) -> bool:
    known = override.type in (OverrideType.CHANGE, OverrideType.ADD, OverrideType.FORCE_ADD)
    return known and override.package is None and "/" not in override.key_or_group and not override.is_sweep_override()


def _set(config: DictConfig, override: Override) -> None:
    key, value, force = override.key_or_group, override.value(), override.type is not OverrideType.CHANGE
    there = override.is_add() and OmegaConf.select(config, key, throw_on_missing=False) is not None
    if there and not isinstance(value, (dict, list)):
        raise _NotSimpleError
    OmegaConf.update(config, key, value, merge=True, force_add=force)


@lru_cache(maxsize=1024)
def _of_files(files: frozenset[str]) -> bytes:
    """The composition of the project's files, each `group=name`, pickled."""
    chosen = [one.split("=") for one in files]
    config = deepcopy(_by_hydra_once(frozenset(f"{group}={name}" for group, name in chosen if group not in GROUPS)))
    for group, name in chosen:
        if group in GROUPS:
            config[group] = _section(group, name)
    return pickle.dumps(config)


@cache
def _section(group: str, name: str) -> DictConfig:
    """A file of a method or of a data set, over those of its group that its `defaults` name."""
    own = cast("DictConfig", OmegaConf.load(CONF_DIR / group / f"{name}.yaml"))
    parts = [own if one == "_self_" else _section(group, one) for one in own.pop("defaults", ["_self_"])]
    return cast("DictConfig", OmegaConf.merge(*parts))


@lru_cache(maxsize=1024)
def _by_hydra_once(files: frozenset[str]) -> DictConfig:
    return _by_hydra(sorted(files))


def _by_hydra(overrides: Sequence[str]) -> DictConfig:
    with _hydra():
        return compose("config", overrides=list(overrides))


@contextmanager
def _hydra() -> Iterator[None]:
    # Hydra keeps one global state; a sweep's job composes inside it, so the outer state is put back.
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = outer

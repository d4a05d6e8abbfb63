"""A study: which methods, data sets and seeds feed which table and figure; a file of `conf/study`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from yaml import YAMLError

from bench.catalogue import files_of
from bench.config import Cell, compose_config
from bench.errors import InputError
from bench.jobs import sweep_jobs, with_points
from bench.keys import no_such_key

# What the command line may say of a study itself; everything else is an override of its cells.
_AXES = ("methods", "datasets", "seeds")
_OWN = ("data_dir", "parts", *_AXES)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(_Section):
    """A data set: in the prepared folder `data_dir`/NAME, which is drawn where it is a miniature, or built in."""

    source: Literal["prepared", "mini", "built_in"] = "prepared"
    preprocessing: Literal["native", "paper"] = "native"
    set: tuple[str, ...] = ()  # overrides: its split or target


class Part(_Section):
    """Cells of methods x data sets x seeds, and what they are for."""

    feeds: tuple[str, ...] = Field(min_length=1)  # tables and figures, in words
    methods: tuple[str, ...] = Field(min_length=1)
    datasets: tuple[str, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = (0,)
    set: tuple[str, ...] = ()  # overrides of these cells; KEY=A,B makes a point of a figure of each value
    measure: bool = False  # speed and memory too


class Study(_Section):
    """A whole plan of runs."""

    name: str
    file: Path
    data_dir: Path = Path("data")
    set: tuple[str, ...] = ()  # overrides of every cell: its profile
    data: dict[str, Data]
    parts: dict[str, Part]


class Planned(NamedTuple):
    """A cell of a study, the overrides it comes from, what it feeds, and whether its costs are measured."""

    cell: Cell
    overrides: list[str]
    feeds: tuple[str, ...]
    measure: bool


def read_study(name: str, overrides: Sequence[str] = ()) -> Study:
    """A study by its name, of the project or of a folder that hydra.searchpath names; `overrides` narrow it.

    Raises InputError naming the file and the key that is wrong.
    """
    files = files_of("study", overrides)
    content = _content(name, files)
    try:
        study = Study.model_validate({**content, "name": name, "file": files[name]})
    except ValidationError as error:
        raise InputError(f"{files[name]}: {_said(error)}") from error
    for part, one in study.parts.items():
        if unknown := [dataset for dataset in one.datasets if dataset not in study.data]:
            raise InputError(f"{files[name]}: parts.{part}.datasets: {unknown[0]} is not under data")
    return _narrowed(study, overrides)


def _said(error: ValidationError) -> str:
    # A misspelt key leaves another one missing.
    first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    key = ".".join(map(str, first["loc"]))
    if first["type"] != "extra_forbidden":
        return f"{key}: {first['msg']}"
    of_study = Study.model_fields.keys() - {"name", "file"} | {"builds_on"}
    known = {"data": Data.model_fields.keys(), "parts": Part.model_fields.keys()}
    return no_such_key(key, known.get(str(first["loc"][0]), of_study))


def _content(name: str, files: dict[str, Path]) -> dict[str, Any]:
    """What a study's file says; with `builds_on` the keys of that study that it does not say otherwise."""
    if name not in files:
        raise InputError(f"study {name}: known are {', '.join(sorted(files)) or 'none'}; see sdseg list studies")
    try:
        own = cast("DictConfig", OmegaConf.load(files[name]))
        base = own.pop("builds_on", None)
        merged = OmegaConf.merge(_content(base, files), own) if base else own
        return cast("dict[str, Any]", OmegaConf.to_container(merged))
    except (OmegaConfBaseException, YAMLError, AttributeError, OSError, TypeError) as error:
        raise InputError(f"{files[name]}: not a study that can be read ({' '.join(str(error).split())})") from error


def _narrowed(study: Study, overrides: Sequence[str]) -> Study:
    given = {key: value for key, _, value in (one.partition("=") for one in overrides) if key in _OWN}
    lists = {key: [word.strip() for word in value.strip("[]").split(",")] for key, value in given.items()}
    names = {
        "parts": list(study.parts),
        "datasets": list(study.data),
        "methods": list(dict.fromkeys(method for part in study.parts.values() for method in part.methods)),
    }
    for key, known in names.items():
        if unknown := [name for name in lists.get(key, ()) if name not in known]:
            raise InputError(f"{key}={unknown[0]}: the {key} of study {study.name} are {', '.join(known)}")
    wanted = {key: lists.get(key, known) for key, known in names.items()}
    parts = {}
    for name, part in study.parts.items():
        methods = tuple(method for method in part.methods if method in wanted["methods"])
        datasets = tuple(dataset for dataset in part.datasets if dataset in wanted["datasets"])
        if name in wanted["parts"] and methods and datasets:
            seeds = _numbers(lists["seeds"]) if "seeds" in lists else part.seeds
            parts[name] = part.model_copy(update={"methods": methods, "datasets": datasets, "seeds": seeds})
    if not parts:
        raise InputError(
            f"study {study.name}: no part has cells of what was chosen; see sdseg study {study.name} --plan"
        )
    used = {dataset for part in parts.values() for dataset in part.datasets}
    data = {name: one for name, one in study.data.items() if name in used}
    return study.model_copy(
        update={"parts": parts, "data": data, "data_dir": Path(given.get("data_dir", study.data_dir))}
    )


def _numbers(words: list[str]) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in words)
    except ValueError as error:
        raise InputError(f"seeds={','.join(words)}: give whole numbers, as seeds=[0,1]") from error


def planned(study: Study, overrides: Sequence[str] = ()) -> list[Planned]:
    """The cells of a study, each once, those of a data set together; `overrides` come last and hold for every cell."""
    cells: dict[str, Planned] = {}
    rest = [one for one in overrides if one.partition("=")[0] not in _OWN]
    for dataset, name in itertools.product(study.data, study.parts):
        part = study.parts[name]
        for one, cell in _cells_of(study, name, dataset, rest) if dataset in part.datasets else ():
            key = repr({name: value for name, value in cell.config.items() if name not in (*_AXES, "measure", "gate")})
            known = cells.get(key, Planned(cell, one, (), False))
            feeds = tuple(dict.fromkeys((*known.feeds, *part.feeds)))
            measured = known if known.measure else Planned(cell, one, (), part.measure)
            cells[key] = measured._replace(feeds=feeds)
    return list(cells.values())


def _cells_of(study: Study, name: str, dataset: str, rest: list[str]) -> Iterator[tuple[list[str], Cell]]:
    """Overrides and cell of each cell of a part on a data set; an InputError names the place of what is wrong."""
    data, part = study.data[dataset], study.parts[name]
    root = [] if data.source == "built_in" else [f"dataset.root={study.data_dir / dataset}"]
    said = {
        f"parts.{name}.methods": ("method=",),
        "set": study.set,
        f"data.{dataset}.set": data.set,
        f"parts.{name}.set": part.set,
    }
    try:
        for method, seed in itertools.product(part.methods, part.seeds):
            axes = [f"dataset={dataset}", f"method={method}", f"seed={seed}"]
            given = [*axes, *study.set, *root, *data.set, *part.set, *rest]
            yield from ((one, Cell(compose_config(one))) for one in with_points(sweep_jobs(given)))
    except InputError as error:
        # The command line may be wrong as well.
        places = [place for place, words in said.items() for one in words if _speaks_of(error, one)]
        if not places or any(_speaks_of(error, one) for one in rest):
            raise
        raise type(error)(f"{study.file}: {places[-1]}: {error}") from error


def _speaks_of(error: InputError, override: str) -> bool:
    return str(error).startswith(tuple(override.lstrip("+~").partition("=")[0] + end for end in "=:"))

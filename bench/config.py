"""Composes the configuration with Hydra and expands it into the cells of the benchmark."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

import yaml
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException

from bench import plugins
from bench.catalogue import in_all
from bench.composing import FILES, composed
from bench.declared import GROUPS, file_keys, replaced
from bench.errors import InputError
from bench.keys import hydra_line
from bench.limits import check_values
from bench.method_file import check_method, own_file
from bench.quoting import quote_overrides
from bench.sizes import settle, shared_recipes
from bench.trust import check_code, search_folders


@dataclass
class MeasureConfig:
    """How speed is measured: timed and warm-up calls per batch size, and the seconds that either may take.

    Three calls are timed in any case.
    """

    rounds: int = MISSING
    warmup: int = MISSING
    seconds: float = 60.0
    batch_sizes: list[int] = field(default_factory=lambda: [1])


@dataclass
class GateConfig:
    """What the gate allows; docs/gate.md says how each is used.

    `margins` are what metrics may lose, one by one; the others .01, those with a unit 5 % of their reference mean, PSNR
    of the RMS error it stands for. `slower` is how many times as long something may take as in another revision timed
    in turn with it, `drift` as in a reference of another day beside the same workload; `memory` a share. `seconds`
    bounds the timing of a run against another revision. `without` names metrics or kinds (speed, memory) that are not
    judged, which the verdict says.
    """

    margins: dict[str, float] = field(
        default_factory=lambda: {
            **{"Dice": 0.01, "missed": 0.01, "hallucinated": 0.01, "flip_rate": 0.002, "ECE": 0.005, "Brier": 0.005},
            **{f"{metric}/{maps}": 0.005 for metric in ("LPIPS", "PSNR") for maps in ("score", "seg")},
        }
    )
    slower: float = 1.1
    drift: float = 1.25
    memory: float = 0.05
    seconds: float = 120.0
    without: list[str] = field(default_factory=list)


@dataclass
class Config:
    """The whole configuration; `method`, `dataset` and `protocol` come from the groups of that name.

    A method's own file says what `size` and `budget` are for it (`bench.sizes`). `train` is said of every method that
    trains, `recipe` what a recipe chosen by name holds, `method_recipe` what `method.recipe.KEY` says.
    """

    profile_name: str = MISSING
    methods: list[str] = MISSING
    datasets: list[str] = MISSING
    seeds: list[int] = MISSING
    seed: int = 0
    draws: int = MISSING
    image_size: int = MISSING
    size: str = MISSING
    budget: str = MISSING
    recipe: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    method_recipe: dict[str, Any] = field(default_factory=dict)
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    method: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    metrics: list[str] | None = None  # all built-in ones
    predict_batch_size: int = 8
    runs_dir: str = "runs"
    device: str = "auto"
    threads: int | None = None


@cache
def register_schema() -> None:
    """Make the typed root known to Hydra (idempotent)."""
    ConfigStore.instance().store(name="schema", node=Config)


def compose_config(overrides: list[str]) -> dict[str, Any]:
    """The resolved configuration of a list of Hydra overrides; raises InputError naming the key."""
    config, file = _composed(overrides), own_file(overrides)
    check_method(_plain(config["method"]), file)
    try:
        content = OmegaConf.to_container(settle(config), resolve=True, throw_on_missing=True)
    except InterpolationKeyError as error:
        line = hydra_line(error, lambda: {**_plain(config), "recipes": shared_recipes()})
        raise InputError(f"{file}: {line}" if file and line.startswith("method.") else line) from error
    except OmegaConfBaseException as error:
        raise InputError(hydra_line(error, lambda: _plain(config))) from error
    sections: dict[str, Any] = json.loads(json.dumps(content))
    if sections["metrics"] is None:
        from bench.metrics import METRICS  # not above: it makes whoever imports it wait for SciPy

        sections["metrics"] = list(METRICS)
    check_code(sections, quote_overrides(overrides))
    method = sections["method"]
    method.pop("in_all", None)
    weights = frozenset(key for key in file_keys("method", method) if key.endswith("weights"))
    method |= {key: method.get(key) or {} for key in ("options", "inference")}  # a file may leave them empty
    method["options"] = replaced(method["options"], weights, _model_of)
    check_values(sections)
    return sections


def _model_of(weights: str) -> str:
    # A run folder stands for the model in it: whatever else it holds would count as weights.
    run = Path(weights)
    return str(run / "model") if (run / "config.yaml").is_file() and (run / "model").is_dir() else weights


def _composed(overrides: list[str]) -> DictConfig:
    """What Hydra composes, nothing chosen for size and budget yet; raises InputError naming the key."""
    overrides = quote_overrides(overrides)
    list(search_folders(overrides))  # says which is not there
    plugins.register(overrides)
    register_schema()
    try:
        return composed([_opened(override) for override in overrides])
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        files = [one for one in overrides if one.partition("=")[0] in (*FILES, "hydra.searchpath")]
        raise InputError(hydra_line(error, lambda: _plain(composed(files)))) from error


def _plain(config: DictConfig) -> dict[str, Any]:
    return cast("dict[str, Any]", OmegaConf.to_container(config))


def _opened(override: str) -> str:
    # What no schema knows: any metric may have a margin, and a recipe is checked by its own model.
    key, equals, value = override.lstrip("+").partition("=")
    key = re.sub(r"^method\.recipe(?=\.|$)", "method_recipe", key)
    return f"++{key}{equals}{value}" if re.match(r"(gate\.margins\.|(train|method_recipe)(\.|$))", key) else override


@dataclass(frozen=True)
class Cell:
    """One (method, dataset, seed) with its resolved configuration."""

    config: dict[str, Any]

    @property
    def method(self) -> str:
        """Name of the method."""
        return self.config["method"]["name"]

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        return self.config["dataset"]["name"]

    @property
    def seed(self) -> int:
        """Training and sampling seed."""
        return self.config["seed"]

    @property
    def id(self) -> str:
        """Readable name, as pytest shows it."""
        return f"{self.dataset}-{self.method}-seed{self.seed}"


def expand(overrides: list[str]) -> list[Cell]:
    """The cells of `methods` x `datasets` x `seeds`; `method=`, `dataset=` or `seed=` narrows to that one.

    `all` among the methods stands for every method whose file does not say `in_all: false`.
    Raises InputError for an unknown name or key before anything runs.
    """
    return [Cell(compose_config(one)) for one in cell_overrides(overrides)]


def cell_overrides(overrides: list[str]) -> list[list[str]]:
    """The overrides of every cell, each with one data set, method and seed.

    Of several methods (or data sets) those have a key `method.KEY` set that know it; one at least does.
    """
    axes = {"dataset": "datasets", "method": "methods", "seed": "seeds"}
    overrides = ["methods=[all]" if o == "methods=all" else o for o in overrides]
    chosen = {key: o.partition("=")[2] for o in overrides for key in axes if o.startswith(f"{key}=")}
    rest = [o for o in overrides if o.split("=")[0] not in axes]
    of_group = {group: [o for o in rest if o.lstrip("+~").startswith(f"{group}.")] for group in GROUPS}
    # Keys of a method or dataset may exist only in the group file that the matrix will choose.
    shared = [o for o in rest if o not in itertools.chain(*of_group.values())]
    values = {key: [chosen[key]] for key in chosen} | _matrix(shared, axes.keys() - chosen.keys())
    every = in_all(overrides) if "all" in values["method"] else []
    values["method"] = list(dict.fromkeys(m for name in values["method"] for m in (every if name == "all" else [name])))
    given = {group: _given(group, values[group], of_group[group], shared) for group in GROUPS}
    return [
        [f"dataset={d}", f"method={m}", f"seed={s}", *shared, *given["dataset"][d], *given["method"][m]]
        for d, m, s in itertools.product(values["dataset"], values["method"], values["seed"])
    ]


def _matrix(shared: list[str], axes: Collection[str]) -> dict[str, list[str]]:
    """The values of axes that no override chooses."""
    config = _composed(shared) if axes else {}
    values = {axis: list(dict.fromkeys(map(str, config[f"{axis}s"]))) for axis in axes}
    for axis, row in values.items():
        if not row:
            raise InputError(f"{axis}s is empty; name at least one")
    return values


def _given(group: str, names: list[str], overrides: list[str], shared: list[str]) -> dict[str, list[str]]:
    """The overrides of a group's keys for each of its names: all of them, but none of a key that only others have."""
    if len(names) == 1 or not overrides:
        return dict.fromkeys(names, overrides)
    search = [o for o in shared if o.startswith("hydra.searchpath=")]
    sections = {name: OmegaConf.to_container(_composed([f"{group}={name}", *search])) for name in names}
    stated = {o: o.partition("=")[0] for o in overrides if o[0] not in "+~" and not o.startswith("method.recipe.")}
    known = {o: [name for name in names if _has(sections[name], key)] for o, key in stated.items()}
    return {name: [o for o in overrides if not known.get(o) or name in known[o]] for name in names}


def _has(config: Any, key: str) -> bool:
    first, _, rest = key.partition(".")
    return isinstance(config, dict) and first in config and (not rest or _has(config[first], rest))


def idle_keys(overrides: list[str], cells: Iterable[Cell]) -> list[str]:
    """The keys of recipes among overrides, where no cell's method has a recipe."""
    given = {o.lstrip("+~").partition("=")[0].partition(".")[0] for o in overrides} & {"train", "recipe"}
    return [] if any(cell.config["method"]["recipe"] for cell in cells) else sorted(given)

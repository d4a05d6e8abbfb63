"""What a method's file says for the size and the budget that a profile picks, and the recipe it trains by.

`sizes` and `budgets` of the file fill what its other keys leave open (`???`), `recipes` holds a recipe per budget.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from pydantic import ValidationError

from bench.declared import CONF_DIR
from bench.errors import InputError
from bench.importing import import_by_name
from bench.keys import no_such_key

_OPEN = "???"


def settle(config: DictConfig) -> DictConfig:
    """A composed configuration with what size and budget choose; raises InputError naming what the method has not.

    A recipe is what is stated as `method.recipe.KEY`, then as `train.KEY`, then one chosen by name, then the method's
    own for the budget, or the general one where its file says `recipe: ${train}`.
    """
    name, budget, axes = config["method"]["name"], config["budget"], ("size", "budget")
    content = cast("dict[str, Any]", OmegaConf.to_container(config))
    method = content["method"]
    recipes, chosen, given, own = _recipes_of(content)
    for axis in axes:
        _fill(method, _choice(name, axis, f"{axis}s", method.pop(f"{axis}s", None), config[axis]))
    stated = method.get("recipe") or {}
    if recipes:
        # A recipe that is chosen by name is one for images.
        by_name = {} if (method.get("options") or {}).get("dims") == 3 else chosen
        whole = _choice(name, "budget", "recipes", recipes, budget) | by_name
        method["recipe"] = _checked(
            whole | given | stated | own,
            {"method.recipe": stated | own, "train": given, f"method {name}: recipes.{budget}": whole},
        )
    general = shared_recipes()["general"]
    base = general.get(budget, method.get("recipe")) if recipes else _choice(name, "budget", "recipes", general, budget)
    content["train"] = train = _checked(base | chosen | given, {"train": given})
    if not recipes and isinstance(stated, str):  # ${train}
        method["recipe"] = _checked(train | own, {"method.recipe": own}) if own else stated
    elif not recipes:  # of the method's own kind, or none
        if unknown := own.keys() - stated.keys():
            raise InputError(no_such_key(f"method.recipe.{min(unknown)}", stated))
        method["recipe"] = stated | own
    method.pop("recipes", None)
    method.setdefault("inference", {})
    return OmegaConf.create(content)


def _recipes_of(content: dict[str, Any]) -> list[Any]:
    """The method's recipes, and what `recipe`, `train` and `method_recipe` hold, which are taken out; all resolved."""
    of_method = content["method"].get("recipes")
    if isinstance(of_method, str) and (shared := re.fullmatch(r"\$\{recipes\.(\w+)\}", of_method)):
        of_method = shared_recipes().get(shared[1], of_method)
    sections = {"method.recipes": of_method, **{key: content[key] for key in ("recipe", "train", "method_recipe")}}
    if "${" in json.dumps(sections):  # OmegaConf takes long to make a tree
        tree = OmegaConf.create({**content, "recipes": _recipes_file(), **sections})
        sections = {key: _plain(tree[key]) for key in sections}
    for key in ("recipe", "train", "method_recipe"):
        del content[key]
    return list(sections.values())


def _plain(content: Any) -> Any:
    return OmegaConf.to_container(content, resolve=True) if OmegaConf.is_config(content) else content


@cache
def _recipes_file() -> Any:
    return OmegaConf.to_container(OmegaConf.load(CONF_DIR / "recipes.yaml"))


@cache
def shared_recipes() -> dict[str, Any]:
    """The recipes that methods share, by their name."""
    return _plain(OmegaConf.create({"recipes": _recipes_file()}))["recipes"]


def _choice(method: str, axis: str, plural: str, choices: Mapping[str, Any] | None, chosen: str) -> dict[str, Any]:
    """The entry of a choice, empty where the method makes no difference there."""
    if not choices:
        return {}
    if chosen not in choices:
        raise InputError(f"{axis}={chosen}: the {plural} of method {method} are {', '.join(choices)}; choose one")
    return choices[chosen] or {}


def _fill(section: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Take from `more` what a section leaves open."""
    for key, value in more.items():
        if section.get(key, _OPEN) == _OPEN:
            section[key] = value
        elif isinstance(value, dict) and isinstance(section[key], dict):
            _fill(section[key], value)


def _model() -> Any:
    return import_by_name(_recipes_file()["checked_by"])


def lacks_recipe(error: BaseException, method: Mapping[str, Any]) -> bool:
    """Whether a method's code failed for a key of a recipe that its file does not ask for."""
    return isinstance(error, KeyError) and not method.get("recipe") and str(error).strip("'") in _model().model_fields


def _checked(recipe: dict[str, Any], given: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A whole recipe, with all its keys; InputError naming the key, by the section among `given` that holds it."""
    model = _model()
    try:
        return model.model_validate(recipe).model_dump(mode="json")
    except ValidationError as error:
        # A misspelt key leaves another one missing.
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    name, kind = str(first["loc"][0]), first["type"]
    section = next((section for section, keys in given.items() if name in keys), list(given)[-1])
    if kind == "extra_forbidden":
        raise InputError(no_such_key(f"{section}.{name}", model.model_fields))
    value = "" if kind == "missing" else f"={first['input']}"
    raise InputError(f"{section}.{name}{value}: {first['msg']}")

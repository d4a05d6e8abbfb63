"""What methods are of a size and a budget: the profile picks, the method's file says, whoever states a key wins."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bench.config import compose_config, expand, idle_keys
from bench.declared import CONF_DIR, shipped
from bench.errors import InputError

MINE = """
name: mine
target: baselines.supervised.supervised_segmenter
options: {network: monai.networks.nets.BasicUNet, options: {features: "???"}}
"""
SIZES = "sizes: {tiny: {options: {options: {features: [8, 8, 8, 8, 8, 8]}}}}\n"
WHOLE = "options: {options: {features: [9, 9, 9, 9, 9, 9]}}\n"


@pytest.fixture
def mine(tmp_path: Path):
    """Compose a method `mine` whose file goes on with a text."""
    (tmp_path / "method").mkdir()

    def composed(text: str, *overrides: str, head: str = MINE) -> dict[str, Any]:
        (tmp_path / "method" / "mine.yaml").write_text(head + text)
        return compose_config([f"hydra.searchpath=[{tmp_path}]", "method=mine", *overrides])["method"]

    return composed


def features(method: dict[str, Any]) -> int:
    return method["options"]["options"]["features"][0]


def test_a_profile_picks_and_what_is_stated_wins(mine) -> None:
    recipes = "recipes: {smoke: {steps: 3, batch_size: 2, lr: 1e-3}}\n"
    method = mine(SIZES + recipes)
    assert (features(method), method["recipe"]["steps"], method["recipe"]["decay"]) == (8, 3, "constant")
    assert mine(SIZES + recipes, "recipe=fast", "train.steps=7")["recipe"]["batch_size"] == 16
    method = mine(SIZES + recipes, "train.steps=7", "method.recipe.steps=9", "method.options.options.features=[5]")
    assert (features(method), method["recipe"]["steps"]) == (5, 9)


def test_a_child_says_what_it_does_otherwise(mine) -> None:
    head = "defaults: [unet, _self_]\nname: mine\n"
    assert features(mine("", head=head)) == 16
    assert features(mine("", "size=paper", head=head)) == 64
    assert features(mine(WHOLE, "size=paper", head=head)) == 9
    recipe = mine("recipe: {steps: 4}\n", head=head)["recipe"]
    assert (recipe["steps"], recipe["validate_every"]) == (4, 75)


@pytest.mark.parametrize("recipe", ["${train}", "{epochs: 3}", "{}"])
def test_a_file_without_sizes_and_recipes(recipe: str, mine) -> None:
    text = f"recipe: {recipe}\n"
    found = mine(text, "method.options.options.features=[5]")["recipe"]
    assert found.get("steps") == (300 if "train" in recipe else None)
    if recipe != "{}":
        key = "steps" if "train" in recipe else "epochs"
        changed = mine(text, "method.options.options.features=[5]", f"method.recipe.{key}=7")["recipe"]
        assert changed == {**found, key: 7}
    else:
        with pytest.raises(InputError, match=r"method\.recipe\.steps: no such key; method\.recipe has none"):
            mine(text, "method.options.options.features=[5]", "method.recipe.steps=7")


@pytest.mark.parametrize(
    ("text", "override", "said"),
    [
        (SIZES, "size=paper", r"size=paper: the sizes of method mine are tiny; choose one"),
        (SIZES + "recipes: {cpu: {steps: 3}}\n", "budget=smoke", r"budget=smoke: the recipes of method mine are cpu"),
        (
            SIZES + "recipes: {smoke: {steps: 3}}\n",
            "draws=1",
            r"method mine: recipes\.smoke\.batch_size: Field",
        ),
        ("", "draws=1", r"method\.options\.options\.features must be given"),
        ("recipe: ${train}\n" + SIZES, "budget=huge", r"budget=huge: the recipes of method mine are smoke, cpu"),
        (SIZES, "train.stesp=3", r"train\.stesp: no such key; train\.steps perhaps; known are .*batch_size"),
        (SIZES, "train.steps=many", r"train\.steps=many: Input should be a valid integer"),
        (SIZES, "unet_features=[8]", r"unet_features: no such key; an option of a method is method\.options"),
        (SIZES, "autoencoder=KL", r"autoencoder: no such key.* method\.options\.autoencoder"),
        (SIZES, "nnunet.trainer=T", r"nnunet\.trainer: no such key.* method\.options\.trainer"),
        (
            SIZES,
            "architecture=paper",
            r"architecture: no such key.* method\.options\.architecture",
        ),
        ("options: {width: ?}\n", "draws=1", r"while parsing .*mine\.yaml"),
        (
            SIZES,
            "method.options.netwrok=x",
            r"method\.options\.netwrok: no such key; method\.options\.network perhaps",
        ),
        (SIZES, "dataset.n_tets=1", r"dataset\.n_tets: no such key; dataset\.n_test perhaps; known are .*n_train"),
        (SIZES, "method.inference.steps=1", r"method\.inference\.steps: no such key; known are name, opt"),
        (SIZES, "measure.round=1", r"measure\.round: no such key; measure\.rounds perhaps; known are batch_sizes"),
        (
            SIZES + "recipes: {smoke: {stepps: 3}}\n",
            "draws=1",
            r"method mine: recipes\.smoke\.stepps: no such key; recipes\.smoke\.steps perhaps",
        ),
        ("files: [weights]\n", "draws=1", r"method\.options\.options\.features must be given.*features=VALUE$"),
        ("", "dataset=folder method.options.options.features=[5]", r"dataset\.root must be given.*root=PATH$"),
        (SIZES, "trian.steps=3", r"trian\.steps: no such key; train\.steps perhaps"),
    ],
)
def test_what_a_method_has_not_is_one_line(text: str, override: str, said: str, mine) -> None:
    with pytest.raises(InputError, match=f"^{said}"):
        mine(text, *override.split())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "sizes: {tiny: {option: {network: 1}}}",
            r"sizes\.tiny\.option: no such key; sizes\.tiny\.options perhaps",
        ),
        ("budgets: {smoke: {optoins: {network: 1}}}", r"budgets\.smoke\.optoins: no such key"),
        ("nois: 3", r"nois: no such key; known are budgets"),
        ("files: [nope]", r"files: nope: no such key; known are network, options"),
        ("code: [netwrok]", r"code: netwrok: no such key; network perhaps"),
        ("files: network", r"files: expected a list, files: \[network\]"),
        ("recipe: ${trian}", r"method\.recipe=\$\{trian\}: no such key; train perhaps"),
        (
            "recipes: ${recipes.supervisd}",
            r"method\.recipes=\$\{recipes\.supervisd\}: no such key; recipes\.superv",
        ),
    ],
)
def test_a_file_with_a_misspelt_key_is_named(text: str, said: str, mine) -> None:
    with pytest.raises(InputError, match=rf"^\S*/mine\.yaml: {said}"):
        mine(f"{text}\n", "method.options.options.features=[5]")


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("", "name: is missing"),
        ("name: mine\n", "target: is missing"),
        ("name: mine\ntargett: x.y\n", "targett: no such key; target perhaps"),
        ("target: baselines.supervised.supervised_segmenter\n", "name: is missing"),
        (MINE.replace("mine", "other"), "name: other: expected name: mine, as the file's"),
        ("defaults: [unet, _self_]\n", "name: unet: expected name: mine, as the file's"),
    ],
)
def test_a_file_without_its_name_or_target_is_named(head: str, said: str, mine) -> None:
    with pytest.raises(InputError, match=rf"^\S*/mine\.yaml: {said}"):
        mine("", head=head)


def test_a_folder_that_is_not_there_is_named() -> None:
    for ask in (compose_config, expand):
        with pytest.raises(InputError, match=r"^hydra\.searchpath=\[nowhere\]: no such folder"):
            ask(["hydra.searchpath=[nowhere]", "method=colour"])


def test_of_several_methods_those_take_an_option_that_have_it() -> None:
    given = ["methods=[sdseg,unet]", "method.options.prediction=z0"]
    options = {cell.method: cell.config["method"]["options"] for cell in expand(given)}
    assert options["sdseg"]["prediction"] == "z0"
    assert "prediction" not in options["unet"]
    with pytest.raises(InputError, match="nonexistent"):
        expand([*given, "method.options.nonexistent=1"])


def test_keys_that_change_nothing_are_named() -> None:
    for overrides, idle in (
        (["method=unet", "train.steps=3"], []),
        (["method=predictions", "method.options.root=.", "train.steps=3"], ["train"]),
    ):
        assert idle_keys(overrides, expand(overrides)) == idle


def test_the_schema_and_the_profiles_name_no_method() -> None:
    names = "|".join(section["name"] for group, section in shipped() if group == "method")
    for path in [CONF_DIR.parent / "config.py", *(CONF_DIR / "profile").glob("*.yaml")]:
        text = re.sub(r"^methods: \[.*?\]", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        assert re.findall(rf"\b({names})\b", text) == [], path

"""`bench.composing` against Hydra, which composes every list of overrides as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hydra.errors import HydraException
from omegaconf import OmegaConf

from bench import composing
from bench.config import compose_config, register_schema
from bench.declared import CONF_DIR, GROUPS


def by_hydra(overrides: list[str]) -> str:
    return OmegaConf.to_yaml(composing._by_hydra(overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        ["dataset=phantom/organs", "method=sdseg_fast", "seed=3"],
        ["method=leaf", "profile=paper", "recipe=fast", "protocol=nnunet", "image_size=96", "image_size=128"],
        ["method=unet", "method.options.dims={a: [1, 2]}", "++train.steps=7", "+method.sweep=[steps]"],
        ["dataset={name: mine}", "runs_dir=${oc.env:HOME}", "method.name='a b'", "metrics=[Dice]"],
        ["~method.options.dims", "method=unet"],
        ["gate.slower=1.5", "seeds=[1,2]"],
        [],
    ],
)
def test_composes_as_hydra_does(overrides: list[str]) -> None:
    register_schema()
    assert OmegaConf.to_yaml(composing.composed(overrides)) == by_hydra(overrides)


def test_files_over_others_are_merged_as_hydra_does() -> None:
    register_schema()
    over_others = [path for path in (CONF_DIR / "method").glob("*.yaml") if "\ndefaults:" in f"\n{path.read_text()}"]
    assert len(over_others) > 10
    for path in over_others:
        whole = composing._by_hydra([f"method={path.stem}"])["method"]
        assert OmegaConf.to_yaml(composing._section("method", path.stem)) == OmegaConf.to_yaml(whole), path


@pytest.mark.parametrize(
    "overrides",
    [["seed=x"], ["nosuch=1"], ["method=nosuch"], ["method.nosuch=1"], ["seed=1,2"], ["+seed=1"], ["method=[a,b]"]],
)
def test_says_what_hydra_says(overrides: list[str]) -> None:
    register_schema()
    with pytest.raises(HydraException) as whole:
        by_hydra(overrides)
    with pytest.raises(HydraException) as ours:
        composing.composed(overrides)
    assert str(ours.value) == str(whole.value)


def test_a_configuration_is_its_askers_own() -> None:
    compose_config(["method=unet"])["method"]["options"]["dims"] = 7
    composing.composed(["method=unet"])["method"]["options"]["dims"] = 7
    assert compose_config(["method=unet"])["method"]["options"]["dims"] == 2


def test_files_of_methods_and_data_sets_fill_their_own_section() -> None:
    """What `bench.composing` rests on: no file reaches into a section of another group."""
    for path in CONF_DIR.rglob("*.yaml"):
        group, text = path.relative_to(CONF_DIR).parts[0], path.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
        if group in GROUPS:
            assert "@" not in text.split("\n", 1)[0], path
            assert not [one for one in content.get("defaults", ()) if not isinstance(one, str) or "/" in one], path
        elif "@package" in text:
            assert group == "profile", path
            assert not content.keys() & {*GROUPS, "defaults"}, path
        elif group in ("protocol", "recipe"):
            assert "defaults" not in content, path


def test_an_edited_file_of_somebodys_folder_is_seen(tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    path = tmp_path / "method" / "mine.yaml"
    chosen = [f"hydra.searchpath=[{tmp_path}]", "method=mine"]
    for width in (3, 4):
        path.write_text(f"defaults: [unet, _self_]\nname: mine\noptions: {{width: {width}}}\n", encoding="utf-8")
        assert compose_config(chosen)["method"]["options"]["width"] == width

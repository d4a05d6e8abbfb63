"""Code runs only where an installed configuration or an entry point names it, whatever a run folder says (law 11)."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from bench import cli
from bench.config import compose_config
from bench.errors import InputError
from bench.results.store import RunFolder
from bench.trust import check_code, todays_names
from sdseg.architecture import ARCHITECTURES
from sdseg.config import SDSegConfig
from sdseg.model import SDSeg
from tests.test_cli import make_folder
from tests.test_outputs import QUICK

pytestmark = pytest.mark.usefixtures("no_lpips")

MINE = """
import pathlib
pathlib.Path({mark!r}).write_text("ran")
from baselines.supervised import supervised_segmenter
def build(network=None, **options):
    return supervised_segmenter(network="monai.networks.nets.BasicUNet", **options)
"""


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("fitted")
    data = [f"dataset.root={make_folder(base / 'data', 6)}", "dataset=folder"]
    assert cli.main(["fit", "method=unet", *data, f"runs_dir={base / 'runs'}", *QUICK]) == 0
    (folder,) = (base / "runs").glob("folder/unet/seed0-*")
    return folder


@pytest.fixture
def foreign(fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder of somebody's who has a module of his own, which leaves the file `ran`."""
    (tmp_path / "somebodys.py").write_text(MINE.format(mark=str(tmp_path / "ran")))
    monkeypatch.syspath_prepend(tmp_path)
    return shutil.copytree(fitted, tmp_path / "run")


def change(run: Path, **method: object) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    for key, value in method.items():
        section = config["method"] if key in ("target", "card") else config["method"]["options"]
        section[key] = value
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    folder = RunFolder(run)
    folder.write_fit_facts(folder.fit_facts() or {})  # a whole run folder, as its maker left it


@pytest.mark.parametrize("verb", ["segment", "export"])
@pytest.mark.parametrize(
    "names",
    [
        {"target": "somebodys.build"},
        {"network": "somebodys.build"},
        {"target": "baselines.predictions.predictions_segmenter", "find": "somebodys.build"},
        {"target": "torch.hub.load", "repo_or_dir": "somebody/evil"},
    ],
)
def test_a_run_folder_does_not_choose_the_code(
    verb: str, names: dict[str, str], foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(foreign, **names)
    inputs = [str(foreign)] if verb == "export" else [str(foreign.parent / "images"), "--model", str(foreign)]
    make_folder(tmp_path, 1)
    assert cli.main([verb, *inputs, "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: {foreign / 'config.yaml'}: method.")
    assert "--trust" in message
    assert next(name for name in names.values() if not name.startswith("baselines.")) in message
    assert not (tmp_path / "ran").exists()


def test_what_the_user_names_runs(foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(foreign, target="somebodys.build")
    images, ran = make_folder(tmp_path, 1) / "images", tmp_path / "ran"
    arguments = ["segment", str(images), "--model", str(foreign), "--out", str(tmp_path / "out")]
    (tmp_path / "conf" / "method").mkdir(parents=True)
    (tmp_path / "conf" / "method" / "mine.yaml").write_text("name: mine\ntarget: somebodys.build\n")
    assert cli.main([*arguments, f"hydra.searchpath=[{tmp_path / 'conf'}]"]) == 0
    ran.unlink()
    monkeypatch.delitem(sys.modules, "somebodys")
    assert cli.main([*arguments, "--trust"]) == 0
    assert ran.exists()
    assert cli.main([*arguments, "method=unet"]) == 2


@pytest.mark.parametrize(
    "override",
    [
        "method.target=os.system",
        "+method.card=os.system",
        "+method.requires=os.path",
        "method.options.network=os.system",
        "method.options={network: os.system}",
        "+method.options.options._target_=os.system",
        "dataset.target=os.system",
    ],
)
def test_the_command_line_names_no_code(override: str) -> None:
    with pytest.raises(InputError, match=r"=os\.(system|path): code that no installed"):
        compose_config(["method=unet", override])


@pytest.mark.parametrize("option", ["find", "read_masks", "read_score"])
def test_every_option_that_names_code_is_covered(option: str) -> None:
    with pytest.raises(InputError, match=rf"method\.options\.{option}=os\.system"):
        compose_config(["method=predictions", "method.options.root=x", f"method.options.{option}=os.system"])


@pytest.mark.parametrize("verb", ["segment", "export"])
def test_a_run_of_before_a_refactoring_finds_todays_code(
    verb: str, fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = shutil.copytree(fitted, tmp_path / "run")
    change(old, target="baselines.an.old.room.supervised_segmenter", weights=str(tmp_path / "gone.pt"))
    if verb == "segment":
        images = make_folder(tmp_path, 1) / "images"
        assert cli.main(["segment", str(images), "--model", str(old), "--out", str(tmp_path / "out")]) == 0
    else:  # a U-Net has no single step to export, and says so when it is built
        assert cli.main(["export", str(old), "--out", str(tmp_path / "out.onnx")]) == 2
        assert "config.yaml" not in capsys.readouterr().err


def test_files_that_a_run_started_from_may_be_gone(tmp_path: Path) -> None:
    SDSeg(SDSegConfig(architecture=ARCHITECTURES["tiny"])).save_pretrained(tmp_path / "W")
    data = [f"dataset.root={make_folder(tmp_path / 'data', 6)}", "dataset=folder", f"runs_dir={tmp_path / 'runs'}"]
    given = ["method=sdseg_pretrained", f"method.options.weights={tmp_path / 'W'}", "image_size=32"]
    assert cli.main(["fit", *data, *given]) == 0
    shutil.rmtree(tmp_path / "W")
    (run,) = (tmp_path / "runs").glob("folder/sdseg_pretrained/seed0-*")
    images = str(tmp_path / "data" / "images" / "case03.png")
    assert cli.main(["segment", images, "--model", str(run), "--out", str(tmp_path / "out")]) == 0


def test_names_of_before_a_refactoring_are_todays() -> None:
    old = {"find": "bench.pairing.find_files", "read_masks": "bench.masks.predictions.PredictedMasks"}
    section = {"target": "baselines.predictions.predictions_segmenter", "options": {**old, "root": "os.system"}}
    today = compose_config(["method=predictions", "method.options.root=x"])["method"]
    renamed = todays_names(section)
    assert {key: renamed["options"][key] for key in old} == {key: today["options"][key] for key in old}
    assert (renamed["target"], renamed["options"]["root"]) == (today["target"], "os.system")


def test_entry_points_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("theirs", "their.module:build", "sdseg.methods")
    found = {"sdseg.methods": [point]}
    monkeypatch.setattr("bench.trust.entry_points", lambda group: found.get(group, []))
    check_code({"method": {"target": "their.module.build"}})
    with pytest.raises(InputError, match=r"their\.module\.other"):
        check_code({"method": {"target": "their.module.other"}})


def test_a_file_says_itself_which_options_name_code(tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_text(
        "defaults: [unet, _self_]\nname: mine\ncode: [network, backbone]\noptions: {options: {backbone: a.b}}\n"
    )
    search = f"hydra.searchpath=[{tmp_path}]"
    config = compose_config([search, "method=mine"])
    assert config["method"]["options"]["options"]["backbone"] == "a.b"
    assert config["method"]["code"] == ["network", "backbone"]  # whose source counts (`bench.sources`)
    with pytest.raises(InputError, match=r"method\.options\.options\.backbone=os\.system"):
        compose_config([search, "method=mine", "method.options.options.backbone=os.system"])

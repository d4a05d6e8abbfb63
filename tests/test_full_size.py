"""The paper's networks at 256 x 256 through the whole harness: two training steps and a few images of every method."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench import cli
from bench.config import compose_config
from bench.record import read_record
from sdseg.architecture import ARCHITECTURES
from sdseg.mask_codec import build_autoencoder
from tests.test_cli import make_folder

pytestmark = pytest.mark.full
METHODS = compose_config(["profile=paper"])["methods"]
VOLUMES = ("swin_unetr_3d", "diff_unet_3d", "nnunet")
FEW = [
    "train.steps=2",
    "train.validate_every=2",
    "train.batch_size=1",
    "draws=1",
    "predict_batch_size=1",
    "metrics=[Dice]",
]
ONCE = ["method.inference.steps=1", "method.inference.samples=1"]  # of 50 x 25


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images, and an autoencoder of Stable Diffusion's shape that has learned nothing."""
    base = tmp_path_factory.mktemp("full")
    make_folder(base / "data", count=6, size=64)
    build_autoencoder(ARCHITECTURES["paper"]).save_pretrained(base / "vae")
    return base


@pytest.mark.parametrize("profile", ["paper", "gpu"])
@pytest.mark.parametrize("method", [name for name in METHODS if name not in VOLUMES])
def test_every_method_trains_predicts_and_is_scored(method: str, profile: str, place: Path) -> None:
    config = compose_config([f"profile={profile}", f"method={method}"])["method"]
    if (package := config.get("requires")) and find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    given = [f"profile={profile}", f"method={method}", "dataset=folder", f"dataset.root={place / 'data'}", *FEW]
    if "autoencoder" in config["options"]:
        given.append(f"method.options.autoencoder={place / 'vae'}")
    given += [one for one in ONCE if one.split(".")[-1].partition("=")[0] in config["inference"]]
    assert cli.main(["run", *given, "device=cpu", "seeds=[0]", f"runs_dir={place / 'runs'}"]) == 0
    (path,) = place.glob(f"runs/folder/{method}/seed*/record.json")
    record = read_record(path)
    assert record.profile == profile
    assert record.config["image_size"] == 256
    shutil.rmtree(path.parent)  # gigabytes

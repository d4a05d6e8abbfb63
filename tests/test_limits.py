"""Whatever would fail after training is refused before it, by the name of its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from bench import cli
from bench.errors import InputError
from bench.limits import check_numbers
from tests.test_cli import QUICK, make_folder, refused

BAD = """
    draws=0 draws=-1 predict_batch_size=0 image_size=-64 threads=0 seed=-1 seed=9223372036854775808 measure.rounds=0
    measure.batch_sizes=[1,0] measure.seconds=nan measure.warmup=-1 train.lr=inf train.ema_decay=1
    train.max_grad_norm=-1 train.workers=-1 dataset.channels=0 dataset.seed=-2
    dataset.split=[0.9,-0.1,0.2] method.inference.steps=0 method.options.latent_weight=-1
    method.options.label_lr_scale=-1
"""


@pytest.mark.parametrize("override", BAD.split())
def test_numbers_are_refused_by_their_key(override: str) -> None:
    parsed = OverridesParser.create().parse_override(override)
    content: Any = parsed.value()
    for word in reversed(parsed.key_or_group.split(".")):
        content = {word: content, "target": "sdseg.x"}
    with pytest.raises(InputError, match=f"^{parsed.key_or_group}="):
        check_numbers(content)


REFUSED_FIRST = ("draws=0", "train.lr=0", "train.crops_on_target=1.5", "dataset.split=[0.9,-0.1,0.2]")


@pytest.mark.parametrize("override", REFUSED_FIRST)
def test_the_command_refuses_them_first(override: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = ["run", "method=sdseg", "dataset=folder", f"dataset.root={tmp_path}", f"runs_dir={tmp_path / 'runs'}"]
    refused([*arguments, override], override.partition("=")[0], capsys)
    assert not (tmp_path / "runs").exists()


def test_what_may_be_negative_or_is_not_ours_passes() -> None:
    check_numbers({"dataset": {"target": "bench.x", "intensity": [-175, 250], "labels": {"a": -1}}})
    check_numbers({"method": {"target": "mine.build", "options": {"steps": -5}}, "gate": {"margin": -1}})
    with pytest.raises(InputError, match=r"method.options.width=-5: expected a number above 0"):
        check_numbers({"method": {"target": "sdseg.x", "options": {"width": -5}}})


@pytest.mark.parametrize("name", ["ü" * 124 + "x"])
def test_a_name_that_cannot_be_stored(name: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = make_folder(tmp_path / "data")
    for folder in ("images", "masks"):
        (data / folder / "case03.png").rename(data / folder / f"{name}.png")
    (tmp_path / "m.csv").write_text(
        "case,split\n"
        + "".join(f"case{i:02d},{'train' if i < 8 else 'val'}\n" for i in range(10) if i != 3)
        + f"{name},test\n"
    )
    arguments = ["dataset=folder", f"dataset.root={data}", f"dataset.manifest={tmp_path / 'm.csv'}", *QUICK]
    refused(["run", "method=unet", *arguments, f"runs_dir={tmp_path / 'runs'}"], "rename it", capsys)
    assert not (tmp_path / "runs").exists()


def test_a_light_decoder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = ["dataset=folder", f"dataset.root={make_folder(tmp_path / 'data')}", f"runs_dir={tmp_path / 'runs'}"]
    missing = f"method.inference.light_decoder={tmp_path / 'none.safetensors'}"
    refused(["run", "method=sdseg_fast", *data, missing, *QUICK], "none.safetensors", capsys)
    assert not list((tmp_path / "runs").rglob("training.pt"))
    assert cli.BAD_INPUT == 2

"""The network like Li-SegPNet: it learns, takes images of any size, and is never called what it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import sdseg  # noqa: F401 - first, so that torchvision can be imported
from baselines.networks.li_segpnet import LiSegPNet, TripletAttention
from bench.build import build_segmenter
from bench.config import compose_config
from bench.types import TaskSpec
from reports.frame import read_frame
from reports.tables import accuracy
from tests.report_fixtures import dice_rows, rows_of, write_run


def image(count: int, channels: int, *size: int) -> torch.Tensor:
    return torch.rand((count, channels, *size), generator=torch.Generator().manual_seed(1)) * 2 - 1


def method(profile: str) -> dict[str, Any]:
    return compose_config([f"profile={profile}", "method=li_segpnet"])["method"]


def test_it_trains_and_segments_grey_images_of_any_size(tmp_path: Path) -> None:
    short = ["train.steps=2", "train.batch_size=2", "train.warmup=0"]  # timm's residual branches begin at 0
    config = compose_config(["profile=smoke", "method=li_segpnet", "device=cpu", *short])
    segmenter = build_segmenter(config, TaskSpec(1, ("a", "b"), (40, 56), 2))
    before = {name: p.clone() for name, p in segmenter.model.named_parameters()}
    shown = [{"image": x, "mask": x.repeat(2, 1, 1) > 0, "case_id": str(i)} for i, x in enumerate(image(3, 1, 40, 56))]
    segmenter.fit(shown, shown[:1], tmp_path)
    assert not [name for name, p in segmenter.model.named_parameters() if torch.equal(p, before[name])]
    score, mask = segmenter.predict(image(1, 1, 33, 70), [torch.Generator()])
    assert score.shape == mask.shape == (1, 2, 33, 70)
    assert score.std() > 0


def test_triplet_attention_gates_each_axis_by_its_own_filter() -> None:
    attention, x = TripletAttention(4).eval(), image(1, 4, 8, 12)
    mixed: list[torch.Tensor] = []
    attention.mix.register_forward_pre_hook(lambda _, inputs: mixed.append(inputs[0]))
    for shut in range(3):
        for axis, gate in enumerate(attention.gates):
            # Open (weight 1/2 everywhere) or shut, whatever it sees.
            gate[0].weight.data.zero_()
            gate[1].bias.data.fill_(-50.0 if axis == shut else 0.0)
        attention(x)
        branches = mixed.pop().chunk(3, dim=1)
        for axis, branch in enumerate(branches):
            torch.testing.assert_close(branch, torch.zeros_like(x) if axis == shut else x / 2)


def test_an_encoder_file_is_where_training_starts(tmp_path: Path) -> None:
    network = LiSegPNet(3, 1, "resnet18", 8)
    wanted = {name: tensor + 1 for name, tensor in network.backbone.state_dict().items()}
    torch.save({**wanted, "fc.weight": torch.zeros(1000, 512)}, tmp_path / "resnet18.pth")
    network.load_pretrained(str(tmp_path / "resnet18.pth"))
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in network.backbone.state_dict().items())
    with pytest.raises(ValueError, match=r"resnet18\.pth: does not fit .*expected the encoder resnet50"):
        LiSegPNet(3, 1, "resnet50", 8).load_pretrained(str(tmp_path / "resnet18.pth"))


def test_no_table_shows_it_as_the_paper_s(tmp_path: Path) -> None:
    for profile in ("smoke", "cpu", "gpu", "paper"):
        assert method(profile)["fidelity"] == "approximation"
    config = {"method": {"name": "li_segpnet"}}
    scores = dice_rows({"a": 0.9})
    write_run(tmp_path, "li_segpnet", scores=scores, fidelity=method("paper")["fidelity"], config=config)
    write_run(tmp_path, "ssformer", scores=scores, fidelity="reimplemented")
    table = accuracy.build(read_frame(tmp_path))
    names = {row["method"] for row in table.rows if row.get("fidelity") != "published"}
    assert {"li_segpnet [approximation]", "ssformer"} <= names
    assert "li_segpnet" not in names
    assert rows_of(table, method="li_segpnet [approximation]")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 4}, "Li-SegPNet is shown 4 channels: it sees RGB images"),
        ({"spatial_dims": 3}, "dims=3: Li-SegPNet sees images"),
        ({"encoder": "resnet5"}, r"options\.encoder=resnet5: Unknown model"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LiSegPNet(**{"in_channels": 3, "out_channels": 1, **options})

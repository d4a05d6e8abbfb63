"""Three steps of AdamW and the averaging, and the learning-rate schedule, beside the released code's values."""

from __future__ import annotations

import copy

import pytest
import torch

from sdseg.model import SDSeg
from sdseg.training.ema import Ema
from sdseg.training.recipe import Recipe
from sdseg.weights.official import official_unet, official_vision
from tests.parity.golden import UNET, Golden
from tests.parity.test_losses import check_losses, training_loss

PAPER = Recipe(steps=100_000, batch_size=4, lr=4e-5, warmup=10_000)
RATES = {"official_warmup": PAPER, "constant_1e-3": Recipe(steps=3, batch_size=4, lr=1e-3)}


def weights(model: SDSeg, unet_only: bool = False) -> dict[str, torch.Tensor]:
    by_name = {UNET + n: t.clone() for n, t in official_unet(model, model.denoiser.unet.state_dict()).items()}
    if not unet_only:
        vision = official_vision(model, model.vision_encoder.state_dict())
        by_name |= {f"cond_stage_model.{n}": t.clone() for n, t in vision.items()}
    return by_name


def check_norms(golden: Golden, item: str, kind: str, now: dict, start: dict, step: dict) -> None:
    for name, expected in step[f"{kind}_norm"].items():
        golden.check_number(f"{item}/{kind}_norm/{name}", float(now[name].norm()), expected, "optim", floor=2e-5)
    for name, expected in step[f"{kind}_delta_norm"].items():
        moved = float((now[name].double() - start[name].double()).norm())
        golden.check_number(f"{item}/{kind}_delta_norm/{name}", moved, expected, "optim", floor=1e-3)


@pytest.mark.parametrize("name", list(RATES))
def test_three_steps(tiny: Golden, tiny_model: SDSeg, name: str) -> None:
    model, recipe = copy.deepcopy(tiny_model), RATES[name]
    golden = tiny.json("optim")["runs"][name]
    optimizer = torch.optim.AdamW(model.parameter_groups(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    ema, start = Ema(model.averaged, recipe.ema_decay), weights(model)
    for i, step in enumerate(golden["steps"]):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * recipe.lr_factor(i)
        losses = training_loss(tiny, model, f"opt/step{i}", step["t"])
        check_losses(tiny, f"{name}/steps[{i}]", losses, step, "optim")
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        ema.update()
        assert ema.updates == step["ema_num_updates"]
        if name != "official_warmup":  # whose first updates vanish in float32
            check_norms(tiny, f"{name}/steps[{i}]", "param", weights(model), start, step)
            with ema.applied():
                check_norms(tiny, f"{name}/steps[{i}]", "ema", weights(model, unet_only=True), start, step)
    after = golden["loss_on_step0_batch_after_3_steps"]
    with torch.no_grad():
        losses = training_loss(tiny, model, "opt/step0", golden["steps"][0]["t"])
    check_losses(tiny, f"{name}/loss_on_step0_batch_after_3_steps", losses, after, "optim")


def test_learning_rate(tiny: Golden) -> None:
    for row in tiny.json("optim")["lr_schedule"]:
        assert PAPER.lr_factor(row["step"]) == pytest.approx(row["factor"], rel=1e-9), row["step"]
        assert PAPER.lr * PAPER.lr_factor(row["step"]) == pytest.approx(row["lr"], rel=1e-9)

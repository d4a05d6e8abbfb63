"""Single step, DDIM and the released evaluation loop beside the released code's values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sdseg.labels import Prediction
from sdseg.model import SDSeg
from sdseg.sampling import ddim
from sdseg.weights.official import sdseg_from_official
from tests.parity import procedural
from tests.parity.folder import log
from tests.parity.golden import Golden
from tests.parity.test_networks import check_pixels


def check_single_step(golden: Golden, model: SDSeg, item: str) -> None:
    size = golden.latent
    image = golden.input("onestep/image", 1, 3, golden.side, golden.side, image=True)
    z_T, t = golden.input("onestep/z_T", 1, 4, size, size), torch.tensor([999])
    z_c = model.condition(image)
    eps = model.denoiser(z_T, z_c, t)
    z0 = model.schedule.predict_z0(z_T, eps, t)
    golden.check(f"{item}.z_c", z_c)
    golden.check(f"{item}.eps", eps)
    golden.check(f"{item}.z0", z0)
    check_pixels(golden, f"{item}.decoded", model.codec.decode(z0))
    answer = model.single_step(image, z_T)
    golden.check(f"{item}.score", answer.score[0])
    golden.check_mask(f"{item}.mask", answer.score[0], answer.mask[0])


@torch.no_grad()
def test_single_step(golden: Golden, model: SDSeg) -> None:
    check_single_step(golden, model, "onestep")


@torch.no_grad()
def test_single_step_with_averaged_weights_of_their_own(tiny: Golden) -> None:
    check_single_step(tiny, sdseg_from_official(tiny.official_state(own_ema=True)), "onestep_ema")


def sample_ddim(golden: Golden, model: SDSeg, eta: float) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """z0, the first step's estimate, and the time steps in call order, on the released grid."""
    side, size, seen = golden.side, golden.latent, []
    z_c = model.condition(golden.input("onestep/image", 1, 3, side, side, image=True))

    def denoise(z_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        z0 = model.schedule.predict_z0(z_t, model.denoiser(z_t, z_c, t), t)
        seen.append((int(t), z0))
        return z0

    noise = [golden.input(f"ddim/noise_{i}", 1, 4, size, size) for i in range(10)] if eta else None
    z_T = golden.input("ddim/z_T", 1, 4, size, size)
    z0 = ddim(denoise, z_T, model.schedule, 10, eta, "leading", noise)
    return z0, seen[0][1], [t for t, _ in seen]


@torch.no_grad()
def test_ddim(golden: Golden, model: SDSeg) -> None:
    z0, first, t = sample_ddim(golden, model, eta=0.0)
    assert t == golden.scalars["ddim.eta0"]["timesteps_in_call_order"]
    golden.check("ddim.eta0.pred_x0_first", first)
    golden.check("ddim.eta0.z0", z0)
    check_pixels(golden, "ddim.eta0.decoded", model.codec.decode(z0))


@torch.no_grad()
def test_ddim_with_noise_in_every_step(tiny: Golden, tiny_model: SDSeg) -> None:
    z0, first, t = sample_ddim(tiny, tiny_model, eta=1.0)
    assert t == tiny.scalars["ddim.eta1"]["timesteps_in_call_order"]
    tiny.check("ddim.eta1.pred_x0_first", first)
    tiny.check("ddim.eta1.z0", z0)


def evaluate(golden: Golden, model: SDSeg, name: str, images: torch.Tensor) -> Prediction:
    """Every image with the one noise tensor of the run, as the released loop does."""
    noise = procedural.tensor(f"tiny/{name}/noise", (1, 4, 32, 32), golden.salt)
    answers = [model.single_step(image[None], noise) for image in images]
    return Prediction(torch.cat([a.score for a in answers]), torch.cat([a.mask for a in answers]))


def check_overlap(mask: torch.Tensor, reference: torch.Tensor, dice: float, iou: float) -> None:
    # Exactly equal masks give equal numbers; the few pixels allowed to differ move them in the fifth digit.
    both, total = float((mask & reference).sum()), float(mask.sum() + reference.sum())
    assert 2 * both / total == pytest.approx(dice, rel=1e-4)
    assert both / (total - both) == pytest.approx(iou, rel=1e-4)


def unpack(values: dict[str, torch.Tensor], item: str) -> torch.Tensor:
    return torch.from_numpy(np.unpackbits(values[f"{item}.packed"].numpy(), axis=-1)).bool()


def check_maps(values: dict[str, torch.Tensor], name: str, answer: Prediction, reference: torch.Tensor) -> None:
    score, mask = answer.score[:, 0], answer.mask[:, 0]
    assert torch.equal(reference, unpack(values, f"{name}.labels"))
    steps = ((255 * score).int() - values[f"{name}.score_u8"].int()).abs()
    differs = mask != unpack(values, f"{name}.pred")
    log.info("%s: %d pixels of the mask, %d grey values differ", name, int(differs.sum()), int((steps > 0).sum()))
    assert int(steps.max()) <= 1
    assert not bool((differs & ((score - 0.5).abs() > 1e-3)).any())


def volume(golden: Golden, name: str, label: int) -> tuple[torch.Tensor, torch.Tensor]:
    slices = procedural.tensor(f"tiny/{name}/volume", (8, 256, 256), golden.salt, image=True)
    scales = (0, 0.5, 0.8, 1, 1, 0.8, 0.5, 0)
    masks = [procedural.ellipse(f"tiny/{name}/mask_class{label}", golden.salt, 256, s) for s in scales]
    return slices.unsqueeze(1), torch.stack(masks)


@torch.no_grad()
def test_evaluation_of_a_volume(tiny: Golden, tiny_model: SDSeg) -> None:
    values, facts = tiny.tensors("eval256"), tiny.json("eval256")["eval_3d"]
    slices, masks = volume(tiny, "eval_3d", 1)
    answer = evaluate(tiny, tiny_model, "eval_3d", slices)
    check_maps(values, "eval_3d", answer, masks)
    check_overlap(answer.mask[:, 0], masks, facts["dice"][0], facts["iou"][0])


@torch.no_grad()
def test_evaluation_of_several_classes(tiny: Golden, multiclass_model: SDSeg) -> None:
    values, facts = tiny.tensors("eval256"), tiny.json("eval256")["eval_mc"]
    painted = torch.zeros(8, 256, 256, dtype=torch.uint8)
    for label in (1, 2, 3):
        slices, masks = volume(tiny, "eval_mc", label)
        painted[masks] = label
    assert torch.equal(painted, values["eval_mc.labels"])
    answer = evaluate(tiny, multiclass_model, "eval_mc", slices)
    total = (answer.mask * torch.tensor([1, 2, 3])[:, None, None]).sum(1)
    every = torch.cat([1 - answer.score.sum(1, keepdim=True), answer.score], dim=1).sort(dim=1).values
    differs = total != values["eval_mc.pred"]
    log.info("eval_mc: %d pixels differ", int(differs.sum()))
    assert not bool((differs & (every[:, -1] - every[:, -2] > 1e-3)).any())
    for i in range(3):
        check_overlap(total == i + 1, painted == i + 1, facts["dice"][i], facts["iou"][i])

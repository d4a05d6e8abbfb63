"""Training-step losses, their gradients and the first-batch latent scale beside the released code's values."""

from __future__ import annotations

import copy

import pytest
import torch

from sdseg.loss import Draws, Losses
from sdseg.model import SDSeg
from sdseg.weights.official import official_unet, official_vision
from tests.parity.golden import UNET, Golden


def training_loss(golden: Golden, model: SDSeg, name: str, t: list[int], classes: list[int] | None = None) -> Losses:
    """The loss of a procedural batch; `classes` are shown one per item."""
    count, latent = len(t), (len(t), 4, golden.latent, golden.latent)
    image = golden.input(f"{name}/image", count, 3, golden.side, golden.side, image=True)
    mask, u = golden.masks(name, count), torch.zeros(count)
    if classes is not None:
        u = torch.tensor([0.0 if c == 0 else 0.75 for c in classes])  # the union, or the one label that is there
        shown = torch.tensor([max(c, 1) - 1 for c in classes])
        mask = mask & torch.nn.functional.one_hot(shown, 3).bool()[:, :, None, None]
    noise = [golden.input(f"{name}/{kind}", *latent) for kind in ("posterior_noise", "noise")]
    return model.loss(image, mask, Draws(u, *noise, torch.tensor(t)))


def check_losses(golden: Golden, item: str, losses: Losses, expected: dict[str, float], section: str) -> None:
    for ours, theirs in (("latent", "loss_seg"), ("noise", "loss_simple"), ("total", "loss")):
        value = float(getattr(losses, ours).detach())
        golden.check_number(f"{item}/{theirs}", value, expected[theirs], section)


def official_gradients(model: SDSeg) -> dict[str, torch.Tensor]:
    parts = ((UNET, official_unet, model.denoiser.unet), ("cond_stage_model.", official_vision, model.vision_encoder))
    found = {}
    for prefix, rename, module in parts:
        gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
        found |= {prefix + name: gradient for name, gradient in rename(model, gradients).items()}
    return found


@torch.no_grad()
def test_loss(golden: Golden, model: SDSeg) -> None:
    expected = golden.scalars["loss"]
    losses = training_loss(golden, model, "loss", expected["t"])
    assert torch.equal(golden.masks("loss", len(expected["t"]))[:, 0], golden.values["loss.masks"].bool())
    check_losses(golden, "loss", losses, expected, f"{golden.size}_scalars")


def test_gradients(tiny: Golden, tiny_model: SDSeg) -> None:
    model, expected = copy.deepcopy(tiny_model), tiny.scalars["grad"]
    losses = training_loss(tiny, model, "loss", expected["t"])
    check_losses(tiny, "grad/losses", losses, expected["losses"], "tiny_scalars")
    losses.total.backward()
    gradients = official_gradients(model)
    assert len(gradients) == expected["n_params_with_grad"]
    for name, norm in expected["norms"].items():
        tiny.check_number(f"grad/norms/{name}", float(gradients[name].norm()), norm, "tiny_scalars", floor=2e-5)
    total = torch.stack([g.norm() for g in gradients.values()]).norm()
    tiny.check_number("grad/total_norm_trainable", float(total), expected["total_norm_trainable"], "tiny_scalars")
    for item in [name for name in tiny.values if name.startswith("grad.")]:
        tiny.check(item, gradients[item.removeprefix("grad.")])


def test_multiclass_loss_and_the_gradient_of_its_embedding(tiny: Golden, multiclass_model: SDSeg) -> None:
    model, expected = copy.deepcopy(multiclass_model), tiny.scalars["loss_mc"]
    losses = training_loss(tiny, model, "loss_mc", expected["t"], expected["class_id"])
    check_losses(tiny, "loss_mc", losses, expected, "tiny_scalars")
    losses.total.backward()
    tiny.check("loss_mc.grad_label_emb", official_gradients(model)[f"{UNET}label_emb.weight"])


def test_multiclass_embedding_learns_a_hundred_times_faster(tiny: Golden, multiclass_model: SDSeg) -> None:
    rates = tiny.scalars["mc_param_group_base_lrs"]
    scales = [group["lr_scale"] for group in multiclass_model.parameter_groups()]
    assert sorted(set(rates)) == pytest.approx([4e-5 * scale for scale in sorted(scales)])


def test_scale_of_a_first_batch(tiny: Golden, tiny_model: SDSeg) -> None:
    codec, noise = copy.deepcopy(tiny_model.codec), tiny.input("scale/posterior_noise", 4, 4, 8, 8)
    codec.fit_scale([(tiny.masks("scale", 4), noise)])
    expected = tiny.scalars["scale_factor_first_batch"]
    tiny.check_number("scale_factor_first_batch", float(codec.latent_scale), expected, "tiny_scalars")

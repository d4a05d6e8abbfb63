"""MedSegDiff's golden data: values of the released code, procedural weights, and the limits to compare within."""

from __future__ import annotations

import math

import torch

from baselines.medsegdiff.loss import medsegdiff_loss
from baselines.medsegdiff.model import MedSegDiff
from baselines.medsegdiff.official import to_official
from tests.parity import procedural
from tests.parity.folder import GoldenFolder, check, log

__all__ = ["Golden", "check", "check_gradients", "check_losses", "standin"]


class Golden(GoldenFolder):
    """The whole folder."""

    def __init__(self) -> None:
        super().__init__("medsegdiff", "manifest_v2_fast.json")

    def state(self, config: str, amplified: bool = False, prefix: str = "") -> dict[str, torch.Tensor]:
        """A procedural checkpoint of a configuration; amplified, V1's modulation is large enough to be seen."""
        named = self.json(f"manifest_{config}")["tensors"]
        return {k: self._weight(k, entry["shape"], amplified) for k, entry in named.items() if k.startswith(prefix)}

    def _weight(self, key: str, shape: list[int], amplified: bool) -> torch.Tensor:
        if amplified and (
            key.startswith("hwm.ffparser") or (key.startswith("hwm.conv_trans_blocks_a") and key.endswith("bias"))
        ):
            return procedural.normal(key, shape, self.salt)
        return procedural.weight(key, shape, self.salt)

    def bottleneck(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The stand-in for V1's random convolution: weight (512, 480, 1, 1) and bias."""
        shapes = {"weight": (512, 480, 1, 1), "bias": (512,)}
        weight, bias = (procedural.weight(f"bottleneck_random.{k}", s, self.salt) for k, s in shapes.items())
        return weight, bias


def standin(x: torch.Tensor, t: torch.Tensor, shift: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """The closed-form network of the golden data: [noise, variance logit] and calibrated map for [image, x_t]."""
    c, m = x[:, :3].mean(1, keepdim=True), x[:, 3:4]
    u = ((t.float() + 1) / 1000).view(-1, 1, 1, 1)
    log_alpha_bar = -(0.1 * u + 9.95 * u * u)
    a, s = torch.exp(0.5 * log_alpha_bar), torch.sqrt(-torch.expm1(log_alpha_bar))
    x0 = 0.5 + 0.7 * torch.tanh(4 * (c - 0.5) + 1.2 * (m - 0.5))
    v = torch.tanh(0.5 * m + 2 * (c - 0.5) + 0.5 * torch.cos(math.pi * u))
    return torch.cat([(m - a * x0) / s, v], 1), torch.sigmoid(8 * (c - 0.5) + shift)


def check_losses(golden: Golden, tag: str, losses: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """The three losses per sample and the total, which is returned."""
    expected, limit = golden.json("losses")[tag], golden.tolerance["losses"]
    total = medsegdiff_loss(*losses).total
    for name, actual in zip(("loss_diff", "vb", "loss_cal", "total"), (*losses, total), strict=True):
        wanted = torch.tensor(expected[name])
        relative = float(((actual.detach() - wanted).abs() / wanted.abs()).max())
        log.info("%s %s: relative %.1e", tag, name, relative)
        torch.testing.assert_close(actual.detach(), wanted, rtol=limit["rel"], atol=limit["abs"], msg=f"{tag} {name}")
    return total


def check_gradients(golden: Golden, tag: str, model: MedSegDiff) -> None:
    """The norm of every parameter's gradient, where the golden data has them."""
    if tag not in (known := golden.json("grad_norms")):
        return
    gradients = {n: p.grad for n, p in model.network.named_parameters() if p.grad is not None}
    norms = {name: float(g.norm()) for name, g in to_official(model, gradients).items()}
    expected, limit = known[tag], golden.tolerance["grad_norms"]
    assert set(norms) == set(expected)
    worst = 0.0
    for name, wanted in expected.items():
        if tag.endswith("nodropout") and name.endswith("conv.bias"):
            continue  # mathematically zero in front of a batch norm: rounding noise
        worst = max(worst, abs(norms[name] - wanted) / (wanted + limit["abs"] / limit["rel"]))
        assert abs(norms[name] - wanted) <= limit["rel"] * wanted + limit["abs"], f"{name}: {norms[name]} for {wanted}"
    log.info("%s gradient norms: relative %.1e", tag, worst)

"""Diff-U-Net's loss and prediction, on windows of volumes (as released) or on images (our variant)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from monai.losses import DiceLoss
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from baselines.diff_unet.loading import load_official
from baselines.diff_unet.network import DiffUNet
from baselines.diff_unet.sampling import TIMESTEPS, Fusion, add_noise, fused_map
from baselines.sliding_window import slide
from baselines.whole_network import WholeNetwork
from sdseg.control import Control, derangement, draw_times, network_input
from sdseg.labels import Prediction

_LARGEST_SEED = 2**62
# Samples of a window that share a call to the network.
_TOGETHER = 4


class Losses(NamedTuple):
    """Total and its parts, scalars."""

    total: torch.Tensor
    dice: torch.Tensor
    bce: torch.Tensor
    mse: torch.Tensor


class TrainableDiffUNet(WholeNetwork):
    """The network with its loss and its sampler.

    It predicts with sliding windows of `window` voxels per axis, or whole images where that is None. A network in
    `weights`, a checkpoint of the release, is where training starts. The release averages nothing: `ema_decay` 0.
    `control` is one of `sdseg.control`.
    """

    def __init__(
        self,
        network: DiffUNet,
        window: Sequence[int] | None = None,
        weights: str | None = None,
        control: Control | None = None,
    ) -> None:
        super().__init__()
        self.network, self.window, self.weights, self.control = network, window, weights, control
        self.whole_batch = control == "shuffled"
        self._dice = DiceLoss(sigmoid=True)

    def prepare(self, masks: Iterable[torch.Tensor], generator: torch.Generator) -> None:
        """Load the checkpoint to start from; raises ValueError where it is of another network."""
        if self.weights is None:
            return
        try:
            self.network.load_state_dict(load_official(self.weights).state_dict())
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"{self.weights}: of another task or of other features ({reason})") from error

    def draw(self, count: int, size: Sequence[int], generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Times (B,) and noise (B, L, *S) of a training step, with control=shuffled partners (B,) too."""
        t = draw_times(self.control, count, TIMESTEPS, generator)
        noise = torch.randn(count, self.network.labels, *size, generator=generator)
        return (t, noise, derangement(count, generator)) if self.whole_batch else (t, noise)

    def loss(
        self, image: torch.Tensor, mask: torch.Tensor, draws: Sequence[torch.Tensor], key: torch.Tensor | None = None
    ) -> Losses:
        """Dice + BCE + MSE for images (B, C, *S) in [-1, 1] with their masks (B, L, *S) bool."""
        t, noise, *partner = (x.to(image.device) for x in draws)
        return self.loss_at(image, mask, t, noise, *partner)

    forward = loss

    def loss_at(
        self,
        image: torch.Tensor,
        mask: torch.Tensor,
        t: torch.Tensor,
        noise: torch.Tensor,
        partner: torch.Tensor | None = None,
    ) -> Losses:
        """The loss at times t (B,) for images in [-1, 1], masks and noise (B, L, *S), partners (B,)."""
        seen = network_input(self.control, mask if partner is None else mask[partner], noise, t, add_noise)
        logits = self.network(_unit(image), seen, t).float()
        target = mask.float()
        dice, bce = self._dice(logits, target), binary_cross_entropy_with_logits(logits, target)
        mse = mse_loss(logits.sigmoid(), target)
        return Losses(dice + bce + mse, dice.detach(), bce.detach(), mse.detach())

    def predict(
        self,
        image: torch.Tensor,
        generators: Sequence[torch.Generator],
        steps: int = 10,
        fusion: Fusion = "last",
        samples: int = 1,
        overlap: float = 0.5,
        sw_batch_size: int = 1,
        blend: str = "constant",
    ) -> Prediction:
        """Score and mask (B, L, *S) of images (B, C, *S) in [-1, 1]; the defaults are the release's while training.

        Every window has noise of its own, as released; it derives from the image's generator and the window's place,
        so that it does not matter how many windows share a call. A network that was trained as a control sees what it
        saw then; without diffusion (`none`) there is one sample of one step.
        """
        steps, samples = (1, 1) if self.control == "none" else (steps, samples)
        seeds = [int(torch.randint(_LARGEST_SEED, (1,), generator=g)) for g in generators]
        if len(seeds) != len(image):
            raise ValueError(f"{len(image)} images need as many generators, got {len(seeds)}")

        def fused(windows: torch.Tensor, places: list[list[int]]) -> torch.Tensor:
            shape = self.network.labels, *windows.shape[2:]
            each = [_noise(shape, seeds[i], sample, *start) for sample in range(samples) for i, *start in places]
            noise = torch.stack(each).unflatten(0, (samples, -1)).to(windows.device)
            noise = torch.zeros_like(noise) if self.control == "none" else noise
            visible = _unit(windows)
            maps = self.network.embed_model(visible)  # once for all steps and samples

            def denoise(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
                seen = noise.flatten(0, 1) if self.control == "random" else x_t
                parts = (one.split(_TOGETHER * len(windows)) for one in (seen, t))
                return torch.cat([self.network.model(visible, *part, maps) for part in zip(*parts, strict=True)])

            return fused_map(denoise, noise, steps, fusion)

        score = slide(image, self.window, fused, overlap, sw_batch_size, blend).sigmoid()
        return Prediction(score, score > 0.5)


def _unit(image: torch.Tensor) -> torch.Tensor:
    return (image + 1) / 2


def _noise(shape: Sequence[int], *seed: int) -> torch.Tensor:
    state = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> np.uint64(1)
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(int(state)))

"""Controls of noise: what a diffusion network sees in training in place of the noised mask of its own case.

Asked of every diffusion segmenter alike: what does the noise buy? Target, loss, times and networks stay; the input
changes, and prediction shows the network what it saw in training:

- `random`: noise that no mask has touched. Prediction starts from noise as always; whatever a sampler has come to, the
  network sees the start.
- `shuffled`: the noised mask of another case of the batch. Prediction is as always: the marginal input is that of the
  full method, but training has taught that it says nothing of the case.
- `none`: no diffusion. Zeros and the last time, in training and in prediction, which is one call and deterministic.

The target is the clean mask. A network that predicts the noise of its input has no part in this: noise and clean mask
are no longer two views of one thing, so that it would learn nothing of the mask and fail for want of a target.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch

Control = Literal["random", "shuffled", "none"]

# add_noise(x0 (B, ...), noise (B, ...), t (B,)) -> x_t
AddNoise = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def derangement(count: int, generator: torch.Generator) -> torch.Tensor:
    """A partner (count,) for every case of a batch of two or more, never itself: the next on a random cycle of all."""
    cycle = torch.randperm(count, generator=generator)
    return cycle[(cycle.argsort() + 1) % count]


def draw_times(control: Control | None, count: int, steps: int, generator: torch.Generator) -> torch.Tensor:
    """Times (count,) of a training step, uniform on 0..steps-1; without diffusion always the last."""
    if control == "none":
        return torch.full((count,), steps - 1)
    return torch.randint(steps, (count,), generator=generator)


def network_input(
    control: Control | None, x0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor, add_noise: AddNoise
) -> torch.Tensor:
    """What the network sees (B, ...) in training; with `shuffled` x0 is the partner's."""
    if control == "none":
        return torch.zeros_like(noise)
    return noise if control == "random" else add_noise(x0, noise, t)


def check_control(control: str | None, predicts_clean: bool, remedy: str) -> None:
    """ValueError where a network does not predict the clean mask, which every control needs; `remedy` is what would."""
    if control is not None and not predicts_clean:
        raise ValueError(f"control={control}: what predicts noise has no target where its input has none; {remedy}")


def check_whole_batch(model: Any, batch_size: int, parts: int) -> None:
    """ValueError where a loss needs other cases of the batch, and the recipe leaves it none or shares the batch out."""
    if not getattr(model, "whole_batch", False):
        return
    if batch_size < 2:
        raise ValueError("train.batch_size=1: control=shuffled shows a case the mask of another; take 2 or more")
    if parts > 1:
        raise ValueError(
            f"control=shuffled shows a case the mask of another of its batch, which {parts} parts cannot share out; "
            "set train.accumulate=1 and train in one process"
        )


def known_control(control: str | None) -> str | None:
    """The same; ValueError for one that there is not."""
    if control is not None and control not in get_args(Control):
        raise ValueError(f"method.options.control={control}: known are null, {', '.join(get_args(Control))}")
    return control

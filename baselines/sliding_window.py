"""Sliding windows over a volume, to predict with; `sdseg.training.batches.random_crop` cuts those to train on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

# Images are in [-1, 1]; beyond their edge is what is darkest.
_OUTSIDE = -1.0


def check_windows(
    task: Any, dims: int, window: Sequence[int] | None, overlap: float, sw_batch_size: int, blend: str
) -> None:
    """Raise ValueError naming an option of windows (edges in voxels, or None) that does not fit."""
    if dims == 3 and getattr(task, "dims", 2) == 2:
        raise ValueError("method.options.dims=3 needs volumes, and this dataset has images; use dims=2")
    if window is not None and (len(window) != dims or min(window) < 1):
        raise ValueError(f"method.options.window={list(window)}: expected {dims} edges, in voxels, or null")
    if not 0 <= overlap < 1:
        raise ValueError(f"method.inference.overlap={overlap}: expected a share in [0, 1)")
    if sw_batch_size < 1:
        raise ValueError(f"method.inference.sw_batch_size={sw_batch_size}: expected at least 1")
    if blend not in ("constant", "gaussian"):
        raise ValueError(f"method.inference.blend={blend}: known are constant, gaussian")


def slide(
    image: torch.Tensor,
    size: Sequence[int] | None,
    predict: Callable[[torch.Tensor, list[list[int]]], torch.Tensor],
    overlap: float,
    batch: int,
    blend: str = "constant",
) -> torch.Tensor:
    """Blend of `predict(windows (N, C, *size), places)` (N, L, *size) over images (B, C, *S): (B, L, *S).

    `places` tells of every window the image's index and where it starts in the padded image. `batch` windows go into
    one call; smaller images are padded. `size` None shows all images whole, in one call.
    """
    from monai.inferers.utils import sliding_window_inference  # here: it takes seconds, and few methods need it

    def call(windows: torch.Tensor, slices: list[list[slice]]) -> torch.Tensor:
        return predict(windows, [[s.start or 0 for s in (one[0], *one[2:])] for one in slices])

    whole = size is None
    blended = sliding_window_inference(
        image,
        tuple(image.shape[2:] if size is None else size),
        len(image) if whole else batch,
        call,
        overlap=overlap,
        mode=blend,
        cval=_OUTSIDE,
        with_coord=True,
    )
    assert isinstance(blended, torch.Tensor)
    return blended

"""Windows of a volume: random ones to train on, sliding ones to predict with. For methods in three dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from monai.inferers.utils import sliding_window_inference
from torch.nn.functional import pad

# Images are in [-1, 1]; beyond their edge is what is darkest.
_OUTSIDE = -1.0


class Places(NamedTuple):
    """Where random windows of B items lie: columns in [0, 1) of one tensor (B, 2 + dims)."""

    foreground: torch.Tensor  # (B,) below the share of windows that are centred on the foreground
    voxel: torch.Tensor  # (B,) which voxel of it
    origin: torch.Tensor  # (B, dims) else, where the window starts


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


def random_windows(
    image: torch.Tensor, mask: torch.Tensor, size: Sequence[int], places: torch.Tensor, foreground_share: float = 0.5
) -> tuple[torch.Tensor, torch.Tensor]:
    """One window of `size` of each image (B, C, *S) in [-1, 1] and mask (B, L, *S) at `places` (see `Places`)."""
    image, mask = _padded(image, size, _OUTSIDE), _padded(mask, size, False)
    foreground, voxel, *origin = places.cpu().unbind(1)
    where = Places(foreground, voxel, torch.stack(origin, dim=1))
    on_target = (where.foreground < foreground_share).tolist()
    images, masks = [], []
    for i in range(len(image)):
        room = torch.tensor([edge - n for edge, n in zip(image.shape[2:], size, strict=True)])
        start = (where.origin[i] * (room + 1)).long()
        voxels = mask[i].any(dim=0).nonzero().cpu() if on_target[i] else ()
        if len(voxels):
            centre = voxels[int(where.voxel[i] * len(voxels))]
            start = (centre - torch.tensor(size) // 2).clamp(min=0).minimum(room)
        cut = (slice(None), *(slice(a, a + n) for a, n in zip(start.tolist(), size, strict=True)))
        images.append(image[i][cut])
        masks.append(mask[i][cut])
    return torch.stack(images), torch.stack(masks)


def _padded(x: torch.Tensor, size: Sequence[int], value: float) -> torch.Tensor:
    # Smaller half in front, as sliding windows are padded.
    short = [max(n - edge, 0) for n, edge in zip(size, x.shape[2:], strict=True)]
    amounts = [n for missing in reversed(short) for n in (missing // 2, missing - missing // 2)]
    return pad(x, amounts, value=value) if any(amounts) else x

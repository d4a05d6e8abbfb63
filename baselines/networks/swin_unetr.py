"""Swin-UNETR from MONAI, in two and three dimensions."""

from __future__ import annotations

from importlib.util import find_spec

from torch import nn


def swin_unetr(
    spatial_dims: int, in_channels: int, out_channels: int, feature_size: int = 48, attention_window: int = 7
) -> nn.Module:
    """The network; sides of its images must divide by 32, and the defaults are the published ones.

    Raises ValueError for a feature size that does not divide by 12, or where einops is missing.
    """
    from monai.networks.nets import SwinUNETR

    if find_spec("einops") is None:
        raise ValueError("Swin-UNETR needs einops: pip install 'sdseg-bench[networks]'")
    if feature_size < 1 or feature_size % 12:
        raise ValueError(f"method.options.options.feature_size={feature_size}: expected a multiple of 12")
    return SwinUNETR(
        in_channels, out_channels, window_size=attention_window, feature_size=feature_size, spatial_dims=spatial_dims
    )

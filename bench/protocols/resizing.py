"""The ways in which releases bring masks to another in-plane size, each by the library that they use."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import zoom

from bench.datasets.geometry import resize


def nearest_image(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask (H, W) bool at (size, size) by Pillow's NEAREST."""
    image = Image.fromarray(mask.astype(np.uint8)).resize((size, size), Image.Resampling.NEAREST)
    return np.asarray(image) > 0


def nearest_volume(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask (D, H, W) bool at (D, size, size) by SciPy's zoom of order 0, which aligns the corner voxels."""
    height, width = mask.shape[-2:]
    return zoom(mask.astype(np.uint8), (1, size / height, size / width), order=0) > 0


def bilinear(values: np.ndarray, size: int) -> np.ndarray:
    """Maps (*, H, W) at (*, size, size), antialiased, as torchvision resizes tensors; float32."""
    return resize(torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)), (size, size)).numpy()

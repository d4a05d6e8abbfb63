"""BTCV in small: CT-like abdomens with its 13 organs, under its case numbers."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import nibabel as nib
import numpy as np

from bench import progress
from bench.datasets.phantom.fields import generator
from bench.datasets.phantom.organs import Organ, draw_abdomen
from bench.files import atomic_path

_SEED = 2015
_SHAPE, _SPACING = (28, 96, 96), (5.0, 3.6, 3.6)
# All 18 for training and validation, and five of the 12 for testing (manifest transunet_18_12).
_CASES = (5, 6, 7, 9, 10, 21, 23, 24, 26, 27, 28, 30, 31, 33, 34, 37, 39, 40, 1, 2, 3, 4, 8)
# Centre and radii in the body's coordinates: head to foot, front to back, the patient's right to left.
_ATLAS = {
    "spleen": Organ((-0.42, 0.25, 0.58), (0.32, 0.27, 0.17), 0.16, 125.0),
    "right_kidney": Organ((0.28, 0.38, -0.42), (0.34, 0.17, 0.15), 0.10, 165.0),
    "left_kidney": Organ((0.18, 0.38, 0.42), (0.34, 0.17, 0.15), 0.10, 165.0),
    "gallbladder": Organ((-0.02, -0.22, -0.3), (0.18, 0.12, 0.09), 0.08, 12.0),
    "oesophagus": Organ((-0.8, 0.16, 0.02), (0.34, 0.05, 0.05), 0.05, 45.0),
    "liver": Organ((-0.35, -0.08, -0.42), (0.52, 0.52, 0.42), 0.22, 112.0),
    "stomach": Organ((-0.35, -0.25, 0.32), (0.36, 0.3, 0.2), 0.2, 40.0),
    "aorta": Organ((0.0, 0.22, 0.07), (9.0, 0.075, 0.06), 0.02, 150.0),
    "inferior_vena_cava": Organ((0.1, 0.2, -0.14), (9.0, 0.07, 0.07), 0.03, 130.0),
    "portal_splenic_vein": Organ((0.0, 0.04, 0.06), (0.09, 0.05, 0.28), 0.05, 160.0),
    "pancreas": Organ((0.08, -0.06, 0.1), (0.13, 0.08, 0.3), 0.2, 95.0),
    "right_adrenal": Organ((-0.1, 0.26, -0.27), (0.11, 0.05, 0.05), 0.1, 70.0),
    "left_adrenal": Organ((-0.1, 0.28, 0.26), (0.11, 0.05, 0.05), 0.1, 70.0),
}


def write_btcv(folder: Path, cases: Collection[str] | None = None) -> None:
    """`Abdomen/RawData/Training/{img,label}/*.nii.gz`: 18 and 5 volumes of 28 slices of 96 x 96."""
    home = folder / "Abdomen" / "RawData" / "Training"
    # The drawing runs to the patient's left, back and feet.
    affine = np.diag([-_SPACING[2], -_SPACING[1], -_SPACING[0], 1.0])
    affine[:3, 3] = 170.0, 170.0, 900.0
    chosen = [number for number in _CASES if cases is None or f"{number:04d}" in cases]
    for done, number in enumerate(chosen, 1):
        image, labels = draw_abdomen(generator(_SEED, number), _SHAPE, _SPACING, 0.04, _ATLAS)
        ids = (labels * np.arange(1, len(labels) + 1)[:, None, None, None]).sum(0)
        for path, values, kind in (("img", image, np.int16), ("label", ids, np.uint8)):
            save_volume(home / path / f"{path}{number:04d}.nii.gz", np.rint(values).astype(kind), affine)
        progress.report("drawing btcv", done, len(chosen))


def save_volume(path: Path, values: np.ndarray, affine: np.ndarray) -> None:
    """Write (D, H, W) as NIfTI."""
    with atomic_path(path) as part:
        nib.save(nib.Nifti1Image(values.T, affine), part)

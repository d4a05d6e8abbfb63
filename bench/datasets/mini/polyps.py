"""CVC-ClinicDB and Kvasir-SEG in small: scenes of the polyp phantom as frames of sequences, and as photographs."""

from __future__ import annotations

from collections.abc import Collection
from itertools import accumulate
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from bench import progress
from bench.datasets.manifests import manifest
from bench.datasets.manifests.sequences import LENGTHS
from bench.datasets.phantom.fields import generator
from bench.datasets.phantom.polyp import Scene, draw_scene, render
from bench.files import atomic_path

_SEED = 2024
_FRAMES = 6  # of each sequence, its first ones
_WIDTH, _HEIGHT = 160, 120  # CVC-ClinicDB has 384 x 288
_EVERY = {"train": 16, "val": 10, "test": 5}  # Kvasir-SEG: so many ids of its split 800_100_100 make one
_LEAST = 0.015  # share of the frame: every frame shows a polyp


def _scene(split: int, group: int, width: int, top: int) -> Scene:
    """A scene whose lesion is in the frame."""
    for attempt in range(100):
        scene = draw_scene(_SEED + attempt, split, group, True)
        mask = render(scene, generator(_SEED, split, group, 0), 48)[1]
        rows = slice(top * 48 // width, 48 - top * 48 // width)
        if mask[rows].mean() > 2 * _LEAST:
            return scene
    raise AssertionError("no scene with a lesion in the frame")


def save_picture(path: Path, values: np.ndarray) -> None:
    """Write (H, W[, 3]) uint8; JPEG as cameras do."""
    with atomic_path(path) as part:
        Image.fromarray(values).save(part, quality=92)


def _grey_levels(mask: np.ndarray) -> np.ndarray:
    return mask.astype(np.uint8) * 255


def write_cvc_clinicdb(folder: Path, cases: Collection[str] | None = None) -> None:
    """`PNG/` and `TIF/` with `Original/` and `Ground Truth/`, and `metadata.csv`: 6 frames of each of 29 sequences."""
    rows, top = [], (_WIDTH - _HEIGHT) // 2
    starts = accumulate(LENGTHS, initial=1)
    for number, first in enumerate(list(starts)[:-1], 1):
        wanted = [n for n in range(first, first + _FRAMES) if cases is None or str(n) in cases]
        if not wanted:
            continue
        scene = _scene(11, number, _WIDTH, top)
        for frame in wanted:
            image, mask = render(scene, generator(_SEED, 11, number, frame), _WIDTH)
            picture = np.moveaxis(image, 0, -1).astype(np.uint8)[top:-top]
            levels = _grey_levels(mask[top:-top])
            for kind, suffix in (("PNG", "png"), ("TIF", "tif")):
                save_picture(folder / kind / "Original" / f"{frame}.{suffix}", picture)
                save_picture(folder / kind / "Ground Truth" / f"{frame}.{suffix}", levels)
            rows.append(
                {
                    "frame_id": frame,
                    "sequence_id": number,
                    "png_image_path": f"PNG/Original/{frame}.png",
                    "png_mask_path": f"PNG/Ground Truth/{frame}.png",
                }
            )
        progress.report("drawing cvc_clinicdb", number, len(LENGTHS))
    with atomic_path(folder / "metadata.csv") as part:
        pd.DataFrame(rows).to_csv(part, index=False)


def write_kvasir_seg(folder: Path, cases: Collection[str] | None = None) -> None:
    """`Kvasir-SEG/images/` and `masks/`: 80 JPEG photographs of different sizes, and JPEG masks."""
    rows = manifest("kvasir_seg", "800_100_100")
    names = [name for split, every in _EVERY.items() for name in rows["case"][rows["split"] == split][::every]]
    for number, name in enumerate(names):
        if cases is not None and name not in cases:
            continue
        size = int(generator(_SEED, 12, number).integers(110, 190))
        top = int(generator(_SEED, 13, number).integers(1, size // 6))
        scene = _scene(12, number, size, top)
        image, mask = render(scene, generator(_SEED, 12, number, 1), size)
        picture = np.moveaxis(image, 0, -1).astype(np.uint8)[top:-top]
        home = folder / "Kvasir-SEG"
        save_picture(home / "images" / f"{name}.jpg", picture)
        save_picture(home / "masks" / f"{name}.jpg", np.stack([_grey_levels(mask[top:-top])] * 3, -1))
        progress.report("drawing kvasir_seg", number + 1, len(names))

"""Training items as nnU-Net's raw dataset: NIfTI files, `dataset.json` and the split of its fold 0."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch

from sdseg.files import write_atomically

DATASET = "Dataset001_task"
ENDING = ".nii.gz"


def native_values(image: torch.Tensor, intensity: Sequence[float]) -> np.ndarray:
    """Image (C, *S) in [-1, 1] -> float32 in the dataset's own range: 0..255 for photographs, HU for CT."""
    low, high = intensity
    return ((image.float() + 1) / 2 * (high - low) + low).numpy()


def label_map(mask: torch.Tensor, labels: Sequence[str], case_id: str) -> np.ndarray:
    """Masks (L, *S) bool -> ids (*S), 0 is background; raises ValueError where two labels overlap."""
    if mask.sum(0).gt(1).any():
        both = [name for name, one in zip(labels, mask, strict=True) if (one & mask.sum(0).gt(1)).any()]
        raise ValueError(
            f"case {case_id}: labels {' and '.join(both)} overlap, and nnU-Net gives every pixel one label; "
            "make the masks disjoint, or train one label at a time"
        )
    ids = torch.arange(1, len(mask) + 1).view(-1, *[1] * (mask.ndim - 1))
    return (mask * ids).sum(0).numpy().astype(np.uint8 if len(mask) < 256 else np.uint16)


def write_dataset(folder: Path, train: Any, val: Any, task: Any, normalization: str) -> None:
    """Write `raw` and the split into `folder`, once: the file `raw.json` marks a finished one.

    Items are {"image" (C, *S), "mask" (L, *S), "case_id"[, "spacing_mm"]}. Raises ValueError for an empty split.
    """
    if (folder / "raw.json").exists():
        return
    raw = folder / "raw" / DATASET
    shutil.rmtree(raw, ignore_errors=True)
    split = {}
    for name, items in {"train": train, "val": val}.items():
        if not len(items):
            raise ValueError(f"nnU-Net needs training and validation cases; the {name} split is empty")
        split[name] = [f"{name}-{i:05d}" for i in range(len(items))]
        for i, key in enumerate(split[name]):
            _write_case(raw, key, items[i], task)
    description = {
        "channel_names": {str(channel): normalization for channel in range(task.channels)},
        # Numbered, since nnU-Net reads a meaning into some names.
        "labels": {"background": 0, **{f"{i} {name}": i for i, name in enumerate(task.labels, 1)}},
        "numTraining": len(train) + len(val),
        "file_ending": ENDING,
        "overwrite_image_reader_writer": "SimpleITKIO",
    }
    write_json(raw / "dataset.json", description)
    write_json(folder / "preprocessed" / DATASET / "splits_final.json", [split])
    write_json(folder / "raw.json", split)


def _write_case(raw: Path, key: str, item: dict[str, Any], task: Any) -> None:
    values = native_values(item["image"], task.intensity)
    # Only volumes are resampled by their spacing: a photograph's unit is the pixel.
    spacing = (item.get("spacing_mm") if values.ndim == 4 else None) or (1.0,) * (values.ndim - 1)
    for channel, plane in enumerate(values):
        _write_nifti(raw / "imagesTr" / f"{key}_{channel:04d}{ENDING}", plane, spacing)
    _write_nifti(raw / "labelsTr" / f"{key}{ENDING}", label_map(item["mask"], task.labels, item["case_id"]), spacing)


def _write_nifti(path: Path, values: np.ndarray, spacing: Sequence[float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([*reversed(spacing), *[1.0] * (4 - values.ndim)])  # files hold x first, arrays hold it last
    nibabel.save(nibabel.Nifti1Image(values.T, affine), path)


def write_json(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all."""
    write_atomically(path, lambda part: part.write_text(json.dumps(content), encoding="utf-8"))

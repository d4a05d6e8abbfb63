"""Masks in the situations that tell protocols apart, as pairs, cases, folders and a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from bench.config import expand
from bench.metrics import Pair
from bench.runner import Run
from bench.types import Case

SIZE = 16
OBJECT = np.zeros((SIZE, SIZE), bool)
OBJECT[4:12, 4:12] = True
SHIFTED = np.roll(OBJECT, 4, 1)  # half of it: Dice .5
EMPTY = np.zeros_like(OBJECT)
SITUATIONS = {
    "normal": Pair(OBJECT, OBJECT, (2.0, 2.0)),
    "shifted": Pair(SHIFTED, OBJECT, (2.0, 2.0)),
    "missed": Pair(EMPTY, OBJECT, (2.0, 2.0)),
    "hallucinated": Pair(OBJECT, EMPTY, (2.0, 2.0)),
    "both empty": Pair(EMPTY, EMPTY, (2.0, 2.0)),
}


def case(name: str, *references: np.ndarray, spacing: tuple[float, ...] | None = None) -> Case:
    reference = np.stack(references)
    return Case(name, name, np.zeros((1, *reference.shape[1:]), np.float32), reference, spacing)


def write_masks(root: Path) -> tuple[Path, Path, Path]:
    """Predictions, references and where scores go: found by half, missed, hallucinated, nothing."""
    for name, pair in {k: v for k, v in SITUATIONS.items() if k != "normal"}.items():
        for folder, mask in (("pred", pair.prediction), ("ref", pair.reference)):
            (root / folder).mkdir(exist_ok=True)
            Image.fromarray(mask.astype(np.uint8) * 255).save(root / folder / f"{name}.png")
    return root / "pred", root / "ref", root / "out"


def predicted_run(folders: tuple[Path, Path, Path], root: Path, *overrides: str) -> Run:
    """A run of these masks as a method's predictions of images without content, not scored yet."""
    data = root / "data"
    data.mkdir()
    folders[1].rename(data / "masks")
    (data / "images").mkdir()
    for path in (data / "masks").iterdir():
        Image.fromarray(np.zeros((SIZE, SIZE), np.uint8)).save(data / "images" / path.name)
    fixed = ["dataset=folder", f"dataset.root={data}", "dataset.split=[0,0,1]", "method=predictions", "seed=0"]
    fixed += [f"method.options.root={folders[0]}", f"runs_dir={root / 'runs'}", "image_size=16"]
    run = Run(expand([*fixed, "draws=1", *overrides])[0])
    run.fit()
    run.predict()
    return run

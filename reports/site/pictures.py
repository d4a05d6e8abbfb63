"""Cases as pictures: every row's own gallery, and some cases that all methods of a data set are shown on.

Files are named by what they show, so that a report made again draws only what is new.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from reports.figures.style import colour
from reports.gallery import Kept, has_predicted, read_kept, read_or_warn
from reports.rows import Row, Run
from reports.site.layers import columns_of, fill_layer, heat_layer, image_layer, outline_layer, page_size
from reports.table import number

FOLDER = "pictures"
SHARED = {2: 24, 3: 8}  # pictures, or volumes, that every method is shown on, beside those of its own gallery
_VERSION = b"1"  # of how layers are drawn

Keep = Callable[[str, Callable[[], bytes]], None]  # a file's name, and what makes its content


@dataclass(frozen=True)
class Scene:
    """A case's image and reference, of which methods share one; slices in a mosaic."""

    image: str
    reference: str
    said: str
    height: int
    width: int
    slices: int = 1
    columns: int = 1
    first: int = -1
    opening: int = 0


@dataclass(frozen=True)
class Shot:
    """A method's masks on a scene: the first draw and where the draws differ ("" of one draw)."""

    scene: Scene
    prediction: str
    disagreement: str
    said: str
    agreement: str
    seed: int
    dice: float


@dataclass(frozen=True)
class Album:
    """The pictures of a row by case; those in `gallery` are its own, the worst case first."""

    shots: dict[str, Shot] = field(default_factory=dict)
    gallery: list[str] = field(default_factory=list)
    labels: list[tuple[str, str]] = field(default_factory=list)  # names and colours


def draw_albums(rows: Iterable[Row], keep: Keep, warnings: list[str]) -> list[Album]:
    """An album for every row, of its lowest seed that has pictures; broken files become warnings."""
    rows = list(rows)
    sources = [_source(row) for row in rows]
    by_data: dict[str, list[list[Path]]] = {}
    dims = {row.runs[0].comparison: row.record.dims for row in rows}
    for row, (_, paths) in zip(rows, sources, strict=True):
        by_data.setdefault(row.runs[0].comparison, []).append(paths)
    shared = {data: _shared(galleries, SHARED[dims[data]]) for data, galleries in by_data.items()}
    return [
        _album(row, run, paths, shared[row.runs[0].comparison], keep, warnings)
        for row, (run, paths) in zip(rows, sources, strict=True)
    ]


def _source(row: Row) -> tuple[Run, list[Path]]:
    runs = sorted(row.runs, key=lambda run: run.record.seed)
    galleries = [(run, sorted((run.path / "gallery").glob("[!.]*.npz"))) for run in runs]
    return next((source for source in galleries if source[1]), galleries[0])


def _shared(galleries: Sequence[Sequence[Path]], count: int) -> dict[str, Path]:
    """The first cases of all galleries in turn: what is hard for one method is seen of all."""
    cases: dict[str, Path] = {}
    for rank in range(max(map(len, galleries))):
        for path in (gallery[rank] for gallery in galleries if rank < len(gallery)):
            if len(cases) < count:
                cases.setdefault(path.stem.partition("-")[2], path)  # named RANK-CASE
    return cases


def _album(row: Row, run: Run, paths: list[Path], shared: dict[str, Path], keep: Keep, warnings: list[str]) -> Album:
    shots: dict[str, Shot] = {}
    for path in paths:
        if (kept := read_or_warn(path, warnings)) is not None:
            shots[kept.case] = _shot(kept, row.method, run, keep)
    gallery = list(shots)
    for case, path in shared.items():
        if case in shots or not has_predicted(run, case):
            continue
        try:
            shots[case] = _shot(read_kept(path, run), row.method, run, keep)
        except Exception as error:
            warnings.append(f"{run.path}: no picture of {case} ({str(error).splitlines()[0]})")
    labels = [(name, colour(index)) for index, name in enumerate(row.record.labels)]
    return Album(shots, gallery, labels)


def _shot(kept: Kept, method: str, run: Run, keep: Keep) -> Shot:
    size = page_size(*kept.image.shape[1:3])
    masks = kept.masks
    prediction = _named("png", b"fill", masks[0])
    keep(prediction, lambda: fill_layer(masks[0], size))
    draws, disagreement, agreement = len(masks), "", "a single draw"
    if draws > 1:
        differing = float((masks != masks[:1]).any(axis=(0, 1)).mean())
        agreement = f"{number(100 * differing, 1)} % of the pixels differ between {draws} draws"
        disagreement = _named("png", b"heat", masks)
        keep(disagreement, lambda: heat_layer(masks, size))
    score = "" if math.isnan(kept.dice) else f"; Dice {number(kept.dice, 3)}"
    said = f"Prediction of {method} for {kept.case}: {_areas(kept.labels, masks[0])}{score}"
    scene = _scene(kept, size, keep)
    return Shot(scene, prediction, disagreement, said, agreement, run.record.seed, kept.dice)


def _scene(kept: Kept, size: tuple[int, int], keep: Keep) -> Scene:
    image, reference = _named("webp", b"image", kept.image), _named("png", b"outline", kept.reference)
    keep(image, lambda: image_layer(kept.image, size))
    keep(reference, lambda: outline_layer(kept.reference, size))
    said, slices = f"Reference of {kept.case}: {_areas(kept.labels, kept.reference)}", len(kept.image)
    return Scene(image, reference, said, *size, slices, columns_of(slices), kept.first, kept.opening)


def _areas(labels: list[str], masks: np.ndarray) -> str:
    return ", ".join(f"{label} covers {mask.mean():.1%}" for label, mask in zip(labels, masks, strict=True))


def _named(suffix: str, kind: bytes, content: np.ndarray) -> str:
    bits = np.packbits(content) if content.dtype == bool else np.ascontiguousarray(content)
    about = b"|".join((_VERSION, kind, repr(content.shape).encode()))
    return f"{hashlib.blake2b(about + bits.tobytes(), digest_size=8).hexdigest()}.{suffix}"

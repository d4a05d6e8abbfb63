"""One look at each case: what is wrong with its files, and what comparing it with the others needs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.datasets.audit.kinds import Trouble
from bench.datasets.audit.near import small_grey
from bench.datasets.formats import Picture, decode, displayed, files_read
from bench.datasets.grids import Onto, on_grid
from bench.datasets.images import as_image
from bench.datasets.masks.declared import Declared
from bench.datasets.masks.levels import Levels, levels_of
from bench.datasets.masks.plane import plane_of
from bench.errors import InputError
from bench.files import sha256_of
from bench.types import Case

_LIGHT = 208  # of 255: a mask that reaches it is cut at one half, so that what compression left does not count
_LYING = 5  # EXIF codes from here on exchange width and height


@dataclass
class Look:
    """What was seen of a case: small pictures (P, 32, 32), the hash of the image's content, the values of its mask."""

    case: str
    grey: np.ndarray | None = None
    content: str = ""
    levels: Levels | None = None
    troubles: list[Trouble] = field(default_factory=list)

    def add(self, kind: str, text: str = "") -> None:
        """Note a trouble of this case."""
        self.troubles.append(Trouble(kind, self.case, text))


def look_at_case(case: Case) -> Look:
    """The look at a case that a data set gave."""
    seen = Look(case.id, small_grey(case.image), hashlib.sha256(case.image.tobytes()).hexdigest())
    if case.reference.shape[1:] != case.image.shape[1:]:
        seen.add("off-size", f"{_by(case.reference.shape[1:])}, its image {_by(case.image.shape[1:])}")
    _judge_area(seen, np.asarray(case.reference.any(axis=0)))
    return seen


def look_at_files(case: str, image: Path, mask: Path, channels: int, declared: Declared) -> Look:
    """The look at an image file and its mask."""
    seen = Look(case)
    try:
        picture = decode(image, channels)
        seen.grey = small_grey(as_image(picture, image, channels))
        seen.content = "+".join(map(sha256_of, files_read(image)))
        drawn = decode(mask, indexed=True)
        plane = plane_of(drawn, mask, declared)
    except InputError as error:
        seen.add("unreadable", str(error))
        return seen
    codes = displayed(image), displayed(mask)
    if codes[0] == codes[1] or plane.shape != picture.grid.shape[::-1] or plane.shape == picture.grid.shape:
        _judge_place(seen, picture, drawn, mask)
    _judge_turn(seen, picture.grid.shape, plane.shape, codes)
    _judge_area(seen, _area(plane, declared))
    seen.levels = levels_of(plane, case, areas=True)
    return seen


def _judge_place(seen: Look, picture: Picture, drawn: Picture, mask: Path) -> None:
    """Whether a mask has the size, the spacing and the orientation of its image."""
    if picture.values.ndim == 4 and (picture.affine is None) != (drawn.affine is None):
        seen.add("unstated", "the image" if drawn.affine is None else "the mask")
    try:
        own = on_grid(drawn, mask, Onto(picture.grid, "its image"))
    except InputError as error:
        said = str(error).removeprefix(f"{mask}: ").partition(";")[0]
        seen.add("geometry" if drawn.grid.shape == picture.grid.shape else "off-size", said)
        return
    if own.spacing_mm is None and drawn.values.shape[1:] != picture.values.shape[1:] and drawn.values.ndim < 4:
        seen.add("off-size", f"{_by(drawn.values.shape[1:])}, its image {_by(picture.values.shape[1:])}")


def _judge_turn(seen: Look, image: tuple[int, ...], mask: tuple[int, ...], codes: tuple[int, int]) -> None:
    """Whether mask and image are turned alike; sizes (H, W) are those of the displayed view."""
    if codes == (1, 1):
        return
    said = f"image {codes[0]}, mask {codes[1]}"
    if codes[0] == codes[1]:
        seen.add("read turned", said)
    elif image != mask and image == mask[::-1]:
        seen.add("turned", f"{said}: the mask lies as the image is stored, not as it is displayed")
    elif image == mask and image[0] != image[1] and (codes[0] < _LYING) != (codes[1] < _LYING):
        seen.add("read turned", f"{said}: sizes agree as displayed")
    else:
        seen.add("turned", f"{said}: sizes do not tell whether they fit; save both upright")


def _area(plane: np.ndarray, declared: Declared) -> np.ndarray:
    """The foreground (*S) bool of a plane of values."""
    greys = declared.background == 0 and _LIGHT <= int(plane.max()) <= 255
    area = plane > 127 if greys else plane != declared.background
    return np.asarray(area if declared.ignore is None else area & (plane != declared.ignore))


def _judge_area(seen: Look, area: np.ndarray) -> None:
    """Whether a mask (*S) is empty, or looks like its opposite."""
    if not area.any():
        seen.add("empty")
        return
    corners = area[np.ix_(*[[0, -1]] * area.ndim)]
    if corners.mean() >= 3 / 4 and (share := float(area.mean())) > 1 / 2:
        seen.add("inverted", f"{share:.0%} foreground")


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))

"""Decoders of pictures and TIFF, by Pillow and tifffile, in the view that is displayed: EXIF turns are applied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from bench.datasets.limits import UnfitError, allowed_pixels, check_image, check_stream, too_many
from bench.picture import Picture

_ALPHA = (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA)
# JPEG of all kinds; JPEG 2000 and WebP in TIFF are lossless too, which their headers do not tell apart.
_LOSSY_TIFF = {6, 7, 33003, 33004, 33005, 33007, 34892, 34927, 50001}
_LOSSY_PICTURES = ("JPEG", "MPO")
_MOST_PAGES = 65536


def decode_tiff(path: Path, indexed: bool) -> Picture:
    """A TIFF file: values (C, [D,] H, W)."""
    allowed_pixels()
    plain = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB)
    try:
        with tifffile.TiffFile(path) as file:
            # Colour tables and white-is-zero are left to Pillow.
            first = file.pages.first
            _check_pages(file, path)
            if first.photometric not in plain:
                return decode_picture(path, indexed)
            series = file.series[0]
            check_image(series.size, series.nbytes, path.stat().st_size)
            axes, values = series.axes, series.asarray()
            turn = int(first.tags.valueof("Orientation") or 1)
            alpha = bool(first.extrasamples) and first.extrasamples[-1] in _ALPHA
            lossy = int(first.compression) in _LOSSY_TIFF
    except UnfitError:
        raise
    except (ValueError, ImportError, tifffile.TiffFileError):  # some compressions only Pillow can undo
        return decode_picture(path, indexed)
    channel = next((i for i, axis in enumerate(axes) if axis in "SC"), None)
    values = values[None] if channel is None else np.moveaxis(values, channel, 0)
    depth = [n for n in values.shape[1:-2] if n > 1]
    values = values.reshape(values.shape[0], *depth, *values.shape[-2:])
    return Picture(_displayed(values, turn), alpha=alpha and len(values) > 1, lossy=lossy, planes=channel == 0)


def _check_pages(file: tifffile.TiffFile, path: Path) -> None:
    """Each page is listed once: a list that comes back to itself would be walked for ever."""
    seen: set[int] = set()
    for page in file.pages:
        if page.offset in seen or len(seen) >= _MOST_PAGES:
            raise UnfitError("its list of pages has no end; replace the file")
        seen.add(page.offset)


def _displayed(values: np.ndarray, orientation: int) -> np.ndarray:
    """Values (..., H, W) as the code of EXIF and TIFF says that they are shown."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(-1, -2)
    if orientation in (2, 3, 6, 7):
        values = values[..., ::-1]
    return values[..., ::-1, :] if orientation in (3, 4, 7, 8) else values


def decode_picture(path: Path, indexed: bool) -> Picture:
    """What Pillow reads, by content whatever the name: values (C, [D,] H, W), several pages only of a TIFF."""
    with _opened(path) as image:
        frames = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
        _check_claim(image, frames, path)
        lossy = _lossy_picture(image, path)
        pages = []
        for page in range(frames):
            image.seek(page)
            image.load()  # turns a TIFF, size included
            turned = image.format != "TIFF" and _orientation(image) not in (0, 1)
            pages.append(_page(ImageOps.exif_transpose(image) if turned else image, indexed))
    if len({(p.alpha, len(p.values)) for p in pages}) > 1:
        raise ValueError("pages of different kinds")
    if any(not _same_table(p.palette, pages[0].palette) for p in pages):
        raise ValueError("pages with different colour tables")
    values = pages[0].values if frames == 1 else np.stack([p.values for p in pages], axis=1)
    return pages[0]._replace(values=values, lossy=lossy)


def _opened(path: Path) -> Image.Image:
    allowed = allowed_pixels()
    try:
        return Image.open(path)
    except Image.DecompressionBombError as error:
        Image.MAX_IMAGE_PIXELS = None
        with Image.open(path) as image:
            pixels = image.width * image.height
        allowed_pixels()
        raise too_many(pixels, allowed) from error


def _check_claim(image: Image.Image, frames: int, path: Path) -> None:
    if image.format == "TIFF" and _orientation(image) > 4 and image.info.get("compression") == "raw":
        # Pillow takes the rows of such a file for those of the turned view.
        raise UnfitError("a TIFF that is stored lying and not compressed; save it upright")
    pixels, stored = image.width * image.height * frames, path.stat().st_size
    if frames > _MOST_PAGES:
        raise UnfitError(f"{frames} pages; at most {_MOST_PAGES} are read")
    if image.format == "PNG":
        check_stream(pixels // 8 if image.mode in ("1", "P", "L") else pixels * len(image.getbands()), stored, True)
    check_image(pixels, pixels * len(image.getbands()), stored)


def displayed_turn(path: Path) -> int:
    """The code of EXIF and TIFF for how a file is turned to be displayed: 1 as it is stored, from 5 on lying."""
    try:
        with _opened(path) as image:
            return _orientation(image) or 1
    except UnidentifiedImageError:  # a TIFF that only tifffile reads
        with tifffile.TiffFile(path) as file:
            return int(file.pages.first.tags.valueof("Orientation") or 1)


def _orientation(image: Image.Image) -> int:
    return image.getexif().get(ExifTags.Base.Orientation, 1)


def _same_table(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    return a is b or (a is not None and b is not None and np.array_equal(a, b))


def _lossy_picture(image: Image.Image, path: Path) -> bool:
    if image.format == "TIFF":
        return "jpeg" in str(image.info.get("compression")) or image.info.get("compression") == "webp"
    if image.format == "WEBP":
        with path.open("rb") as file:
            return b"VP8L" not in file.read(64 << 10)[12:]  # the chunk of lossless content
    return image.format in _LOSSY_PICTURES


def _page(image: Image.Image, indexed: bool) -> Picture:
    if image.mode in ("P", "PA") and indexed:
        return _indices(image)
    mode = _array_mode(image, indexed)
    values = np.array(image if mode == image.mode else image.convert(mode))
    return Picture(values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0), alpha=mode in ("LA", "RGBA"))


def _indices(image: Image.Image) -> Picture:
    """Indices (1, H, W), or with transparency (2, H, W), and their colour table."""
    table = np.array(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
    values = np.array(image)
    indices = values if values.ndim == 2 else values[..., 0]
    if indices.max(initial=0) >= len(table):
        raise ValueError(f"index {indices.max()} is not in the colour table")
    seen = image.info.get("transparency")
    if image.mode == "PA":
        return Picture(np.moveaxis(values, -1, 0), alpha=True, palette=table)
    if seen is None:
        return Picture(indices[None], palette=table)
    opaque = np.full(256, 255, np.uint8)
    if isinstance(seen, int):
        opaque[seen] = 0
    else:
        opaque[: len(seen)] = np.frombuffer(seen, np.uint8)
    return Picture(np.stack([indices, opaque[indices]]), alpha=True, palette=table)


def _array_mode(image: Image.Image, indexed: bool) -> str:
    mode = image.mode
    if mode in ("1", "L", "RGB") and indexed and "transparency" in image.info:
        return "RGBA" if mode == "RGB" else "LA"
    if mode == "1":
        return "L"
    if mode in ("L", "RGB", "I", "F") or mode.startswith("I;16"):
        return mode
    if mode in ("LA", "RGBA"):
        return mode if indexed else mode[:-1]
    return "RGB"

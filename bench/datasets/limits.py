"""What a header may claim, so that a small file takes neither the memory nor the time of a large one."""

from __future__ import annotations

import os

from PIL import Image

from bench.errors import InputError

MAX_PIXELS = "SDSEG_MAX_PIXELS"  # environment variable: pixels that one image may have
_LARGEST = 178_956_970  # Pillow's own limit
_DEFLATE = 1032  # no stream of deflate grows by more
_ALWAYS = 256 << 20  # bytes; other codecs may pack a plain image of this size in a few


class UnfitError(ValueError):
    """A file that is refused although it can be read; says itself what to do."""


def allowed_pixels() -> int:
    """Pixels of the largest image that is read; also tells Pillow. Raises InputError for a bad variable."""
    text = os.environ.get(MAX_PIXELS, "")
    if text and not (text.isdecimal() and int(text) > 0):
        raise InputError(f"{MAX_PIXELS}={text}: give a number of pixels, such as 400000000")
    largest = int(text or _LARGEST)
    Image.MAX_IMAGE_PIXELS = -(-largest // 2)  # Pillow refuses twice of it
    return largest


def too_many(pixels: int, allowed: int) -> UnfitError:
    """The error for an image above the limit."""
    return UnfitError(f"{pixels} pixels, more than {allowed}; set the environment variable {MAX_PIXELS}={pixels}")


def check_stream(claimed: int, stored: int, packed: bool) -> None:
    """Raises UnfitError where `stored` bytes, deflated or as they are, cannot hold what the header claims."""
    if claimed > stored * (_DEFLATE if packed else 1):
        raise UnfitError(f"its header claims {claimed} bytes, which {stored} bytes cannot hold; replace the file")


def check_image(pixels: int, claimed: int, stored: int) -> None:
    """Raises UnfitError for an image (all its pages) that is out of proportion to its file and above the limit."""
    if claimed > max(stored * _DEFLATE, _ALWAYS) and pixels > allowed_pixels():
        raise too_many(pixels, allowed_pixels())

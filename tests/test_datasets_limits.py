"""Small files take neither the memory nor the time of large ones, and damaged ones are refused."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image

from bench.datasets.formats import decode, is_turned
from bench.datasets.limits import MAX_PIXELS
from bench.errors import InputError

VALUES = np.random.default_rng(0).integers(0, 2, (12, 10, 8)).astype(np.uint8)


def refused(path: Path, words: str) -> None:
    """One clear line, and no memory to speak of."""
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=words) as caught:
            decode(path, indexed=True)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("length", [1, 5])
def test_circular_lists_of_pages_are_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "c.tif"
    tifffile.imwrite(path, np.zeros((length, 8, 8), np.uint8), photometric="minisblack", metadata=None)
    with tifffile.TiffFile(path) as file:
        offsets = [page.offset for page in file.pages]
    content = bytearray(path.read_bytes())
    (count,) = struct.unpack_from("<H", content, offsets[-1])
    struct.pack_into("<I", content, offsets[-1] + 2 + 12 * count, offsets[length // 2])
    path.write_bytes(content)
    refused(path, "list of pages has no end")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_headers_that_claim_gigabytes(tmp_path: Path, suffix: str) -> None:
    header = nib.Nifti1Image(VALUES, np.eye(4)).header
    header.set_data_shape((2000, 2000, 1500))
    content = header.binaryblock + bytes(4)
    (tmp_path / f"v{suffix}").write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
    refused(tmp_path / f"v{suffix}", "claims 6000000000 bytes")


def test_arrays_and_pictures_that_claim_gigabytes(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VALUES)
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content.replace(b"(12, 10, 8), }" + b" " * 9, b"(12000, 1000, 800), }  "))
    assert b"12000" in (tmp_path / "a.npy").read_bytes()
    refused(tmp_path / "a.npy", "cannot be read")
    Image.fromarray(VALUES[0]).convert("RGB").save(tmp_path / "p.png")
    content = bytearray((tmp_path / "p.png").read_bytes())
    content[16:24] = struct.pack(">II", 12000, 12000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "p.png").write_bytes(content)
    refused(tmp_path / "p.png", "its header claims")
    tifffile.imwrite(tmp_path / "t.tif", VALUES[0], compression="zlib", metadata=None)
    with tifffile.TiffFile(tmp_path / "t.tif") as file:
        tags = {code: file.pages.first.tags[code] for code in (256, 257, 278)}
        content = bytearray((tmp_path / "t.tif").read_bytes())
        for tag in tags.values():
            struct.pack_into("<I" if tag.dtype == 4 else "<H", content, tag.valueoffset, 40000)
    (tmp_path / "t.tif").write_bytes(content)
    refused(tmp_path / "t.tif", "1600000000 pixels, more than")


def test_single_bits_of_a_gzip_stream_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "v.nii.gz"
    # Stored without compression, so that a flipped bit changes a value and nothing else.
    whole = nib.Nifti1Image(VALUES, np.diag([1, 2, 3, 1.0])).to_bytes()
    content = gzip.compress(whole, compresslevel=0)
    path.write_bytes(content)
    assert np.array_equal(decode(path).values[0], VALUES.T)
    rng = np.random.default_rng(0)
    for at in rng.integers(400, len(content) - 8, 10):
        spoiled = bytearray(content)
        spoiled[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(spoiled)
        with pytest.raises(InputError, match=r"v\.nii\.gz: cannot be read"):
            decode(path)
    path.write_bytes(content + gzip.compress(bytes(65 << 20)))
    refused(path, "far more than its header says")


def test_large_pictures_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(np.ones((60, 60), bool)).save(tmp_path / "slide.png")
    monkeypatch.setenv(MAX_PIXELS, "3000")
    refused(tmp_path / "slide.png", f"3600 pixels, more than 3000; set .*{MAX_PIXELS}=3600")
    monkeypatch.setenv(MAX_PIXELS, "3600")
    assert (decode(tmp_path / "slide.png", indexed=True).values > 0).all()
    monkeypatch.setenv(MAX_PIXELS, "many")
    with pytest.raises(InputError, match=f"{MAX_PIXELS}=many: give a number of pixels"):
        decode(tmp_path / "slide.png")


FORMATS = ("a.jpg", "a.png", "a.webp", "pillow.tif", "plain.tif", "table.tif")


@pytest.mark.parametrize(
    ("name", "orientation"),
    [*(("a.png", code) for code in range(1, 9)), *((name, n) for name in FORMATS for n in (1, 6))],
)
def test_photographs_come_as_they_are_displayed(tmp_path: Path, name: str, orientation: int) -> None:
    stored = np.zeros((16, 24), np.uint8)
    stored[:8, :8] = 255
    stored[:4, 8:16] = 128
    # By the definition of the code: which edge of the view are the first row and the first column.
    shown = {
        1: stored,
        2: np.fliplr(stored),
        3: np.rot90(stored, 2),
        4: np.flipud(stored),
        5: stored.T,
        6: np.rot90(stored, -1),
        7: np.rot90(stored, 2).T,
        8: np.rot90(stored),
    }[orientation]
    path = tmp_path / name
    exif = Image.Exif()
    exif[0x0112] = orientation
    if name == "plain.tif":
        tifffile.imwrite(path, stored, extratags=[(274, 3, 1, orientation, True)], photometric="minisblack")
    elif name == "table.tif":
        Image.fromarray(stored).convert("P").save(path, tiffinfo={274: orientation}, compression="tiff_lzw")
    elif name == "pillow.tif":
        Image.fromarray(stored).save(path, tiffinfo={274: orientation}, compression="tiff_lzw")
    else:
        options = {"quality": 95} if name == "a.jpg" else {"lossless": True} if name == "a.webp" else {}
        Image.fromarray(stored).save(path, exif=exif, **options)
    if name == "table.tif" and orientation > 4:
        Image.fromarray(stored).convert("P").save(tmp_path / "raw.tif", tiffinfo={274: orientation})
        refused(tmp_path / "raw.tif", "save it upright")
    for indexed in (True, False):
        values = decode(path, indexed=indexed).values[0].astype(int)
        assert values.shape == shown.shape
        assert np.abs(values - shown).mean() < 2
    assert is_turned(path) is (orientation != 1)

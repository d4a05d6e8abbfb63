"""Corrupted raw downloads: one line that names the file, nothing half-written, and a second call after the repair."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from tests.raw_downloads import (
    AFFINE,
    EVERY,
    KVASIR,
    Whole,
    call,
    eye,
    label,
    organs,
    picture,
    save,
    save_volume,
    scan,
    visible,
    write_raw,
)

Spoil = Callable[[Path], object]
CT, TEETH = "RawData/Training/", "labelled/"
CT_IMAGE, CT_LABEL = f"{CT}img/img0001.nii.gz", f"{CT}label/label0001.nii.gz"
POLYP, POLYP_MASK = (f"Kvasir-SEG/{folder}/{KVASIR[0]}.jpg" for folder in ("images", "masks"))
EYE_MASK = "REFUGE2/train/mask/g0001.bmp"
FRAME, FRAME_MASK = "PNG/Original/26.png", "PNG/Ground Truth/26.png"


class Row(NamedTuple):
    title: str
    dataset: str
    spoil: Spoil
    line: str  # of the error, where {} is the raw folder


def cut(name: str, share: float = 0.5) -> Spoil:
    def spoil(raw: Path) -> None:
        content = (raw / name).read_bytes()
        (raw / name).write_bytes(content[: int(len(content) * share)])

    return spoil


def remove(name: str) -> Spoil:
    return lambda raw: (raw / name).unlink()


def copy(name: str, other: str) -> Spoil:
    def spoil(raw: Path) -> None:
        (raw / other).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (raw / name).is_dir() else shutil.copy)(raw / name, raw / other)

    return spoil


def draw(name: str, values: np.ndarray, **options: object) -> Spoil:
    return lambda raw: save(raw / name, values, **options)


def volume(name: str, values: np.ndarray, affine: np.ndarray = AFFINE) -> Spoil:
    return lambda raw: save_volume(raw / name, values, affine)


def write(name: str, content: bytes) -> Spoil:
    return lambda raw: (raw / name).write_bytes(content)


def rename(name: str, other: str) -> Spoil:
    return lambda raw: (raw / name).rename(raw / other)


def remove_all(pattern: str) -> Spoil:
    return lambda raw: [path.unlink() for path in raw.rglob(pattern)]


def rename_all(pattern: str, word: str, other: str) -> Spoil:
    return lambda raw: [path.rename(path.with_name(path.name.replace(word, other))) for path in raw.rglob(pattern)]


def other_download(name: str | None) -> Spoil:
    def spoil(raw: Path) -> None:
        shutil.rmtree(raw)
        raw.mkdir()
        if name:
            write_raw(name, raw)

    return spoil


def bad_checksum(raw: Path) -> None:
    content = bytearray((raw / CT_IMAGE).read_bytes())
    content[-8] ^= 1
    (raw / CT_IMAGE).write_bytes(content)


def turned(name: str, orientation: int) -> Spoil:
    def spoil(raw: Path) -> None:
        with Image.open(raw / name) as image:
            exif = image.getexif()
            exif[274] = orientation
            image.save(raw / name, exif=exif)

    return spoil


def palette(raw: Path) -> None:
    image = Image.fromarray(label() // 255, mode="P")
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.save(raw / FRAME_MASK)


def strange_unit(raw: Path) -> None:
    image = nib.Nifti1Image(scan(), AFFINE)
    image.header.set_xyzt_units("micron")
    nib.save(image, raw / CT_IMAGE)


moved, coarse, swapped = AFFINE.copy(), AFFINE * [1, 1, 2, 1], AFFINE[[1, 0, 2, 3]]
moved[:3, 3] = 40
not_finite = scan().astype(np.float32)
not_finite[3, 3, 3] = np.nan
half = organs(13).astype(np.float32)
half[4, 4, 2] = 2.5
no_number = np.where(half == 2.5, np.nan, half)
fourth = eye()
fourth[0, 0] = 64

ROWS = [
    Row("truncated gzip", "btcv", cut(CT_IMAGE), r"img0001.nii.gz: cannot be read \(.*\); replace the file"),
    Row("truncated gzip label", "btcv", cut(CT_LABEL), r"label0001.nii.gz: cannot be read \(.*\); replace"),
    Row("checksum of gzip", "btcv", bad_checksum, r"img0001.nii.gz: cannot be read \(CRC check failed.*; replace"),
    Row("no NIfTI at all", "btcv", write(CT_IMAGE, b"<html>503</html>"), r"img0001.nii.gz: cannot be read .*; replace"),
    Row("an empty file", "sts3d", write(f"{TEETH}label/Teeth_0005_0000.nii.gz", b""), "Teeth_0005_0000.nii.gz: cannot"),
    Row("another origin", "btcv", volume(CT_LABEL, organs(13), moved), "label0001.* origin .*; save it on that grid$"),
    Row("another spacing", "btcv", volume(CT_LABEL, organs(13), coarse), "label0001.* spacing .*; save it on that"),
    Row("another unit", "btcv", strange_unit, "label0001.nii.gz: spacing .*; save it on that grid"),
    Row("another direction", "btcv", volume(CT_LABEL, organs(13), swapped), "label0001.nii.gz: size .*; save it at"),
    Row("another size", "sts3d", volume(f"{TEETH}label/Teeth_0001_0000.nii.gz", organs(1)[:-1]), "size 6 x 10 x 11"),
    Row("no label", "btcv", remove(CT_LABEL), "img0001.nii.gz: no mask for it in .*; complete the download"),
    Row("no image", "btcv", remove(CT_IMAGE), "label0001.nii.gz: no image for it in .*; complete the download"),
    Row("no mask", "kvasir_seg", remove(POLYP_MASK), f"images/{KVASIR[0]}.jpg: no mask for it"),
    Row("two suffixes", "btcv", copy(CT_IMAGE, f"{CT}img/img0001.nii"), "'img0001' twice, also as img0001.nii"),
    Row(
        "two names of a number",
        "sts3d",
        copy(f"{TEETH}image/Teeth_0001_0000.nii.gz", f"{TEETH}image/Teeth_0001.nii.gz"),
        "Teeth_0001_0000.nii.gz: the case 0001 twice, also as Teeth_0001.nii.gz; remove one",
    ),
    Row("two folders", "btcv", copy("RawData", "RawData (1)"), "a second copy beside .*; remove one of them"),
    Row("two folders of frames", "cvc_clinicdb", copy("PNG", "again/PNG"), "a second copy beside"),
    Row(
        "an eye in two parts",
        "refuge2",
        copy("REFUGE2/train", "REFUGE2/again"),
        "g0001.jpg: the case g0001 twice, also .*g0001.jpg; remove one of them",
    ),
    Row("a foreign volume", "btcv", rename(CT_IMAGE, f"{CT}img/scan.nii.gz"), "scan.nii.gz: a name that .*; rename or"),
    Row("an unlabelled number", "sts3d", rename_all("*0005_*", "0005", "0099"),
        "image/Teeth_0099_0000.nii.gz: no labelled case of STS-3D .*; remove it"),
    Row("a 4-D image", "btcv", volume(CT_IMAGE, np.stack([scan()] * 2, -1)), r"img0001.nii.gz: shape .*, not one vol"),
    Row("no slices", "btcv", volume(CT_IMAGE, scan()[..., :0]), "img0001.nii.gz: cannot be read .*; replace"),
    Row("not finite", "btcv", volume(CT_IMAGE, not_finite), "img0001.nii.gz: holds NaN or infinity; replace the file"),
    Row("shifted HU", "btcv", volume(CT_IMAGE, scan() + 1024), "img0001.nii.gz: no value below -125 .*no HU; take"),
    Row("scaled to one", "sts3d", volume(f"{TEETH}image/Teeth_0001_0000.nii.gz", (scan() > 0).astype(np.float32)),
        "Teeth_0001_0000.nii.gz: values from 0 to 1, which are no HU; take the file as downloaded"),
    Row("label 14", "btcv", volume(CT_LABEL, organs(14)), "label0001.nii.gz: holds 14, no label of the data set; repl"),
    Row("half a label", "btcv", volume(CT_LABEL, half), "label0001.nii.gz: holds 2.5, no label of the data set"),
    Row("a label that is no number", "btcv", volume(CT_LABEL, no_number), "label0001.nii.gz: holds nan, no label"),
    Row("no organ", "btcv", volume(CT_LABEL, organs(13) * 0), "label0001.nii.gz: every voxel is background; replace"),
    Row("teeth of two kinds", "sts3d", volume(f"{TEETH}label/Teeth_0001_0000.nii.gz", organs(2)), "holds 2, no label"),
    Row("an inverted eye", "refuge2", draw(EYE_MASK, 255 - eye()), "g0001.bmp: its edge is 0, .*inverted; save 255 "),
    Row("a fourth level", "refuge2", draw(EYE_MASK, fourth), "g0001.bmp: holds grey level 64; expected 0 .*; replace"),
    Row("an eye in JPEG", "refuge2", lambda raw: Image.fromarray(eye()).save(raw / EYE_MASK, "JPEG"), "bmp: holds"),
    Row("an eye in colours", "refuge2", draw(EYE_MASK, picture(1)), "g0001.bmp: a mask in colours.*; replace the file"),
    Row("no disc", "refuge2", draw(EYE_MASK, eye() * 0 + 255), "g0001.bmp: no disc in it; replace the file"),
    Row("all cup", "refuge2", draw(EYE_MASK, eye() * 0), "g0001.bmp: its edge is 0"),
    Row("an eye of another size", "refuge2", draw(EYE_MASK, eye()[:-2]), "g0001.bmp: 22 x 32, its image 24 x 32"),
    Row("a dark mask", "kvasir_seg", draw(POLYP_MASK, label() // 3), "no label in it, its largest grey level is .*; "),
    Row("a black mask", "kvasir_seg", draw(POLYP_MASK, label() * 0), "no label in it, its largest grey level is 0"),
    Row("a mask of another size", "kvasir_seg", draw(POLYP_MASK, label().T), "32 x 24, its image 24 x 32; replace one"),
    Row("half a photograph", "kvasir_seg", cut(POLYP), r"images/.*jpg: cannot be read \(.*\); replace the file"),
    Row("a turned photograph", "kvasir_seg", turned(POLYP, 3), "jpg: turned by its EXIF tag, but not .*; save both"),
    Row("a turned mask", "kvasir_seg", turned(POLYP_MASK, 3), "masks/.*jpg: turned by its EXIF tag, but not"),
    Row("frame 613", "cvc_clinicdb", copy(FRAME, "PNG/Original/613.png"), "613.png: no mask for it in"),
    Row("frames with a word", "cvc_clinicdb", rename_all("1.*", "1.", "frame1."),
        "frame1.png: no frame of CVC-ClinicDB, which are called 1 to 612; remove it"),
    Row("twins in number", "cvc_clinicdb", remove_all("PNG/*/26.png"),
        "TIF/Original/26.tif: not there as both PNG and TIF; complete"),
    Row("a frame elsewhere", "cvc_clinicdb", write("metadata.csv", b"sequence_id,png_image_path\n7,26.png\n"),
        "26.png: metadata.csv has frame 26 in sequence 7, known as sequence-02; correct"),
    Row("other columns", "cvc_clinicdb", write("metadata.csv", b"a;b\n1;2\n"), "metadata.csv: no table with the col"),
    Row("a table of bytes", "cvc_clinicdb", write("metadata.csv", b"\xff\xfe\0"), "metadata.csv: no table with .*"),
    Row("a mask of 16 bits", "cvc_clinicdb", draw(FRAME_MASK, label().astype(np.uint16) * 257), "26.png: uint16 of"),
    Row("a picture of 16 bits", "cvc_clinicdb", draw(FRAME, label().astype(np.uint16)), "26.png: uint16 of .*; repl"),
    Row("a mask by colour table", "cvc_clinicdb", palette, "26.png: a mask in colours, .*; replace the file"),
    Row("an empty folder", "btcv", other_download(None), r"{}: no folder with img/ and label/ in it; give the downl"),
    Row("another data set", "btcv", other_download("sts3d"), r"{}: no folder with img/ and label/ in it; give the d"),
    Row("another data set of pictures", "cvc_clinicdb", other_download("kvasir_seg"), "no folder with Original/"),
    Row("half a download", "kvasir_seg", remove_all("*.jpg"), "{}: 0 of the 1000 cases of .*; complete"),
    Row("an archive inside", "btcv", lambda raw: (shutil.rmtree(raw / "RawData"), (raw / "RawData.zip").touch()),
        r"{}: no folder with img/ and label/ in it; unpack RawData.zip and give its folder"),
]  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return Whole(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.title)
def test_a_corrupted_download(row: Row, whole: Whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected, raw, out = whole.files(row.dataset), tmp_path / "in" / "raw", tmp_path / "out"
    row.spoil(write_raw(row.dataset, raw))
    before = visible(tmp_path / "in")
    capsys.readouterr()
    assert call(row.dataset, raw, out) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert re.search(row.line.replace("{}", re.escape(str(raw))), line)
    assert visible(tmp_path / "in") == before
    assert not list(out.rglob(".part-*"))
    assert not (out / "dataset.json").exists()
    shutil.rmtree(raw)
    assert call(row.dataset, write_raw(row.dataset, raw), out) == 0
    assert visible(out) == expected
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("dataset", EVERY)
def test_what_systems_and_owners_leave_beside_the_files(dataset: str, whole: Whole, tmp_path: Path) -> None:
    """Folders in folders, of macOS and Windows, and BTCV's volumes without labels change nothing."""
    raw = write_raw(dataset, tmp_path / "raw" / "archive" / "download")
    for folder in [path for path in raw.rglob("*") if path.is_dir()]:
        copied = tmp_path / "raw" / "__MACOSX" / folder.relative_to(raw)
        copied.mkdir(parents=True)
        (copied / "._1.png").write_bytes(b"Mac OS X")
        for name in (".DS_Store", "Thumbs.db", "._1.jpg", "desktop.ini"):
            (folder / name).write_bytes(b"left here")
    save_volume(raw / "RawData" / "Testing" / "img" / "img0061.nii.gz", scan())
    (raw / b"caf\xe9".decode(errors="surrogateescape")).mkdir()
    assert call(dataset, tmp_path / "raw", tmp_path / "out") == 0
    assert visible(tmp_path / "out") == whole.files(dataset)


def test_a_label_stored_in_another_order_still_lies_on_its_image(whole: Whole, tmp_path: Path) -> None:
    """The release's loaders index what is stored; a label that says it is stored mirrored is turned first."""
    raw, out, words = write_raw("btcv", tmp_path / "raw"), tmp_path / "out", ("--preprocessing", "paper")
    mirrored = nib.load(raw / CT_LABEL).as_reoriented([[0, -1], [1, 1], [2, -1]])
    nib.save(nib.Nifti1Image(np.array(mirrored.dataobj), mirrored.affine), raw / CT_LABEL)
    assert call("btcv", raw, out, *words) == 0
    expected = whole.files("btcv", *words)
    assert visible(out)["masks/0001.nii"] == expected["masks/0001.nii"]
    assert visible(out)["images/0001.nii"] == expected["images/0001.nii"]

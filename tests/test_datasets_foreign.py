"""MetaImage and NRRD lie on the same grids as NIfTI; what cannot be read rightly is named."""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bench.datasets.folder import Folder
from bench.datasets.formats import decode
from bench.errors import InputError
from bench.scoring.folder import score_folder

AFFINE = np.diag([0.8, 0.9, 2.5, 1.0])
AFFINE[:3, 3] = [-20, -30, 12]
VALUES = np.random.default_rng(0).integers(0, 3, (6, 7, 5)).astype(np.uint8)  # X, Y, Z
NAMES = ["v.mha", "v.mhd", "v.nrrd", "v.nhdr", "v.seg.nrrd"]


def save(path: Path, values: np.ndarray = VALUES, affine: np.ndarray = AFFINE, *, packed: bool = False) -> Path:
    """Write what a NIfTI file with this affine holds, by SimpleITK."""
    itk = pytest.importorskip("SimpleITK")
    path.parent.mkdir(exist_ok=True)
    lps = np.diag([-1, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = itk.GetImageFromArray(values.T)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    itk.WriteImage(image, str(path), packed)
    return path


@pytest.mark.parametrize(("name", "packed"), [*((name, False) for name in NAMES), ("v.mhd", True), ("v.nrrd", True)])
def test_the_same_volume_in_every_format(tmp_path: Path, name: str, packed: bool) -> None:
    nib.save(nib.Nifti1Image(VALUES, AFFINE), tmp_path / "v.nii")
    for turn in (np.eye(4), np.diag([-1, 1, 1, 1]), np.eye(4)[[2, 0, 1, 3]]):
        image = nib.Nifti1Image(VALUES, AFFINE).as_reoriented(nib.io_orientation(turn))
        found, expected = (
            decode(p)
            for p in (save(tmp_path / name, np.asarray(image.dataobj), image.affine, packed=packed), tmp_path / "v.nii")
        )
        assert np.array_equal(found.values, expected.values)
        assert found.spacing_mm == pytest.approx(expected.spacing_mm)
        np.testing.assert_allclose(found.affine, expected.affine, atol=1e-5)


def test_scores_against_nifti(tmp_path: Path) -> None:
    (tmp_path / "ref").mkdir()
    nib.save(nib.Nifti1Image(VALUES, AFFINE), tmp_path / "ref/v.nii.gz")
    save(
        tmp_path / "pred/v.mha",
        VALUES[::-1],
        AFFINE @ np.array([[-1, 0, 0, 5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
    )
    summary = score_folder(tmp_path / "pred", tmp_path / "ref", tmp_path / "out", metrics=["Dice"])
    assert summary["metrics"]["Dice"]["2"]["mean"] == 1.0
    save(tmp_path / "pred/v.mha", affine=AFFINE + np.eye(4)[:, [3, 3, 3, 0]] * [0, 0, 0, 8])
    with pytest.raises(InputError, match=r"v\.mha: origin"):
        score_folder(tmp_path / "pred", tmp_path / "ref", tmp_path / "out", metrics=["Dice"])


def test_a_header_of_its_own_counts_with_its_values(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        save(tmp_path / f"images/{name}.mhd")
        save(tmp_path / f"masks/{name}.mhd", (VALUES == 1).astype(np.uint8))
    before = Folder(tmp_path, 8, channels=1).fingerprint()["data"]
    raw = tmp_path / "images/a.raw"
    raw.write_bytes(bytes(raw.stat().st_size))
    assert Folder(tmp_path, 8, channels=1).fingerprint()["data"] != before
    header = tmp_path / "images/a.mhd"
    for elsewhere in ("../masks/a.raw", "/etc/hostname", "LIST"):
        header.write_text("\n".join([*header.read_text().splitlines()[:-1], f"ElementDataFile = {elsewhere}"]) + "\n")
        with pytest.raises(InputError, match=r"a\.mhd: .*its values lie in"):
            decode(header)


@pytest.mark.parametrize("name", ["v.mha", "v.nrrd"])
def test_headers_that_claim_gigabytes(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name)
    path.write_bytes(path.read_bytes().replace(b"6 7 5", b"6000 700 500"))
    with pytest.raises(InputError, match=r"its header claims 2100000000 bytes"):
        decode(path)
    path.write_bytes(b"junk")
    with pytest.raises(InputError, match=rf"{name}: cannot be read \(no {name[1:]} file: "):
        decode(path)


def test_what_is_not_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "v.dcm").write_bytes(b"DICM")
    with pytest.raises(InputError, match=r"v\.dcm: .*DICOM; convert it to NIfTI"):
        decode(tmp_path / "v.dcm")
    (tmp_path / "v.mha").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(InputError, match=r"v\.mha: .*\.mha needs SimpleITK: pip install 'sdseg-bench\[formats\]'"):
        decode(tmp_path / "v.mha")

"""Volumes come in one orientation, and two files of a case share a grid, are refused or are resampled on request."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from baselines.predictions import predictions_segmenter
from bench.command.segment import _case, _write
from bench.datasets.folder import Folder
from bench.datasets.formats import decode, is_turned
from bench.datasets.grids import Onto, on_grid
from bench.datasets.masks import MaskFiles
from bench.datasets.masks.declared import declared
from bench.datasets.nifti import write_nifti
from bench.errors import InputError
from bench.notes import heard
from bench.predicting import predict_cases
from bench.scoring.folder import score_folder
from bench.types import Case, TaskSpec

RAS = np.diag([0.8, 0.9, 2.5, 1.0])
RAS[:3, 3] = [-20, -30, 12]
SHAPE = (9, 10, 7)  # X, Y, Z


def volume() -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    array[2:6, 3:9, 1:4] = 1
    array[6:8, 1:3, 4:6] = 2
    return array


def stored(array: np.ndarray, affine: np.ndarray, turn: list[list[int]]) -> nib.Nifti1Image:
    """The same anatomy in another order of storage."""
    return nib.Nifti1Image(array, affine).as_reoriented(np.array(turn))


TURNS = [
    [[axis, sign] for axis, sign in zip(axes, signs, strict=True)]
    for axes in itertools.permutations(range(3))
    for signs in itertools.product([1, -1], repeat=3)
]


@pytest.mark.parametrize("turn", TURNS[::3], ids=str)
def test_every_order_of_storage_reads_alike_and_is_written_back(tmp_path: Path, turn: list[list[int]]) -> None:
    source = stored(volume(), RAS, turn)
    nib.save(source, tmp_path / "v.nii.gz")
    picture = decode(tmp_path / "v.nii.gz")
    assert np.array_equal(picture.values[0], volume().T)
    assert picture.spacing_mm == pytest.approx((2.5, 0.9, 0.8))
    np.testing.assert_allclose(picture.affine, RAS, atol=1e-5)
    write_nifti(tmp_path / "mask.nii.gz", picture.values[0], tmp_path / "v.nii.gz")
    written = nib.load(tmp_path / "mask.nii.gz")
    assert np.array_equal(np.asarray(written.dataobj), np.asarray(source.dataobj))
    assert np.array_equal(written.affine, nib.load(tmp_path / "v.nii.gz").affine)


def without_codes(array: np.ndarray, zooms: tuple[float, ...]) -> nib.Nifti1Image:
    image = nib.Nifti1Image(array, None)
    image.header.set_zooms(zooms)
    image.header["sform_code"] = image.header["qform_code"] = 0
    return image


@pytest.mark.parametrize(
    ("turn", "kind"),
    [([[2, 1], [0, -1], [1, 1]], "no codes"), ([[0, -1], [1, -1], [2, 1]], "identity"), (TURNS[32], "array")],
)
def test_what_states_no_orientation_is_stored_as_its_owner(tmp_path: Path, turn: list[list[int]], kind: str) -> None:
    owner = stored(volume(), RAS, turn)
    nib.save(owner, tmp_path / "owner.nii.gz")
    array = np.asarray(owner.dataobj)
    path = tmp_path / ("p.npy" if kind == "array" else "p.nii.gz")
    if kind == "array":
        np.save(path, array.T)
    else:
        zooms = owner.header.get_zooms()
        nib.save(without_codes(array, zooms) if kind == "no codes" else nib.Nifti1Image(array, np.eye(4)), path)
    grid = decode(tmp_path / "owner.nii.gz").grid
    picture = on_grid(decode(path), path, Onto(grid))
    assert np.array_equal(picture.values[0], volume().T)
    assert picture.spacing_mm == grid.spacing_mm
    # And the other way round: the owner states nothing, so the other one is compared in its own order of storage.
    back = on_grid(decode(tmp_path / "owner.nii.gz"), path, Onto(decode(path).grid))
    assert np.array_equal(back.values[0], array.T)


def moved(change: str) -> tuple[np.ndarray, np.ndarray]:
    array, affine = volume(), RAS.copy()
    if change == "origin":
        affine[0, 3] += 8
    elif change == "spacing":
        affine[2, 2] = 5
    elif change == "direction":
        affine[:2, :2] = np.array([[0.9, -0.436], [0.436, 0.9]]) / 1.000048 @ affine[:2, :2]
    else:
        array = array[:, :, :5]
    return array, affine


@pytest.mark.parametrize("change", ["origin", "spacing", "direction", "size"])
def test_another_grid_is_refused_and_says_what_differs(tmp_path: Path, change: str) -> None:
    nib.save(nib.Nifti1Image(volume(), RAS), tmp_path / "r.nii.gz")
    nib.save(nib.Nifti1Image(*moved(change)), tmp_path / "p.nii.gz")
    grid = decode(tmp_path / "r.nii.gz").grid
    with pytest.raises(InputError, match=rf"p\.nii\.gz: {change} .*its reference has .*--resample"):
        decode(tmp_path / "p.nii.gz", onto=Onto(grid))


def test_rounded_headers_are_the_same_grid(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(volume(), RAS), tmp_path / "r.nii.gz")
    nib.save(nib.Nifti1Image(volume(), RAS * 1.0005), tmp_path / "p.nii.gz")
    grid = decode(tmp_path / "r.nii.gz").grid
    assert decode(tmp_path / "p.nii.gz", onto=Onto(grid)).spacing_mm == grid.spacing_mm


def test_resampling_to_the_reference(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(volume(), RAS), tmp_path / "r.nii.gz")
    # The same anatomy on a grid of twice as many elements, and one voxel more at every side.
    fine = np.pad(np.kron(volume(), np.ones((2, 2, 2), np.uint8)), 2)
    affine = RAS @ np.diag([0.5, 0.5, 0.5, 1.0])
    affine[:3, 3] = nib.affines.apply_affine(RAS, [-1.25, -1.25, -1.25])
    nib.save(nib.Nifti1Image(fine, affine).as_reoriented(np.array(TURNS[9])), tmp_path / "p.nii.gz")
    grid = decode(tmp_path / "r.nii.gz").grid
    with heard() as notes:
        picture = decode(tmp_path / "p.nii.gz", onto=Onto(grid, resample=True))
    assert np.array_equal(picture.values[0], volume().T)
    assert (picture.values.dtype, picture.spacing_mm) == (np.uint8, grid.spacing_mm)
    (line,) = notes.lines()
    assert "resampled by nearest neighbour" in line
    # Outside of what it covers a prediction says nothing.
    part = nib.Nifti1Image(np.ones((3, 3, 3), np.uint8), RAS)
    nib.save(part, tmp_path / "part.nii.gz")
    values = decode(tmp_path / "part.nii.gz", onto=Onto(grid, resample=True)).values
    assert values.sum() == 27
    assert values[0, :3, :3, :3].all()


def test_outside_of_a_resampled_mask_is_background(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(volume(), RAS), tmp_path / "r.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), RAS), tmp_path / "p.nii.gz")
    onto = Onto(decode(tmp_path / "r.nii.gz").grid, resample=True)
    reading = MaskFiles(tmp_path, [tmp_path / "p.nii.gz"], declared("auto", {"a": 0}, None, 255))
    mask = reading.read_onto(tmp_path / "p.nii.gz", onto)[0].stack()
    assert (mask.sum(), mask[0, :3, :3, :3].all()) == (27, True)


def folders(root: Path, prediction: np.ndarray) -> tuple[Path, Path]:
    for name in ("pred", "ref"):
        (root / name).mkdir()
    reference = np.zeros((12, 16), np.uint8)
    reference[2:8, 4:12] = 255
    Image.fromarray(reference).save(root / "ref/a.png")
    Image.fromarray(prediction).save(root / "pred/a.png")
    return root / "pred", root / "ref"


def test_score_folder_resamples_on_request_and_notes_it(tmp_path: Path) -> None:
    half = np.zeros((6, 8), np.uint8)
    half[1:4, 2:6] = 255
    pred, ref = folders(tmp_path, half)
    with pytest.raises(InputError, match=r"pred/a\.png: size 6 x 8, but its reference has 12 x 16.*--resample"):
        score_folder(pred, ref, tmp_path / "out", metrics=["Dice"])
    summary = score_folder(pred, ref, tmp_path / "out", metrics=["Dice"], resample=True)
    assert summary["metrics"]["Dice"]["foreground"]["mean"] == 1.0
    assert any("size 6 x 8" in note and "resampled" in note for note in summary["notes"])


def read_as_method(root: Path, case: Case, *, resample: bool = False) -> np.ndarray:
    task = TaskSpec(1, ("a", "b"), (8, 8), case.image.ndim - 1)
    stated = {"labels": None, "mask": "auto", "background": 0, "resample": resample}
    readers = {"find": "bench.datasets.pairing.find_files", "read_score": "bench.datasets.images.read_score"}
    readers["read_masks"] = "bench.datasets.masks.predictions.PredictedMasks"
    segmenter = predictions_segmenter(task, 0, "cpu", {}, str(root), scores=None, **stated, **readers)
    (found,) = predict_cases(
        segmenter, task, [case], [0], {"seed": 0, "predict_batch_size": 1, "method": {"name": "predictions"}}
    )
    return found.mask.numpy()


def test_predictions_as_a_method_lie_on_their_cases_grids(tmp_path: Path) -> None:
    case = Case("p", "p", volume().T[None] * 1.0, np.stack([volume().T == 1, volume().T == 2]), grid=None)
    nib.save(nib.Nifti1Image(volume(), RAS), tmp_path / "r.nii.gz")
    case = replace(case, grid=decode(tmp_path / "r.nii.gz").grid)
    (tmp_path / "pred").mkdir()
    path = tmp_path / "pred/p.nii.gz"
    for turn in (TURNS[0], TURNS[5], TURNS[30]):
        nib.save(stored(volume(), RAS, turn), path)
        assert np.array_equal(read_as_method(tmp_path / "pred", case), case.reference)
    nib.save(nib.Nifti1Image(*moved("size")), path)
    with pytest.raises(
        InputError, match=r"size 5 x 10 x 9, but its reference has 7 x 10 x 9.*method\.options\.resample"
    ):
        read_as_method(tmp_path / "pred", case)
    assert read_as_method(tmp_path / "pred", case, resample=True).shape == case.reference.shape


@pytest.mark.parametrize(
    ("spoil", "spacing", "words"),
    [
        (lambda header: header.set_zooms((1, 1, 5)), (2.5, 0.9, 0.8), "pixdim says 1 x 1 x 5 mm and the affine"),
        (lambda header: header.__setitem__("pixdim", [1, 0.8, 0.9, 0, 0, 0, 0, 0]), (2.5, 0.9, 0.8), "pixdim is 0"),
        (lambda header: header.__setitem__("xyzt_units", 7), (2.5, 0.9, 0.8), ""),
        (lambda header: header.__setitem__("xyzt_units", 1), (2500, 900, 800), ""),
        (lambda header: header.__setitem__("xyzt_units", 3), (0.0025, 0.0009, 0.0008), ""),
    ],
)
def test_headers_that_contradict_themselves(tmp_path: Path, spoil: object, spacing: tuple, words: str) -> None:
    image = nib.Nifti1Image(volume(), RAS)
    nib.save(image, tmp_path / "v.nii")
    header = image.header.copy()
    spoil(header)  # type: ignore[operator]
    content = (tmp_path / "v.nii").read_bytes()
    (tmp_path / "v.nii").write_bytes(header.binaryblock + content[348:])
    with heard() as notes:
        assert decode(tmp_path / "v.nii").spacing_mm == pytest.approx(spacing)
    assert words in " ".join(notes.lines())
    assert bool(notes.lines()) is bool(words)


def test_no_spacing_of_zero(tmp_path: Path) -> None:
    image = without_codes(volume(), (0.8, 0.9, 2.5))
    image.header["pixdim"][3] = 0
    nib.save(image, tmp_path / "v.nii")
    content = bytearray((tmp_path / "v.nii").read_bytes())
    content[88:92] = np.float32(0).tobytes()
    (tmp_path / "v.nii").write_bytes(content)
    assert decode(tmp_path / "v.nii").spacing_mm == pytest.approx((1, 0.9, 0.8))
    image = nib.Nifti1Image(volume(), RAS)
    image.header["srow_z"] = 0
    (tmp_path / "v.nii").write_bytes(image.header.binaryblock + image.to_bytes()[348:])
    with pytest.raises(InputError, match=r"affine is not finite or flat"):
        decode(tmp_path / "v.nii")


@pytest.mark.parametrize(("shape", "axes"), [((4, 5, 6, 1), (1, 6, 5, 4)), ((4, 5, 6, 1, 3), (3, 6, 5, 4))])
def test_axes_of_length_one(tmp_path: Path, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    nib.save(nib.Nifti1Image(np.zeros(shape, np.uint8), RAS), tmp_path / "v.nii")
    assert decode(tmp_path / "v.nii").values.shape == axes
    nib.save(nib.Nifti1Image(np.zeros((1, 4, 5, 6), np.uint8), RAS), tmp_path / "v.nii")
    with pytest.raises(InputError, match=r"shape \(1, 4, 5, 6\).*save it as \(4, 5, 6\)"):
        decode(tmp_path / "v.nii")


def test_scaled_integers_are_whole_again_and_fractions_stay(tmp_path: Path) -> None:
    labels = np.arange(4.0).repeat(30).reshape(4, 5, 6)
    nib.save(nib.Nifti1Image(labels, RAS, nib.Nifti1Image(labels.astype(np.int16), RAS).header), tmp_path / "v.nii")
    raw = np.asanyarray(nib.load(tmp_path / "v.nii").dataobj)
    assert np.array_equal(decode(tmp_path / "v.nii").values[0], labels.T)
    assert raw.dtype.kind == "f"
    assert decode(tmp_path / "v.nii").values.dtype.kind == "i"
    small = np.random.default_rng(0).random((4, 5, 6)) * 1e-4
    for values in (small, labels / 3):
        header = nib.Nifti1Image(values.astype(np.int16), RAS).header
        nib.save(nib.Nifti1Image(values, RAS, header), tmp_path / "v.nii")
        np.testing.assert_allclose(decode(tmp_path / "v.nii").values[0], values.T, atol=1e-4 * values.max())
        assert decode(tmp_path / "v.nii").values.dtype.kind == "f"


def test_volumes_of_mixed_orientation_train_together(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    image = volume() * 40.0 + np.arange(9)[:, None, None]
    for i, turn in enumerate((TURNS[0], TURNS[7], TURNS[21])):
        nib.save(stored(image.astype(np.float32), RAS, turn), tmp_path / f"images/c{i}.nii.gz")
        nib.save(stored(volume(), RAS, TURNS[i + 3]), tmp_path / f"masks/c{i}.nii.gz")  # stored as it likes
    dataset = Folder(tmp_path, 8, labels=["a", "b"], channels=1, intensity=[0, 100])
    for case in map(dataset.case, ("c0", "c1", "c2")):
        assert np.array_equal(case.image[0], image.T)
        assert np.array_equal(case.reference[1], volume().T == 2)
        assert case.spacing_mm == pytest.approx((2.5, 0.9, 0.8))
    assert dataset.spec.orientation == "RAS"
    # A run on volumes that were read as they are stored is not a run on these.
    assert is_turned(tmp_path / "images/c1.nii.gz")
    assert not is_turned(tmp_path / "images/c0.nii.gz")


@pytest.mark.parametrize("orientation", ["RAS", ""])
def test_segment_feeds_the_orientation_of_the_run_and_writes_the_files_own(tmp_path: Path, orientation: str) -> None:
    source = stored(volume(), RAS, TURNS[29])
    nib.save(source, tmp_path / "V.NII.GZ")
    task = TaskSpec(1, ("a", "b"), (8, 8), 3, (0.0, 2.0), ((1,), (2,)), orientation)
    image = _case("V", tmp_path / "V.NII.GZ", task).image[0]
    array = volume() if orientation else np.asarray(source.dataobj)  # a run that does not say it took them as stored
    assert np.array_equal(image, array.T)
    _write(tmp_path / "mask.nii.gz", np.stack([image == 1, image == 2]), tmp_path / "V.NII.GZ", task)
    written = nib.load(tmp_path / "mask.nii.gz")
    assert np.array_equal(np.asarray(written.dataobj), np.asarray(source.dataobj))
    np.testing.assert_allclose(written.affine, source.affine, atol=1e-5)

"""Raw downloads of the paper's data sets into prepared folders: what is read, what is written, how it goes on."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from bench.cli import main
from bench.datasets.benchmarks.volumes import half_pixel, without_specks
from bench.datasets.mini import write_mini
from bench.datasets.prepared import Prepared
from bench.datasets.preparing import prepare
from bench.datasets.splitting import SPLITS
from bench.errors import InputError
from bench.files import sha256_of

DEFAULTS = {
    "cvc_clinicdb": ("sequence", "polyp"),
    "kvasir_seg": ("800_100_100", "polyp"),
    "refuge2": ("800_400", "cup_disc"),
    "btcv": ("transunet_18_12", "organs13"),
    "sts3d": ("9_3", "teeth"),
}


PAPER = ["--source", "mini", "--preprocessing", "paper"]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write_mini(name, tmp_path_factory.mktemp(name)) for name in DEFAULTS}


def files_of(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): sha256_of(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def some(raw: Path, into: Path, *patterns: str) -> Path:
    """A copy of the files of a raw download that match a pattern."""
    for pattern in patterns:
        for path in raw.rglob(pattern):
            if path.is_file():
                (into / path.relative_to(raw)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, into / path.relative_to(raw))
    return into


def dataset(folder: Path, name: str, **changes: Any) -> Prepared:
    split, labels = DEFAULTS[name]
    return Prepared(folder, **{"benchmark": name, "image_size": 64, "split": split, "labels": labels, **changes})


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("cvc_clinicdb", (138, 18, 18)),
        ("kvasir_seg", (50, 10, 20)),
        ("refuge2", (57, 3, 20)),
        ("btcv", (15, 3, 5)),
        ("sts3d", (7, 2, 3)),
    ],
)
def test_a_miniature_becomes_cases(
    raw: dict[str, Path], tmp_path: Path, name: str, counts: tuple[int, int, int]
) -> None:
    info = prepare(name, raw[name], tmp_path / "out", partial=True)
    data = dataset(tmp_path / "out", name)
    data.check()
    assert tuple(len(data.case_ids(split)) for split in SPLITS) == counts
    assert set(info["cases"]) == {case for split in SPLITS for case in data.case_ids(split)}
    assert Image.open(tmp_path / "out" / "sheet.png").width > 1000
    case = data.case(data.case_ids("test")[0])
    assert case.reference.shape == (len(data.spec.labels), *case.image.shape[1:])
    assert case.reference.any()


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_release_s_preprocessing_is_256_by_256(raw: dict[str, Path], tmp_path: Path, name: str) -> None:
    source = some(raw[name], tmp_path / "raw", "10[45].tif", "cju0*", "[gT]0001.*", "*0001.nii.gz", "*_0001_*")
    prepare(name, source, tmp_path / "out", "paper", partial=True)
    data = dataset(tmp_path / "out", name)
    case = data.case(next(case for split in SPLITS for case in data.case_ids(split)))
    assert case.image.shape[-2:] == case.reference.shape[-2:] == (256, 256)
    assert case.reference.any()


def test_a_prepared_folder_tells_the_record_what_was_done(raw: dict[str, Path], tmp_path: Path) -> None:
    prepare("refuge2", raw["refuge2"], tmp_path / "out", "paper", {"crop": 90}, partial=True)
    data = dataset(tmp_path / "out", "refuge2", labels="cup", split="400_400_400")
    facts = data.facts()
    assert facts.pop("preprocessing").startswith(
        "paper crop=90 (version 1): a square of `crop` pixels around the middle"
    )
    assert facts == {"target": "cup", "manifest": "400_400_400"}
    info = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert info["cases"]["n0001"]["facts"]["crop"][2:] == [90, 90]


def test_targets_join_and_leave_out_organs(raw: dict[str, Path], tmp_path: Path) -> None:
    prepare("btcv", some(raw["btcv"], tmp_path / "raw", "*0001.nii.gz"), tmp_path / "out", partial=True)
    size = {}
    for labels in ("merged13", "merged8", "organs13", "organs8"):
        data = dataset(tmp_path / "out", "btcv", labels=labels)
        size[labels] = data.case("0001").reference.sum(axis=(1, 2, 3))
    raw_ids = np.asarray(nib.load(raw["btcv"] / "Abdomen/RawData/Training/label/label0001.nii.gz").dataobj)
    eight = [1, 2, 3, 4, 6, 7, 8, 11]
    assert size["merged13"] == [(raw_ids > 0).sum()]
    assert size["merged8"] == [np.isin(raw_ids, eight).sum()]
    assert list(size["organs8"]) == [(raw_ids == number).sum() for number in eight]
    assert list(size["organs13"]) == [(raw_ids == number).sum() for number in range(1, 14)]


def test_the_two_windows_of_btcv(raw: dict[str, Path], tmp_path: Path) -> None:
    """Training slices leave [-1, 1] as the release's do; with ct_window=test nothing does."""
    released, alike = tmp_path / "released", tmp_path / "alike"
    source = some(raw["btcv"], tmp_path / "raw", "*0001.nii.gz", "*0005.nii.gz")
    prepare("btcv", source, released, "paper", partial=True)
    prepare("btcv", source, alike, "paper", {"ct_window": "test"}, partial=True)
    train, test = (dataset(released, "btcv").case(name).image for name in ("0005", "0001"))
    assert (train.min(), train.max()) == (-1.25, pytest.approx(0.875))
    assert (test.min(), test.max()) == (-1, 1)
    assert dataset(alike, "btcv").case("0005").image.min() == -1
    assert np.array_equal(dataset(alike, "btcv").case("0001").image, test)


def test_training_slices_lie_on_opencv_s_grid() -> None:
    """From 512 to 256 its bilinear grid is the mean of two by two pixels, and its nearest takes every second one."""
    image = np.random.default_rng(0).normal(size=(2, 512, 512)).astype(np.float32)
    ids = (image > 1).astype(np.uint8)
    small, labels = half_pixel(image, ids)
    assert np.allclose(small, image.reshape(2, 256, 2, 256, 2).mean((2, 4)), atol=1e-6)
    assert np.array_equal(labels, ids[:, ::2, ::2])


def test_small_pieces_leave_the_label() -> None:
    ids = np.zeros((6, 12, 12), np.uint8)
    ids[:4, :4, :4] = 1  # 64 voxels
    ids[5, 5:12, 5:12] = 1  # 49, touched by nothing
    assert without_specks(ids).sum() == 64


def test_native_volumes_keep_their_file(raw: dict[str, Path], tmp_path: Path) -> None:
    prepare("sts3d", raw["sts3d"], tmp_path / "out", partial=True)
    kept, given = (nib.load(p) for p in (tmp_path / "out/images/0001.nii", next(raw["sts3d"].rglob("image/*0001*"))))
    assert np.array_equal(kept.affine, given.affine)
    assert np.array_equal(np.asarray(kept.dataobj), np.asarray(given.dataobj))


def test_jpeg_masks_have_their_greys_cut(raw: dict[str, Path], tmp_path: Path) -> None:
    prepare("kvasir_seg", raw["kvasir_seg"], tmp_path / "out", partial=True)
    for path in sorted((raw["kvasir_seg"] / "Kvasir-SEG" / "masks").iterdir())[:5]:
        levels = np.asarray(Image.open(path).convert("L"))
        kept = np.asarray(Image.open(tmp_path / "out" / "masks" / f"{path.stem}.png"))
        assert len(np.unique(levels)) > 2
        assert np.array_equal(kept, levels > 128)


def test_tiff_files_alone_are_read_as_their_png_twins(raw: dict[str, Path], tmp_path: Path) -> None:
    twins = some(raw["cvc_clinicdb"], tmp_path / "both", "2?.png", "2?.tif")
    alone = some(twins / "TIF", tmp_path / "tif", "*.tif")
    for source in (twins, alone):
        prepare("cvc_clinicdb", source, source / "out", "paper", partial=True)
    one, two = ({k: v for k, v in files_of(d / "out").items() if k != "dataset.json"} for d in (twins, alone))
    assert one == two
    assert len(one) == 4 * 2 + 4 + 1  # images and masks, splits, the sheet


def test_a_frame_in_another_sequence_than_the_table_says_is_refused(raw: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(raw["cvc_clinicdb"], tmp_path / "raw")
    table = tmp_path / "raw" / "metadata.csv"
    table.write_text(table.read_text().replace("26,2,", "26,3,"))
    with pytest.raises(InputError, match="frame 26 in sequence 3, known as sequence-02"):
        prepare("cvc_clinicdb", tmp_path / "raw", tmp_path / "out", partial=True)


def test_an_archive_gives_the_same_files_as_its_folder(raw: dict[str, Path], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "labelled.zip", "w") as archive:
        source = some(raw["sts3d"], tmp_path / "raw", "*000[1-4]_0000.nii.gz")
        for path in sorted(source.rglob("*.nii.gz")):
            archive.write(path, path.relative_to(source))
    shutil.make_archive(str(tmp_path / "labelled"), "gztar", source)
    results = []
    for given in (source, tmp_path / "labelled.zip", tmp_path / "labelled.tar.gz"):
        out = tmp_path / f"out-{given.name}"
        prepare("sts3d", given, out, "paper", partial=True)
        results.append(files_of(out))
    assert results[0] == results[1] == results[2]
    assert "dataset.json" in results[0]
    assert not any(name.startswith(".") for name in results[0])


def test_a_call_that_ends_early_goes_on(raw: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = some(raw["refuge2"], tmp_path / "raw", "*000?.*")
    prepare("refuge2", source, tmp_path / "whole", "paper", partial=True)
    calls = []

    def stop(self: object, path: Path, *rest: object) -> None:
        calls.append(path)
        if len(calls) == 20:
            raise KeyboardInterrupt

    monkeypatch.setattr("bench.datasets.preparing.progress.report", stop)
    with pytest.raises(KeyboardInterrupt):
        prepare("refuge2", source, tmp_path / "out", "paper", partial=True)
    kept = files_of(tmp_path / "out")
    assert "dataset.json" not in kept
    calls.clear()
    monkeypatch.setattr("bench.datasets.preparing.progress.report", lambda *_: None)
    first = tmp_path / "out" / "images" / "T0001.png"
    before = first.stat().st_mtime_ns
    prepare("refuge2", source, tmp_path / "out", "paper", partial=True)
    assert first.stat().st_mtime_ns == before
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def test_a_mended_raw_file_is_read_again(raw: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(raw["sts3d"], tmp_path / "raw")
    label = next((tmp_path / "raw").rglob("label/*0002*"))
    good = label.read_bytes()
    label.write_bytes(good[:-200])
    with pytest.raises(InputError, match="Teeth_0002_0000"):
        prepare("sts3d", tmp_path / "raw", tmp_path / "out", partial=True)
    label.write_bytes(good)
    prepare("sts3d", tmp_path / "raw", tmp_path / "out", partial=True)
    prepare("sts3d", raw["sts3d"], tmp_path / "whole", partial=True)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def test_a_folder_keeps_what_it_was_made_for(raw: dict[str, Path], tmp_path: Path) -> None:
    prepare("sts3d", raw["sts3d"], tmp_path, partial=True)
    before = files_of(tmp_path)
    with pytest.raises(InputError, match=r"holds sts3d native \(version 1\), not sts3d paper"):
        prepare("sts3d", raw["sts3d"], tmp_path, "paper", partial=True)
    assert files_of(tmp_path) == before
    (tmp_path / "images" / "0003.nii").write_bytes(b"other")
    with pytest.raises(InputError, match=r"0003.nii: not as it was prepared; run sdseg prepare sts3d again"):
        dataset(tmp_path, "sts3d").check()
    table = tmp_path / "splits" / "9_3.csv"
    table.write_text(table.read_text().replace("0010,0010,test", "0010,0010,train"))
    with pytest.raises(InputError, match=r"9_3.csv: not as it was prepared; .* dataset.manifest"):
        dataset(tmp_path, "sts3d").check()
    own = tmp_path / "images" / "notes.txt"
    own.write_text("mine")
    prepare("sts3d", raw["sts3d"], tmp_path, partial=True)
    assert own.read_text() == "mine"
    own.unlink()
    assert files_of(tmp_path) == before


def test_a_split_through_groups_is_said(raw: dict[str, Path], tmp_path: Path) -> None:
    source = some(raw["cvc_clinicdb"] / "TIF", tmp_path / "raw", "*.tif")
    prepare("cvc_clinicdb", source, tmp_path := tmp_path / "out", partial=True)
    assert dataset(tmp_path, "cvc_clinicdb").notes() == []
    assert dataset(tmp_path, "cvc_clinicdb", split="frame_488_62").notes() == [
        "split frame_488_62: 19 of 19 test cases have others of their group in training or validation"
    ]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["btcv"], "get Abdomen/RawData.zip"),
        (["brats", "--source", "mini"], "data set 'brats': unknown; use one of cvc_clinicdb"),
        (["sts3d", "--source", "nowhere"], "nowhere: no such file or folder"),
        (["sts3d", "--source", "mini", "--preprocessing", "fast"], "--preprocessing fast: use one of native, paper"),
        (["refuge2", "--source", "mini", "--set", "crop"], "--set crop: expected KEY=VALUE"),
        (["sts3d", "--source", "mini", "--set", "crop=3"], "--set crop: an option of --preprocessing paper"),
        ([*PAPER, "sts3d", "--set", "crop=3"], "--set crop: sts3d has no such option; it has none"),
        ([*PAPER, "refuge2", "--set", "crop=0"], "--set crop=0: expected a number above 0"),
        ([*PAPER, "refuge2", "--set", "crop=wide"], "--set crop=wide: expected a number above 0"),
        ([*PAPER, "btcv", "--set", "ct_window=lung"], "--set ct_window=lung: expected one of released, test"),
    ],
)
def test_what_cannot_be_prepared_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    assert main(["prepare", *words, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert line in error


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"benchmark": "btcv"}, "holds sts3d, not btcv; set dataset.root to another"),
        ({"labels": "molars"}, "sts3d: dataset.labels=molars: unknown; use one of teeth"),
        ({"split": "half"}, "sts3d: dataset.split=half: unknown; use one of 9_3"),
        ({"folder": "elsewhere"}, "no prepared data set; run: sdseg prepare sts3d --source RAW --out"),
    ],
)
def test_what_a_prepared_folder_does_not_have_is_said(
    raw: dict[str, Path], tmp_path: Path, changes: dict[str, str], line: str
) -> None:
    source = some(raw["sts3d"], tmp_path / "raw", "*000[12]_0000.nii.gz")
    prepare("sts3d", source, tmp_path / "out", partial=True)
    with pytest.raises(InputError, match=line):
        dataset(tmp_path / changes.pop("folder", "out"), "sts3d", **changes)


def test_a_part_of_the_download_is_refused_unless_it_is_wanted(raw: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="23 of the 30 cases of btcv; complete the download, or give --partial"):
        prepare("btcv", raw["btcv"], tmp_path / "out")

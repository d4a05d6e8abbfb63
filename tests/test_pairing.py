"""Files are paired by stem whatever form their names have, and what does not pair says what may be meant."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.datasets.folder import Folder
from bench.datasets.pairing import find_files
from bench.errors import InputError
from bench.scoring.folder import score_folder


def save(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    mask = np.zeros((12, 16), np.uint8)
    mask[2:8, 4:12] = 255
    for name in names:
        Image.fromarray(mask).save(folder / name)
    return folder


def folders(root: Path, predictions: list[str], references: list[str]) -> tuple[Path, Path, Path]:
    return save(root / "pred", *predictions), save(root / "ref", *references), root / "out"


NFC, NFD = (unicodedata.normalize(form, "Müller_1") for form in ("NFC", "NFD"))


def test_names_pair_in_any_unicode_form(tmp_path: Path) -> None:
    paths = folders(tmp_path, [f"{NFD}.png"], [f"{NFC}.png"])
    (tmp_path / "groups.csv").write_text(f"case,group\n{NFD},p\n", encoding="utf-8")
    summary = score_folder(*paths, metrics=["Dice"], groups=tmp_path / "groups.csv")
    assert (summary["n_cases"], summary["metrics"]["Dice"]["foreground"]["mean"]) == (1, 1.0)
    save(tmp_path / "pred", f"{NFC}.png")
    with pytest.raises(InputError, match=r"same stem"):
        score_folder(*paths, metrics=["Dice"])


def test_names_that_are_not_utf8_are_refused_up_front(tmp_path: Path) -> None:
    for folder in folders(tmp_path, ["a.png"], ["a.png"])[:2]:
        os.rename(os.fsencode(folder / "a.png"), os.fsencode(folder) + b"/M\xfcller.png")
    with pytest.raises(InputError, match=r"M\\xfcller\.png: its name is not UTF-8; rename it") as caught:
        score_folder(tmp_path / "pred", tmp_path / "ref", tmp_path / "out")
    str(caught.value).encode()  # can be printed
    assert not (tmp_path / "out").exists()


def test_long_names_are_refused_up_front(tmp_path: Path) -> None:
    assert list(find_files(save(tmp_path / "short", "ä" * 120 + ".png"))) == ["ä" * 120]
    with pytest.raises(InputError, match=r"a name of 242 bytes; rename it to at most 240"):
        find_files(save(tmp_path / "long", "ä" * 121 + ".png"))


@pytest.mark.parametrize(
    ("predictions", "references", "words"),
    [
        (["case01.png"], ["Case01.png"], r"no prediction .*case01 differs in upper and lower case"),
        (["a_mask.png"], ["a.png"], r"or give --pred-suffix _mask"),
        (["a.png"], ["a_segmentation.png"], r"or give --ref-suffix _segmentation"),
        (["a.png"], ["a.png", "b.png"], r"b\.png: no prediction .*or give --subset"),
        (["a.png", "b.png"], ["a.png"], r"b\.png: no reference .*remove or rename it$"),
    ],
)
def test_what_does_not_pair_says_what_may_be_meant(
    tmp_path: Path, predictions: list[str], references: list[str], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        score_folder(*folders(tmp_path, predictions, references))


def test_suffixes_are_left_out_of_stems(tmp_path: Path) -> None:
    pred, ref, out = folders(tmp_path, ["a_mask.png", "b_mask.png"], ["a_seg.png", "b_seg.png"])
    options = {"pred_suffix": "_mask", "ref_suffix": "_seg", "metrics": ["Dice"]}
    assert score_folder(pred, ref, out, **options)["n_cases"] == 2
    save(pred, "c.png")
    with pytest.raises(InputError, match=r"c\.png: does not end in '_mask'"):
        score_folder(pred, ref, out, **options)


def test_a_subset_counts_what_is_left_out(tmp_path: Path) -> None:
    pred, ref, out = folders(tmp_path, ["a.png"], ["a.png", "b.png", "c.png"])
    summary = score_folder(pred, ref, out, metrics=["Dice"], subset=True)
    assert (summary["n_cases"], summary["references_left_out"]) == (1, 2)
    assert "2 of 3 references have no prediction and are left out" in summary["notes"]
    (pred / "a.png").unlink()
    with pytest.raises(InputError, match=r"holds no prediction for any reference"):
        score_folder(pred, ref, out, subset=True)
    save(pred, "d.png")
    with pytest.raises(InputError, match=r"d\.png: no reference"):
        score_folder(pred, ref, out, subset=True)


def test_a_case_must_have_all_draws_or_none(tmp_path: Path) -> None:
    pred, ref, out = folders(tmp_path, [], ["a.png", "b.png"])
    save(pred / "draw-0", "a.png", "b.png")
    save(pred / "draw-1", "a.png")
    with pytest.raises(InputError, match=r"b\.png: no prediction in draw-1"):
        score_folder(pred, ref, out, subset=True)


def test_files_and_nested_folders_are_told_apart(tmp_path: Path) -> None:
    pred, ref, out = folders(tmp_path, ["a.png"], ["a.png"])
    with pytest.raises(InputError, match=r"ref/a\.png: a file; give the folder"):
        score_folder(pred / "a.png", ref / "a.png", out)
    (tmp_path / "nested").mkdir()
    save(tmp_path / "nested/a", "a.png")
    with pytest.raises(InputError, match=r"nested: holds images in sub-folders such as a; put one file per case"):
        score_folder(tmp_path / "nested", ref, out)


def test_masks_of_a_dataset_may_end_otherwise(tmp_path: Path) -> None:
    names = [f"c{i}" for i in range(4)]
    save(tmp_path / "images", *(f"{name}.png" for name in names))
    save(tmp_path / "masks", *(f"{name}_mask.png" for name in names))
    with pytest.raises(InputError, match=r"c0\.png: has no mask .*dataset\.mask_suffix=_mask"):
        Folder(tmp_path, 8)
    dataset = Folder(tmp_path, 8, mask_suffix="_mask")
    dataset.check()
    assert dataset.case("c3").reference.any()

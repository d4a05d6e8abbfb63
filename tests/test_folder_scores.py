"""Anybody's masks are paired, scored and written whole, or refused with one line."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import cli
from bench.errors import InputError
from bench.record import REASON, SCORE_COLUMNS, read_scores
from bench.results.outputs import LIST
from bench.scoring.folder import score_folder


def square(size: int, left: int, width: int) -> np.ndarray:
    mask = np.zeros((size, size), dtype=np.uint8)
    mask[4:12, left : left + width] = 255
    return mask


def save(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """References a, b, c: overlap of one half, a total miss, and nothing to find."""
    pred, ref = tmp_path / "pred", tmp_path / "ref"
    save(ref / "a.png", square(24, 4, 8))
    save(pred / "a.png", square(24, 8, 8))
    save(ref / "b.png", square(24, 4, 8))
    save(pred / "b.png", np.zeros((24, 24), np.uint8))
    save(ref / "c.png", np.zeros((24, 24), np.uint8))
    save(pred / "c.png", np.zeros((24, 24), np.uint8))
    return pred, ref, tmp_path / "out"


def test_values_by_hand(folders: tuple[Path, Path, Path]) -> None:
    pred, ref, out = folders
    summary = score_folder(pred, ref, out, metrics=("Dice", "IoU"))
    # a: 32 pixels shared by 64 and 64: Dice 64/128 = 0.5, IoU 32/96 = 1/3; b: missed, 0; c: undefined.
    facts = summary["metrics"]["Dice"]["foreground"]
    assert facts["mean"] == 0.25
    assert facts["sd"] == pytest.approx(math.sqrt(0.125))
    assert (facts["n"], facts["n_undefined"]) == (2, 1)
    assert summary["metrics"]["IoU"]["foreground"]["mean"] == pytest.approx(1 / 6)
    assert (summary["protocol"], summary["n_cases"], summary["draws"]) == ("strict", 3, 1)
    assert summary["labels"] == ["foreground"]
    assert sorted(p.name for p in out.iterdir()) == [
        LIST,
        "record.json",
        "scores.csv",
        "scores.parquet",
        "summary.json",
    ]

    def refuse(name: str) -> float:
        raise AssertionError(f"{name} in strict JSON")

    assert json.loads((out / "summary.json").read_text(), parse_constant=refuse) == summary
    with (out / "scores.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["case", "label", "draw", "metric", "value"]
    assert rows[1:] == [
        ["a", "foreground", "0", "Dice", "0.5"],
        ["a", "foreground", "0", "IoU", repr(1 / 3)],
        ["b", "foreground", "0", "Dice", "0.0"],
        ["b", "foreground", "0", "IoU", "0.0"],
        ["c", "foreground", "0", "Dice", ""],
        ["c", "foreground", "0", "IoU", ""],
    ]
    frame = read_scores(out / "scores.parquet")
    assert list(frame.columns) == [*SCORE_COLUMNS, REASON]
    assert frame["value"].isna().sum() == 2
    assert set(frame["convention"]) == {"strict"}


def test_formats_and_value_ranges_mix(folders: tuple[Path, Path, Path]) -> None:
    pred, ref, out = folders
    expected = score_folder(pred, ref, out, metrics=["Dice"])["metrics"]
    mask = np.asarray(Image.open(pred / "a.png")) > 0
    (pred / "a.png").unlink()
    np.save(pred / "a.npy", mask)
    Image.fromarray(np.asarray(Image.open(ref / "b.png")) // 255).save(ref / "b.png")
    Image.fromarray(np.asarray(Image.open(ref / "a.png"))).save(ref / "a.tif")
    (ref / "a.png").unlink()
    assert score_folder(pred, ref, out, metrics=["Dice"])["metrics"] == expected


def test_label_maps_score_per_label(tmp_path: Path) -> None:
    reference = np.array([[0, 1, 1, 7], [0, 1, 1, 7]], dtype=np.uint8)
    prediction = np.array([[1, 1, 1, 5], [0, 1, 1, 7]], dtype=np.uint8)
    save(tmp_path / "ref/x.png", reference)
    save(tmp_path / "pred/x.png", prediction)
    summary = score_folder(tmp_path / "pred", tmp_path / "ref", tmp_path / "out", metrics=["Dice"])
    assert summary["labels"] == ["1", "7"]
    assert summary["metrics"]["Dice"]["1"]["mean"] == pytest.approx(8 / 9)
    assert summary["metrics"]["Dice"]["7"]["mean"] == pytest.approx(2 / 3)
    assert summary["ids_without_reference"] == [5]
    save(tmp_path / "pred/x.png", (prediction > 0).astype(np.uint8) * 255)
    with pytest.raises(InputError, match=r"values 255, references 1, 7.*--pred-labels"):
        score_folder(tmp_path / "pred", tmp_path / "ref", tmp_path / "out")


def write_draws(pred: Path, *left: int) -> None:
    """Draws of a that begin there, and nothing found in b and c."""
    for draw, column in enumerate(left):
        for name in ("a", "b", "c"):
            mask = square(24, column, 8 if name == "a" else 0)
            save(pred / f"draw-{draw}" / f"{name}.png", mask)


@pytest.mark.usefixtures("no_lpips")
def test_draws_add_stability(folders: tuple[Path, Path, Path]) -> None:
    pred, ref, out = folders
    write_draws(pred, 8, 8, 4)
    with pytest.raises(InputError, match=r"both files and draw-\*"):
        score_folder(pred, ref, out)
    for path in pred.glob("*.png"):
        path.unlink()
    summary = score_folder(pred, ref, out)
    assert summary["draws"] == 3
    assert summary["notes"][0].startswith("LPIPS not computed: ")
    frame = read_scores(out / "scores.parquet")
    values = {key: rows["value"].tolist() for key, rows in frame.groupby(["case", "metric"])}
    assert values["a", "Dice"] == [0.5, 0.5, 1.0]
    # Pairs of draws: one identical pair (1), two that share one half (0.5 each).
    assert values["a", "Dice/pairs"] == pytest.approx([2 / 3])
    # 4 columns left and 4 right of 8 rows change, of 24 x 24 pixels.
    assert values["a", "flip_rate"] == pytest.approx([64 / 576])
    assert values["c", "Dice/pairs"] == [1.0]
    metrics = set(frame["metric"])
    assert {"SSIM/seg", "PSNR/seg"} <= metrics
    assert not {m for m in metrics if m.endswith("/score")}
    with (out / "scores.csv").open() as file:
        draws = {row["metric"]: row["draw"] for row in csv.DictReader(file) if row["case"] == "a"}
    assert (draws["Dice"], draws["Dice/pairs"]) == ("2", "")
    psnr = summary["metrics"]["PSNR/seg"]["foreground"]
    # b and c never change: their error of 0 counts in the mean of squared errors.
    assert psnr["mean"] == pytest.approx(values["a", "PSNR/seg"][0] + 10 * math.log10(3))
    assert (psnr["n_infinite"], psnr["values"]) == (2, [])
    assert summary["metrics"]["Dice"]["foreground"]["mean"] == pytest.approx((2 / 3 + 0) / 2)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p, r: (p / "a.png").unlink(), r"ref/a\.png: no prediction"),
        (lambda p, r: (r / "a.png").unlink(), r"pred/a\.png: no reference"),
        (lambda p, r: save(p / "a.png", square(20, 4, 8)), r"pred/a\.png: size 20 x 20, .* 24 x 24"),
        (lambda p, r: (p / "a.png").write_bytes(b"x"), r"pred/a\.png: cannot be read"),
        (lambda p, r: (r / "a.png").write_bytes(b"x"), r"ref/a\.png: cannot be read"),
        (
            lambda p, r: save(p / "a.png", np.arange(576, dtype=np.uint8).reshape(24, 24)),
            r"pred/a\.png: not a mask",
        ),
        (
            lambda p, r: save(r / "a.png", np.arange(576, dtype=np.uint8).reshape(24, 24)),
            r"ref/a\.png: not a mask",
        ),
        (lambda p, r: [f.unlink() for f in r.iterdir()], r"ref: holds no reference"),
        (
            lambda p, r: np.save((p / "a.png").rename(p / "a.npy"), np.linspace(0, 1, 576).reshape(24, 24)),
            r"a\.npy.*masks",
        ),
    ],
)
def test_bad_input_leaves_nothing(folders: tuple[Path, Path, Path], spoil: object, words: str) -> None:
    pred, ref, out = folders
    spoil(pred, ref)  # type: ignore[operator]
    with pytest.raises(InputError, match=words) as caught:
        score_folder(pred, ref, out)
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_unknown_names_are_refused(folders: tuple[Path, Path, Path]) -> None:
    with pytest.raises(InputError, match=r"'monay'.*did you mean 'monai'.*strict"):
        score_folder(*folders, protocol="monay")
    with pytest.raises(InputError, match=r"ECE needs soft scores"):
        score_folder(*folders, metrics=("Dice", "ECE"))
    with pytest.raises(InputError, match=r"unknown metric 'Dicee'; did you mean 'Dice'"):
        score_folder(*folders, metrics=("Dicee",))
    with pytest.raises(InputError, match=r"nowhere"):
        score_folder(folders[0] / "nowhere", *folders[1:])


@pytest.mark.usefixtures("no_lpips")
def test_the_command_shows_values_counts_and_stability(
    folders: tuple[Path, Path, Path], capsys: pytest.CaptureFixture
) -> None:
    pred, ref, out = folders
    write_draws(pred, 8, 4)
    for path in pred.glob("*.png"):
        path.unlink()
    command = ["score-folder", str(pred), str(ref), "--out", str(out)]
    assert cli.main(command) == 0
    text = capsys.readouterr().out
    rows = [line.split() for line in text.splitlines()]
    header = "metric | label | mean | 95 | % | interval, | or | the | values | median | n | undefined"
    assert header.split(" | ") in rows
    assert ["Dice", "foreground", "0.3750", "0.000", "0.750", "0.3750", "2", "1"] in rows  # no interval, the two values
    assert ["Dice/pairs", "foreground", "0.8333", "0.500", "1.000", "1.000", "1.0000", "3", "0"] in rows
    assert ["PSNR/seg", "(dB)", "foreground", "14.3136", "\u2013", "infinite", "3", "0"] in rows
    assert "note: Dice, IoU, Sensitivity, Precision, HD95, ASSD, NSD undefined: both masks are empty" in text
    assert "note: CI unreliable (n=2); values listed" in text
    assert ["SSIM/score"] not in [row[:1] for row in rows]
    assert rows[rows.index(["foreground", "3", "1", "0", "1"]) - 2][-3:] == ["missed", "hallucinated", "both_empty"]
    assert "note: LPIPS not computed: " in text
    summary = json.loads((out / "summary.json").read_text())
    assert summary["metrics"]["Dice/pairs"]["foreground"]["n"] == 3
    assert summary["conventions"]["PSNR/seg"] == {"convention": "strict", "unit": "dB", "better": "higher"}


def test_metrics_and_size_of_the_command(folders: tuple[Path, Path, Path], capsys: pytest.CaptureFixture) -> None:
    pred, ref, out = (str(path) for path in folders)
    command = ["score-folder", pred, ref, "--out", out]
    assert cli.main([*command, "--metrics", "NSD@3, Dice,Dice", "--protocol", "sdseg", "--size", "12"]) == 0
    assert set(read_scores(folders[2] / "scores.parquet")["metric"]) == {"NSD@3", "Dice"}
    summary = json.loads((folders[2] / "summary.json").read_text())
    assert summary["rules"]["grid"].startswith("12 x 12")
    assert "Dice (sdseg)" in capsys.readouterr().out
    for wrong, words in (
        (["--metrics", ","], "no name in it"),
        (["--size", "0"], "size 0, expected a positive number"),
        (["--size", "big"], "--size"),
    ):
        assert cli.main([*command, *wrong]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.startswith("error: ")
        assert words in line


def test_references_are_known_by_what_they_hold(folders: tuple[Path, Path, Path]) -> None:
    pred, ref, out = folders
    first = score_folder(pred, ref, out, metrics=["Dice"])["references"]
    mask = np.asarray(Image.open(ref / "a.png"))
    (ref / "a.png").unlink()
    np.save(ref / "a.npy", mask > 0)
    save(pred / "a.png", square(24, 9, 8))
    assert score_folder(pred, ref, out, metrics=["Dice"])["references"] == first
    changed = mask.copy()
    changed[0, 0] = 255
    np.save(ref / "a.npy", changed)
    assert score_folder(pred, ref, out, metrics=["Dice"])["references"] != first

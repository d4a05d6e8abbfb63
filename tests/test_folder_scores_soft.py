"""Soft scores beside anybody's masks, groups of cases, and the intervals that a folder's scores come with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from bench import cli
from bench.compare import compare_runs
from bench.errors import InputError
from bench.record import read_scores
from bench.results.outputs import LIST
from bench.results.stored import StoredCase
from bench.scoring import case as scoring
from bench.scoring.folder import score_folder
from bench.scoring.folder_summary import summary_text
from bench.stats import mean_interval

CASES, SIDE = 12, 24
pytestmark = pytest.mark.usefixtures("no_lpips")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two draws of twelve cases, three of a patient: masks, the scores behind them, and references."""
    root, rng = tmp_path_factory.mktemp("made"), np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    for case in range(CASES):
        name, radius = f"p{case // 3}_{case % 3}", 5 + case % 3
        save(root / "ref" / f"{name}.png", np.hypot(y - 12, x - 12) < radius)
        for draw in range(2):
            away = np.hypot(y - 12, x - 12) - radius - 0.5 * (case // 3) + rng.normal(0, 0.5, x.shape)
            score = (1 / (1 + np.exp(away))).astype(np.float32)
            save(root / "pred" / f"draw-{draw}" / f"{name}.png", score > 0.5)
            path = root / "soft" / f"draw-{draw}" / f"{name}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, score)
    return {name: root / name for name in ("pred", "ref", "soft", "out")}


@pytest.fixture
def folders(made: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """A copy to spoil."""
    return {name: tmp_path / name if name == "out" else shutil.copytree(made[name], tmp_path / name) for name in made}


@pytest.fixture(scope="module")
def plain(made: dict[str, Path], no_lpips: None) -> dict:
    return scored(made, "plain")


@pytest.fixture(scope="module")
def grouped(made: dict[str, Path], no_lpips: None) -> dict:
    return scored(made, "grouped", group_regex=r"^(p\d)_")


def save(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)


def scored(folders: dict[str, Path], out: str = "out", **options: object) -> dict:
    return score_folder(folders["pred"], folders["ref"], folders["out"].parent / out, **options)  # type: ignore[arg-type]


def test_scores_add_calibration_and_the_stability_of_scores(folders: dict[str, Path], plain: dict) -> None:
    soft = scored(folders, scores=folders["soft"])
    more = set(soft["metrics"]) - set(plain["metrics"])
    assert more == {"ECE", "Brier", "LPIPS/score", "PSNR/score", "SSIM/score", "MS-SSIM/score"}
    assert more <= set(soft["conventions"])
    assert {name: soft["metrics"][name] for name in plain["metrics"]} == plain["metrics"]
    brier = []
    for case in sorted(folders["ref"].iterdir()):
        reference = np.asarray(Image.open(case)) > 0
        maps = [np.load(folders["soft"] / f"draw-{draw}" / f"{case.stem}.npy") for draw in range(2)]
        brier.append(np.mean([np.square(one - reference).mean() for one in maps]))
    exact = soft["metrics"]["Brier"]["foreground"]["mean"]
    assert exact == pytest.approx(np.mean(brier))
    # Scores in files of 8 bits are the same to rounding.
    for path in folders["soft"].rglob("*.npy"):
        Image.fromarray(np.rint(np.load(path) * 255).astype(np.uint8)).convert("RGB").save(path.with_suffix(".png"))
        path.unlink()
    rounded = scored(folders, scores=folders["soft"], metrics=["Brier"])["metrics"]["Brier"]["foreground"]["mean"]
    assert rounded != exact
    assert rounded == pytest.approx(exact, abs=1 / 255)


def test_scores_of_several_labels_are_channels_in_the_order_of_their_ids(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).choice([0, 2, 7], (6, 5, 4)).astype(np.uint8)
    scores = np.stack([0.9 * (ids == 2) + 0.05, 0.5 * (ids == 7)], axis=-1).astype(np.float32)
    for folder, values in (("ref", ids), ("pred", ids), ("soft", scores)):
        (tmp_path / folder).mkdir()
        nib.save(nib.Nifti1Image(values, np.diag([1.0, 1.0, 4.0, 1.0])), tmp_path / folder / "v.nii.gz")
    pred, ref, soft, out = (tmp_path / name for name in ("pred", "ref", "soft", "out"))
    brier = score_folder(pred, ref, out, metrics=["Brier"], scores=soft)["metrics"]["Brier"]
    assert brier["2"]["mean"] == pytest.approx(0.05**2)
    assert brier["7"]["mean"] == pytest.approx(0.25 * (ids == 7).mean())


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.unlink(), r"ref/p0_0\.png: no score in draw-1 for this reference"),
        (lambda path: np.save(path, np.full((SIDE, SIDE), 3.0)), r"p0_0\.npy: .* 3 to 3; .* no logits"),
        (lambda path: np.save(path, np.full((SIDE, SIDE), np.nan)), r"p0_0\.npy: .*nan"),
        (lambda path: np.save(path, np.full((20, SIDE), 0.5)), r"p0_0\.npy: size 20 x 24, but its reference has 24"),
        (lambda path: np.save(path, np.full((2, SIDE, SIDE), 0.5)), r"p0_0\.npy: size 2 x 24 x 24"),
        (lambda path: np.save(path, np.ones((SIDE, SIDE), np.uint8)), r"no score above 1/255 .* span 0\.\.255"),
        (lambda path: path.write_bytes(b"x"), r"p0_0\.npy: cannot be read"),
    ],
)
def test_bad_scores_are_one_line(folders: dict[str, Path], spoil: Callable[[Path], object], words: str) -> None:
    spoil(folders["soft"] / "draw-1" / "p0_0.npy")
    with pytest.raises(InputError, match=words) as caught:
        scored(folders, scores=folders["soft"])
    assert "\n" not in str(caught.value)
    assert not folders["out"].exists()


def test_other_draws_are_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"draw-0: has no draw-\* folders, but .*pred has draw-0, draw-1"):
        scored(folders, scores=folders["soft"] / "draw-0")
    (folders["soft"] / "draw-0").rename(folders["soft"] / "draw-2")
    with pytest.raises(InputError, match=r"has draw-1, draw-2, but .* has draw-0, draw-1"):
        scored(folders, scores=folders["soft"])


def test_counts_that_a_sample_does_not_hold_have_an_interval(plain: dict) -> None:
    facts = plain["metrics"]["missed"]["foreground"]
    assert (facts["mean"], facts["interval"][0]) == (0, 0)
    assert 0.1 < facts["interval"][1] < 0.5


def test_intervals_are_those_of_the_statistics_and_groups_make_them_theirs(
    made: dict[str, Path], plain: dict, grouped: dict
) -> None:
    alone = plain["metrics"]["Dice"]["foreground"]
    rows = read_scores(made["out"].with_name("plain") / "scores.parquet").query("metric == 'Dice'")
    values = rows.groupby("case")["value"].mean()
    expected = mean_interval(values.tolist(), values.index.tolist())
    assert alone["interval"] == [max(expected.low, 0), min(expected.high, 1)]
    assert (alone["n"], alone["n_groups"], alone["values"]) == (CASES, CASES, [])
    assert alone["median"] == pytest.approx(values.median())
    assert alone["warning"] == "CI unreliable (n=12)"
    facts = grouped["metrics"]["Dice"]["foreground"]
    assert (facts["n"], facts["n_groups"], facts["interval"], grouped["n_groups"]) == (CASES, 4, None, 4)
    patients = [values[values.index.str.startswith(f"p{number}")].mean() for number in range(4)]
    assert facts["values"] == pytest.approx(sorted(patients))
    text = summary_text(grouped)
    assert "95 % interval over 4 groups, or the groups" in text
    assert " ".join(f"{value:.3f}" for value in sorted(patients)) in text
    assert "note: CI unreliable (n=4 groups, 12 cases); values listed" in text
    with pytest.raises(InputError, match="case 'p0_0' is in another group"):
        compare_runs(*(made["out"].with_name(name) for name in ("grouped", "plain")))


def test_groups_from_a_file_and_what_is_wrong_with_it(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    names = sorted(path.stem for path in folders["ref"].iterdir())
    table = tmp_path / "groups.csv"
    command = ["score-folder", *(str(folders[name]) for name in ("pred", "ref")), "--out", str(folders["out"])]
    table.write_text("case,group\n" + "".join(f"{name},{name[:2]}\n" for name in names))
    assert cli.main([*command, "--groups", str(table)]) == 0
    assert json.loads((folders["out"] / "summary.json").read_text())["n_groups"] == 4
    assert set(read_scores(folders["out"] / "scores.parquet")["group"]) == {"p0", "p1", "p2", "p3"}
    capsys.readouterr()
    for content, words in (
        ("case,patient\n", "no column 'group'; expected case, group"),
        ("case,group\np0_0,a\n", "'p0_1' and 10 more: not listed; give every image a group"),
        ("case,group\n" + "".join(f"{name},\n" for name in names), "'p0_0' and 11 more: has no group"),
    ):
        table.write_text(content)
        assert cli.main([*command, "--groups", str(table)]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.startswith(f"error: {table}: ")
        assert words in line
    assert cli.main([*command, "--group-regex", "^q"]) == 2
    assert "'^q': does not match the file stem 'p0_0'" in capsys.readouterr().err
    assert cli.main([*command, "--group-regex", "^(q)?"]) == 2
    assert "'^(q)?': finds no name in the file stem 'p0_0'" in capsys.readouterr().err
    assert cli.main([*command, "--group-regex", "^p", "--groups", str(table)]) == 2
    assert "not allowed with" in capsys.readouterr().err


def test_what_was_scored_before_a_stop_is_not_scored_again(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in folders["out"].parent.rglob("p[123]_[01].*"):
        path.unlink()
    whole, score_case = scored(folders, "whole", scores=folders["soft"], conventions=True), scoring.score_case
    calls: list[StoredCase] = []
    monkeypatch.setattr(scoring, "score_case", lambda stored, *rest: calls.append(stored) or score_case(stored, *rest))
    last = folders["pred"] / "draw-1" / "p3_2.png"
    content = last.read_bytes()
    last.write_bytes(b"x")
    with pytest.raises(InputError, match=r"p3_2\.png: cannot be read"):
        scored(folders, scores=folders["soft"], conventions=True)
    assert [path.name for path in folders["out"].iterdir()] == [".sdseg-scoring"]
    last.write_bytes(content)
    first = folders["soft"] / "draw-0" / "p0_0.npy"
    kept = np.load(first)
    np.save(first, 1 - kept)
    assert scored(folders, scores=folders["soft"], conventions=True) != whole
    assert [stored.id for stored in calls][5:] == ["p0_0", "p3_2"]  # the changed one, and the last one
    np.save(first, kept)
    assert scored(folders, scores=folders["soft"], conventions=True) == whole
    one, other = (
        {p.name: p.read_bytes() for p in out.glob("[!.rd]*")}
        for out in (folders["out"], folders["out"].parent / "whole")
    )
    assert one == other
    assert [path.name for path in folders["out"].glob(".*")] == [LIST]

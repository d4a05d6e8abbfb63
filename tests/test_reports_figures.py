"""The figures: numbers by hand, pictures from run folders, and nothing where there is nothing to draw."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from reports.figures import build_figures, cost, disagreement, figure2, figure4, figure5, figure6, paired, worst
from reports.figures.strips import MOST_DOTS, label, strip
from reports.figures.style import Drawing, finish, house_style, log_ticks
from reports.frame import Frame, read_frame
from tests.report_fixtures import (
    dice_rows,
    made_up_scores,
    score_rows,
    write_draws,
    write_picture,
    write_run,
    write_traces,
)

PAPER = {"figure2": figure2, "figure4": figure4, "figure5": figure5, "figure6": figure6}


def looks_right(drawing: Drawing) -> None:
    """Said to those who cannot see it, and readable in light and dark."""
    assert drawing.svg.startswith("<?xml")
    assert drawing.png.startswith(b"\x89PNG")
    assert len(drawing.alt) > 60
    assert len(drawing.caption) > 100
    assert "currentColor" in drawing.page_svg()
    assert not re.search(r"\bnan\b", drawing.alt)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two data sets of which trainings of SDSeg kept something; of one there are draws too."""
    runs_dir = tmp_path_factory.mktemp("runs")
    for dataset, labels in (("phantom/polyp", 1), ("phantom/organs", 2)):
        scores = made_up_scores(0.8, 12, draws=3, labels=labels)
        folder = write_run(runs_dir, "sdseg", dataset, scores=scores, draws=3)
        write_traces(folder, labels)
    write_draws(folder, [f"case-{index:03d}" for index in range(12)], labels=2)
    write_picture(folder, 0, "case-003", 0.25)
    write_run(runs_dir, "unet", scores=made_up_scores(0.7, 12, draws=3), draws=3)
    return runs_dir


@pytest.fixture(scope="module")
def frame(runs: Path) -> Frame:
    return read_frame(runs)


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_figures_are_drawn_and_described(frame: Frame, name: str) -> None:
    drawing = PAPER[name].build(frame)
    assert drawing is not None
    assert (drawing.name, drawing.title[:8]) == (name, f"Figure {name[-1]}")
    looks_right(drawing)
    assert frame.warnings == []


@pytest.mark.parametrize("name", PAPER)
def test_a_figure_is_absent_where_its_runs_are(tmp_path: Path, name: str) -> None:
    write_run(tmp_path, "unet", scores=made_up_scores(0.7, 12))
    assert PAPER[name].build(read_frame(tmp_path)) is None
    assert PAPER[name].build(read_frame(tmp_path / "empty")) is None


def test_dice_of_a_reconstruction_is_that_of_the_masks(frame: Frame) -> None:
    one, other = np.zeros((2, 4, 4), bool)
    one[:2], other[1:3] = True, True
    assert figure2.dice(one, other) == 0.5
    assert np.isnan(figure2.dice(one & False, other & False))
    # The fixture's reconstructions lack the first line of the disc.
    with np.load(next(iter(sorted(frame.runs[0].path.glob("model/traces/*"))))) as stored:
        mask, rebuilt = stored["mask"][0], stored["reconstruction"][0]
    label = int(np.argmax(mask.sum((1, 2))))
    a, b = mask[label], rebuilt[label]
    expected = 2 * (a & b).sum() / (a.sum() + b.sum())
    assert 0.5 < expected < 1
    drawing = figure2.build(frame)
    assert drawing is not None
    assert f"phantom/organs, val-0: {expected:.3f}" in drawing.alt


def test_the_reverse_process_is_shown_early_and_at_the_end(frame: Frame) -> None:
    assert figure5.early_and_late([0, 50, 500, 1000]) == [50, 500, 1000]
    assert figure5.early_and_late([0, 12, 120]) == [12, 120]
    assert figure5.early_and_late([0, 120]) == [0, 120]
    assert figure5.early_and_late([]) == []
    drawing = figure5.build(frame)
    assert drawing is not None
    # Maps of one half everywhere early, the mask itself at the end.
    halves, exact = ", ".join(["0.500"] * 3), ", ".join(["0.000"] * 3)
    assert f"phantom/polyp, step 10: {halves}; phantom/polyp, step 100: {exact}" in drawing.alt


def test_pictures_of_many_data_sets_are_of_the_papers_and_two_more(tmp_path: Path) -> None:
    for dataset in ("btcv", "cvc_clinicdb", "kvasir_seg", "refuge2", "sts3d"):
        write_traces(write_run(tmp_path, "sdseg", dataset, scores=made_up_scores(0.8, 3, draws=1), draws=1))
    frame = read_frame(tmp_path)

    def named(module: Any) -> list[str]:
        alt = module.build(frame).alt
        return [row.dataset for row in frame.rows if row.dataset in alt]

    assert named(figure2) == ["btcv", "cvc_clinicdb", "kvasir_seg", "refuge2", "sts3d"]
    assert named(figure5) == ["btcv", "cvc_clinicdb", "sts3d"]
    assert named(figure6) == ["btcv", "cvc_clinicdb", "kvasir_seg"]


def test_contrast_tells_the_target_by_the_best_channel() -> None:
    mask = np.zeros((8, 8), bool)
    mask[:4, :4] = True  # the cell (0, 0) of a latent of 2 x 2
    flat, clear = np.zeros((2, 2)), np.array([[3.0, -1.0], [-1.0, -1.0]])
    assert figure6.contrast(np.stack([flat, clear]), mask) == pytest.approx(4 / np.sqrt(3))
    assert figure6.contrast(np.stack([flat, flat]), mask) == 0
    assert np.isnan(figure6.contrast(np.stack([flat, clear]), mask & False))


def test_the_sheet_has_the_numbers_of_table_5_and_of_each_case(frame: Frame) -> None:
    row = next(row for row in frame.rows if row.dataset == "phantom/organs")
    drawing = figure4.build(frame)
    assert drawing is not None
    assert f"LPIPS Score {row.agreement('LPIPS/score').mean:.4f}" in drawing.alt
    assert "phantom/organs" in drawing.caption  # the one that has draws
    rows = row.runs[0].scores.rows("SSIM/score")
    least = rows.loc[rows["value"].idxmin()]
    assert f"{least['case']}: PSNR Score " in drawing.alt
    assert f"SSIM Score {least['value']:.4f}" in drawing.alt
    assert figure4.RED in drawing.svg.upper()
    assert figure4.BLUE in drawing.svg.upper()


def test_the_sheet_is_of_one_data_set_the_papers_before_others(tmp_path: Path) -> None:
    for dataset in ("cvc_clinicdb", "refuge2"):
        folder = write_run(tmp_path, "sdseg", dataset, scores=made_up_scores(0.8, 4, draws=2), draws=2)
        write_draws(folder, [f"case-{index:03d}" for index in range(4)], draws=2)
    drawing = figure4.build(read_frame(tmp_path))
    assert drawing is not None
    assert "sdseg on refuge2" in drawing.caption
    shutil.rmtree(folder / "predictions" / "draw-001")
    drawing = figure4.build(read_frame(tmp_path))
    assert drawing is not None
    assert "sdseg on cvc_clinicdb" in drawing.caption


def test_of_a_volume_the_sheet_shows_the_slice_and_label_with_most() -> None:
    maps = np.zeros((2, 2, 3, 4, 4), np.float32)  # draws, labels, slices
    maps[:, 1, 2], maps[0, 0, 0, 0] = 0.5, 1.0
    flat = figure4._flat(maps)
    assert flat is not None
    assert flat.shape == (2, 4, 4)
    assert np.all(flat == 0.5)
    assert figure4._flat(None) is None


def test_thousands_of_dots_are_one_picture() -> None:
    def svg(cases: int) -> str:
        with house_style("strips"):
            figure = Figure()
            ax = figure.subplots()
            strip(ax, 0, np.linspace(0, 1, cases), 0.5, (0.4, 0.6), "#0072B2")
            label(ax, ["one"], ["0.500"], cases)
            return finish(figure, "strips", "", "", "").svg

    few, many = svg(50), svg(MOST_DOTS + 1)
    assert (few.count("<image"), many.count("<image")) == (0, 1)
    assert len(svg(10 * MOST_DOTS)) < 2 * len(many)


def test_a_damaged_file_is_a_warning_and_the_rest_is_drawn(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs, tmp_path / "runs")
    last = sorted((tmp_path / "runs").glob("phantom-polyp/sdseg/*/model/traces/*.npz"))[-1]
    last.write_bytes(last.read_bytes()[:100])
    frame = read_frame(tmp_path / "runs")
    names = [drawing.name for drawing in build_figures(frame)]
    assert {"figure2", "figure5", "figure6"} <= set(names)
    assert [warning for warning in frame.warnings if str(last) in warning] == frame.warnings
    assert len(frame.warnings) == 1


def test_differences_are_those_of_the_cases_both_define(tmp_path: Path) -> None:
    cases = [f"c{index:02d}" for index in range(12)]
    write_run(tmp_path, "better", scores=dice_rows(dict.fromkeys(cases, 0.9)), draws=1)
    write_run(tmp_path, "worse", scores=dice_rows({case: 0.8 - 0.01 * i for i, case in enumerate(cases)}), draws=1)
    drawing = paired.build(read_frame(tmp_path))
    assert drawing is not None
    looks_right(drawing)
    assert "phantom/polyp against better: worse \u22120.155" in drawing.alt
    assert "(not shown)" not in drawing.alt
    assert paired.build(read_frame(tmp_path / "phantom-polyp" / "better")) is None


def test_pareto_front_by_hand(tmp_path: Path) -> None:
    points = {
        "slow_good": (9.0, 0.9),
        "fast": (1.0, 0.7),
        "beaten": (2.0, 0.6),
        "middle": (3.0, 0.8),
        "same": (3.0, 0.8),
    }
    for name, (ms, dice) in points.items():
        scores = dice_rows({f"c{index}": dice for index in range(3)})
        write_run(tmp_path, name, scores=scores, run_scores={"latency_ms_p50": ms}, draws=1)
    drawing = cost.build(read_frame(tmp_path))
    assert drawing is not None
    assert "Pareto front: fast, middle, slow_good" in drawing.alt


def test_the_worst_cases_come_from_the_galleries(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "sdseg", scores=made_up_scores(0.8, 8))
    assert worst.build(read_frame(tmp_path)) is None
    for rank, dice in enumerate((0.1, 0.2, 0.3, 0.4, 0.9, float("nan"))):
        write_picture(folder, rank, f"case-{rank}", dice, seed=rank)
    (folder / "gallery" / "00-broken.npz").write_bytes(b"no picture")
    frame = read_frame(tmp_path)
    drawing = worst.build(frame)
    assert drawing is not None
    looks_right(drawing)
    assert "case-0 0.100, case-1 0.200, case-2 0.300" in drawing.alt
    assert "0.900" not in drawing.alt
    assert len(frame.warnings) == 1


def test_only_methods_whose_draws_disagree_are_drawn(tmp_path: Path) -> None:
    for method, rate in (("noisy", 0.02), ("still", 0.0)):
        rows = [(f"c{index}", f"c{index}", "", -1, "flip_rate", rate * index) for index in range(12)]
        write_run(tmp_path, method, scores=score_rows(rows))
    drawing = disagreement.build(read_frame(tmp_path))
    assert drawing is not None
    looks_right(drawing)
    assert "phantom/polyp: noisy 0.1100" in drawing.alt
    assert "No draws of still disagree anywhere." in drawing.caption
    assert disagreement.build(read_frame(tmp_path / "phantom-polyp" / "still")) is None


def test_ticks_of_a_logarithmic_axis_have_names_of_their_own() -> None:
    ax = Figure().subplots()
    ax.set_xscale("log")
    ax.set_xlim(0.004, 30)
    log_ticks(ax.xaxis)
    names = [ax.xaxis.get_major_formatter()(place) for place in ax.get_xticks() if 0.004 <= place <= 30]
    assert names[:4] == ["0.005", "0.01", "0.02", "0.05"]
    assert names[-1] == "20"

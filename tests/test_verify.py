"""`sdseg verify`: a report is what its runs say, and every planted change is named."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.cli import main
from bench.command.verify import verify
from bench.config import Cell
from bench.files import sha256_of
from bench.runner import Run
from bench.scoring.run import score_run
from reports.build import build_report
from reports.manifest import NAME
from tests.report_fixtures import made_up_scores, write_run
from tests.test_runner import POLYP, cell

DATA = [*POLYP[:1], "dataset.n_train=2", "dataset.n_val=1", "dataset.n_test=3", "dataset.size=32"]
LEDGER = "value,unit,dataset,method,metric,source\n81.2,%,mine,Theirs,Dice,A paper\n80.1,%,mine,Others,Dice,A paper\n"
NAMES = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")


def predicted(runs: Path) -> None:
    """A run with stored predictions that nothing was trained for: the references, moved a little."""
    chosen: Cell = cell(runs, "draws=1", "train.steps=2", "metrics=[Dice,IoU]", data=DATA, method="unet")
    run = Run(chosen)
    for case_id in run.dataset.case_ids("test"):
        reference = run.dataset.case(case_id).reference
        moved = np.roll(reference, 1, axis=-1)
        run.folder.write_prediction(0, case_id, moved.astype(np.float32), moved)
    run.folder.write_config({**chosen.config, "task": {}})
    score_run(chosen, run.dataset, run.data, run.folder)


pytestmark = pytest.mark.usefixtures("no_lpips")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("verify")
    for number, name in enumerate(NAMES):
        scores = made_up_scores(0.8 + number / 50, n=12, draws=2, seed=number)
        write_run(root / "runs", name, "mine", scores=scores, fit={"steps": 7}, draws=2)
    predicted(root / "runs")
    (root / "mine.csv").write_text(LEDGER)
    build_report(root / "runs", published=[root / "mine.csv"])
    return root


def lines_of(root: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    code = main(["verify", str(root / "runs" / "report")])
    return code, capsys.readouterr().out.splitlines()


def edit(path: Path, old: str, new: str, times: int = 1) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.search(old, text), f"{old} is not in {path.name}"
    path.write_text(re.sub(old, new, text, count=times), encoding="utf-8")


def drop_line(path: Path, start: str) -> None:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    left = [line for line in lines if not line.startswith(start)]
    assert len(left) == len(lines) - 1
    path.write_text("".join(left), encoding="utf-8")


def add_line(path: Path, after: str, line: str) -> None:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    place = next(index for index, one in enumerate(lines) if one.startswith(after))
    path.write_text("".join([*lines[: place + 1], line, *lines[place + 1 :]]), encoding="utf-8")


def unmark(path: Path) -> None:
    edit(path, r"\*\*(0\.\d+)\*\*", r"\1")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


# In the report's own files: (what, the plant, what the line that names it begins with).
IN_REPORT: dict[str, tuple[Callable[[Path], object], str]] = {
    "a digit in Markdown": (
        lambda r: edit(r / "table2.md", r"(\| mine \| beta \| 0\.\d)\d", r"\g<1>x"),
        "table2.md: mine beta, Dice",
    ),
    "an interval's bound in Markdown": (
        lambda r: edit(r / "table2.md", r"(\| mine \| delta [^\[]*)\[0\.\d", r"\g<1>[0.0"),
        "table2.md: mine delta, 95 % interval",
    ),
    "a mark of the best": (lambda r: unmark(r / "table2.md"), "table2.md: mine zeta"),
    "a number in a note": (lambda r: edit(r / "table2.md", r"n=11\)", "n=12)"), "table2.md: - CI unreliable"),
    "a row removed from Markdown": (lambda r: drop_line(r / "table2.md", "| mine | alpha "), "table2.md: mine alpha"),
    "a digit in CSV": (
        lambda r: edit(r / "table2.csv", r"(?m)^(mine,gamma,0\.\d\d\d\d)\d", r"\g<1>x"),
        "table2.csv: mine gamma, Dice",
    ),
    "an n in CSV": (
        lambda r: edit(r / "table2.csv", r"(?m)^(mine,beta,.*),11,1,2,", r"\g<1>,12,1,2,"),
        "table2.csv: mine beta, cases",
    ),
    "a row added to CSV": (
        lambda r: add_line(r / "variance.csv", "mine,zeta", "mine,omega,1.0\n"),
        "variance.csv: mine omega, row",
    ),
    "a row removed from CSV": (lambda r: drop_line(r / "ranking.csv", "mine,beta"), "ranking.csv: mine beta, row"),
    "an undefined count": (
        lambda r: edit(r / "table2.csv", r"(?m)^(mine,zeta,.*),11,1,2,", r"\g<1>,11,1,0,"),
        "table2.csv: mine zeta, undefined",
    ),
    "a digit in LaTeX": (
        lambda r: edit(r / "table2.tex", r"(mine & alpha & 0\.\d)\d", r"\g<1>x"),
        "table2.tex: mine alpha, Dice",
    ),
    "a verdict": (
        lambda r: edit(r / "ranking.md", r"\| (first|worse|not shown|within 0\.01) \|", "| better |"),
        "ranking.md: mine",
    ),
    "a ledger's number in a table": (lambda r: edit(r / "claims.csv", "92.8,", "93.8,"), "claims.csv: btcv"),
    "a digit on the page": (lambda r: edit(r / "index.html", r"0\.8\d\d", "0.999"), "index.html: line"),
    "a figure replaced": (
        lambda r: shutil.copy(r / "figure_ranking.png", r / "figure_accuracy.png"),
        "figure_accuracy.png: sha256",
    ),
    "a figure edited": (
        lambda r: edit(r / "figure_accuracy.svg", r">0\.(\d)", r">0.0\1"),
        "figure_accuracy.svg: sha256",
    ),
    "a table deleted": (lambda r: (r / "table5.tex").unlink(), "table5.tex: file"),
}


def run_of(root: Path, name: str) -> Path:
    (folder,) = (root / "runs" / "mine" / name).glob("seed*")
    return folder


def edit_scores(folder: Path, seal: bool = False) -> None:
    frame = pd.read_parquet(folder / "scores.parquet")
    chosen = (frame["metric"] == "Dice") & (frame["draw"] == 0)
    frame.loc[frame.index[chosen][0], "value"] = 0.123
    frame.to_parquet(folder / "scores.parquet")
    if seal:
        digest = sha256_of(folder / "scores.parquet")
        edit(folder / "record.json", r'("scores\.parquet": ")[0-9a-f]+', rf"\g<1>{digest}")


def unet_of(root: Path) -> Path:
    (folder,) = (root / "runs").glob("phantom-polyp/unet/seed*")
    return folder


def swap_predictions(folder: Path) -> None:
    one, two = sorted(folder.glob("predictions/draw-000/*.npz"))[:2]
    first = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(first)


IN_RUNS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a score row edited": (lambda r: edit_scores(run_of(r, "alpha")), r"mine/alpha/\S+/scores\.parquet: sha256"),
    "the seed of a record": (
        lambda r: edit(run_of(r, "beta") / "record.json", r'"seed": 0,\n "hash"', '"seed": 1,\n "hash"'),
        r"mine/beta/\S+/record\.json: sha256",
    ),
    "the hash of a record": (
        lambda r: edit(run_of(r, "gamma") / "record.json", r'"hash": "..', '"hash": "00'),
        r"mine/gamma/\S+/record\.json: sha256",
    ),
    "the fit of a record": (
        lambda r: edit(run_of(r, "delta") / "record.json", r'"steps": 7', '"steps": 8'),
        r"mine/delta/\S+/record\.json: sha256",
    ),
    "a run folder deleted": (lambda r: shutil.rmtree(run_of(r, "epsilon")), r"mine/epsilon/\S+: run folder"),
    "a ledger edited": (lambda r: edit(r / "mine.csv", "81.2", "81.3"), r"mine\.csv: sha256"),
    "two predictions swapped": (lambda r: swap_predictions(unet_of(r)), r"unet/\S+/predictions: sha256"),
}


def planted(whole: Path, root: Path, plants: Iterable[tuple[Callable[[Path], object], str]]) -> list[str]:
    shutil.copytree(whole, root)
    for plant, _ in plants:
        plant(root)
    differences, _, _ = verify(root / "runs" / "report")
    return differences


@pytest.fixture(scope="module")
def found_in_report(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """One look finds all, as each has a row or a file of its own."""
    inside = [(lambda root, plant=plant: plant(root / "runs" / "report"), line) for plant, line in IN_REPORT.values()]
    return planted(whole, tmp_path_factory.mktemp("planted") / "root", inside)


@pytest.fixture(scope="module")
def found_in_runs(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return planted(whole, tmp_path_factory.mktemp("planted") / "root", IN_RUNS.values())


@pytest.mark.parametrize("plant", IN_REPORT)
def test_a_change_in_the_report_is_named(plant: str, found_in_report: list[str]) -> None:
    start = IN_REPORT[plant][1]
    assert any(line.startswith(start) for line in found_in_report), found_in_report


@pytest.mark.parametrize("plant", IN_RUNS)
def test_a_change_in_the_runs_is_named(plant: str, found_in_runs: list[str]) -> None:
    assert any(re.search(IN_RUNS[plant][1], line) for line in found_in_runs), found_in_runs


def test_a_score_row_is_held_against_its_prediction_even_where_every_seal_was_made_anew(
    whole: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(whole, tmp_path / "root")
    edit_scores(unet_of(root), seal=True)
    build_report(root / "runs", published=[root / "mine.csv"])
    differences, _, _ = verify(root / "runs" / "report")
    (line,) = differences
    assert "Dice, strict: stored 0.123, from the prediction 0." in line


def test_a_report_can_be_verified_from_elsewhere_and_says_what_it_could_not_do(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(whole)
    build_report(Path("runs"), tmp_path / "there", published=[Path("mine.csv")])
    monkeypatch.chdir(tmp_path)
    assert main(["verify", "there", "--predictions"]) == 0
    assert "no stored predictions, so the score rows of 6 runs" in capsys.readouterr().err


def test_what_is_no_report_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / NAME}: missing")
    (tmp_path / NAME).write_text('{"schema": 1}')
    assert main(["verify", str(tmp_path)]) == 2
    assert "not the manifest of a report" in capsys.readouterr().err


def test_a_report_as_it_was_written_is_in_order(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = lines_of(whole, capsys)
    assert code == 0, lines
    (line,) = lines
    said = r"([\d,]+) numbers in \d+ files, (\d+) score rows of 1 of 7 runs checked: all as"
    numbers, rows = re.findall(said, line)[0]
    assert int(numbers.replace(",", "")) > 1000
    assert int(rows) == 6  # three cases, Dice and IoU

"""The page as a file: it stands alone, prints what the tables print, and says what is missing."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import signal
import subprocess
import sys
import time
import webbrowser
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import cli
from reports.build import ReportResult, build_report
from reports.frame import read_frame
from reports.gallery import read_kept
from reports.site.layers import contour, fill_layer, heat_layer, mosaic, outline_layer, resized
from reports.site.pictures import Album, draw_albums
from tests.page_fixtures import DEPTH, SIDE, Volumes, write_volumes
from tests.report_fixtures import dice_rows, made_up_scores, score_rows, write_picture, write_run

NAN = math.nan


def page_data(page: str) -> dict:
    text = re.search(r'<script type="application/json" id="cases-data">(.*?)</script>', page, re.DOTALL)
    assert text
    return json.loads(text[1])


def albums_of(runs_dir: Path) -> tuple[list[Album], dict[str, bytes], list[str]]:
    files: dict[str, bytes] = {}
    warnings: list[str] = []
    albums = draw_albums(read_frame(runs_dir).rows, lambda name, make: files.update({name: make()}), warnings)
    return albums, files, warnings


# --- the page alone ----------------------------------------------------------------------------------


def test_page_stands_alone_and_describes_its_pictures(report: ReportResult) -> None:
    page = report.index.read_text()
    assert not re.findall(r"<(?:script|link)[^>]*(?:src|href)=", page)
    folder = report.index.parent
    sources = re.findall(r'<img [^>]*src="([^"]*)"', page)
    assert all((folder / source).is_file() for source in sources)
    targets = re.findall(r'href="([^"]*)"', page)
    assert all(t.startswith("#") or (folder / t).is_file() for t in targets)
    plain = {t[1:] for t in targets if t.startswith("#") and "/" not in t}
    assert all(f'id="{target}"' in page for target in plain)
    described = re.findall(r'<img [^>]*alt="([^"]*)"', page)
    # six galleries of two cases in four panels, which are described once each, and seven figures
    assert len([alt for alt in described if len(alt) >= 8]) == 6 * 2 * 4 + 7
    assert "published, not comparable" in page
    assert "phantom/ablation, no_latent, no latent loss: 0." in page  # what Figure 3 tells those who do not see it
    assert page.index('id="figure3"') > page.index('id="table6"')
    assert {path.name for path in (folder / "pictures").iterdir()} == set(re.findall(r"[0-9a-f]{16}\.\w+", page))


def test_page_shows_the_numbers_of_the_table(example: Path, report: ReportResult) -> None:
    page = report.index.read_text()
    with (report.index.parent / "table2.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            text = f"{float(row['Dice']):.3f}"
            if row["published"] == "yes":
                assert f'<a href="#published" tabindex="-1">{text}</a>' in page
                continue
            ids = re.findall(rf'<a href="#(m\d+-Dice)" tabindex="-1">{re.escape(text)}</a>', page)
            assert ids, text
            # What the number leads to prints the same digits.
            assert any(re.search(rf'id="{line}"[^>]*><th scope="row">Dice</th><td>{text}</td>', page) for line in ids)
    for run in read_frame(example).runs:
        assert f'id="run-{run.record.hash}"' in page


def test_nothing_from_a_run_becomes_markup(tmp_path: Path) -> None:
    attack = "<script>alert(1)</script>"
    scores = score_rows([(attack, attack, attack, 0, "Dice", 0.5)])
    folder = write_run(tmp_path, "m", scores=scores, notes=[attack], profile=attack, labels=[attack])
    write_picture(folder, 0, "case-a", 0.5)
    page = build_report(tmp_path).index.read_text()
    assert attack not in page
    assert page.count("&lt;script&gt;") >= 3
    assert attack in page_data(page)["cases"]["phantom/polyp"]


def test_smoke_and_modified_trees_are_pointed_out(tmp_path: Path) -> None:
    write_run(tmp_path, scores=dice_rows({"a": 0.5}), environment={"git": {"commit": "c" * 40, "dirty": True}})
    page = build_report(tmp_path).index.read_text()
    assert "modified working tree" in page
    assert "not how good a method is" in page
    assert "cccccccccc, modified" in page


# --- cases -------------------------------------------------------------------------------------------


def test_cases_carry_the_printed_digits_and_why_there_is_no_value(tmp_path: Path) -> None:
    values = {"a": 0.12345, "b": NAN, "c": 0.00001234, "d": 0.0, "e": math.inf}
    rows = score_rows([(case, "p", "lesion", 0, "HD95", value) for case, value in values.items()])
    rows["reason"] = ["", "both masks empty", "", "", ""]
    write_run(tmp_path, scores=rows)
    data = page_data(build_report(tmp_path).index.read_text())
    (row,) = data["rows"]
    assert row["values"] == {"HD95": [0.12, None, "1.2e-05", 0.0, "∞"]}  # two digits, as the table of errors prints
    assert row["why"] == {"HD95": {"1": "both masks empty"}}
    assert data["groups"]["phantom/polyp"] == ["p"] * 5
    assert data["metrics"]["HD95"]["digits"] == 2


def test_missing_things_are_said(tmp_path: Path) -> None:
    write_run(tmp_path, "whole", scores=made_up_scores(0.8, n=12, draws=2), run_scores={"latency_ms_p50": NAN})
    begun = write_run(tmp_path, "begun")
    (begun / "record.json").unlink()
    config = "method: {name: begun, recipe: {steps: 300}}\ndataset: {name: phantom/polyp}\nseed: 4\ndraws: 2\n"
    (begun / "config.yaml").write_text(config)
    (begun / "model").mkdir()
    (begun / "model" / "log.jsonl").write_text('{"step": 10}\n{"step": 120, "lr": 1}\n{"step": 1')
    frame = read_frame(tmp_path)
    (run,) = frame.unfinished
    missing = "the rest of the training, predictions, scores"
    assert run.line == f"begun on phantom/polyp, seed 4: trained 120 of 300 steps; missing: {missing}"
    page = build_report(tmp_path).index.read_text()
    assert "trained 120 of 300 steps" in page
    assert "latency_ms_p50: the record gives no reason." in page
    assert "Pictures: no run has a gallery." in page
    assert "Dice: 2 undefined values." in page


# --- pictures ----------------------------------------------------------------------------------------


def test_pictures_come_worst_first_and_broken_ones_are_warnings(tmp_path: Path) -> None:
    folder = write_run(tmp_path, scores=dice_rows({"a": 0.5}))
    for rank, dice in enumerate((0.2, 0.7, NAN)):
        write_picture(folder, rank, f"case-{rank}", dice)
    (folder / "gallery" / "09-broken.npz").write_bytes(b"no zip")
    np.savez(folder / "gallery" / "10-other.npz", image=np.zeros((4, 4, 3), np.uint8))
    (album,), _, warnings = albums_of(tmp_path)
    assert album.gallery == ["case-0", "case-1", "case-2"]
    assert ["09-broken" in warnings[0], "10-other" in warnings[1], len(warnings)] == [True, True, 2]
    assert "Dice undefined" in build_report(tmp_path).index.read_text()


def test_a_volume_keeps_its_slices_and_every_method_is_shown_on_shared_cases(tmp_path: Path) -> None:
    near, far = write_volumes(tmp_path, "near", 1), write_volumes(tmp_path, "far", 4)
    kept = read_kept(near / "gallery" / "00-volume-0.npz")
    case = Volumes().case("volume-0")
    assert kept.image.shape == (DEPTH, SIDE, SIDE, 1)
    assert (kept.reference == case.reference).all()
    assert (kept.masks[1] == np.roll(case.reference, 2, axis=-1)).all()
    assert (kept.first, kept.opening) == (0, 3)  # opened where there is most reference
    shutil.rmtree(far / "gallery")
    (other, own), files, _ = albums_of(tmp_path)  # sorted: far, near
    assert (other.gallery, own.gallery) == ([], [f"volume-{n}" for n in range(4)])
    assert {case: shot.scene for case, shot in other.shots.items()} == {c: s.scene for c, s in own.shots.items()}
    assert other.shots["volume-0"].prediction != own.shots["volume-0"].prediction
    shot = own.shots["volume-0"]
    assert {shot.scene.image, shot.scene.reference, shot.prediction, shot.disagreement} <= files.keys()


def test_a_large_volume_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.scoring.gallery.BYTES", 3 * (20 * 20 + 2 * 3 * 20 * 20 / 8))
    monkeypatch.setattr("bench.scoring.gallery.LONGEST", 20)
    kept = read_kept(write_volumes(tmp_path, "near", 2) / "gallery" / "00-volume-0.npz")
    whole = Volumes().case("volume-0").reference
    assert kept.image.shape == (3, 20, 20, 1)
    assert (kept.first, kept.opening) == (2, 1)
    assert (kept.reference == whole[:, 2:5, ::2, ::2]).all()
    (album,), _, _ = albums_of(tmp_path)
    assert album.shots["volume-0"].scene.slices == 3


def test_pictures_are_drawn_once_and_leave_with_their_case(tmp_path: Path) -> None:
    folder = write_run(tmp_path, scores=dice_rows({"a": 0.5}))
    for rank in (0, 1):
        write_picture(folder, rank, f"case-{rank}", 0.5, seed=rank)
    pictures = build_report(tmp_path).index.parent / "pictures"
    before = {path.name: path.stat().st_mtime_ns for path in pictures.iterdir() if path.suffix != ".svg"}
    (folder / "gallery" / "01-case-1.npz").unlink()
    (pictures / "mine.png").write_bytes(b"")
    build_report(tmp_path)
    after = {path.name: path.stat().st_mtime_ns for path in pictures.iterdir() if path.suffix != ".svg"}
    assert after.pop("mine.png")
    assert len(before) == 8
    assert after.items() < before.items()
    assert len(after) == 4


def read_png(content: bytes, folder: Path) -> np.ndarray:
    (folder / "layer.png").write_bytes(content)
    return np.asarray(Image.open(folder / "layer.png").convert("RGBA"))


def test_layers_by_hand(tmp_path: Path) -> None:
    mask = np.zeros((1, 1, 5, 5), bool)
    mask[..., 1:4, 1:4] = True
    assert contour(mask[0], 1).sum() == 8  # all but the middle
    filled = read_png(fill_layer(mask, (5, 5)), tmp_path)
    assert filled[..., 3].tolist() == [[0] * 5, *([0, 255, a, 255, 0] for a in (255, 110, 255)), [0] * 5]
    assert (filled[1, 1, :3] == (0x00, 0x72, 0xB2)).all()
    outline = read_png(outline_layer(mask, (5, 5)), tmp_path)
    assert (outline[..., 3] > 0).sum() == 9
    draws = np.stack([mask, np.zeros_like(mask)])
    heat = read_png(heat_layer(draws, (5, 5)), tmp_path)
    assert (heat[..., 3] > 0).sum() == 9
    assert heat[2, 2, 0] > 200  # half of the draws: the bright end of the scale
    assert resized(mask, (10, 10)).sum() == 4 * 9


def test_slices_lie_side_by_side() -> None:
    slices = np.arange(5, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 3), np.uint8)
    whole = mosaic(slices)
    assert whole.shape == (4, 9)
    assert whole[::2, ::3].tolist() == [[0, 1, 2], [3, 4, 0]]


# --- opened and kept new ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "says"), [(0, ""), (1, "no browser to be had here; open ")])
def test_the_page_is_opened_by_its_address(
    code: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path / "opened"}\nexit {code}\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    monkeypatch.setattr(webbrowser, "_tryorder", None)  # which browsers there are is looked up once a process
    write_run(runs := tmp_path / "my runs", scores=dice_rows({"a": 0.5}))
    (runs / "audit").mkdir()  # of sdseg audit, and no folder of runs
    assert cli.main(["report", "--runs", str(runs), "--open"]) == 0
    index = runs / "report" / "index.html"
    assert (tmp_path / "opened").read_text().strip() == index.as_uri()
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == f"page: {index}"
    assert (said.err == "") if not code else (says in said.err)


# A shell ignores Ctrl-C for what it runs in the background, the tests too.
CTRL_C = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from bench.cli import main
sys.exit(main(sys.argv[1:]))
"""


def wait_for(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 240
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_watching_makes_the_page_again_until_it_is_stopped(tmp_path: Path) -> None:
    write_run(tmp_path, "first", scores=dice_rows({"a": 0.5}))
    index = tmp_path / "report" / "index.html"
    command = [sys.executable, "-c", CTRL_C, "report", "--runs", str(tmp_path), "--watch", "0.1"]
    root = Path(__file__).parents[1]
    with (
        subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching,
        ExitStack() as stack,
    ):
        stack.callback(watching.kill)  # nothing waits for it, whatever fails
        assert watching.stderr is not None
        assert f"watching {tmp_path}; Ctrl-C ends" in map(str.strip, iter(watching.stderr.readline, ""))
        assert "data-stamp" in index.read_text()
        write_run(tmp_path, "second", scores=dice_rows({"a": 0.7}))
        wait_for(lambda: "second" in index.read_text())
        stamp = re.search(r'data-stamp="(\d+)"', index.read_text())
        assert stamp
        wait_for(lambda: (index.parent / "stamp.js").read_text() == f'window.reportStamp("{stamp[1]}");\n')
        watching.send_signal(signal.SIGINT)
        out, err = watching.communicate(timeout=240)
    assert watching.returncode == 0, err
    assert "data-stamp" not in index.read_text()
    assert out.splitlines()[-1] == f"page: {index}"

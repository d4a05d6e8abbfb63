"""The pytest plugin: options to overrides, cells to tests, scores to strict JSON."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bench.config import expand
from bench.plugin import accuracy_scores, overrides, plain_scores
from bench.record import Score
from bench.results.identity import fit_identity, run_identity
from bench.scores import RunScores
from tests.report_fixtures import score_rows

ROOT = Path(__file__).parents[1]
pytest_plugins = ["pytester"]


class Options(SimpleNamespace):
    def getoption(self, name: str):
        return getattr(self, name.strip("-"))


def test_options_become_overrides() -> None:
    options = Options(profile="cpu", methods="unet,sdseg", datasets=None, seeds="0,1", set=["train.steps=3"])
    assert overrides(options) == ["profile=cpu", "methods=[unet,sdseg]", "seeds=[0,1]", "train.steps=3"]


def suites(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pytest", "--benchmark-only", "-q", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_an_unknown_method_is_one_line_and_no_benchmark_runs() -> None:
    done = suites("suites/", "--methods", "sdsegg")
    assert done.returncode == 4
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("ERROR:")]
    assert len(lines) == 1
    assert "sdsegg" in lines[0]
    assert "Traceback" not in done.stdout + done.stderr


def test_benchmarks_are_not_shared_out(tmp_path: Path) -> None:
    option = "def pytest_addoption(parser):\n    parser.getgroup('x')._addoption('-n', dest='numprocesses', type=int)\n"
    (tmp_path / "has_n.py").write_text(option)
    command = [sys.executable, "-m", "pytest", "-q", "suites/", "-n", "2", "--collect-only"]
    command += [] if find_spec("xdist") else ["-p", "has_n"]
    path = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=path)
    assert done.returncode == 4
    assert "ERROR: -n: benchmarks run one after another" in done.stderr


def test_one_test_per_cell_and_none_is_skipped_under_benchmark_only() -> None:
    done = suites("suites/", "suites/test_ablation.py", "--methods", "unet", "--seeds", "0,1", "--collect-only")
    names = [line.split("::")[1] for line in done.stdout.splitlines() if "::" in line]
    counts = Counter(name.split("[")[0] for name in names)
    assert "test_accuracy[phantom/polyp-unet-seed1]" in names
    # one method, two seeds; speed at two batch sizes
    assert [counts[f"test_{name}"] for name in ("accuracy", "speed", "footprint", "stability")] == [2, 4, 2, 2]
    # the suite that was named brings its own four methods; those that were not are not even collected
    assert counts["test_ablation"] == 4 * 2
    assert len(counts) == 5
    assert "test_ablation[phantom/polyp-ablation_concat-seed1]" in names


def test_scores_become_plain_numbers_or_null() -> None:
    values = {"Dice": 0.5, "PSNR": math.inf, "X": None, "n": 3}
    content = plain_scores([Score(metric=name, value=value) for name, value in values.items()])
    assert content == {"Dice": 0.5, "PSNR": None, "X": None, "n": 3.0}
    assert json.loads(json.dumps(content, allow_nan=False)) == content


def test_all_steps_share_one_training_in_folders_of_their_own() -> None:
    from suites.test_convergence import column

    plain, one, ten = (
        expand(["profile=smoke", *c])[0] for c in (["method=sdseg"], column("sdseg", 1), column("sdseg", 10))
    )
    data = {"data": "d", "split": "s"}
    assert fit_identity(plain, data) == fit_identity(one, data) == fit_identity(ten, data)
    assert run_identity(one, data) != run_identity(ten, data)
    assert len({cell.method for cell in (plain, one, ten)}) == 3  # no run of several draws is scored again with one
    assert plain.config["draws"] > one.config["draws"] == 1


def test_accuracy_scores_need_every_row() -> None:
    rows = [(case, case, "x", draw, "Dice", v) for case, draw, v in [("a", 0, 0.5), ("b", 0, np.nan), ("a", 1, 0.7)]]
    scores = RunScores(score_rows([*rows, ("b", 1, "x", 1, "Dice", 0.6), ("a", "a", "x", -1, "Dice", 9.0)]))
    mean, undefined = accuracy_scores(scores, ["Dice"], 4)
    assert (mean.value, undefined.value) == (pytest.approx(0.6), 1)
    with pytest.raises(AssertionError, match="Dice: 4 rows, expected 6"):
        accuracy_scores(scores, ["Dice"], 6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_only_overlap_must_be_defined_somewhere(value: float) -> None:
    nowhere = {name: RunScores(score_rows([("a", "a", "x", 0, name, value)])) for name in ("HD95", "Dice")}
    content = plain_scores(accuracy_scores(nowhere["HD95"], ["HD95"], 1))
    assert content == {"HD95": None, "HD95_undefined": int(np.isnan(value))}
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    if np.isnan(value):
        with pytest.raises(AssertionError, match="undefined on every case"):
            accuracy_scores(nowhere["Dice"], ["Dice"], 1)


def test_training_keys_speak_of_every_method() -> None:
    given = ["dataset=phantom/polyp", "seed=0", "train.steps=7", "methods=[sdseg,unet,medsegdiff_v2,diff_unet_3d]"]
    assert {cell.config["method"]["recipe"]["steps"] for cell in expand(given)} == {7}
    paper = expand(["profile=smoke", "recipe=paper", "method=unet", "dataset=phantom/polyp", "seed=0"])[0].config
    assert paper["method"]["recipe"] == paper["train"]
    own = expand(["profile=smoke", "method=unet", "dataset=phantom/polyp", "seed=0"])[0].config
    assert own["method"]["recipe"]["steps"] != own["train"]["steps"]

"""The pytest plugin: options to overrides, cells to tests, scores to strict JSON."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from bench.plugin import overrides, plain_scores
from bench.record import Score

ROOT = Path(__file__).parents[1]
pytest_plugins = ["pytester"]


class Options(SimpleNamespace):
    def getoption(self, name: str):
        return getattr(self, name.strip("-"))


def test_options_become_overrides() -> None:
    options = Options(profile="cpu", methods="unet,sdseg", datasets=None, seeds="0,1", set=["train.steps=3"])
    assert overrides(options) == ["profile=cpu", "methods=[unet,sdseg]", "seeds=[0,1]", "train.steps=3"]


def suites(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pytest", "suites/", "--benchmark-only", "-q", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_an_unknown_method_is_one_line_and_no_benchmark_runs() -> None:
    done = suites("--methods", "sdsegg")
    assert done.returncode == 4
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "error:" in line]
    assert len(lines) == 1
    assert "sdsegg" in lines[0]
    assert "Traceback" not in done.stdout + done.stderr


def test_one_test_per_cell_and_none_is_skipped_under_benchmark_only() -> None:
    done = suites("--methods", "unet", "--seeds", "0,1", "--collect-only")
    names = [line.split("::")[1] for line in done.stdout.splitlines() if "::" in line]
    assert {n.split("[")[0] for n in names} == {"test_accuracy", "test_speed", "test_footprint", "test_stability"}
    assert "test_accuracy[phantom/polyp-unet-seed1]" in names
    assert len(names) == 2 * (1 + 2 + 1 + 1)  # seeds x (accuracy, speed of two batch sizes, footprint, stability)


def test_scores_become_plain_numbers_or_null() -> None:
    values = {"Dice": 0.5, "PSNR": math.inf, "X": None, "n": 3}
    content = plain_scores([Score(metric=name, value=value) for name, value in values.items()])
    assert content == {"Dice": 0.5, "PSNR": None, "X": None, "n": 3.0}
    assert json.loads(json.dumps(content, allow_nan=False)) == content

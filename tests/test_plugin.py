"""The pytest plugin: options to overrides, cells to tests, scores to strict JSON."""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bench import progress
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


@pytest.fixture
def suites(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., pytest.RunResult]]:
    """A pytest session in the project's folder, in this process."""
    monkeypatch.chdir(ROOT)
    yield lambda *arguments: pytester.runpytest_inprocess("-q", "suites/", *arguments)
    progress.listen(logging.NullHandler())  # that session's terminal is closed


def test_what_no_benchmark_can_run_with_is_one_line(suites) -> None:
    for arguments, said in (
        (["--benchmark-only", "--methods", "sdsegg"], "sdsegg"),
        (["--collect-only", "-n", "2"], "-n: benchmarks run one after another"),
    ):
        done = suites(*arguments)
        assert done.ret == pytest.ExitCode.USAGE_ERROR
        (line,) = (line for line in done.outlines + done.errlines if line.startswith("ERROR:"))
        assert said in line
        assert "Traceback" not in str(done.stdout) + str(done.stderr)


def test_one_test_per_cell_and_none_is_skipped_under_benchmark_only(suites) -> None:
    done = suites("--benchmark-only", "suites/test_ablation.py", "--methods", "unet", "--seeds", "1", "--collect-only")
    names = [line.split("::")[1] for line in done.outlines if "::" in line]
    counts = Counter(name.split("[")[0] for name in names)
    assert "test_accuracy[phantom/polyp-unet-seed1]" in names
    # one method; speed at two batch sizes
    assert [counts[f"test_{name}"] for name in ("accuracy", "speed", "footprint", "stability")] == [1, 2, 1, 1]
    # the suite that was named brings its own four methods; those that were not are not even collected
    assert counts["test_ablation"] == 4
    assert len(counts) == 5
    assert "test_ablation[phantom/polyp-ablation_concat-seed1]" in names


def test_what_is_announced_is_what_was_collected(suites) -> None:
    chosen = ["suites/test_ablation.py", "--seeds", "1", "-k", "concat"]
    done = suites("--benchmark-only", *chosen, "--setup-plan")
    (said,) = (line for line in done.outlines if "training" in line)
    assert said.startswith("1 run: ablation_concat x phantom/polyp x seed 1; ")


def test_scores_become_plain_numbers_or_null() -> None:
    values = {"Dice": 0.5, "PSNR": math.inf, "X": None, "n": 3}
    content = plain_scores([Score(metric=name, value=value) for name, value in values.items()])
    assert content == {"Dice": 0.5, "PSNR": None, "X": None, "n": 3.0}
    assert json.loads(json.dumps(content, allow_nan=False)) == content


def test_all_steps_share_one_training_in_folders_of_their_own() -> None:
    from suites.test_convergence import column

    plain, one, ten = (
        expand(["profile=smoke", *c])[0]
        for c in (["method=sdseg"], *(column("sdseg", "draws=1", steps=s) for s in (1, 10)))
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
    given = ["dataset=phantom/polyp", "seed=0", "train.steps=7", "methods=[sdseg,medsegdiff_v2]"]
    assert {cell.config["method"]["recipe"]["steps"] for cell in expand(given)} == {7}
    paper = expand(["profile=smoke", "recipe=paper", "method=unet", "dataset=phantom/polyp", "seed=0"])[0].config
    assert paper["method"]["recipe"] == paper["train"]
    own = expand(["profile=smoke", "method=unet", "dataset=phantom/polyp", "seed=0"])[0].config
    assert own["method"]["recipe"]["steps"] != own["train"]["steps"]

"""Sweeps in other processes: exit code 3 and one line for every job that failed, also for one that was killed."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench import cli, progress
from bench.command import sweeps
from bench.config import expand
from bench.files import atomic_path, write_json
from bench.jobs import sweep_jobs, with_points
from tests.test_cli import make_folder

METHOD = "name: ends\ntarget: sweep_method.build\noptions: {}\ninference: {}\nrecipe: {}\n"
CODE = """
import os, pathlib, signal, time

def has_ended():  # the other job has left its answer, which a launcher that dies would take with it
    answers = pathlib.Path("runs/.sweeps").glob("answers-*/[!.]*.json")
    return os.path.exists("ended") or any('"code": 3' in path.read_text() for path in answers)

def build(task, seed, device, recipe):
    if seed == 1:
        while not has_ended():
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGKILL)
    raise RuntimeError("out of memory\\nsecond line")
"""


def test_answers_that_are_being_written_are_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int, int]] = []
    monkeypatch.setattr(progress, "report", lambda *what: told.append(what))
    with sweeps._watched(tmp_path, 2), atomic_path(tmp_path / "1.json") as part:
        write_json(tmp_path / "0.json", {"code": 0})
        part.write_text('{"code": 0}')
        shutil.copy(part, tmp_path / ".part-of-one-that-was-killed.json")
    assert told[-1] == ("jobs ended", 2, 2)
    assert max(done for _, done, _ in told) == 2


# The way of a job that raises is one for all launchers.
@pytest.mark.parametrize(("launcher", "seeds"), [("joblib", "1,2"), ("submitit_local", "1")])
def test_every_failed_job_is_one_line(
    launcher: str, seeds: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    package = launcher.partition("_")[0]
    if find_spec(f"hydra_plugins.hydra_{package}_launcher") is None:
        pytest.skip(f"hydra-{package}-launcher is not installed (extra sweep)")
    (tmp_path / "conf" / "method").mkdir(parents=True)
    (tmp_path / "conf" / "method" / "ends.yaml").write_text(METHOD)
    (tmp_path / "sweep_method.py").write_text(CODE)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[1]}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    if seeds == "1":
        (tmp_path / "ended").touch()
    data = ["dataset=folder", f"dataset.root={make_folder(tmp_path / 'data')}", "draws=1"]
    workers = ["hydra.launcher.n_jobs=2"] if launcher == "joblib" else ["hydra.launcher.timeout_min=5"]
    sweep = ["-m", f"seed={seeds}", f"hydra/launcher={launcher}", *workers, f"hydra.searchpath=[{tmp_path / 'conf'}]"]
    assert cli.main(["fit", "method=ends", *data, *sweep]) == 3
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == (2 if seeds == "1,2" else 1), lines
    assert "seed=1" in lines[0]
    assert "its process ended" in lines[0]
    assert not list((tmp_path / "runs" / ".sweeps").glob("answers-*"))
    if seeds == "1":
        return
    assert lines[1].startswith("error: folder-ends-seed2: ")
    assert "RuntimeError: out of memory second line" in lines[1]


def test_runs_that_differ_in_steps_and_samples_are_points_with_names_of_their_own() -> None:
    given = ["profile=smoke", "methods=[sdseg,unet,diff_unet]", "method.inference.steps=1,10"]
    jobs = with_points(sweep_jobs([*given, "method.inference.samples=1,5"]))
    methods = [cell.config["method"] for job in jobs for cell in expand(job)]
    grid = [f"steps{steps}.samples{samples}" for steps in (1, 10) for samples in (1, 5)]
    # What SDSeg does anyway is its own run, and so is a method without steps, once.
    points = {f"sdseg.{at}" for at in grid[1:]} | {f"diff_unet.{at}" for at in grid}
    assert sorted(method["name"] for method in methods) == sorted([*points, "sdseg", "unet"])
    assert {method["name"] for method in methods if method.get("sweep") == ["steps", "samples"]} == points
    (own,) = (method for method in methods if method["name"] == "diff_unet.steps10.samples5")
    assert (own["inference"]["steps"], own["inference"]["samples"]) == (10, 5)


def test_a_sweep_over_something_else_makes_no_points() -> None:
    jobs = sweep_jobs(["profile=smoke", "method=sdseg", "seed=0,1", "method.inference.steps=10"])
    assert with_points(jobs) == jobs

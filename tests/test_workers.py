"""Scoring by several processes: the same results, and what becomes of errors, of dead workers and of Ctrl-C."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from bench import cli
from bench.errors import InputError, RunError
from bench.metrics.lpips_distance import Lpips
from bench.metrics.lpips_trunk import Trunk
from bench.scoring.run import RunCases
from bench.scoring.workers import of_cases
from tests.kills import content
from tests.lpips_fixtures import random_trunk
from tests.protocol_fixtures import predicted_run, write_masks
from tests.test_kills import timeless

pytestmark = pytest.mark.usefixtures("no_lpips")
ROOT = Path(__file__).parents[1]


def work(folder: Path, case_id: str) -> str:
    """For workers: what a case's name says."""
    (folder / case_id).touch()
    if case_id.startswith("bad"):
        time.sleep(0.3 if case_id == "bad1" else 0)  # the second one fails first
        raise InputError(f"{case_id}.png: broken")
    if case_id == "odd":
        raise ZeroDivisionError("by nothing")
    if case_id == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if case_id.startswith("long"):
        time.sleep(600)
    return case_id.upper()


def test_results_come_in_the_order_of_the_cases(tmp_path: Path) -> None:
    ids = [f"case{i}" for i in range(9)]
    assert of_cases(partial(work, tmp_path), ids, 2) == [name.upper() for name in ids]
    with pytest.raises(InputError, match="--workers 0: give a positive number"):
        of_cases(partial(work, tmp_path), ids, 0)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_is_that_of_the_first_case_that_fails(workers: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^bad1\.png: broken$"):
        of_cases(partial(work, tmp_path), ["a", "bad1", "bad2", "b", "c"], workers)
    assert not (tmp_path / "c").exists()
    with pytest.raises(RunError, match=r"^case odd: ZeroDivisionError: by nothing"):
        of_cases(partial(work, tmp_path), ["a", "odd"], workers)


def test_a_dead_process_is_one_line_with_its_suspects(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"killed or out of memory, while it worked on one of: (a, )?dies(, [bcd])?;"):
        of_cases(partial(work, tmp_path), ["a", "dies", "b", "c", "d"], 2)


CALL = """
import signal
import sys
from functools import partial
from pathlib import Path
from bench.scoring.workers import of_cases
from tests.test_workers import work
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
of_cases(partial(work, Path(sys.argv[1])), ["long1", "long2"], 2)
"""


@pytest.fixture
def scoring(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process whose two workers are in the middle of their cases, in a group of its own as in a terminal."""
    command = [sys.executable, "-c", CALL, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        wait_for(lambda: len(list(tmp_path.glob("long*"))) == 2 or process.poll() is not None)
        yield process
        process.kill()


def wait_for(true: Callable[[], bool], seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_workers_end_with_their_parent(name: str, scoring: subprocess.Popen[str]) -> None:
    family = psutil.Process(scoring.pid).children(recursive=True)
    assert len(family) >= 2
    if name == "SIGINT":
        os.killpg(scoring.pid, signal.SIGINT)  # as the terminal does
    else:
        scoring.kill()
    _, said = scoring.communicate()
    wait_for(lambda: not any(process.is_running() for process in family))
    assert said.count("Traceback") == (1 if name == "SIGINT" else 0)  # the parent's


def write_volumes(root: Path) -> tuple[Path, Path]:
    """Label maps of three labels with two draws, on odd grids."""
    rng = np.random.default_rng(0)
    for number in range(3):
        reference = rng.integers(0, 4, (3, 13 + number, 11)).astype(np.uint8)
        for folder, plane in (("ref", reference), ("pred/draw-0", reference.T.copy().T), ("pred/draw-1", reference)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            flipped = np.where(rng.random(plane.shape) < 0.1, 7, plane) if folder != "ref" else plane
            np.save(root / folder / f"v{number}.npy", flipped.astype(np.uint8))
    return root / "pred", root / "ref"


def test_score_folder_writes_the_same_with_two_workers(tmp_path: Path) -> None:
    pred, ref = write_volumes(tmp_path)
    written = []
    for workers in (1, 2):
        out = tmp_path / str(workers) / "out"
        command = ["score-folder", str(pred), str(ref), "--out", str(out), "--mask", "labels", "--conventions"]
        assert cli.main([*command, "--size", "16", "--workers", str(workers)]) == 0
        written.append(timeless(content(out)))
    assert written[0] == written[1]
    assert written[0]["summary.json"]["ids_without_reference"] == [7]  # learnt by workers


def test_a_run_is_scored_the_same_with_two_workers(tmp_path: Path) -> None:
    run = predicted_run(write_masks(tmp_path), tmp_path)
    written = []
    for workers in (1, 2):
        run._workers = workers
        run.score()
        written.append(timeless(content(run.folder.path)))
        run.folder.scores_path.unlink()
    assert written[0] == written[1]


def test_a_data_set_that_cannot_be_sent_is_made_again(tmp_path: Path) -> None:
    run = predicted_run(write_masks(tmp_path), tmp_path)
    run.dataset.open = (tmp_path / "open").open("w")  # type: ignore[attr-defined]
    name = run.dataset.case_ids("test")[0]
    sent = pickle.loads(pickle.dumps(RunCases(run.cell, run.dataset, run.folder))).read(name)
    here = RunCases(run.cell, run.dataset, run.folder).read(name)
    assert sent.reference_digest() == here.reference_digest()
    assert sent.predictions_digest() == here.predictions_digest()
    run.dataset.open.close()  # type: ignore[attr-defined]


def distance(lpips: Lpips, _case_id: str) -> float:
    """For workers: LPIPS of two maps."""
    maps = torch.linspace(0, 1, 2 * 40 * 40).view(2, 1, 40, 40)
    return float(lpips.all_distances(lpips.features(maps))[0, 1])


def test_lpips_is_sent_to_processes() -> None:
    lpips = Lpips(Trunk(random_trunk(), "a test"))
    here = of_cases(partial(distance, lpips), ["a", "b"])
    assert here[0] > 0
    assert of_cases(partial(distance, lpips), ["a", "b"], 2) == here

"""Two processes over gloo train what one process trains with the same batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training_fixtures import RUNS, train_one

Results = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Every run in this process."""
    folder = tmp_path_factory.mktemp("alone")
    return {name: train_one(name, folder) for name in RUNS}


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> list[Results]:
    """The runs in two processes, as each of them saw it."""
    folder, root = tmp_path_factory.mktemp("together"), Path(__file__).parents[1]
    lo = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)} | lo
    command = [sys.executable, "-m", "tests.training_fixtures", str(folder)]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"result-{rank}.pt", weights_only=True) for rank in range(2)]


def difference(a: dict[str, Any], b: dict[str, Any]) -> float:
    """Largest difference of any weight of two runs."""
    return max(
        float((value.double() - b["weights"][name].double()).abs().max()) for name, value in a["weights"].items()
    )


def curve(runs: list[dict[str, Any]], steps: int) -> torch.Tensor:
    """Mean loss of every step, over the parts of all processes."""
    return torch.stack([torch.tensor(run["losses"]).view(steps, -1).mean(1) for run in runs]).mean(0)


@pytest.mark.parametrize("name", ["toy", "toy_parts", "tiny_parts"])
def test_same_losses_and_weights_as_one_process(alone: Results, together: list[Results], name: str) -> None:
    base = alone[name.removesuffix("_parts")]
    steps = RUNS[name]["steps"]
    runs = [results[name] for results in together]
    for found in (runs, [alone[name]]):
        torch.testing.assert_close(curve(found, steps), curve([base], steps), rtol=1e-4, atol=0)
    tolerance = 1e-6 if name.startswith("toy") else 5e-5
    assert difference(runs[0], base) < tolerance
    assert difference(alone[name], base) < tolerance
    assert runs[0]["facts"]["processes"] == 2
    assert runs[0]["facts"]["val_dice"] == pytest.approx(base["facts"]["val_dice"], abs=0.01)


def test_all_processes_end_with_the_same_weights(together: list[Results]) -> None:
    for name in together[0]:
        first, second = (results[name]["weights"] for results in together)
        assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_two_processes_continue_where_they_stopped(alone: Results, together: list[Results]) -> None:
    for results in (alone, *together):
        assert difference(results["toy_resumed"], results["toy"]) == 0.0

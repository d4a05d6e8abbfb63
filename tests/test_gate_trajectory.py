"""How a training begins: the same every time, otherwise where something that it learns by was changed."""

from __future__ import annotations

import pytest

from bench.config import expand
from bench.gate.reference import Trajectory
from bench.gate.trajectory import deviations, judge_trajectory, trajectory

SMALL = ["profile=smoke", "methods=[unet]", "device=cpu", "threads=1", "image_size=32", "dataset.size=32"]
CASES = ["dataset.n_train=16", "dataset.n_val=4", "dataset.n_test=4"]


@pytest.fixture(scope="module")
def first() -> Trajectory:
    return made()


def made(*more: str) -> Trajectory:
    (cell,) = expand([*SMALL, *CASES, *more])
    found = trajectory(cell)
    assert found is not None
    return found


def failing(old: Trajectory, new: Trajectory) -> list[str]:
    return [row.metric for row in judge_trajectory("run", old, new) if not row.passed]


def test_it_is_the_same_again(first: Trajectory) -> None:
    assert len(first.losses) == len(first.norms) == 10
    assert made() == first
    assert failing(first, first) == []


def test_another_learning_rate_and_a_dropped_flip_are_seen(first: Trajectory) -> None:
    assert "losses" in failing(first, made("train.lr=1e-3"))
    assert "losses" in failing(first, made("train.flips=[horizontal]"))


def test_late_steps_in_which_rounding_has_grown_are_not_judged(first: Trajectory) -> None:
    late = first.model_copy(update={"losses": [*first.losses[:5], *(2 * loss for loss in first.losses[5:])]})
    assert deviations(first, late)["losses"] == 0
    assert failing(first, late) == []
    early = first.model_copy(update={"losses": [*(1.01 * loss for loss in first.losses[:5]), *first.losses[5:]]})
    assert failing(first, early) == ["losses"]

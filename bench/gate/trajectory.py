"""How a training begins, on fixed data: what shows a change of the code on any machine, without a whole training.

In ten steps a training has no time to end elsewhere because a processor rounds otherwise. What changes data,
augmentation, network, loss, optimiser or sampler changes its numbers by more than rounding does (docs/gate.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

from bench.config import Cell
from bench.gate.reference import Trajectory
from bench.gate.verdict import Row, failed
from bench.predicting import predict_cases
from bench.runner import Run, checked_dataset
from bench.types import Dataset

_STEPS, _CASES, _GRID = 10, 4, 4
# Rounding grows tenfold from step to step where a training is rough; a change shows in the first ones.
_JUDGED = 5
# What instruction sets and thread counts may differ in, measured with room in docs/gate.md: the median difference over
# these steps, as a share, of losses and norms; over the fields, of mean scores; of the share of foreground.
_TOLERANCE = {"losses": 0.0002, "norms": 0.05, "scores": 0.002, "foreground": 0.005}


def trajectory(cell: Cell) -> Trajectory | None:
    """The beginning of a cell's training and what it predicts after it; None of a method that takes no steps."""
    recipe = cell.config["method"].get("recipe") or {}
    if not {"steps", "validate_every", "checkpoint_every"} <= recipe.keys():
        return None
    dataset = _few_to_validate(checked_dataset(cell))
    with TemporaryDirectory() as folder:
        log_file = _fitted(cell, dataset, _STEPS, folder).folder.model / "log.jsonl"
        lines = log_file.read_text(encoding="utf-8").splitlines()
        # After one step: some methods answer all or nothing after ten, and rounding decides which.
        scores, foreground = _prediction(_fitted(cell, dataset, 1, folder))
    log = [row for line in lines if "total" in (row := json.loads(line))]
    losses, norms = ([row[key] for row in log] for key in ("total", "grad_norm"))
    return Trajectory(losses=losses, norms=norms, scores=scores, foreground=foreground)


class _FewToValidate:
    """A data set whose validation, which decides nothing here, is short."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)

    def case_ids(self, split: str) -> Sequence[str]:
        ids = self._dataset.case_ids(split)
        return ids[:1] if split == "val" else ids


_few_to_validate = lru_cache(maxsize=1)(_FewToValidate)  # its items are kept for the next method


def _fitted(cell: Cell, dataset: Any, steps: int, folder: str) -> Run:
    """The cell's run after so many steps."""
    short = {"steps": steps, "validate_every": steps, "checkpoint_every": steps, "keep": None}
    method = {**cell.config["method"], "recipe": {**cell.config["method"]["recipe"], **short}}
    run = Run(replace(cell, config={**cell.config, "method": method, "runs_dir": folder}), dataset)
    run.fit()
    return run


def _prediction(run: Run) -> tuple[list[float], float]:
    """Mean scores over the fields of a coarse grid, and the share of foreground, of the first test cases."""
    cases = [run.dataset.case(name) for name in run.dataset.case_ids("test")[:_CASES]]
    size = 1 if run.dataset.spec.dims == 3 else len(cases)
    config = {**run.cell.config, "predict_batch_size": size}
    answers = predict_cases(run.segmenter(), run.dataset.spec, cases, [0] * len(cases), config)
    fields = [adaptive_avg_pool2d(torch.as_tensor(a.score).float().flatten(0, -3), _GRID) for a in answers]
    share = torch.cat([torch.as_tensor(a.mask).float().flatten() for a in answers]).mean()
    return torch.cat(fields).flatten().tolist(), float(share)


def deviations(old: Trajectory, new: Trajectory) -> dict[str, float]:
    """Median difference of every part, of the first losses and norms as a share; infinite where lengths differ.

    A single step may be far off by rounding alone, where a method divides by what is nearly nothing.
    """
    parts = {}
    for part in _TOLERANCE:
        before, now = (np.atleast_1d(getattr(one, part)) for one in (old, new))
        if before.shape != now.shape:
            parts[part] = np.inf
            continue
        apart = np.abs(now - before)
        if part in ("losses", "norms"):
            apart = (apart / np.abs(before))[:_JUDGED]
        parts[part] = float(np.median(apart))
    return parts


def judge_trajectory(name: str, old: Trajectory, new: Trajectory | None) -> Iterator[Row]:
    """A row for losses, gradient norms, scores and foreground."""
    if new is None:
        yield failed("takes no training steps any more").at(name, "training", "losses")
        return
    for part, apart in deviations(old, new).items():
        allowed = _TOLERANCE[part]
        before, now = (f"{np.mean(getattr(one, part)):.4f}" for one in (old, new))
        reason = "identical" if apart == 0 else f"off by {apart:.2g} in the median"
        yield Row(before, now, f"{allowed:g}", apart <= allowed, reason, 1 - apart / allowed).at(name, "training", part)

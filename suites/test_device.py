"""Is the answer of a device that of the CPU? The same weights, images and noise on both, float32 on the CPU.

The CPU's answers are held against the released code's (`tests/parity`), and so a GPU's are by way of them:
`pytest suites/test_device.py --benchmark-only --set device=cuda`.
"""

from __future__ import annotations

import pytest
import torch

from bench.predicting import predict_cases
from bench.record import Score
from bench.runner import Run, load_segmenter
from bench.types import Prediction

CASES = 8
# Of the mask's pixels; half precision of a trained encoder and decoder flips at most a twentieth of it on the phantom.
FLIPPED = 0.01


def answers(run: Run, device: str) -> list[Prediction]:
    """Score and mask (L, *S) of the first test cases, draw 0, one by one."""
    task, config = run.dataset.spec, {**run.cell.config, "device": device}
    segmenter = load_segmenter(config, task, run.folder)
    if segmenter.model is None:
        pytest.skip("this method computes nothing")
    cases = [run.dataset.case(name) for name in run.dataset.case_ids("test")[:CASES]]
    return [predict_cases(segmenter, task, [case], [0], config)[0] for case in cases]


def test_device(run: Run, benchmark, publish) -> None:
    """Share of mask pixels that differ, and the largest difference of a score."""
    expected = answers(run, "cpu")
    device = run.device()
    answered = benchmark.pedantic(lambda: answers(run, device.type), rounds=1)
    pairs = list(zip(answered, expected, strict=True))
    flipped = torch.stack([(a.mask != b.mask).float().mean() for a, b in pairs]).mean().item()
    apart = max((a.score - b.score).abs().max().item() for a, b in pairs)
    note = f"{device.type} beside cpu, {len(pairs)} cases"
    publish(
        [
            Score(metric="device_flipped", value=flipped, better="lower", note=f"share of mask pixels, {note}"),
            Score(metric="device_score_error", value=apart, better="lower", note=f"largest difference, {note}"),
        ]
    )
    assert flipped <= FLIPPED

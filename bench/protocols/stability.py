"""Which stability a protocol scores: `sdseg` that of the SDSeg release, at its size; every other one the strict."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from bench.metrics import Pair
from bench.metrics.lpips_distance import Lpips
from bench.metrics.stability import CaseStability, Mode, case_stability, mask_stability, paper_stability
from bench.protocols.protocol import Protocol
from bench.protocols.resizing import bilinear


def stability_mode(protocol: str) -> Mode:
    """The mode in which a protocol scores image metrics; agreement of masks is always strict."""
    return "paper" if protocol == "sdseg" else "strict"


def protocol_stability(
    protocol: Protocol,
    reference: np.ndarray,
    scores: np.ndarray | None,
    masks: np.ndarray,
    lpips: Lpips | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[int, str, str, float]]:
    """Agreement of the draws of one case: (label index, metric, convention, value).

    `reference` (L, *S) bool, `scores` (M, L, *S) or None, `masks` (M, L, *S) bool, on the case's own grid.
    """
    if stability_mode(protocol.name) == "strict":
        yield from _rows(case_stability(scores, masks, lpips, device=device), "strict")
    elif len(masks) > 1:
        small, wanted = _at_size(protocol, masks, reference)
        soft = None if scores is None else bilinear(scores, wanted.shape[-1])
        yield from _rows(paper_stability(soft, small, wanted, lpips, device=device), "sdseg")
        yield from _rows(mask_stability(masks), "strict")


def _rows(values: CaseStability, convention: str) -> Iterator[tuple[int, str, str, float]]:
    return ((label, name, convention, value) for (name, label), value in values.items())


def _at_size(protocol: Protocol, masks: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pairs = [[next(iter(protocol.view(Pair(m, r)))) for m, r in zip(draw, reference, strict=True)] for draw in masks]
    resized = np.stack([[pair.prediction for pair in draw] for draw in pairs])
    return resized, np.stack([pair.reference for pair in pairs[0]])

"""The device: what a configuration names, what methods are told, and what they say they use."""

from __future__ import annotations

from typing import Any

import torch

from bench.errors import InputError
from bench.limits import DEVICES


def resolve(name: str = "auto") -> str:
    """`cpu` or `cuda`, of auto, cpu or cuda; raises InputError for another name and for a GPU that is not there."""
    if name not in DEVICES:
        raise InputError(f"device={name}: expected {', '.join(DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device=cuda: this machine or this build of torch has no CUDA; use device=auto")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def stated(segmenter: Any, told: str) -> torch.device:
    """Where a method says it computes; where it was told to, if it says nothing."""
    return torch.device(getattr(segmenter, "device", told))


def synchronize(device: torch.device | str) -> None:
    """Wait until the device has done all it was asked to; nothing to wait for on the CPU."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)

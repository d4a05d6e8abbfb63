"""The device that a configuration names, as methods are told it."""

from __future__ import annotations

import torch

from bench.errors import InputError
from bench.limits import DEVICES


def resolve(name: str) -> str:
    """`cpu` or `cuda`, of auto, cpu or cuda; raises InputError for another name and for a GPU that is not there."""
    if name not in DEVICES:
        raise InputError(f"device={name}: expected {', '.join(DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device=cuda: this machine or this build of torch has no CUDA; use device=auto")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"

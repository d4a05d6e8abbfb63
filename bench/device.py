"""The device: what a configuration names, what methods are told and say they use; what becomes of freed memory."""

from __future__ import annotations

import ctypes
import platform
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


# Of glibc's malloc.h: above which size of its free end the heap shrinks, and how many blocks may lie outside it.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Keep memory that tensors free for the next ones, where the C library is glibc.

    By itself it gives every block of more than 32 MB back to the system, which then has to clear its pages anew: up
    to a fifth of a full-size prediction or training step on a CPU. The process stays as large as it once was.
    """
    _allocate(trim_threshold=-1, mmap_max=0)


def give_back_freed_memory() -> None:
    """Do as a program does that has not asked for this, from now on, and give back what was kept."""
    _allocate(trim_threshold=64 * 2**20, mmap_max=65536)  # what glibc arrives at by itself


def _allocate(trim_threshold: int, mmap_max: int) -> None:
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(_M_TRIM_THRESHOLD, trim_threshold)
        library.mallopt(_M_MMAP_MAX, mmap_max)
        library.malloc_trim(0)

"""What a machine does at its best: GFLOP per second of one large matrix product and of one large convolution."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch

from bench.device import keep_freed_memory, synchronize
from bench.record import Score

_ROUNDS = 8
_SIDE = 2048  # of the matrices
_CHANNELS, _SIZE = 128, 256  # of the last layers of SDSeg's decoder, the most expensive there are
# Instruction sets that decide which arithmetic pays, as torch names them.
_FLAGS = ("avx2", "avx512_f", "avx512_bf16", "amx_bf16")


def limit_scores(device: torch.device | str) -> list[Score]:
    """`limit_gflop_per_s` in float32, and `limit_bf16_gflop_per_s` where the processor has units for bfloat16.

    Each is the better of a product of 2048 x 2048 matrices and a 3x3 convolution of 128 channels at 256 x 256 pixels,
    best of eight calls each. Winograd's algorithm answers with fewer multiplications than are counted, so that a share
    of this limit may lie above one.
    """
    keep_freed_memory()
    device, scores = torch.device(device), []
    for name, dtype in (("limit_gflop_per_s", torch.float32), ("limit_bf16_gflop_per_s", torch.bfloat16)):
        if dtype == torch.bfloat16 and not has_bfloat16(device):
            continue
        product, convolution = _product(device, dtype), _convolution(device, dtype)
        note = f"matrix product {product:.0f}, convolution {convolution:.0f}; {flags(device)}"
        scores.append(Score(metric=name, value=max(product, convolution), unit="GFLOP/s", note=note))
    return scores


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies in bfloat16 by itself, and not by way of float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return any(flag in flags(device).split() for flag in ("avx512_bf16", "amx_bf16"))


def flags(device: torch.device) -> str:
    """The processor's instruction sets that matter here, or the name of a GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return " ".join(flag for flag in _FLAGS if known.get(flag)) or torch.backends.cpu.get_cpu_capability().lower()


def _product(device: torch.device, dtype: torch.dtype) -> float:
    matrix = torch.ones((_SIDE, _SIDE), device=device, dtype=dtype)
    return 2 * _SIDE**3 / _seconds(lambda: matrix @ matrix, device) / 1e9


def _convolution(device: torch.device, dtype: torch.dtype) -> float:
    image = torch.ones((1, _CHANNELS, _SIZE, _SIZE), device=device, dtype=dtype)
    image = image.to(memory_format=torch.channels_last)
    weight = torch.ones((_CHANNELS, _CHANNELS, 3, 3), device=device, dtype=dtype)
    call = lambda: torch.conv2d(image, weight, padding=1)  # noqa: E731
    return 2 * 9 * _CHANNELS**2 * _SIZE**2 / _seconds(call, device) / 1e9


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    best = math.inf
    with torch.inference_mode():
        for _ in range(_ROUNDS):
            synchronize(device)
            start = time.perf_counter()
            call()
            synchronize(device)
            best = min(best, time.perf_counter() - start)
    return best

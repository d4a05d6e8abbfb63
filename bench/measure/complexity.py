"""Parameters of a model, arithmetic and network evaluations of one call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count


def count_parameters(module: torch.nn.Module) -> int:
    """Parameters of a module; one that is used twice counts once."""
    return sum(p.numel() for p in module.parameters())


def count_gflop(call: Callable[[], object]) -> float:
    """GFLOP of one eager call: 2 per multiply-add of matrix products, convolutions and attention."""
    counter = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
    with _countable_attention(), counter:
        call()
    return counter.get_total_flops() / 1e9


def _nnpack_flop(x: list[int], weight: list[int], *_: object, out_shape: list[int], **__: object) -> int:
    # As a plain convolution: what Winograd's algorithm saves is speed.
    return conv_flop_count(x, weight, out_shape)


_FORMULAS = {torch.ops.aten._nnpack_spatial_convolution: _nnpack_flop}


@contextmanager
def evaluations_counted(module: torch.nn.Module) -> Iterator[Callable[[], int]]:
    """Gives how often the items of batches went through `module`: 5 calls on 2 samples in 3 windows are 30.

    Counted at its busiest convolution, so what runs once beside the iterated network (an encoder, a decoder) adds
    nothing; 0 for a network without convolutions.
    """
    seen: Counter[int] = Counter()

    def hook(convolution: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        seen[id(convolution)] += len(arguments[0])

    convolutions = [m for m in module.modules() if isinstance(m, (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d))]
    handles = [convolution.register_forward_pre_hook(hook) for convolution in convolutions]
    try:
        yield lambda: max(seen.values(), default=0)
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _countable_attention() -> Iterator[None]:
    # The counter knows neither the CPU's fused attention nor the fast path of nn.MultiheadAttention: both
    # would count as nothing. As plain matrix products they have the same arithmetic on every device.
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)

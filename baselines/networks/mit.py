"""SegFormer's encoder MiT (Xie et al. 2021), written from its description; the tensors have the released names."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import gelu, scaled_dot_product_attention

HEADS, REDUCTIONS = (1, 2, 5, 8), (8, 4, 2, 1)
# Of the norms of blocks and stages; those behind convolutions have torch's 1e-5.
_EPS = 1e-6


class MixTransformer(nn.Module):
    """Four maps (B, widths[s], H / 2**(s + 2), W / 2**(s + 2)) of images (B, 3, H, W) with sides from 29 pixels on.

    `drop_path` is the chance of the last block to be left out in training; it rises from 0 at the first.
    """

    def __init__(self, widths: Sequence[int], depths: Sequence[int], drop_path: float = 0.1) -> None:
        super().__init__()
        rates = iter([drop_path * i / max(1, sum(depths) - 1) for i in range(sum(depths))])
        before = 3
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True), 1):
            heads, reduction = HEADS[stage - 1], REDUCTIONS[stage - 1]
            blocks = [_Block(width, heads, reduction, next(rates)) for _ in range(depth)]
            self.add_module(f"patch_embed{stage}", _PatchEmbedding(before, width, *((3, 2) if stage > 1 else (7, 4))))
            self.add_module(f"block{stage}", nn.ModuleList(blocks))
            self.add_module(f"norm{stage}", nn.LayerNorm(width, _EPS))
            before = width

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """The maps, finest first."""
        maps: list[torch.Tensor] = []
        for stage in range(1, 5):
            embed, blocks, norm = (self.get_submodule(f"{part}{stage}") for part in ("patch_embed", "block", "norm"))
            x = maps[-1] if maps else image
            size = [-(-edge // (2 if maps else 4)) for edge in x.shape[2:]]
            x = embed(x)
            for block in blocks.children():
                x = block(x, size)
            maps.append(_as_map(norm(x), size))
        return maps


class _PatchEmbedding(nn.Module):
    """Tokens (B, H * W, width) of overlapping patches."""

    def __init__(self, before: int, width: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(before, width, kernel, stride, kernel // 2)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(_as_tokens(self.proj(x)))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, reduction: int, drop_path: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, _EPS), nn.LayerNorm(width, _EPS)
        self.attn, self.mlp = _Attention(width, heads, reduction), _Mlp(width)
        self.drop_path = drop_path
        for module in (*self.attn.modules(), *self.mlp.modules()):
            _initialise(module)

    def forward(self, x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        x = x + self._kept(self.attn(self.norm1(x), size))
        return x + self._kept(self.mlp(self.norm2(x), size))

    def _kept(self, branch: torch.Tensor) -> torch.Tensor:
        # Stochastic depth: a branch is left out of some images, and weighs more in the others.
        if not (self.training and self.drop_path):
            return branch
        kept = torch.rand(len(branch), 1, 1, device=branch.device) >= self.drop_path
        return branch * kept / (1 - self.drop_path)


class _Attention(nn.Module):
    """Every token asks tokens of a grid that is coarser by `reduction`."""

    def __init__(self, width: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.proj = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.sr = nn.Conv2d(width, width, reduction, reduction) if reduction > 1 else None
        self.norm = nn.LayerNorm(width) if reduction > 1 else None

    def forward(self, x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        asked = x
        if self.sr is not None and self.norm is not None:
            asked = self.norm(_as_tokens(self.sr(_as_map(x, size))))
        key, value = self.kv(asked).chunk(2, -1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (self.q(x), key, value))
        return self.proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    """A perceptron with a depth-wise convolution inside, which tells tokens where they are."""

    def __init__(self, width: int, ratio: int = 4) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, ratio * width), nn.Linear(ratio * width, width)
        self.dwconv = nn.Module()
        self.dwconv.dwconv = nn.Conv2d(ratio * width, ratio * width, 3, padding=1, groups=ratio * width)

    def forward(self, x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        mixed = self.dwconv.get_submodule("dwconv")(_as_map(self.fc1(x), size))
        return self.fc2(gelu(_as_tokens(mixed)))


def _as_tokens(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(2).transpose(1, 2)


def _as_map(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    return x.transpose(1, 2).unflatten(-1, list(size))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)

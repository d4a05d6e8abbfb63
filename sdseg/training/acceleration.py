"""What makes a training step cheaper and changes no more than rounding, put on a model for the time of a training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from sdseg.training.latent_cache import LatentCache
from sdseg.training.recipe import Recipe


@contextmanager
def accelerated(model: Any, recipe: Recipe, items: int) -> Iterator[None]:
    """Inside this block the model trains on `items` items as the recipe says; the names of its weights stay.

    cache_latents: for models with an attribute `cache`. compile: each trained part. checkpoint_activations: residual
    and attention blocks keep their input alone and are computed again for their gradients.
    """
    parts = list(model.trained.children()) if isinstance(model.trained, nn.ModuleDict) else [model.trained]
    if recipe.channels_last:
        model.to(memory_format=torch.channels_last)
    if recipe.cache_latents and recipe.crop is None and hasattr(model, "cache"):
        model.cache = LatentCache(model.codec, items * recipe.orientations * max(1, model.config.classes))
    changed: list[nn.Module] = [model]  # accelerate gives it a forward of its own
    if recipe.checkpoint_activations:
        for block in _blocks(model.trained):
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
            changed.append(block)
    if recipe.compile:
        for part in parts:
            part.forward = torch.compile(part.forward)
        changed += parts
    try:
        yield
    finally:
        if hasattr(model, "cache"):
            model.cache = None
        for module in changed:
            for name in ("forward", "_original_forward"):
                vars(module).pop(name, None)  # the class's own again


def _blocks(trained: nn.Module) -> list[nn.Module]:
    # Imported here: diffusers takes seconds, and other networks train without it.
    from diffusers.models.attention_processor import Attention
    from diffusers.models.resnet import ResnetBlock2D

    return [m for m in trained.modules() if isinstance(m, ResnetBlock2D | Attention)]

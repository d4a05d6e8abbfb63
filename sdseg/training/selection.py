"""Choosing a checkpoint: Dice on validation data, never on the test split."""

from __future__ import annotations

from typing import Any

import torch

from sdseg.training.batches import step_generator


@torch.no_grad()
def validation_dice(model: Any, data: Any, batch_size: int, seed: int, accelerator: Any) -> float:
    """Mean Dice over items and labels whose mask or prediction is not empty; 0 where there is none.

    Volumes, which may differ in depth, are predicted one at a time. The noise of item i derives from (seed, i), so that
    the value depends on the weights alone. Processes take the batches in turn, and all get the same mean.
    """
    device = accelerator.device
    batch_size = 1 if len(data) and data[0]["image"].ndim == 4 else batch_size
    sums = torch.zeros(2, dtype=torch.float64)  # sum and count
    for start in range(accelerator.process_index * batch_size, len(data), accelerator.num_processes * batch_size):
        items = [data[i] for i in range(start, min(start + batch_size, len(data)))]
        image = torch.stack([item["image"] for item in items]).to(device)
        mask = torch.stack([item["mask"] for item in items])
        generators = [step_generator(seed, start + i, purpose=3) for i in range(len(items))]
        with accelerator.autocast():
            predicted = model.predict(image, generators).mask.cpu()
        overlap = (predicted & mask).flatten(2).sum(2)  # (B, L)
        total = predicted.flatten(2).sum(2) + mask.flatten(2).sum(2)
        dice = (2 * overlap / total)[total > 0].double()
        sums += torch.stack([dice.sum(), torch.tensor(float(len(dice)))])
    total_dice, count = accelerator.reduce(sums.to(device), "sum").tolist()
    return total_dice / count if count else 0.0

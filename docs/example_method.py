"""A method of one's own: a logistic regression on colour, with a little noise in the place of a sampler's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader

from bench.types import Prediction, TaskSpec


class ColourRegression:
    """One weight per channel and label, for 2-D images and slices of volumes."""

    dims, evaluations, samples = 2, 1, 1

    def __init__(self, task: TaskSpec, seed: int, device: str, recipe: dict[str, Any], noise: float = 0.1) -> None:
        torch.manual_seed(seed)  # the initial weights
        self.model = torch.nn.Conv2d(task.channels, len(task.labels), 1).to(device)
        self.device, self.recipe, self.noise, self.seed = device, recipe, noise, seed

    def fit(self, train: Any, val: Any, workdir: Path) -> dict[str, Any]:
        """Minimise the cross-entropy, in which the object counts more; a killed fit begins anew."""
        cross_entropy = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(8.0, device=self.device))
        optimizer = torch.optim.Adam(self.model.parameters(), lr=0.1)
        order = torch.Generator().manual_seed(self.seed)
        loader = DataLoader(train, self.recipe["batch_size"], shuffle=True, generator=order)
        steps = 0
        while steps < self.recipe["steps"]:
            for batch in loader:
                logits = self.model(batch["image"].to(self.device))
                loss = cross_entropy(logits, batch["mask"].to(self.device).float())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                steps += 1
        save_file(self.model.state_dict(), workdir / "model.safetensors")
        return {"steps": steps}

    def load(self, workdir: Path) -> None:
        """Take the weights that `fit` left."""
        self.model.load_state_dict(load_file(workdir / "model.safetensors"))

    def predict(self, image: torch.Tensor, generators: Sequence[torch.Generator]) -> Prediction:
        """Score and mask (B, L, H, W) of images (B, C, H, W)."""
        with torch.inference_mode():
            logits = self.model(image.to(self.device)).cpu()
        noise = torch.stack([torch.randn(logits.shape[1:], generator=generator) for generator in generators])
        score = (logits + self.noise * noise).sigmoid()
        return Prediction(score, score > 0.5)

"""The harness's view of a trained model: fit, load, predict. Serves every model that `sdseg.trainer` can train."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sdseg.architecture import ARCHITECTURES
from sdseg.model import Prediction, SDSeg, SDSegConfig
from sdseg.recipe import Recipe
from sdseg.trainer import train


class TrainedSegmenter:
    """A model, a recipe and a seed behind the two verbs of the harness."""

    def __init__(self, model: Any, recipe: Recipe, seed: int, device: str = "auto", dims: int = 2) -> None:
        self.model, self.recipe, self.seed, self.dims = model.eval(), recipe, seed, dims
        self.evaluations, self.samples = model.evaluations, 1
        cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
        self.device = torch.device("cuda" if cuda else "cpu")

    def fit(self, train_data: Any, val_data: Any, workdir: Path) -> dict[str, Any]:
        """Train (or continue) in `workdir`; leaves `model.safetensors` and the best weights in memory."""
        facts = train(self.model, train_data, val_data, self.recipe, workdir, self.seed, self.device.type)
        weights = {k: v.contiguous() for k, v in self.model.state_dict().items()}
        save_file(weights, workdir / "model.part")
        (workdir / "model.part").replace(workdir / "model.safetensors")
        return facts

    def load(self, workdir: Path) -> None:
        """Take the weights that `fit` left; raises ValueError naming a file that does not fit."""
        path = workdir / "model.safetensors"
        try:
            self.model.load_state_dict(load_file(path))
        except (OSError, RuntimeError, SafetensorError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{path}: truncated or of another model ({reason}); delete it to fit again") from error
        self.model.to(self.device).eval()

    @torch.no_grad()
    def predict(self, image: torch.Tensor, generators: Sequence[torch.Generator]) -> Prediction:
        """Soft score and mask (B, L, H, W) on the CPU, of images (B, C, H, W) in [-1, 1]."""
        self.model.to(self.device).eval()
        half = torch.bfloat16 if self.recipe.precision == "bf16" else torch.float16
        with torch.autocast(self.device.type, half, enabled=self.recipe.precision != "no"):
            score, mask = self.model.predict(image.to(self.device), generators)
        return Prediction(score.float().cpu(), mask.cpu())


def sdseg_segmenter(
    task: Any,
    seed: int,
    device: str,
    recipe: dict[str, Any],
    architecture: str = "tiny",
    prediction: str = "eps",
    latent_weight: float = 1.0,
    steps: int = 1,
) -> TrainedSegmenter:
    """SDSeg for a task (channels, labels, image_size), as the configuration names it.

    Raises ValueError for an unknown architecture or an image size that does not divide.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"method.architecture={architecture}: known are {', '.join(ARCHITECTURES)}")
    if task.channels not in (1, 3):
        raise ValueError(f"SDSeg takes images of 1 or 3 channels, this dataset has {task.channels}")
    torch.manual_seed(seed)  # the initial weights
    config = SDSegConfig.model_validate(
        {
            "architecture": ARCHITECTURES[architecture],
            "labels": len(task.labels),
            "prediction": prediction,
            "latent_weight": latent_weight,
            "steps": steps,
        }
    )
    model = SDSeg(config)
    model.latent_shape(*task.image_size)
    return TrainedSegmenter(model, Recipe.model_validate(recipe), seed, device)

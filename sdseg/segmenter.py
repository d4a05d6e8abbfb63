"""The harness's view of a trained model: fit, load, predict. Serves every model that `sdseg.trainer` can train."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sdseg.architecture import ARCHITECTURES
from sdseg.batches import step_generator
from sdseg.config import SDSegConfig
from sdseg.files import write_atomically
from sdseg.labels import Prediction
from sdseg.model import SDSeg
from sdseg.recipe import Recipe
from sdseg.sampling import ddim_timesteps
from sdseg.trainer import train


class TrainedSegmenter:
    """A model, a recipe and a seed behind the two verbs of the harness."""

    def __init__(
        self,
        model: Any,
        recipe: Recipe,
        seed: int,
        device: str = "auto",
        dims: int = 2,
        evaluations: int = 1,
        inference: dict[str, Any] | None = None,
        shared_noise: bool = False,
    ) -> None:
        self.model, self.recipe, self.seed, self.dims = model.eval(), recipe, seed, dims
        self.evaluations, self.samples = evaluations, 1
        self.inference, self.shared_noise = inference or {}, shared_noise
        self.device = choose_device(device)

    def fit(self, train_data: Any, val_data: Any, workdir: Path) -> dict[str, Any]:
        """Train (or continue) in `workdir`; leaves `model.safetensors` and the best weights in memory."""
        facts = train(self.model, train_data, val_data, self.recipe, workdir, self.seed, self.device.type)
        weights = {k: v.contiguous() for k, v in self.model.state_dict().items()}
        write_atomically(workdir / "model.safetensors", lambda path: save_file(weights, path))
        return facts

    def load(self, workdir: Path) -> None:
        """Take the weights that `fit` left; raises ValueError naming a file that does not fit."""
        path = workdir / "model.safetensors"
        try:
            self.model.load_state_dict(load_file(path))
        except (OSError, RuntimeError, SafetensorError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"{path}: truncated or of another model ({reason}); delete the folder {workdir} to fit again"
            ) from error
        self.model.to(self.device).eval()

    @torch.no_grad()
    def predict(self, image: torch.Tensor, generators: Sequence[torch.Generator]) -> Prediction:
        """Soft score and mask (B, L, H, W) on the CPU, of images (B, C, H, W) in [-1, 1]."""
        self.model.to(self.device).eval()
        if self.shared_noise:
            generators = [step_generator(self.seed, getattr(g, "draw", 0), purpose=5) for g in generators]
        half = torch.bfloat16 if self.recipe.precision == "bf16" else torch.float16
        with torch.autocast(self.device.type, half, enabled=self.recipe.precision != "no"):
            score, mask = self.model.predict(image.to(self.device), generators, **self.inference)
        return Prediction(score.float().cpu(), mask.cpu())


def choose_device(name: str) -> torch.device:
    """The device a configuration names: auto, cpu or cuda; raises ValueError for another, or for a missing GPU."""
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device={name}: expected auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda: this machine or this build of torch has no CUDA; use device=auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def sdseg_segmenter(
    task: Any,
    seed: int,
    device: str,
    recipe: dict[str, Any],
    architecture: str = "tiny",
    steps: int = 1,
    eta: float = 0.0,
    spacing: str = "trailing",
    start: str | None = None,
    **switches: Any,
) -> TrainedSegmenter:
    """SDSeg for a task (channels, labels, image_size), as the configuration names it; `switches` as in SDSegConfig.

    `start` is z_T: gaussian, zeros, or "shared", one gaussian tensor for all cases of a draw, as released.
    Raises ValueError for an unknown architecture or an image size that does not divide.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"method.architecture={architecture}: known are {', '.join(ARCHITECTURES)}")
    if task.channels not in (1, 3):
        raise ValueError(f"SDSeg takes images of 1 or 3 channels, this dataset has {task.channels}")
    if start not in (None, "gaussian", "zeros", "shared"):
        raise ValueError(f"method.inference.start={start}: known are gaussian, zeros, shared")
    torch.manual_seed(seed)  # the initial weights
    config = SDSegConfig.model_validate(
        {"architecture": ARCHITECTURES[architecture], "labels": len(task.labels), **switches}
    )
    evaluations = len(ddim_timesteps(1000, steps, "leading" if spacing == "leading" else "trailing")[0])
    noise = "gaussian" if start == "shared" else start
    inference = {"steps": steps, "eta": eta, "spacing": spacing, "noise": noise}
    model = SDSeg(config)
    model.latent_shape(*task.image_size)
    return TrainedSegmenter(
        model,
        Recipe.model_validate(recipe),
        seed,
        device,
        evaluations=evaluations,
        inference=inference,
        shared_noise=start == "shared",
    )

"""The harness's view of a trained model: fit, load, predict; for every model that `sdseg.training.trainer` trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sdseg.arithmetic import full_float32
from sdseg.control import check_whole_batch
from sdseg.files import write_atomically
from sdseg.labels import Prediction
from sdseg.training.batches import step_generator
from sdseg.training.recipe import Recipe
from sdseg.training.trainer import train

WEIGHTS = "model.safetensors"


class TrainedSegmenter:
    """A model, a recipe and a seed behind the two verbs of the harness; it predicts in the precision it trained in."""

    def __init__(
        self,
        model: Any,
        recipe: Recipe,
        seed: int,
        device: str = "cpu",
        dims: int = 2,
        evaluations: int = 1,
        inference: dict[str, Any] | None = None,
        shared_noise: bool = False,
    ) -> None:
        check_whole_batch(model, recipe.batch_size, recipe.accumulate)
        self.model, self.recipe, self.seed, self.dims = model.eval(), recipe, seed, dims
        self.evaluations, self.samples = evaluations, 1
        self.inference, self.shared_noise = inference or {}, shared_noise
        self.device = torch.device(device)
        self._ready: dict[str, Any] | None = None

    def fit(self, train_data: Any, val_data: Any, workdir: Path) -> dict[str, Any]:
        """Train (or continue) in `workdir`; leaves `model.safetensors` and the best weights in memory."""
        look = getattr(self, "traces", None)  # see `bench.types.Segmenter`
        facts = train(self.model, train_data, val_data, self.recipe, workdir, self.seed, self.device.type, look)
        self.save(workdir)
        return facts

    def save(self, workdir: Path) -> None:
        """Leave `model.safetensors` in `workdir`."""
        weights = {k: v.contiguous() for k, v in self.model.state_dict().items()}
        write_atomically(workdir / WEIGHTS, lambda path: save_file(weights, path))

    def load(self, workdir: Path) -> None:
        """Take the weights that `fit` left; raises ValueError naming a file that does not fit."""
        path = workdir / WEIGHTS
        try:
            self.model.load_state_dict(load_file(path))
        except (OSError, RuntimeError, SafetensorError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"{path}: truncated or of another model ({reason}); delete the folder {workdir} to fit again"
            ) from error
        self.model.to(self.device).eval()

    def describe(self) -> dict[str, Any]:
        """How predictions are computed: the precision of each part and what else was done, for the record."""
        if self._ready is None:
            self.model.to(self.device).eval()
            self._ready = self.prepare()
        return self._ready

    def prepare(self) -> dict[str, Any]:
        """What is done to the model once before its first prediction, as `describe` tells it: nothing."""
        return {"precision": {"model": _PRECISIONS[self.recipe.precision]}}

    def autocast(self) -> torch.autocast:
        """What `predict` calls the model in: the precision it trained in."""
        half = torch.bfloat16 if self.recipe.precision == "bf16" else torch.float16
        return torch.autocast(self.device.type, half, enabled=self.recipe.precision != "no")

    @contextmanager
    def arithmetic(self) -> Iterator[None]:
        """`autocast`, in which float32 is float32."""
        with self.autocast(), full_float32():
            yield

    def predict(self, image: torch.Tensor, generators: Sequence[torch.Generator]) -> Prediction:
        """Soft score and mask (B, L, H, W) on the CPU, of images (B, C, H, W) in [-1, 1]."""
        self.describe()
        if self.shared_noise:
            generators = [step_generator(self.seed, getattr(g, "draw", 0), purpose=5) for g in generators]
        with torch.inference_mode(), self.arithmetic():
            score, mask = self.model.predict(image.to(self.device), generators, **self.inference)
        return Prediction(score.float().cpu(), mask.cpu())


_PRECISIONS = {"no": "float32", "bf16": "bfloat16", "fp16": "float16"}

"""The harness's view of a trained model: fit, load, predict; for every model that `sdseg.training.trainer` trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sdseg.architecture import ARCHITECTURES
from sdseg.config import SDSegConfig
from sdseg.fast.inference import InferenceSettings, optimize, policy
from sdseg.fast.light_decoder import load_light_decoder
from sdseg.files import write_atomically
from sdseg.labels import Prediction
from sdseg.model import SDSeg
from sdseg.sampling import ddim_timesteps
from sdseg.training.batches import step_generator
from sdseg.training.recipe import Recipe
from sdseg.training.trainer import train


class TrainedSegmenter:
    """A model, a recipe and a seed behind the two verbs of the harness.

    With `settings` the model is an SDSeg, made ready for prediction once, in place, before its first; without them it
    predicts in the precision it trained in.
    """

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
        settings: InferenceSettings | None = None,
    ) -> None:
        self.model, self.recipe, self.seed, self.dims = model.eval(), recipe, seed, dims
        self.evaluations, self.samples = evaluations, 1
        self.inference, self.shared_noise = inference or {}, shared_noise
        self.device = torch.device(device)
        self.settings = settings
        self._ready: dict[str, Any] | None = None
        if settings is not None:
            policy(model, settings, self.device)  # refuses before hours of training
            if settings.decoder == "light":
                load_light_decoder(model.config.architecture, settings.light_decoder)

    def fit(self, train_data: Any, val_data: Any, workdir: Path) -> dict[str, Any]:
        """Train (or continue) in `workdir`; leaves `model.safetensors` and the best weights in memory."""
        self._refuse_if_ready()
        facts = train(self.model, train_data, val_data, self.recipe, workdir, self.seed, self.device.type)
        self._save(workdir)
        return facts

    def _save(self, workdir: Path) -> None:
        if isinstance(self.model, SDSeg):
            self.model.drop_alignment()  # serves training alone
            self.model.save_pretrained(workdir)
            return
        weights = {k: v.contiguous() for k, v in self.model.state_dict().items()}
        write_atomically(workdir / "model.safetensors", lambda path: save_file(weights, path))

    def load(self, workdir: Path) -> None:
        """Take the weights that `fit` left; raises ValueError naming a file that does not fit."""
        self._refuse_if_ready()
        path = workdir / "model.safetensors"
        if isinstance(self.model, SDSeg):
            self.model.drop_alignment()
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
            if self.settings is None:
                self._ready = {"precision": {"model": _PRECISIONS[self.recipe.precision]}}
            else:
                self._ready = optimize(self.model, self.settings)
        return self._ready

    def predict(self, image: torch.Tensor, generators: Sequence[torch.Generator]) -> Prediction:
        """Soft score and mask (B, L, H, W) on the CPU, of images (B, C, H, W) in [-1, 1]."""
        self.describe()
        if self.shared_noise:
            generators = [step_generator(self.seed, getattr(g, "draw", 0), purpose=5) for g in generators]
        half = torch.bfloat16 if self.recipe.precision == "bf16" else torch.float16
        as_trained = self.settings is None and self.recipe.precision != "no"
        with torch.inference_mode(), torch.autocast(self.device.type, half, enabled=as_trained):
            score, mask = self.model.predict(image.to(self.device), generators, **self.inference)
        return Prediction(score.float().cpu(), mask.cpu())

    def _refuse_if_ready(self) -> None:
        if self._ready is not None and self.settings is not None:
            raise ValueError("this model was made ready for prediction; build the method again to fit or load it")


_PRECISIONS = {"no": "float32", "bf16": "bfloat16", "fp16": "float16"}


class PretrainedSegmenter(TrainedSegmenter):
    """A model that somebody else has trained: to fit is to keep a copy of its weights."""

    def fit(self, train_data: Any, val_data: Any, workdir: Path) -> dict[str, Any]:
        """Leave the weights in `workdir`; nothing is learned."""
        self._save(workdir)
        return {"steps": 0, "device": str(self.device), "threads": torch.get_num_threads()}


def sdseg_segmenter(
    task: Any, seed: int, device: str, recipe: dict[str, Any], architecture: str = "tiny", **options: Any
) -> TrainedSegmenter:
    """SDSeg for a task (channels, labels, image_size), as the configuration names it.

    `options` are those of SDSegConfig, of InferenceSettings, and of SDSeg.predict, where `start` is z_T: gaussian,
    zeros, or "shared", one gaussian tensor for all cases of a draw, as released.
    Raises ValueError for an unknown architecture or an image size that does not divide.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"method.architecture={architecture}: known are {', '.join(ARCHITECTURES)}")
    if architecture == "tiny" and options.get("autoencoder"):
        raise ValueError("method.options.autoencoder: the tiny architecture brings its own; leave it out, or use paper")
    inference = _inference(options)
    torch.manual_seed(seed)  # the initial weights
    model = SDSeg(
        SDSegConfig.model_validate({"architecture": ARCHITECTURES[architecture], "labels": len(task.labels), **options})
    )
    _check(model, task)
    return TrainedSegmenter(model, Recipe.model_validate(recipe), seed, device, **inference)


def pretrained_segmenter(
    task: Any, seed: int, device: str, recipe: dict[str, Any], weights: str, **options: Any
) -> TrainedSegmenter:
    """SDSeg as `sdseg import-weights` or `SDSeg.save_pretrained` left it in the folder `weights`; nothing is trained.

    `options` as above, without SDSegConfig's. Raises ValueError for a folder that holds no model, or one for other
    labels or image sizes.
    """
    inference = _inference(options)
    model = SDSeg.from_pretrained(weights)
    if model.config.labels != len(task.labels):
        raise ValueError(f"{weights}: a model of {model.config.labels} labels, this dataset has {len(task.labels)}")
    if options:
        raise ValueError(f"method.options: unknown {', '.join(options)}; the weights say what the model is")
    _check(model, task)
    return PretrainedSegmenter(model, Recipe(steps=1, batch_size=1, lr=1.0), seed, device, **inference)


def _check(model: SDSeg, task: Any) -> None:
    if task.channels not in (1, 3):
        raise ValueError(f"SDSeg takes images of 1 or 3 channels, this dataset has {task.channels}")
    model.latent_shape(*task.image_size)


def _inference(options: dict[str, Any]) -> dict[str, Any]:
    """What TrainedSegmenter needs to predict, taken out of `options`."""
    options.pop("fold", None)  # of runs made earlier: whether the time step was folded into the weights
    steps, start = options.pop("steps", 1), options.pop("start", None)
    spacing = options.pop("spacing", "trailing")
    if start not in (None, "gaussian", "zeros", "shared"):
        raise ValueError(f"method.inference.start={start}: known are gaussian, zeros, shared")
    noise = "gaussian" if start == "shared" else start
    settings = {key: options.pop(key) for key in InferenceSettings.model_fields if key in options}
    return {
        "evaluations": len(ddim_timesteps(1000, steps, spacing)[0]),
        "inference": {"steps": steps, "eta": options.pop("eta", 0.0), "spacing": spacing, "noise": noise},
        "shared_noise": start == "shared",
        "settings": InferenceSettings.model_validate(settings),
    }

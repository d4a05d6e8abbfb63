"""SDSeg as the configuration names it: what its options say, trained here or by somebody else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sdseg.architecture import ARCHITECTURES
from sdseg.config import SDSegConfig
from sdseg.fast.distillation import Student, answering_exactly
from sdseg.fast.inference import InferenceSettings, backends, optimize, policy
from sdseg.fast.light_decoder import load_light_decoder
from sdseg.labels import Prediction
from sdseg.model import SDSeg
from sdseg.sampling import ddim_timesteps
from sdseg.traces import traces
from sdseg.training.recipe import Recipe
from sdseg.training.segmenter import TrainedSegmenter

# A score that lies nearer to one half may be decided otherwise by light parts.
_NEAR = 0.1


class SDSegSegmenter(TrainedSegmenter):
    """SDSeg behind the verbs of the harness: made ready for prediction once, in place, before its first.

    Raises ValueError for settings that the model cannot follow, before hours of training.
    """

    def __init__(
        self, model: SDSeg, recipe: Recipe, seed: int, device: str, settings: InferenceSettings, **options: Any
    ) -> None:
        super().__init__(model, recipe, seed, device, **options)
        self.samples = self.inference["samples"]
        self.settings = settings
        self._answered, self._rechecked = 0, 0
        backends(model, settings, policy(model, settings, self.device), self.device)
        if settings.decoder == "light":
            load_light_decoder(model.config.architecture, settings.light_decoder)
        elif settings.recheck is not None and not isinstance(model, Student):
            raise ValueError(f"method.inference.recheck={settings.recheck}: this model has no light parts to check")

    def fit(self, train_data: Any, val_data: Any, workdir: Path) -> dict[str, Any]:
        """As every trained model, with the model's configuration beside its weights."""
        self._refuse_if_ready()
        return super().fit(train_data, val_data, workdir)

    def traces(
        self, image: torch.Tensor, mask: torch.Tensor, generators: Sequence[torch.Generator]
    ) -> dict[str, np.ndarray]:
        """What `sdseg.traces` shows of the model as it is, in the precision in which it predicts."""
        with self.arithmetic():
            return traces(self.model, image, mask, generators)

    def save(self, workdir: Path) -> None:
        """Leave what `SDSeg.from_pretrained` reads, without the alignment, which serves training alone."""
        self.model.drop_alignment()
        self.model.save_pretrained(workdir)

    def load(self, workdir: Path) -> None:
        """As every trained model."""
        self._refuse_if_ready()
        self.model.drop_alignment()
        super().load(workdir)

    def prepare(self) -> dict[str, Any]:
        """The precision of each part and the rest of `sdseg.fast.inference`, put on the model in place."""
        return optimize(self.model, self.settings)

    def describe(self) -> dict[str, Any]:
        """As every trained model, and the share computed again of the images that this object answered."""
        facts = super().describe()
        return {**facts, "rechecked": self._rechecked / self._answered} if self._answered else facts

    def predict(self, image: torch.Tensor, generators: Sequence[torch.Generator]) -> Prediction:
        """As every trained model; images (B, C, H, W) of which `recheck` pixels are in doubt without light parts."""
        limit, states = self.settings.recheck, [g.get_state() for g in generators]
        answer = super().predict(image, generators)
        if limit is None:
            return answer
        doubtful = ((answer.score - 0.5).abs() < _NEAR).flatten(1).sum(dim=1) > limit
        self._answered, self._rechecked = self._answered + len(image), self._rechecked + int(doubtful.sum())
        answer = Prediction(answer.score.clone(), answer.mask.clone())  # those of inference mode cannot be written to
        for i in doubtful.nonzero().flatten().tolist():
            generators[i].set_state(states[i])
            with answering_exactly(self.model):
                again = super().predict(image[i : i + 1], [generators[i]])
            answer.score[i], answer.mask[i] = again.score[0], again.mask[0]
        return answer

    def autocast(self) -> torch.autocast:
        """Every part has its own; see `sdseg.fast.inference`."""
        return torch.autocast(self.device.type, enabled=False)

    def _refuse_if_ready(self) -> None:
        if self._ready is not None:
            raise ValueError("this model was made ready for prediction; build the method again to fit or load it")


class PretrainedSegmenter(SDSegSegmenter):
    """A model that somebody else has trained: to fit is to keep a copy of its weights."""

    def fit(self, train_data: Any, val_data: Any, workdir: Path) -> dict[str, Any]:
        """Leave the weights in `workdir`; nothing is learned."""
        self.save(workdir)
        return {"steps": 0, "device": str(self.device), "threads": torch.get_num_threads()}


def sdseg_segmenter(
    task: Any, seed: int, device: str, recipe: dict[str, Any], architecture: str = "tiny", **options: Any
) -> SDSegSegmenter:
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
    if options.get("control") == "none":
        inference["evaluations"] = 1
        inference["inference"] |= {"steps": 1, "samples": 1}
    torch.manual_seed(seed)  # the initial weights
    model = SDSeg(
        SDSegConfig.model_validate({"architecture": ARCHITECTURES[architecture], "labels": len(task.labels), **options})
    )
    _check(model, task)
    how = inference["inference"]
    if model.config.prediction == "flow" and (how["eta"] or how["spacing"] != "trailing"):
        raise ValueError("method.inference: a flow is followed in equal steps without noise; eta=0, spacing=trailing")
    return SDSegSegmenter(model, Recipe.model_validate(recipe), seed, device, **inference)


def pretrained_segmenter(
    task: Any, seed: int, device: str, recipe: dict[str, Any], weights: str, **options: Any
) -> PretrainedSegmenter:
    """SDSeg as `sdseg import-weights` or `SDSeg.save_pretrained` left it in the folder `weights`; nothing is trained.

    `options` as above, without SDSegConfig's. Raises ValueError for a folder that holds no model, or one for other
    labels or image sizes.
    """
    inference = _inference(options)
    model = _trained_elsewhere(task, weights, options)
    return PretrainedSegmenter(model, Recipe(steps=1, batch_size=1, lr=1.0), seed, device, **inference)


def distilled_segmenter(
    task: Any, seed: int, device: str, recipe: dict[str, Any], weights: str, vision_encoder: str, **options: Any
) -> SDSegSegmenter:
    """The model of a folder, as `pretrained_segmenter` takes it, with a vision encoder that fitting distils.

    Raises ValueError as that does, and for another `vision_encoder` than light.
    """
    if vision_encoder != "light":
        raise ValueError(f"method.options.vision_encoder={vision_encoder}: only light is distilled")
    inference = _inference(options)
    teacher = _trained_elsewhere(task, weights, options)
    torch.manual_seed(seed)  # the initial weights
    return SDSegSegmenter(Student(teacher), Recipe.model_validate(recipe), seed, device, **inference)


def _trained_elsewhere(task: Any, weights: str, options: dict[str, Any]) -> SDSeg:
    model = SDSeg.from_pretrained(weights)
    if model.config.labels != len(task.labels):
        raise ValueError(f"{weights}: a model of {model.config.labels} labels, this dataset has {len(task.labels)}")
    if options:
        raise ValueError(f"method.options: unknown {', '.join(options)}; the weights say what the model is")
    _check(model, task)
    return model


def _check(model: SDSeg, task: Any) -> None:
    if task.channels not in (1, 3):
        raise ValueError(f"SDSeg takes images of 1 or 3 channels, this dataset has {task.channels}")
    model.latent_shape(*task.image_size)


def _inference(options: dict[str, Any]) -> dict[str, Any]:
    """What SDSegSegmenter needs to predict, taken out of `options`."""
    options.pop("fold", None)  # of runs made earlier: whether the time step was folded into the weights
    steps, start = options.pop("steps", 1), options.pop("start", None)
    spacing, samples = options.pop("spacing", "trailing"), options.pop("samples", 1)
    if samples < 1:
        raise ValueError(f"method.inference.samples={samples}: expected at least 1")
    if start not in (None, "gaussian", "zeros", "shared"):
        raise ValueError(f"method.inference.start={start}: known are gaussian, zeros, shared")
    noise = "gaussian" if start == "shared" else start
    settings = {key: options.pop(key) for key in InferenceSettings.model_fields if key in options}
    return {
        "evaluations": len(ddim_timesteps(1000, steps, spacing)[0]),
        "inference": {
            "steps": steps,
            "samples": samples,
            "eta": options.pop("eta", 0.0),
            "spacing": spacing,
            "noise": noise,
        },
        "shared_noise": start == "shared",
        "settings": InferenceSettings.model_validate(settings),
    }

"""nnU-Net as a method of the harness: its pipeline in a subprocess fits, its predictor in this process predicts."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from pydoc import locate
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model

from baselines.nnunet.dataset import native_values, write_dataset
from baselines.nnunet.process import run_stage
from sdseg.labels import Prediction

# Where the parts of a network come from, which plans name and nnU-Net calls.
_PARTS = ("torch.nn.", "dynamic_network_architectures.")


class NNUNetSegmenter:
    """nnU-Net (2d or 3d_fullres, fold 0) on the harness's grid: it gets the pixels that every method gets.

    Everything else is nnU-Net's: fingerprint, plan, normalisation, augmentation, training, sliding window, mirroring.
    A volume reaches it whole, also with configuration 2d. `model` is there after `fit` or `load`: the plan decides it.
    """

    samples = 1

    def __init__(
        self, task: Any, settings: dict[str, Any], normalization: str, mirroring: bool, tile_step_size: float
    ) -> None:
        self.task, self.dims, self.settings, self.normalization = task, task.dims, settings, normalization
        self.mirroring, self.tile_step_size = mirroring, tile_step_size
        self.device = torch.device(settings["device"])
        self.model: torch.nn.Module | None = None
        self.evaluations = 2 ** int(settings["configuration"][0]) if mirroring else 1

    def fit(self, train_data: Any, val_data: Any, workdir: Path) -> dict[str, Any]:
        """Write the data, plan and train, each skipped where done; a killed training goes on from its checkpoint.

        Seeded, but a continued training is not bit-identical. nnU-Net's own results stay in `workdir/.nnunet`; what it
        prints is in `workdir/nnunet.log`. Raises ValueError for data it cannot take, or naming the log.
        """
        folder, answer = workdir.resolve() / ".nnunet", workdir / "nnunet.json"
        folder.mkdir(parents=True, exist_ok=True)
        settings = {**self.settings, "folder": str(folder), "threads": torch.get_num_threads()}
        if not answer.exists():
            write_dataset(folder, train_data, val_data, self.task, self.normalization)
            for stage, done in {"plan": folder / "plan.json", "train": answer}.items():
                if not done.exists():
                    run_stage(stage, settings, folder, workdir / "nnunet.log")
        for copy in ("raw", "preprocessed"):  # of the data, serving training alone
            shutil.rmtree(folder / copy, ignore_errors=True)
        self.load(workdir)
        return json.loads(answer.read_text(encoding="utf-8"))["facts"]

    def load(self, workdir: Path) -> None:
        """Take plan and weights that `fit` left; raises ValueError naming a file that does not fit."""
        path, weights = workdir / "nnunet.json", workdir / "model.safetensors"
        try:
            trained = json.loads(path.read_text(encoding="utf-8"))
            _check_names(trained["plans"])
            self._predictor = self._build_predictor(trained)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: not what an nnU-Net training leaves ({_line(error)}); fit again") from error
        try:
            load_model(self._predictor.network, str(weights))
        except (OSError, RuntimeError, SafetensorError) as error:
            raise ValueError(f"{weights}: truncated or of another plan ({_line(error)}); fit again") from error
        self._predictor.list_of_parameters = [self._predictor.network.state_dict()]
        self.model = self._predictor.network.to(self.device).eval()
        axes = trained["mirroring_axes"] if self.mirroring else None
        self.evaluations = 2 ** len(axes or ())
        plans = trained["plans"]
        median = plans["original_median_spacing_after_transp"]
        self._spacing = [median[axis] for axis in plans["transpose_backward"]]

    def _build_predictor(self, trained: dict[str, Any]) -> Any:
        # nnU-Net uses 8 threads of its own accord; read once, on import.
        os.environ.setdefault("nnUNet_def_n_proc", str(torch.get_num_threads()))
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
        from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        with contextlib.redirect_stdout(io.StringIO()):  # it has a lot to say
            plans, dataset = PlansManager(trained["plans"]), trained["dataset"]
            configuration = plans.get_configuration(trained["configuration"])
            trainer = recursive_find_trainer_class_by_name(trained["trainer"])
            heads = plans.get_label_manager(dataset).num_segmentation_heads
            channels = len(dataset["channel_names"])
            network = trainer.build_network_architecture(plans, configuration, channels, heads, False)
            predictor = nnUNetPredictor(
                self.tile_step_size, use_mirroring=self.mirroring, device=self.device, allow_tqdm=False
            )
            axes = trained["mirroring_axes"]
            predictor.manual_initialization(network, plans, configuration, None, dataset, trained["trainer"], axes)
        return predictor

    def describe(self) -> dict[str, Any]:
        """How predictions are computed, for the record."""
        return {
            "precision": {"model": "float16" if self.device.type == "cuda" else "float32"},
            "mirroring": self.mirroring,
            "tile_step_size": self.tile_step_size,
            "window": list(self._predictor.configuration_manager.patch_size),
        }

    def predict(self, image: torch.Tensor, generators: Sequence[Any]) -> Prediction:
        """Softmax score and mask (B, L, *S) of images (B, C, *S) in [-1, 1], one after the other.

        A generator may say its volume's `spacing_mm`; without, a volume counts as having the training set's median.
        """
        answers = [self._predict_case(x, g) for x, g in zip(image, generators, strict=True)]
        return Prediction(*(torch.stack(x) for x in zip(*answers, strict=True)))

    def _predict_case(self, image: torch.Tensor, generator: Any) -> tuple[torch.Tensor, torch.Tensor]:
        values = native_values(image, self.task.intensity)
        spacing = list(getattr(generator, "spacing_mm", None) or self._spacing)
        if image.ndim == 3:
            values, spacing = values[:, None], [999.0, 1.0, 1.0]  # nnU-Net's own words for an image
        labels, probabilities = self._predictor.predict_single_npy_array(
            values, {"spacing": spacing}, None, None, save_or_return_probabilities=True
        )
        ids = torch.arange(1, len(probabilities)).view(-1, 1, 1, 1)
        score, mask = torch.from_numpy(probabilities[1:]), torch.from_numpy(labels.astype(int)) == ids
        return (score[:, 0], mask[:, 0]) if image.ndim == 3 else (score, mask)


def _check_names(plans: dict[str, Any]) -> None:
    for configuration in plans["configurations"].values():
        if "architecture" not in configuration:  # one that inherits
            continue
        architecture = configuration["architecture"]
        names = [architecture["arch_kwargs"][key] for key in architecture["_kw_requires_import"]]
        for name in filter(None, [architecture["network_class_name"], *names]):
            part = locate(name) if name.startswith(_PARTS) else None
            if not (isinstance(part, type) and issubclass(part, torch.nn.Module)):
                raise ValueError(f"names {name}; expected a part of a network")


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def nnunet_segmenter(
    task: Any,
    seed: int,
    device: str,
    recipe: dict[str, Any],
    trainer: str = "nnUNetTrainer",
    configuration: str | None = None,
    planner: str = "ExperimentPlanner",
    gpu_memory_gb: float | None = None,
    normalization: str | None = None,
    mirroring: bool = True,
    tile_step_size: float = 0.5,
) -> NNUNetSegmenter:
    """nnU-Net for a task; `trainer` and `planner` are its own, by name: nnUNetTrainer_5epochs, nnUNetPlannerResEncM.

    `configuration`: 2d or 3d_fullres, by default the task's dims. `gpu_memory_gb`: what a plan may fill, by default
    the planner's choice; less makes smaller batches, then smaller windows. `normalization`: nnU-Net's word for every
    channel, by default CT for volumes of one channel with values below zero (HU), else zscore, as for photographs.
    Raises ValueError without nnunetv2, or naming an option that does not fit.
    """
    if find_spec("nnunetv2") is None:
        raise ValueError("needs nnunetv2: pip install 'sdseg-bench[nnunet]'")
    configuration = configuration or ("2d" if task.dims == 2 else "3d_fullres")
    if configuration not in ("2d", "3d_fullres"):
        raise ValueError(f"method.options.configuration={configuration}: known are 2d, 3d_fullres")
    if configuration != "2d" and task.dims == 2:
        raise ValueError(f"method.options.configuration={configuration}: needs volumes, and this dataset has images")
    if not 0 < tile_step_size <= 1:
        raise ValueError(f"method.inference.tile_step_size={tile_step_size}: expected a share of the window in (0, 1]")
    hounsfield = task.dims == 3 and task.channels == 1 and task.intensity[0] < 0
    settings = {
        "trainer": trainer,
        "configuration": configuration,
        "planner": planner,
        "gpu_memory_gb": gpu_memory_gb,
        "device": device,
        "seed": seed,
        "version": version("nnunetv2"),
    }
    return NNUNetSegmenter(
        task, settings, normalization or ("CT" if hounsfield else "zscore"), mirroring, tile_step_size
    )

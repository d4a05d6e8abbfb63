"""The stages that run inside nnU-Net's process: plan and preprocess, train and keep what prediction needs."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_model

# Imports sdseg, which must precede nnunetv2 here and in every process that nnU-Net spawns.
from baselines.nnunet.dataset import DATASET, write_json
from baselines.nnunet.process import PROGRESS
from sdseg.files import write_atomically


def plan(settings: dict[str, Any]) -> None:
    """Fingerprint, plan and preprocess with nnU-Net's own functions; `plan.json` marks the end."""
    from nnunetv2.configuration import default_num_processes as processes
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    recursive_find_trainer_class_by_name(settings["trainer"])  # an unknown one is told now, not in the next stage
    api.extract_fingerprints([1], num_processes=processes, check_dataset_integrity=True, show_progress_bar=False)
    plans = api.plan_experiments([1], settings["planner"], settings["gpu_memory_gb"])
    api.preprocess([1], plans, [settings["configuration"]], [processes], show_progress_bar=False)
    write_json(Path(settings["folder"]) / "plan.json", {"plans": plans})


def train(settings: dict[str, Any]) -> None:
    """Train fold 0, or continue it, and validate; leaves the weights and, last, `nnunet.json` beside `folder`."""
    from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint

    folder, workdir = Path(settings["folder"]), Path(settings["folder"]).parent
    plans = json.loads((folder / "plan.json").read_text(encoding="utf-8"))["plans"]
    random.seed(settings["seed"])
    np.random.seed(settings["seed"])
    torch.manual_seed(settings["seed"])
    torch.backends.cudnn.benchmark = True
    device = torch.device(settings["device"])
    trainer = get_trainer_from_args(DATASET, settings["configuration"], 0, settings["trainer"], plans, True, device)
    watch = Watch(trainer, folder / "seconds.json")
    maybe_load_checkpoint(trainer, True, False)
    trainer.run_training()
    trainer.perform_actual_validation()
    network = getattr(trainer.network, "_orig_mod", trainer.network)
    write_atomically(workdir / "model.safetensors", lambda path: save_model(network, str(path)))
    write_json(workdir / "nnunet.json", _model(trainer) | {"facts": watch.facts() | _training_facts(trainer, settings)})


def _model(trainer: Any) -> dict[str, Any]:
    axes = trainer.inference_allowed_mirroring_axes
    return {
        "trainer": type(trainer).__name__,
        "configuration": trainer.configuration_name,
        "plans": trainer.plans_manager.plans,
        "dataset": trainer.dataset_json,
        "mirroring_axes": None if axes is None else list(axes),
    }


def _training_facts(trainer: Any, settings: dict[str, Any]) -> dict[str, Any]:
    summary = json.loads(Path(trainer.output_folder, "validation", "summary.json").read_text(encoding="utf-8"))
    dice = summary["foreground_mean"]["Dice"]
    facts = {
        **{
            key: settings[key]
            for key in ("trainer", "configuration", "planner", "gpu_memory_gb", "device", "threads", "version")
        },
        "plans": trainer.plans_manager.plans_name,
        "patch_size": list(trainer.configuration_manager.patch_size),
        "batch_size": trainer.configuration_manager.batch_size,
        "val_dice": dice if dice == dice else None,
        "train_peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    if settings["device"] == "cuda":
        facts["train_peak_allocated_mib"] = torch.cuda.max_memory_allocated() / 2**20
    return facts


class Watch:
    """Reports a trainer's iterations, keeps the seconds of its epochs and writes its checkpoints atomically."""

    def __init__(self, trainer: Any, path: Path) -> None:
        self.trainer, self.path = trainer, path
        self.seconds: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        self.done, self.started = 0, 0.0
        for name in ("save_checkpoint", "train_step", "on_train_epoch_start", "on_train_epoch_end"):
            setattr(trainer, name, partial(getattr(self, name), getattr(trainer, name)))

    def save_checkpoint(self, save: Callable[[str], None], filename: str) -> None:
        """A killed run must find a whole checkpoint, so it gets its name when it is whole."""
        if not self.trainer.disable_checkpointing:
            write_atomically(Path(filename), lambda path: save(str(path)))

    def on_train_epoch_start(self, start: Callable[[], None]) -> None:
        """Note the time."""
        self.done, self.started = 0, time.perf_counter()
        start()

    def train_step(self, step: Callable[[Any], Any], batch: Any) -> Any:
        """One iteration; every tenth is reported."""
        result, self.done = step(batch), self.done + 1
        if self.done % 10 == 0:
            trainer, length = self.trainer, self.trainer.num_iterations_per_epoch
            print(PROGRESS, trainer.current_epoch * length + self.done, trainer.num_epochs * length)  # noqa: T201
        return result

    def on_train_epoch_end(self, end: Callable[[Any], None], outputs: Any) -> None:
        """Keep the seconds that the epoch's iterations took, batches included and validation not."""
        end(outputs)
        self.seconds[str(self.trainer.current_epoch)] = time.perf_counter() - self.started
        write_json(self.path, self.seconds)

    def facts(self) -> dict[str, Any]:
        """Length and time of the whole training, continued or not."""
        epochs, seconds = self.trainer.num_epochs, sum(self.seconds.values())
        steps = epochs * self.trainer.num_iterations_per_epoch
        return {"epochs": epochs, "steps": steps, "train_seconds": seconds, "train_s_per_step": seconds / steps}


def _end_with_parent() -> None:
    def wait() -> None:
        os.read(0, 1)  # ends when the parent closes the pipe, or is killed
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Do the stage that the arguments name."""
    stage, settings = sys.argv[1], json.loads(sys.argv[2])
    _end_with_parent()
    torch.set_num_threads(settings["threads"] if settings["device"] == "cpu" else 1)
    {"plan": plan, "train": train}[stage](settings)


if __name__ == "__main__":
    main()

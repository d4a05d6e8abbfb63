"""The one training loop: resumable to the bit on a CPU, selects on validation, on accelerate."""

from __future__ import annotations

import json
import logging
import pickle
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from sdseg.batches import StepSampler, step_generator, training_batches
from sdseg.ema import Ema
from sdseg.files import write_atomically
from sdseg.recipe import Recipe
from sdseg.selection import validation_dice

progress = logging.getLogger("progress")


class Trainable(Protocol):
    """What the loop asks of a model (an nn.Module)."""

    trained: nn.Module
    averaged: nn.Module

    def parameter_groups(self) -> list[dict[str, Any]]: ...
    def prepare(self, masks: Iterable[torch.Tensor], generator: torch.Generator) -> None: ...
    def draw(self, count: int, size: Sequence[int], generator: torch.Generator) -> Sequence[torch.Tensor]: ...
    def loss(
        self, image: torch.Tensor, mask: torch.Tensor, draws: Sequence[torch.Tensor], key: torch.Tensor | None = None
    ) -> Any: ...
    def predict(self, image: torch.Tensor, generators: Any) -> Any: ...


class TrainingStateError(ValueError):
    """A training state on disk that cannot be continued from."""


@dataclass
class _State:
    """What a restart needs besides weights: where we are and what was best."""

    step: int = 0
    seconds: float = 0.0
    best_dice: float = -1.0
    best_step: int = 0
    log: list[dict[str, float]] = field(default_factory=list)


def train(
    model: Any, train_data: Any, val_data: Any, recipe: Recipe, workdir: Path, seed: int, device: str = "auto"
) -> dict[str, Any]:
    """Train `model` (a Trainable), leave it with its best weights, and return facts for the record.

    `train_data` and `val_data` are map-style and give {"image" (C, *S), "mask" (L, *S)}. Every draw (batch order,
    flips, noise, dropout) derives from (seed, step), so that a killed run continues from `workdir/training.pt`
    to the bit-identical end. Raises TrainingStateError naming a state file that cannot be read.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    loop = _Loop(model, recipe, workdir, seed, device)
    loop.resume(train_data)
    for image, mask in training_batches(train_data, recipe, seed, loop.state.step):
        loop.step(image, mask)
        if loop.state.step % recipe.validate_every == 0 or loop.state.step == recipe.steps:
            loop.validate(val_data)
        if loop.state.step % recipe.checkpoint_every == 0 or loop.state.step == recipe.steps:
            loop.save()
    return loop.finish()


class _Loop:
    def __init__(self, model: Any, recipe: Recipe, workdir: Path, seed: int, device: str) -> None:
        AcceleratorState._reset_state(True)  # one process may train several methods
        self.accelerator = Accelerator(cpu=device == "cpu", mixed_precision=recipe.precision)
        if self.accelerator.num_processes > 1:
            raise ValueError("training runs in one process so far; start it without torchrun or accelerate launch")
        self.model, self.recipe, self.workdir, self.seed = model, recipe, workdir, seed
        model.to(self.accelerator.device).train()
        groups = model.parameter_groups()
        self.parameters = [p for group in groups for p in group["params"]]
        optimizer = torch.optim.AdamW(groups, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
        self.forward, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.ema = Ema(model.averaged, recipe.ema_decay)
        self.state = _State()

    def resume(self, train_data: Any) -> None:
        path = self.workdir / "training.pt"
        if not path.exists():
            epoch = StepSampler(
                len(train_data), self.recipe.batch_size, self.seed, 0, -(-len(train_data) // self.recipe.batch_size)
            )
            masks = (torch.stack([train_data[i]["mask"] for i in indices]) for indices in epoch)
            self.model.prepare(masks, step_generator(self.seed, 0, purpose=2))
            return
        try:
            saved = torch.load(path, map_location=self.accelerator.device, weights_only=True)
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.ema.load_state_dict(saved["ema"])
            if self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(saved["scaler"])
            self.state = _State(**saved["state"])
        except (
            KeyError,
            TypeError,
            RuntimeError,
            ValueError,
            EOFError,
            OSError,
            pickle.UnpicklingError,
        ) as error:
            reason = str(error).splitlines()[0]
            raise TrainingStateError(
                f"{path}: truncated or of another model ({reason}); delete it to train from the start"
            ) from error

    def step(self, image: torch.Tensor, mask: torch.Tensor) -> None:
        started, state, device = time.perf_counter(), self.state, self.accelerator.device
        generator = step_generator(self.seed, state.step)
        # Dropout takes no generator of its own; on a CPU it must not repeat the numbers of the noise.
        torch.manual_seed(step_generator(self.seed, state.step, purpose=4).initial_seed())
        for group in self.optimizer.param_groups:
            group["lr"] = group["lr_scale"] * self.recipe.lr * self.recipe.lr_factor(state.step)
        with self.accelerator.autocast():
            draws = self.model.draw(len(image), image.shape[-2:], generator)
            losses = self.forward(image.to(device), mask.to(device), draws)
        self.optimizer.zero_grad()
        self.accelerator.backward(losses.total)
        if self.recipe.max_grad_norm is not None:
            self.accelerator.clip_grad_norm_(self.parameters, self.recipe.max_grad_norm)
        self.optimizer.step()
        self.ema.update()
        state.step += 1
        state.seconds += time.perf_counter() - started
        if state.step % 10 == 0 or state.step == self.recipe.steps:
            self._log(losses)

    def _log(self, losses: Any) -> None:
        values = {name: float(value.detach()) for name, value in losses._asdict().items() if value is not None}
        if not all(abs(v) < float("inf") for v in values.values()):
            raise FloatingPointError(f"the loss is not finite in step {self.state.step}; lower the learning rate")
        self.state.log.append({"step": self.state.step, "lr": self.optimizer.param_groups[0]["lr"], **values})
        self._report(f"loss {values['total']:.3f}")

    def _report(self, detail: str) -> None:
        amounts = {"done": self.state.step, "total": self.recipe.steps, "detail": detail}
        progress.info("training", extra=amounts)

    def validate(self, val_data: Any) -> None:
        with self.ema.applied():
            self.model.eval()
            dice = validation_dice(self.model, val_data, self.recipe.batch_size, self.seed, self.accelerator)
            if dice > self.state.best_dice or self.state.best_step == 0:
                self.state.best_dice, self.state.best_step = dice, self.state.step
                best = {"model": self.model.state_dict()}
                write_atomically(self.workdir / "best.pt", lambda path: torch.save(best, path))
            self.model.train()
        self.state.log.append({"step": self.state.step, "val_dice": dice})
        self._report(f"validation Dice {dice:.3f}")

    def save(self) -> None:
        content = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict(),
            "state": vars(self.state),
        }
        if self.accelerator.scaler is not None:
            content["scaler"] = self.accelerator.scaler.state_dict()
        write_atomically(self.workdir / "training.pt", lambda path: torch.save(content, path))
        lines = "".join(json.dumps(row) + "\n" for row in self.state.log)
        write_atomically(self.workdir / "log.jsonl", lambda path: path.write_text(lines))

    def finish(self) -> dict[str, Any]:
        best = torch.load(self.workdir / "best.pt", map_location=self.accelerator.device, weights_only=True)
        self.model.load_state_dict(best["model"])
        self.model.eval()
        state = self.state
        return {
            "steps": state.step,
            "train_seconds": state.seconds,
            "train_s_per_step": state.seconds / max(1, state.step),
            "selected_step": state.best_step,
            "val_dice": state.best_dice,
            "device": str(self.accelerator.device),
            "threads": torch.get_num_threads(),
        }

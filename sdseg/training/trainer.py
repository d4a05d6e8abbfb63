"""The one training loop: resumable to the bit on a CPU, selects on validation, one or many processes, on accelerate."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast
from torch import nn

from sdseg.control import check_whole_batch
from sdseg.training.acceleration import accelerated
from sdseg.training.batches import StepSampler, TrainingBatch, step_generator, training_batches
from sdseg.training.checkpoint import TrainingState, TrainingStateError, load_training, save_training
from sdseg.training.ema import Ema
from sdseg.training.recipe import Recipe
from sdseg.training.selection import validation_dice
from sdseg.training.traces import Look, Traces

__all__ = ["Trainable", "TrainingLoop", "TrainingStateError", "train"]

# Steps that are all logged: a change of data, network or optimiser shows in them.
_BEGINNING = 10
progress = logging.getLogger("progress")


class Trainable(Protocol):
    """What the loop asks of a model (an nn.Module)."""

    trained: nn.Module
    averaged: nn.Module
    # `whole_batch`, where there is such an attribute, says that a case's loss needs its whole batch.

    def parameter_groups(self) -> list[dict[str, Any]]: ...
    def prepare(self, masks: Iterable[torch.Tensor], generator: torch.Generator) -> None: ...
    def draw(self, count: int, size: Sequence[int], generator: torch.Generator) -> Sequence[torch.Tensor]: ...
    def loss(
        self, image: torch.Tensor, mask: torch.Tensor, draws: Sequence[torch.Tensor], key: torch.Tensor | None = None
    ) -> Any: ...
    def predict(self, image: torch.Tensor, generators: Any) -> Any: ...


def train(
    model: Any,
    train_data: Any,
    val_data: Any,
    recipe: Recipe,
    workdir: Path,
    seed: int,
    device: str = "cpu",
    look: Look | None = None,
) -> dict[str, Any]:
    """Train `model` (a Trainable), leave it with its best weights, and return facts for the record.

    `train_data` and `val_data` are map-style and give {"image" (C, *S), "mask" (L, *S)}, the same at every visit.
    Every draw (batch order, flips, noise, dropout) derives from (seed, step), so that a killed run continues from
    `workdir/training.pt` to the bit-identical end. Started by torchrun or accelerate launch, every process calls this
    with a `workdir` that all can read; the first writes. `look` shows what `recipe.keep` wants kept. Raises
    TrainingStateError naming a state file that cannot be read, ValueError for a batch that cannot be shared out.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with accelerated(model, recipe, len(train_data)):
        loop = TrainingLoop(model, train_data, recipe, workdir, seed, device)
        traces = Traces(look, val_data, recipe, workdir, seed)
        if loop.state.step == 0:
            loop.keep(traces)
        state, started = loop.state, time.perf_counter()
        on_gpu = loop.accelerator.device.type == "cuda"
        for batch in training_batches(train_data, recipe, seed, state.step, loop.share, pin_memory=on_gpu):
            loop.step(batch)
            state.seconds += time.perf_counter() - started
            if state.step % recipe.validate_every == 0 or state.step == recipe.steps:
                loop.validate(val_data)
            loop.keep(traces)  # before the state that a killed training goes on from
            if state.step % recipe.checkpoint_every == 0 or state.step == recipe.steps:
                loop.save()
            started = time.perf_counter()
    return loop.finish()


def _optimizer(groups: list[dict[str, Any]], recipe: Recipe) -> torch.optim.Optimizer:
    shared: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "fused": True}
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=recipe.momentum, **shared)
    return torch.optim.AdamW(groups, **shared)


class TrainingLoop:
    """A model in training: its optimiser, its average and where it stands; continues from what `workdir` holds.

    `share` says which rows of every batch are this process's.
    """

    def __init__(self, model: Any, train_data: Any, recipe: Recipe, workdir: Path, seed: int, device: str) -> None:
        AcceleratorState._reset_state(True)  # one process may train several methods
        self.accelerator = Accelerator(
            cpu=device == "cpu",
            mixed_precision=recipe.precision,
            kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
        )
        self.model, self.recipe, self.workdir, self.seed = model, recipe, workdir, seed
        self._share_out()
        model.to(self.accelerator.device).train()
        if not (workdir / "training.pt").exists():
            self._prepare_model(train_data)
        groups = model.parameter_groups()
        self.parameters = [p for group in groups for p in group["params"]]
        self.forward, self.optimizer = self.accelerator.prepare(model, _optimizer(groups, recipe))
        self.ema = Ema(model.averaged, recipe.ema_decay)
        self.parts = {"model": model, "optimizer": self.optimizer, "ema": self.ema}
        if self.accelerator.scaler is not None:
            self.parts["scaler"] = self.accelerator.scaler
        self.state = load_training(workdir, self.parts) or TrainingState()

    def _share_out(self) -> None:
        processes, parts = self.accelerator.num_processes, self.recipe.accumulate
        self.rows, left = divmod(self.recipe.batch_size, processes * parts)
        if left:
            raise ValueError(
                f"train.batch_size={self.recipe.batch_size} does not divide by {processes} processes x "
                f"accumulate={parts}; choose a multiple of {processes * parts}"
            )
        check_whole_batch(self.model, self.recipe.batch_size, processes * parts)
        first = self.accelerator.process_index * parts
        self.share = slice(first * self.rows, (first + parts) * self.rows)

    def _prepare_model(self, train_data: Any) -> None:
        batches = -(-len(train_data) // self.recipe.batch_size)
        epoch = StepSampler(len(train_data), self.recipe.batch_size, self.seed, 0, batches)
        masks = (torch.stack([train_data[i]["mask"] for i in indices]) for indices in epoch)
        self.model.prepare(masks, step_generator(self.seed, 0, purpose=2))

    def step(self, batch: TrainingBatch) -> list[dict[str, torch.Tensor]]:
        """One update from this process's rows of a batch; the losses of its parts, not yet brought together."""
        recipe, state = self.recipe, self.state
        for group in self.optimizer.param_groups:
            group["lr"] = group["lr_scale"] * recipe.lr * recipe.lr_factor(state.step)
        generator = step_generator(self.seed, state.step)
        draws = self.model.draw(recipe.batch_size, batch.image.shape[2:], generator)  # of the whole batch
        own = [x[self.share] for x in draws if x is not None]
        self.optimizer.zero_grad()
        losses = [self._backward(batch, own, part) for part in range(recipe.accumulate)]
        state.step += 1
        logged = state.step <= _BEGINNING or state.step % 10 == 0 or state.step == recipe.steps
        if logged or recipe.max_grad_norm is not None:
            limit = math.inf if recipe.max_grad_norm is None else recipe.max_grad_norm
            norm = self.accelerator.clip_grad_norm_(self.parameters, limit)
        self.optimizer.step()
        self.ema.update()
        if logged:
            self._log(losses, float(norm))
        return losses

    def _backward(self, batch: TrainingBatch, draws: Sequence[torch.Tensor], part: int) -> dict[str, torch.Tensor]:
        device, format_ = self.accelerator.device, self._memory_format(batch.image)
        rows = slice(part * self.rows, (part + 1) * self.rows)
        # Dropout takes no generator of its own; on a CPU it must not repeat the numbers of the noise.
        parts_before = self.accelerator.process_index * self.recipe.accumulate + part
        torch.manual_seed(step_generator(self.seed, self.state.step, 4, parts_before).initial_seed())
        image = batch.image[rows].to(device, non_blocking=True, memory_format=format_)
        mask = batch.mask[rows].to(device, non_blocking=True)
        key = None if batch.key is None else batch.key[rows]
        last = part == self.recipe.accumulate - 1
        # Gradients of all processes are brought together once, with the last part.
        with nullcontext() if last else self.accelerator.no_sync(self.forward):
            losses = self.forward(image, mask, [x[rows] for x in draws], key)
            self.accelerator.backward(losses.total / self.recipe.accumulate)
        return {name: value.detach() for name, value in losses._asdict().items() if value is not None}

    def _memory_format(self, image: torch.Tensor) -> torch.memory_format:
        return torch.channels_last if self.recipe.channels_last and image.ndim == 4 else torch.preserve_format

    def _log(self, losses: list[dict[str, torch.Tensor]], norm: float) -> None:
        mean = torch.stack([torch.stack([part[name].float() for name in losses[0]]) for part in losses]).mean(0)
        numbers = self.accelerator.reduce(mean, "mean").tolist()
        values = dict(zip(losses[0], numbers, strict=True))
        if not all(abs(v) < float("inf") for v in numbers):
            raise FloatingPointError(f"the loss is not finite in step {self.state.step}; lower the learning rate")
        lr = self.optimizer.param_groups[0]["lr"]
        self.state.log.append({"step": self.state.step, "lr": lr, "grad_norm": norm, **values})
        self._report(f"loss {values['total']:.3f}")

    def _report(self, detail: str) -> None:
        if self.accelerator.is_main_process:
            amounts = {"done": self.state.step, "total": self.recipe.steps, "detail": detail}
            progress.info("training", extra=amounts)

    def validate(self, val_data: Any) -> None:
        """Dice of the averaged weights, which are kept if they are the best so far."""
        with self._averaged():
            dice = validation_dice(self.model, val_data, self.rows, self.seed, self.accelerator)
            if dice > self.state.best_dice or self.state.best_step == 0:
                self.state.best_dice, self.state.best_step = dice, self.state.step
                if self.accelerator.is_main_process:
                    weights = self.model.state_dict()
                    self.state.best = {name: weight.to("cpu", copy=True) for name, weight in weights.items()}
        self.state.log.append({"step": self.state.step, "val_dice": dice})
        self._report(f"validation Dice {dice:.3f}")

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        # The model as it would predict, were this the last step.
        with self.ema.applied():
            self.model.eval()
            yield
            self.model.train()

    def keep(self, traces: Traces) -> None:
        """Write what there is to look at, where this step is one of those to look at."""
        if self.state.step in traces.steps and self.accelerator.is_main_process:
            with self._averaged():
                traces.write(self.state.step, self.accelerator.device)

    def save(self) -> None:
        """Write what a restart needs."""
        if self.accelerator.is_main_process:
            save_training(self.workdir, self.parts, self.state)

    def finish(self) -> dict[str, Any]:
        """Leave every process's model with the best weights; facts for the record."""
        accelerator, state = self.accelerator, self.state
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            self.model.load_state_dict(state.best)
        broadcast(list(self.model.state_dict().values()))
        self.model.eval()
        return {
            "steps": state.step,
            "train_seconds": state.seconds,
            "train_s_per_step": state.seconds / max(1, state.step),
            "selected_step": state.best_step,
            "val_dice": state.best_dice,
            "device": str(accelerator.device),
            "processes": accelerator.num_processes,
            "threads": torch.get_num_threads(),
        }

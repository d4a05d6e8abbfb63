"""Our training step against the official one: how much faster, and whether it learns the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from bench.build import build_segmenter
from bench.datasets.items import TrainingItems
from bench.device import synchronize
from bench.importing import import_by_name
from bench.measure.interleaved import measure_interleaved
from bench.runner import Run
from suites.reference_training import OfficialTraining

_CURVE_STEPS = 30


@pytest.fixture(scope="session")
def run(request: pytest.FixtureRequest) -> Run:
    """The cell, not fitted: nothing here depends on what was learnt before."""
    return Run(request.config._sdseg_cells[request.param])  # type: ignore[attr-defined]


class Contest(NamedTuple):
    """Two trainings of one model from one start."""

    loop: Any  # sdseg.training.trainer.TrainingLoop
    official: OfficialTraining
    recipe: Any
    items: TrainingItems

    def batches(self) -> Iterator[Any]:
        """The batches of the steps to come."""
        return import_by_name("sdseg.training.batches.training_batches")(
            self.items, self.recipe, self.loop.seed, self.loop.state.step
        )

    def step_ours(self, batch: Any) -> torch.Tensor:
        """The loss, still on the device."""
        return self.loop.step(batch)[0]["total"]

    def step_official(self, batch: Any, step: int) -> float:
        """The same draws and the same learning rate as ours in this step."""
        generator = import_by_name("sdseg.training.batches.step_generator")(self.loop.seed, step)
        draws = self.official.model.draw(len(batch.image), batch.image.shape[-2:], generator)
        return self.official.step(batch.image, batch.mask, draws, self.recipe.lr_factor(step))


@contextmanager
def contest(run: Run, workdir: Path) -> Iterator[Contest]:
    """Both trainings, the official one without any of the recipe's options."""
    config = run.cell.config
    ours, theirs = (build_segmenter(config, run.dataset.spec) for _ in range(2))
    if not hasattr(ours.model, "denoiser"):
        pytest.skip("only SDSeg has an official training step")
    options = config["method"]["options"]
    if options["architecture"] != "tiny" and options["autoencoder"] is None:
        ours.model.prepare = lambda masks, generator: None  # a random codec costs as much as a pretrained one
    items, recipe = TrainingItems(run.dataset, "train", ours.dims), ours.recipe
    device = ours.device.type
    with import_by_name("sdseg.training.acceleration.accelerated")(ours.model, recipe, len(items)):
        make = import_by_name("sdseg.training.trainer.TrainingLoop")
        loop = make(ours.model, items, recipe, workdir, run.cell.seed, device)
        theirs.model.load_state_dict(ours.model.state_dict())
        theirs.model.to(ours.device)
        official = OfficialTraining(theirs.model, recipe.lr, recipe.weight_decay, recipe.ema_decay)
        yield Contest(loop, official, recipe, items)


def _facts(run: Run, recipe: Any) -> dict[str, Any]:
    options = ("batch_size", "precision", "cache_latents", "channels_last", "compile", "checkpoint_activations")
    facts = {name: getattr(recipe, name) for name in options}
    size = "x".join(map(str, run.dataset.spec.image_size))
    architecture = run.cell.config["method"]["options"]["architecture"]
    return facts | {"method": run.cell.method, "architecture": architecture, "image_size": size}


def test_training_step(run: Run, benchmark: Any, tmp_path: Path) -> None:
    """Seconds of a step of both, in turn, on one batch whose latents the cache knows after the warm-up."""
    measure = run.cell.config["measure"]
    with contest(run, tmp_path) as both:
        batch = next(both.batches())
        device = both.loop.accelerator.device
        calls = {"ours": lambda: both.step_ours(batch), "official": lambda: both.step_official(batch, 0)}
        result = benchmark.pedantic(
            measure_interleaved,
            args=(calls,),
            kwargs={
                "rounds": measure["rounds"],
                "warmup": max(1, measure["warmup"]),
                "synchronize": lambda: synchronize(device),
            },
            rounds=1,
        )
    ratio = result.speedup("ours", over="official")
    assert ratio.low <= ratio.value <= ratio.high
    benchmark.extra_info.update(_facts(run, both.recipe) | {"device": str(device), "threads": torch.get_num_threads()})
    benchmark.extra_info.update({f"seconds_{name}": result.per_sample(name) for name in calls})
    benchmark.extra_info.update({"speedup": ratio.value, "speedup_low": ratio.low, "speedup_high": ratio.high})


def test_training_curve(run: Run, benchmark: Any, tmp_path: Path) -> None:
    """Loss of both over the first steps, with the same draws: equal but for rounding and what it grows into."""
    steps = min(_CURVE_STEPS, 4 * run.cell.config["measure"]["rounds"])
    curve: list[tuple[float, float]] = []
    with contest(run, tmp_path) as both:

        def follow() -> None:
            for step, batch in enumerate(islice(both.batches(), steps)):
                official = both.step_official(batch, step)
                curve.append((float(both.step_ours(batch)), official))

        benchmark.pedantic(follow, rounds=1)
    ours, official = torch.tensor(curve, dtype=torch.float64).unbind(1)
    difference = ((ours - official) / official).abs()
    mean = float((ours.mean() - official.mean()).abs() / official.mean())
    benchmark.extra_info.update(_facts(run, both.recipe) | {"steps": len(curve)})
    benchmark.extra_info.update({"max_relative_difference": float(difference.max()), "of_the_means": mean})
    assert len(curve) == steps
    assert mean < 0.02

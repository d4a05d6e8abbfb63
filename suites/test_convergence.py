"""Steps x samples per cell: Dice over DDIM steps (paper Figure 3); of every diffusion method also agreement and time.

`sdseg run -m method.inference.steps=1,5,10,50 method.inference.samples=1,5,25` makes such points of any method.
"""

from __future__ import annotations

import pytest

from bench.device import synchronize
from bench.measure.cost import latency_scores
from bench.measure.latency import warm_up
from bench.measure.targets import predict_call, slices_per_call
from bench.runner import Run

METHODS = ("sdseg", "ablation_trainable_encoder")
STEPS = (1, 2, 3, 5, 10, 20, 50)
DIFFUSION = ("sdseg", "medsegdiff_v1", "medsegdiff_v2", "diff_unet", "diff_trans")
GRID = [(steps, samples) for steps in (1, 5, 10, 50) for samples in (1, 5, 25)]


def column(method: str, *draws: str, **axes: int) -> list[str]:
    """A method at a number of steps or samples, as a run of its own: a point of the figure, not a row of a table."""
    name = ".".join([method, *(f"{axis}{number}" for axis, number in axes.items())])
    chosen = [f"method.inference.{axis}={number}" for axis, number in axes.items()]
    return [f"method={method}", f"method.name={name}", f"+method.sweep=[{','.join(axes)}]", *chosen, *draws]


@pytest.mark.cells(*(column(m, "draws=1", steps=s) for m in METHODS for s in STEPS))
def test_convergence(run: Run, publish_accuracy) -> None:
    """Every test case has every score; all steps of a method share one training."""
    config = run.cell.config["method"]
    publish_accuracy(steps=config["inference"]["steps"], latent_weight=config["options"]["latent_weight"])


@pytest.mark.cells(*(column(m, "draws=2", steps=s, samples=n) for m in DIFFUSION for s, n in GRID))
def test_steps_samples(run: Run, benchmark, publish) -> None:
    """Two answers to every test case, and the time of one; all points of a method share one training."""
    segmenter, measure = run.segmenter(), run.cell.config["measure"]
    slices = slices_per_call(segmenter, run.cell.config)
    call = predict_call(segmenter, run.dataset.spec, 1, slices)

    def timed() -> None:
        call()
        synchronize(run.device())

    rounds = warm_up(timed, **{key: measure[key] for key in ("rounds", "warmup", "seconds")})
    benchmark.pedantic(timed, rounds=rounds)
    assert segmenter.samples == run.cell.config["method"]["inference"]["samples"]
    publish(latency_scores(list(benchmark.stats.stats.data), 1, slices))

"""The exported graph per SDSeg cell: it agrees with the model, and how fast onnxruntime runs it beside torch."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from bench.datasets.geometry import to_method_size
from bench.importing import import_by_name
from bench.measure.interleaved import measure_interleaved
from bench.record import Score
from bench.runner import Run, load_segmenter
from bench.seeding import CaseGenerator


def test_onnx(run: Run, benchmark, publish, tmp_path: Path) -> None:
    """Export, check, and time single images on the CPU: onnxruntime over torch's exact mode, interleaved."""
    if not hasattr(run.segmenter().model, "single_step") or run.segmenter().evaluations != 1:
        pytest.skip("only SDSeg's single step is exported")
    if find_spec("onnxruntime") is None:
        pytest.skip("no onnxruntime: pip install 'sdseg-bench[export]'")
    task, measure = run.dataset.spec, run.cell.config["measure"]
    segmenter = load_segmenter({**run.cell.config, "device": "cpu"}, task, run.folder)
    path = tmp_path / "model.onnx"
    exported = import_by_name("sdseg.fast.onnx_export.export_segmenter")(segmenter, task, path)
    session = import_by_name("sdseg.fast.onnx_export.open_session")(path, torch.get_num_threads())
    image = to_method_size(run.dataset.case(run.dataset.case_ids("test")[0]).image, task)
    image = image[None] if image.ndim == 3 else image[:, image.shape[1] // 2][None]
    shape = segmenter.model.latent_shape(*image.shape[-2:])
    inputs = {"image": image.numpy(), "z_T": torch.randn(1, *shape, generator=CaseGenerator(0, "onnx", 0)).numpy()}
    calls = {
        "torch": lambda: segmenter.predict(image, [CaseGenerator(0, "onnx", 0)]),
        "onnxruntime": lambda: session.run(None, inputs),
    }
    settings = {"rounds": measure["rounds"], "warmup": max(1, measure["warmup"]), "synchronize": lambda: None}
    result = benchmark.pedantic(measure_interleaved, args=(calls,), kwargs=settings, rounds=1)
    ratio = result.speedup("onnxruntime", over="torch")
    note = f"batch 1, CPU, interleaved; 95 % interval {ratio.low:.2f} to {ratio.high:.2f}"
    flipped = exported.flipped / exported.pixels
    publish(
        [
            Score(metric="speedup_onnxruntime_over_torch", value=ratio.value, better="higher", note=note),
            Score(metric="onnx_score_difference", value=exported.score_difference, better="lower", note="largest"),
            Score(metric="flipped_onnx", value=flipped, better="lower", note="share of pixels"),
        ]
    )

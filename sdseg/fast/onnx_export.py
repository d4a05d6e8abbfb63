"""ONNX export of the single step, checked by running the exported graph beside the model."""

from __future__ import annotations

import copy
import json
import os
import tempfile
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from sdseg.config import SDSegConfig
from sdseg.fast.light_decoder import use_light_decoder
from sdseg.labels import combine
from sdseg.model import SDSeg

OPSET = 18
NEAR_HALF = 1e-3  # a score this near to its decision may fall on either side
_SINGLE_FILE = 1_900_000_000  # bytes of weights; a protobuf file ends at 2 GiB


class Agreement(NamedTuple):
    """What onnxruntime and torch made of the same images."""

    score_difference: float  # the largest
    flipped: int  # mask pixels that differ, all with a score near the decision
    pixels: int


class _SingleStep(nn.Module):
    """`SDSeg.single_step` as a graph of (image, z_T): the batch size stays open, t is a constant."""

    def __init__(self, model: SDSeg) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).cpu().float().requires_grad_(False)
        self.last = len(model.schedule) - 1
        self.eval()

    def forward(self, image: torch.Tensor, z_T: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        model, count = self.model, image.shape[0]  # len() would fix the batch size
        classes = max(1, model.config.classes)
        z_T, condition = (x.repeat_interleave(classes, dim=0) for x in (z_T, model.condition(image)))
        t = torch.full((z_T.shape[0],), self.last)
        output = model.denoise(z_T, condition, t, torch.arange(classes).repeat(count))
        pixels = model.codec.decode(model.schedule.predict_z0(z_T, output, t, model.config.prediction))
        score, mask = combine(pixels.view(count, classes, *pixels.shape[1:]), model.config)
        return score, mask


def export_onnx(
    model: SDSeg,
    path: Path | str,
    image_size: Sequence[int],
    channels: int,
    labels: Sequence[str] = (),
) -> Agreement:
    """Write the single step of a model, as it was loaded or saved, as one ONNX graph.

    Inputs: image (B, C, H, W) float32 in [-1, 1], z_T (B, c, h, w) float32; outputs: score (B, L, H, W) float32 in
    [0, 1], mask of that shape, bool. The file gets its name after `check_onnx` on three images of noise; weights of
    2 GB and more lie beside it in `<name>.data`. Raises ValueError where a package is missing, the check fails, or
    `path` is a file that no export wrote.
    """
    path = Path(path)
    _require_packages()
    _check_replaceable(path)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((3, channels, *image_size), generator=generator) * 2 - 1
    starts = torch.randn((3, *model.latent_shape(*image_size)), generator=generator)
    step = _SingleStep(model)
    program = _trace(step, images[:2], starts[:2])
    program.model.metadata_props.update(_facts(model, image_size, channels, labels))
    weights = sum(x.numel() * x.element_size() for x in step.state_dict().values())
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=path.parent) as folder:
        part = Path(folder) / path.name
        program.save(str(part), external_data=weights > _SINGLE_FILE)
        agreement = check_onnx(part, model, images, starts)
        for file in sorted(Path(folder).iterdir(), key=lambda f: f == part):  # the graph comes last
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
            file.replace(path.parent / file.name)
    return agreement


def _require_packages() -> None:
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]
    if missing:
        raise ValueError(f"export needs {', '.join(missing)}: pip install 'sdseg-bench[export]'")


def _check_replaceable(path: Path) -> None:
    import onnx

    there, data = path.exists(), path.with_name(f"{path.name}.data")
    try:
        known = onnx.load(path, load_external_data=False).metadata_props if there else ()
    except Exception:
        known = ()
    if there and not {"z_T", "timestep", "config"} <= {fact.key for fact in known}:
        raise ValueError(f"{path}: exists and is not an ONNX file of sdseg; move it away or choose another --out")
    if data.exists() and not there:
        raise ValueError(f"{data}: exists beside no ONNX file; move it away or choose another --out")


def _trace(step: _SingleStep, image: torch.Tensor, z_T: torch.Tensor) -> Any:
    batch = {0: torch.export.Dim.AUTO}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return torch.onnx.export(
            step,
            (image, z_T),
            input_names=["image", "z_T"],
            output_names=["score", "mask"],
            dynamic_shapes={"image": batch, "z_T": batch},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )


def _facts(model: SDSeg, image_size: Sequence[int], channels: int, labels: Sequence[str]) -> dict[str, str]:
    softmax = _is_softmax(model.config)
    return {
        "labels": json.dumps(list(labels) or [str(i) for i in range(model.config.labels)]),
        "image_size": json.dumps(list(image_size)),
        "channels": str(channels),
        "input_range": "[-1, 1]",
        "threshold": "argmax over the labels and the background" if softmax else "score > 0.5",
        "z_T": model.config.noise,  # what to feed it: a model without noise wants zeros
        "timestep": str(len(model.schedule) - 1),
        "decoder": "frozen" if model.codec.light is None else "light",
        "config": model.config.model_dump_json(),
    }


def open_session(path: Path | str, threads: int = 0) -> Any:
    """An onnxruntime session on the CPU; 0 threads leave the number to onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def check_onnx(path: Path | str, model: SDSeg, images: torch.Tensor, starts: torch.Tensor) -> Agreement:
    """Run a file in onnxruntime on images (B, C, H, W) and starts z_T (B, c, h, w), as one and as the rest.

    Raises ValueError where a mask differs from the model's and its score is not near the decision.
    """
    session = open_session(path)
    difference, flipped, pixels = 0.0, 0, 0
    for part in (slice(0, 1), slice(1, None)):
        image, start = images[part], starts[part]
        answers = session.run(None, {"image": image.numpy(), "z_T": start.numpy()})
        score, mask = (torch.from_numpy(x) for x in answers)
        device = model.codec.latent_scale.device
        expected = [x.cpu() for x in model.single_step(image.to(device), start.to(device))]
        differs = mask != expected[1]
        difference = max(difference, float((score - expected[0]).abs().max()))
        flipped, pixels = flipped + int(differs.sum()), pixels + mask.numel()
        wrong = int((differs & ~_undecided(expected[0], model.config)).sum())
        if wrong:
            raise ValueError(
                f"{path}: {wrong} of {mask.numel()} mask pixels differ from the model's where its score is further than"
                f" {NEAR_HALF} from the decision (scores differ by up to {difference:.2g}); this graph is no copy of it"
            )
    return Agreement(difference, flipped, pixels)


def _is_softmax(config: SDSegConfig) -> bool:
    return bool(config.classes) and config.multiclass == "softmax"


def _undecided(score: torch.Tensor, config: SDSegConfig) -> torch.Tensor:
    if not _is_softmax(config):
        return (score - 0.5).abs() <= NEAR_HALF
    best = torch.cat([1 - score.sum(1, keepdim=True), score], dim=1).topk(2, dim=1).values  # background first
    return best[:, :1] - best[:, 1:] <= 2 * NEAR_HALF


def export_segmenter(segmenter: Any, task: Any, path: Path) -> Agreement:
    """Export the model of a fitted `SDSegSegmenter` for a task, with the decoder it predicts with.

    Raises ValueError as `export_onnx` does, and for a method that is no SDSeg of a single step.
    """
    model = segmenter.model
    if not isinstance(model, SDSeg):
        raise ValueError(f"only SDSeg models are exported, this run's method is a {type(model).__name__}")
    for key in ("steps", "samples"):
        if (number := segmenter.inference.get(key, 1)) != 1:
            raise ValueError(f"only a single step of one sample is exported, this run's method takes {number} {key}")
    settings = segmenter.settings
    if settings is not None and settings.decoder == "light" and model.codec.light is None:
        use_light_decoder(model.codec, model.config.architecture, settings.light_decoder)
    return export_onnx(model, path, task.image_size, task.channels, labels=task.labels)

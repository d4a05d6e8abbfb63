"""Diff-U-Net as a method: windows, noise, fusion, checkpoints, and training through the harness's own loop."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from baselines.diff_unet.loading import load_official
from baselines.diff_unet.model import TrainableDiffUNet
from baselines.diff_unet.network import DiffUNet
from baselines.diff_unet.sampling import sampling_timesteps
from baselines.diff_unet.segmenter import diff_unet_segmenter
from baselines.sliding_window import slide

FEATURES = (4, 4, 4, 4, 8, 4)
RECIPE = {"steps": 1, "batch_size": 2, "lr": 1e-3, "ema_decay": 0.5}
VOLUMES = SimpleNamespace(channels=1, labels=("a", "b"), image_size=(16, 40), dims=3)
IMAGES = SimpleNamespace(channels=3, labels=("a",), image_size=(32, 32), dims=2)


def build(task: Any = VOLUMES, **options: Any):
    three = {"dims": 3, "window": (16, 16, 32)} if task.dims == 3 else {"dims": 2}
    return diff_unet_segmenter(task, 0, "cpu", RECIPE, **{"features": FEATURES, "steps": 2, **three, **options})


def image(task: Any = VOLUMES, count: int = 1, depth: int = 20) -> torch.Tensor:
    size = (*([depth] if task.dims == 3 else []), *task.image_size)
    return torch.rand((count, task.channels, *size), generator=torch.Generator().manual_seed(1)) * 2 - 1


def items(task: Any, count: int = 3) -> list[dict[str, Any]]:
    collected = []
    for i, one in enumerate(image(task, count, depth=16)):
        mask = one[:1].repeat(len(task.labels), *[1] * task.dims) > 0.5
        collected.append({"image": one, "mask": mask, "case_id": str(i)})
    return collected


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@torch.no_grad()
def predict(segmenter: Any, images: torch.Tensor, *seeds: int, **inference: Any) -> torch.Tensor:
    prediction = segmenter.model.predict(images, generators(*seeds), **{"steps": 2, "fusion": "sum", **inference})
    assert torch.equal(prediction.mask, prediction.score > 0.5)
    return prediction.score


def test_times_of_other_step_counts() -> None:
    assert sampling_timesteps(1) == [999]
    assert sampling_timesteps(2) == [0, 999]
    assert len(set(sampling_timesteps(50))) == 50
    assert sampling_timesteps(1000) == list(range(1000))


@pytest.mark.parametrize("task", [IMAGES, VOLUMES], ids=["images", "volumes"])
def test_trains_predicts_and_loads(tmp_path: Path, task: Any) -> None:
    segmenter = build(task)
    before = [p.clone() for p in segmenter.model.parameters()]
    facts = segmenter.fit(items(task), items(task, 1), tmp_path)
    assert facts["steps"] == 1
    assert not any(torch.equal(a, b) for a, b in zip(before, segmenter.model.parameters(), strict=True))
    again = build(task)
    again.load(tmp_path)
    shown = image(task, 1, depth=16)
    first, second = (s.predict(shown, generators(5)) for s in (segmenter, again))
    assert torch.equal(first.score, second.score)
    assert first.score.shape == (1, len(task.labels), *shown.shape[2:])
    assert first.score.min() >= 0
    assert first.score.max() <= 1
    assert (segmenter.evaluations, segmenter.samples, segmenter.dims) == (2, 1, task.dims)


def test_loss_depends_on_the_draws_of_its_own_row_alone() -> None:
    model = build().model
    shown, mask = image(count=3), torch.cat([image(count=3)] * 2, dim=1) > 0
    draws = model.draw(3, shown.shape[2:], torch.Generator().manual_seed(0))
    seen: list[torch.Tensor] = []
    model.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    model.loss(shown, mask, draws)
    model.loss(shown[1:], mask[1:], [x[1:] for x in draws])
    for whole, part in zip(*seen, strict=True):
        assert torch.equal(whole[1:], part)
    assert seen[0][0].min() >= 0  # the network sees [0, 1]


def test_windows_that_share_a_call_change_nothing() -> None:
    segmenter, shown = build(), image(count=2, depth=7)  # less deep than the window
    alone = [predict(segmenter, one[None], seed) for one, seed in zip(shown, (3, 4), strict=True)]
    assert alone[0].shape == (1, 2, 7, 16, 40)
    together = predict(segmenter, shown, 3, 4, sw_batch_size=3)
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-5)
    assert not torch.allclose(alone[0], predict(segmenter, shown[:1], 4), atol=1e-2)


def test_every_window_and_sample_has_noise_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[torch.Tensor] = []

    def remember(denoise: Any, start: torch.Tensor, *_: Any) -> torch.Tensor:
        starts.append(start)
        return start[0]

    monkeypatch.setattr("baselines.diff_unet.model.fused_map", remember)
    predict(build(), image(), 0, samples=2, sw_batch_size=2)
    noise = torch.cat([start.flatten(0, 1) for start in starts])
    assert noise.shape == (2 * 4, 2, 16, 16, 32)  # 2 x 2 windows of two samples
    assert len({round(float(x.sum()), 4) for x in noise}) == 8
    assert abs(float(noise.std()) - 1) < 0.01


def test_the_image_is_encoded_once_per_window() -> None:
    segmenter, calls = build(), []
    segmenter.model.network.embed_model.register_forward_hook(lambda *_: calls.append("image"))
    segmenter.model.network.model.register_forward_hook(lambda *_: calls.append("mask"))
    predict(segmenter, image(), 0, sw_batch_size=8, steps=3, samples=2, fusion="uncertainty")
    assert calls == ["image", "mask", "mask", "mask"]


def test_gaussian_blending_follows_the_nearer_window() -> None:  # the constant one is the release's, in tests/parity
    numbers = iter((1, 2, 3))
    blended = slide(torch.zeros(1, 1, 8, 8, 16), (8, 8, 8), lambda w, _: w + next(numbers), 0.5, 1, "gaussian")
    assert blended[0, 0, 4, 4, [0, 5, 15]].tolist() == pytest.approx([1, 1.2, 3], abs=0.15)


def test_official_checkpoints_load_from_files_and_tell_what_is_wrong(tmp_path: Path) -> None:
    network, path = DiffUNet(3, 4, 3, FEATURES), tmp_path / "final_model.pt"
    torch.save({f"module.{k}": v for k, v in network.state_dict().items()}, path)
    loaded = load_official(path)
    assert {k: v.tolist() for k, v in loaded.state_dict().items()} == {
        k: v.tolist() for k, v in network.state_dict().items()
    }
    state = network.state_dict()
    state.pop("model.temb.dense.1.bias")
    with pytest.raises(ValueError, match=r"state dict: not a Diff-U-Net .*model\.temb\.dense\.1\.bias"):
        load_official(state)
    torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match=r"final_model\.pt: not a Diff-U-Net .*embed_model\.conv_0"):
        load_official(path)


def test_training_starts_from_a_checkpoint(tmp_path: Path) -> None:
    network, path = DiffUNet(3, 1, 2, FEATURES), tmp_path / "start.pt"
    torch.save(network.state_dict(), path)
    model = TrainableDiffUNet(DiffUNet(3, 1, 2, FEATURES), weights=str(path))
    model.prepare(iter(()), torch.Generator())
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), model.parameters(), strict=True))
    other = TrainableDiffUNet(DiffUNet(3, 1, 5, FEATURES), weights=str(path))
    with pytest.raises(ValueError, match=r"start\.pt: of another task"):
        other.prepare(iter(()), torch.Generator())


BAD = {
    "fusion": ({"fusion": "staple"}, "fusion=staple: known are last, sum, uncertainty"),
    "blend": ({"blend": "mean"}, "blend=mean"),
    "steps": ({"steps": 0}, "steps=0"),
    "overlap": ({"overlap": 1.0}, r"overlap=1\.0"),
    "samples": ({"samples": 0}, "samples=0"),
    "windows per call": ({"sw_batch_size": 0}, "sw_batch_size=0"),
    "dims": ({"dims": 4}, "dims=4"),
    "volumes asked of images": ({"task": IMAGES, "dims": 3}, "dims=3 needs volumes"),
    "features": ({"features": [8, 8]}, r"features=\[8, 8\]: expected six"),
    "edges of a window": ({"window": [32, 32]}, r"window=\[32, 32\]: expected 3"),
    "small window": ({"window": [16, 16, 16]}, r"window=\[16, 16, 16\]: .* one of 32"),
    "small image": ({"task": SimpleNamespace(**{**vars(IMAGES), "image_size": (16, 16)})}, "image_size="),
}


@pytest.mark.parametrize("case", BAD)
def test_an_option_that_does_not_fit_is_named(case: str) -> None:
    options, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_uncertainty_means_four_samples() -> None:
    assert build(fusion="uncertainty").samples == 4
    assert build(fusion="uncertainty", samples=2).inference["samples"] == 2
    assert build(runs=2).samples == 2  # as runs of earlier versions say it
    assert build().samples == 1

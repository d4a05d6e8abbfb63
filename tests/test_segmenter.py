"""The harness's view of a trained model: what it was made into for prediction is the same however it came to be."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sdseg.fast.light_decoder import LightDecoder, LightShape, decoder_hash
from sdseg.model import SDSeg
from sdseg.segmenter import SDSegSegmenter, pretrained_segmenter, sdseg_segmenter
from sdseg.training.procedural_masks import draw_masks

TASK = SimpleNamespace(channels=1, labels=("mask",), image_size=(16, 16))
RECIPE = {"steps": 2, "batch_size": 2, "lr": 0.05, "validate_every": 2, "flips": []}


def build(**options: Any) -> SDSegSegmenter:
    recipe = {**RECIPE, **options.pop("recipe", {})}
    return sdseg_segmenter(TASK, seed=0, device="cpu", recipe=recipe, **{"prediction": "z0", **options})


def items() -> list[dict[str, torch.Tensor]]:
    masks = draw_masks(4, 16, torch.Generator().manual_seed(0))
    return [{"image": mask.float() * 2 - 1, "mask": mask} for mask in masks]


def predicted(segmenter: SDSegSegmenter) -> torch.Tensor:
    image = torch.stack([item["image"] for item in items()])
    return segmenter.predict(image, [torch.Generator().manual_seed(i) for i in range(4)]).score


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SDSegSegmenter]:
    """A trained model and its folder."""
    folder, segmenter = tmp_path_factory.mktemp("fitted"), build()
    segmenter.fit(items(), items()[:2], folder)
    return folder, segmenter


def test_settings_change_rounding_and_not_the_answer(fitted: tuple[Path, SDSegSegmenter]) -> None:
    plain, exact = build(fold_upsampling=False, channels_last=False), build()
    for segmenter in (plain, exact):
        segmenter.load(fitted[0])
    expected = predicted(fitted[1])
    assert expected.std() > 0
    assert torch.equal(predicted(exact), expected)  # right after the fit as after loading
    torch.testing.assert_close(predicted(plain), expected, rtol=0, atol=1e-3)
    assert exact.describe() == fitted[1].describe()
    assert (exact.describe()["fold_upsampling"], plain.describe()["fold_upsampling"]) == (True, False)
    assert exact.describe()["precision"] == dict.fromkeys(("encoder", "denoiser", "decoder"), "float32")
    for change in (exact.load, lambda folder: exact.fit(items(), items(), folder)):
        with pytest.raises(ValueError, match="build the method again"):  # ready to predict
            change(fitted[0])


def test_float32_is_no_tf32_in_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a GPU; what torch was told stays, also after an error."""
    segmenter, seen = build(), []

    def noting(*_: object, **__: object) -> None:
        seen.append(torch.backends.cudnn.allow_tf32)
        raise ZeroDivisionError

    monkeypatch.setattr(segmenter.model, "predict", noting)
    for allowed in (True, False):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)
        with pytest.raises(ZeroDivisionError):
            predicted(segmenter)
        assert torch.backends.cudnn.allow_tf32 is allowed
    assert seen == [False, False]


def test_training_in_half_precision_does_not_decide_how_sdseg_predicts(tmp_path: Path) -> None:
    segmenter = build(recipe={"precision": "bf16"})
    seen = []
    convolution = segmenter.model.codec.autoencoder.decoder.conv_in
    segmenter.fit(items(), items()[:2], tmp_path)
    convolution.register_forward_hook(lambda *arguments: seen.append(arguments[2].dtype))
    predicted(segmenter)
    assert seen == [torch.float32]


def test_another_network_predicts_in_the_precision_it_trained_in() -> None:
    from baselines.supervised import supervised_segmenter

    network = {"network": "monai.networks.nets.BasicUNet", "options": {"features": [8] * 6}}
    segmenter = supervised_segmenter(TASK, 0, "cpu", {**RECIPE, "precision": "bf16"}, **network)
    seen = []
    segmenter.model.network.final_conv.register_forward_hook(lambda *arguments: seen.append(arguments[2].dtype))
    assert segmenter.predict(torch.zeros(1, 1, 32, 32), [torch.Generator()]).score.dtype == torch.float32
    assert seen == [torch.bfloat16]
    assert segmenter.describe() == {"precision": {"model": "bfloat16"}}


def test_amplified_half_precision_is_refused_before_training() -> None:
    with pytest.raises(ValueError, match=r"precision\.denoiser=bfloat16"):
        build(prediction="eps", precision={"denoiser": "bfloat16"})


def test_light_decoder_answers_where_asked(tmp_path: Path) -> None:
    frozen = build()
    autoencoder, shape = frozen.model.codec.autoencoder, LightShape.of(frozen.model.config.architecture)
    torch.manual_seed(1)
    LightDecoder(shape, decoder_hash(autoencoder)).save(tmp_path / "light.safetensors")
    light = build(decoder="light", light_decoder=str(tmp_path / "light.safetensors"))
    assert predicted(light).shape == (4, 1, 16, 16)
    assert light.describe()["decoder"] == "light"
    assert not torch.equal(predicted(frozen), predicted(light))


def test_a_fitted_folder_serves_as_weights_from_elsewhere(tmp_path: Path, fitted: tuple[Path, SDSegSegmenter]) -> None:
    def pretrained(folder: Path, task: Any = TASK) -> SDSegSegmenter:
        return pretrained_segmenter(task, seed=0, device="cpu", recipe={}, weights=str(folder))

    assert SDSeg.from_pretrained(fitted[0]).config.prediction == "z0"
    assert pretrained(fitted[0]).fit([], [], tmp_path / "copy")["steps"] == 0
    loaded = pretrained(fitted[0])
    loaded.load(tmp_path / "copy")
    assert torch.equal(predicted(fitted[1]), predicted(loaded))
    with pytest.raises(ValueError, match=r"nowhere: not a saved SDSeg model"):
        pretrained(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="a model of 1 labels, this dataset has 2"):
        pretrained(fitted[0], SimpleNamespace(**{**vars(TASK), "labels": ("a", "b")}))


class Drawn(torch.Generator):
    """A generator that knows its draw, as the harness's do."""

    draw: int


def test_one_noise_for_all_cases_of_a_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter, seen = build(start="shared"), []
    denoise = segmenter.model.denoise
    monkeypatch.setattr(segmenter.model, "denoise", lambda z_T, *rest: seen.append(z_T) or denoise(z_T, *rest))
    for draw in (0, 1):
        generators = [Drawn().manual_seed(i) for i in (1, 2)]
        for generator in generators:
            generator.draw = draw
        segmenter.predict(torch.zeros(2, 1, 16, 16), generators)
    assert torch.equal(seen[0][0], seen[0][1])
    assert not torch.equal(seen[0][0], seen[1][0])


@pytest.mark.parametrize("options", [{}, {"steps": 3, "eta": 1.0}, {"start": "zeros", "steps": 2, "eta": 0.5}])
def test_the_mean_of_the_samples_decides(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    single, ensemble = build(**options), build(**options, samples=3)
    for one in (single, ensemble):
        torch.manual_seed(2)
        torch.nn.init.normal_(one.model.denoiser.unet.conv_out.weight)  # untrained, it is 0
    generators = [torch.Generator().manual_seed(i) for i in (1, 2)]
    samples = torch.stack([single.predict(image, generators).score for _ in range(3)])  # one after another
    assert not torch.allclose(samples[0], samples[1])
    for together in (6, 2):
        monkeypatch.setattr("sdseg.model._TOGETHER", together)
        answer = ensemble.predict(image, [torch.Generator().manual_seed(i) for i in (1, 2)])
        torch.testing.assert_close(answer.score, samples.mean(dim=0), rtol=0, atol=1e-5)
        assert torch.equal(answer.mask, answer.score > 0.5)
    assert (single.samples, ensemble.samples) == (1, 3)
    with pytest.raises(ValueError, match="samples=0"):
        build(samples=0)

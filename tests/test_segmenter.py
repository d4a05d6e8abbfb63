"""The harness's view of a trained model: what it was made into for prediction is the same however it came to be."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sdseg.fast.light_decoder import LightDecoder, LightShape, decoder_hash
from sdseg.model import SDSeg
from sdseg.segmenter import TrainedSegmenter, pretrained_segmenter, sdseg_segmenter
from sdseg.training.procedural_masks import draw_masks

TASK = SimpleNamespace(channels=1, labels=("mask",), image_size=(32, 32))
RECIPE = {"steps": 2, "batch_size": 2, "lr": 0.05, "validate_every": 2, "flips": []}


def build(**options: Any) -> TrainedSegmenter:
    recipe = {**RECIPE, **options.pop("recipe", {})}
    return sdseg_segmenter(TASK, seed=0, device="cpu", recipe=recipe, **{"prediction": "z0", **options})


def items() -> list[dict[str, torch.Tensor]]:
    masks = draw_masks(4, 32, torch.Generator().manual_seed(0))
    return [{"image": mask.float() * 2 - 1, "mask": mask} for mask in masks]


def predicted(segmenter: TrainedSegmenter) -> torch.Tensor:
    image = torch.stack([item["image"] for item in items()])
    return segmenter.predict(image, [torch.Generator().manual_seed(i) for i in range(4)]).score


@pytest.mark.parametrize("layout", [True, False], ids=["channels last", "contiguous"])
def test_prediction_right_after_the_fit_is_the_one_after_loading(tmp_path: Path, layout: bool) -> None:
    fitted = build(channels_last=layout)
    fitted.fit(items(), items()[:2], tmp_path)
    loaded = build(channels_last=layout)
    loaded.load(tmp_path)
    found = predicted(fitted)
    assert torch.equal(found, predicted(loaded))
    assert found.std() > 0
    assert fitted.describe() == loaded.describe()


def test_settings_change_rounding_and_not_the_answer(tmp_path: Path) -> None:
    build().fit(items(), items()[:2], tmp_path)
    plain = build(fold=False, fold_upsampling=False, channels_last=False)
    exact = build()
    for segmenter in (plain, exact):
        segmenter.load(tmp_path)
    torch.testing.assert_close(predicted(exact), predicted(plain), rtol=0, atol=1e-3)
    assert exact.describe()["fold"] is True
    assert plain.describe()["fold"] is False
    assert exact.describe()["precision"] == dict.fromkeys(("encoder", "denoiser", "decoder"), "float32")


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
    assert predicted(segmenter).dtype == torch.float32
    assert seen == [torch.bfloat16]
    assert segmenter.describe() == {"precision": {"model": "bfloat16"}}


def test_a_model_made_ready_takes_no_other_weights(tmp_path: Path) -> None:
    segmenter = build()
    predicted(segmenter)
    with pytest.raises(ValueError, match="build the method again"):
        segmenter.load(tmp_path)
    with pytest.raises(ValueError, match="build the method again"):
        segmenter.fit(items(), items(), tmp_path)


def test_amplified_half_precision_is_refused_before_training() -> None:
    with pytest.raises(ValueError, match=r"precision\.denoiser=bfloat16"):
        build(prediction="eps", precision={"denoiser": "bfloat16"})


def test_light_decoder_answers_where_asked(tmp_path: Path) -> None:
    frozen = build()
    autoencoder, shape = frozen.model.codec.autoencoder, LightShape.of(frozen.model.config.architecture)
    torch.manual_seed(1)
    LightDecoder(shape, decoder_hash(autoencoder)).save(tmp_path / "light.safetensors")
    light = build(decoder="light", light_decoder=str(tmp_path / "light.safetensors"))
    assert predicted(light).shape == (4, 1, 32, 32)
    assert light.describe()["decoder"] == "light"
    assert not torch.equal(predicted(frozen), predicted(light))


def test_a_fitted_folder_is_a_saved_model_and_serves_as_weights_from_elsewhere(tmp_path: Path) -> None:
    trained = build()
    trained.fit(items(), items()[:2], tmp_path / "run")
    assert SDSeg.from_pretrained(tmp_path / "run").config.prediction == "z0"
    copied = pretrained_segmenter(TASK, seed=0, device="cpu", recipe={}, weights=str(tmp_path / "run"))
    assert copied.fit([], [], tmp_path / "copy")["steps"] == 0
    loaded = pretrained_segmenter(TASK, seed=0, device="cpu", recipe={}, weights=str(tmp_path / "run"))
    loaded.load(tmp_path / "copy")
    assert torch.equal(predicted(trained), predicted(loaded))


def test_weights_from_elsewhere_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere: not a saved SDSeg model"):
        pretrained_segmenter(TASK, seed=0, device="cpu", recipe={}, weights=str(tmp_path / "nowhere"))
    build().model.save_pretrained(tmp_path)
    task = SimpleNamespace(**{**vars(TASK), "labels": ("a", "b")})
    with pytest.raises(ValueError, match="a model of 1 labels, this dataset has 2"):
        pretrained_segmenter(task, seed=0, device="cpu", recipe={}, weights=str(tmp_path))


class Drawn(torch.Generator):
    """A generator that knows its draw, as the harness's do."""

    draw: int


def test_one_noise_for_all_cases_of_a_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter, seen = build(start="shared"), []
    step = segmenter.model.single_step
    monkeypatch.setattr(segmenter.model, "single_step", lambda image, z_T: seen.append(z_T) or step(image, z_T))
    for draw in (0, 1):
        generators = [Drawn().manual_seed(i) for i in (1, 2)]
        for generator in generators:
            generator.draw = draw
        segmenter.predict(torch.zeros(2, 1, 32, 32), generators)
    assert torch.equal(seen[0][0], seen[0][1])
    assert not torch.equal(seen[0][0], seen[1][0])

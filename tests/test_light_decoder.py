"""Fast mode's mask decoder: cheap, near the frozen one, and never taken for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sdseg.architecture import ARCHITECTURES
from sdseg.config import SDSegConfig
from sdseg.fast import light_decoder_training as training
from sdseg.fast.light_decoder import (
    LIGHT_DECODER,
    LightDecoder,
    LightShape,
    decoder_hash,
    load_light_decoder,
    use_light_decoder,
)
from sdseg.fast.light_decoder_training import Teacher, compare, distillation_loss, train_light_decoder
from sdseg.mask_codec import TINY_CODEC, MaskCodec, build_autoencoder, load_tiny_codec
from sdseg.model import SDSeg
from sdseg.training.codec_training import mask_dice

TINY = ARCHITECTURES["tiny"]
MINI = TINY.model_copy(update={"codec_widths": (8, 8)})


def mini_autoencoder(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build_autoencoder(MINI).eval()


def flops(decoder: torch.nn.Module, latent: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        decoder(latent)
    return counter.get_total_flops()


def test_costs_a_small_part_of_the_frozen_decoder() -> None:
    with torch.device("meta"):
        paper = LightDecoder(LightShape.of(ARCHITECTURES["paper"]), "")
        tiny, frozen = LightDecoder(LightShape.of(TINY), ""), build_autoencoder(TINY)
        assert flops(paper, torch.zeros(1, 4, 32, 32)) < 5e9  # the frozen one: 622e9
        latent = torch.zeros(1, 4, 64, 64)
        assert paper(latent).shape == (1, 1, 512, 512)
        assert 6 * flops(tiny, latent) < flops(frozen.decode, latent)
    assert LIGHT_DECODER.stat().st_size < 320_000


def test_shipped_decoder_gives_nearly_the_frozen_masks() -> None:
    light, teacher = load_light_decoder(TINY), Teacher(load_tiny_codec())
    comparison = compare(light, teacher, 64, 8, noise_level=0.5, seed=5)
    assert comparison.agreement > 0.985
    assert comparison.teacher > 0.97
    assert comparison.student > comparison.teacher - 0.006
    torch.nn.init.zeros_(light.net[-1].weight)  # a bad student is told from a good one
    assert compare(light, teacher, 32, 4, noise_level=0.0, seed=5).agreement < 0.5


def test_codec_decodes_scaled_latents_through_it() -> None:
    codec = MaskCodec(load_tiny_codec(), 0.25)
    use_light_decoder(codec, TINY)
    latent = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(codec.decode(latent * 0.25), codec.light(latent))
    assert codec.decode_score(latent).shape == (2, 1, 32, 32)


def test_weights_never_hold_the_light_decoder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SDSeg(SDSegConfig(architecture=TINY)).eval()
    exact = model.state_dict()
    image, z_T = torch.rand(1, 3, 16, 16), torch.randn(1, 4, 4, 4)
    score = model.single_step(image, z_T).score
    use_light_decoder(model.codec, TINY)
    fast = model.single_step(image, z_T).score
    assert fast.shape == score.shape
    assert not torch.equal(fast, score)
    assert model.state_dict().keys() == exact.keys()
    model.load_state_dict(exact)  # nothing missing, nothing unexpected
    model.save_pretrained(tmp_path)
    again = SDSeg.from_pretrained(tmp_path)
    assert again.codec.light is None
    assert torch.equal(again.single_step(image, z_T).score, score)
    assert model.double().codec.light.net[0].weight.dtype == torch.float64  # moves with the model
    with pytest.raises(RuntimeError, match=r"codec\.latent_scale"):
        model.load_state_dict({k: v for k, v in exact.items() if k != "codec.latent_scale"})


def test_refuses_another_autoencoder() -> None:
    codec = MaskCodec(load_tiny_codec())
    codec.autoencoder.decoder.conv_out.bias.data += 1e-3
    with pytest.raises(ValueError, match="imitates another autoencoder"):
        use_light_decoder(codec, TINY)
    assert codec.light is None


def test_says_how_to_get_one(tmp_path: Path) -> None:
    paper = ARCHITECTURES["paper"]
    with pytest.raises(ValueError, match="light_decoder_training --architecture paper --autoencoder FOLDER --out FILE"):
        load_light_decoder(paper)
    with pytest.raises(ValueError, match="4 pixels per latent cell, not 8"):
        load_light_decoder(paper, LIGHT_DECODER)
    with pytest.raises(ValueError, match=r"tiny_codec\.safetensors: not a light decoder"):
        load_light_decoder(TINY, TINY_CODEC)
    with pytest.raises(ValueError, match=r"absent\.safetensors: not a light decoder"):
        load_light_decoder(TINY, tmp_path / "absent.safetensors")


def test_file_keeps_everything_in_half_precision(tmp_path: Path) -> None:
    light = LightDecoder(LightShape.of(MINI), decoder_hash(mini_autoencoder()), spread=3.25)
    light.save(tmp_path / "light.safetensors")
    again = load_light_decoder(MINI, tmp_path / "light.safetensors")
    assert (again.shape, again.teacher, float(again.spread)) == (light.shape, light.teacher, 3.25)
    assert torch.equal(again.net[0].weight, light.net[0].weight.half().float())
    assert light.teacher != decoder_hash(mini_autoencoder(1))


def test_loss_prefers_the_teachers_answer() -> None:
    score = torch.tensor([0.0, 0.3, 0.8, 1.0]).view(1, 1, 2, 2)
    right = distillation_loss(2 * score - 1, score)
    assert right < distillation_loss(torch.ones_like(score), score) < distillation_loss(1 - 2 * score, score)


def test_mask_dice_is_undefined_where_both_are_empty() -> None:
    mask = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0]], dtype=torch.bool).view(2, 1, 2, 2)
    dice = mask_dice(torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.bool).view(2, 1, 2, 2), mask)
    assert dice[0] == pytest.approx(2 / 3)
    assert dice[1].isnan()


def test_killed_training_ends_with_the_same_weights(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(training, "_INTERVAL", 2)
    whole = train_light_decoder(mini_autoencoder(), MINI, 3, tmp_path / "a.pt")
    checkpoint = training._checkpoint

    def killed(*arguments) -> None:
        checkpoint(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        train_light_decoder(mini_autoencoder(), MINI, 3, tmp_path / "b.pt")
    monkeypatch.setattr(training, "_checkpoint", checkpoint)
    resumed = train_light_decoder(mini_autoencoder(), MINI, 3, tmp_path / "b.pt")
    for key, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key
    with pytest.raises(ValueError, match="no state of a training for this autoencoder"):
        train_light_decoder(mini_autoencoder(1), MINI, 3, tmp_path / "b.pt")


def test_lessons_depend_on_seed_and_index_alone() -> None:
    first, second = Teacher(mini_autoencoder()), Teacher(mini_autoencoder())
    second.lesson(0)
    assert torch.equal(first.lesson(3).latent, second.lesson(3).latent)
    lesson = first.lesson(3)
    assert lesson.score.shape == lesson.mask.shape == (2, 1, 64, 64)
    assert not torch.equal(Teacher(mini_autoencoder(), seed=1).lesson(3).latent, lesson.latent)

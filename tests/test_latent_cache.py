"""The latent cache: nothing encoded twice, nothing changed but rounding."""

from __future__ import annotations

import pytest
import torch

from sdseg.mask_codec import MaskCodec, load_tiny_codec
from sdseg.training.latent_cache import LatentCache
from tests.training_fixtures import discs, tiny_sdseg


class CountingCodec:
    """The mean of a mask as its moments, and how many masks were asked for."""

    def __init__(self) -> None:
        self.encoded = 0

    def moments(self, mask: torch.Tensor) -> torch.Tensor:
        self.encoded += len(mask)
        return mask.float().mean((1, 2, 3)).view(-1, 1, 1, 1).expand(-1, 2, 3, 3)


def masks(count: int, size: int = 8) -> torch.Tensor:
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(1)) > 0.5


def test_every_mask_is_encoded_once() -> None:
    codec, mask = CountingCodec(), masks(4)
    cache = LatentCache(codec, 4)
    for rows in ([0, 2], [2, 0], [3, 2], [1, 1], [0, 1, 2, 3]):
        found = cache(mask[rows], torch.tensor(rows))
        assert torch.equal(found, CountingCodec().moments(mask[rows]))
    assert cache.full
    # One more for the shape of the table, one for a mask twice in a batch that did not know it.
    assert codec.encoded == 6


def test_equal_to_the_codec_and_independent_of_the_batch() -> None:
    codec, mask = MaskCodec(load_tiny_codec()), torch.stack([item["mask"][:1] for item in discs(4)])
    together, alone = LatentCache(codec, 4), LatentCache(codec, 4)
    key = torch.arange(4)
    found = together(mask, key)
    torch.testing.assert_close(found, codec.moments(mask), rtol=1e-5, atol=1e-4)
    assert found.dtype == torch.float32
    assert torch.equal(found, torch.cat([alone(mask[i : i + 1], key[i : i + 1]) for i in range(4)]))


def test_remembers_float32_under_autocast_and_each_orientation_by_itself() -> None:
    codec, mask = MaskCodec(load_tiny_codec()), discs(1)[0]["mask"][None, :1]
    expected = codec.moments(mask)
    with torch.autocast("cpu", torch.bfloat16):
        found = LatentCache(codec, 1)(mask, torch.tensor([0]))
    assert torch.equal(found, expected)
    # The encoder does not commute with flips.
    assert float((codec.moments(mask.flip(-1)) - expected.flip(-1)).abs().max()) > 1e-2


def test_too_much_to_remember_is_encoded_every_time(caplog: pytest.LogCaptureFixture) -> None:
    codec, mask = CountingCodec(), masks(2)
    cache = LatentCache(codec, 1000, host_limit=100)
    for _ in range(3):
        assert torch.equal(cache(mask, torch.tensor([0, 1])), CountingCodec().moments(mask))
    assert cache.table is None
    assert codec.encoded == 7
    assert "not cached" in caplog.text


def test_the_model_keeps_classes_apart() -> None:
    model, item = tiny_sdseg(labels=2), discs(1)[0]
    image, mask = item["image"][None].repeat(4, 1, 1, 1), item["mask"][None].repeat(4, 1, 1, 1)
    draws = model.draw(4, image.shape[-2:], torch.Generator().manual_seed(0))
    assert len({u < 0.5 for u in draws.class_u.tolist()}) == 2
    plain = model.loss(image, mask, draws)
    model.cache = LatentCache(model.codec, 2)
    for _ in range(2):
        cached = model.loss(image, mask, draws, torch.zeros(4, dtype=torch.long))
        torch.testing.assert_close(cached.total, plain.total, rtol=1e-5, atol=0)
    assert model.cache.full

"""LPIPS: the distance itself, with a random trunk and with the true one where it is found."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from bench.metrics import lpips_trunk
from bench.metrics.lpips_distance import Lpips
from bench.metrics.lpips_trunk import LpipsUnavailable, Trunk, load_trunk
from bench.metrics.released_stability import released_pairs
from bench.metrics.stability import case_stability, paper_stability
from tests.lpips_fixtures import random_trunk

DATA = Path(__file__).parent / "data" / "lpips"
SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="module")
def true_lpips() -> Lpips:
    sibling = SHARED / "weights" / "alexnet_features.safetensors"
    try:
        return Lpips(load_trunk(download=False))
    except LpipsUnavailable as error:
        if lpips_trunk.ENVIRONMENT_VARIABLE not in os.environ and sibling.is_file():
            return Lpips(load_trunk(sibling))
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def random_lpips() -> Lpips:
    return Lpips(Trunk(random_trunk(), "a test"))


def theirs(lpips: Lpips, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The package's own forward of maps (N, 1 or 3, H, W)."""
    with torch.no_grad():
        return lpips.network(a.expand(-1, 3, -1, -1), b.expand(-1, 3, -1, -1), normalize=True).flatten().double()


@pytest.mark.parametrize("size", [(60, 50), (31, 31)])
def test_all_distances_are_the_packages_own_of_the_pairs(random_lpips, size):
    maps = torch.rand(4, 1, *size, generator=torch.Generator().manual_seed(3))
    maps[2] = maps[0]
    maps[3] = maps[1] + 1e-3 * maps[0]  # nearly the same
    distances = random_lpips.all_distances(random_lpips.features(maps))
    for i in range(4):
        expected = theirs(random_lpips, maps[i : i + 1].expand(4, -1, -1, -1), maps)
        assert torch.allclose(distances[i], expected, rtol=1e-4, atol=1e-9)
    assert distances.diagonal().abs().max() < 1e-12


def test_features_are_computed_once_per_map(random_lpips, monkeypatch):
    maps = np.random.default_rng(0).random((5, 1, 2, 40, 40), dtype=np.float32)  # 5 draws of 2 slices
    seen = []
    features = random_lpips.features
    monkeypatch.setattr(random_lpips, "features", lambda x: seen.append(len(x)) or features(x))
    case_stability(maps, maps > 0.5, random_lpips)
    assert seen == [5] * 4  # scores and masks of every slice, whatever the number of pairs
    seen.clear()
    paper_stability(maps, maps > 0.5, maps[0] > 0.5, random_lpips)
    assert seen == [5] * 4


def test_paper_mode_counts_every_image_in_lpips(random_lpips):
    masks = np.zeros((3, 1, 40, 40), bool)
    masks[1, 0, :20] = masks[2, 0, 10:] = True
    maps = torch.from_numpy(masks).float()
    expected = theirs(random_lpips, maps[:1].expand(2, -1, -1, -1), maps[1:]).mean()
    values = paper_stability(None, masks, masks[1], random_lpips)
    assert values["LPIPS/seg", 0] == pytest.approx(float(expected), rel=1e-5)
    assert (values["images/LPIPS/seg", 0], values["images/SSIM/seg", 0]) == (1, 0)


def test_building_it_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    Lpips(Trunk(random_trunk(), "a test"))
    assert torch.equal(torch.get_rng_state(), before)


def _image(name: str) -> torch.Tensor:
    pixels = np.asarray(Image.open(DATA / f"{name}.png").convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


def pair_distance(lpips: Lpips, a: torch.Tensor, b: torch.Tensor) -> float:
    return lpips.all_distances(lpips.features(torch.cat([a, b])))[0, 1].item()


def test_the_published_example(true_lpips):
    golden = json.loads((DATA / "lpips.json").read_text())["examples"]
    for name, expected in golden.items():
        assert pair_distance(true_lpips, _image("ex_ref"), _image(name)) == pytest.approx(expected, abs=1e-5)
    assert golden["ex_p0"] == pytest.approx(0.722, abs=5e-4)


def test_the_stability_maps(true_lpips):
    root = Path(os.environ.get("SDSEG_GOLDEN") or SHARED / "golden")
    folder = root / "sdseg" if (root / "sdseg").is_dir() else root
    path = folder / "stability_maps.safetensors"
    if not path.is_file():
        pytest.skip(f"{path.name} is not here; name its folder in SDSEG_GOLDEN")
    golden = json.loads((DATA / "lpips.json").read_text())
    images = [3, 4, 5]  # two runs are identical, the second run finds nothing, the first one finds nothing
    stored = load_file(path)["score_u8"][:, images]  # (3 runs, 3 images, H, W)
    for kind, maps in (("score", stored), ("seg", (stored > 127).byte() * 255)):
        released = released_pairs(maps.numpy(), true_lpips)
        expected = np.transpose([golden[kind]["0-1"], golden[kind]["0-2"]])[images]
        assert released.values["LPIPS"].numpy() == pytest.approx(expected, abs=1e-5)
        assert released.mean("LPIPS") == pytest.approx(expected.mean(), abs=1e-5)  # empty maps and identical pairs too
    values = case_stability(stored[:, :1].numpy() / np.float32(255), (stored[:, :1] > 127).numpy(), true_lpips)
    for kind in ("score", "seg"):
        expected = np.mean([golden[kind][pair][images[0]] for pair in ("0-1", "0-2", "1-2")])
        assert values[f"LPIPS/{kind}", 0] == pytest.approx(expected, abs=1e-5)

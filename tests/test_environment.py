"""Facts for the record, and the doctor."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from bench.command import doctor
from bench.command.doctor import Check, doctor_report
from bench.metrics import lpips_trunk
from bench.results import environment
from bench.results.environment import environment_facts, folder_revision, git_facts


def test_facts_survive_strict_json():
    facts = environment_facts()
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["packages"]["torch"] == torch.__version__
    assert set(environment.PACKAGES) == facts["packages"].keys()
    assert facts["torch"]["threads"] == torch.get_num_threads()
    assert facts["device"]["type"] in ("cpu", "cuda")
    assert facts["cpu"]["name"]


def test_facts_name_no_host_and_no_folder(monkeypatch):
    monkeypatch.setattr(platform, "node", lambda: "secret-host")
    text = json.dumps(environment_facts())
    assert "secret-host" not in text
    assert str(Path(environment.__file__).parents[1]) not in text


def test_a_package_that_is_not_there_is_none():
    assert environment.package_version("no-such-package-here") is None


def _git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_facts(tmp_path):
    assert git_facts(tmp_path) is None
    _git(tmp_path, "init")
    (tmp_path / "a").write_text("1")
    _git(tmp_path, "add", "a")
    _git(tmp_path, "commit", "-m", "first")
    clean = git_facts(tmp_path)
    assert clean is not None
    assert len(clean["commit"]) == 40
    assert clean["dirty"] is False
    (tmp_path / "a").write_text("2")
    assert git_facts(tmp_path) == clean | {"dirty": True}
    _git(tmp_path, "checkout", "a")
    assert git_facts(tmp_path) == clean
    (tmp_path / "new").write_text("not tracked")
    assert git_facts(tmp_path) == clean | {"dirty": True}
    assert folder_revision(tmp_path) == f"{clean['commit']}+changes"
    inside = tmp_path / "site-packages"
    inside.mkdir()
    assert git_facts(inside) is None  # installed below somebody else's repository


def test_the_doctor_gives_a_remedy_where_something_is_amiss(tmp_path):
    report = doctor_report(tmp_path / "runs")
    assert {"Python", "torch", "torchvision", "LPIPS trunk", "results folder"} <= {c.name for c in report}
    assert all(check.ok or check.remedy for check in report)
    assert all("\n" not in check.detail for check in report)
    assert not (tmp_path / "runs").exists()


def test_the_doctor_sees_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    assert doctor.check_torchvision()[:2] == ("torchvision", False)
    monkeypatch.setattr(doctor, "package_version", lambda name: None if name == "lpips" else "1")
    assert doctor.check_packages()[0][:3] == ("packages", False, "missing: lpips")
    monkeypatch.setattr(doctor, "MINIMUM_PYTHON", (9, 0))
    assert "9.0" in doctor.check_python().remedy
    file = tmp_path / "file"
    file.write_text("")
    assert not doctor.check_folder(file / "runs").ok


def test_the_doctor_looks_for_the_trunk_offline(monkeypatch, tmp_path):
    monkeypatch.setattr(lpips_trunk, "_downloaded", lambda: pytest.fail("the doctor must not download"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setenv("SDSEG_CACHE", str(tmp_path))
    monkeypatch.delenv(lpips_trunk.ENVIRONMENT_VARIABLE, raising=False)
    check = doctor.check_lpips()
    assert isinstance(check, Check)
    assert not check.ok
    monkeypatch.setenv(lpips_trunk.ENVIRONMENT_VARIABLE, str(tmp_path / "gone.safetensors"))
    assert "gone.safetensors" in doctor.check_lpips().detail


def test_a_processor_is_told_by_its_make_and_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"brand_raw": "A: B", "family": 6, "model": 85, "stepping": 7}
    monkeypatch.setattr(environment, "_processor", lambda: told)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    assert (environment.cpu_model(), environment.cpu_version()) == ("A: B", "6-85-7 AVX2")
    told.clear()
    assert environment.cpu_version() == "?-?-? AVX2"
    assert environment.cpu_model()

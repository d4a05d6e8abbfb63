"""Any terminal shows the output, and a pipe that closes early ends nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from bench.files import _HOST

ROOT = Path(__file__).parents[1]


def sdseg(*arguments: object, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "bench.cli", *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, capture_output=True, env=env)


def test_a_terminal_of_another_encoding(tmp_path: Path, example: Path) -> None:
    environment = {"PYTHONIOENCODING": "ascii", "LC_ALL": "POSIX"}
    for folder in ("p", "r"):
        (tmp_path / folder).mkdir()
        for name in ("größe", "数据"):
            Image.fromarray((np.eye(12) * 255).astype(np.uint8)).save(tmp_path / folder / f"{name}.png")
    done = sdseg("score-folder", tmp_path / "p", tmp_path / "r", "--out", tmp_path / "größe out", **environment)
    assert (done.returncode, b"1.0000" in done.stdout) == (0, True), done.stderr
    assert "größe" in (tmp_path / "größe out" / "scores.csv").read_text(encoding="utf-8")
    (tmp_path / "r" / "数据.png").unlink()
    done = sdseg("score-folder", tmp_path / "p", tmp_path / "r", "--out", tmp_path / "b", **environment)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: ")
    (tmp_path / "page").mkdir()
    left = tmp_path / "page" / f".part-{_HOST}-99999999-ab"  # of a process that cannot be
    left.write_text("half")
    done = sdseg("report", "--runs", example, "--out", tmp_path / "page", **environment)
    assert not left.exists()
    assert (done.returncode, b"Table 2" in done.stdout) == (0, True), done.stderr


def test_a_reader_that_has_enough_ends_nothing(example: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.cli", "report", "--runs", str(example), "--out", str(tmp_path / "page")]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    report = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    assert report.stdout is not None
    assert report.stderr is not None
    report.stdout.close()
    assert b"BrokenPipe" not in report.stderr.read()
    assert report.wait() == 0
    assert (tmp_path / "page" / "index.html").exists()

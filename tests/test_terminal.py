"""Any terminal shows the output, and a pipe that closes early ends nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from bench.files import _HOST
from tests.report_fixtures import dice_rows, write_run

ROOT = Path(__file__).parents[1]


EVERY = "import json, sys; from bench.cli import main; sys.exit(str([main(x) for x in json.loads(sys.argv[1])]))"


def sdseg(*commands: list[object], **environment: str) -> subprocess.Popen:
    """Commands after one another in a process of their own, which ends by writing their exit codes on stderr."""
    given = json.dumps(commands, default=str)
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", EVERY, given], env=env, **pipes)


def test_a_terminal_of_another_encoding(tmp_path: Path) -> None:
    for folder in ("p", "r", "q"):
        (tmp_path / folder).mkdir()
        for name in ("größe", "数据") if folder != "q" else ("größe",):
            Image.fromarray((np.eye(12) * 255).astype(np.uint8)).save(tmp_path / folder / f"{name}.png")
    write_run(tmp_path / "runs", scores=dice_rows({"größe": 0.5, "数据": 0.7}))
    (tmp_path / "page").mkdir()
    left = tmp_path / "page" / f".part-{_HOST}-99999999-ab"  # of a process that cannot be
    left.write_text("half")
    out, err = sdseg(
        ["score-folder", tmp_path / "p", tmp_path / "r", "--out", tmp_path / "größe out"],
        ["report", "--runs", tmp_path / "runs", "--out", tmp_path / "page"],
        ["score-folder", tmp_path / "p", tmp_path / "q", "--out", tmp_path / "b"],
        PYTHONIOENCODING="ascii",
        LC_ALL="POSIX",
    ).communicate()
    assert err.splitlines()[-1] == b"[0, 0, 2]", err
    assert b"1.0000" in out
    assert b"Table 2" in out
    assert err.splitlines()[-2].startswith(b"error: ")
    assert "größe" in (tmp_path / "größe out" / "scores.csv").read_text(encoding="utf-8")
    assert not left.exists()


def test_a_reader_that_has_enough_ends_nothing(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", scores=dice_rows({"a": 0.5}))
    report = sdseg(["report", "--runs", tmp_path / "runs", "--out", tmp_path / "page"])
    report.stdout.close()
    err = report.stderr.read()
    assert b"BrokenPipe" not in err
    assert err.splitlines()[-1] == b"[0]"
    assert (tmp_path / "page" / "index.html").exists()

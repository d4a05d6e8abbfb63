"""A prepared folder that is not free, a full disk, kills at every write, and two processes at once."""

from __future__ import annotations

import codecs
import os
import resource
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.raw_downloads import KVASIR, Whole, call, pack, visible, write_raw

NOBODY = 65534


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return Whole(tmp_path_factory.mktemp("whole"))


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may read and write everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody reaches, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


LOCKED = ("raw/Kvasir-SEG/images", f"raw/Kvasir-SEG/masks/{KVASIR[0]}.jpg", "raw.zip", "place")


@pytest.mark.parametrize("locked", LOCKED)
def test_what_may_not_be_read_or_written(
    locked: str, whole: Whole, open_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected, raw = whole.files("kvasir_seg"), write_raw("kvasir_seg", open_folder / "raw")
    source = pack(raw, open_folder / "raw.zip") if locked == "raw.zip" else raw
    out = open_folder / "place" / "out"
    out.parent.mkdir(mode=0o777)
    out.parent.chmod(0o777)
    mode = (open_folder / locked).stat().st_mode
    (open_folder / locked).chmod(0o555 if locked == "place" else 0o000)
    codecs.lookup("cp437")  # that of zip archives: Python itself may lie where only root reads
    with unprivileged():
        assert call("kvasir_seg", source, out) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {out if locked == 'place' else open_folder / locked}: ")
        assert line.endswith(("; make it readable, or replace it", "; make it readable", "; choose another folder"))
    (open_folder / locked).chmod(mode)
    with unprivileged():
        assert call("kvasir_seg", source, out) == 0
    assert visible(out) == expected


def a_file(out: Path) -> None:
    out.write_text("mine")


def other_files(out: Path) -> None:
    out.mkdir()
    (out / "notes.txt").write_text("mine")


def other_preprocessing(out: Path) -> None:
    assert call("refuge2", out.parent / "raw", out, "--preprocessing", "paper", "--set", "crop=20") == 0


def other_data_set(out: Path) -> None:
    assert call("sts3d", write_raw("sts3d", out.parent / "teeth"), out) == 0


def garbage(out: Path) -> None:
    out.mkdir()
    (out / "dataset.json").write_bytes(b"\xff{")


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (a_file, "out: cannot be written (File exists); choose another folder"),
        (other_files, "out: holds notes.txt; give --out an empty or a new folder"),
        (
            other_preprocessing,
            "out: holds refuge2 paper crop=20 (version 1), not refuge2 native (version 1); ",
        ),
        (other_data_set, "out: holds sts3d native (version 1), not refuge2 native (version 1); give another --out"),
        (garbage, "out/dataset.json: cannot be read; delete the folder"),
    ],
)
def test_an_out_that_is_taken(
    spoil: Callable[[Path], None], line: str, whole: Whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, out = write_raw("refuge2", tmp_path / "raw"), tmp_path / "out"
    spoil(out)
    before = visible(tmp_path)
    capsys.readouterr()
    assert call("refuge2", raw, out) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {tmp_path}/{line}")
    assert visible(tmp_path) == before
    assert call("refuge2", raw, tmp_path / "other") == 0
    assert visible(tmp_path / "other") == whole.files("refuge2")


def test_an_out_inside_the_source_and_around_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = write_raw("refuge2", tmp_path / "raw")
    before = visible(tmp_path)
    for out, line in ((raw / "out", "out: lies in "), (raw, "raw: lies in "), (tmp_path, ": holds raw; give --out")):
        assert call("refuge2", raw, out) == 2
        (error,) = capsys.readouterr().err.splitlines()
        assert error.startswith("error: ")
        assert line in error
        assert visible(tmp_path) == before


def test_settings_of_a_call_that_wrote_nothing_are_forgotten(whole: Whole, tmp_path: Path) -> None:
    raw = write_raw("refuge2", tmp_path / "raw")
    shutil.move(raw / "REFUGE2", tmp_path / "REFUGE2")
    assert call("refuge2", raw, tmp_path / "out", "--preprocessing", "paper") == 2
    assert not (tmp_path / "out").exists()
    shutil.move(tmp_path / "REFUGE2", raw / "REFUGE2")
    assert call("refuge2", raw, tmp_path / "out") == 0
    assert visible(tmp_path / "out") == whole.files("refuge2")


@contextmanager
def file_limit(count: int) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize("packed", [False, True])
def test_a_full_disk_at_every_size(
    packed: bool, whole: Whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The journal, an unpacked member, a case, the sheet: whatever does not fit."""
    expected, raw, out = whole.files("btcv"), write_raw("btcv", tmp_path / "raw"), tmp_path / "out"
    source = pack(raw, tmp_path / "raw.tar") if packed else raw
    for count in (10, 60, 200, 400, 900, 2000, 4000, 16000):
        with file_limit(count):
            assert call("btcv", source, out) == 3
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith(f"error: {out}")
        assert "make room" in line
        assert not list(out.rglob(".part-*"))
        assert not (out / "dataset.json").exists()
    assert call("btcv", source, out) == 0
    assert visible(out) == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_small_disk(whole: Whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected, raw, out = whole.files("btcv"), write_raw("btcv", tmp_path / "raw"), tmp_path / "disk" / "out"
    out.parent.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o"]
    if subprocess.run([*mount, "size=16k", "none", out.parent], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        assert call("btcv", pack(raw, tmp_path / "raw.zip"), out) == 3
        assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {out}")
        subprocess.run(["mount", "-o", "remount,size=8m", out.parent], check=True)
        assert call("btcv", tmp_path / "raw.zip", out) == 0
        assert visible(out) == expected
    finally:
        subprocess.run(["umount", out.parent], check=True)


def started(work: Callable[[], int]) -> int:
    """A process of its own that does this work."""
    if child := os.fork():
        return child
    code = 99
    try:
        code = work()
    finally:
        os._exit(code)


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_kill_before_every_write_takes_effect(whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at its n-th write to the disk, for every n; the same command goes on until nothing is left to do."""
    expected, raw = whole.files("refuge2"), write_raw("refuge2", tmp_path / "raw")
    source = pack(raw, tmp_path / "raw.zip")
    sync = os.fsync
    left = [0]

    def killing(descriptor: int) -> None:
        sync(descriptor)
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(os, "fsync", killing)
    for count in range(1, 60):
        left[0], out = count, tmp_path / f"out{count}"
        if ended(started(lambda: call("refuge2", source, out))) == 0:  # noqa: B023
            break
        assert not (out / "dataset.json").exists() or visible(out) == expected
        left[0] = 0
        assert call("refuge2", source, out) == 0
        assert visible(out) == expected
        assert not [path for path in out.rglob(".*") if path.is_file()]
        shutil.rmtree(out)
    assert count > 20


def test_two_processes_at_once(whole: Whole, tmp_path: Path) -> None:
    expected, raw, out = whole.files("refuge2"), write_raw("refuge2", tmp_path / "raw"), tmp_path / "out"
    children = [started(lambda: call("refuge2", raw, out)) for _ in range(3)]
    assert [ended(child) for child in children] == [0, 0, 0]
    assert visible(out) == expected


def test_a_torn_journal(whole: Whole, tmp_path: Path) -> None:
    raw, out = write_raw("refuge2", tmp_path / "raw"), tmp_path / "out"
    mask = raw / "REFUGE2" / "train" / "mask" / "g0001.bmp"
    good = mask.read_bytes()
    mask.write_bytes(good[: len(good) // 2])
    assert call("refuge2", raw, out) == 2
    journal = out / ".prepare.jsonl"
    rows = [line for line in journal.read_text().splitlines() if line]
    assert [word in row for word, row in zip(("native", "T0001", "V0001"), rows, strict=True)] == [True] * 3
    journal.write_text(journal.read_text()[:-30])
    mask.write_bytes(good)
    assert call("refuge2", raw, out) == 0
    assert visible(out) == whole.files("refuge2")

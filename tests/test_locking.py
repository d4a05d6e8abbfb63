"""Two processes on one folder: one works, the other waits and says for whom; what was killed leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import progress
from bench.errors import RunError
from bench.files import atomic_path, sweep_parts
from bench.results.locking import LOCK, locked
from sdseg.files import write_atomically
from tests.own_code import OwnCode

ROOT = Path(__file__).parents[1]


def start(code: str, *arguments: str, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


HOLD = """
    import sys
    from pathlib import Path
    from bench.results.locking import locked
    with locked(Path(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(progress, "note", said.append)
    return said


def test_the_second_waits_and_says_for_whom(tmp_path: Path, notes: list[str]) -> None:
    folder = tmp_path / "deep" / "run"
    with start(HOLD, str(folder), stdin=subprocess.PIPE) as first:
        assert first.stdout.readline() == "held\n"
        with start(HOLD, str(folder), stdin=subprocess.PIPE) as second:
            said = second.stderr.readline()
            assert said.startswith(f"{folder}: waiting, process {first.pid} on {os.uname().nodename} (for 0:0")
            first.communicate("")
            assert second.stdout.readline() == "held\n"
            second.communicate("")
    assert list(tmp_path.iterdir()) == []  # neither a lock nor the folders made for it stay
    assert notes == []


def test_a_killed_owner_blocks_nobody(tmp_path: Path, notes: list[str]) -> None:
    with start(HOLD, str(tmp_path), stdin=subprocess.PIPE) as first:
        first.stdout.readline()
        first.send_signal(signal.SIGKILL)
    assert (tmp_path / LOCK).exists()
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
        with locked(tmp_path / "..", below=False), locked(tmp_path):  # the same process may come again
            pass
        assert (tmp_path / LOCK).exists()
    assert not (tmp_path / LOCK).exists()
    assert notes == []


def test_a_group_of_processes_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with start(HOLD, str(tmp_path), stdin=subprocess.PIPE) as first:
        first.stdout.readline()
        with pytest.raises(RunError, match=f"process {first.pid} on"), locked(tmp_path):
            pass
        monkeypatch.setenv("RANK", "1")
        with locked(tmp_path):  # the first process of the group holds it
            pass
        first.communicate("")


def test_a_folder_that_cannot_be_locked_is_used_with_a_note(
    tmp_path: Path, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with locked(tmp_path), locked(tmp_path):
        pass
    assert notes == [f"{tmp_path}: cannot be locked (No locks available); let no other process work in it"]


def killed(write: Callable[[], None]) -> None:
    """A copy of this process writes, and is gone before it has written all."""
    if (copy := os.fork()) == 0:
        try:
            write()
        finally:
            os._exit(9)
    os.waitpid(copy, 0)


def half_written(path: Path) -> None:
    path.write_bytes(b"half")
    os._exit(9)


def test_what_killed_processes_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    def by_bench() -> None:
        with atomic_path(tmp_path / "predictions" / "case.v1.nii.gz") as part:
            half_written(part)

    killed(by_bench)
    killed(lambda: write_atomically(tmp_path / "model" / "best.pt", half_written))
    assert len(list(tmp_path.rglob(".part-*"))) == 2
    mine, foreign, old = tmp_path / "now", tmp_path / ".part-of-mine", tmp_path / ".part-ab12_cde.npz"
    foreign.write_text("")
    old.write_text("")
    with atomic_path(mine) as part:
        sweep_parts(tmp_path)
        assert len(list(tmp_path.rglob(".part-*"))) == 5  # only the folder itself was looked through
        with locked(tmp_path, below=True):
            assert sorted(tmp_path.rglob(".part-*")) == sorted([foreign, old, part])
    os.utime(old, (time.time() - 90000,) * 2)
    os.utime(foreign, (time.time() - 90000,) * 2)
    sweep_parts(tmp_path)
    assert list(tmp_path.rglob(".part-*")) == [foreign]


def test_a_number_that_a_later_process_has_is_no_owner(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "x") as part:
        os.utime(part, (1000.0, 1000.0))
        sweep_parts(tmp_path)
        assert not part.exists()
        part.write_text("")


def test_modes_follow_the_umask(tmp_path: Path) -> None:
    from reports.files import write_atomic

    old = os.umask(0o027)
    try:
        with atomic_path(tmp_path / "bench.csv") as part:
            part.write_text("a")
        write_atomically(tmp_path / "sdseg", lambda path: path.write_text("a"))
        write_atomic(tmp_path / "reports", "a")
    finally:
        os.umask(old)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}


FULL = """
    import resource, sys
    from pathlib import Path
    import numpy, torch
    from bench.files import atomic_path
    from sdseg.files import write_atomically
    folder = Path(sys.argv[1])
    torch_file = lambda: write_atomically(folder / "training.pt", lambda path: torch.save(torch.zeros(10**6), path))
    def array():
        with atomic_path(folder / "case.npz") as part, part.open("wb") as file:
            numpy.savez(file, x=numpy.zeros(10**6))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    for write in (torch_file, array):
        try:
            write()
        except Exception as error:
            print(type(error).__name__, error)
"""


def test_a_full_disk_is_one_line_that_names_the_folder(tmp_path: Path) -> None:
    told = start(FULL, str(tmp_path)).communicate()[0].splitlines()
    rest = f"{tmp_path}: full (File too large); make room there, then the same command goes on"
    assert told == [f"OSError {rest}", f"RunError {rest}"]
    assert list(tmp_path.iterdir()) == []


# Whoever trains goes on when the other has said that it waits.
FIT = """
        import pathlib, time
        (workdir / "times.txt").open("a").write("fitted ")
        for _ in range(300):
            if any("waiting" in path.read_text() for path in pathlib.Path({!r}).glob("*.err")):
                break
            time.sleep(0.1)
        return"""


# Two commands in copies of a process that has imported what they need.
PAIR = """
    import os, sys
    import bench.cli, bench.runner, bench.scoring.run
    for name in ("a", "b"):
        if os.fork() == 0:
            for descriptor, end in ((1, "out"), (2, "err")):
                os.dup2(os.open(f"{sys.argv[1]}/{name}.{end}", os.O_CREAT | os.O_WRONLY), descriptor)
            code = bench.cli.main(sys.argv[2:])
            sys.stdout.flush()
            os._exit(code)
    print([os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(2)])
"""


def test_two_commands_on_one_run_train_once_and_both_end_well(own_code: OwnCode, tmp_path: Path) -> None:
    own_code.edit("own_method", "\n        return {", f"{FIT.format(str(tmp_path))} {{")
    options = ["method=own", "dataset=own_data", "draws=1", "image_size=32", "metrics=[Dice]"]
    path = {**os.environ, "PYTHONPATH": f"{own_code.root}:{ROOT}"}
    ended = start(PAIR, str(tmp_path), "run", *options, f"runs_dir={tmp_path / 'runs'}", env=path).communicate()
    out, err = ([(tmp_path / f"{name}.{end}").read_text() for name in "ab"] for end in ("out", "err"))
    assert ended[0] == "[0, 0]\n", (ended, err)
    assert out[0] == out[1] != ""  # one run folder, one set of numbers
    assert sum("waiting, process" in text for text in err) == 1, err
    assert next(tmp_path.rglob("times.txt")).read_text() == "fitted "
    assert not [*tmp_path.rglob(".part-*"), *tmp_path.rglob(LOCK)]

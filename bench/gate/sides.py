"""Another revision beside this one: its source, its results, and both timed in turn on this machine.

Everything lies below `runs/.gate/COMMIT`: `source`, a git worktree; `made`, the results of a cell by the hash of what
was asked and of the machine, never made twice; `timed`, a copy to work on. Each revision trains, predicts and scores by
its own code and recipes. The matrix, the settings and the stop watch are today's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import progress
from bench.config import Cell
from bench.errors import BAD_INPUT, InputError, RunError
from bench.files import digest, write_json
from bench.results.environment import device_facts
from bench.results.locking import locked

CACHE = Path("runs") / ".gate"
_ROOT = Path(__file__).resolve().parents[2]
# As whom the state of a working tree is kept: with a fixed date, one content has one name.
_WHO = {"NAME": "gate", "EMAIL": "gate@localhost", "DATE": "2000-01-01T00:00:00Z"}
_NOBODY = {f"GIT_{who}_{what}": word for who in ("AUTHOR", "COMMITTER") for what, word in _WHO.items()}


def git(*arguments: str, **environment: str) -> str:
    """What git says of this repository; InputError with its words where it refuses."""
    command = ["git", "-C", str(_ROOT), *arguments]
    try:
        known = {**os.environ, **environment}
        done = subprocess.run(command, capture_output=True, encoding="utf-8", env=known, check=True)
    except FileNotFoundError as error:
        raise InputError("gate: git is not installed, and another revision cannot be had without it") from error
    except subprocess.CalledProcessError as error:
        raise InputError(f"gate: git {arguments[0]}: {error.stderr.strip().splitlines()[-1]}") from error
    return done.stdout.strip()


def commit_of(revision: str) -> str:
    """The commit that a revision names."""
    try:
        return git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    except (InputError, IndexError) as error:
        raise InputError(f"--against {revision}: no revision of {_ROOT}; fetch it (git fetch --unshallow)") from error


def working_commit() -> str:
    """HEAD, or where files differ from it a commit of the working tree that no branch knows."""
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        git("read-tree", "HEAD", **index)
        git("add", "--all", **index)
        tree = git("write-tree", **index)
    if tree == git("rev-parse", "HEAD^{tree}"):
        return commit_of("HEAD")
    return git("commit-tree", tree, "-p", "HEAD", "-m", "working tree", **_NOBODY)


class NotKnown(str):
    """Why a revision has no such run: it refuses it, as it does a method that came later."""

    __slots__ = ()


@dataclass(frozen=True)
class Side:
    """One of two revisions."""

    name: str
    commit: str

    @property
    def folder(self) -> Path:
        """Where everything of it lies."""
        return CACHE.absolute() / self.commit[:12]

    @property
    def source(self) -> Path:
        """Its files."""
        return self.folder / "source"

    def check_out(self) -> None:
        """Bring its source here, with an environment of its own where it asks for other packages."""
        with locked(self.folder):
            if not (self.source / "pyproject.toml").exists():
                shutil.rmtree(self.source, ignore_errors=True)
                git("worktree", "prune")
                git("worktree", "add", "--detach", str(self.source), self.commit)
            if _packages(self.source) != _packages(_ROOT) and not self._own_python.exists():
                progress.note(f"{self.name}: other packages than here, which are installed into {self._own_python}")
                words = ["make", "-C", str(self.source), f"PYTHON={sys.executable}", ".venv/.installed"]
                if subprocess.run(words).returncode:
                    raise RunError(
                        f"{self.source}: its packages cannot be installed; make .venv/.installed there says why"
                    )

    @property
    def _own_python(self) -> Path:
        return self.source / ".venv" / "bin" / "python"

    def command(self, *arguments: str) -> tuple[list[str], dict[str, str]]:
        """A command line of its python, and the environment in which it imports its source."""
        python = str(self._own_python if self._own_python.exists() else sys.executable)
        return [python, "-P", *arguments], {**os.environ, "PYTHONPATH": str(self.source)}

    def make(self, cell: Sequence[str]) -> Path | str:
        """The run folder of a cell, trained, predicted and scored unless that was done before; why not in a word."""
        asked = {"cell": list(cell), "machine": device_facts(_device(cell)), "cores": os.cpu_count()}
        folder = self.folder / "made" / digest(asked)[:12]
        with locked(folder):
            done = folder / "done.json"
            if not done.exists():
                progress.note(f"{self.name} ({self.commit[:8]}): {' '.join(cell)}")
                line, environment = self.command("-m", "bench.cli", "run", *cell, f"runs_dir={folder / 'runs'}")
                code = subprocess.run(line, env=environment, stdout=subprocess.DEVNULL).returncode
                if code == BAD_INPUT:
                    return NotKnown(f"{self.name}: refuses this run, its words are above")
                if code:
                    return f"{self.name}: sdseg run left with {code}, its words are above"
                write_json(done, asked)
        (record,) = (folder / "runs").glob("*/*/*/record.json")
        return record.parent


def _device(cell: Sequence[str]) -> str:
    from bench.device import resolve

    return resolve(dict(o.split("=", 1) for o in cell).get("device", "auto"))


def _packages(source: Path) -> list[Any]:
    """What a revision wants installed."""
    project = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    constraints = source / "constraints.txt"
    return [
        project.get("dependencies"),
        project.get("requires-python"),
        constraints.read_text(encoding="utf-8") if constraints.exists() else "",
    ]


def cell_overrides(cell: Cell, overrides: Sequence[str]) -> list[str]:
    """A cell of today's matrix, as words for any revision: what was asked for, without where results lie."""
    axes = ("methods", "datasets", "seeds", "runs_dir")
    own = [o for o in overrides if o.partition("=")[0] not in axes and not o.startswith("gate.")]
    named = [] if any(o.startswith("method=") for o in own) else [f"methods=[{cell.method}]"]
    named += [] if any(o.startswith("dataset=") for o in own) else [f"datasets=[{cell.dataset}]"]
    given = {o.partition("=")[0] for o in own}
    fixed = [f"{k}={cell.config[k]}" for k in ("draws", "image_size", "threads") if k not in given]
    return [*own, *named, f"seeds=[{cell.seed}]", *(f if not f.endswith("=None") else f[:-4] + "null" for f in fixed)]

"""What a report was made of and what it wrote, by content: `report.json`, which `sdseg verify` reads."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports.frame import Frame

NAME = "report.json"
SCHEMA = 1
MISSING = "missing"
_READ = ("record.json", "scores.parquet", "conventions.parquet")  # of a run, beside the pictures in its folders
_FOLDERS = ("gallery", "model/traces")

Write = Callable[[Path, str | bytes], None]


@dataclass(frozen=True)
class Manifest:
    """`runs` and `published` by path with their hashes, `files` that were written, `spelled` the runs folder as given.

    Paths are absolute here and relative to the report on disk.
    """

    runs_dir: Path
    spelled: str
    runs: dict[Path, dict[str, str]]
    published: dict[Path, str]
    files: dict[str, str]


class Sealing:
    """Writes the files of a report and remembers their hashes, for its manifest."""

    def __init__(self, write: Write, out: Path) -> None:
        self._write, self._out = write, out
        self._files: dict[str, str] = {}

    def write(self, path: Path, content: str | bytes) -> None:
        """Put a file in its place."""
        self._write(path, content)
        data = content.encode("utf-8") if isinstance(content, str) else content
        self._files[path.relative_to(self._out).as_posix()] = hashlib.sha256(data).hexdigest()

    def seal(self, path: Path) -> None:
        """Count a file that is there as one of the report's."""
        self._files[path.relative_to(self._out).as_posix()] = sha256(path)

    def finish(self, frame: Frame, runs_dir: Path, published: Sequence[Path], live: bool) -> None:
        """Write the manifest, which says that the report is whole."""
        content = {
            "schema": SCHEMA,
            "live": live,
            "runs_dir": self._relative(runs_dir),
            "runs_dir_given": str(runs_dir),
            "runs": {self._relative(folder): run_hashes(folder) for folder in frame.folders},
            "published": {self._relative(path): sha256(path) for path in published},
            "files": dict(sorted(self._files.items())),
        }
        self._write(self._out / NAME, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def _relative(self, path: Path) -> str:
        return Path(os.path.relpath(path.resolve(), self._out.resolve())).as_posix()


def read_manifest(report: Path) -> Manifest:
    """The manifest of a report folder; ValueError naming the file and what to do."""
    path = report / NAME
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        if content["schema"] != SCHEMA:
            raise ValueError(f"schema {content['schema']}, expected {SCHEMA}")
        if content["live"]:
            raise ValueError("sdseg report --watch keeps it new; end that")

        def placed(hashes: dict[str, Any]) -> dict[Path, Any]:
            return {Path(os.path.normpath(report.resolve() / name)): value for name, value in hashes.items()}

        (runs_dir,) = placed({content["runs_dir"]: ""})
        runs, published = placed(content["runs"]), placed(content["published"])
        return Manifest(runs_dir, content["runs_dir_given"], runs, published, dict(content["files"]))
    except FileNotFoundError as error:
        raise ValueError(f"{path}: missing, so this is no report, or one of before; sdseg report makes it") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not the manifest of a report ({reason}); make the report again") from error


def run_hashes(folder: Path) -> dict[str, str]:
    """sha256 by name of everything in a run folder that a report reads."""
    return {path.relative_to(folder).as_posix(): sha256(path) for path in _read_files(folder)}


def sha256(path: Path) -> str:
    """Of a file's content; MISSING where there is none."""
    if not path.is_file():
        return MISSING
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def differing(sealed: dict[str, str], today: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    """(name, sealed, today's) of every hash that is not the same in both."""
    for name in sorted(sealed.keys() | today.keys()):
        pair = sealed.get(name, MISSING), today.get(name, MISSING)
        if pair[0] != pair[1]:
            yield name, *pair


def _read_files(folder: Path) -> Iterator[Path]:
    yield from (path for name in _READ if (path := folder / name).is_file())
    for name in _FOLDERS:
        yield from sorted(path for path in (folder / name).rglob("[!.]*") if path.is_file())

"""`sdseg prepare`: a raw download of one of the paper's data sets into a prepared folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.datasets.mini import write_mini
from bench.datasets.preparing import RAW, key_of, known, prepare
from bench.errors import InputError
from bench.results.locking import locked
from bench.results.outputs import check_apart

MINI = Path("mini")


def prepare_folder(
    name: str, source: Path | None, out: Path, preprocessing: str, settings: list[str], partial: bool
) -> list[str]:
    """Prepare and return what to say, a line each; the options of `settings` are KEY=VALUE."""
    benchmark, options = known(name), _options(settings)
    if source == MINI and preprocessing == "paper":
        options = {**benchmark.mini, **options}
    key_of(benchmark, preprocessing, options)  # refuses before anything is drawn
    if source != MINI:
        check_apart(out, source)
    with locked(out, below=True):
        if source == MINI:
            source, partial = write_mini(name, out / RAW / "mini"), True
        info = prepare(name, source, out, preprocessing, options, partial)
    return _said(info, out)


def _options(settings: list[str]) -> dict[str, Any]:
    pairs = [text.partition("=") for text in settings]
    for key, sign, _ in pairs:
        if not (key and sign):
            raise InputError(f"--set {key}: expected KEY=VALUE")
    return {key: int(value) if value.isdecimal() else value for key, _, value in pairs}


def _said(info: dict[str, Any], out: Path) -> list[str]:
    cases, published = len(info["cases"]), info["published_cases"]
    lines = [f"{info['title']}: {cases} cases" + ("" if cases == published else f" of {published}")]
    for name, split in info["splits"].items():
        lines.append(f"  split {name}: {split['train']} train, {split['val']} val, {split['test']} test")
    lines.append(f"  look at {out / 'sheet.png'}, then: sdseg audit {out}")
    return [*lines, f"  use it: sdseg run dataset={info['name']} dataset.root={out}"]

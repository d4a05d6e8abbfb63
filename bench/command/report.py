"""`sdseg report`: tables, figures and the page from the records, once or again and again while runs go on."""

from __future__ import annotations

import argparse
import time
import webbrowser
from pathlib import Path
from typing import Any

from bench.command.terminal import complain, say
from bench.errors import DONE, InputError
from bench.files import sweep_parts
from bench.importing import import_by_name
from bench.results.outputs import OutputFolder

REST = 4  # a report made again takes at most a fifth of the time


def report(parsed: argparse.Namespace, _: list[str]) -> int:
    """Write the report, open it and keep it new as asked for; Ctrl-C ends that."""
    if not parsed.runs.is_dir():
        raise InputError(f"{parsed.runs}: no such folder; give --runs DIR, or make runs with sdseg run")
    if parsed.watch is not None and not parsed.watch > 0:
        raise InputError(f"--watch {parsed.watch:g}: give a number of seconds above 0")
    try:
        import_by_name("reports.published.read_ledgers")(parsed.published)
        if parsed.against:
            import_by_name("reports.against.read_tables")(parsed.against)
    except ValueError as error:
        raise InputError(str(error)) from error
    seen = _look(parsed)
    result = _of(parsed, live=parsed.watch is not None, against=parsed.against)
    warn(result)
    say(result.text)
    say(f"page: {result.index}")
    if parsed.open and not webbrowser.open(result.index.resolve().as_uri()):
        complain(f"no browser to be had here; open {result.index.resolve()} in one")
    if parsed.watch is not None:
        _watch(parsed, seen)
    return DONE


def build(runs: Path, out: Path | None = None, **options: Any) -> Any:
    """Build the report of a folder of runs; `options` are those of `build_report`."""
    # The folder inside RUNS is the report's own; another one may hold other things.
    if out is not None and out.resolve() != (runs / "report").resolve():
        options["write"] = OutputFolder(out).put
    sweep_parts(out or runs / "report", below=True)
    return import_by_name("reports.build.build_report")(runs, out, **options)


def warn(result: Any) -> None:
    """Print the warnings of a report."""
    for warning in result.warnings:
        complain(f"warning: {warning}")


def _of(parsed: argparse.Namespace, **options: Any) -> Any:
    return build(parsed.runs, parsed.out, published=parsed.published, **options)


def _look(parsed: argparse.Namespace) -> Any:
    return import_by_name("reports.watching.look")(parsed.runs)


def _watch(parsed: argparse.Namespace, seen: Any) -> None:
    complain(f"watching {parsed.runs}; Ctrl-C ends")
    for line in seen.progress:
        complain(line)
    rested = 0.0
    try:
        while True:
            time.sleep(parsed.watch)
            now = _look(parsed)
            for line in now.progress:
                if line not in seen.progress:
                    complain(line)
            if now == seen or time.monotonic() < rested:
                continue
            begun, seen = time.monotonic(), now
            result = _of(parsed, live=True)
            rested = time.monotonic() + REST * (time.monotonic() - begun)
            complain(f"page: {result.index}, {now.ended} runs, {len(now.progress)} not ended")
    except KeyboardInterrupt:
        say(f"page: {_of(parsed, live=False).index}")

"""What of a run is there already: of which day, by which code; said in one line, and made again on request."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Literal, NamedTuple

from bench.files import write_json
from bench.record import RunRecord
from bench.results.store import RunFolder
from bench.sources import method_code, scoring_code

STEPS = ("fit", "predict", "score")
UNKNOWN = "unknown"


class Reused(NamedTuple):
    """A result that stays: in words, the step that made it, and whether that was the code installed now."""

    what: str
    step: str
    day: str
    code: str

    @property
    def origin(self) -> str:
        """Its day and its code."""
        hint = f" (--redo {self.step} makes them again)" if self.code == "other code" else ""
        return f"of {self.day}, {self.code}{hint}"


def note_step(folder: RunFolder, step: str, code: str) -> None:
    """Remember, before a step works, the hash of its code; what other code left there unfinished stays known."""
    steps = folder.steps()
    there = any(True for _ in _unfinished(folder, step))
    before = steps.get(step, {"codes": [UNKNOWN]})["codes"] if there else []
    steps[step] = {"date": date.today().isoformat(), "codes": list(dict.fromkeys([*before, code]))}
    folder.write_steps(steps)


def _unfinished(folder: RunFolder, step: str) -> Iterator[Path]:
    """Files that a step would go on from."""
    patterns = {"fit": "model/training.pt", "predict": "predictions/draw-*/*.npz"}  # what scoring keeps is of one code
    return folder.path.glob(patterns[step]) if step in patterns else iter(())


def origin(folder: RunFolder, what: str, step: str, code: str) -> Reused:
    """Where a step's result comes from, beside the hash of the code installed now."""
    known = folder.steps().get(step)
    if known is None:
        return Reused(what, step, _day(folder, step), "code unknown")
    return Reused(what, step, known["date"], "same code" if known["codes"] == [code] else "other code")


def _day(folder: RunFolder, step: str) -> str:
    marks = {"fit": folder.model / "fit.json", "predict": folder.path / "predictions", "score": folder.scores_path}
    return date.fromtimestamp(marks[step].stat().st_mtime).isoformat()


def code_state(record: RunRecord) -> Literal["same", "other", "unknown"]:
    """Whether all steps of a record were made by the code that is installed now."""
    method = method_code(record.config.get("method") or {})
    installed = {"fit": method, "predict": method, "score": scoring_code()}
    codes = {step: record.code.get(step, {}).get("codes", [UNKNOWN]) for step in STEPS}
    if any(code not in (installed[step], UNKNOWN) for step, made_by in codes.items() for code in made_by):
        return "other"
    return "unknown" if any(UNKNOWN in made_by for made_by in codes.values()) else "same"


def reuse_line(results: list[Reused]) -> str:
    """As "reused: fit and predictions of 2026-11-20, same code"; those of one origin together, nothing for nothing."""
    by_origin: dict[str, list[str]] = {}
    for one in results:
        by_origin.setdefault(one.origin, []).append(one.what)
    said = [f"{_listed(names)} {where}" for where, names in by_origin.items()]
    return f"reused: {'; '.join(said)}" if said else ""


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def forget(folder: RunFolder, step: str) -> None:
    """Delete what a step and those after it left, the last first; a kill leaves no result without its origin."""
    steps = folder.steps()
    for name in reversed(STEPS[STEPS.index(step) :]):
        for path in _results(folder, name):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        if steps.pop(name, None) is not None:
            folder.write_steps(steps)
    threads = folder.threads()
    if threads.keys() & set(STEPS[STEPS.index(step) :]):
        kept = {name: counts for name, counts in threads.items() if name in STEPS[: STEPS.index(step)]}
        write_json(folder.path / "threads.json", kept)
    if step == "fit":  # nothing is left that earlier code has made
        (folder.path / "revisions.json").unlink(missing_ok=True)


def _results(folder: RunFolder, step: str) -> list[Path]:
    if step == "fit":
        return [folder.model / "fit.json", *folder.model.glob("*")]
    if step == "predict":
        # What was measured of the old predictions is in the record.
        return [folder.record_path, folder.path / "predictions"] if (folder.path / "predictions").exists() else []
    return [folder.scores_path, folder.conventions_path, *folder.path.glob("scoring-*")]

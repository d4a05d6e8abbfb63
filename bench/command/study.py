"""`sdseg study`: a whole plan of runs, shown or carried out here or by a launcher, then the report."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

from bench.command.announcement import PREDICTION, STEP, known_of, twins
from bench.command.arguments import LAUNCHERS
from bench.command.prepare import MINI, prepare_folder
from bench.command.report import build, warn
from bench.command.sweeps import run_jobs
from bench.command.terminal import complain, say
from bench.errors import DONE, InputError, NotApplicableError
from bench.measure.cost import FOOTPRINT
from bench.results.environment import package_version
from bench.results.locking import held
from bench.runner import Run
from bench.scoring.run import scored_as
from bench.study import Planned, Study, planned, read_study

_ATTEMPTS = 3  # of a cell whose process dies


class Stand(NamedTuple):
    """How far a cell is, and what is left of it, None where that is not known."""

    state: str
    hours: float | None = None
    gigabytes: float | None = None


def show_plan(name: str, overrides: Sequence[str]) -> str:
    """Every cell of a study, what it feeds, how far it is, and what is left in hours and gigabytes."""
    study = read_study(name, overrides)
    _prepare_data(study)
    cells = planned(study, overrides)
    stands = [_stand(one) for one in cells]
    rows = [
        (
            one.cell.id,
            ", ".join(one.feeds),
            stand.state.partition(":")[0],
            _number(stand.hours),
            _number(stand.gigabytes),
        )
        for one, stand in zip(cells, stands, strict=True)
    ]
    table = tabulate(rows, ("cell", "feeds", "state", "hours", "GB"), tablefmt="simple", disable_numparse=True)
    unknown = next((one for one, stand in zip(cells, stands, strict=True) if stand.gigabytes is None), None)
    left_out = dict.fromkeys(stand.state for stand in stands if stand.state.startswith("left out"))
    more = [_how_to_know(name, overrides, unknown)] if unknown else []
    return "\n".join([table, "", *left_out, _total(stands), *more])


def carry_out(name: str, overrides: Sequence[str], launcher: str | None) -> int:
    """Do what is not done of a study and report; a cell that fails does not stop the rest. Returns the exit code."""
    study = read_study(name, overrides)
    if launcher:
        _check_installed(launcher)
    _prepare_data(study)
    cells = planned(study, overrides)
    complain(f"study {name}: {len(cells)} cells; {_total(stands := [_stand(one) for one in cells])}")
    waiting = [
        one for one, stand in zip(cells, stands, strict=True) if not stand.state.startswith(("done", "left out"))
    ]
    settings = [one for one in overrides if one.startswith(("hydra.", "hydra/"))]
    code = _launched(waiting, launcher, settings) if launcher else max(_one_by_one(waiting), default=DONE)
    runs_dir = Path(cells[0].cell.config["runs_dir"])
    warn(result := build(runs_dir))
    say(f"page: {result.index}")
    return code


def _check_installed(launcher: str) -> None:
    """InputError where Hydra's plug-in is missing, before data are drawn for it."""
    package = f"hydra-{launcher.partition('_')[0]}-launcher"
    if package_version(package) is None:
        raise InputError(f"--launcher {launcher}: {package} is not installed; pip install {package}")


def _prepare_data(study: Study) -> None:
    """Draw the miniatures that are missing; raises InputError with the commands for other data that is."""
    missing = []
    for name, data in study.data.items():
        folder = study.data_dir / name
        if data.source == "built_in" or (folder / "dataset.json").exists():
            continue
        if data.source == "mini":
            complain(f"{prepare_folder(name, MINI, folder, data.preprocessing, [], False)[0]}; in {folder}")
        else:
            missing.append(f"sdseg prepare {name} --source RAW --out {folder} --preprocessing {data.preprocessing}")
    if missing:
        raise InputError(f"study {study.name}: data missing, or choose datasets=[...]; {'; '.join(missing)}")


def _launched(cells: Sequence[Planned], launcher: str, settings: Sequence[str]) -> int:
    """The largest exit code of cells that a launcher does; costs come last and one by one, for none to disturb them."""
    chosen = [f"hydra/launcher={LAUNCHERS[launcher]}", *settings]
    codes = run_jobs("run", [one.overrides for one in cells], chosen, attempts=_ATTEMPTS)
    costly = [one.overrides for one, code in zip(cells, codes, strict=True) if one.measure and code == DONE]
    alone = chosen if launcher == "submitit" else []  # a job of a cluster has a machine, or its share of one, to itself
    return max([*codes, *run_jobs("measure", costly, alone, attempts=_ATTEMPTS)], default=DONE)


def _one_by_one(cells: Sequence[Planned]) -> Iterator[int]:
    """Exit codes of cells done here, those first that no other process works on."""
    waiting, done = list(cells), 0
    while waiting:
        one = next((one for one in waiting if not held(Run(one.cell).folder.path)), waiting[0])
        waiting.remove(one)
        done += 1
        complain(f"study: {done} of {len(cells)}, {one.cell.id}")
        yield from (code := run_jobs("run", [one.overrides], []))
        if one.measure and code == [DONE]:
            yield from run_jobs("measure", [one.overrides], [])


def _stand(one: Planned) -> Stand:
    try:
        run = Run(one.cell)
    except NotApplicableError as error:
        return Stand(f"left out: {error}", 0.0, 0.0)
    folder, fitted = run.folder, run.folder.fit_facts() is not None
    scored = folder.record_path.exists() and bool(scored_as(one.cell, folder))
    if scored and not (one.measure and _unmeasured(run)):
        return Stand("done", 0.0, 0.0)
    begun = (folder.model / "training.pt").exists()
    state = "scored" if scored else "fitted" if fitted else "begun" if begun else "open"
    return Stand(state, None if scored else _hours(run, fitted), _gigabytes(run))


def _unmeasured(run: Run) -> bool:
    return not {score.metric for score in run.folder.read_record().scores} & set(FOOTPRINT)


def _hours(run: Run, fitted: bool) -> float | None:
    """Training and answers that are missing, by what they took in other runs of the method on the data set."""
    recipe = run.cell.config["method"].get("recipe") or {}
    steps = 0 if fitted else int(recipe.get("steps", 0))
    step = known_of(run, *STEP) if steps else 0.0
    answer = known_of(run, *PREDICTION)
    if step is None or answer is None:
        return None
    return (steps * step + len(run.missing_predictions()) * answer) / 3600


def _gigabytes(run: Run) -> float | None:
    for folder in twins(run, "record.json"):
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9
    return None


def _total(stands: Sequence[Stand]) -> str:
    states = Counter("left out" if stand.state.startswith("left out") else stand.state for stand in stands)
    parts = [", ".join(f"{count} {state}" for state, count in states.items())]
    for unit, values in (("h", [s.hours for s in stands]), ("GB", [s.gigabytes for s in stands])):
        known = [value for value in values if value is not None]
        unknown = len(values) - len(known)
        parts.append(f"about {sum(known):.2f} {unit} left" + (f", without {unknown} cells marked ?" if unknown else ""))
    return "; ".join(parts)


def _how_to_know(name: str, overrides: Sequence[str], one: Planned) -> str:
    """What a question mark means, and how the first cell that has one gets a number."""
    axes = [f"{key}s=[{value}]" for key, _, value in (axis.partition("=") for axis in one.overrides[:3])]
    command = shlex.join(["sdseg", "study", name, *overrides, *axes, "train.steps=20"])
    return (
        f"?: the method has not run on the data set in {one.cell.config['runs_dir']} yet; its first seed to end "
        f"tells of the others, or a short run, to be deleted before the report: {command}"
    )


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.2f}"

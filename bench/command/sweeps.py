"""Sweeps: every combination of values is a job, in this process or, with a launcher, in others that may die."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from bench import progress
from bench.command.arguments import SWEEP
from bench.command.steps import run_cells
from bench.command.terminal import complain, say
from bench.config import expand, register_schema
from bench.declared import CONF_DIR
from bench.errors import BAD_INPUT, DONE, RUN_FAILED, InputError, one_line
from bench.files import write_json
from bench.jobs import sweep_jobs, with_points
from bench.quoting import quote_overrides

# Hidden, so that a report does not take it for results.
_FOLDER = Path("runs") / ".sweeps"
_WATCH_S = 1.0


def sweep(verb: str, overrides: list[str], redo: str | None = None) -> int:
    """Do a verb for every job and return the largest exit code; a job whose process died is a run that failed."""
    plain = quote_overrides((o for o in overrides if o not in SWEEP), sweep=True)
    jobs = with_points(sweep_jobs(plain))
    for job in jobs:
        expand(job)  # every job is checked before the first one starts
    return max(run_jobs(verb, jobs, [o for o in plain if o.startswith(("hydra.", "hydra/"))], redo), default=DONE)


def run_jobs(
    verb: str, jobs: list[list[str]], settings: list[str], redo: str | None = None, attempts: int = 1
) -> list[int]:
    """The exit codes of jobs, which the launcher does that `settings` of Hydra name, by default one after another.

    A job whose process died is done again, `attempts` times in all; then it is a run that failed.
    """
    folder = next((Path(o.partition("=")[2]) for o in settings if o.startswith("hydra.sweep.dir=")), _FOLDER)
    answers = folder.absolute() / f"answers-{os.getpid()}-{secrets.token_hex(4)}"
    codes: dict[int, int] = {}
    if not jobs:
        return []
    for last in [False] * (attempts - 1) + [True]:
        waiting = [number for number in range(len(jobs)) if number not in codes]
        try:
            with _watched(answers, len(waiting)) if _elsewhere(settings) else nullcontext():
                fault = _launch(verb, redo, [jobs[number] for number in waiting], settings, answers)
            for place, number in enumerate(waiting):
                code = _outcome(jobs[number], answers / f"{place}.json", fault, last)
                codes |= {} if code is None else {number: code}
        finally:
            shutil.rmtree(answers, ignore_errors=True)
        if len(codes) == len(jobs):
            break
    return [codes[number] for number in range(len(jobs))]


def _elsewhere(settings: list[str]) -> bool:
    return any(o.startswith("hydra/launcher=") and not o.endswith("=basic") for o in settings)


@contextmanager
def _watched(answers: Path, total: int) -> Iterator[None]:
    """Report how many jobs of other processes have ended, while they run."""
    ended: set[Path] = set()
    stop = threading.Event()

    def look() -> None:
        for path in set(answers.glob("[!.]*.json")) - ended:
            if json.loads(path.read_text(encoding="utf-8"))["code"] is not None:
                ended.add(path)
                progress.report("jobs ended", len(ended), total)

    def watch() -> None:
        while not stop.wait(_WATCH_S):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        look()


def _launch(verb: str, redo: str | None, jobs: list[list[str]], settings: list[str], answers: Path) -> str:
    """Have Hydra's launcher do the jobs, each of which leaves an answer; what the launcher died of, or nothing.

    Hydra sees their numbers alone: a job composes its own configuration, which may come from a plug-in.
    """
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from omegaconf import DictConfig

    register_schema()
    parent = os.getpid()

    @hydra.main(config_path=str(CONF_DIR), config_name="config", version_base="1.3")
    def job(config: DictConfig) -> None:
        number = HydraConfig.get().job.num
        run_job(verb, answers, parent, number, jobs[number], redo)

    quiet = ["hydra/hydra_logging=none", "hydra/job_logging=none", "hydra.output_subdir=null"]
    quiet += [f"hydra.sweep.dir={_FOLDER}", "hydra.sweep.subdir=."]
    numbers = ",".join(map(str, range(len(jobs))))
    before, sys.argv = sys.argv, [f"sdseg-{verb}", "--multirun", *quiet, *settings, f"+job={numbers}"]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise what went wrong, instead of printing a traceback and leaving with 1
    try:
        job()
    except HydraException as error:
        if "hydra/launcher" in str(error):
            raise InputError(
                f"{one_line(error)}; pip install 'sdseg-bench[sweep]' brings joblib and submitit"
            ) from error
        return one_line(error)
    except Exception as error:
        if os.environ.get("SDSEG_DEBUG") == "1":
            raise
        return one_line(error)
    finally:
        sys.argv = before
    return ""


def run_job(verb: str, answers: Path, parent: int, number: int, overrides: list[str], redo: str | None = None) -> None:
    """Do one job and keep its exit code; in another process than `parent` also what it would have printed."""
    here = os.getpid() == parent
    lines: list[tuple[str, str]] = []
    out, err = (say, complain) if here else (lambda t: lines.append(("out", t)), lambda t: lines.append(("err", t)))
    write_json(answers / f"{number}.json", {"code": None})
    try:
        code = run_cells(verb, overrides, out, err, redo)
    except Exception as error:
        if here and os.environ.get("SDSEG_DEBUG") == "1":
            raise
        err(f"error: {one_line(error)}")
        code = BAD_INPUT if isinstance(error, InputError) else RUN_FAILED
    write_json(answers / f"{number}.json", {"code": code, "lines": lines})


def _outcome(job: list[str], path: Path, fault: str, last: bool) -> int | None:
    """The exit code of a job, whose words are printed now where its own process could not; None to do it again."""
    answer: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for stream, text in answer.get("lines", ()):
        (say if stream == "out" else complain)(text)
    if answer.get("code") is not None:
        return answer["code"]
    what = "its process ended, killed or out of memory" if answer else "was not started"
    what += f" ({fault})" if fault else ""
    if not last:
        complain(f"warning: job {' '.join(job)}: {what}; it is done again")
        return None
    complain(f"error: job {' '.join(job)}: {what}; the same command goes on")
    return RUN_FAILED

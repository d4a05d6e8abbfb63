"""Commands of two revisions timed in turn, each in a fresh process, until the ratio of their times is known."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import progress
from bench.errors import RunError
from bench.files import digest, read_json
from bench.gate.sides import Side
from bench.stats import Ratio, paired_ratio

_WORKER = Path(__file__).with_name("worker.py")
_FIT = ["train.steps=20", "train.validate_every=20"]  # of a training that is timed
_LEAST_PAIRS = 6  # fewer have no interval


class Worker:
    """A process of one side that does commands, see `worker.py`."""

    def __init__(self, side: Side, modules: Sequence[str] = ("bench.cli",)) -> None:
        line, environment = side.command(str(_WORKER), *modules)
        self.side, self._log = side, (side.folder / "worker.log").open("a+", encoding="utf-8")
        start = time.perf_counter()
        self._process = subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, encoding="utf-8", env=environment
        )
        self._answer()
        self.start_seconds = time.perf_counter() - start

    def do(self, command: list[str]) -> dict[str, Any]:
        """What a command took; RunError with its last words where it failed."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        if answer["code"] != 0:
            self._log.seek(0)
            said = (self._log.read().strip().splitlines() or ["nothing said"])[-1]
            raise RunError(f"{self.side.name}: sdseg {' '.join(command[:3])}: {said}")
        return answer

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RunError(f"{self.side.name}: its process ended; {self._log.name} says why")
        return json.loads(line)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()


@dataclass
class Paired:
    """Rounds of one thing on both sides, base first; `trained` has the hash of every training's weights."""

    seconds: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    peaks: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    trained: tuple[list[str], list[str]] = field(default_factory=lambda: ([], []))

    def ratio(self) -> Ratio:
        """How many times as long as the base this takes."""
        return paired_ratio(self.seconds[1], self.seconds[0])

    def decided(self, slower: float) -> bool:
        """Whether more rounds would change nothing: the interval lies on one side of what is allowed."""
        ratio = self.ratio()
        return ratio.low > slower or ratio.high < slower


def time_start(sides: tuple[Side, Side], modules: Sequence[Sequence[str]], settings: dict[str, Any]) -> Paired:
    """Seconds until the commands can begin: a new process and all that they import."""
    paired, end = Paired(), time.monotonic() + settings["seconds"]
    while _goes_on(paired, end, settings["slower"]):
        for place in _turn(len(paired.seconds[0])):
            with Worker(sides[place], modules[place]) as worker:
                paired.seconds[place].append(worker.start_seconds)
    return paired


def time_cell(
    sides: tuple[Side, Side], cell: Sequence[str], runs: tuple[Path, Path], trains: bool, settings: dict[str, Any]
) -> tuple[dict[str, Paired], list[list[str]]]:
    """Rounds of fit (a short one), predict and score of one cell, and what each side imports for them.

    A round is a whole command in a process of its own: composing, reading data, work, writing. Sides take turns, and
    who begins changes. It ends where all intervals are decided, or after `gate.seconds`. `answer` is the median of an
    image's seconds within predict: in the whole command, a slower network is hidden by all the rest.
    """
    verbs = {name: [name, "--redo", name, *cell] for name in ("predict", "score")}
    verbs |= {"fit": ["fit", "--redo", "fit", *cell, *_FIT]} if trains else {}
    copies = [_copied(side, run) for side, run in zip(sides, runs, strict=True)]
    timed = {name: Paired() for name in (*verbs, "answer")}
    watched = {name: (name, "answer") if name == "predict" else (name,) for name in verbs}

    def one_round(name: str, workers: Sequence[Worker]) -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = [{}, {}]
        for place in _turn(len(timed[name].seconds[0])):
            runs_dir = copies[place] / ("fits" if name == "fit" else "runs")
            answers[place] = workers[place].do([*verbs[name], f"runs_dir={runs_dir}"])
        return answers

    with ExitStack() as stack:  # the first round says what there is to import, and is not timed
        workers = [stack.enter_context(Worker(side)) for side in sides]
        warm = [one_round(name, workers) for name in verbs]
        modules = [sorted({m for answers in warm for m in answers[place]["modules"]}) for place in (0, 1)]
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(side, names)) for side, names in zip(sides, modules, strict=True)]
        end = time.monotonic() + settings["seconds"]
        while waiting := [n for n in verbs if any(_goes_on(timed[w], end, settings["slower"]) for w in watched[n])]:
            for name in waiting:
                for place, answer in enumerate(one_round(name, workers)):
                    _note(timed[name], place, answer, copies[place] if name == "fit" else None)
                    if name == "predict":
                        timed["answer"].seconds[place].append(_answer_seconds(copies[place]))
            rounds = max(len(one.seconds[0]) for one in timed.values())
            progress.report(f"timing both revisions, {', '.join(waiting)}", rounds, max(rounds, _LEAST_PAIRS))
    for folder in copies:
        shutil.rmtree(folder)
    return timed, modules


def _goes_on(paired: Paired, end: float, slower: float) -> bool:
    return len(paired.seconds[0]) < _LEAST_PAIRS or (not paired.decided(slower) and time.monotonic() < end)


def _turn(number: int) -> tuple[int, int]:
    return (0, 1) if number % 2 == 0 else (1, 0)


def _copied(side: Side, run: Path) -> Path:
    """A copy of a run to predict and score again and again."""
    folder = side.folder / f"timed-{side.name}"  # both may be one revision
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run, folder / "runs" / run.relative_to(run.parents[2]))
    return folder


def _answer_seconds(copy: Path) -> float:
    (facts,) = (copy / "runs").glob("*/*/*/predictions/inference.json")
    return float(read_json(facts, dict, "run the gate again")["seconds_per_answer"])


def _note(paired: Paired, place: int, answer: dict[str, Any], fits: Path | None) -> None:
    paired.seconds[place].append(answer["seconds"])
    for name in ("peak_mib", "peak_gpu_mib"):
        if name in answer:
            paired.peaks.setdefault(name, ([], []))[place].append(answer[name])
    if fits is not None:
        (facts,) = (fits / "fits").glob("*/*/*/model/fit.json")
        files = read_json(facts, dict, "run the gate again").get("files", {})
        weights = {name: sha256 for name, sha256 in files.items() if name.endswith(".safetensors")}
        paired.trained[place].append(digest(weights))

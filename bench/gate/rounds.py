"""Commands of two revisions timed in turn, each in a fresh process, until the ratio of their times is known."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
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
    """A process of one side that does commands, see `worker.py`; it starts with the first, and anew after its death."""

    def __init__(self, side: Side, modules: Iterable[str] = ("bench.cli",)) -> None:
        self.side, self.modules = side, set(modules)
        self._process: subprocess.Popen[str] | None = None
        self.log = side.folder / "worker.log"

    def start(self) -> float:
        """Start the process with its modules imported; the seconds that this took."""
        line, environment = self.side.command(str(_WORKER))
        begin = time.perf_counter()
        pipe = subprocess.PIPE
        with self.log.open("a", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                line, stdin=pipe, stdout=pipe, stderr=log, encoding="utf-8", env=environment
            )
        self._ask({"import": sorted(self.modules)})
        return time.perf_counter() - begin

    def do(self, command: list[str]) -> dict[str, Any]:
        """What a command took; RunError with its last words where it failed."""
        answer = self._ask(command)
        if answer["code"] != 0:
            said = (self.log.read_text(encoding="utf-8").strip().splitlines() or ["nothing said"])[-1]
            raise RunError(f"{self.side.name}: sdseg {' '.join(command[:3])}: {said}")
        return answer

    def learn(self, modules: Iterable[str]) -> bool:
        """Import these too, so that no later command has to; whether there was one to import."""
        if unknown := sorted(set(modules) - self.modules):
            self.modules.update(unknown)
            self._ask({"import": unknown})
        return bool(unknown)

    def _ask(self, asked: list[str] | dict[str, list[str]]) -> dict[str, Any]:
        if self._process is None:
            self.start()
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.end()
            raise RunError(f"{self.side.name}: its process ended; {self.log} says why")
        return json.loads(line)

    def end(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


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


def time_start(workers: Sequence[Worker], settings: dict[str, Any]) -> Paired:
    """Seconds until the commands can begin: a new process, and all that these workers had to import."""
    paired, end = Paired(), time.monotonic() + settings["seconds"]
    while _goes_on(paired, end, settings["slower"]):
        for place in _turn(len(paired.seconds[0])):
            with Worker(workers[place].side, workers[place].modules) as fresh:
                paired.seconds[place].append(fresh.start())
    return paired


def time_cell(
    workers: Sequence[Worker], cell: Sequence[str], runs: tuple[Path, Path], trains: bool, settings: dict[str, Any]
) -> dict[str, Paired]:
    """Rounds of fit (a short one), predict and score of one cell.

    A round is a whole command in a process of its own: composing, reading data, work, writing. Sides take turns, and
    who begins changes; a first round for which one had to import something is not counted. It ends where all intervals
    are decided, or after `gate.seconds`. `answer` is the median of an image's seconds within predict: in the whole
    command, a slower network is hidden by all the rest.
    """
    verbs = {name: [name, "--redo", name, *cell] for name in ("predict", "score")}
    verbs |= {"fit": ["fit", "--redo", "fit", *cell, *_FIT]} if trains else {}
    copies = [_copied(worker.side, run) for worker, run in zip(workers, runs, strict=True)]
    timed = {name: Paired() for name in (*verbs, "answer")}
    watched = {name: (name, "answer") if name == "predict" else (name,) for name in verbs}
    first, end = set(verbs), time.monotonic() + settings["seconds"]
    while waiting := [n for n in verbs if any(_goes_on(timed[w], end, settings["slower"]) for w in watched[n])]:
        for name in waiting:
            answers = {}
            for place in _turn(len(timed[name].seconds[0])):
                runs_dir = copies[place] / ("fits" if name == "fit" else "runs")
                answers[place] = workers[place].do([*verbs[name], f"runs_dir={runs_dir}"])
            if name in first:
                first.remove(name)
                learned = [workers[place].learn(answers[place]["modules"]) for place in answers]
                if any(learned):
                    continue
            for place, answer in sorted(answers.items()):
                _note(timed[name], place, answer, copies[place] if name == "fit" else None)
                if name == "predict":
                    timed["answer"].seconds[place].append(_answer_seconds(copies[place]))
        rounds = max(len(one.seconds[0]) for one in timed.values())
        progress.report(f"timing both revisions, {', '.join(waiting)}", rounds, max(rounds, _LEAST_PAIRS))
    for folder in copies:
        shutil.rmtree(folder)
    return timed


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

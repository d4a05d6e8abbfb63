"""The gate against another revision: working trees, rounds in turn, rows in pairs, the comment, and all of it once."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from bench import cli
from bench.config import GateConfig, expand
from bench.errors import InputError, RunError
from bench.files import write_json
from bench.gate import RunFacts, Verdict, sides
from bench.gate.against import _judge_facts, _judge_rounds, base_of, judge_against
from bench.gate.rounds import Paired, Worker, time_cell
from bench.gate.sides import NotKnown, Side, commit_of, working_commit
from bench.gate.verdict import MARK, Row, failed
from tests import gate_fixtures
from tests.gate_fixtures import data, failures, made, shifted

good = gate_fixtures.good
ROOT = Path(__file__).parents[1]
SETTINGS = asdict(GateConfig())
# What a revision's `sdseg` does here: it notes who was asked, and takes more memory where it is asked to.
CLI = """
import os, pathlib
def main(arguments):
    import colorsys
    folder = pathlib.Path(__file__).parents[3]
    with (folder / "asked.txt").open("a") as file:
        file.write(f"{pathlib.Path(__file__).parents[2].name} {arguments[0]}\\n")
    if "die" in arguments:
        os._exit(7)
    if "fail" in arguments:
        print("a first line", flush=True)
        print("error: no such thing", flush=True)
    return 2 if "fail" in arguments else 0
"""


def git(folder: Path, *arguments: str) -> str:
    words = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@localhost", *arguments]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one file, in which the gate believes to be."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "code.py").write_text("a = 1\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "first")
    monkeypatch.setattr(sides, "_ROOT", folder)
    monkeypatch.setattr(sides, "CACHE", tmp_path / "cache")
    return folder


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Side, Side]:
    """Two revisions whose command does nothing."""
    monkeypatch.setattr(sides, "CACHE", tmp_path)
    both = Side("base", "base"), Side("now", "now")
    for side in both:
        (side.source / "bench").mkdir(parents=True)
        (side.source / "bench" / "__init__.py").touch()
        (side.source / "bench" / "cli.py").write_text(CLI)
    return both


def test_a_working_tree_is_a_commit(repository: Path) -> None:
    head = commit_of("HEAD")
    assert working_commit() == head
    (repository / "new.py").write_text("b = 2\n")
    changed = working_commit()
    assert changed != head
    assert changed == working_commit()  # one content, one name, and so one folder of results
    assert git(repository, "show", f"{changed}:new.py") == "b = 2"
    assert git(repository, "status", "--porcelain") == "?? new.py"  # what the user has staged stays
    with pytest.raises(InputError, match="--against nowhere: no revision of"):
        commit_of("nowhere")


def test_rounds_take_turns_in_fresh_processes(tmp_path: Path, pair: tuple[Side, Side]) -> None:
    run = tmp_path / "made" / "data" / "method" / "seed0-1"
    write_json(run / "predictions" / "inference.json", {"seconds_per_answer": 0.5})
    settings = {**SETTINGS, "slower": 1000.0}  # decided as soon as there is an interval
    with Worker(pair[0]) as base, Worker(pair[1]) as now:
        timed = time_cell((base, now), ["x=1"], (run, run), False, settings)
        imported = base.modules & now.modules
    assert timed.pop("answer").seconds == ([0.5] * 6, [0.5] * 6)
    assert set(timed) == {"predict", "score"}
    assert all(
        len(one.seconds[place]) == len(one.peaks["peak_mib"][place]) == 6 for one in timed.values() for place in (0, 1)
    )
    lines = (tmp_path / "asked.txt").read_text().splitlines()
    asked = [line.split() for line in lines[4:]]  # in the first round they import
    assert [side for side, verb in asked if verb == "predict"] == ["base", "now", "now", "base"] * 3
    assert {"bench.cli", "colorsys"} <= imported
    assert not list(tmp_path.glob("*/timed-*"))


@pytest.mark.parametrize(("word", "said"), [("fail", "error: no such thing"), ("die", "nothing said")])
def test_a_command_that_fails_says_why(pair: tuple[Side, Side], word: str, said: str) -> None:
    with Worker(pair[1]) as worker:
        with pytest.raises(RunError, match=f"now: sdseg predict {word}: {said}"):
            worker.do(["predict", word])
        assert worker.do(["predict"])["code"] == 0  # the next command has a process of its own


def test_a_worker_that_died_is_one_line_and_starts_anew(pair: tuple[Side, Side]) -> None:
    with Worker(pair[1]) as worker:
        worker.do(["predict"])
        assert worker.learn(["wave"])
        assert not worker.learn(["wave"])
        psutil.Process(worker._process.pid).kill()  # type: ignore[union-attr]
        with pytest.raises(RunError, match=r"now: its process ended; .*worker\.log says why"):
            worker.do(["predict"])
        assert "wave" in worker.do(["predict"])["modules"]


def test_more_rounds_where_the_interval_is_on_both_sides() -> None:
    def of(ratios: list[float]) -> Paired:
        return Paired(seconds=([1.0] * len(ratios), ratios))

    assert not of([1.0] * 5).decided(1.1)
    assert of([1.0] * 6).decided(1.1)
    assert of([1.3] * 6).decided(1.1)
    assert not of([0.9, 1.0, 1.0, 1.0, 1.0, 1.4]).decided(1.1)
    assert of([0.9, *[1.0] * 8, 1.4]).decided(1.1)


def rounds(ratio: float, peak: float = 500.0, trained: tuple[str, ...] = ("a", "a")) -> dict[str, Paired]:
    seconds = [2.0 + 0.01 * number for number in range(8)]
    now = [ratio * one for one in seconds]
    return {
        "fit": Paired(
            seconds=(seconds, now), peaks={"peak_mib": ([500.0] * 8, [peak] * 8)}, trained=(["a", "a"], list(trained))
        )
    }


@pytest.mark.parametrize(
    ("timed", "fails"),
    [
        (rounds(1.05), []),
        (rounds(1.2), ["fit seconds"]),
        (rounds(1.0, peak=530.0), ["fit peak_mib"]),
        (rounds(1.0, trained=("b", "b")), []),
        (rounds(1.0, trained=("a", "b")), ["weights"]),
    ],
)
def test_times_memory_and_repeated_trainings_are_judged(timed: dict[str, Paired], fails: list[str]) -> None:
    judged = Verdict(tuple(_judge_rounds("run", timed, SETTINGS)))
    assert list(failures(judged)) == fails
    assert "in 95 %" in judged.table(every=True) or fails == ["fit seconds"]


def test_equal_predictions_need_no_margin_and_have_equal_scores(good: RunFacts, tmp_path: Path) -> None:
    def against(base: RunFacts, now: RunFacts) -> dict[str, str]:
        return failures(Verdict(tuple(_judge_facts("run", base, now, SETTINGS))))

    known = good.model_copy(update={"predictions": "ab" * 32})
    assert against(known, known) == {}
    assert against(known, known.model_copy(update={"hash": "b" * 64, "scoring": "c" * 64, "commit": "other"})) == {}
    better = made(tmp_path / "better", **shifted("Dice", 0.001)).model_copy(update={"predictions": "ab" * 32})
    assert against(known, better) == {"Dice": "FAIL: the same predictions are scored otherwise"}
    worse = made(tmp_path / "worse", **shifted("Dice", -0.02))
    assert list(against(known, worse)) == ["Dice"]
    other = made(tmp_path / "other", **data(data="00" * 32))
    assert against(known, other) == {"data": "FAIL: another data"}


@pytest.mark.parametrize(
    ("base", "said"),
    [
        (NotKnown("base: refuses this run"), {"runs": "FAIL: no run was compared with the base"}),
        ("base: left with 3", {"run": "FAIL: base: left with 3", "runs": "FAIL: no run was compared with the base"}),
    ],
)
def test_a_base_without_results_opens_no_gate(
    base: str, said: dict[str, str], repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Side, "check_out", lambda side: None)
    monkeypatch.setattr(Side, "make", lambda side, words: base if side.name == "base" else tmp_path)
    cells = expand(["profile=smoke", "methods=[unet]"])
    judged = judge_against("HEAD", cells, [], SETTINGS)
    assert not judged.passed
    assert failures(judged) == said


def test_the_comment_says_what_failed_and_how_to_accept_it() -> None:
    rows = (
        failed("gain -0.02", "0.86", "0.84").at("polyp-unet", "accuracy", "Dice"),
        Row("1.0 s", "1.0 s", "1.1 x", True, "a|b", 0.1).at("polyp-unet", "speed", "predict"),
    )
    text = Verdict(rows, ("LPIPS",), ("base abc",), "Raise `gate.KEY`.").markdown()
    assert text.startswith(f"{MARK}\n\n### gate FAILED: 2 judgements, 1 failed")
    assert "not judged (gate.without): LPIPS" in text
    assert "Meant? Raise `gate.KEY`." in text
    before, details = text.split("<details>")
    assert "FAIL: gain -0.02" in before
    assert "pass: a\\|b" in details
    passed = Verdict(rows[1:], accept="Raise.").markdown()
    assert "gate passed" in passed
    assert "Meant" not in passed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--against", "nowhere"], "--against nowhere: no revision of"),
        (["--against", "HEAD", "--reference", "x.json"], "leave --reference"),
        (["--promote", "--against", "HEAD"], "leave --against"),
    ],
)
def test_bad_usage_is_one_line(
    repository: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["gate", *arguments, "profile=smoke", "methods=[unet]"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert base_of("file.json") is None
    with pytest.raises(InputError, match="names a revision"):
        base_of("base:")


def test_a_change_of_the_threshold_against_its_base(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("bench", "sdseg", "baselines", "reports", "pyproject.toml", "constraints.txt"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, repository / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, repository / name)
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "the project")
    monkeypatch.chdir(tmp_path)
    small = ["dataset.n_train=8", "dataset.n_val=2", "dataset.n_test=8", "image_size=32", "train.steps=2", "draws=1"]
    words = ["profile=smoke", "methods=[unet]", "device=cpu", "threads=1", *small, "metrics=[Dice]"]
    words += ["gate.without=[speed,memory,training]", "--all", "--markdown", str(tmp_path / "comment.md")]
    (repository / "README.md").write_text("words\n")
    assert cli.main(["gate", "--against", "HEAD", *words]) == 0
    assert "every prediction is the same to the last bit" in capsys.readouterr().out
    network = repository / "baselines" / "objectives.py"
    text = network.read_text()
    assert text.count("probabilities > 0.5") == 1
    network.write_text(text.replace("probabilities > 0.5", "probabilities > 0.9"))
    assert cli.main(["gate", "--against", "HEAD", *words]) == 1
    said, told = capsys.readouterr()
    assert "FAIL" in said
    assert "base (" not in told  # its results were kept
    assert "### gate FAILED" in (tmp_path / "comment.md").read_text()

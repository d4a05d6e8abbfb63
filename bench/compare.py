"""Are two runs different? One answer in words, and a table by label."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tabulate import tabulate

from bench.errors import InputError
from bench.metrics.facts import facts_of
from bench.record import MetricFacts
from bench.results.seals import check_seals
from bench.results.store import RunFolder
from bench.scores import RunScores, read_run_scores
from bench.stats import Comparison, NonInferiority, case_table, compare, holm, non_inferior

MACRO = "all labels"
CONDITIONAL = "One training run each: conditional on one training run, another one of either may differ."
FOLDERS = "Of these masks: how they were made is not known here, and other trainings or draws of either may differ."


@dataclass(frozen=True)
class LabelComparison:
    """The comparison on one label, or on the mean over labels; `p` is Holm's over the labels, plain for the mean."""

    label: str
    comparison: Comparison
    margin: NonInferiority
    p: float
    infinite: tuple[bool, bool] = (False, False)  # whether a value of the first, of the second, is infinite


@dataclass(frozen=True)
class Scored:
    """One side of a comparison: a run, or an output folder of score-folder.

    `same` is what the other side must agree in, by its name; `names` are the ways to call it, the shortest first.
    """

    path: Path
    is_run: bool
    names: tuple[str, ...]
    labels: list[str]
    units: dict[str, str]  # by metric, where they are known
    same: dict[str, Any]


@dataclass(frozen=True)
class RunComparison:
    """Two runs on one metric: the mean over labels within a case first, then the labels where there are several."""

    metric: str
    unit: str
    a: str
    b: str
    rows: tuple[LabelComparison, ...]
    condition: str = CONDITIONAL

    @property
    def answer(self) -> str:
        """Which one is better, by how much, how sure that is, and what could not have been seen."""
        row = self.rows[0]
        comparison = row.comparison
        interval, unit = comparison.difference, f" {self.unit}" if self.unit else ""
        if not interval.n:
            return f"{self.a} and {self.b} cannot be compared on {self.metric}: no case is defined in both."
        left_out = f", {comparison.undefined} more undefined in one or both" if comparison.undefined else ""
        if comparison.tied == 1:
            equal = f"{self.a} and {self.b} are equal on {self.metric}, on each of {interval.n} cases{left_out}"
            return self._where_defined(row, equal) + "."
        effect = f"{interval.estimate:+.4f}{unit} [{interval.low:+.4f}, {interval.high:+.4f}], p {_p(row.p, '= ')}"
        share = f"better on {comparison.improved:.0%} of {interval.n} cases ({interval.groups} groups{left_out})"
        seen = f"smallest difference this test could see: {comparison.detectable:.4f}{unit}"
        if math.isnan(comparison.detectable):
            seen = "too few groups for this test to see any difference"
        return f"{self._where_defined(row, self._verdict(row))}: {effect}, {share}; {seen}{_warning(comparison)}."

    def _where_defined(self, row: LabelComparison, words: str) -> str:
        """The same words, kept to the cases they are about where one side alone is undefined or infinite on others."""
        a, b = (
            row.comparison.undefined - row.comparison.undefined_b,
            row.comparison.undefined - row.comparison.undefined_a,
        )
        if not a and not b:
            return words
        kept = words[0].lower() + words[1:] if words.startswith("No ") else words
        alone = f"{a} have none in {self.a} alone, {b} in {self.b} alone"
        return f"On the cases with a value in both ({alone}), {kept}"

    def _verdict(self, row: LabelComparison) -> str:
        if row.comparison.shown(row.p):
            gained = (row.comparison.difference.estimate > 0) == (row.comparison.better == "higher")
            return f"{self.a} is {'better' if gained else 'worse'} than {self.b} on {self.metric}"
        words = f"No difference shown between {self.a} and {self.b} on {self.metric}"
        if row.margin.passed:
            return f"{words}, and {self.a} is not worse by {row.margin.margin:g}"
        return f"{words}, nor that {self.a} is not worse by {row.margin.margin:g}"

    def table(self) -> str:
        """A line per label: means, difference, p, share improved, whether not inferior within the margin."""
        cells = []
        for row in self.rows:
            comparison, interval = row.comparison, row.comparison.difference
            means = comparison.mean_a, comparison.mean_b
            cells.append(
                (
                    row.label,
                    *(
                        "infinite" if infinite else f"{mean:.4f}"
                        for mean, infinite in zip(means, row.infinite, strict=True)
                    ),
                    f"{interval.estimate:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]",
                    _p(row.p),
                    f"{comparison.improved:.0%}",
                    f"{'yes' if row.margin.passed else 'no'} ({row.margin.bound:+.4f})",
                    f"{interval.n} ({interval.groups})",
                    comparison.undefined,
                )
            )
        margin = f"not worse by {self.rows[0].margin.margin:g}"
        p = "p (Holm over labels)" if len(self.rows) > 1 else "p"
        headers = (self.metric, self.a, self.b, "difference", p, "better on", margin, "n (groups)", "undefined")
        return tabulate(cells, headers, tablefmt="simple", disable_numparse=True)


def compare_runs(a: Path, b: Path, metric: str = "Dice", margin: float = 0.01) -> RunComparison:
    """Compare two run folders, or two output folders of score-folder, on the same cases; draws averaged within a case.

    InputError where they differ in data, split, protocol, labels or cases, or where one has no such metric.
    """
    sides = (_read(Path(a)), _read(Path(b)))
    _check_same(*sides)
    facts = facts_of(metric)
    if facts.better == "none":
        raise InputError(f"--metric {metric}: has no better direction; choose another")
    scores = [_scores_of(side, metric) for side in sides]
    conventions = [set(one.rows(metric)["convention"]) for one in scores]
    if conventions[0] != conventions[1]:
        raise InputError(f"{a} and {b}: {metric} was scored by two conventions; score both under one protocol")
    names = _names(*sides)
    groups, others = ({str(case): str(group) for case, group in one.groups.items()} for one in scores)
    moved = [case for case, group in groups.items() if others.get(case, group) != group]
    if moved:
        raise InputError(f"{a} and {b}: case {moved[0]!r} is in another group; score both with the same groups")
    labels = sides[0].labels
    compared = []
    for label in [MACRO, *labels] if len(labels) > 1 else labels:
        runs = [_by_case(one, metric, facts, None if label == MACRO else label) for one in scores]
        table = case_table(dict(zip(names, runs, strict=True)), groups)
        result = compare(table, *names, better=facts.better)
        inside = non_inferior(table, *names, margin=margin, better=facts.better)
        first, second = (any(map(math.isinf, run.values())) for run in runs)
        compared.append(LabelComparison(label, result, inside, result.p, (first, second)))
    single = compared[1:] or compared
    adjusted = zip(single, holm([row.p for row in single]), strict=True)
    corrected = [replace(row, p=p) for row, p in adjusted]
    rows = (*(compared[:1] if compared[1:] else ()), *corrected)
    condition = CONDITIONAL if sides[0].is_run else FOLDERS
    return RunComparison(metric, sides[0].units.get(metric, facts.unit), *names, rows, condition)


def find_run(given: str, runs_dir: Path) -> Path:
    """A run folder or an output of score-folder by its path, or the one run under `runs_dir` of a method's name."""
    if any((Path(given) / name).exists() for name in ("record.json", "summary.json")):
        return Path(given)
    candidates = (
        sorted(path.parent for path in runs_dir.glob(f"*/{given}/seed*/record.json")) if "/" not in given else []
    )
    if len(candidates) == 1:
        return candidates[0]
    what = (
        f"{len(candidates)} runs of that method under {runs_dir}, the first is {candidates[0]}"
        if candidates
        else "no scored run"
    )
    raise InputError(f"{given}: {what}; give a run folder {runs_dir}/DATASET/METHOD/seed*-*, or one of score-folder")


def _read(path: Path) -> Scored:
    if not (path / "record.json").exists() and (path / "summary.json").exists():
        return _read_folder(path)
    record = RunFolder(path).read_record()
    same = {
        "dataset": record.dataset,
        "data": record.data.get("data"),
        "split": record.data.get("split"),
        "protocol": record.rules,
        "labels": ", ".join(record.labels),
    }
    names = (record.method, f"{record.method} seed {record.seed}", f"{record.method}/{path.name}")
    units = {metric: facts.unit for metric, facts in record.metrics.items()}
    return Scored(path, True, names, record.labels, units, same)


def _read_folder(path: Path) -> Scored:
    file = path / "summary.json"
    try:
        summary = json.loads(file.read_text(encoding="utf-8"))
        same = {
            "protocol": summary["protocol"],
            "grid": summary["rules"]["grid"],
            "labels": ", ".join(summary["labels"]),
            "set of cases": f"{summary['n_cases']} cases",
            "set of reference masks": summary["references"][:12],
        }
        units = {metric: facts["unit"] for metric, facts in summary["conventions"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{file}: not a summary of score-folder ({reason}); score the masks again") from error
    check_seals(summary.get("files", {}), path, "score the masks again")
    whole = path.resolve()
    return Scored(
        path, False, (whole.name, f"{whole.parent.name}/{whole.name}", str(whole)), summary["labels"], units, same
    )


def _check_same(first: Scored, second: Scored) -> None:
    where = f"{first.path} and {second.path}"
    if first.is_run != second.is_run:
        raise InputError(f"{where}: a run and an output of score-folder; give two runs, or two of score-folder")
    for what, one in first.same.items():
        other = second.same[what]
        if one != other:
            raise InputError(f"{where}: another {what} ({str(one)[:40]}, {str(other)[:40]}); only equal ones compare")


def _names(first: Scored, second: Scored) -> tuple[str, str]:
    """The shortest names that tell two apart."""
    for names in zip(first.names, second.names, strict=True):
        if names[0] != names[1]:
            return names
    raise InputError(f"{first.path}: is the same twice; give two")


def _scores_of(side: Scored, metric: str) -> RunScores:
    path = side.path / "scores.parquet"
    scores = RunFolder(side.path).run_scores() if side.is_run else read_run_scores(path)
    if metric not in scores.metrics:
        raise InputError(f"{path}: holds no {metric}; it has {', '.join(scores.metrics)}")
    return scores


def _by_case(scores: RunScores, metric: str, facts: MetricFacts, label: str | None) -> dict[str, float]:
    single = bool(scores.conventions(metric))
    every = scores.summary(metric, facts, single=single, label=label).every
    return {str(case): float(value) for case, value in every.items()}


def _p(value: float, equal: str = "") -> str:
    if math.isnan(value):
        return f"{equal}undefined"
    if value < 0.0001:
        return f"{'< ' if equal else '<'}0.0001"
    return f"{equal}{value:.3f}" if value >= 0.001 else f"{equal}{value:.4f}"


def _warning(comparison: Comparison) -> str:
    interval = comparison.difference
    listed = ", ".join(f"{value:+.4f}" for value in interval.values)
    return "".join(f"; {words}" for words in (interval.warning, listed and f"by group {listed}") if words)

"""Are two runs different? One answer in words, and a table by label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from bench.errors import InputError
from bench.gate.reference import metric_facts
from bench.record import RunRecord, read_scores
from bench.stats import Comparison, NonInferiority, case_table, compare, holm, non_inferior
from bench.store import RunFolder

ALPHA = 0.05
MACRO = "all labels"
CONDITIONAL = "One training run each: conditional on one training run, another one of either may differ."


@dataclass(frozen=True)
class LabelComparison:
    """The comparison on one label, or on the mean over labels; `p` is Holm's over the labels, plain for the mean."""

    label: str
    found: Comparison
    margin: NonInferiority
    p: float


@dataclass(frozen=True)
class RunComparison:
    """Two runs on one metric: the mean over labels within a case first, then the labels where there are several."""

    metric: str
    unit: str
    a: str
    b: str
    rows: tuple[LabelComparison, ...]

    @property
    def answer(self) -> str:
        """Which one is better, by how much, how sure that is, and what could not have been seen."""
        row = self.rows[0]
        found = row.found
        interval, unit = found.difference, f" {self.unit}" if self.unit else ""
        if not interval.n:
            return f"{self.a} and {self.b} cannot be compared on {self.metric}: no case is defined in both."
        left_out = f", {found.undefined} more undefined in one of them" if found.undefined else ""
        if found.tied == 1:
            return f"{self.a} and {self.b} are equal on {self.metric}, on each of {interval.n} cases{left_out}."
        effect = f"{interval.estimate:+.4f}{unit} [{interval.low:+.4f}, {interval.high:+.4f}], p = {_p(row.p)}"
        share = f"better on {found.improved:.0%} of {interval.n} cases ({interval.groups} groups{left_out})"
        seen = f"smallest difference this test could see: {found.detectable:.4f}{unit}"
        return f"{self._verdict(row)}: {effect}, {share}; {seen}{_warning(found)}."

    def _verdict(self, row: LabelComparison) -> str:
        # Written so that an undefined p or bound is no difference.
        interval = row.found.difference
        if row.p < ALPHA and (interval.low > 0 or interval.high < 0):
            gained = (interval.estimate > 0) == (row.found.better == "higher")
            return f"{self.a} is {'better' if gained else 'worse'} than {self.b} on {self.metric}"
        words = f"No difference shown between {self.a} and {self.b} on {self.metric}"
        if row.margin.passed:
            return f"{words}, and {self.a} is not worse by {row.margin.margin:g}"
        return f"{words}, nor that {self.a} is not worse by {row.margin.margin:g}"

    def table(self) -> str:
        """A line per label: means, difference, p, share improved, whether not inferior within the margin."""
        cells = []
        for row in self.rows:
            found, interval = row.found, row.found.difference
            cells.append(
                (
                    row.label,
                    f"{found.mean_a:.4f}",
                    f"{found.mean_b:.4f}",
                    f"{interval.estimate:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]",
                    _p(row.p),
                    f"{found.improved:.0%}",
                    f"{'yes' if row.margin.passed else 'no'} ({row.margin.bound:+.4f})",
                    f"{interval.n} ({interval.groups})",
                    found.undefined,
                )
            )
        margin = f"not worse by {self.rows[0].margin.margin:g}"
        p = "p (Holm over labels)" if len(self.rows) > 1 else "p"
        headers = (self.metric, self.a, self.b, "difference", p, "better on", margin, "n (groups)", "undefined")
        return tabulate(cells, headers, tablefmt="simple", disable_numparse=True)


def compare_runs(a: Path, b: Path, metric: str = "Dice", margin: float = 0.01) -> RunComparison:
    """Compare two run folders on the same cases, draws averaged within a case.

    InputError where they differ in data, split, protocol, labels or cases, or where one has no such metric.
    """
    folders = [RunFolder(Path(path)) for path in (a, b)]
    first, second = (folder.read_record() for folder in folders)
    _check_same(folders, (first, second))
    unit, better = metric_facts(metric)
    if better == "none":
        raise InputError(f"--metric {metric}: has no better direction; choose another")
    frames = [_rows_of(folder, metric) for folder in folders]
    if set(frames[0]["convention"]) != set(frames[1]["convention"]):
        raise InputError(f"{a} and {b}: {metric} was scored by two conventions; score both under one protocol")
    names = _names(folders, (first, second))
    groups = dict(zip(frames[0]["case"], frames[0]["group"], strict=True))
    found = []
    for label in [MACRO, *first.labels] if len(first.labels) > 1 else first.labels:
        runs = {name: _by_case(frame, label) for name, frame in zip(names, frames, strict=True)}
        table = case_table(runs, groups)
        result = compare(table, *names, better=better)
        inside = non_inferior(table, *names, margin=margin, better=better)
        found.append(LabelComparison(label, result, inside, result.p))
    labels = found[1:] or found
    adjusted = zip(labels, holm([row.p for row in labels]), strict=True)
    corrected = [LabelComparison(row.label, row.found, row.margin, p) for row, p in adjusted]
    return RunComparison(metric, unit, *names, (*(found[:1] if found[1:] else ()), *corrected))


def find_run(given: str, runs_dir: Path) -> Path:
    """A run folder by its path, or by the name of a method that has one run under `runs_dir`."""
    if (Path(given) / "record.json").exists():
        return Path(given)
    found = sorted(path.parent for path in runs_dir.glob(f"*/{given}/seed*/record.json")) if "/" not in given else []
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} runs of that method under {runs_dir}, the first is {found[0]}" if found else "no scored run"
    raise InputError(f"{given}: {what}; give a run folder {runs_dir}/DATASET/METHOD/seed*-*")


def _check_same(folders: Sequence[RunFolder], records: Sequence[RunRecord]) -> None:
    first, second = records
    facts = {
        "dataset": (first.dataset, second.dataset),
        "data": (first.data.get("data"), second.data.get("data")),
        "split": (first.data.get("split"), second.data.get("split")),
        "protocol": (first.protocol, second.protocol),
        "labels": (", ".join(first.labels), ", ".join(second.labels)),
    }
    for what, (one, other) in facts.items():
        if one != other:
            where = f"{folders[0].path} and {folders[1].path}"
            raise InputError(f"{where}: another {what} ({str(one)[:40]}, {str(other)[:40]}); only equal ones compare")


def _names(folders: Sequence[RunFolder], records: Sequence[RunRecord]) -> tuple[str, str]:
    """The shortest names that tell two runs apart."""
    first, second = records
    for names in (
        (first.method, second.method),
        (f"{first.method} seed {first.seed}", f"{second.method} seed {second.seed}"),
        (f"{first.method}/{folders[0].path.name}", f"{second.method}/{folders[1].path.name}"),
    ):
        if names[0] != names[1]:
            return names
    raise InputError(f"{folders[0].path}: is the same run twice; give two")


def _rows_of(folder: RunFolder, metric: str) -> pd.DataFrame:
    frame = read_scores(folder.scores_path)
    rows = frame[frame["metric"] == metric].astype({"case": str, "group": str})
    if rows.empty:
        known = ", ".join(sorted(frame["metric"].unique()))
        raise InputError(f"{folder.scores_path}: holds no {metric}; it has {known}")
    return rows


def _by_case(frame: pd.DataFrame, label: str) -> dict[str, float]:
    chosen = frame if label == MACRO else frame[frame["label"] == label]
    by_label = chosen.groupby(["case", "label"])["value"].mean()  # over draws
    return {str(case): float(value) for case, value in by_label.groupby("case").mean().items()}


def _p(value: float) -> str:
    if math.isnan(value):
        return "undefined"
    return f"{value:.3f}" if value >= 0.001 else f"{value:.4f}"


def _warning(found: Comparison) -> str:
    interval = found.difference
    listed = ", ".join(f"{value:+.4f}" for value in interval.values)
    return "".join(f"; {words}" for words in (interval.warning, listed and f"by group {listed}") if words)

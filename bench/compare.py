"""Are two runs different? One answer in words, and a table by label."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tabulate import tabulate

from bench.errors import InputError
from bench.metrics.facts import facts_of
from bench.record import SCORED_FOLDER, MetricFacts, RunRecord
from bench.results.store import RunFolder
from bench.scores import RunScores
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
        both = row.comparison.undefined
        a, b = both - row.comparison.undefined_b, both - row.comparison.undefined_a
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
            means = zip((comparison.mean_a, comparison.mean_b), row.infinite, strict=True)
            cells.append(
                (
                    row.label,
                    *("infinite" if infinite else f"{mean:.4f}" for mean, infinite in means),
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
    """Compare two run folders, of a model or of score-folder, on the same cases; draws averaged within a case.

    InputError where they differ in data, split, protocol, labels or cases, or where one has no such metric.
    """
    folders = RunFolder(Path(a)), RunFolder(Path(b))
    records = [folder.read_record() for folder in folders]
    of_masks = any(record.profile == SCORED_FOLDER for record in records)
    one, other = (_facts(record, of_masks) for record in records)
    for what in one:
        if one[what] != other[what]:
            values = f"{one[what][:40]}, {other[what][:40]}"
            raise InputError(f"{a} and {b}: another {what} ({values}); only equal ones compare")
    facts = facts_of(metric)
    if facts.better == "none":
        raise InputError(f"--metric {metric}: has no better direction; choose another")
    scores = [_scores_of(folder, metric) for folder in folders]
    conventions = [set(one.rows(metric)["convention"]) for one in scores]
    if conventions[0] != conventions[1]:
        raise InputError(f"{a} and {b}: {metric} was scored by two conventions; score both under one protocol")
    names = _names(*folders)
    groups, others = ({str(case): str(group) for case, group in one.groups.items()} for one in scores)
    moved = [case for case, group in groups.items() if others.get(case, group) != group]
    if moved:
        raise InputError(f"{a} and {b}: case {moved[0]!r} is in another group; score both with the same groups")
    labels = records[0].labels
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
    unit = records[0].metrics.get(metric, facts).unit
    return RunComparison(metric, unit, *names, rows, FOLDERS if of_masks else CONDITIONAL)


def find_run(given: str, runs_dir: Path) -> Path:
    """A run folder, of a model or of score-folder, by its path, or the one of a method's name under `runs_dir`."""
    if any((Path(given) / name).exists() for name in ("record.json", "summary.json")):
        return Path(given)
    places = (f"*/{given}/seed*", given) if "/" not in given else ()
    records = sorted(record for place in places for record in runs_dir.glob(f"{place}/record.json"))
    if len(records) == 1:
        return records[0].parent
    what = "no scored run"
    if records:
        what = f"{len(records)} runs of that method under {runs_dir}, the first is {records[0].parent}"
    raise InputError(f"{given}: {what}; give a run folder {runs_dir}/DATASET/METHOD/seed*-*, or one of score-folder")


def _facts(record: RunRecord, of_masks: bool) -> dict[str, str]:
    """What two runs must agree in, by its name; where nothing is known `of_masks`, in what they were scored against."""
    content = {"dataset": record.dataset, **{name: record.data.get(name, "unknown") for name in ("data", "split")}}
    if of_masks:
        references = record.data.get("references", "unknown")[:12]
        content = {"number of cases": str(record.n_cases.get("test")), "set of reference masks": references}
    return {**content, "protocol": record.rules, "labels": ", ".join(record.labels)}


def _names(*folders: RunFolder) -> tuple[str, str]:
    """The shortest names that tell two apart."""
    for first, second in zip(*map(_ways_to_call, folders), strict=True):
        if first != second:
            return first, second
    raise InputError(f"{folders[0].path}: is the same twice; give two")


def _ways_to_call(folder: RunFolder) -> Iterator[str]:
    record, path = folder.read_record(), folder.path.resolve()
    yield from (record.method, f"{record.method} seed {record.seed}", f"{path.parent.name}/{path.name}", str(path))


def _scores_of(folder: RunFolder, metric: str) -> RunScores:
    scores = folder.run_scores()
    if metric not in scores.metrics:
        raise InputError(f"{folder.scores_path}: holds no {metric}; it has {', '.join(scores.metrics)}")
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

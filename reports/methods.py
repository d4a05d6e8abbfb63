"""How the numbers of a report came about, in words for the methods section of a paper; says only what was done."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from bench.stats import RELIABLE, RESAMPLES, SMALLEST_INTERVAL
from reports.contest import MARGIN, METRIC, contests
from reports.frame import Frame
from reports.provenance import commit, device, threads, versions
from reports.rows import Row
from reports.variants import unflagged

NAME = "methods"
WIDTH = 100
_JOINED = (
    f"95 % confidence intervals of means join Student's t interval with that of a bias-corrected and accelerated "
    f"bootstrap ({RESAMPLES:,} resamples of the {{units}}), the farther bound on each side"
)
_TESTS = (
    "Methods scored on the same cases were compared in pairs by their difference in {metric} per case, with a 95 % "
    "interval and a two-sided sign-flip permutation test ({test}); p values were adjusted after Holm over all pairs of "
    "a data set ({pairs}). A difference is called shown where p < .05 and the interval excludes 0, and a method "
    "non-inferior to the first where the one-sided 95 % bound of the paired difference lies within {margin:g}. Ranks "
    "are those of the mean, with their distribution over 1,000 bootstrap resamples of the {units}."
)


def methods_text(frame: Frame) -> str:
    """A paragraph per subject as Markdown; a line that says so where nothing was run."""
    if not frame.rows:
        return "No runs, so there are no methods to tell.\n"
    groups = any(_units(row) != _cases(row) for row in frame.rows)
    units = "groups of cases, which stay together" if groups else "cases"
    parts = [_data(frame), _averages(frame), _intervals(frame, units), _tests(frame, units), _spread(frame)]
    paragraphs = [textwrap.fill(part, WIDTH) for part in [*parts, _made_on(frame)] if part]
    return "\n\n".join(["## Methods", *paragraphs]) + "\n"


def _data(frame: Frame) -> str:
    sentences = []
    for dataset, rows in frame.by_dataset():
        numbers = _several({_cases(row) for row in rows})
        grouped = _several({_units(row) for row in rows})
        clustered = f" in {grouped} independent groups" if grouped != numbers else ""
        names = ", ".join(dict.fromkeys(unflagged(row.method) for row in rows))
        sentences.append(f"On {dataset} ({numbers} test cases{clustered}) we evaluated {names}.")
    seeds = {len(row.runs) for row in frame.rows}
    listed = ", ".join(sorted({str(run.record.seed) for run in frame.runs}, key=int))
    if seeds == {1}:
        sentences.append(f"Each method was run once (seed {listed}); all results are conditional on one training run.")
    else:
        sentences.append(f"Methods were run with {_several(seeds)} seeds ({listed}).")
    draws = _several({run.record.draws for run in frame.runs})
    sentences.append(f"Draws per case: {draws}.")
    changed = sorted({unflagged(row.method) for row in frame.rows if row.record.fidelity == "approximation"})
    if changed:
        sentences.append(f"Smaller than the original or of incomplete specification: {', '.join(changed)}.")
    return " ".join(sentences)


def _averages(frame: Frame) -> str:
    rules = ", ".join(sorted({run.record.rules for run in frame.runs}))
    summaries = [row.summary(METRIC) for row in frame.rows if METRIC in row.metrics]
    undefined, excluded = (sum(getattr(one, name) for one in summaries) for name in ("undefined", "excluded"))
    words = f"Scores follow the protocol {rules}. The unit is the case: labels are averaged within a draw, draws within"
    words += " a case, then training seeds, then cases."
    if undefined:
        words += f" {undefined} values of {METRIC} were undefined and left out, with them {excluded} whole cases."
    return words


def _intervals(frame: Frame, units: str) -> str:
    summaries = [row.summary(METRIC) for row in frame.rows if METRIC in row.metrics]
    shown = [one for one in summaries if one.interval is not None]
    if not shown:
        return f"No interval is given below {SMALLEST_INTERVAL} independent units." if summaries else ""
    joined = any(one.estimate and one.estimate.method == "t+BCa" for one in shown)
    words = _JOINED.format(units=units) if joined else "95 % confidence intervals of means are Student's t intervals"
    few = [one.units for one in shown if one.units < RELIABLE]
    words += f"; with {_several(set(few))} of them they are marked unreliable." if few else "."
    if len(shown) < len(summaries):
        words += f" Below {SMALLEST_INTERVAL} independent units the values are listed instead."
    return words


def _tests(frame: Frame, units: str) -> str:
    compared = contests(frame)
    if not compared:
        return ""
    sizes = {len(set(contest.cases.groups)) for contest in compared}
    kinds = ["exact"] * (min(sizes) <= 20) + [f"{RESAMPLES:,} random patterns"] * (max(sizes) > 20)
    pairs = ", ".join(f"{len(contest.p)} on {contest.dataset}" for contest in compared)
    return _TESTS.format(metric=METRIC, test=" or ".join(kinds), pairs=pairs, margin=MARGIN, units=units)


def _spread(frame: Frame) -> str:
    if not any(len(row.runs) > 1 for row in frame.rows):
        return ""
    return (
        "Where there are several training runs, variance is split into seed, case, seed by case and draw by a crossed "
        "analysis of variance, and the headline interval joins the above with a hierarchical bootstrap over seeds, "
        "cases and draws (1,999 resamples) and a t interval from the mean squares of both."
    )


def _made_on(frame: Frame) -> str:
    records = [run.record for run in frame.runs]
    said = {
        "Device": {f"{device(one)}, threads: {threads(one) or 'unknown'}" for one in records},
        "Versions": {versions(one) for one in records},
        "Code": {commit(one) for one in records},
        "Profile": {one.profile for one in records},
    }
    return " ".join(f"{name}: {'; '.join(sorted(values))}." for name, values in said.items())


def _cases(row: Row) -> int:
    summary = row.summary(METRIC)
    return summary.cases + summary.excluded


def _units(row: Row) -> int:
    return len({group for one in row.scores for group in one.groups})


def _several(numbers: Iterable[int]) -> str:
    ordered = sorted(set(numbers))
    return str(ordered[0]) if len(ordered) == 1 else f"{ordered[0]} to {ordered[-1]}"

"""Table 6: what each of the paper's three switches is worth, among runs that differ in nothing else."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

from bench.scores import Summary
from bench.stats import SMALLEST_INTERVAL, mean_interval
from reports.frame import Frame
from reports.published import numbers_of_paper, published_rows
from reports.rows import Row, plain
from reports.summary import reliability_notes
from reports.table import Column, Table, number
from reports.tables import accuracy
from reports.variants import settings_of


class Switches(NamedTuple):
    """The paper's three ingredients."""

    latent_estimation: bool
    concatenation: bool
    trainable_encoder: bool


# The paper's rows from first to last, each better than the one before.
PAPER = {
    "cross-attention": Switches(False, False, False),
    "concatenation": Switches(False, True, False),
    "trainable encoder": Switches(False, True, True),
    "latent estimation": Switches(True, True, True),
}
_KEYS = tuple(f"method.options.{name}" for name in ("latent_weight", "conditioning", "vision_encoder"))
# What may differ between rows without changing what a row says about its switches.
_ASIDE = {*_KEYS, "device", "threads", "draws"}
_TERMINAL = ("Dice", "Dice_interval", "IoU", "cases")
COLUMNS = [
    *plain(dataset="terminal", method="terminal", latent_estimation="terminal"),
    Column("concatenation", "Concat"),
    *plain(trainable_encoder="terminal"),
    *(
        replace(column, level="page") if column.level == "terminal" and column.key not in _TERMINAL else column
        for column in accuracy.COLUMNS[2:]
    ),
]
CAPTION = (
    "Runs that differ in nothing but the paper's three switches, read from their configurations: latent estimation "
    "(the latent loss has a weight), concatenation (not cross-attention), trainable (not frozen) vision encoder. "
    "Means, intervals and counts as in Table 2."
)
Members = list[tuple[Switches, Row]]


def switches(config: dict[str, Any]) -> Switches | None:
    """The switches of a resolved configuration, None for a method that does not have them."""
    options = (config.get("method") or {}).get("options") or {}
    try:
        return Switches(
            latent_estimation=options["latent_weight"] > 0,
            concatenation=options["conditioning"] == "concat",
            trainable_encoder=options["vision_encoder"] == "trainable",
        )
    except (KeyError, TypeError):
        return None


def build(frame: Frame) -> Table | None:
    """The ablations of every data set, the paper's rows after ours; None where no switch was ever turned."""
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    order: list[str] = []
    small: list[tuple[str, Summary]] = []
    ledger = numbers_of_paper(frame.ledger, ["6"])
    ablations = _ablations(frame)
    for dataset in sorted({dataset for dataset, _ in ablations}):
        protocols: set[str] = set()
        for members in (members for (name, _), members in ablations.items() if name == dataset):
            for setting, member in members:
                rows += [row | _words(setting) for row in accuracy.measured_rows(member, notes, small)]
                protocols.add(member.record.protocol)
            order.append(_order(dataset, members))
        published = sorted(published_rows(dataset, ledger, notes, protocols=protocols), key=lambda row: row["method"])
        rows += [row | _words(setting) for row, setting in zip(published, PAPER.values(), strict=False)]
    if not rows:
        return None
    return Table("table6", "Table 6 · Ablation", CAPTION, COLUMNS, rows, order + reliability_notes(small) + notes)


def _words(setting: Switches) -> dict[str, str]:
    return {name: "yes" if on else "no" for name, on in setting._asdict().items()}


def _ablations(frame: Frame) -> dict[tuple[str, str], Members]:
    """(switches, row) by data set and by all that they must share, where the switches differ."""
    groups: dict[tuple[str, str], Members] = {}
    for row in frame.rows:
        if (setting := switches(row.record.config)) is not None:
            shared = {k: v for k, v in settings_of(row.record).items() if k not in _ASIDE}
            groups.setdefault((row.dataset, json.dumps(shared, sort_keys=True)), []).append((setting, row))
    return {
        key: sorted(members, key=lambda member: (sum(member[0]), member[0], member[1].method))
        for key, members in groups.items()
        if len({setting for setting, _ in members}) > 1
    }


def _order(dataset: str, members: Members) -> str:
    """Whether the paper's order holds, with the paired difference of every row to the one before it."""
    summaries: dict[Switches, Summary] = {}
    groups: dict[str, str] = {}
    for setting, row in members:
        summary = row.summary("Dice")
        summaries.setdefault(setting, summary)
        groups |= dict(zip(summary.per_case.index, summary.groups, strict=True))
    absent = [
        name
        for name, setting in PAPER.items()
        if setting not in summaries or not math.isfinite(summaries[setting].mean)
    ]
    if absent:
        return f"{dataset}: the paper's order of Dice cannot be checked without {', '.join(absent)}."
    chain = [summaries[setting] for setting in PAPER.values()]
    holds = all(low.mean < high.mean for low, high in pairwise(chain))
    means = ", ".join(f"{name} {number(s.mean, 3)}" for name, s in zip(PAPER, chain, strict=True))
    steps = zip(list(PAPER)[1:], pairwise(chain), strict=True)
    gains = "; ".join(f"{name} {_gain(low, high, groups)}" for name, (low, high) in steps)
    verdict = "holds" if holds else "does not hold"
    return (
        f"{dataset}: the paper's order of mean Dice {verdict} ({means}). "
        f"Gain over the row before, same cases, 95 % interval: {gains}."
    )


def _gain(low: Summary, high: Summary, groups: dict[str, str]) -> str:
    gains = (high.per_case - low.per_case).dropna()
    names = [groups[case] for case in gains.index]
    interval = mean_interval(gains.tolist(), names)
    if len(set(names)) < SMALLEST_INTERVAL or math.isnan(interval.low):
        return f"{interval.estimate:+.3f} (no interval)"
    doubt = " (includes zero)" if interval.low <= 0 <= interval.high else ""
    return f"{interval.estimate:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]{doubt}"

"""Claims: how likely the paper's gains over each competitor are false, as far as printed means can tell."""

from __future__ import annotations

from typing import Any

from bench.stats import ASSUMED_CORRELATION, ASSUMED_SD, false_claim
from reports.frame import Frame
from reports.published import Published, numbers_of_paper
from reports.rows import plain
from reports.table import Column, Table

CLAIMANT = "SDSeg"
METRIC = "Dice"
RISK = 0.05
COLUMNS = [
    # The ledger does not change with the runs: the page has it, the terminal would repeat it every time.
    *plain(dataset="page"),
    Column("method", f"{CLAIMANT} against", level="page"),
    *plain(table="page"),
    Column("ours", CLAIMANT, unit="%", digits=2, level="page"),
    Column("theirs", "Other", unit="%", digits=2, level="page"),
    Column("gain", "Gain", unit="points", digits=2, level="page"),
    Column("n", "Test cases", level="page"),
    Column("sd", "Assumed SD", unit="points", digits=0, level="page"),
    Column("shown", "P(false)", level="page"),
    Column("p_false", "P(false)", level="csv"),
    *plain(verdict="page"),
]
CAPTION = (
    f"The paper prints mean Dice without any spread. This is the probability that {CLAIMANT} is not better than the "
    "other method although its printed mean is higher (Christodoulou et al., arXiv 2505.04720: flat prior, "
    f"Student's t), under an assumed SD over cases and an assumed correlation of {ASSUMED_CORRELATION:g} between "
    f"methods. Verdict: more than {RISK:.0%} is not established. A gain on the wrong side of 0 is a loss."
)


def build(frame: Frame) -> Table | None:
    """One row per printed comparison; None where no row was measured, since the ledger alone is no report."""
    if not frame.runs:
        return None
    printed = [e for e in numbers_of_paper(frame.ledger, "23456") if e.metric == METRIC and e.dataset in ASSUMED_SD]
    ours = {(entry.dataset, entry.table): entry for entry in printed if entry.method == CLAIMANT}
    others = [e for e in printed if not e.method.startswith(CLAIMANT) and (e.dataset, e.table) in ours]
    rows = [_row(ours[other.dataset, other.table], other) for other in others]
    rows.sort(key=lambda row: (row["dataset"], row["p_false"]))
    return Table("claims", "Claims · Would the published gains hold", CAPTION, COLUMNS, rows)


def _row(ours: Published, other: Published) -> dict[str, Any]:
    sd = 100 * ASSUMED_SD[ours.dataset]
    chance = false_claim(ours.value, other.value, ours.n or 0, sd)
    return {
        "dataset": ours.dataset,
        "method": other.method,
        "table": ours.table,
        "ours": ours.value,
        "theirs": other.value,
        "gain": ours.value - other.value,
        "n": ours.n,
        "sd": sd,
        "shown": f"{chance:.2f}" if chance >= 0.005 else "< .005",
        "p_false": chance,
        "verdict": "holds under the assumptions" if chance <= RISK else "not established",
    }

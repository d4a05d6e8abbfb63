"""What looks wrong although every number is right: labels that occur nowhere, models that predict nothing."""

from __future__ import annotations

import pandas as pd

# Of a case and label 0 or 1; which mask is empty follows from them.
_COUNTS = ("missed", "hallucinated", "both_empty")


def suspicions(rows: pd.DataFrame) -> list[str]:
    """A line for every oddity of score rows; none where the metrics that tell are not among them."""
    counted = rows[(rows["draw"] >= 0) & rows["metric"].isin(_COUNTS)]
    if set(counted["metric"]) != set(_COUNTS) or counted.empty:
        return []
    table = counted.pivot_table(index=["label", "case", "draw"], columns="metric", values="value", sort=False)
    no_reference = (table["hallucinated"] + table["both_empty"] == 1).groupby("label", sort=False).all()
    no_prediction = (table["missed"] + table["both_empty"] == 1).groupby("label", sort=False).all()
    if no_reference.all() or no_prediction.all():
        lines = ["every reference mask of the test cases is empty"] if no_reference.all() else []
        return lines + (["every predicted mask is empty: the model predicts nothing"] if no_prediction.all() else [])
    lines = [
        f"label {label} occurs in no reference mask of the test cases" for label in no_reference[no_reference].index
    ]
    return lines + [
        f"label {label} is predicted nowhere" for label in no_prediction[no_prediction & ~no_reference].index
    ]

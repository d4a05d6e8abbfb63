"""One value per model and case, for models that were scored on the same cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bench.errors import InputError
from bench.stats.sample import Array

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class CaseTable:
    """Values (models, cases) with NaN where undefined; cases are sorted by name, so their given order never matters."""

    models: tuple[str, ...]
    cases: tuple[str, ...]
    groups: tuple[str, ...]
    values: Array

    def row(self, model: str) -> Array:
        """Values of one model, (cases,)."""
        if model not in self.models:
            raise InputError(f"model {model!r} is not among {', '.join(self.models)}")
        return self.values[self.models.index(model)]


def case_table(runs: Mapping[str, Mapping[str, float]], groups: Mapping[str, str] | None = None) -> CaseTable:
    """Bring {model: {case: value}} into one table; `groups` names the group of every case, which is itself without.

    Runs with different cases, or a case without a group: InputError that names a case.
    """
    if not runs:
        raise InputError("no run to compare: expected at least one")
    first, *others = runs
    expected = set(runs[first])
    for other in others:
        for one, two in ((first, other), (other, first)):
            if alone := set(runs[one]) - set(runs[two]):
                raise InputError(
                    f"case {min(alone)!r} is in {one} but not in {two} ({len(alone)} such): "
                    "compare runs that were scored on the same cases"
                )
    cases = tuple(sorted(expected))
    if groups is not None and not expected <= set(groups):
        raise InputError(f"case {min(expected - set(groups))!r} has no group: name one for every case")
    named = cases if groups is None else tuple(str(groups[case]) for case in cases)
    values = np.array([[run[case] for case in cases] for run in runs.values()], dtype=np.float64)
    return CaseTable(tuple(runs), cases, named, values.reshape(len(runs), len(cases)))

"""The values of all masks together: labels that nobody knows, and masks that hold more than the others."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from bench.datasets.audit.kinds import Trouble
from bench.datasets.audit.looking import Look
from bench.datasets.masks.declared import Declared, show_all
from bench.datasets.masks.levels import pattern, sum_levels, wants_areas


def judge_values(looks: Iterable[Look], declared: Declared, known: Collection[int] | None) -> list[Trouble]:
    """Troubles with the values of masks. `known` are those of labels; None where nobody named them."""
    levels = {look.case: look.levels for look in looks if look.levels is not None}
    special = {declared.background, declared.ignore}
    held = {case: sorted(v for v in one.counts if v not in special) for case, one in levels.items()}
    if known is not None:
        strange = {case: [v for v in values if v not in known] for case, values in held.items()}
        return [Trouble("unknown label", case, show_all(values)) for case, values in strange.items() if values]
    several = {case: show_all(values) for case, values in held.items() if len(values) > 1}
    if not several:
        return []
    total = sum_levels(levels.values())
    shape = pattern(total) if wants_areas(total) else "ids"
    if shape == "soft":
        kind = "soft"
    elif shape == "ids" and len(several) > sum(map(bool, held.values())) / 2:
        kind = "label map"
    else:
        kind = "multi-valued"
    return [Trouble(kind, case, values) for case, values in several.items()]

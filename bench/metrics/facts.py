"""The facts of a metric of score rows by its name, of one draw or over draws."""

from __future__ import annotations

from bench.metrics import select
from bench.metrics.stability import PAPER_METRICS, STRICT_METRICS
from bench.record import MetricFacts

_OVER_DRAWS = {**PAPER_METRICS, **STRICT_METRICS}


def facts_of(name: str) -> MetricFacts:
    """Unit (of cases that state their spacing), direction and bounds of a metric; InputError for an unknown one."""
    return _OVER_DRAWS[name] if name in _OVER_DRAWS else select([name])[0].facts

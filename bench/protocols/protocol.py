"""What a protocol is: a paper's or a tool's own rules, from the stored prediction to the mean over cases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bench.metrics import Metric, Pair, select


def as_stored(pair: Pair) -> Iterable[Pair]:
    """The whole case on its own grid: the view of protocols that change nothing."""
    return (pair,)


@dataclass(frozen=True, eq=False)
class Protocol:
    """The rules under which a stored prediction is scored; `strict` is ours, the others are other people's.

    `targets`, `grid` and `empty` say in words which cases and slices count, what is resized, and what an empty mask
    is worth. `view` cuts one label of a case into the units that are scored (the case, or its slices), and `metrics`
    are the protocol's own over such a unit. `mean_over` is the order of the mean: "labels" within a case first and
    then cases, or "cases" of a label first and then labels.
    """

    name: str
    description: str
    targets: str
    grid: str
    empty: str
    metrics: tuple[Metric, ...] = ()
    view: Callable[[Pair], Iterable[Any]] = as_stored
    unit: Literal["case", "slice"] = "case"
    mean_over: Literal["labels", "cases"] = "labels"

    def select(self, names: Iterable[str]) -> list[Metric]:
        """The metrics of these names; one that the protocol has no rule for is the strict one, which its row says."""
        own = {metric.name: metric for metric in self.metrics}
        return [own[name] if name in own else select([name])[0] for name in names]

    def values(self, pair: Pair, metrics: Sequence[Metric]) -> list[list[float]]:
        """For every metric of `select` its values on one label of a case, one per unit; NaN where undefined."""
        own = [metric for metric in metrics if metric in self.metrics]
        by_metric: dict[Metric, list[float]] = {metric: [] for metric in own}
        for unit in self.view(pair) if own else ():
            for metric in own:
                by_metric[metric].append(metric(unit))
        return [by_metric[metric] if metric in by_metric else [metric(pair)] for metric in metrics]

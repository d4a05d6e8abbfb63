"""The jobs of a sweep: every combination of values, those over steps or samples as points of a figure."""

from __future__ import annotations

import itertools

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from bench.config import cell_overrides, compose_config
from bench.errors import InputError
from bench.keys import hydra_line
from bench.quoting import quote_overrides

# What a trained method can be asked without being trained again: runs that differ there are points of a figure.
_AXES = ("method.inference.steps", "method.inference.samples")


def sweep_jobs(overrides: list[str]) -> list[list[str]]:
    """The override lists of a sweep's jobs: one per combination of the comma-separated values."""
    overrides = quote_overrides(overrides, sweep=True)
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except HydraException as error:
        raise InputError(hydra_line(error)) from error
    axes = []
    for override, text in zip(parsed, overrides, strict=True):
        if override.is_sweep_override():
            axes.append([f"{override.key_or_group}={value}" for value in override.sweep_string_iterator()])
        elif not text.startswith("hydra") or text.startswith("hydra.searchpath="):
            axes.append([text])
    return [list(job) for job in itertools.product(*axes)]


def with_points(jobs: list[list[str]]) -> list[list[str]]:
    """The jobs of a sweep, those over steps or samples a run each, named and marked as a point of a figure.

    What a method does anyway is its own run, which has a row in every table too, and so are the runs of methods that
    know no steps.
    """
    values = {key: {o for job in jobs for o in job if o.startswith(f"{key}=")} for key in _AXES}
    swept = [key for key, chosen in values.items() if len(chosen) > 1]
    if not swept:
        return jobs
    points = [_point(one, swept) for job in jobs for one in cell_overrides(job)]
    return [list(job) for job in dict.fromkeys(map(tuple, points))]


def _point(one: list[str], swept: list[str]) -> list[str]:
    chosen = [o for o in one if o.partition("=")[0] in swept]
    plain = [o for o in one if o not in chosen]
    method = compose_config(one)["method"]
    if method == compose_config(plain)["method"]:
        return plain
    named = [o for o in one if not o.startswith("method.name=")]
    words = [o.rpartition(".")[2] for o in chosen]  # steps=5
    name = ".".join([method["name"], *(word.replace("=", "") for word in words)])
    return [*named, f"method.name={name}", f"+method.sweep=[{','.join(word.partition('=')[0] for word in words)}]"]

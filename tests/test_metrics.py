"""Pairs of masks, overlap metrics and the table of metrics."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import numpy as np
import pytest

from bench import metrics
from bench.config import compose_config
from bench.errors import InputError
from bench.metrics import METRICS, Metric, Pair, select


def _mask(drawing: str) -> np.ndarray:
    return np.array([[c == "#" for c in row] for row in drawing.split()])


LEFT = _mask("##. ##. ...")
SHIFTED = _mask(".## .## ...")
EMPTY = np.zeros((3, 3), bool)


@pytest.mark.parametrize(
    ("prediction", "reference", "spacing", "word"),
    [
        (LEFT.astype(np.uint8), LEFT, None, "bool"),
        (LEFT[:2], LEFT, None, "differ in shape"),
        (LEFT, LEFT, (1.0, 1.0, 1.0), "spacing_mm"),
    ],
)
def test_bad_pairs_are_refused_in_one_line(prediction, reference, spacing, word):
    with pytest.raises(InputError, match=word) as caught:
        Pair(prediction, reference, spacing)
    assert "\n" not in str(caught.value)


def test_the_table_states_direction_and_convention():
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.better in ("higher", "lower", "none")
        assert metric.convention == "strict"
    assert METRICS["Dice"](Pair(LEFT, SHIFTED)) == 0.5


def test_every_metric_is_scored_by_default():
    assert compose_config(["profile=smoke", "method=unet", "dataset=phantom/polyp"])["metrics"] == list(METRICS)


def test_select_guesses_what_was_meant():
    with pytest.raises(InputError, match="did you mean 'Dice'") as caught:
        select(["dise"])
    assert "IoU" in str(caught.value)


EXTRA = Metric("Extra", "px", "none", "strict", lambda pair: pair.n_prediction)


def test_plugins_come_by_entry_point(monkeypatch):
    points = [EntryPoint("Extra", f"{__name__}:EXTRA", metrics.PLUGIN_GROUP)]
    points.append(EntryPoint("Broken", "no_such_module:x", metrics.PLUGIN_GROUP))
    points.append(EntryPoint("Wrong", "math:pi", metrics.PLUGIN_GROUP))
    monkeypatch.setattr(metrics, "entry_points", lambda group: points if group == "sdseg.metrics" else [])
    monkeypatch.setattr(EntryPoint, "load", _load_from_here)
    (metric,) = select(["Extra"])
    assert metric(Pair(LEFT, EMPTY)) == 4.0
    with pytest.raises(InputError, match=r"'Broken'.*cannot be imported"):
        select(["Broken"])
    with pytest.raises(InputError, match=r"'Wrong'.*expected a Metric"):
        select(["Wrong"])


def _load_from_here(point: EntryPoint) -> object:
    if point.value.startswith(__name__):
        return EXTRA
    module, _, attribute = point.value.partition(":")
    return getattr(__import__(module), attribute)

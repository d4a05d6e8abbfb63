"""Every pair of the metric tests beside MONAI, which takes a minute."""

from __future__ import annotations

import pytest

from bench.metrics import METRICS, select
from bench.protocols import build_protocol
from tests.metric_pairs import TOLERANCE, metric_pairs, monai_values


@pytest.mark.full
def test_every_pair_equals_monai() -> None:
    protocol, nsd = build_protocol("monai"), select([f"NSD@{TOLERANCE}"])[0]
    rules = protocol.select(["Dice", "IoU", "HD95", "ASSD", "NSD"])
    for pair in metric_pairs(28):
        if pair.n_prediction and pair.n_reference:
            expected = monai_values(pair)
            found = {name: METRICS[name](pair) for name in expected} | {"NSD": nsd(pair)}
        else:
            expected = monai_values(pair.in_pixels)
            values = protocol.values(pair, rules)
            found = {metric.name: units[0] for metric, units in zip(rules, values, strict=True)}
        assert found == pytest.approx(expected, rel=2e-6, abs=1e-6, nan_ok=True)

"""Accuracy per cell: Dice and IoU of every test case against its reference (paper Tables 2 and 3)."""

from __future__ import annotations


def test_accuracy(publish_accuracy) -> None:
    """Every test case has a score for every metric, draw and label; the timed call reads and scores one case."""
    publish_accuracy()

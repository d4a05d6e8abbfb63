"""Statistics of the reports and the gate: intervals, paired tests, ranks, variance, published claims."""

from bench.stats.intervals import (
    RELIABLE,
    SMALLEST_INTERVAL,
    Interval,
    bounded_interval,
    mean_interval,
    median_interval,
    share_interval,
)
from bench.stats.multiple import holm
from bench.stats.paired import ALPHA, Comparison, NonInferiority, compare, non_inferior, sign_flip_p
from bench.stats.power import power, smallest_detectable
from bench.stats.published import ASSUMED_CORRELATION, ASSUMED_SD, FalseClaim, false_claim
from bench.stats.ranking import Ranking, rank_models
from bench.stats.ratio import SpeedRatio, speed_ratio
from bench.stats.sample import CONFIDENCE, RESAMPLES, SEED
from bench.stats.table import CaseTable, case_table
from bench.stats.variance import Headline, VarianceSplit, headline, split_variance

__all__ = [
    "ALPHA",
    "ASSUMED_CORRELATION",
    "ASSUMED_SD",
    "CONFIDENCE",
    "RELIABLE",
    "RESAMPLES",
    "SEED",
    "SMALLEST_INTERVAL",
    "CaseTable",
    "Comparison",
    "FalseClaim",
    "Headline",
    "Interval",
    "NonInferiority",
    "Ranking",
    "SpeedRatio",
    "VarianceSplit",
    "bounded_interval",
    "case_table",
    "compare",
    "false_claim",
    "headline",
    "holm",
    "mean_interval",
    "median_interval",
    "non_inferior",
    "power",
    "rank_models",
    "share_interval",
    "sign_flip_p",
    "smallest_detectable",
    "speed_ratio",
    "split_variance",
]

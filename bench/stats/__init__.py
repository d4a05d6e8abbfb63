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
from bench.stats.paired import (
    ALPHA,
    Comparison,
    NonInferiority,
    compare,
    holm,
    non_inferior,
    sign_flip_p,
    smallest_detectable,
)
from bench.stats.published import ASSUMED_CORRELATION, ASSUMED_SD, false_claim
from bench.stats.ranking import Ranking, rank_models
from bench.stats.ratio import Ratio, paired_ratio, speed_ratio
from bench.stats.sample import CONFIDENCE, RESAMPLES, SEED
from bench.stats.table import CaseTable, case_table
from bench.stats.variance import Headline, VarianceSplit, headline, split_variance

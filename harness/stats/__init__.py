"""Intervals, paired tests, permutation nulls and the Rasch model of items × formats."""

from harness.stats.bootstrap import paired_bootstrap, two_way_bootstrap, two_way_ratio
from harness.stats.format_effects import BestAndWorst, Spread, best_and_worst, cochran_q, spread
from harness.stats.intervals import (
    Interval,
    Matrix,
    clustered_interval,
    mean_interval,
    student_interval,
    wilson,
)
from harness.stats.paired import (
    holm,
    mcnemar,
    minimum_detectable_effect,
    noninferiority,
    paired_test,
)

__all__ = [
    "BestAndWorst",
    "Interval",
    "Matrix",
    "Spread",
    "best_and_worst",
    "clustered_interval",
    "cochran_q",
    "holm",
    "mcnemar",
    "mean_interval",
    "minimum_detectable_effect",
    "noninferiority",
    "paired_bootstrap",
    "paired_test",
    "spread",
    "student_interval",
    "two_way_bootstrap",
    "two_way_ratio",
    "wilson",
]

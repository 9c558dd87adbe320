"""Intervals, paired tests, permutation nulls and the Rasch model of items × formats."""

from harness.stats.format_effects import (
    BestAndWorst,
    Spread,
    best_and_worst,
    cochran_q,
    least_share,
    spread,
)
from harness.stats.intervals import (
    Interval,
    Matrix,
    difference_interval,
    mean_difference,
    mean_interval,
    rate_interval,
    ratio_interval,
)
from harness.stats.paired import (
    able_to_fail,
    holm,
    least_p,
    loss_test,
    mcnemar,
    minimum_detectable_effect,
    paired_test,
)

__all__ = [
    "BestAndWorst",
    "Interval",
    "Matrix",
    "Spread",
    "able_to_fail",
    "best_and_worst",
    "cochran_q",
    "difference_interval",
    "holm",
    "least_p",
    "least_share",
    "loss_test",
    "mcnemar",
    "mean_difference",
    "mean_interval",
    "minimum_detectable_effect",
    "paired_test",
    "rate_interval",
    "ratio_interval",
    "spread",
]

"""Intervals, paired tests, permutation nulls and the Rasch model (METRICS §8). Items are clusters, tests are paired, randomness is a seed."""

from harness.stats.best_and_worst import Chosen, best_and_worst
from harness.stats.bootstrap import first_part, paired_bootstrap, two_way_bootstrap, two_way_ratio
from harness.stats.intervals import Interval, Matrix, clustered_interval, mean_interval, wilson
from harness.stats.paired import holm, mcnemar, noninferiority, paired_test
from harness.stats.permutation import Spread, cochran_q, spread
from harness.stats.power import items_needed, visible_difference

__all__ = [
    "Chosen",
    "Interval",
    "Matrix",
    "Spread",
    "best_and_worst",
    "clustered_interval",
    "cochran_q",
    "first_part",
    "holm",
    "items_needed",
    "mcnemar",
    "mean_interval",
    "noninferiority",
    "paired_bootstrap",
    "paired_test",
    "spread",
    "two_way_bootstrap",
    "two_way_ratio",
    "visible_difference",
    "wilson",
]

"""What a number of items can see."""

from __future__ import annotations

import math


def visible_difference(
    n: int, rate: float = 0.5, correlation: float = 0.5, power: float = 0.8
) -> float:
    """The difference between two paired rates that n items see with this power at 5 %, one-sided."""
    return _reach(power) * math.sqrt(2 * rate * (1 - rate) * (1 - correlation) / n)


def items_needed(
    difference: float, rate: float = 0.5, correlation: float = 0.5, power: float = 0.8
) -> int:
    """How many items see this difference between two paired rates with this power at 5 %, one-sided. Raises ValueError unless it is above 0."""
    if difference <= 0:
        raise ValueError("a difference to be seen is above 0")
    return math.ceil(_reach(power) ** 2 * 2 * rate * (1 - rate) * (1 - correlation) / difference**2)


def _reach(power: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf(0.95) + norm.ppf(power))

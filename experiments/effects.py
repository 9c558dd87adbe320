"""Effects with their intervals: is one there, is it shown to be absent, and since which step?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.paired import as_dict
from harness.stats import difference_interval

#: An effect as results.json holds it: ``value``, ``low``, ``high`` (95 %) and ``n``.
Effect = Mapping[str, Any]


def present(effect: Effect | None, least: float) -> bool | None:
    """Whether an effect is there, by its 95 % interval; positive is what is asked about.

    False where the whole interval is below ``least``, the smallest effect that matters; True where
    it is above 0; None where the items cannot tell. So no effect at all is called present in 2.5 %
    of experiments, and one of ``least`` or more is called absent in 2.5 %.
    """
    if effect is None or effect["low"] is None or effect["high"] is None:
        return None
    if effect["high"] < least:
        return False
    return True if effect["low"] > 0 else None


def reversed_sign(effect: Effect | None) -> Effect | None:
    """The effect with the other sign: a gain instead of a loss."""
    if effect is None:
        return None
    low, high = (None if end is None else 0.0 - end for end in (effect["high"], effect["low"]))
    return {**effect, "value": 0.0 - effect["value"], "low": low, "high": high}


def with_width(effect: Effect | None) -> Effect | None:
    """A change of a rate, whose interval has a width even where no case changed.

    Results of November 2026 have intervals of width 0 there.
    """
    if effect is None or effect["low"] != 0 or effect["high"] != 0:
        return effect
    return as_dict(difference_interval([0.0] * effect["n"]))


def onset(seen: Mapping[int, bool]) -> int | None:
    """The step from which a symptom is seen at every checkpoint to the end, or None.

    One that comes and goes is expected at a level of 5 %.
    """
    first = None
    for step in sorted(seen, reverse=True):
        if not seen[step]:
            break
        first = step
    return first


def absent_until(points: Sequence[Mapping[str, Any]], least: float) -> int:
    """The last step up to which every checkpoint shows the effect to be below ``least``.

    0 where the first one does not. Together with ``onset`` it is an interval of the step at which
    the symptom began: after this one, and at the latest at that one. A symptom that begins at some
    step with an effect of ``least`` or more is missed in 5 % of experiments.
    """
    last = 0
    for point in sorted(points, key=lambda point: point["step"]):
        if not point["step"]:
            continue
        effect = with_width(point["difference"])
        if effect is None or effect["high"] is None or effect["high"] >= least:
            break
        last = point["step"]
    return last
